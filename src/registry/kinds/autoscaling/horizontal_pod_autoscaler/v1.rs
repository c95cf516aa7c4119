//! Version 1 of autoscalers: what knows CPU utilization only. Everything else that the stored version
//! says is in annotations here, so that nothing is lost on the way through.
//!
//! Follows upstream pkg/apis/autoscaling/v1/conversion.go (v1.35), annotations included.

use super::{BUILT_IN, columns, cpu_utilization};
use crate::api::FieldError;
use crate::registry::schema::{TypeRef, types};
use crate::registry::{Column, Halves, KindFacts, Resource, Version, halves};
use crate::stdx::json;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
};
use k8s_openapi::api::autoscaling::v2;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

impl Resource for HorizontalPodAutoscaler {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BUILT_IN);
    const SCHEMA: TypeRef = types::HORIZONTAL_POD_AUTOSCALER_AUTOSCALING_V1;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = columns::COLUMNS;

    fn apply_defaults(&mut self) {
        self.spec.get_or_insert_default().min_replicas.get_or_insert(super::MIN_REPLICAS);
        self.status.get_or_insert_default();
    }

    fn prepare_update(&mut self, old: &Self) {
        keep_annotations(self, old, &[CURRENT_METRICS, CONDITIONS]);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        keep_annotations(self, old, &[METRICS, BEHAVIOR]);
    }

    fn validate(&self) -> Vec<FieldError> {
        Resource::validate(&self.clone().into_stored())
    }

    fn validate_create(&self) -> Vec<FieldError> {
        Resource::validate_create(&self.clone().into_stored())
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let old = old.clone().into_stored();
        Resource::validate_update(&self.clone().into_stored(), &old)
    }

    fn validate_status_update(&self, old: &Self) -> Vec<FieldError> {
        let old = old.clone().into_stored();
        Resource::validate_status_update(&self.clone().into_stored(), &old)
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        columns::row(&self.clone().into_stored(), now)
    }
}

/// What the other half of an update may not touch stays as it was.
fn keep_annotations(
    new: &mut HorizontalPodAutoscaler,
    old: &HorizontalPodAutoscaler,
    names: &[&str],
) {
    let was = old.metadata.annotations.clone().unwrap_or_default();
    let annotations = new.metadata.annotations.get_or_insert_default();
    for name in names {
        annotations.remove(*name);
        if let Some(value) = was.get(*name) {
            annotations.insert((*name).to_owned(), value.clone());
        }
    }
    new.metadata.annotations.take_if(|annotations| annotations.is_empty());
}

impl Version for HorizontalPodAutoscaler {
    type Stored = v2::HorizontalPodAutoscaler;

