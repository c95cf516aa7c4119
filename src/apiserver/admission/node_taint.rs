//! A new node gets no pods before it is ready (upstream `TaintNodesByCondition`,
//! plugin/pkg/admission/nodetaint, v1.35). The node lifecycle controller takes the taint away.

use super::{Attributes, Facts, Mutation, Plugin};
use crate::api::status::Status;
use k8s_openapi::api::core::v1::{Node, Taint};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "TaintNodesByCondition",
    mutation: Some(Mutation { wants: |_| Vec::new(), apply }),
    judgement: None,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const NO_SCHEDULE: &str = "NoSchedule";

fn apply(attributes: &mut Attributes<'_>, _facts: &Facts<'_>) -> Result<(), Status> {
    let Some(node) = attributes.created::<Node>() else {
        return Ok(());
    };
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints.iter().any(|taint| taint.key == NOT_READY && taint.effect == NO_SCHEDULE) {
        taints.push(Taint {
            key: NOT_READY.to_owned(),
            effect: NO_SCHEDULE.to_owned(),
            ..Taint::default()
        });
    }
    Ok(())
}
