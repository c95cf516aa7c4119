//! ReplicationControllers: so many pods of one template, as there were before ReplicaSets.
//!
//! Follows upstream pkg/registry/core/replicationcontroller and `ValidateReplicationController`
//! (pkg/apis/core/validation, v1.35).

use super::podspec;
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::not_negative;
use crate::registry::kinds::apps::{
    REPLICA_COLUMNS, ReplicaRow, validate_match, validate_replica_counts, validate_runs_forever,
};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerSpec, ReplicationControllerStatus,
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

impl Resource for ReplicationController {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "replicationcontroller",
        short_names: &[Cow::Borrowed("rc")],
        categories: ALL,
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::REPLICATION_CONTROLLER;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const ORPHANS_DEPENDENTS: bool = true;
    const COLUMNS: &'static [Column] = REPLICA_COLUMNS;

    /// Selector and labels are those of the pods, where there are none.
    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        let own = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
        if let Some(of_pods) = own.and_then(|own| own.labels.clone()) {
            for labels in [&mut spec.selector, &mut self.metadata.labels] {
                if labels.as_ref().is_none_or(BTreeMap::is_empty) {
                    *labels = Some(of_pods.clone());
                }
            }
        }
        spec.replicas.get_or_insert(1);
        spec.min_ready_seconds.take_if(|seconds| *seconds == 0);
        if let Some(template) = &mut spec.template {
            podspec::apply_template_defaults(template);
        }
        self.status.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors: Vec<_> =
            not_negative(&path.child("minReadySeconds"), spec.min_ready_seconds)
                .into_iter()
                .collect();
        if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
            errors.push(FieldError::required(&path.child("selector"), ""));
        }
        errors.extend(not_negative(&path.child("replicas"), spec.replicas));
        errors.extend(validate_template(&spec, &path.child("template")));
        errors
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        self.status.as_ref().map(validate_status).unwrap_or_default()
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let replicas = self.status.as_ref().map_or(0, |status| status.replicas);
        vec![("status.replicas", replicas.to_string())]
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
        let row = ReplicaRow {
            wanted: spec.replicas,
            there: status.replicas,
            ready: status.ready_replicas,
            template: spec.template.as_ref(),
            selector: cells::labels(spec.selector.as_ref()),
        };
        row.cells(&self.metadata, now)
    }
}

fn validate_template(spec: &ReplicationControllerSpec, path: &FieldPath) -> Vec<FieldError> {
    let Some(template) = &spec.template else {
        return vec![FieldError::required(path, "")];
    };
    let selector = Selector::of_labels(&spec.selector.clone().unwrap_or_default());
    let mut errors: Vec<_> = validate_match(&selector, template, path).into_iter().collect();
    errors.extend(podspec::validate_template(template, path));
    let pod_path = path.child("spec");
    errors.extend(validate_runs_forever("ReplicationController", template, &pod_path));
    errors
}

fn validate_status(status: &ReplicationControllerStatus) -> Vec<FieldError> {
    validate_replica_counts(
        &[
            ("replicas", Some(status.replicas.into())),
            ("fullyLabeledReplicas", status.fully_labeled_replicas.map(i64::from)),
            ("readyReplicas", status.ready_replicas.map(i64::from)),
            ("availableReplicas", status.available_replicas.map(i64::from)),
            ("observedGeneration", status.observed_generation),
        ],
        &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::json;

    fn controller() -> Case {
        Case::of(
            "replicationcontrollers",
            json!({
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]},
                }},
            }),
        )
    }

    #[test]
    fn selector_and_labels_come_from_the_template() {
        let created = controller().created().to_value();
        assert_eq!(created["spec"]["selector"], json!({"app": "web"}));
        assert_eq!(created["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(created["spec"]["replicas"], 1);
        check(&controller(), &[]);
    }

    #[test]
    fn everything_wrong_is_listed() {
        check(
            &controller().with(json!({"spec": {
                "replicas": -1, "minReadySeconds": -1, "selector": {"app": "x"},
                "template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}},
            }})),
            &[
                "spec.minReadySeconds: Invalid value: -1",
                "spec.replicas: Invalid value: -1",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
            ],
        );
        check(
            &controller().with(json!({"spec": {"template": null}})),
            &["spec.selector: Required value", "spec.template: Required value"],
        );
    }

    #[test]
    fn counts_in_the_status_agree() {
        let status = json!({"status": {"replicas": 1, "fullyLabeledReplicas": 2, "readyReplicas": 1, "availableReplicas": 2}});
        check_status_update(
            &controller(),
            &controller().with(status),
            &[
                "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
            ],
        );
    }
}
