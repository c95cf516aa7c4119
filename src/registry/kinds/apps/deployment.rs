//! Deployments: a template that is rolled out step by step.
//!
//! Follows upstream pkg/registry/apps/deployment and `ValidateDeployment` (pkg/apis/apps, v1.35).

use super::share::{number, validate_share, validate_whole};
use super::validate_replica_counts;
use super::validate_same_selector;
use super::{container_cells, podspec, validate_collisions, validate_selector_and_template};
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{not_negative, to_value};
use crate::registry::managed::Resets;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;

const ROLLING_UPDATE: &str = "RollingUpdate";
const RECREATE: &str = "Recreate";
const REVISION_HISTORY_LIMIT: i32 = 10;
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

impl Resource for Deployment {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "deployment",
        short_names: &[Cow::Borrowed("deploy")],
        categories: ALL,
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::DEPLOYMENT;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Ready", "Pods that are ready, of those wanted."),
        Column::text("Up-to-date", "Number of pods of the current template."),
        Column::text("Available", "Number of pods that have been ready for long enough."),
        Column::AGE,
        Column::wide("Containers", "Names of the template's containers."),
        Column::wide("Images", "Images of the template's containers."),
        Column::wide("Selector", "Labels of the pods that count."),
    ];

    fn resets(subresource: &str) -> Resets {
        match subresource {
            "status" => Resets::Of(&[&["spec"], &["metadata", "labels"]]),
            _ => Resets::of_halves(subresource),
        }
    }

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.replicas.get_or_insert(1);
        default_strategy(spec.strategy.get_or_insert_default());
        spec.revision_history_limit.get_or_insert(REVISION_HISTORY_LIMIT);
        spec.progress_deadline_seconds.get_or_insert(PROGRESS_DEADLINE_SECONDS);
        spec.min_ready_seconds.take_if(|seconds| *seconds == 0);
        spec.paused.take_if(|paused| !*paused);
        podspec::apply_template_defaults(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors: Vec<_> =
            not_negative(&path.child("replicas"), spec.replicas).into_iter().collect();
        errors.extend(validate_selector_and_template(&spec.selector, &spec.template, &path));
        let strategy = spec.strategy.clone().unwrap_or_default();
        errors.extend(validate_strategy(&strategy, &path.child("strategy")));
        errors.extend(validate_pace(&spec, &path));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let selector = |one: &Self| one.spec.as_ref().map(|spec| spec.selector.clone());
        validate_same_selector(selector(self), selector(old)).into_iter().collect()
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        let status = self.status.clone().unwrap_or_default();
        let mut errors = validate_status(&status);
        let collisions = |one: &Self| one.status.as_ref().and_then(|status| status.collision_count);
        errors.extend(validate_collisions(collisions(self), collisions(old)));
        errors
    }

    /// Annotations count too: the controller copies them to the ReplicaSets.
    fn is_new_generation(&self, old: &Self) -> bool {
        self.spec != old.spec || self.metadata.annotations != old.metadata.annotations
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = self.spec.as_ref().map(|spec| &spec.template);
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
        let (names, images) = container_cells(Some(&spec.template));
        let ready = status.ready_replicas.unwrap_or_default();
        let selector = Selector::of_object(Some(&spec.selector));
        vec![
            cells::name(&self.metadata),
            format!("{ready}/{}", spec.replicas.unwrap_or_default()).into(),
            status.updated_replicas.unwrap_or_default().into(),
            status.available_replicas.unwrap_or_default().into(),
            cells::age(&self.metadata, now),
            names.into(),
            images.into(),
            selector.map_or("<invalid>".to_owned(), |selector| selector.to_string()).into(),
        ]
    }
}

fn default_strategy(strategy: &mut DeploymentStrategy) {
    strategy.type_.take_if(|kind| kind.is_empty());
    let kind = strategy.type_.get_or_insert_with(|| ROLLING_UPDATE.to_owned());
    if kind == ROLLING_UPDATE {
        let quarter = || IntOrString::String("25%".to_owned());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert_with(quarter);
        rolling.max_surge.get_or_insert_with(quarter);
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, path: &FieldPath) -> Vec<FieldError> {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        (RECREATE, None) => Vec::new(),
        (RECREATE, Some(_)) => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            vec![FieldError::forbidden(&rolling_path, detail)]
        }
        (ROLLING_UPDATE, Some(rolling)) => validate_rolling_update(rolling, &rolling_path),
        (ROLLING_UPDATE, None) => {
            let detail = "this should be defaulted and never be nil";
            vec![FieldError::required(&rolling_path, detail)]
        }
        _ => vec![FieldError::not_supported(path, to_value(strategy), &[RECREATE, ROLLING_UPDATE])],
    }
}

