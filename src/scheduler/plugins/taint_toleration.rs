//! Keeps pods off nodes with taints they do not tolerate. Follows upstream plugins/tainttoleration
//! (v1.35).

use super::{Filter, Normalize, Plugin, Rejection, Score};
use crate::api::node_selector::{forbids_scheduling, tolerates};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::PodFacts;
use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::TaintToleration,
    concerns: |_| true,
    check: |cycle, node| match untolerated(node.taints(), &cycle.pod.ask.tolerations) {
        None => Ok(()),
        Some(taint) => {
            let value = taint.value.as_deref().unwrap_or_default();
            let reason = format!("node(s) had untolerated taint {{{}: {value}}}", taint.key);
            Err(Rejection::for_good(Plugin::TaintToleration, reason))
        }
    },
    hint,
};

/// Fewer taints that would rather not have the pod are better.
pub(super) const SCORE: Score = Score {
    weight: 3,
    concerns: |_| true,
    raw: unwanted,
    normalize: Normalize::ByHighestReversed,
    follows_room: false,
};

fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let mut taints = taints.iter().filter(|taint| forbids_scheduling(taint));
    taints.find(|taint| !tolerates(tolerations, taint))
}

/// Only tolerations of that effect, or of every effect, count.
fn unwanted(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let prefers_not = |taint: &&Taint| {
        taint.effect == "PreferNoSchedule" && !tolerates(&cycle.pod.ask.tolerations, taint)
    };
    i64::try_from(node.taints().iter().filter(prefers_not).count()).unwrap_or(i64::MAX)
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let is_refused = |node: &Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
        untolerated(taints.unwrap_or_default(), &pod.ask.tolerations).is_some()
    };
    match event {
        Event::NodeAdded(node) => !is_refused(node),
        Event::NodeChanged(old, new) => is_refused(old) && !is_refused(new),
        Event::OwnChange(old, new) => old.ask.tolerations != new.ask.tolerations,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn tainted(name: &str, effects: &[&str]) -> Node {
        let taint = |effect: &&str| json!({"key": "gpu", "value": "yes", "effect": effect});
        let taints: Vec<_> = effects.iter().map(taint).collect();
        node(name, json!({"spec": {"taints": taints}}))
    }

    #[test]
    fn untolerated_taints_keep_pods_off() {
        let check = |tolerations: Value, effect: &str, expected: &str| {
            let pod = pod("p", json!({"tolerations": tolerations}));
            assert_eq!(verdict(&FILTER, &pod, &[tainted("a", &[effect])]), [expected]);
        };
        let refused = "node(s) had untolerated taint {gpu: yes}";
        check(json!([]), "NoSchedule", refused);
        check(json!([]), "NoExecute", refused);
        check(json!([]), "PreferNoSchedule", "ok");
        check(json!([{"key": "gpu", "operator": "Exists"}]), "NoSchedule", "ok");
        check(json!([{"key": "gpu", "value": "no"}]), "NoSchedule", refused);
    }

    #[test]
    fn fewer_unwanted_taints_are_better() {
        let prefers = "PreferNoSchedule";
        let nodes =
            [tainted("a", &[]), tainted("b", &[prefers]), tainted("c", &[prefers, prefers])];
        assert_eq!(scores(&SCORE, &pod("p", json!({})), &nodes), [100, 50, 0]);
        let tolerant = pod("p", json!({"tolerations": [{"operator": "Exists"}]}));
        assert_eq!(scores(&SCORE, &tolerant, &nodes), [100, 100, 100]);
    }

    #[test]
    fn a_taint_that_goes_helps_only_if_it_was_in_the_way() {
        let pod = pod("p", json!({}));
        let (before, after) = (tainted("a", &["NoSchedule"]), tainted("a", &[]));
        assert!(hint(&pod, &Event::NodeChanged(&before, &after)));
        assert!(!hint(&pod, &Event::NodeChanged(&after, &after)));
        assert!(!hint(&pod, &Event::NodeAdded(&before)));
    }
}
