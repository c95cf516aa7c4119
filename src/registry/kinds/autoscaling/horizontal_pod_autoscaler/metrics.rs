//! What is wrong with the metrics of an autoscaler: upstream `validateMetricSpec`
//! (pkg/apis/autoscaling/validation, v1.35).

use super::validate_reference;
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{invalid, one_of, to_value};
use k8s_openapi::api::autoscaling::v2::{MetricIdentifier, MetricSpec, MetricTarget};

const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const NO_AVERAGE: &str = "must set either a target raw value or a target utilization";
const TWO_AVERAGES: &str = "may not set both a target raw value and a target utilization";

pub(super) fn validate(metric: &MetricSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if metric.type_.is_empty() {
        let detail = "must specify a metric source type";
        errors.push(FieldError::required(&path.child("type"), detail));
    }
    errors.extend(one_of(&path.child("type"), &metric.type_, TYPES));
    let sources = [
        ("object", "Object", validate_object(metric, path)),
        ("external", "External", validate_external(metric, path)),
        ("pods", "Pods", validate_pods(metric, path)),
        ("resource", "Resource", validate_resource(metric, path)),
        ("containerResource", "ContainerResource", validate_container(metric, path)),
    ];
    let present = sources.iter().filter(|(_, _, found)| found.is_some()).count();
    for (field, kind, found) in sources {
        let is_meant = metric.type_ == kind;
        match found {
            None if is_meant => {
                let detail = "must populate information for the given metric source";
                errors.push(FieldError::required(&path.child(field), detail));
            }
            Some(_) if !is_meant && present > 1 => {
                let detail = "must populate the given metric source only";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
            found => errors.extend(found.into_iter().flatten()),
        }
    }
    errors
}

fn validate_object(metric: &MetricSpec, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = metric.object.as_ref()?;
    let path = path.child("object");
    let mut errors = validate_reference(&source.described_object, &path.child("describedObject"));
    errors.extend(validate_identifier(&source.metric, &path.child("metric")));
    errors.extend(validate_target(&source.target, &path.child("target")));
    if source.target.value.is_none() && source.target.average_value.is_none() {
        let path = path.child("target").child("averageValue");
        let detail = "must set either a target value or averageValue";
        errors.push(FieldError::required(&path, detail));
    }
    Some(errors)
}

fn validate_external(metric: &MetricSpec, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = metric.external.as_ref()?;
    let path = path.child("external");
    let mut errors = validate_identifier(&source.metric, &path.child("metric"));
    let target_path = path.child("target");
    errors.extend(validate_target(&source.target, &target_path));
    match (&source.target.value, &source.target.average_value) {
        (None, None) => {
            let detail = "must set either a target value for metric or a per-pod target";
            errors.push(FieldError::required(&target_path.child("averageValue"), detail));
        }
        (Some(_), Some(_)) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(&target_path.child("value"), detail));
        }
        _ => {}
    }
    Some(errors)
}

fn validate_pods(metric: &MetricSpec, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = metric.pods.as_ref()?;
    let path = path.child("pods");
    let mut errors = validate_identifier(&source.metric, &path.child("metric"));
    errors.extend(validate_target(&source.target, &path.child("target")));
    if source.target.average_value.is_none() {
        let path = path.child("target").child("averageValue");
        let detail = "must specify a positive target averageValue";
        errors.push(FieldError::required(&path, detail));
    }
    Some(errors)
}

fn validate_resource(metric: &MetricSpec, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = metric.resource.as_ref()?;
    let path = path.child("resource");
    let mut errors: Vec<_> = validate_resource_name(&source.name, &path).into_iter().collect();
    errors.extend(validate_average(&source.target, &path.child("target")));
    Some(errors)
}

fn validate_container(metric: &MetricSpec, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = metric.container_resource.as_ref()?;
    let path = path.child("containerResource");
    let mut errors: Vec<_> = validate_resource_name(&source.name, &path).into_iter().collect();
    let container_path = path.child("container");
    if source.container.is_empty() {
        errors.push(FieldError::required(&container_path, "must specify a container"));
    } else {
        let problems = names::dns1123_label(&source.container);
        errors.extend(invalid(&container_path, &source.container, problems));
    }
    errors.extend(validate_average(&source.target, &path.child("target")));
    Some(errors)
}

fn validate_resource_name(name: &str, path: &FieldPath) -> Option<FieldError> {
    let detail = "must specify a resource name";
    name.is_empty().then(|| FieldError::required(&path.child("name"), detail))
}

/// One average, of the one sort or the other.
fn validate_average(target: &MetricTarget, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_target(target, path);
    match (target.average_utilization, &target.average_value) {
        (None, None) => {
            errors.push(FieldError::required(&path.child("averageUtilization"), NO_AVERAGE));
        }
        (Some(_), Some(_)) => {
            errors.push(FieldError::forbidden(&path.child("averageValue"), TWO_AVERAGES));
        }
        _ => {}
    }
    errors
}

fn validate_target(target: &MetricTarget, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let type_path = path.child("type");
    if target.type_.is_empty() {
        errors.push(FieldError::required(&type_path, "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&target.type_.as_str()) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&type_path, target.type_.as_str(), detail));
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        let amount = value.as_ref().map(Quantity::of);
        if amount.is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            let detail = "must be positive";
            errors.push(FieldError::invalid(&path.child(field), to_value(value), detail));
        }
    }
    if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
        let path = path.child("averageUtilization");
        errors.push(FieldError::invalid(&path, percent, "must be greater than 0"));
    }
    errors
}

fn validate_identifier(metric: &MetricIdentifier, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("name");
    if metric.name.is_empty() {
        return vec![FieldError::required(&path, "must specify a metric name")];
    }
    invalid(&path, &metric.name, names::path_segment(&metric.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(metric: Value, expected: &[&str]) {
        let metric: MetricSpec = serde_json::from_value(metric).unwrap();
        let errors = validate(&metric, &FieldPath::new("m"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn a_metric_has_one_source_and_one_target() {
        let cpu = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        check(cpu(json!({"type": "Utilization", "averageUtilization": 50})), &[]);
        check(cpu(json!({"type": "AverageValue", "averageValue": "200m"})), &[]);
        check(
            cpu(json!({"type": "Utilization"})),
            &["m.resource.target.averageUtilization: Required"],
        );
        check(
            cpu(json!({"type": "None", "averageUtilization": 0, "averageValue": "0"})),
            &[
                "m.resource.target.type: Invalid value: \"None\"",
                "m.resource.target.averageValue: Invalid value",
                "m.resource.target.averageUtilization: Invalid value: 0",
                "m.resource.target.averageValue: Forbidden",
            ],
        );
        check(json!({"type": "Pods"}), &["m.pods: Required"]);
        let mut two = cpu(json!({"type": "Utilization", "averageUtilization": 50}));
        two["pods"] = json!({"metric": {"name": "x"}, "target": {"type": "Value"}});
        check(two, &["m.pods: Forbidden"]);
        check(
            json!({"type": "ContainerResource", "containerResource":
                {"name": "", "container": "", "target": {"type": "Utilization", "averageUtilization": 5}}}),
            &["m.containerResource.name: Required", "m.containerResource.container: Required"],
        );
        check(
            json!({"type": "External", "external": {"metric": {"name": ""}, "target":
                {"type": "Value", "value": "1", "averageValue": "1"}}}),
            &["m.external.metric.name: Required", "m.external.target.value: Forbidden"],
        );
    }
}
