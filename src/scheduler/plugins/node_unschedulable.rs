//! Keeps pods off cordoned nodes. Follows upstream plugins/nodeunschedulable (v1.35).

use super::{Filter, Plugin, Rejection};
use crate::api::node_selector::tolerates;
use crate::scheduler::event::Event;
use crate::scheduler::pod::PodFacts;
use k8s_openapi::api::core::v1::{Node, Taint};

const REASON: &str = "node(s) were unschedulable";

/// A pod that tolerates this taint may go to a cordoned node.
const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodeUnschedulable,
    concerns: |_| true,
    check: |cycle, node| {
        if node.is_cordoned() && !may_use_cordoned(cycle.pod) {
            return Err(Rejection::for_good(Plugin::NodeUnschedulable, REASON));
        }
        Ok(())
    },
    hint,
};

fn may_use_cordoned(pod: &PodFacts) -> bool {
    let taint = Taint {
        key: UNSCHEDULABLE_TAINT.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    tolerates(&pod.ask.tolerations, &taint)
}

fn hint(_: &PodFacts, event: &Event<'_>) -> bool {
    let is_cordoned =
        |node: &Node| node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    match event {
        Event::NodeAdded(node) => !is_cordoned(node),
        Event::NodeChanged(old, new) => is_cordoned(old) && !is_cordoned(new),
        Event::OwnChange(_, new) => may_use_cordoned(new),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, verdict};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn cordoned_nodes_take_only_pods_that_tolerate_it() {
        let check = |tolerations: Value, spec: Value, expected: &str| {
            let pod = pod("p", json!({"tolerations": tolerations}));
            assert_eq!(verdict(&FILTER, &pod, &[node("a", json!({"spec": spec}))]), [expected]);
        };
        let tolerant = json!([{"key": UNSCHEDULABLE_TAINT, "operator": "Exists"}]);
        check(json!([]), json!({}), "ok");
        check(json!([]), json!({"unschedulable": true}), REASON);
        check(tolerant, json!({"unschedulable": true}), "ok");
    }

    #[test]
    fn uncordoning_helps() {
        let pod = pod("p", json!({}));
        let cordoned = node("a", json!({"spec": {"unschedulable": true}}));
        let open = node("a", json!({}));
        assert!(hint(&pod, &Event::NodeChanged(&cordoned, &open)));
        assert!(!hint(&pod, &Event::NodeChanged(&open, &cordoned)));
        assert!(!hint(&pod, &Event::NodeAdded(&cordoned)));
        assert!(hint(&pod, &Event::NodeAdded(&open)));
    }
}
