//! Node selectors and required node affinity. Follows upstream plugins/nodeaffinity (v1.35).

use crate::api::node_selector::{NodeIdentity, pod_may_use};
use crate::scheduler::snapshot::{NodeFacts, PodFacts};

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let name = node.node.as_ref().and_then(|node| node.metadata.name.as_deref());
    let node = NodeIdentity { name: name.unwrap_or_default(), labels: node.labels() };
    if pod.pod.spec.as_ref().is_none_or(|spec| pod_may_use(spec, node)) {
        Vec::new()
    } else {
        vec!["node(s) didn't match Pod's node affinity/selector".to_owned()]
    }
}
