//! `pods/ephemeralcontainers`: containers that join a pod that runs.
//!
//! Follows upstream `podEphemeralContainersStrategy` (pkg/registry/core/pod/strategy.go) and
//! `ValidatePodEphemeralContainersUpdate` (pkg/apis/core/validation), v1.35.

use super::{is_mirror, restore_around_spec, validate};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::diff;
use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use std::collections::BTreeMap;

/// Puts back all but the ephemeral containers.
pub(super) fn prepare(new: &mut Pod, old: &Pod) {
    let wanted = new.spec.take().and_then(|spec| spec.ephemeral_containers);
    restore_around_spec(new, old);
    new.spec.clone_from(&old.spec);
    if let Some(spec) = &mut new.spec {
        spec.ephemeral_containers = wanted;
    }
}

/// They come, and stay as they are.
pub(super) fn validate(new: &Pod, old: &Pod) -> Vec<FieldError> {
    if is_mirror(old) {
        let detail = "static pods do not support ephemeral containers";
        return vec![FieldError::forbidden(&FieldPath::new(""), detail)];
    }
    let mut errors = validate::validate(new);
    let path = FieldPath::new("spec").child("ephemeralContainers");
    let wanted: BTreeMap<_, _> = containers(new).iter().rev().map(|new| (&new.name, new)).collect();
    for old in containers(old) {
        let name = &old.name;
        match wanted.get(name).copied() {
            Some(new) if new == old => {}
            Some(new) => {
                let changes = diff(new, old);
                let detail =
                    format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                errors.push(FieldError::forbidden(&path, detail));
            }
            None => {
                let detail = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
    errors
}

fn containers(pod: &Pod) -> &[EphemeralContainer] {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.ephemeral_containers.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_part};
    use serde_json::{Value, json};

    fn with(ephemeral: Value) -> Case {
        Case::of(
            "pods",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": ephemeral},
            }),
        )
    }

    #[test]
    fn containers_join_and_stay() {
        let debugger = json!({"name": "d", "image": "b", "targetContainerName": "c"});
        let check = |old: &Case, new: &Case, expected: &[&str]| {
            check_part("ephemeralcontainers", old, new, expected);
        };
        let (none, one) = (with(json!([])), with(json!([debugger])));
        check(&none, &one, &[]);
        check(&one, &one, &[]);
        check(
            &one,
            &none,
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed",
            ],
        );
        check(
            &one,
            &with(json!([{"name": "d", "image": "other", "targetContainerName": "c"}])),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed",
            ],
        );
        check(
            &none,
            &with(json!([{"name": "c", "image": "b"}])),
            &["spec.ephemeralContainers[0].name: Duplicate value: \"c\""],
        );
        // Nothing else is taken from what is sent.
        let other = one.with(json!({"spec": {"containers": [{"name": "c", "image": "other"}]}}));
        check(&none, &other, &[]);
        let mirror = none.with(json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": "n"}}));
        check(&mirror, &one, &[": Forbidden: static pods do not support ephemeral containers"]);
    }
}
