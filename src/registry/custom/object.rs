//! An object of a defined kind (upstream `customResourceStrategy` and `customResourceValidator`,
//! apiextensions pkg/registry/customresource/{strategy,status_strategy,validator}.go, v1.35).

use super::version::CompiledVersion;
use crate::api::field::Problem;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::cells;
use crate::registry::metadata;
use crate::registry::object::{Creator, Object};
use crate::registry::schema::structural::validations::{self, Before, Subject};
use crate::registry::schema::structural::{
    embedded, lists, nowhere, validate, validate_update, validate_update_at,
};
use crate::stdx::json;
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};
use std::any::Any;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

const STATUS: &str = "status";
const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// A custom resource: its metadata typed as everywhere, and the rest as it is.
///
/// It is written with `apiVersion`, `kind` and `metadata` first and its other fields sorted, as
/// upstream sorts all of them: the same object is the same bytes.
#[derive(Clone, Debug)]
pub struct CustomObject {
    version: Arc<CompiledVersion>,
    metadata: ObjectMeta,
    /// Everything but `apiVersion`, `kind` and `metadata`.
    rest: Map<String, Value>,
    /// What rules have against it and tolerate, once it has been validated.
    tolerated: OnceLock<Vec<String>>,
}

impl CustomObject {
    /// The object that `value` is. Its type is that of the version.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read(version: Arc<CompiledVersion>, value: Value) -> Result<Self, serde_json::Error> {
        let mut rest: Map<String, Value> = serde_json::from_value(value)?;
        rest.remove("apiVersion");
        rest.remove("kind");
        let metadata = rest.remove("metadata").filter(|metadata| !metadata.is_null());
        let metadata = metadata.as_ref().map(json::from_value).transpose()?.unwrap_or_default();
        Ok(Self { version, metadata, rest, tolerated: OnceLock::new() })
    }

    #[must_use]
    pub fn version(&self) -> &Arc<CompiledVersion> {
        &self.version
    }

    /// All fields but `apiVersion`, `kind` and `metadata`.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.rest
    }

    pub fn fields_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.rest
    }

    /// Upstream `ValidateScaleSpec` and `ValidateScaleStatus`.
    fn scale_errors(&self, value: &Value, parts: Parts) -> Vec<FieldError> {
        let Some(scale) = &self.version.scale else { return Vec::new() };
        let mut errors = match parts {
            Parts::All => scale.validate_spec(value),
            Parts::Status => Vec::new(),
        };
        errors.extend(scale.validate_status(value));
        errors
    }

    /// Rules in CEL are for objects that are sound otherwise.
    fn rule_errors(
        &self,
        errors: &[FieldError],
        new: &Value,
        old: Option<&Value>,
    ) -> Vec<FieldError> {
        let Some(rules) = &self.version.rules else { return Vec::new() };
        if errors.iter().any(is_blocking) {
            return vec![FieldError::invalid(&nowhere(), Value::Null, NOT_CHECKED)];
        }
        let before = old.map_or(Before::Nothing, Before::Tolerated);
        let subject = Subject { schema: &self.version.schema, value: new, before };
        let finding = rules.check(subject, &FieldPath::default(), validations::BUDGET);
        self.tolerated.get_or_init(|| finding.warnings);
        finding.errors
    }

    fn validate_against(&self, old: &dyn Object, parts: Parts) -> Vec<FieldError> {
        let old = same_kind(old);
        let (new_value, old_value) = (self.to_value(), old.to_value());
        let schema = &self.version.schema;
        let mut errors = metadata::validate_change(&self.metadata, &old.metadata);
        match parts {
            Parts::All => {
                errors.extend(validate_update(&new_value, &old_value, schema));
                errors.extend(self.scale_errors(&new_value, parts));
                if self.version.has_embedded {
                    errors.extend(embedded::validate(&new_value, schema));
                }
            }
            Parts::Status => {
                errors.extend(self.status_errors(old));
                errors.extend(self.scale_errors(&new_value, parts));
            }
        }
        // Lists that were wrong before may stay so.
        if lists::validate(&old_value, schema).is_empty() {
            errors.extend(lists::validate(&new_value, schema));
        }
        let of_rules = self.rule_errors(&errors, &new_value, Some(&old_value));
        errors.extend(of_rules);
        errors
    }

    fn status_errors(&self, old: &Self) -> Vec<FieldError> {
        let Some(schema) = self.version.schema.property(STATUS) else { return Vec::new() };
        let Some(status) = self.rest.get(STATUS) else { return Vec::new() };
        validate_update_at(&FieldPath::new(STATUS), status, old.rest.get(STATUS), schema)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    Status,
}

fn is_blocking(error: &FieldError) -> bool {
    matches!(
        error.problem,
        Problem::NotSupported
            | Problem::Required
            | Problem::TooLong
            | Problem::TooMany
            | Problem::TypeInvalid
    )
}

fn same_kind(old: &dyn Object) -> &CustomObject {
    old.as_any().downcast_ref().expect("old and new object come from one row of the table")
}

