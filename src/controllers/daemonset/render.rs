//! The pod of a DaemonSet for one node.

use super::fit::tolerations;
use crate::api::node_selector::required_affinity;
use crate::api::pod::node_name;
use crate::controllers::history::REVISION_LABEL;
use crate::controllers::pod_template::pod_of;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use std::borrow::Cow;

/// The generation of the template, from the time before revisions.
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

const NAME_FIELD: &str = "metadata.name";

fn generation(set: &DaemonSet) -> Option<Cow<'_, str>> {
    let text = set.metadata.annotations.as_ref()?.get(GENERATION_ANNOTATION)?;
    text.parse::<i64>().ok().map(|generation| Cow::Owned(generation.to_string()))
}

/// A pod of the set's template that the scheduler can put only on this node: upstream
/// `CreatePodTemplate` and `ReplaceDaemonSetPodNodeNameNodeAffinity`
/// (pkg/controller/daemon/util, v1.35).
pub(super) fn render_pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut pod = pod_of(template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = generation(set) {
        labels.insert(GENERATION_LABEL.to_owned(), generation.into_owned());
    }
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let only = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    // What else is required has been looked at when the node was chosen.
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(vec![only]),
            match_expressions: None,
        }],
    });
    pod
}

/// The node that a pod is for, whether it is there already or not: upstream `GetTargetNodeName`.
pub(super) fn target_node(pod: &Pod) -> Option<&str> {
    if let Some(node) = node_name(pod) {
        return Some(node);
    }
    let terms = &required_affinity(pod.spec.as_ref()?)?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == NAME_FIELD && field.operator == "In");
    match named.next()?.values.as_deref()? {
        [node] => Some(node),
        _ => None,
    }
}

/// Whether a pod is of the newest template: upstream `IsPodUpdated`.
pub(super) fn is_updated(set: &DaemonSet, hash: &str, pod: &Pod) -> bool {
    let label = |name: &str| pod.metadata.labels.as_ref()?.get(name).map(String::as_str);
    label(REVISION_LABEL) == Some(hash)
        || generation(set).is_some_and(|generation| label(GENERATION_LABEL) == Some(&*generation))
}
