//! A static pod from its manifest, and the pod that stands for it in the API. Pure.
//!
//! Follows upstream `applyDefaults` (pkg/kubelet/config/common.go) and pkg/kubelet/pod/
//! mirror_client.go (v1.35).

use crate::registry;
use crate::registry::schema::{Format, decode};
use crate::stdx::json;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::BTreeMap;

/// Where a pod comes from: `api`, `file`.
pub(super) const SOURCE_ANNOTATION: &str = "kubernetes.io/config.source";
const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";
const SEEN_ANNOTATION: &str = "kubernetes.io/config.seen";
/// Of the pod in the API: the uid of the static pod that it stands for.
pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// A manifest, and what it is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manifest<'a> {
    pub(super) text: &'a [u8],
    /// Changes with the text.
    pub(super) uid: &'a str,
    /// When the file was written, as the API has times.
    pub(super) seen: &'a str,
}

/// The pod of a manifest.
///
/// # Errors
/// What is wrong with it, for the log.
pub(super) fn pod(manifest: Manifest<'_>, node: &str) -> Result<Pod, String> {
    let document = decode(manifest.text, Format::Yaml).map_err(|error| error.to_string())?.value;
    if document["kind"] != "Pod" || document["apiVersion"] != "v1" {
        return Err("it is no Pod of v1".to_owned());
    }
    let kind = registry::find("", "v1", "pods").ok_or("the kind Pod is not known")?;
    let mut object = kind.decode(document).map_err(|error| error.to_string())?;
    object.apply_defaults();
    let value = object.to_value();
    let mut pod: Pod = json::from_value(&value).map_err(|error| error.to_string())?;
    let metadata = &mut pod.metadata;
    let name = metadata.name.take().unwrap_or_default();
    metadata.name = Some(format!("{name}-{node}").to_lowercase());
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.uid = Some(manifest.uid.to_owned());
    metadata.resource_version = None;
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    for (key, value) in [
        (SOURCE_ANNOTATION, "file"),
        (HASH_ANNOTATION, manifest.uid),
        (SEEN_ANNOTATION, manifest.seen),
    ] {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    pod.status = None;
    let spec = pod.spec.as_mut().ok_or("it has no spec")?;
    spec.node_name = Some(node.to_owned());
    // Nothing drives it away: it is the node's own.
    spec.tolerations.get_or_insert_with(Vec::new).push(Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    });
    let problems = problems(&pod)?;
    if problems.is_empty() { Ok(pod) } else { Err(problems) }
}

/// What the API server would say of it.
fn problems(pod: &Pod) -> Result<String, String> {
    let kind = registry::find("", "v1", "pods").ok_or("the kind Pod is not known")?;
    let object = kind.decode(json::to_value(pod)).map_err(|error| error.to_string())?;
    let problems: Vec<_> = object.validate().iter().map(ToString::to_string).collect();
    Ok(problems.join("; "))
}

/// What stands in the API for a static pod. It goes with its node.
pub(super) fn mirror(pod: &Pod, node: &Node) -> Pod {
    let mut mirror = pod.clone();
    let metadata = &mut mirror.metadata;
    let uid = metadata.uid.take().unwrap_or_default();
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    annotations.insert(MIRROR_ANNOTATION.to_owned(), uid);
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.metadata.name.clone().unwrap_or_default(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    mirror.status = None;
    mirror
}

/// The uid of the static pod that an object of the API stands for.
pub(in crate::kubelet) fn mirrored(object: &Pod) -> Option<&str> {
    annotation(object, MIRROR_ANNOTATION)
}

/// Whether a pod is run from a file of this node.
pub(in crate::kubelet) fn is_static(object: &Pod) -> bool {
    annotation(object, SOURCE_ANNOTATION).is_some_and(|source| source != "api")
        && mirrored(object).is_none()
}

fn annotation<'a>(object: &'a Pod, key: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Result<Pod, String> {
        let manifest = Manifest { text: text.as_bytes(), uid: "u1", seen: "2026-01-02T03:04:05Z" };
        pod(manifest, "node-1")
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: a, image: web:1}\n";
        let pod = made(text).unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod.metadata.uid.as_deref(), Some("u1"));
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node-1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
        assert!(is_static(&pod) && mirrored(&pod).is_none());
        let mirror = mirror(&pod, &Node::default());
        assert_eq!(mirrored(&mirror), Some("u1"));
        assert!(mirror.metadata.uid.is_none() && !is_static(&mirror));
    }

    #[test]
    fn what_is_no_pod_is_told() {
        assert_eq!(made("kind: Service\napiVersion: v1\n").unwrap_err(), "it is no Pod of v1");
        assert!(made("{").is_err());
        let none = made("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: []}");
        assert!(none.unwrap_err().contains("spec.containers: Required value"));
    }
}
