//! Which ReplicaSet belongs to a pod template: comparing templates, and naming them by a hash.

use crate::controllers::hash::template_hash;
use crate::stdx::json;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;
use std::borrow::Cow;

/// The label by which the pods of the sets of one Deployment differ.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// Names of sets are at most this long, in bytes; the Deployment's part is cut.
const NAME_BYTES_MAX: usize = 253;

/// Whether pods made from one template would be pods made from the other: upstream
/// `EqualIgnoreHash` (pkg/controller/deployment/util/deployment_util.go, v1.35).
pub(super) fn is_same(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(other) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
        return false;
    };
    let (other, template) = (without_hash(other), without_hash(template));
    // Most are equal as they are, or differ in something that is there; what differs in nothing but
    // an empty list and an absent one is worth a closer look.
    other == template || (other.spec.is_some() && meaning(&other) == meaning(&template))
}

fn without_hash(template: &PodTemplateSpec) -> Cow<'_, PodTemplateSpec> {
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.as_ref());
    if !labels.is_some_and(|labels| labels.contains_key(HASH_LABEL)) {
        return Cow::Borrowed(template);
    }
    let mut bare = template.clone();
    if let Some(labels) = bare.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    Cow::Owned(bare)
}

/// The template without anything that is empty.
fn meaning(template: &PodTemplateSpec) -> Value {
    let mut value = json::to_value(template);
    prune(&mut value);
    value
}

fn prune(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, field| !is_empty(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The hash of the Deployment's template. Another one after every collision.
pub(super) fn hash(deployment: &Deployment) -> String {
    static EMPTY: PodTemplateSpec = PodTemplateSpec { metadata: None, spec: None };
    let template = deployment.spec.as_ref().map_or(&EMPTY, |spec| &spec.template);
    let status = deployment.status.as_ref();
    template_hash(template, status.and_then(|status| status.collision_count))
}

/// What the set of the Deployment's template is called: upstream `generateReplicaSetName`.
#[must_use]
pub fn set_name(deployment: &Deployment) -> String {
    let hash = hash(deployment);
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let room = NAME_BYTES_MAX - hash.len() - 1;
    let kept = name.get(..room).unwrap_or(name);
    format!("{kept}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).unwrap()
    }

    fn deployment(image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {}, "template": {"spec": {"containers": [
                {"name": "c", "image": image}]}}},
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(one: Value, other: Value, expected: bool) {
        let mut set = ReplicaSet::default();
        set.spec.get_or_insert_default().template = Some(template(one));
        assert_eq!(is_same(&set, &template(other)), expected);
    }

    #[test]
    fn templates_are_compared_by_their_meaning() {
        let pod = |containers: Value| json!({"spec": {"containers": containers}});
        let plain = || pod(json!([{"name": "c", "image": "i"}]));
        check(plain(), plain(), true);
        check(plain(), pod(json!([{"name": "c", "image": "j"}])), false);
        check(plain(), pod(json!([{"name": "c", "image": "i", "args": [], "env": null}])), true);
        check(plain(), pod(json!([{"name": "c", "image": "i", "args": [""]}])), false);
        let labelled = |labels: Value| {
            let mut template = plain();
            template["metadata"] = json!({"labels": labels});
            template
        };
        check(labelled(json!({HASH_LABEL: "x"})), labelled(json!({})), true);
        check(labelled(json!({HASH_LABEL: "x"})), plain(), true);
        check(labelled(json!({HASH_LABEL: "x", "a": "b"})), labelled(json!({"a": "b"})), true);
        check(labelled(json!({HASH_LABEL: "x", "a": "b"})), labelled(json!({"a": "c"})), false);
    }

    #[test]
    fn names_fit() {
        assert_ne!(set_name(&deployment("i")), set_name(&deployment("j")));
        let mut long = deployment("i");
        long.metadata.name = Some("x".repeat(300));
        assert_eq!(set_name(&long).len(), NAME_BYTES_MAX);
    }
}