    fn of_stored(stored: v2::HorizontalPodAutoscaler) -> Self {
        let mut metadata = stored.metadata;
        let spec = stored.spec.unwrap_or_default();
        let status = stored.status.unwrap_or_default();
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR] {
            annotations.remove(name);
        }
        let metrics = spec.metrics.unwrap_or_default();
        let percent = metrics.iter().find_map(cpu_percent);
        let others: Vec<Value> = metrics
            .iter()
            .filter(|metric| cpu_percent(metric).is_none())
            .map(|metric| rename(metric, SPEC_FIELDS))
            .collect();
        let measured = status.current_metrics.unwrap_or_default();
        let current_percent = measured.iter().find_map(current_cpu_percent);
        let measured: Vec<Value> =
            measured.iter().map(|metric| rename(metric, STATUS_FIELDS)).collect();
        let conditions = status.conditions.unwrap_or_default();
        tell(&mut annotations, METRICS, &others, others.is_empty());
        tell(&mut annotations, CURRENT_METRICS, &measured, measured.is_empty());
        tell(&mut annotations, CONDITIONS, &conditions, conditions.is_empty());
        tell(&mut annotations, BEHAVIOR, &spec.behavior, spec.behavior.is_none());
        metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        let target = spec.scale_target_ref;
        Self {
            metadata,
            spec: Some(HorizontalPodAutoscalerSpec {
                max_replicas: spec.max_replicas,
                min_replicas: spec.min_replicas,
                scale_target_ref: CrossVersionObjectReference {
                    api_version: target.api_version,
                    kind: target.kind,
                    name: target.name,
                },
                target_cpu_utilization_percentage: percent,
            }),
            status: Some(HorizontalPodAutoscalerStatus {
                current_cpu_utilization_percentage: current_percent,
                current_replicas: status.current_replicas.unwrap_or_default(),
                desired_replicas: status.desired_replicas,
                last_scale_time: status.last_scale_time,
                observed_generation: status.observed_generation,
            }),
        }
    }

    fn into_stored(self) -> v2::HorizontalPodAutoscaler {
        let mut metadata = self.metadata;
        let spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        let others: Vec<Value> = take(&mut annotations, METRICS).unwrap_or_default();
        let mut metrics: Vec<v2::MetricSpec> =
            others.iter().filter_map(|metric| restore(metric, SPEC_FIELDS)).collect();
        metrics.extend(spec.target_cpu_utilization_percentage.map(cpu_utilization));
        let measured: Option<Vec<Value>> = take(&mut annotations, CURRENT_METRICS);
        let measured: Option<Vec<v2::MetricStatus>> = measured
            .map(|all| all.iter().filter_map(|metric| restore(metric, STATUS_FIELDS)).collect());
        let conditions = take(&mut annotations, CONDITIONS);
        let behavior = take(&mut annotations, BEHAVIOR);
        metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        let target = spec.scale_target_ref;
        v2::HorizontalPodAutoscaler {
            metadata,
            spec: Some(v2::HorizontalPodAutoscalerSpec {
                behavior,
                max_replicas: spec.max_replicas,
                metrics: (!metrics.is_empty()).then_some(metrics),
                min_replicas: spec.min_replicas,
                scale_target_ref: v2::CrossVersionObjectReference {
                    api_version: target.api_version,
                    kind: target.kind,
                    name: target.name,
                },
            }),
            status: Some(v2::HorizontalPodAutoscalerStatus {
                conditions,
                current_metrics: measured,
                current_replicas: Some(status.current_replicas).filter(|count| *count != 0),
                desired_replicas: status.desired_replicas,
                last_scale_time: status.last_scale_time,
                observed_generation: status.observed_generation,
            }),
        }
    }
}

fn cpu_percent(metric: &v2::MetricSpec) -> Option<i32> {
    let source = metric.resource.as_ref().filter(|source| source.name == "cpu")?;
    source.target.average_utilization
}

fn current_cpu_percent(metric: &v2::MetricStatus) -> Option<i32> {
    let source = metric.resource.as_ref().filter(|source| source.name == "cpu")?;
    source.current.average_utilization
}

fn tell(
    annotations: &mut BTreeMap<String, String>,
    name: &str,
    value: &impl Serialize,
    is_empty: bool,
) {
    if !is_empty {
        let text = String::from_utf8(json::to_vec(value)).expect("JSON is text");
        annotations.insert(name.to_owned(), text);
    }
}

/// Takes an annotation out; what cannot be read says nothing.
fn take<T: DeserializeOwned>(annotations: &mut BTreeMap<String, String>, name: &str) -> Option<T> {
    serde_json::from_slice(annotations.remove(name)?.as_bytes()).ok()
}

/// A source of metrics, and where its fields are in each version: (version 1, version 2).
type SourceFields = (&'static str, &'static [(&'static str, &'static str)]);

