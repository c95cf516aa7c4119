//! DaemonSets: one pod of a template on every node that fits.
//!
//! Follows upstream pkg/registry/apps/daemonset and `ValidateDaemonSet` (pkg/apis/apps/validation,
//! v1.35). The template's generation that upstream keeps is no field of `apps/v1`: there it lives
//! in an annotation, which is kept here in the same way.

use super::share::{number, validate_share, validate_whole};
use super::validate_counts;
use super::validate_same_selector;
use super::{
    container_cells, is_empty, podspec, validate_collisions, validate_match, validate_runs_forever,
};
use crate::api::labels::Selector;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{label_selector, not_negative, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{
    ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves,
};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;

const ROLLING_UPDATE: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
const REVISION_HISTORY_LIMIT: i32 = 10;
/// Counts the templates there have been (upstream `DeprecatedTemplateGeneration`).
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Resource for DaemonSet {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "daemonset",
        short_names: &[Cow::Borrowed("ds")],
        categories: ALL,
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::DAEMON_SET;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::integer("Desired", "Number of nodes that should run the pod."),
        Column::integer("Current", "Number of nodes that should run the pod and do."),
        Column::integer("Ready", "Number of nodes whose pod is ready."),
        Column::integer("Up-to-date", "Number of nodes whose pod is of the current template."),
        Column::integer("Available", "Number of nodes whose pod has been ready for long enough."),
        Column::text("Node Selector", "Labels of the nodes that run the pod."),
        Column::AGE,
        Column::wide("Containers", "Names of the template's containers."),
        Column::wide("Images", "Images of the template's containers."),
        Column::wide("Selector", "Labels of the pods that count."),
    ];

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_strategy(spec.update_strategy.get_or_insert_default());
        spec.revision_history_limit.get_or_insert(REVISION_HISTORY_LIMIT);
        spec.min_ready_seconds.take_if(|seconds| *seconds == 0);
        podspec::apply_template_defaults(&mut spec.template);
        self.status.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        let given = template_generation(self).unwrap_or_default();
        set_template_generation(self, given.max(1));
    }

    fn prepare_update(&mut self, old: &Self) {
        let before = template_generation(old).unwrap_or_default();
        let template = |set: &Self| set.spec.as_ref().map(|spec| spec.template.clone());
        let is_new = template(self) != template(old);
        set_template_generation(self, before + i64::from(is_new));
    }

    fn prepare_status_update(&mut self, old: &Self) {
        set_template_generation(self, template_generation(old).unwrap_or_default());
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = validate_selector(&spec, &path);
        let template_path = path.child("template");
        errors.extend(podspec::validate_template(&spec.template, &template_path));
        let pod_path = template_path.child("spec");
        errors.extend(validate_runs_forever("DaemonSet", &spec.template, &pod_path));
        errors.extend(not_negative(&path.child("minReadySeconds"), spec.min_ready_seconds));
        let strategy = spec.update_strategy.unwrap_or_default();
        errors.extend(validate_strategy(&strategy, &path.child("updateStrategy")));
        let limit = spec.revision_history_limit;
        errors.extend(not_negative(&path.child("revisionHistoryLimit"), limit));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let selector = |set: &Self| set.spec.as_ref().map(|spec| spec.selector.clone());
        validate_same_selector(selector(self), selector(old)).into_iter().collect()
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.status.as_ref().map(validate_status).unwrap_or_default();
        let collisions = |set: &Self| set.status.as_ref().and_then(|status| status.collision_count);
        errors.extend(validate_collisions(collisions(self), collisions(old)));
        errors
    }

    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let template = self.spec.as_ref().map(|spec| &spec.template);
        let old = old.map(|old| &old.metadata);
        podspec::workload_warnings(
            (&self.metadata, old),
            template,
            &FieldPath::new("spec").child("template"),
        )
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        let (names, images) = container_cells(Some(&spec.template));
        let nodes = spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        vec![
            cells::name(&self.metadata),
            status.desired_number_scheduled.into(),
            status.current_number_scheduled.into(),
            status.number_ready.into(),
            status.updated_number_scheduled.unwrap_or_default().into(),
            status.number_available.unwrap_or_default().into(),
            cells::labels(nodes).into(),
            cells::age(&self.metadata, now),
            names.into(),
            images.into(),
            cells::selector(Some(&spec.selector)),
        ]
    }
}

fn template_generation(set: &DaemonSet) -> Option<i64> {
    set.metadata.annotations.as_ref()?.get(TEMPLATE_GENERATION)?.parse().ok()
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn default_strategy(strategy: &mut DaemonSetUpdateStrategy) {
    strategy.type_.take_if(|kind| kind.is_empty());
    let kind = strategy.type_.get_or_insert_with(|| ROLLING_UPDATE.to_owned());
    if kind == ROLLING_UPDATE {
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
        rolling.max_surge.get_or_insert(IntOrString::Int(0));
    }
}

fn validate_selector(spec: &DaemonSetSpec, path: &FieldPath) -> Vec<FieldError> {
    let (selector, selector_path) = (&spec.selector, path.child("selector"));
    let mut errors = label_selector(selector, &selector_path);
    let is_empty = is_empty(selector);
    if let Ok(parsed) = Selector::of_object(Some(selector)) {
        errors.extend(validate_match(&parsed, &spec.template, &path.child("template")));
    }
    if is_empty {
        let detail = "empty selector is invalid for daemonset";
        errors.push(FieldError::invalid(&selector_path, to_value(selector), detail));
    }
    errors
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, path: &FieldPath) -> Vec<FieldError> {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        (ON_DELETE, _) => Vec::new(),
        (ROLLING_UPDATE, Some(rolling)) => validate_rolling_update(rolling, &rolling_path),
        (ROLLING_UPDATE, None) => vec![FieldError::required(&rolling_path, "")],
        _ => {
            let allowed = &[ON_DELETE, ROLLING_UPDATE];
            vec![FieldError::not_supported(path, to_value(strategy), allowed)]
        }
    }
}

