//! Autoscalers as rows: upstream `printHorizontalPodAutoscaler` (pkg/printers/internalversion,
//! v1.35).

use crate::registry::{Column, cells};
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
};
use serde_json::Value;

/// More metrics than this are only counted.
const METRICS_SHOWN_MAX: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("Reference", "What is scaled."),
    Column::text("Targets", "What is measured, and what is aimed at."),
    Column::text("MinPods", "The least number of pods."),
    Column::text("MaxPods", "The greatest number of pods."),
    Column::text("Replicas", "The number of pods now."),
    Column::AGE,
];

pub(super) fn row(autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Vec<Value> {
    let spec = autoscaler.spec.clone().unwrap_or_default();
    let status = autoscaler.status.clone().unwrap_or_default();
    let target = &spec.scale_target_ref;
    let min = spec.min_replicas.map_or_else(|| "<unset>".to_owned(), |min| min.to_string());
    let measured = status.current_metrics.as_deref().unwrap_or_default();
    vec![
        cells::name(&autoscaler.metadata),
        format!("{}/{}", target.kind, target.name).into(),
        metrics(spec.metrics.as_deref().unwrap_or_default(), measured).into(),
        min.into(),
        spec.max_replicas.into(),
        status.current_replicas.unwrap_or_default().into(),
        cells::age(&autoscaler.metadata, now),
    ]
}

fn metrics(specs: &[MetricSpec], statuses: &[MetricStatus]) -> String {
    if specs.is_empty() {
        return "<none>".to_owned();
    }
    let shown = specs.iter().enumerate().take(METRICS_SHOWN_MAX);
    let shown: Vec<_> = shown.map(|(index, spec)| metric(spec, statuses.get(index))).collect();
    let mut text = shown.join(", ");
    if specs.len() > METRICS_SHOWN_MAX {
        text += &format!(" + {} more...", specs.len() - METRICS_SHOWN_MAX);
    }
    text
}

fn metric(spec: &MetricSpec, status: Option<&MetricStatus>) -> String {
    if let Some(source) = &spec.resource {
        let current = status.and_then(|status| status.resource.as_ref()).map(|it| &it.current);
        return average(&source.name, &source.target, current);
    }
    if let Some(source) = &spec.container_resource {
        let current =
            status.and_then(|status| status.container_resource.as_ref()).map(|it| &it.current);
        return average(&source.name, &source.target, current);
    }
    let (target, current) = if let Some(source) = &spec.pods {
        (&source.target, status.and_then(|it| it.pods.as_ref()).map(|it| &it.current))
    } else if let Some(source) = &spec.object {
        (&source.target, status.and_then(|it| it.object.as_ref()).map(|it| &it.current))
    } else if let Some(source) = &spec.external {
        (&source.target, status.and_then(|it| it.external.as_ref()).map(|it| &it.current))
    } else {
        return "<unknown type>".to_owned();
    };
    match (&target.average_value, &target.value) {
        (Some(wanted), _) => {
            let now = current.and_then(|current| current.average_value.as_ref());
            format!("{}/{} (avg)", now.map_or(UNKNOWN, |now| &now.0), wanted.0)
        }
        (None, Some(wanted)) => {
            let now = current.and_then(|current| current.value.as_ref());
            format!("{}/{}", now.map_or(UNKNOWN, |now| &now.0), wanted.0)
        }
        (None, None) => format!("{UNKNOWN}/<auto>"),
    }
}

fn average(name: &str, target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    if let Some(wanted) = &target.average_value {
        let now = current.and_then(|current| current.average_value.as_ref());
        return format!("{name}: {}/{}", now.map_or(UNKNOWN, |now| &now.0), wanted.0);
    }
    let now = current.and_then(|current| current.average_utilization);
    let now = now.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent}%"));
    let wanted =
        target.average_utilization.map_or_else(|| "<auto>".to_owned(), |it| format!("{it}%"));
    format!("{name}: {now}/{wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(specs: Value, statuses: Value, expected: &str) {
        let specs: Vec<MetricSpec> = serde_json::from_value(specs).unwrap();
        let statuses: Vec<MetricStatus> = serde_json::from_value(statuses).unwrap();
        assert_eq!(metrics(&specs, &statuses), expected);
    }

    #[test]
    fn targets_are_told_with_what_is_measured() {
        let percent = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}});
        let amount = json!({"type": "Resource", "resource": {"name": "memory",
            "target": {"type": "AverageValue", "averageValue": "100Mi"}}});
        check(json!([]), json!([]), "<none>");
        check(json!([percent]), json!([]), "cpu: <unknown>/80%");
        let measured = json!([{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 12, "averageValue": "5m"}}}]);
        check(json!([percent, amount]), measured.clone(), "cpu: 12%/80%, memory: <unknown>/100Mi");
        check(
            json!([percent, amount, percent]),
            measured,
            "cpu: 12%/80%, memory: <unknown>/100Mi + 1 more...",
        );
    }
}
