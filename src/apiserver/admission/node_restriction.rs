//! The agent of a node writes only what is its own: its Node, its lease, the status of its pods, mirror
//! pods that name nothing else (upstream plugin/pkg/admission/noderestriction, v1.35).
//!
//! Evictions have a function of their own here, and tokens a [file](super::node_tokens): nothing is
//! stored of them that a plugin could judge.

use super::super::authz::{References, node_of};
use super::super::identity::Identity;
use super::super::rbac::Asker;
use super::super::verbs::{Call, Part};
use super::{Attributes, Facts, Mutation, Operation, Plugin, Want};
use crate::api::ObjectKey;
use crate::api::status::{Status, Subject};
use crate::pki::CertificateRequest;
use crate::registry::Object;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use std::collections::BTreeMap;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "NodeRestriction",
    mutation: Some(Mutation { wants, apply: |attributes, facts| judge(attributes, facts) }),
    judgement: None,
};

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const NODE_SIGNERS: &[&str] =
    &["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

/// Labels below these of Kubernetes that a node may give itself (upstream `kubeletapis`,
/// kubelet/pkg/apis/well_known_labels.go).
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_LABEL_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

type Labels = Option<BTreeMap<String, String>>;

pub(super) fn node_name(identity: &Identity) -> Option<&str> {
    node_of(Asker { user: identity.user(), groups: identity.groups() })
}

/// The node itself, for the owner of a mirror pod.
fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    match node_name(attributes.identity) {
        Some(node) if attributes.creating::<Pod>().is_some() => {
            vec![Want::one("", "nodes", ObjectKey::cluster(node))]
        }
        _ => Vec::new(),
    }
}

fn judge(attributes: &Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    let Some(node) = node_name(attributes.identity) else { return Ok(()) };
    let verdict = match (&*attributes.kind.facts.group, &*attributes.kind.facts.plural) {
        ("", "pods") => judge_pod(attributes, facts, node),
        ("", "nodes") => judge_node(attributes, node),
        ("", "persistentvolumeclaims") => judge_claim(attributes, node),
        ("coordination.k8s.io", "leases") => judge_lease(attributes, node),
        ("storage.k8s.io", "csinodes") if name(attributes) != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("certificates.k8s.io", "certificatesigningrequests") => judge_request(attributes, node),
        _ => Ok(()),
    };
    verdict.map_err(|why| attributes.forbidden(&why))
}

