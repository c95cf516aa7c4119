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
        let fixed: [(&str, fn(&Self) -> Value); 12] = [
            ("involvedObject", |event| to_value(&event.regarding)),
            ("reason", |event| to_value(&event.reason)),
            ("message", |event| to_value(&event.note)),
            ("source", |event| to_value(&event.deprecated_source)),
            ("firstTimestamp", |event| to_value(&event.deprecated_first_timestamp)),
            ("lastTimestamp", |event| to_value(&event.deprecated_last_timestamp)),
            ("count", |event| to_value(&event.deprecated_count)),
            ("type", |event| to_value(&event.type_)),
            ("eventTime", |event| to_value(&event.event_time)),
            ("action", |event| to_value(&event.action)),
            ("related", |event| to_value(&event.related)),
            ("reportingController", |event| to_value(&event.reporting_controller)),
        ];
        errors.extend(fixed.into_iter().filter_map(|(field, value)| {
            immutable(&FieldPath::new(field), value(self), &value(old))
        }));
        let instance = |event: &Self| to_value(&event.reporting_instance);
        let path = FieldPath::new("reportingInstance");
        errors.extend(immutable(&path, instance(self), &instance(old)));
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
