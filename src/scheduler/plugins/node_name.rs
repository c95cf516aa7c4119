//! Puts a pod that names its node there. Follows upstream plugins/nodename (v1.35).

use crate::scheduler::snapshot::{NodeFacts, PodFacts};

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let wanted = pod.pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let name = node.node.as_ref().and_then(|node| node.metadata.name.as_deref());
    match wanted {
        Some(wanted) if !wanted.is_empty() && Some(wanted) != name => {
            vec!["node(s) didn't match the requested node name".to_owned()]
        }
        _ => Vec::new(),
    }
}