fn validate_rolling_update(rolling: &RollingUpdateDaemonSet, path: &FieldPath) -> Vec<FieldError> {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    let mut errors = validate_share(unavailable, &unavailable_path);
    errors.extend(validate_share(surge, &surge_path));
    errors.extend(validate_whole(unavailable, &unavailable_path));
    errors.extend(validate_whole(surge, &surge_path));
    match (number(unavailable) != 0, number(surge) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_path, to_value(surge), detail));
        }
        (false, false) => {
            let detail = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::required(&unavailable_path, detail));
        }
        _ => {}
    }
    errors
}

fn validate_status(status: &DaemonSetStatus) -> Vec<FieldError> {
    validate_counts(&[
        ("currentNumberScheduled", Some(i64::from(status.current_number_scheduled))),
        ("numberMisscheduled", Some(i64::from(status.number_misscheduled))),
        ("desiredNumberScheduled", Some(i64::from(status.desired_number_scheduled))),
        ("numberReady", Some(i64::from(status.number_ready))),
        ("observedGeneration", status.observed_generation),
        ("updatedNumberScheduled", status.updated_number_scheduled.map(i64::from)),
        ("numberAvailable", status.number_available.map(i64::from)),
        ("numberUnavailable", status.number_unavailable.map(i64::from)),
        ("collisionCount", status.collision_count.map(i64::from)),
    ])
}

#[cfg(test)]
mod tests {
    use super::TEMPLATE_GENERATION;
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn daemon_set() -> Case {
        Case::of(
            "daemonsets",
            json!({
                "metadata": {"name": "agent", "namespace": "default"},
                "spec": {
                    "selector": {"matchLabels": {"app": "agent"}},
                    "template": {
                        "metadata": {"labels": {"app": "agent"}},
                        "spec": {"containers": [{"name": "c", "image": "i"}]},
                    },
                },
            }),
        )
    }

    fn with_strategy(strategy: Value) -> Case {
        daemon_set().with(json!({"spec": {"updateStrategy": strategy}}))
    }

    #[test]
    fn defaults_are_upstreams() {
        let spec = daemon_set().created().to_value()["spec"].clone();
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
        );
        assert_eq!(spec["revisionHistoryLimit"], 10);
        check(&daemon_set(), &[]);
    }

    #[test]
    fn selector_and_template_go_together() {
        check(
            &daemon_set().with(json!({"spec": {"selector": {"matchLabels": null}}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
        );
        check(
            &daemon_set().with(json!({"spec": {
                "selector": {"matchLabels": {"app": "x"}},
                "minReadySeconds": -1,
                "template": {"spec": {"restartPolicy": "Never", "activeDeadlineSeconds": 1}},
            }})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"agent\"}: `selector` does not match template `labels`",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
                "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        );
    }

    #[test]
    fn surge_or_unavailable_but_not_both() {
        let path = "spec.updateStrategy";
        let rolling = |unavailable: Value, surge: Value| {
            with_strategy(
                json!({"rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}),
            )
        };
        check(&rolling(json!("20%"), json!(0)), &[]);
        check(&rolling(json!(0), json!("100%")), &[]);
        check(&with_strategy(json!({"type": "OnDelete"})), &[]);
        check(
            &rolling(json!(1), json!(1)),
            &[&format!(
                "{path}.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
            )],
        );
        check(
            &rolling(json!(0), json!("0%")),
            &[&format!(
                "{path}.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"
            )],
        );
        check(
            &rolling(json!("101%"), json!(0)),
            &[&format!(
                "{path}.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"
            )],
        );
        check(
            &with_strategy(json!({"type": "Never"})),
            &["spec.updateStrategy: Unsupported value: {\"type\":\"Never\"}"],
        );
    }

    #[test]
    fn updates() {
        check_update(
            &daemon_set(),
            &daemon_set().with(json!({"spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"metadata": {"labels": {"a": "b"}}},
            }})),
            &["spec.selector: Invalid value: {\"matchLabels\":{"],
        );
        let old = daemon_set().with(json!({"status": {
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0,
            "numberReady": 0, "collisionCount": 1,
        }}));
        check_status_update(
            &old,
            &old.with(json!({"status": {"collisionCount": 0, "numberReady": -1}})),
            &[
                "status.numberReady: Invalid value: -1: must be greater",
                "status.collisionCount: Invalid value: 0: cannot be decremented",
            ],
        );
    }

    #[test]
    fn templates_are_counted() {
        let generation = |object: &dyn crate::registry::Object| {
            object.metadata().annotations.as_ref().unwrap()[TEMPLATE_GENERATION].clone()
        };
        let old = daemon_set().created();
        assert_eq!(generation(&*old), "1");
        for (change, expected) in [
            (json!({"spec": {"minReadySeconds": 5}}), "1"),
            (json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}), "2"),
        ] {
            let mut new = daemon_set().with(change).decode();
            new.prepare_update(&*old);
            assert_eq!(generation(&*new), expected);
        }
    }
}
