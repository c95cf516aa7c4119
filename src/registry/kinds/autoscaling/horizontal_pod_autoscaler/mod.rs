//! HorizontalPodAutoscalers: how many replicas a workload has, by what its pods use.
//!
//! Version 2 is stored; version 1 is shown of it ([`v1`]). Follows upstream
//! pkg/registry/autoscaling/horizontalpodautoscaler, pkg/apis/autoscaling/v2/defaults.go and
//! pkg/apis/autoscaling/validation (v1.35).

mod columns;
mod metrics;
mod v1;

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, not_negative, one_of, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{ALL, BuiltIn, Column, Halves, KindFacts, Resource, Subresource, halves};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget, ResourceMetricSource,
};
use serde_json::Value;
use std::borrow::Cow;

const MIN_REPLICAS: i32 = 1;
/// The utilization of CPU that is aimed at where no metric is given.
const CPU_PERCENT: i32 = 80;
/// Rules may look back this far, in seconds.
const STABILIZATION_SECONDS_MAX: i32 = 3_600;
const PERIOD_SECONDS_MAX: i32 = 1_800;
const SCALING_PERIOD_SECONDS: i32 = 15;
const SCALE_UP_PODS: i32 = 4;
const SCALING_PERCENT: i32 = 100;
const SELECT_POLICIES: &[&str] = &["Disabled", "Max", "Min"];
const POLICY_TYPES: &[&str] = &["Percent", "Pods"];

/// What both versions have in common.
const BUILT_IN: BuiltIn = BuiltIn {
    singular: "horizontalpodautoscaler",
    short_names: &[Cow::Borrowed("hpa")],
    categories: ALL,
    subresources: &[Subresource::STATUS],
    ..BuiltIn::NAMESPACED
};

impl Resource for HorizontalPodAutoscaler {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BUILT_IN);
    const SCHEMA: TypeRef = types::HORIZONTAL_POD_AUTOSCALER;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = columns::COLUMNS;

    fn apply_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        spec.min_replicas.get_or_insert(MIN_REPLICAS);
        if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
            spec.metrics = Some(vec![cpu_utilization(CPU_PERCENT)]);
        }
        if let Some(behavior) = &mut spec.behavior {
            let pods = policy("Pods", SCALE_UP_PODS);
            let percent = || policy("Percent", SCALING_PERCENT);
            default_rules(behavior.scale_up.get_or_insert_default(), vec![pods, percent()]);
            default_rules(behavior.scale_down.get_or_insert_default(), vec![percent()]);
            let scale_up = behavior.scale_up.get_or_insert_default();
            scale_up.stabilization_window_seconds.get_or_insert(0);
        }
        self.status.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        validate_spec(&spec, &FieldPath::new("spec"))
    }

    fn validate_create(&self) -> Vec<FieldError> {
        validate_group(self.spec.as_ref()).into_iter().collect()
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let target = |one: &Self| {
            let target = one.spec.as_ref().map(|spec| &spec.scale_target_ref);
            target.map(|target| (target.kind.clone(), target.api_version.clone()))
        };
        let is_same = target(self) == target(old);
        validate_group(self.spec.as_ref()).filter(|_| !is_same).into_iter().collect()
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let status = self.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let desired = not_negative(&path.child("desiredReplicas"), Some(status.desired_replicas));
        let current = not_negative(&path.child("currentReplicas"), status.current_replicas);
        current.into_iter().chain(desired).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        columns::row(self, now)
    }
}

/// This share of what the pods ask for.
fn cpu_utilization(percent: i32) -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(percent),
        ..MetricTarget::default()
    };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..MetricSpec::default()
    }
}

fn policy(kind: &str, value: i32) -> HPAScalingPolicy {
    HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: SCALING_PERIOD_SECONDS }
}

fn default_rules(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    rules.select_policy.get_or_insert_with(|| "Max".to_owned());
    rules.policies.get_or_insert(policies);
}

fn validate_spec(spec: &HorizontalPodAutoscalerSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (min, max) = (spec.min_replicas, spec.max_replicas);
    if let Some(min) = min.filter(|min| *min < MIN_REPLICAS) {
        let detail = format!("must be greater than or equal to {MIN_REPLICAS}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, detail));
    }
    let max_path = path.child("maxReplicas");
    if max < 1 {
        errors.push(FieldError::invalid(&max_path, max, "must be greater than 0"));
    }
    if min.is_some_and(|min| max < min) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&max_path, max, detail));
    }
    errors.extend(validate_reference(&spec.scale_target_ref, &path.child("scaleTargetRef")));
    for (index, metric) in spec.metrics.iter().flatten().enumerate() {
        errors.extend(metrics::validate(metric, &path.child("metrics").index(index)));
    }
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)]
        {
            let path = path.child(field);
            errors.extend(rules.iter().flat_map(|rules| validate_rules(rules, &path)));
        }
    }
    errors
}

/// Upstream `ValidateCrossVersionObjectReference`.
fn validate_reference(
    reference: &CrossVersionObjectReference,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, value) in [("kind", &reference.kind), ("name", &reference.name)] {
        let path = path.child(field);
        if value.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            errors.extend(invalid(&path, value, names::path_segment(value)));
        }
    }
    let version = reference.api_version.as_deref().unwrap_or_default();
    if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&path.child("apiVersion"), version, detail));
    }
    errors
}

