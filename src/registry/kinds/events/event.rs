//! Events as newer clients name their fields. What is stored is the older one, of the core group.
//!
//! Follows upstream pkg/apis/events/v1/conversion.go, and `ValidateEventCreate` and
//! `ValidateEventUpdate` (pkg/apis/core/validation/events.go, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{immutable, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, Version};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use serde_json::Value;
use std::borrow::Cow;

impl Resource for Event {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "event",
        short_names: &[Cow::Borrowed("ev")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::EVENT_EVENTS_V1;
    const COLUMNS: &'static [Column] = <core::Event as Resource>::COLUMNS;
    const NAME_RULE: crate::api::names::Rule = crate::api::names::path_segment;
    const CREATES_ON_UPDATE: bool = true;

    fn validate(&self) -> Vec<FieldError> {
        Resource::validate(&self.clone().into_stored())
    }

    fn validate_create(&self) -> Vec<FieldError> {
        let mut errors: Vec<_> = validate_series(self).into_iter().collect();
        if self.event_time.is_none() {
            errors.push(FieldError::required(&FieldPath::new("eventTime"), ""));
        }
        let kind = self.type_.as_deref().unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            let detail = format!("has invalid value: {kind}");
            errors.push(FieldError::invalid(&FieldPath::new("type"), "", detail));
        }
        let deprecated = [
            ("firstTimestamp", self.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", self.deprecated_last_timestamp.is_some()),
            ("count", self.deprecated_count.is_some_and(|count| count != 0)),
            ("source", self.deprecated_source.as_ref().is_some_and(has_source)),
        ];
        let is_set = deprecated.into_iter().filter(|(_, is_set)| *is_set);
        errors.extend(is_set.map(|(field, _)| {
            FieldError::invalid(&FieldPath::new(field), "", "needs to be unset")
        }));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if self.series != old.series {
            errors.extend(validate_series(self));
        }
        let changes = fixed(self).into_iter().zip(fixed(old));
        errors.extend(
            changes.filter_map(|((field, new), (_, old))| {
                immutable(&FieldPath::new(field), new, &old)
            }),
        );
        errors
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let regarding = self.regarding.clone().unwrap_or_default();
        vec![
            ("regarding.kind", text(&regarding.kind)),
            ("regarding.namespace", text(&regarding.namespace)),
            ("regarding.name", text(&regarding.name)),
            ("regarding.uid", text(&regarding.uid)),
            ("regarding.apiVersion", text(&regarding.api_version)),
            ("regarding.resourceVersion", text(&regarding.resource_version)),
            ("regarding.fieldPath", text(&regarding.field_path)),
            ("reason", text(&self.reason)),
            ("reportingController", text(&self.reporting_controller)),
            ("type", text(&self.type_)),
        ]
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        self.clone().into_stored().row(now)
    }
}

/// What nobody changes, by the names that upstream tells them by.
fn fixed(event: &Event) -> [(&'static str, Value); 13] {
    [
        ("involvedObject", to_value(&event.regarding)),
        ("reason", to_value(&event.reason)),
        ("message", to_value(&event.note)),
        ("source", to_value(&event.deprecated_source)),
        ("firstTimestamp", to_value(&event.deprecated_first_timestamp)),
        ("lastTimestamp", to_value(&event.deprecated_last_timestamp)),
        ("count", to_value(&event.deprecated_count)),
        ("type", to_value(&event.type_)),
        ("eventTime", to_value(&event.event_time)),
        ("action", to_value(&event.action)),
        ("related", to_value(&event.related)),
        ("reportingController", to_value(&event.reporting_controller)),
        ("reportingInstance", to_value(&event.reporting_instance)),
    ]
}

fn has_source(source: &core::EventSource) -> bool {
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    is_set(&source.component) || is_set(&source.host)
}

/// Upstream `validateV1EventSeries`.
fn validate_series(event: &Event) -> Option<FieldError> {
    let is_short = event.series.as_ref().is_some_and(|series| series.count < 2);
    let path = FieldPath::new("series.count");
    is_short.then(|| FieldError::invalid(&path, "", "should be at least 2"))
}

impl Version for Event {
    type Stored = core::Event;

    fn of_stored(stored: core::Event) -> Self {
        let series = stored.series.and_then(|series| {
            let last_observed_time = series.last_observed_time?;
            Some(EventSeries { count: series.count.unwrap_or_default(), last_observed_time })
        });
        Self {
            action: stored.action,
            deprecated_count: stored.count,
            deprecated_first_timestamp: stored.first_timestamp,
            deprecated_last_timestamp: stored.last_timestamp,
            deprecated_source: stored.source,
            event_time: stored.event_time,
            metadata: stored.metadata,
            note: stored.message,
            reason: stored.reason,
            regarding: Some(stored.involved_object),
            related: stored.related,
            reporting_controller: stored.reporting_component,
            reporting_instance: stored.reporting_instance,
            series,
            type_: stored.type_,
        }
    }

    fn into_stored(self) -> core::Event {
        let series = self.series.map(|series| core::EventSeries {
            count: Some(series.count),
            last_observed_time: Some(series.last_observed_time),
        });
        core::Event {
            action: self.action,
            count: self.deprecated_count,
            event_time: self.event_time,
            first_timestamp: self.deprecated_first_timestamp,
            involved_object: self.regarding.unwrap_or_default(),
            last_timestamp: self.deprecated_last_timestamp,
            message: self.note,
            metadata: self.metadata,
            reason: self.reason,
            related: self.related,
            reporting_component: self.reporting_controller,
            reporting_instance: self.reporting_instance,
            series,
            source: self.deprecated_source,
            type_: self.type_,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::json;

    fn event(change: Value) -> Event {
        let mut event = json!({
            "metadata": {"name": "a", "namespace": "default"},
            "eventTime": "2026-01-01T00:00:00.000000Z",
            "type": "Normal",
            "reason": "Started",
            "action": "Start",
            "reportingController": "example.com/c",
            "reportingInstance": "c-1",
            "regarding": {"namespace": "default"},
        });
        event.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(event).unwrap()
    }

    #[track_caller]
    fn check_new(change: Value, expected: &[&str]) {
        compare(event(change).validate_create(), expected);
    }

    #[test]
    fn a_new_event_says_what_newer_clients_say() {
        check_new(json!({}), &[]);
        check_new(json!({"type": "Odd"}), &["type: Invalid value: \"\": has invalid value: Odd"]);
        check_new(json!({"eventTime": null}), &["eventTime: Required value"]);
        let series = json!({"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"});
        let expected = ["series.count: Invalid value: \"\": should be at least 2"];
        check_new(json!({"series": series}), &expected);
        check_new(
            json!({"deprecatedCount": 1, "deprecatedSource": {"host": "h"}}),
            &[
                "count: Invalid value: \"\": needs to be unset",
                "source: Invalid value: \"\": needs to be unset",
            ],
        );
        check_new(json!({"deprecatedCount": 0, "deprecatedSource": {}}), &[]);
    }

    #[test]
    fn only_its_series_and_its_metadata_change() {
        let old = event(json!({}));
        let series = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"});
        compare(event(json!({"series": series})).validate_update(&old), &[]);
        for (field, told) in [("note", "message"), ("reason", "reason"), ("action", "action")] {
            let errors = event(json!({field: "Other"})).validate_update(&old);
            let [error] = errors.as_slice() else { panic!("{field}: {errors:?}") };
            assert!(error.to_string().starts_with(&format!("{told}: Invalid value")), "{error}");
        }
    }
}