impl Serialize for CustomObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.rest.len() + 3))?;
        map.serialize_entry("apiVersion", &self.version.api_version())?;
        map.serialize_entry("kind", &self.version.names.kind)?;
        map.serialize_entry("metadata", &self.metadata)?;
        for (name, value) in &self.rest {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Object for CustomObject {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn apply_defaults(&mut self) {
        self.version.fill_in_fields(&mut self.rest);
    }

    fn prepare_create(&mut self) {
        if self.version.has_status {
            self.rest.remove(STATUS);
        }
    }

    fn stamp_creator(&mut self, _creator: Creator<'_>) {}

    fn prepare_update(&mut self, old: &dyn Object) {
        if !self.version.has_status {
            return;
        }
        match same_kind(old).rest.get(STATUS) {
            Some(status) => self.rest.insert(STATUS.to_owned(), status.clone()),
            None => self.rest.remove(STATUS),
        };
    }

    /// Nothing but the status changes, and who manages what.
    fn prepare_status_update(&mut self, old: &dyn Object) {
        let old = same_kind(old);
        let status = self.rest.remove(STATUS);
        self.rest.clone_from(&old.rest);
        match status {
            Some(status) => self.rest.insert(STATUS.to_owned(), status),
            None => self.rest.remove(STATUS),
        };
        let managed = self.metadata.managed_fields.take();
        self.metadata.clone_from(&old.metadata);
        self.metadata.managed_fields = managed;
    }

    fn prepare_part(&mut self, _subresource: &str, old: &dyn Object) {
        self.prepare_update(old);
    }

    fn stamp_status(&mut self, _old: &dyn Object, _now: Timestamp) {}

    fn validate(&self) -> Vec<FieldError> {
        let schema = &self.version.schema;
        let rules = metadata::Rules { scope: self.version.scope, name: names::dns1123_subdomain };
        let value = self.to_value();
        let path = FieldPath::new("metadata");
        let mut errors = metadata::validate_at(&self.metadata, rules, &path);
        errors.extend(validate(&value, schema));
        errors.extend(self.scale_errors(&value, Parts::All));
        if self.version.has_embedded {
            errors.extend(embedded::validate(&value, schema));
        }
        errors.extend(lists::validate(&value, schema));
        let of_rules = self.rule_errors(&errors, &value, None);
        errors.extend(of_rules);
        errors
    }

    fn validate_update(&self, old: &dyn Object) -> Vec<FieldError> {
        self.validate_against(old, Parts::All)
    }

    fn validate_status_update(&self, old: &dyn Object) -> Vec<FieldError> {
        self.validate_against(old, Parts::Status)
    }

    fn validate_part(&self, _subresource: &str, old: &dyn Object) -> Vec<FieldError> {
        self.validate_against(old, Parts::All)
    }

    /// What rules tolerate, and upstream's `generateWarningsFromObj`: finalizers that are new.
    fn warnings(&self, old: Option<&dyn Object>) -> Vec<String> {
        let before = old.and_then(|old| old.metadata().finalizers.as_deref()).unwrap_or_default();
        let mut new: Vec<_> = self.metadata.finalizers.iter().flatten().collect();
        new.retain(|name| !before.contains(name));
        new.sort();
        new.dedup();
        let of_rules = self.tolerated.get().cloned().unwrap_or_default();
        let of_finalizers = new.into_iter().flat_map(|name| finalizer_warnings(name));
        of_rules.into_iter().chain(of_finalizers).collect()
    }

    fn status_warnings(&self) -> Vec<String> {
        self.tolerated.get().cloned().unwrap_or_default()
    }

    fn first_generation(&self) -> Option<i64> {
        Some(1)
    }

    /// Where the status is a subresource, it has been put back before this is asked; elsewhere it
    /// counts as the rest does.
    fn is_new_generation(&self, old: &dyn Object) -> bool {
        self.rest != same_kind(old).rest
    }

    fn deletion_grace_seconds(&self, _requested: Option<i64>) -> Option<i64> {
        None
    }

    fn begin_deletion(&mut self) {}

    fn is_held(&self) -> bool {
        false
    }

    fn orphans_dependents(&self) -> bool {
        false
    }

    fn is_heartbeat(&self, _old: &dyn Object) -> bool {
        false
    }

    fn selectable_fields(&self) -> Vec<(Cow<'static, str>, String)> {
        if self.version.selectable.is_empty() {
            return Vec::new();
        }
        let value = self.to_value();
        let text = |found: Option<&&Value>| match found {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let fields = self.version.selectable.iter();
        fields
            .map(|field| {
                let found = field.path.find(&value).unwrap_or_default();
                (Cow::Owned(field.name.clone()), text(found.first()))
            })
            .collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        self.version.columns.row(cells::name(&self.metadata), &self.to_value(), now)
    }

    fn encode(&self) -> Bytes {
        let json = match self.metadata.resource_version {
            None => json::to_vec(self),
            Some(_) => {
                let mut bare = self.clone();
                bare.metadata.resource_version = None;
                json::to_vec(&bare)
            }
        };
        Bytes::from(json)
    }

    fn to_value(&self) -> Value {
        json::to_value(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn clone_box(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }
}

/// Upstream `validateKubeFinalizerName`.
fn finalizer_warnings(name: &str) -> Vec<String> {
    let mut warnings: Vec<_> = names::qualified_name(name)
        .into_iter()
        .map(|problem| format!("metadata.finalizers: {name:?}: {problem}"))
        .collect();
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        warnings.push(format!(
            "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        ));
    }
    warnings
}