fn name<'a>(attributes: &'a Attributes<'_>) -> &'a str {
    let metadata = match &attributes.operation {
        Operation::Create(object) => object.metadata(),
        Operation::Update { old, .. } => old.metadata(),
        Operation::Delete(object) => object.metadata(),
    };
    metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn node_of_pod(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn judge_pod(attributes: &Attributes<'_>, facts: &Facts<'_>, node: &str) -> Result<(), String> {
    match &attributes.operation {
        Operation::Create(object) => {
            let pod = object.as_any().downcast_ref::<Pod>().expect("pods are pods");
            judge_mirror(pod, &object.encode(), node)?;
            let own = facts.all::<Node>().next().and_then(|node| node.metadata.uid.as_deref());
            let owner = pod.metadata.owner_references.iter().flatten().next();
            let uid = owner.map(|owner| owner.uid.as_str()).unwrap_or_default();
            match own {
                Some(own) if own == uid => Ok(()),
                Some(own) => Err(format!("node {node} UID mismatch: expected {uid} got {own}")),
                None => Err(format!("nodes {node:?} not found")),
            }
        }
        Operation::Delete(object) => {
            let pod = object.as_any().downcast_ref::<Pod>().expect("pods are pods");
            if node_of_pod(pod) == node {
                return Ok(());
            }
            Err(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        Operation::Update { object, old, part: Part::Status } => {
            judge_pod_status(&**object, *old, node)
        }
        Operation::Update { part: Part::Of(subresource), .. } => Err(format!(
            "unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"
        )),
        Operation::Update { part: Part::Object, .. } => Err(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
    }
}

fn judge_mirror(pod: &Pod, json: &[u8], node: &str) -> Result<(), String> {
    let annotations = pod.metadata.annotations.as_ref();
    if !annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Err(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if node_of_pod(pod) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let only = |which: &str| Err(format!("node {node:?} can only create pods with {which}"));
    match pod.metadata.owner_references.as_deref().unwrap_or_default() {
        [] => return only("an owner reference set to itself"),
        [owner] => {
            if owner.api_version != "v1" || owner.kind != "Node" || owner.name != node {
                return only("an owner reference set to itself");
            }
            if owner.controller != Some(true) {
                return only("a controller owner reference set to itself");
            }
            if owner.block_owner_deletion == Some(true) {
                return Err(format!(
                    "node {node:?} must not set blockOwnerDeletion on an owner reference"
                ));
            }
        }
        _ => return only("a single owner reference set to itself"),
    }
    match References::first_of_mirror(json) {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn judge_pod_status(new: &dyn Object, old: &dyn Object, node: &str) -> Result<(), String> {
    let (new, old) = (new.as_any().downcast_ref::<Pod>(), old.as_any().downcast_ref::<Pod>());
    let (new, old) = new.zip(old).expect("pods are pods");
    if node_of_pod(old) != node {
        return Err(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !changed_labels(&new.metadata.labels, &old.metadata.labels).is_empty() {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    let claims = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let claims = status.resource_claim_statuses.unwrap_or_default();
        (claims, status.extended_resource_claim_status)
    };
    if claims(new) != claims(old) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

fn judge_node(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    let requested = name(attributes);
    if requested != node {
        return Err(format!("node {node:?} is not allowed to modify node {requested:?}"));
    }
    match &attributes.operation {
        Operation::Delete(_) => Ok(()),
        Operation::Create(object) => {
            let labels = forbidden_labels(&object.metadata().labels, &None);
            if labels.is_empty() {
                return Ok(());
            }
            Err(format!(
                "node {node:?} is not allowed to set the following labels: {}",
                labels.join(", ")
            ))
        }
        Operation::Update { object, old, .. } => {
            let taints = |object: &dyn Object| {
                let node = object.as_any().downcast_ref::<Node>().expect("nodes are nodes");
                let spec = node.spec.as_ref();
                spec.and_then(|spec| spec.taints.clone()).unwrap_or_default()
            };
            if taints(&**object) != taints(*old) {
                return Err(format!("node {node:?} is not allowed to modify taints"));
            }
            let owners = |object: &dyn Object| {
                object.metadata().owner_references.clone().unwrap_or_default()
            };
            if owners(&**object) != owners(*old) {
                return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            let labels = forbidden_labels(&object.metadata().labels, &old.metadata().labels);
            if labels.is_empty() {
                return Ok(());
            }
            Err(format!("is not allowed to modify labels: {}", labels.join(", ")))
        }
    }
}

fn judge_claim(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    let Some((new, old)) = attributes.updating::<PersistentVolumeClaim>(Part::Status) else {
        return Err("may only update PVC status".to_owned());
    };
    let rest = |claim: &PersistentVolumeClaim| {
        let mut rest = claim.clone();
        rest.metadata.managed_fields = None;
        rest.metadata.resource_version = None;
        let status = rest.status.get_or_insert_default();
        status.capacity = None;
        status.conditions = None;
        status.allocated_resource_statuses = None;
        status.allocated_resources = None;
        rest
    };
    if rest(new) == rest(old) {
        return Ok(());
    }
    Err(format!(
        "node {node:?} is not allowed to update fields other than status.quantity and \
         status.conditions"
    ))
}

fn judge_lease(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    if attributes.namespace != Some(LEASES) {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if name(attributes) != node {
        return Err(
            "can only access node lease with the same name as the requesting node".to_owned()
        );
    }
    Ok(())
}

fn judge_request(attributes: &Attributes<'_>, node: &str) -> Result<(), String> {
    let Some(request) = attributes.creating::<CertificateSigningRequest>() else {
        return Ok(());
    };
    if !NODE_SIGNERS.contains(&request.spec.signer_name.as_str()) {
        return Ok(());
    }
    let parsed = CertificateRequest::parse(&request.spec.request.0)
        .map_err(|error| format!("unable to parse csr: {error}"))?;
    if parsed.common_name != format!("system:node:{node}") {
        return Err(format!("can only create a node CSR with CN=system:node:{node}"));
    }
    Ok(())
}

fn changed_labels<'a>(new: &'a Labels, old: &'a Labels) -> Vec<&'a str> {
    let get = |labels: &'a Labels, key: &str| labels.as_ref().and_then(|labels| labels.get(key));
    let keys = new.iter().flatten().chain(old.iter().flatten()).map(|(key, _)| key.as_str());
    let mut changed: Vec<_> = keys.filter(|key| get(new, key) != get(old, key)).collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// The labels that have changed and that a node may not change: with them it could draw to itself
/// pods that are meant for others.
fn forbidden_labels<'a>(new: &'a Labels, old: &'a Labels) -> Vec<&'a str> {
    changed_labels(new, old).into_iter().filter(|key| !is_own_label(key)).collect()
}

fn is_own_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let below = |parent: &str| {
        domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    if below(RESTRICTED_DOMAIN) {
        return false;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&key) || OWN_LABEL_DOMAINS.iter().any(|parent| below(parent))
}

/// A node evicts its own pods only.
///
/// # Errors
/// Forbidden, where the pod is not.
pub(in super::super) fn check_eviction(call: &Call<'_>, pod: &Pod) -> Result<(), Status> {
    match node_name(call.identity) {
        Some(node) if node_of_pod(pod) != node => {
            let why = format!("node {node} can only evict pods with spec.nodeName set to itself");
            let name = call.name.unwrap_or_default();
            Err(Status::forbidden(Subject { group: "", resource: "pods", name }, &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn labels_of_its_own() {
        for (key, is_own) in [
            ("color", true),
            ("example.com/color", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("a.kubelet.kubernetes.io/anything", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/a", false),
            ("a.node-restriction.kubernetes.io/b", false),
            ("kubernetes.io/anything", false),
            ("a.k8s.io/b", false),
            ("xkubernetes.io/b", true),
        ] {
            assert_eq!(is_own_label(key), is_own, "{key}");
        }
    }

    #[test]
    fn only_changes_of_labels_count() {
        let labels = |labels: Value| -> Labels { from_value(labels).unwrap() };
        let old = labels(json!({"kubernetes.io/a": "1", "kubernetes.io/b": "1", "c": "1"}));
        let new = labels(json!({"kubernetes.io/a": "1", "kubernetes.io/b": "2", "c": "2"}));
        assert_eq!(forbidden_labels(&new, &old), ["kubernetes.io/b"]);
        assert_eq!(forbidden_labels(&None, &old), ["kubernetes.io/a", "kubernetes.io/b"]);
    }

    #[track_caller]
    fn check_mirror(change: (&str, Value), expected: &str) {
        let mut pod = json!({
            "metadata": {
                "name": "p", "annotations": {MIRROR: "1"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1", "controller": true}],
            },
            "spec": {"nodeName": "n", "containers": []},
        });
        if let Some(place) = pod.pointer_mut(change.0) {
            *place = change.1;
        }
        let typed: Pod = from_value(pod.clone()).unwrap();
        let verdict = judge_mirror(&typed, pod.to_string().as_bytes(), "n");
        assert_eq!(verdict.err().unwrap_or_default(), expected);
    }

    #[test]
    fn a_mirror_pod_is_of_its_node_and_names_nothing() {
        check_mirror(("none", json!(0)), "");
        check_mirror(
            ("/metadata/annotations", json!({})),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods",
        );
        check_mirror(
            ("/spec/nodeName", json!("m")),
            "node \"n\" can only create pods with spec.nodeName set to itself",
        );
        check_mirror(
            ("/metadata/ownerReferences", json!([])),
            "node \"n\" can only create pods with an owner reference set to itself",
        );
        check_mirror(
            ("/metadata/ownerReferences/0/name", json!("m")),
            "node \"n\" can only create pods with an owner reference set to itself",
        );
        check_mirror(
            ("/metadata/ownerReferences/0/controller", json!(false)),
            "node \"n\" can only create pods with a controller owner reference set to itself",
        );
        check_mirror(
            ("/spec", json!({"nodeName": "n", "containers": [], "serviceAccountName": "a"})),
            "node \"n\" can not create pods that reference serviceaccounts",
        );
    }
}
