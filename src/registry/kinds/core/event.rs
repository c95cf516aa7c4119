//! Events: what happened to an object.
//!
//! Follows upstream `legacyValidateEvent` (pkg/apis/core/validation/events.go, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, present, required};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::Value;
use std::borrow::Cow;

const WORD_BYTES_MAX: usize = 128;
const MESSAGE_BYTES_MAX: usize = 1024;

impl Resource for Event {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "event",
        short_names: &[Cow::Borrowed("ev")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::EVENT;
    const COLUMNS: &'static [Column] = &[
        Column::text("Last Seen", "Time since it happened last."),
        Column::text("Type", "Normal, or Warning."),
        Column::text("Reason", "What happened, in a word."),
        Column::text("Object", "What it happened to."),
        Column::wide("Subobject", "The part of the object that it happened to."),
        Column::wide("Source", "Who reports it."),
        Column::text("Message", "What happened."),
        Column::wide("First Seen", "Time since it happened first."),
        Column::wide("Count", "How often it happened."),
        Column::WIDE_NAME,
    ];
    const NAME_RULE: names::Rule = names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn validate(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = validate_namespace(self).into_iter().collect();
        if self.event_time.is_some() {
            errors.extend(validate_details(self));
        }
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let path = FieldPath::new("namespace");
        errors.extend(invalid(&path, namespace, names::dns1123_subdomain(namespace)));
        errors
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let object = &self.involved_object;
        let component = self.source.as_ref().and_then(|source| source.component.clone());
        let source = component.filter(|component| !component.is_empty());
        vec![
            ("involvedObject.kind", text(&object.kind)),
            ("involvedObject.namespace", text(&object.namespace)),
            ("involvedObject.name", text(&object.name)),
            ("involvedObject.uid", text(&object.uid)),
            ("involvedObject.apiVersion", text(&object.api_version)),
            ("involvedObject.resourceVersion", text(&object.resource_version)),
            ("involvedObject.fieldPath", text(&object.field_path)),
            ("reason", text(&self.reason)),
            ("reportingComponent", text(&self.reporting_component)),
            ("source", source.unwrap_or_else(|| text(&self.reporting_component))),
            ("type", text(&self.type_)),
        ]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let started = self.event_time.as_ref().map(|MicroTime(time)| Time(*time));
        let first = self.first_timestamp.clone().or(started);
        let series = self.series.as_ref();
        let observed = series.map(|series| series.last_observed_time.as_ref());
        let last = match observed {
            Some(observed) => observed.map(|MicroTime(time)| Time(*time)),
            None => self.last_timestamp.clone().or_else(|| first.clone()),
        };
        let count = match series {
            Some(series) => series.count.unwrap_or_default(),
            None => self.count.filter(|count| *count != 0).unwrap_or(1),
        };
        vec![
            cells::since(last.as_ref(), now).into(),
            text(&self.type_).into(),
            text(&self.reason).into(),
            object(self).into(),
            text(&self.involved_object.field_path).into(),
            source(self).into(),
            text(&self.message).trim().into(),
            cells::since(first.as_ref(), now).into(),
            count.into(),
            cells::name(&self.metadata),
        ]
    }
}

fn object(event: &Event) -> String {
    let kind = event.involved_object.kind.as_deref().unwrap_or_default().to_lowercase();
    match event.involved_object.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{kind}/{name}"),
        _ => kind,
    }
}

/// `component, instance` or one of them, in the older fields or the newer ones.
fn source(event: &Event) -> String {
    let old = event.source.clone().unwrap_or_default();
    let first = |old: Option<String>, new: &Option<String>| {
        old.filter(|text| !text.is_empty()).or_else(|| new.clone()).unwrap_or_default()
    };
    let component = first(old.component, &event.reporting_component);
    let instance = first(old.host, &event.reporting_instance);
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

/// An event is kept beside its object. Those of cluster-scoped objects are in `default`.
fn validate_namespace(event: &Event) -> Option<FieldError> {
    let own = event.metadata.namespace.as_deref().unwrap_or_default();
    let of_object = event.involved_object.namespace.as_deref().unwrap_or_default();
    let is_right = match (event.event_time.is_some(), of_object) {
        (false, "") => matches!(own, "" | "default"),
        (false, of_object) => own == of_object,
        (true, "") => matches!(own, "default" | "kube-system"),
        (true, _) => true,
    };
    let path = FieldPath::new("involvedObject").child("namespace");
    (!is_right).then(|| FieldError::invalid(&path, of_object, "does not match event.namespace"))
}

/// Events with a precise time come from newer clients, of whom more is asked.
fn validate_details(event: &Event) -> Vec<FieldError> {
    let controller = event.reporting_component.as_deref().unwrap_or_default();
    let path = FieldPath::new("reportingComponent");
    let mut errors = required(&path, controller, names::qualified_name);
    for (field, value) in [
        ("reportingInstance", &event.reporting_instance),
        ("action", &event.action),
        ("reason", &event.reason),
    ] {
        let path = FieldPath::new(field);
        errors.extend(present(&path, value.as_deref()));
        errors.extend(too_long(&path, value.as_deref(), WORD_BYTES_MAX));
    }
    let path = FieldPath::new("message");
    errors.extend(too_long(&path, event.message.as_deref(), MESSAGE_BYTES_MAX));
    errors
}

fn too_long(path: &FieldPath, value: Option<&str>, bytes_max: usize) -> Option<FieldError> {
    let detail = format!("can have at most {bytes_max} characters");
    let is_long = value.is_some_and(|value| value.len() > bytes_max);
    is_long.then(|| FieldError::invalid(path, "", detail))
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::json;

    fn event() -> Case {
        Case::of(
            "events",
            json!({
                "metadata": {"name": "web.17", "namespace": "ns"},
                "involvedObject": {"kind": "Pod", "name": "web", "namespace": "ns"},
                "reason": "Started", "message": " Started container\n", "type": "Normal",
                "source": {"component": "kubelet", "host": "n1"}, "count": 2,
                "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:05:00Z",
            }),
        )
    }

    #[test]
    fn an_event_is_beside_its_object() {
        check(&event(), &[]);
        check(
            &event().with(json!({"involvedObject": {"namespace": "x"}})),
            &["involvedObject.namespace: Invalid value: \"x\": does not match event.namespace"],
        );
        let of_node = json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "Node", "namespace": null}});
        check(&event().with(of_node), &[]);
    }

    #[test]
    fn newer_events_say_more() {
        check(
            &event().with(json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reason": "x".repeat(129), "message": "x".repeat(1025)})),
            &[
                "reportingComponent: Required value",
                "reportingInstance: Required value",
                "action: Required value",
                "reason: Invalid value: \"\": can have at most 128 characters",
                "message: Invalid value: \"\": can have at most 1024 characters",
            ],
        );
    }

    #[test]
    fn cells() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let row = event().decode().row(now);
        assert_eq!(
            json!(row),
            json!([
                "5m",
                "Normal",
                "Started",
                "pod/web",
                "",
                "kubelet, n1",
                "Started container",
                "10m",
                2,
                "web.17"
            ])
        );
    }
}
