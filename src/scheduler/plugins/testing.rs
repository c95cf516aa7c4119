//! What the tables of the plugins are made with.

use super::{Filter, Score};
use crate::api::ObjectKey;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::known::Known;
use crate::scheduler::node::NodeFacts;
use crate::scheduler::pod::PodFacts;
use crate::scheduler::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};
use std::sync::Arc;

/// Puts `over` into `value`, key by key.
fn merge(value: &mut Value, over: Value) {
    match (value, over) {
        (Value::Object(value), Value::Object(over)) => {
            for (key, inner) in over {
                merge(value.entry(key).or_insert(Value::Null), inner);
            }
        }
        (value, over) => *value = over,
    }
}

/// A pod in the namespace `default`, whose name is its uid and its label `app`.
pub(in crate::scheduler) fn pod(name: &str, spec: Value) -> PodFacts {
    whole_pod(name, json!({"spec": spec}))
}

pub(in crate::scheduler) fn whole_pod(name: &str, more: Value) -> PodFacts {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": name}},
        "spec": {"containers": []},
    });
    merge(&mut pod, more);
    let namespace = pod["metadata"]["namespace"].as_str().unwrap().to_owned();
    let pod = serde_json::from_value(pod).unwrap();
    PodFacts::new(ObjectKey::namespaced(namespace, name), Arc::new(pod))
}

/// A node with its name as a label, and plenty of room.
pub(in crate::scheduler) fn node(name: &str, more: Value) -> Node {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"}},
    });
    merge(&mut node, more);
    serde_json::from_value(node).unwrap()
}

pub(in crate::scheduler) fn snapshot(nodes: &[Node], pods: &[(PodFacts, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        let name = node.metadata.name.clone().unwrap();
        snapshot.set_node(&name, Some(Arc::new(node.clone())));
    }
    for (pod, node) in pods {
        snapshot.assume(Arc::new(pod.clone()), node);
    }
    snapshot.prepare();
    snapshot
}

/// What the plugin says of each node: `ok`, or its reasons.
pub(in crate::scheduler) fn verdict(
    filter: &Filter,
    pod: &PodFacts,
    nodes: &[Node],
) -> Vec<String> {
    verdict_with(filter, pod, nodes, &[])
}

pub(in crate::scheduler) fn verdict_with(
    filter: &Filter,
    pod: &PodFacts,
    nodes: &[Node],
    pods: &[(PodFacts, &str)],
) -> Vec<String> {
    verdict_in(filter, pod, &snapshot(nodes, pods))
}

pub(in crate::scheduler) fn verdict_in(
    filter: &Filter,
    pod: &PodFacts,
    snapshot: &Snapshot,
) -> Vec<String> {
    let cycle = match Cycle::new(pod, &Known::new(&pod.ask, snapshot), snapshot) {
        Ok(cycle) => cycle,
        Err(rejection) => return vec![rejection.reasons.join(", ")],
    };
    let verdict = |node: &NodeFacts| {
        if !(filter.concerns)(&cycle) {
            return "ok".to_owned();
        }
        match (filter.check)(&cycle, node) {
            Ok(()) => "ok".to_owned(),
            Err(rejection) => rejection.reasons.join(", "),
        }
    };
    by_name(snapshot).into_iter().map(verdict).collect()
}

fn by_name(snapshot: &Snapshot) -> Vec<&NodeFacts> {
    let mut nodes: Vec<_> = snapshot.nodes().collect();
    nodes.sort_by_key(|node| node.slot);
    nodes
}

/// The score of each node.
pub(in crate::scheduler) fn scores(score: &Score, pod: &PodFacts, nodes: &[Node]) -> Vec<i64> {
    scores_with(score, pod, nodes, &[])
}

pub(in crate::scheduler) fn scores_with(
    score: &Score,
    pod: &PodFacts,
    nodes: &[Node],
    pods: &[(PodFacts, &str)],
) -> Vec<i64> {
    scores_in(score, pod, &snapshot(nodes, pods))
}

pub(in crate::scheduler) fn scores_in(
    score: &Score,
    pod: &PodFacts,
    snapshot: &Snapshot,
) -> Vec<i64> {
    let nodes = by_name(snapshot);
    let known = Known::new(&pod.ask, snapshot);
    let cycle = Cycle::new(pod, &known, snapshot);
    let mut cycle = cycle.unwrap_or_else(|rejection| panic!("{rejection:?}"));
    cycle.prepare_scores(&nodes);
    if !(score.concerns)(&cycle) {
        return vec![0; nodes.len()];
    }
    let mut scores: Vec<_> = nodes.iter().map(|node| (score.raw)(&cycle, node)).collect();
    score.normalize.apply(&mut scores);
    scores
}
