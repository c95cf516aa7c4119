//! Keeps pods off cordoned nodes. Follows upstream plugins/nodeunschedulable (v1.35).

use super::taint_toleration::tolerates;
use crate::scheduler::snapshot::{NodeFacts, PodFacts};
use k8s_openapi::api::core::v1::Taint;

/// A pod that tolerates this taint may go to a cordoned node.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let spec = node.node.as_ref().and_then(|node| node.spec.as_ref());
    let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
    let taint = Taint {
        key: UNSCHEDULABLE_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if cordoned && !tolerates(pod, &taint) {
        vec!["node(s) were unschedulable".to_owned()]
    } else {
        Vec::new()
    }
}
