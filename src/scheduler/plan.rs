//! The scheduling decision: a place for each pod, or why there is none.

use super::plugins::{FILTERS, SCORES};
use super::snapshot::{NodeFacts, PodFacts, Snapshot};
use std::collections::BTreeMap;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    Node(String),
    /// `message` is what users see in the FailedScheduling event; `plugins` are those that said no.
    Nowhere {
        message: String,
        plugins: Vec<&'static str>,
    },
}

/// Chooses a node for one pod. `tie` decides between equals and should differ from pod to pod, so
/// that equal pods spread over equal nodes.
pub(super) fn place(pod: &PodFacts, snapshot: &Snapshot, tie: usize) -> Placement {
    let mut rejections = Rejections::default();
    let mut best: Vec<(&str, i64)> = Vec::new();
    for (name, node) in snapshot.nodes() {
        match rejected_by(pod, node) {
            Some((plugin, reasons)) => rejections.add(plugin, reasons),
            None => keep_best(&mut best, name, score(pod, node)),
        }
    }
    match best.get(tie % best.len().max(1)) {
        Some((name, _)) => Placement::Node((*name).to_owned()),
        None => rejections.into_placement(),
    }
}

fn rejected_by(pod: &PodFacts, node: &NodeFacts) -> Option<(&'static str, Vec<String>)> {
    FILTERS.iter().find_map(|filter| {
        let reasons = (filter.reasons)(pod, node);
        (!reasons.is_empty()).then_some((filter.name, reasons))
    })
}

fn score(pod: &PodFacts, node: &NodeFacts) -> i64 {
    SCORES.iter().map(|plugin| plugin.weight * (plugin.score)(pod, node)).sum()
}

fn keep_best<'a>(best: &mut Vec<(&'a str, i64)>, name: &'a str, score: i64) {
    match best.first().map(|(_, top)| score.cmp(top)) {
        Some(std::cmp::Ordering::Less) => {}
        Some(std::cmp::Ordering::Greater) => *best = vec![(name, score)],
        Some(std::cmp::Ordering::Equal) | None => best.push((name, score)),
    }
}

#[derive(Default)]
struct Rejections {
    nodes: usize,
    counts: BTreeMap<String, usize>,
    plugins: Vec<&'static str>,
}

impl Rejections {
    fn add(&mut self, plugin: &'static str, reasons: Vec<String>) {
        self.nodes += 1;
        for reason in reasons {
            *self.counts.entry(reason).or_default() += 1;
        }
        if !self.plugins.contains(&plugin) {
            self.plugins.push(plugin);
        }
    }

    /// The words of upstream `FitError.Error` (pkg/scheduler/framework/types.go, v1.35).
    fn into_placement(self) -> Placement {
        if self.nodes == 0 {
            let message = "no nodes available to schedule pods".to_owned();
            return Placement::Nowhere { message, plugins: Vec::new() };
        }
        let mut reasons: Vec<_> =
            self.counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        let nodes = self.nodes;
        let message = format!("0/{nodes} nodes are available: {}.", reasons.join(", "));
        Placement::Nowhere { message, plugins: self.plugins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectKey;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(spec: Value) -> PodFacts {
        let mut spec = spec;
        let cpu = spec["cpu"].take();
        let requests = if cpu.is_null() { json!({}) } else { json!({"cpu": cpu}) };
        spec["containers"] = json!([{"name": "x", "resources": {"requests": requests}}]);
        spec.as_object_mut().unwrap().remove("cpu");
        let pod = json!({"metadata": {"name": "p", "uid": "p"}, "spec": spec});
        let key = ObjectKey::namespaced("default", "p");
        PodFacts::new(key, Arc::new(serde_json::from_value(pod).unwrap()))
    }

    fn snapshot(nodes: &[(&str, Value)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, spec) in nodes {
            let node = json!({
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                "spec": spec,
                "status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}},
            });
            let node = serde_json::from_value(node).unwrap();
            snapshot.set_node(name, Some(Arc::new(node)));
        }
        snapshot
    }

    #[track_caller]
    fn check(spec: Value, nodes: &[(&str, Value)], expected: &str) {
        let placed = match place(&pod(spec), &snapshot(nodes), 0) {
            Placement::Node(name) => name,
            Placement::Nowhere { message, .. } => message,
        };
        assert_eq!(placed, expected);
    }

    #[test]
    fn a_pod_goes_where_it_fits() {
        let tainted = json!({"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]});
        let cordoned = json!({"unschedulable": true});
        check(json!({}), &[], "no nodes available to schedule pods");
        check(json!({}), &[("a", json!({}))], "a");
        check(json!({}), &[("a", cordoned.clone()), ("b", json!({}))], "b");
        check(
            json!({"cpu": "2"}),
            &[("a", cordoned), ("b", json!({})), ("c", json!({})), ("d", tainted.clone())],
            "0/4 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, \
             1 node(s) were unschedulable, 2 Insufficient cpu.",
        );
        let tolerant = json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]});
        check(tolerant, &[("a", tainted)], "a");
        let pinned = json!({"nodeSelector": {"kubernetes.io/hostname": "b"}});
        check(pinned, &[("a", json!({})), ("b", json!({}))], "b");
    }

    #[test]
    fn the_emptier_node_is_better() {
        let mut snapshot = snapshot(&[("a", json!({})), ("b", json!({}))]);
        let mut busy = pod(json!({"cpu": "500m"}));
        busy.uid = "busy".to_owned();
        snapshot.assume(Arc::new(busy), "a");
        for tie in 0..4 {
            let placed = place(&pod(json!({})), &snapshot, tie);
            assert_eq!(placed, Placement::Node("b".to_owned()));
        }
    }

    #[test]
    fn equal_nodes_take_turns() {
        let snapshot = snapshot(&[("a", json!({})), ("b", json!({}))]);
        let placed: Vec<_> = (0..3).map(|tie| place(&pod(json!({})), &snapshot, tie)).collect();
        let node = |name: &str| Placement::Node(name.to_owned());
        assert_eq!(placed, [node("a"), node("b"), node("a")]);
    }

    #[test]
    fn a_full_node_takes_no_more_pods() {
        let mut snapshot = snapshot(&[("a", json!({}))]);
        for uid in ["one", "two"] {
            let mut other = pod(json!({}));
            other.uid = uid.to_owned();
            snapshot.assume(Arc::new(other), "a");
        }
        let Placement::Nowhere { message, plugins } = place(&pod(json!({})), &snapshot, 0) else {
            panic!("there is no room");
        };
        assert_eq!(message, "0/1 nodes are available: 1 Too many pods.");
        assert_eq!(plugins, ["NodeResourcesFit"]);
    }
}
