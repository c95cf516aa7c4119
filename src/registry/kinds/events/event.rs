//! Events as newer clients name their fields. What is stored is the older one, of the core group.
//!
//! Follows upstream pkg/apis/events/v1/conversion.go and `ValidateEventCreate`
//! (pkg/apis/core/validation/events.go, v1.35).

use crate::api::{FieldError, FieldPath};
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
        let path = FieldPath::new("eventTime");
        self.event_time.is_none().then(|| FieldError::required(&path, "")).into_iter().collect()
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
