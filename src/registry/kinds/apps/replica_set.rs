//! ReplicaSets: so many pods of one template.
//!
//! Follows upstream pkg/registry/apps/replicaset and `ValidateReplicaSet` (pkg/apis/apps, v1.35).

use super::replica_table::{REPLICA_COLUMNS, ReplicaRow};
use super::{
    podspec, validate_replica_counts, validate_same_selector, validate_selector_and_template,
};
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::not_negative;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, halves};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use serde_json::Value;
use std::borrow::Cow;

impl Resource for ReplicaSet {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "replicaset",
        short_names: &[Cow::Borrowed("rs")],
        categories: ALL,
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::REPLICA_SET;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = REPLICA_COLUMNS;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        podspec::apply_template_defaults(spec.template.get_or_insert_default());
        self.status.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors: Vec<_> =
            not_negative(&path.child("replicas"), spec.replicas).into_iter().collect();
        errors.extend(not_negative(&path.child("minReadySeconds"), spec.min_ready_seconds));
        let template = spec.template.unwrap_or_default();
        errors.extend(validate_selector_and_template(&spec.selector, &template, &path));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let selector = |set: &Self| set.spec.as_ref().map(|spec| spec.selector.clone());
        validate_same_selector(selector(self), selector(old)).into_iter().collect()
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        self.status.as_ref().map(validate_status).unwrap_or_default()
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let old = old.map(|old| &old.metadata);
        podspec::named_workload_warnings(
            (&self.metadata, old),
            template,
            &FieldPath::new("spec").child("template"),
        )
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let selector = Selector::of_object(Some(&spec.selector));
        let row = ReplicaRow {
            wanted: spec.replicas,
            there: status.replicas,
            ready: status.ready_replicas,
            template: spec.template.as_ref(),
            selector: selector.map_or("<error>".to_owned(), |selector| selector.to_string()),
        };
        row.cells(&self.metadata, now)
    }
}

fn validate_status(status: &ReplicaSetStatus) -> Vec<FieldError> {
    validate_replica_counts(
        &[
            ("replicas", Some(status.replicas.into())),
            ("fullyLabeledReplicas", status.fully_labeled_replicas.map(i64::from)),
            ("readyReplicas", status.ready_replicas.map(i64::from)),
            ("availableReplicas", status.available_replicas.map(i64::from)),
            ("observedGeneration", status.observed_generation),
            ("terminatingReplicas", status.terminating_replicas.map(i64::from)),
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::json;

    fn replica_set() -> Case {
        Case::of(
            "replicasets",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {
                        "metadata": {"labels": {"app": "web"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            }),
        )
    }

    #[test]
    fn selector_and_template_go_together() {
        check(&replica_set(), &[]);
        check(
            &replica_set().with(json!({"spec": {"selector": {"matchLabels": {"app": "x"}}}})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        );
        check(
            &replica_set().with(json!({"spec": {"selector": null}})),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ],
        );
        check(
            &replica_set().with(
                json!({"spec": {"replicas": -1, "minReadySeconds": -2, "template": {"spec": {
                    "restartPolicy": "Never", "activeDeadlineSeconds": 5,
                }}}}),
            ),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        );
    }

    #[test]
    fn the_selector_stays() {
        let new = replica_set().with(json!({"spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}},
        }}));
        check_update(
            &replica_set(),
            &new,
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable",
            ],
        );
    }

    #[test]
    fn counts_in_the_status_agree() {
        let status = json!({"status": {"replicas": 1, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 3}});
        check_status_update(
            &replica_set(),
            &replica_set().with(status),
            &[
                "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas",
            ],
        );
    }
}
