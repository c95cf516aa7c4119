//! CSIDrivers: what a driver of volumes needs from Kubernetes.
//!
//! Follows upstream `ValidateCSIDriver` (pkg/apis/storage/validation, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, one_of, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::storage::v1::{CSIDriver, TokenRequest};
use serde_json::Value;
use std::collections::BTreeSet;

const UPDATE_PERIOD_SECONDS_MIN: i64 = 10;
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

impl Resource for CSIDriver {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "csidriver", ..BuiltIn::CLUSTER });
    const SCHEMA: TypeRef = types::CSI_DRIVER;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::boolean("AttachRequired", "Whether volumes are attached before they are mounted."),
        Column::boolean("PodInfoOnMount", "Whether the driver is told of the pod."),
        Column::boolean("StorageCapacity", "Whether the driver tells how much it could make."),
        Column::text("TokenRequests", "For whom the driver gets tokens of the pod."),
        Column::boolean("RequiresRepublish", "Whether mounts are repeated from time to time."),
        Column::text("Modes", "Which kinds of volumes the driver makes."),
        Column::AGE,
    ];
    const UPDATES_UNCONDITIONALLY: bool = false;
    const RETURNS_DELETED: bool = true;

    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        spec.fs_group_policy.get_or_insert_with(|| "ReadWriteOnceWithFSType".to_owned());
        spec.token_requests.take_if(|requests| requests.is_empty());
        spec.volume_lifecycle_modes.take_if(|modes| modes.is_empty());
        spec.volume_lifecycle_modes.get_or_insert_with(|| vec!["Persistent".to_owned()]);
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec");
        let spec = &self.spec;
        let mut errors = Vec::new();
        if let Some(policy) = &spec.fs_group_policy {
            let policies = &["File", "None", "ReadWriteOnceWithFSType"];
            errors.extend(one_of(&path.child("fsGroupPolicy"), policy, policies));
        }
        let requests = spec.token_requests.as_deref().unwrap_or_default();
        errors.extend(validate_tokens(requests, &path.child("tokenRequests")));
        for mode in spec.volume_lifecycle_modes.iter().flatten() {
            let path = path.child("volumeLifecycleModes");
            errors.extend(one_of(&path, mode, &["Ephemeral", "Persistent"]));
        }
        let period = spec.node_allocatable_update_period_seconds;
        if let Some(seconds) = period.filter(|seconds| *seconds < UPDATE_PERIOD_SECONDS_MIN) {
            let detail = "must be greater than or equal to 10 seconds";
            let path = path.child("nodeAllocatableUpdatePeriodSeconds");
            errors.push(FieldError::invalid(&path, seconds, detail));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("spec");
        let attach = |driver: &Self| to_value(&driver.spec.attach_required);
        let modes = |driver: &Self| to_value(&driver.spec.volume_lifecycle_modes);
        let attach_error = immutable(&path.child("attachedRequired"), attach(self), &attach(old));
        let modes_error = immutable(&path.child("volumeLifecycleModes"), modes(self), &modes(old));
        attach_error.into_iter().chain(modes_error).collect()
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let flag = |flag: Option<bool>| Value::from(flag.unwrap_or_default());
        let tokens = spec.token_requests.as_ref().map(|requests| {
            requests.iter().map(|request| request.audience.as_str()).collect::<Vec<_>>().join(",")
        });
        let modes = spec.volume_lifecycle_modes.as_ref().map(|modes| modes.join(","));
        vec![
            cells::name(&self.metadata),
            spec.attach_required.unwrap_or(true).into(),
            flag(spec.pod_info_on_mount),
            flag(spec.storage_capacity),
            tokens.unwrap_or_else(|| "<unset>".to_owned()).into(),
            flag(spec.requires_republish),
            cells::or_none(modes.as_deref()),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate_tokens(requests: &[TokenRequest], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        if !seen.insert(&request.audience) {
            let audience = request.audience.as_str();
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        let detail = match seconds {
            ..TOKEN_SECONDS_MIN => "may not specify a duration less than 10 minutes",
            TOKEN_SECONDS_MIN..=TOKEN_SECONDS_MAX => continue,
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::json;

    #[test]
    fn what_a_driver_needs() {
        let driver = Case::of("csidrivers", json!({"metadata": {"name": "d.io"}, "spec": {}}));
        check(&driver, &[]);
        check(
            &driver.with(json!({"spec": {
                "fsGroupPolicy": "Always", "volumeLifecycleModes": ["Forever"],
                "nodeAllocatableUpdatePeriodSeconds": 9,
                "tokenRequests": [
                    {"audience": "a", "expirationSeconds": 599}, {"audience": "a"},
                    {"audience": "", "expirationSeconds": 4_294_967_297_i64},
                ],
            }})),
            &[
                "spec.fsGroupPolicy: Unsupported value: \"Always\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                "spec.tokenRequests[2].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
                "spec.volumeLifecycleModes: Unsupported value: \"Forever\": supported values: \"Ephemeral\", \"Persistent\"",
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ],
        );
        check_update(&driver, &driver.with(json!({"spec": {"podInfoOnMount": true}})), &[]);
        check_update(
            &driver,
            &driver.with(
                json!({"spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}}),
            ),
            &[
                "spec.attachedRequired: Invalid value: false: field is immutable",
                "spec.volumeLifecycleModes: Invalid value: [\"Ephemeral\"]: field is immutable",
            ],
        );
    }
}
