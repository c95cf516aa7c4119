//! Puts a pod that names its node there. Follows upstream plugins/nodename (v1.35).

use super::{Filter, Plugin, Rejection};
use crate::api::pod::node_name;
use crate::scheduler::event::Event;

const REASON: &str = "node(s) didn't match the requested node name";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodeName,
    concerns: |cycle| node_name(&cycle.pod.pod).is_some(),
    check: |cycle, node| match node_name(&cycle.pod.pod) {
        Some(wanted) if wanted != node.name => Err(Rejection::for_good(Plugin::NodeName, REASON)),
        _ => Ok(()),
    },
    hint: |_, event| matches!(event, Event::NodeAdded(_)),
};

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, verdict};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_names_its_node_goes_nowhere_else() {
        let check = |wanted: &str, expected: &str| {
            let pod = pod("p", json!({"nodeName": wanted}));
            assert_eq!(verdict(&FILTER, &pod, &[node("a", json!({}))]), [expected]);
        };
        check("", "ok");
        check("a", "ok");
        check("b", REASON);
    }
}
