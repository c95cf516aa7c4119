//! Node selectors, and required and preferred node affinity. Follows upstream plugins/nodeaffinity
//! (v1.35).

use super::{Filter, Normalize, Plugin, Rejection, Score};
use crate::api::node_selector::{NodeIdentity, selects, term_matches};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::{Ask, NO_LABELS, PodFacts};
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeSet;

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub(super) const FILTER: Filter = Filter {
    plugin: Plugin::NodeAffinity,
    concerns: |cycle| {
        let ask = &cycle.pod.ask;
        !ask.node_selector.is_empty() || ask.node_affinity.is_some()
    },
    check: |cycle, node| {
        if allows(&cycle.pod.ask, node.identity()) {
            Ok(())
        } else {
            Err(Rejection::for_good(Plugin::NodeAffinity, REASON))
        }
    },
    hint,
};

/// The sum of the weights of the preferred terms that hold.
pub(super) const SCORE: Score = Score {
    weight: 2,
    concerns: |cycle| !cycle.pod.ask.node_wishes.is_empty(),
    raw: wishes,
    normalize: Normalize::ByHighest,
    follows_room: false,
};

/// Whether the pod's node selector and required node affinity allow the node.
pub(in crate::scheduler) fn allows(ask: &Ask, node: NodeIdentity<'_>) -> bool {
    let label = |key: &str| node.labels.and_then(|labels| labels.get(key));
    ask.node_selector.iter().all(|(key, value)| label(key) == Some(value))
        && ask.node_affinity.as_ref().is_none_or(|selector| selects(selector, node))
}

/// The only nodes that the required affinity allows, where it says so by their names.
pub(in crate::scheduler) fn named_nodes(ask: &Ask) -> Option<BTreeSet<&str>> {
    let terms = &ask.node_affinity.as_ref()?.node_selector_terms;
    let mut all = BTreeSet::new();
    for term in terms {
        let fields = term.match_fields.iter().flatten();
        let named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
        let names = named.map(|field| {
            field.values.iter().flatten().map(String::as_str).collect::<BTreeSet<_>>()
        });
        all.extend(names.reduce(|one, other| &one & &other)?);
    }
    (!terms.is_empty()).then_some(all)
}

fn wishes(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let wishes = cycle.pod.ask.node_wishes.iter();
    let granted =
        wishes.filter(|wish| wish.weight != 0 && term_matches(&wish.preference, node.identity()));
    granted.map(|wish| i64::from(wish.weight)).sum()
}

fn hint(pod: &PodFacts, event: &Event<'_>) -> bool {
    let is_allowed = |node: &Node| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let labels = node.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
        allows(&pod.ask, NodeIdentity { name, labels: Some(labels) })
    };
    match event {
        Event::NodeAdded(node) => is_allowed(node),
        Event::NodeChanged(old, new) => !is_allowed(old) && is_allowed(new),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores, verdict};
    use super::*;
    use serde_json::{Value, json};

    fn zoned(name: &str, zone: &str) -> Node {
        node(name, json!({"metadata": {"labels": {"zone": zone}}}))
    }

    fn in_zone(zone: &str) -> Value {
        json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]})
    }

    fn named(name: &str) -> Value {
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]})
    }

    fn required(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms},
        }}})
    }

    #[test]
    fn selectors_and_affinity_choose_nodes() {
        let check = |spec: Value, expected: [&str; 2]| {
            let nodes = [zoned("one", "a"), zoned("two", "b")];
            assert_eq!(verdict(&FILTER, &pod("p", spec), &nodes), expected);
        };
        check(json!({}), ["ok", "ok"]);
        check(json!({"nodeSelector": {"zone": "a"}}), ["ok", REASON]);
        check(required(json!([in_zone("b")])), [REASON, "ok"]);
        check(required(json!([in_zone("b"), named("one")])), ["ok", "ok"]);
        check(required(json!([{}])), [REASON, REASON]);
    }

    #[test]
    fn nodes_that_are_named_are_the_only_ones() {
        let check = |terms: Value, expected: Option<Vec<&str>>| {
            let pod = pod("p", required(terms));
            let names = named_nodes(&pod.ask).map(|names| names.into_iter().collect::<Vec<_>>());
            assert_eq!(names, expected);
        };
        check(json!([named("one"), named("two")]), Some(vec!["one", "two"]));
        check(json!([named("one"), in_zone("a")]), None);
        let both = json!({"matchFields": [
            {"key": "metadata.name", "operator": "In", "values": ["one"]},
            {"key": "metadata.name", "operator": "In", "values": ["two"]},
        ]});
        check(json!([both]), Some(vec![]));
    }

    #[test]
    fn granted_wishes_are_better() {
        let wishes = json!({"affinity": {"nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": in_zone("a")},
                {"weight": 5, "preference": named("two")},
            ],
        }}});
        let nodes = [zoned("one", "a"), zoned("two", "b"), zoned("three", "c")];
        assert_eq!(scores(&SCORE, &pod("p", wishes), &nodes), [100, 50, 0]);
    }

    #[test]
    fn a_label_helps_only_a_pod_that_wants_it() {
        let pod = pod("p", json!({"nodeSelector": {"zone": "a"}}));
        let (a, b) = (zoned("one", "a"), zoned("one", "b"));
        assert!(hint(&pod, &Event::NodeChanged(&b, &a)));
        assert!(!hint(&pod, &Event::NodeChanged(&a, &a)));
        assert!(!hint(&pod, &Event::NodeAdded(&b)));
    }
}
