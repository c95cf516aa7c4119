//! A pod on a node has the labels that say in which zone and region that is, so that it can be told
//! by the downward API (upstream `PodTopologyLabels`, plugin/pkg/admission/podtopologylabels, on by
//! default as of v1.35).
//!
//! Start at [`NodeTopology::label`]. Where nodes are is followed, not read: every pod that is bound
//! asks for it. As with upstream's informer, what changes in this moment may not be known yet.

use super::super::follow::Follower;
use super::super::node_facts::NodeFacts;
use super::{Attributes, Facts, Mutation, Plugin};
use crate::api::status::Status;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodTopologyLabels",
    mutation: Some(Mutation { wants: |_| Vec::new(), apply }),
    judgement: None,
};

const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Pods that come with their node. Those that are bound are labelled in the same write
/// ([`verbs`](super::super::verbs)).
fn apply(attributes: &mut Attributes<'_>, _facts: &Facts<'_>) -> Result<(), Status> {
    let topology = attributes.topology;
    let Some(pod) = attributes.created::<Pod>() else {
        return Ok(());
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    topology.label(&mut pod.metadata, &node);
    Ok(())
}

type Labels = BTreeMap<String, String>;

/// The labels of nodes that their pods get.
#[derive(Debug)]
pub(in super::super) struct NodeTopology(Arc<NodeFacts<Labels>>);

impl NodeTopology {
    /// With what keeps it knowing.
    pub(in super::super) fn new() -> (Self, Follower) {
        let (facts, follower) = NodeFacts::followed(labels);
        (Self(facts), follower)
    }

    /// Gives a pod the labels of its node, in the place of what it had by these names. A node that
    /// is not known has none.
    pub(in super::super) fn label(&self, pod: &mut ObjectMeta, node: &str) {
        let Some(labels) = self.0.with(node, |labels| labels.cloned()) else { return };
        pod.labels.get_or_insert_default().extend(labels);
    }
}

/// Those of a node that its pods get.
fn labels(node: &[u8]) -> Result<Option<Labels>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default)]
        labels: Labels,
    }
    let mut labels = serde_json::from_slice::<Node>(node)?.metadata.labels;
    labels.retain(|name, _| COPIED.contains(&name.as_str()));
    Ok(Some(labels).filter(|labels| !labels.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Key;
    use serde_json::{Value, json};

    const ZONE: &str = COPIED[0];

    #[track_caller]
    fn check(topology: &NodeTopology, node: &str, pod: Value, expected: Value) {
        let mut metadata: ObjectMeta = serde_json::from_value(json!({ "labels": pod })).unwrap();
        topology.label(&mut metadata, node);
        assert_eq!(json!(metadata.labels), expected);
    }

    #[test]
    fn a_pod_gets_the_labels_of_its_node_as_they_are() {
        let topology = NodeTopology(Arc::new(NodeFacts::new(labels)));
        let key = Key::from("/core/nodes/a");
        let node = |labels: Value| json!({ "metadata": { "labels": labels } }).to_string();
        let is = |text: &str| topology.0.take(&key, Some(text.as_bytes()));

        check(&topology, "a", json!(null), json!(null));
        is(&node(json!({ ZONE: "z", "topology.kubernetes.io/rack": "r", "os": "linux" })));
        check(&topology, "a", json!(null), json!({ ZONE: "z" }));
        check(&topology, "a", json!({ "x": "y", ZONE: "own" }), json!({ "x": "y", ZONE: "z" }));
        check(&topology, "b", json!({ "x": "y" }), json!({ "x": "y" }));
        check(&topology, "", json!(null), json!(null));
        is(&node(json!({ "topology.kubernetes.io/region": "r" })));
        check(&topology, "a", json!(null), json!({ "topology.kubernetes.io/region": "r" }));
        is(r#"{"metadata":{"name":"a"}}"#);
        check(&topology, "a", json!(null), json!(null));
        is(&node(json!({ ZONE: "z" })));
        topology.0.take(&key, None);
        check(&topology, "a", json!(null), json!(null));
        is(&node(json!({ ZONE: "z" })));
        topology.0.begin(&[]);
        check(&topology, "a", json!(null), json!(null));
    }
}