const SPEC_FIELDS: &[SourceFields] = &[
    (
        "resource",
        &[
            ("name", "/name"),
            ("targetAverageUtilization", "/target/averageUtilization"),
            ("targetAverageValue", "/target/averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "/name"),
            ("container", "/container"),
            ("targetAverageUtilization", "/target/averageUtilization"),
            ("targetAverageValue", "/target/averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("targetAverageValue", "/target/averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("targetValue", "/target/value"),
            ("averageValue", "/target/averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("targetValue", "/target/value"),
            ("targetAverageValue", "/target/averageValue"),
        ],
    ),
];

const STATUS_FIELDS: &[SourceFields] = &[
    (
        "resource",
        &[
            ("name", "/name"),
            ("currentAverageUtilization", "/current/averageUtilization"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "/name"),
            ("container", "/container"),
            ("currentAverageUtilization", "/current/averageUtilization"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    ),
    (
        "object",
        &[
            ("target", "/describedObject"),
            ("metricName", "/metric/name"),
            ("selector", "/metric/selector"),
            ("currentValue", "/current/value"),
            ("averageValue", "/current/averageValue"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "/metric/name"),
            ("metricSelector", "/metric/selector"),
            ("currentValue", "/current/value"),
            ("currentAverageValue", "/current/averageValue"),
        ],
    ),
];

/// A metric of version 2 as version 1 has it.
fn rename(metric: &impl Serialize, sources: &[SourceFields]) -> Value {
    let metric = json::to_value(metric);
    let mut renamed = json!({"type": metric["type"]});
    for (source, fields) in sources {
        if let Some(from) = metric.get(source) {
            let found = fields.iter().filter_map(|(flat, nested)| {
                Some(((*flat).to_owned(), from.pointer(nested)?.clone()))
            });
            renamed[*source] = Value::Object(found.collect::<Map<_, _>>());
        }
    }
    renamed
}

/// A metric of version 1 as version 2 has it.
fn restore<T: DeserializeOwned>(metric: &Value, sources: &[SourceFields]) -> Option<T> {
    let mut restored = json!({"type": metric["type"]});
    for (source, fields) in sources {
        let Some(from) = metric.get(source) else { continue };
        let mut to = json!({});
        for (flat, nested) in *fields {
            let Some(value) = from.get(flat) else { continue };
            let mut place = &mut to;
            for part in nested.trim_start_matches('/').split('/') {
                place = &mut place[part];
            }
            *place = value.clone();
        }
        if let Some(target) = to.get_mut("target") {
            let has = |field: &str| target.get(field).is_some();
            let kind = match (has("averageUtilization"), has("value")) {
                (true, _) => "Utilization",
                (false, true) => "Value",
                (false, false) => "AverageValue",
            };
            target["type"] = json!(kind);
        }
        restored[*source] = to;
    }
    json::from_value(&restored).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> v2::HorizontalPodAutoscaler {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "annotations": {"mine": "x"}},
            "spec": {"minReplicas": 2, "maxReplicas": 9,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [
                    {"type": "Resource", "resource": {"name": "memory",
                        "target": {"type": "AverageValue", "averageValue": "100Mi"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu",
                        "container": "c", "target": {"type": "Utilization", "averageUtilization": 7}}},
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "Value", "value": "5"}}},
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 60}}},
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}},
            "status": {"currentReplicas": 3, "desiredReplicas": 4,
                "conditions": [{"type": "AbleToScale", "status": "True", "reason": "R"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 55, "averageValue": "5m"}}}]},
        }))
        .unwrap()
    }

    #[test]
    fn nothing_is_lost_on_the_way_through_version_1() {
        let shown = HorizontalPodAutoscaler::of_stored(stored());
        let spec = shown.spec.as_ref().unwrap();
        assert_eq!(spec.target_cpu_utilization_percentage, Some(60));
        let status = shown.status.as_ref().unwrap();
        assert_eq!(status.current_cpu_utilization_percentage, Some(55));
        let annotations = shown.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations["mine"], "x");
        let metrics: Value = serde_json::from_str(&annotations[METRICS]).unwrap();
        assert_eq!(
            metrics[0],
            json!({"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "100Mi"}})
        );
        assert_eq!(shown.into_stored(), stored());
    }

    #[test]
    fn a_plain_object_of_version_1_asks_for_cpu() {
        let plain = json!({"metadata": {"name": "web"}, "spec": {"maxReplicas": 2,
            "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        let plain: HorizontalPodAutoscaler = serde_json::from_value(plain).unwrap();
        let stored = plain.into_stored();
        let metrics = stored.spec.unwrap().metrics.unwrap();
        assert_eq!(metrics, [cpu_utilization(50)]);
    }
}
