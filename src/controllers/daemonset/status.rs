//! What a DaemonSet reports: upstream `updateDaemonSetStatus` (pkg/controller/daemon, v1.35).

use super::nodes::Nodes;
use crate::api::pod::is_ready;
use k8s_openapi::api::apps::v1::DaemonSetStatus;

/// The oldest pod of a node stands for it.
pub(super) fn status(nodes: &Nodes<'_>) -> DaemonSetStatus {
    let old = nodes.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: nodes.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for (node, fit) in &nodes.fits {
        match (nodes.pods_on(node).first(), fit.should_run) {
            (None, false) => {}
            (Some(_), false) => status.number_misscheduled += 1,
            (None, true) => status.desired_number_scheduled += 1,
            (Some(pod), true) => {
                status.desired_number_scheduled += 1;
                status.current_number_scheduled += 1;
                status.number_ready += i32::from(is_ready(pod));
                available += i32::from(nodes.is_available(pod));
                updated += i32::from(nodes.is_updated(pod));
            }
        }
    }
    status.updated_number_scheduled = shown(updated);
    status.number_available = shown(available);
    status.number_unavailable = shown(status.desired_number_scheduled - available);
    status
}

/// Zeros are left out of the object, as upstream's encoding leaves them out.
fn shown(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
