//! A pod runs as a service account, `default` where it names none, and has a token of it (upstream
//! `ServiceAccount`, plugin/pkg/admission/serviceaccount, v1.35).
//!
//! Start at [`apply`]; what the account lends the pod is in [`token`] and [`secrets`].

mod secrets;
mod token;

use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Mutation, Plugin, Want, Warnings};
use crate::api::ObjectKey;
use crate::api::status::{Status, Subject};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ServiceAccount};

pub(super) const PLUGIN: Plugin = Plugin {
    name: "ServiceAccount",
    mutation: Some(Mutation { wants: account_of_new, apply }),
    judgement: Some(Judgement { wants: account_of_debugged, judge }),
};

/// Marks a pod that a node shows for one it runs by itself.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// The account that every namespace has, some time after it is made.
const DEFAULT_ACCOUNT: &str = "default";

fn account_of_new(attributes: &Attributes<'_>) -> Vec<Want> {
    let (Some(pod), Some(namespace)) = (attributes.creating::<Pod>(), attributes.namespace) else {
        return Vec::new();
    };
    if is_mirror(pod) {
        return Vec::new();
    }
    let name = pod.spec.as_ref().map(account_name).unwrap_or(DEFAULT_ACCOUNT);
    let key = ObjectKey::namespaced(namespace, name);
    vec![match name {
        DEFAULT_ACCOUNT => Want::awaited("", "serviceaccounts", key),
        _ => Want::one("", "serviceaccounts", key),
    }]
}

/// The account of a pod that gets ephemeral containers.
fn account_of_debugged(attributes: &Attributes<'_>) -> Vec<Want> {
    let debugged = attributes.updating::<Pod>(Part::Of("ephemeralcontainers"));
    let (Some((pod, _)), Some(namespace)) = (debugged, attributes.namespace) else {
        return Vec::new();
    };
    let name = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let name = name.filter(|name| !name.is_empty());
    let want = |name| Want::one("", "serviceaccounts", ObjectKey::namespaced(namespace, name));
    name.map(want).into_iter().collect()
}

fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(MIRROR_ANNOTATION))
}

fn account_name(spec: &PodSpec) -> &str {
    let name = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    name.unwrap_or(DEFAULT_ACCOUNT)
}

/// Mirror pods are as the node wants them: nothing is added to them.
fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    let (entropy, namespace) = (attributes.entropy, attributes.namespace.unwrap_or_default());
    let Some(pod) = attributes.created::<Pod>().filter(|pod| !is_mirror(pod)) else {
        return Ok(());
    };
    let spec = pod.spec.get_or_insert_default();
    let name = account_name(spec).to_owned();
    let Some(account) = facts.all::<ServiceAccount>().next() else {
        return Err(attributes.forbidden(&no_account(namespace, &name)));
    };
    // The old name of the same field, which the API keeps showing.
    spec.service_account = Some(name.clone());
    spec.service_account_name = Some(name);
    if token::is_wanted(spec, account) {
        token::mount(spec, entropy);
    }
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
    }
    secrets::check(spec, account).map_err(|why| attributes.forbidden(&why))
}

fn no_account(namespace: &str, name: &str) -> String {
    let subject = Subject { group: "", resource: "serviceaccount", name };
    let missing = Status::not_found(subject).message;
    format!("error looking up service account {namespace}/{name}: {missing}")
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let verdict = if let Some(pod) = attributes.creating::<Pod>().filter(|pod| is_mirror(pod)) {
        judge_mirror(pod)
    } else if let Some((pod, _)) = attributes.updating::<Pod>(Part::Of("ephemeralcontainers")) {
        judge_debugged(attributes.namespace.unwrap_or_default(), pod, facts)
    } else {
        Ok(())
    };
    verdict.map_err(|why| attributes.forbidden(&why))
}

/// Upstream `limitEphemeralContainerSecretReferences`.
fn judge_debugged(namespace: &str, pod: &Pod, facts: &Facts<'_>) -> Result<(), String> {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or_default();
    if name.is_empty() {
        let pod = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(format!("no service account specified for pod {namespace}/{pod}"));
    }
    let account = facts.all::<ServiceAccount>().next();
    let account = account.ok_or_else(|| no_account(namespace, name))?;
    spec.map_or(Ok(()), |spec| secrets::check_ephemeral(spec, account))
}

fn judge_mirror(pod: &Pod) -> Result<(), String> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let why = if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        "a mirror pod may not reference service accounts"
    } else if secrets::has_any(spec) {
        "a mirror pod may not reference secrets"
    } else if token::is_projected(spec) {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}