/// What is scaled is of a group, but for what only the core has (upstream
/// `validationOptionsForHorizontalPodAutoscaler`).
fn validate_group(spec: Option<&HorizontalPodAutoscalerSpec>) -> Option<FieldError> {
    let target = &spec?.scale_target_ref;
    let version = target.api_version.as_deref().unwrap_or_default();
    let has_group = version.contains('/') && !version.starts_with('/');
    let path = FieldPath::new("spec").child("scaleTargetRef").child("apiVersion");
    let detail = "apiVersion must specify API group";
    (!has_group && target.kind != "ReplicationController")
        .then(|| FieldError::invalid(&path, version, detail))
}

fn validate_rules(rules: &HPAScalingRules, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let window_path = path.child("stabilizationWindowSeconds");
    match rules.stabilization_window_seconds {
        Some(window) if window < 0 => {
            let detail = "must be greater than or equal to zero";
            errors.push(FieldError::invalid(&window_path, window, detail));
        }
        Some(window) if window > STABILIZATION_SECONDS_MAX => {
            let detail = format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}");
            errors.push(FieldError::invalid(&window_path, window, detail));
        }
        _ => {}
    }
    if let Some(select) = rules.select_policy.as_deref() {
        errors.extend(one_of(&path.child("selectPolicy"), select, SELECT_POLICIES));
    }
    let policies = rules.policies.as_deref().unwrap_or_default();
    let policies_path = path.child("policies");
    if policies.is_empty() {
        errors.push(FieldError::required(&policies_path, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        errors.extend(validate_policy(policy, &policies_path.index(index)));
    }
    if let Some(tolerance) = &rules.tolerance
        && crate::api::Quantity::of(tolerance).is_negative()
    {
        let detail = "must be greater than or equal to 0";
        let path = path.child("tolerance");
        errors.push(FieldError::invalid(&path, to_value(tolerance), detail));
    }
    errors
}

fn validate_policy(policy: &HPAScalingPolicy, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        one_of(&path.child("type"), &policy.type_, POLICY_TYPES).into_iter().collect();
    let period = policy.period_seconds;
    for (field, value) in [("value", policy.value), ("periodSeconds", period)] {
        if value <= 0 {
            let detail = "must be greater than zero";
            errors.push(FieldError::invalid(&path.child(field), value, detail));
        }
    }
    if period > PERIOD_SECONDS_MAX {
        let detail = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
        errors.push(FieldError::invalid(&path.child("periodSeconds"), period, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn autoscaler(spec: Value) -> Case {
        let case = Case::of(
            "horizontalpodautoscalers",
            json!({"metadata": {"name": "web", "namespace": "n"}, "spec": {"maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
        );
        case.with(json!({"spec": spec}))
    }

    #[test]
    fn an_autoscaler_has_bounds_a_target_and_metrics() {
        check(&autoscaler(json!({})), &[]);
        let defaulted = autoscaler(json!({"behavior": {}})).decode().to_value();
        assert_eq!(defaulted["spec"]["minReplicas"], 1);
        assert_eq!(
            defaulted["spec"]["metrics"][0]["resource"],
            json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}})
        );
        let up = &defaulted["spec"]["behavior"]["scaleUp"];
        assert_eq!(up["stabilizationWindowSeconds"], 0);
        assert_eq!(up["policies"].as_array().unwrap().len(), 2);
        let down = &defaulted["spec"]["behavior"]["scaleDown"];
        assert_eq!(
            *down,
            json!({"selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]})
        );
        check(
            &autoscaler(
                json!({"minReplicas": 0, "maxReplicas": 0, "scaleTargetRef": {"name": "a/b",
                "kind": "", "apiVersion": "a/b/c"}}),
            ),
            &[
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Invalid value: 0: must be greater than 0",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Invalid value: \"a/b\"",
                "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\"",
            ],
        );
        check(
            &autoscaler(json!({"minReplicas": 5})),
            &["spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"],
        );
    }

    #[test]
    fn what_is_scaled_is_of_a_group() {
        let target = |kind: &str, version: &str| {
            let target = json!({"kind": kind, "apiVersion": version});
            autoscaler(json!({"scaleTargetRef": target}))
        };
        let without = target("Deployment", "v1");
        let expected = ["spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must"];
        check(&without, &expected);
        check(&target("ReplicationController", "v1"), &[]);
        // What was stored before is not judged anew, unless it changes.
        check_update(&without, &without.with(json!({"spec": {"maxReplicas": 9}})), &[]);
        check_update(&target("Deployment", "apps/v1"), &without, &expected);
    }

    #[test]
    fn rules_for_scaling() {
        check(
            &autoscaler(json!({"behavior": {"scaleUp": {"selectPolicy": "Most",
                "stabilizationWindowSeconds": 3601, "policies": [
                    {"type": "Some", "value": 0, "periodSeconds": 1801}]},
                "scaleDown": {"policies": [], "stabilizationWindowSeconds": -1}}})),
            &[
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
                "spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Most\"",
                "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Some\"",
                "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
                "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
                "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
            ],
        );
    }
}