fn validate_rolling_update(rolling: &RollingUpdateDeployment, path: &FieldPath) -> Vec<FieldError> {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let unavailable_path = path.child("maxUnavailable");
    let mut errors = validate_share(unavailable, &unavailable_path);
    errors.extend(validate_share(surge, &path.child("maxSurge")));
    if number(unavailable) == 0 && number(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&unavailable_path, to_value(unavailable), detail));
    }
    errors.extend(validate_whole(unavailable, &unavailable_path));
    errors
}

fn validate_pace(spec: &DeploymentSpec, path: &FieldPath) -> Vec<FieldError> {
    let deadline_path = path.child("progressDeadlineSeconds");
    let mut errors = Vec::new();
    errors.extend(not_negative(&path.child("minReadySeconds"), spec.min_ready_seconds));
    errors.extend(not_negative(&path.child("revisionHistoryLimit"), spec.revision_history_limit));
    errors.extend(not_negative(&deadline_path, spec.progress_deadline_seconds));
    if let Some(deadline) = spec.progress_deadline_seconds
        && deadline <= spec.min_ready_seconds.unwrap_or_default()
    {
        let detail = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(&deadline_path, deadline, detail));
    }
    errors
}

fn validate_status(status: &DeploymentStatus) -> Vec<FieldError> {
    validate_replica_counts(
        &[
            ("observedGeneration", status.observed_generation),
            ("replicas", status.replicas.map(i64::from)),
            ("updatedReplicas", status.updated_replicas.map(i64::from)),
            ("readyReplicas", status.ready_replicas.map(i64::from)),
            ("availableReplicas", status.available_replicas.map(i64::from)),
            ("unavailableReplicas", status.unavailable_replicas.map(i64::from)),
            ("terminatingReplicas", status.terminating_replicas.map(i64::from)),
            ("collisionCount", status.collision_count.map(i64::from)),
        ],
        &["updatedReplicas", "readyReplicas", "availableReplicas"],
        "cannot be greater than readyReplicas",
    )
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::json;

    fn deployment() -> Case {
        Case::of(
            "deployments",
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
    fn defaults_are_upstreams() {
        let spec = deployment().created().to_value()["spec"].clone();
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(spec["progressDeadlineSeconds"], 600);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        check(&deployment(), &[]);
    }

    #[test]
    fn strategies() {
        let with = |strategy| deployment().with(json!({"spec": {"strategy": strategy}}));
        check(&with(json!({"type": "Recreate"})), &[]);
        check(
            &with(json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}})),
            &[
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            ],
        );
        check(
            &with(json!({"type": "Slow"})),
            &[
                "spec.strategy: Unsupported value: {\"type\":\"Slow\"}: supported values: \"Recreate\", \"RollingUpdate\"",
            ],
        );
        check(
            &with(json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}})),
            &[
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
            ],
        );
        check(
            &with(json!({"rollingUpdate": {"maxSurge": -1, "maxUnavailable": "101%"}})),
            &[
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ],
        );
        check(
            &with(json!({"rollingUpdate": {"maxSurge": "x", "maxUnavailable": 1}})),
            &[
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be",
            ],
        );
    }

    #[test]
    fn the_deadline_leaves_time_to_become_ready() {
        check(
            &deployment().with(json!({"spec": {"minReadySeconds": 5, "progressDeadlineSeconds": 5, "revisionHistoryLimit": -1}})),
            &[
                "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
            ],
        );
    }

    #[test]
    fn updates() {
        check_update(&deployment(), &deployment().with(json!({"spec": {"replicas": 3}})), &[]);
        check_update(
            &deployment(),
            &deployment()
                .with(json!({"spec": {"selector": {"matchLabels": {"app": "web", "x": "y"}}}})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable",
            ],
        );
        let old = deployment().with(json!({"status": {"collisionCount": 2}}));
        check_status_update(
            &old,
            &old.with(
                json!({"status": {"collisionCount": 1, "replicas": 1, "updatedReplicas": 2}}),
            ),
            &[
                "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.collisionCount: Invalid value: 1: cannot be decremented",
            ],
        );
    }

    #[test]
    fn annotations_begin_a_generation_and_labels_do_not() {
        let old = deployment().created();
        let annotated =
            deployment().with(json!({"metadata": {"annotations": {"a": "b"}}})).created();
        let labelled = deployment().with(json!({"metadata": {"labels": {"a": "b"}}})).created();
        assert!(annotated.is_new_generation(&*old));
        assert!(!labelled.is_new_generation(&*old));
    }
}
