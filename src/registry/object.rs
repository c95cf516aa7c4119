//! What is special about a kind ([`Resource`]), and the same with the type erased ([`Object`]).

use super::kind::{Column, KindFacts};
use super::managed::Resets;
use super::metadata;
use super::schema::TypeRef;
use crate::api::{FieldError, FieldPath, names};
use crate::stdx::json;
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::Range;

/// Who makes an object.
#[derive(Clone, Copy, Debug)]
pub struct Creator<'a> {
    pub user: &'a str,
    /// Empty for users that have none.
    pub uid: &'a str,
    pub groups: &'a [String],
    pub extra: &'a BTreeMap<String, Vec<String>>,
}

/// What users want of an object and what is so, in a kind whose status is a subresource of its own:
/// either half is written without the other. The generic rules are here; what a kind does besides is
/// in its hooks, which run after these.
#[derive(Clone, Copy, Debug)]
pub struct Halves<T> {
    /// A new object has no status yet.
    pub begin: fn(&mut T),
    /// An update is of the specification.
    pub keep_status: fn(&mut T, &T),
    /// An update of `/status` is of the status.
    pub keep_spec: fn(&mut T, &T),
    /// Whether they are to be different things.
    pub is_spec_changed: fn(&T, &T) -> bool,
}

impl<T> Halves<T> {
    /// Of a kind that has one half alone.
    pub const NONE: Self = Self {
        begin: |_| {},
        keep_status: |_, _| {},
        keep_spec: |_, _| {},
        is_spec_changed: |_, _| false,
    };
}

/// The [`Halves`] of a kind with `spec` and `status`.
macro_rules! halves {
    () => {
        $crate::registry::object::Halves {
            begin: |object| object.status = Some(Default::default()),
            keep_status: |object, old| object.status.clone_from(&old.status),
            keep_spec: |object, old| object.spec.clone_from(&old.spec),
            is_spec_changed: |object, old| object.spec != old.spec,
        }
    };
}

pub(super) use halves;

/// The behaviour of one kind. All hooks are pure; the default of each is "nothing special".
///
/// The hooks have the meaning of upstream's registry strategies (`rest.RESTCreateStrategy` and
/// `rest.RESTUpdateStrategy`, apiserver pkg/registry/rest, v1.35).
pub trait Resource:
    k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + PartialEq
    + Send
    + Sync
    + 'static
{
    const FACTS: KindFacts;
    const SCHEMA: TypeRef;
    /// For kinds with specification and status: `halves!()`.
    const HALVES: Halves<Self> = Halves::NONE;
    /// Whether `metadata.generation` tells how often the specification has changed.
    const COUNTS_GENERATIONS: bool = false;
    /// Without the first columns' values there is no row: see [`Resource::row`].
    const COLUMNS: &'static [Column];
    /// What the objects' names must look like.
    const NAME_RULE: names::Rule = names::dns1123_subdomain;

    /// Whether finalizers are to have a domain that names more than one word (upstream
    /// `ValidateFinalizerName`, pkg/apis/core/validation).
    const ASKS_FINALIZER_DOMAINS: bool = true;

    /// What the objects own stays when they are deleted without a word about it (upstream
    /// `DefaultGarbageCollectionPolicy`): so it was before there was garbage collection.
    const ORPHANS_DEPENDENTS: bool = false;

    /// Whether a PUT creates what is not there yet (upstream `AllowCreateOnUpdate`).
    const CREATES_ON_UPDATE: bool = false;
    /// Whether an update may leave out the `resourceVersion` (upstream `AllowUnconditionalUpdate`).
    const UPDATES_UNCONDITIONALLY: bool = true;
    /// Whether a delete is answered with the object instead of a `Status` (upstream
    /// `ReturnDeletedObject`).
    const RETURNS_DELETED: bool = false;
    /// What whoever uses the kind is told, where it should not be used any more (upstream
    /// `deprecation.WarningMessage`, apiserver pkg/endpoints/deprecation, v1.35).
    const DEPRECATION: Option<&'static str> = None;

    /// Which fields a write by way of the subresource leaves as they are; it is empty for the object
    /// itself (upstream `GetResetFields`).
    #[must_use]
    fn resets(subresource: &str) -> Resets {
        if Self::FACTS.has_status() { Resets::of_halves(subresource) } else { Resets::NONE }
    }

    /// Fills in what the user left out.
    fn apply_defaults(&mut self) {}

    /// Before a create: takes away what users may not set, beyond the status.
    fn prepare_create(&mut self) {}

    /// After [`Resource::prepare_create`]: writes down who made the object, where the kind asks.
    fn stamp_creator(&mut self, _creator: Creator<'_>) {}

    /// Before an update: puts back what an update may not change, beyond the status.
    fn prepare_update(&mut self, _old: &Self) {}

    /// Before an update of `/status`: puts back what the kind protects there beyond the
    /// specification, in the metadata for one.
    fn prepare_status_update(&mut self, _old: &Self) {}

    /// Before an update of another subresource that shows the object, such as `/approval`: puts
    /// back everything but what it is for.
    fn prepare_part(&mut self, _subresource: &str, _old: &Self) {}

    /// After [`Resource::prepare_status_update`] or [`Resource::prepare_part`] at `now`: writes
    /// down since when what is new is so.
    fn stamp_status(&mut self, _old: &Self, _now: Timestamp) {}

    /// What is wrong with this, new or updated, apart from its metadata, which
    /// [`Object::validate`] adds.
    fn validate(&self) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with this only where it is new; [`Resource::validate`] runs as well.
    fn validate_create(&self) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with going from `old` to this; [`Resource::validate`] runs as well, and the
    /// metadata is checked as for a new object.
    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }

    /// As [`Resource::validate_update`], by way of a subresource that shows the object.
    fn validate_part(&self, _subresource: &str, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is doubtful about this and taken all the same, as the client is told: of a new object,
    /// or where it was `old` before.
    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        Vec::new()
    }

    /// As [`Resource::warnings`], of an update of `/status`.
    fn status_warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether going from `old` to this begins a new generation.
    fn is_new_generation(&self, old: &Self) -> bool {
        Self::COUNTS_GENERATIONS && (Self::HALVES.is_spec_changed)(self, old)
    }

    /// How long a delete of this object waits for somebody to end it gracefully, in seconds.
    /// `None`: it is removed at once. `requested` is `gracePeriodSeconds` of the delete.
    fn deletion_grace_seconds(&self, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// When somebody has asked to delete this object and it stays for now: shows it in the status.
    fn begin_deletion(&mut self) {}

    /// Whether something beyond `metadata.finalizers` keeps this object from being removed, such
    /// as the `spec.finalizers` of a namespace.
    fn is_held(&self) -> bool {
        false
    }

    /// This without what only says "still alive"; `None` for kinds that have nothing of the sort.
    fn without_heartbeat(&self) -> Option<Self> {
        None
    }

    /// Fields beyond `metadata.name` and `metadata.namespace` that field selectors may name.
    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The cells of this object, as many as [`Resource::COLUMNS`].
    fn row(&self, now: Timestamp) -> Vec<Value>;
}

/// A [`Resource`] with its type erased.
pub trait Object: Send + Sync {
    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    fn apply_defaults(&mut self);
    fn prepare_create(&mut self);
    fn stamp_creator(&mut self, creator: Creator<'_>);
    fn prepare_update(&mut self, old: &dyn Object);
    fn prepare_status_update(&mut self, old: &dyn Object);
    fn prepare_part(&mut self, subresource: &str, old: &dyn Object);
    fn stamp_status(&mut self, old: &dyn Object, now: Timestamp);
    /// Everything that is wrong with a new object, its metadata included.
    fn validate(&self) -> Vec<FieldError>;
    /// Everything that is wrong with an update: its metadata, what was wrong with a new object,
    /// and what may not change.
    fn validate_update(&self, old: &dyn Object) -> Vec<FieldError>;
    fn validate_status_update(&self, old: &dyn Object) -> Vec<FieldError>;
    fn validate_part(&self, subresource: &str, old: &dyn Object) -> Vec<FieldError>;
    fn warnings(&self, old: Option<&dyn Object>) -> Vec<String>;
    fn status_warnings(&self) -> Vec<String>;
    /// The generation of a new object: `None` for kinds that do not count them.
    fn first_generation(&self) -> Option<i64>;
    fn is_new_generation(&self, old: &dyn Object) -> bool;
    fn deletion_grace_seconds(&self, requested: Option<i64>) -> Option<i64>;
    fn begin_deletion(&mut self);
    fn is_held(&self) -> bool;
    fn orphans_dependents(&self) -> bool;
    /// Whether going from `old` to this says no more than "still alive". Such a write is announced
    /// at once and reaches the disk later (`Durability::Coalesced`).
    fn is_heartbeat(&self, old: &dyn Object) -> bool;
    fn selectable_fields(&self) -> Vec<(Cow<'static, str>, String)>;
    fn row(&self, now: Timestamp) -> Vec<Value>;
    /// Canonical JSON: `apiVersion`, `kind` and `metadata` first, no `resourceVersion`.
    fn encode(&self) -> Bytes;
    fn to_value(&self) -> Value;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn clone_box(&self) -> Box<dyn Object>;
}

/// What an object is called: how all of each kind is to be shown would be compiled for nothing.
impl Debug for dyn Object + '_ {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectMeta { namespace, name, .. } = self.metadata();
        formatter.debug_struct("Object").field("namespace", namespace).field("name", name).finish()
    }
}

impl<T: Resource> Object for T {
    fn metadata(&self) -> &ObjectMeta {
        k8s_openapi::Metadata::metadata(self)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        k8s_openapi::Metadata::metadata_mut(self)
    }

    fn apply_defaults(&mut self) {
        Resource::apply_defaults(self);
    }

    fn prepare_create(&mut self) {
        (T::HALVES.begin)(self);
        Resource::prepare_create(self);
    }

    fn stamp_creator(&mut self, creator: Creator<'_>) {
        Resource::stamp_creator(self, creator);
    }

    fn prepare_update(&mut self, old: &dyn Object) {
        let old = same_kind(old);
        (T::HALVES.keep_status)(self, old);
        Resource::prepare_update(self, old);
    }

    fn prepare_status_update(&mut self, old: &dyn Object) {
        let old = same_kind(old);
        (T::HALVES.keep_spec)(self, old);
        Resource::prepare_status_update(self, old);
    }

    fn prepare_part(&mut self, subresource: &str, old: &dyn Object) {
        Resource::prepare_part(self, subresource, same_kind(old));
    }

    fn stamp_status(&mut self, old: &dyn Object, now: Timestamp) {
        Resource::stamp_status(self, same_kind(old), now);
    }

    fn validate(&self) -> Vec<FieldError> {
        let rules = metadata::Rules { scope: T::FACTS.scope, name: T::NAME_RULE };
        let mut errors = match T::ASKS_FINALIZER_DOMAINS {
            true => metadata::validate(Object::metadata(self), rules),
            false => {
                let path = FieldPath::new("metadata");
                metadata::validate_at(Object::metadata(self), rules, &path)
            }
        };
        errors.extend(Resource::validate(self));
        errors.extend(Resource::validate_create(self));
        errors
    }

    fn validate_update(&self, old: &dyn Object) -> Vec<FieldError> {
        let mut errors = validate_metadata_update(self, old);
        errors.extend(Resource::validate(self));
        errors.extend(Resource::validate_update(self, same_kind(old)));
        errors
    }

    fn validate_status_update(&self, old: &dyn Object) -> Vec<FieldError> {
        let mut errors = validate_metadata_update(self, old);
        errors.extend(Resource::validate_status_update(self, same_kind(old)));
        errors
    }

    fn validate_part(&self, subresource: &str, old: &dyn Object) -> Vec<FieldError> {
        let mut errors = validate_metadata_update(self, old);
        errors.extend(Resource::validate_part(self, subresource, same_kind(old)));
        errors
    }

    fn warnings(&self, old: Option<&dyn Object>) -> Vec<String> {
        Resource::warnings(self, old.map(same_kind))
    }

    fn status_warnings(&self) -> Vec<String> {
        Resource::status_warnings(self)
    }

    fn first_generation(&self) -> Option<i64> {
        T::COUNTS_GENERATIONS.then_some(1)
    }

    fn is_new_generation(&self, old: &dyn Object) -> bool {
        Resource::is_new_generation(self, same_kind(old))
    }

    fn deletion_grace_seconds(&self, requested: Option<i64>) -> Option<i64> {
        Resource::deletion_grace_seconds(self, requested)
    }

    fn begin_deletion(&mut self) {
        Resource::begin_deletion(self);
    }

    fn is_held(&self) -> bool {
        Resource::is_held(self)
    }

    fn orphans_dependents(&self) -> bool {
        T::ORPHANS_DEPENDENTS
    }

    fn is_heartbeat(&self, old: &dyn Object) -> bool {
        let still = |object: &T| {
            let mut still = object.without_heartbeat()?;
            let metadata = Object::metadata_mut(&mut still);
            metadata.managed_fields = None;
            metadata.resource_version = None;
            Some(still)
        };
        still(self).is_some_and(|new| Some(new) == still(same_kind(old)))
    }

    fn selectable_fields(&self) -> Vec<(Cow<'static, str>, String)> {
        let fields = Resource::selectable_fields(self).into_iter();
        fields.map(|(name, value)| (Cow::Borrowed(name), value)).collect()
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        Resource::row(self, now)
    }

    fn encode(&self) -> Bytes {
        let json = match Object::metadata(self).resource_version {
            None => json::to_vec(self),
            Some(_) => {
                let mut bare = self.clone();
                Object::metadata_mut(&mut bare).resource_version = None;
                json::to_vec(&bare)
            }
        };
        Bytes::from(with_metadata_first(json))
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

/// Moves `metadata` behind `apiVersion` and `kind`, so that a reader who looks for its beginning
/// does not meet a field that merely looks like it. Generated types have their fields sorted.
fn with_metadata_first(mut json: Vec<u8>) -> Vec<u8> {
    if let Some((first, metadata)) = late_metadata(&json) {
        json[first..metadata.end].rotate_left(metadata.start - first);
    }
    json
}

/// Where `metadata` is, with the comma before it, and where the comma before the first member is that
/// precedes it without being `apiVersion` or `kind`, with which generated types begin.
fn late_metadata(json: &[u8]) -> Option<(usize, Range<usize>)> {
    let (mut at, mut first) = (1, None);
    loop {
        let name = &json[at..][..json::value_length(&json[at..])?];
        let value = at + name.len() + 1;
        let end = |value: usize| Some(value + json::value_length(&json[value..])?);
        match (name, first) {
            (b"\"metadata\"", None) => return None,
            (b"\"metadata\"", Some(first)) => return Some((first, at - 1..end(value)?)),
            (b"\"apiVersion\"" | b"\"kind\"", _) => {}
            _ => first = first.or(Some(at - 1)),
        }
        at = end(value)? + 1;
    }
}

fn validate_metadata_update<T: Resource>(new: &T, old: &dyn Object) -> Vec<FieldError> {
    match T::ASKS_FINALIZER_DOMAINS {
        true => metadata::validate_update(Object::metadata(new), old.metadata()),
        false => metadata::validate_change(Object::metadata(new), old.metadata()),
    }
}

fn same_kind<T: Resource>(old: &dyn Object) -> &T {
    old.as_any().downcast_ref().expect("old and new object come from one row of the table")
}

/// An object read from JSON.
pub type Decoded = Result<Box<dyn Object>, serde_json::Error>;

pub(super) fn decode<T: Resource>(value: Value) -> Decoded {
    Ok(Box::new(json::from_value::<T>(&value)?))
}

pub(super) fn decode_stored<T: Resource>(json: &[u8]) -> Decoded {
    Ok(Box::new(serde_json::from_slice::<T>(json)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let moved = with_metadata_first(json.as_bytes().to_vec());
        assert_eq!(String::from_utf8(moved).unwrap(), expected);
    }

    #[test]
    fn metadata_follows_the_type() {
        check(r#"{"apiVersion":"v1","kind":"A"}"#, r#"{"apiVersion":"v1","kind":"A"}"#);
        let first =
            r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a"},"data":{"metadata":1}}"#;
        check(first, first);
        check(
            r#"{"apiVersion":"v1","kind":"A","data":{"metadata":{"\"}":"x"}},"immutable":true,"metadata":{"name":"a","kind":[]},"z":[]}"#,
            r#"{"apiVersion":"v1","kind":"A","metadata":{"name":"a","kind":[]},"data":{"metadata":{"\"}":"x"}},"immutable":true,"z":[]}"#,
        );
        check(
            r#"{"apiVersion":"v1","kind":"A","action":"","metadata":{}}"#,
            r#"{"apiVersion":"v1","kind":"A","metadata":{},"action":""}"#,
        );
        check(
            r#"{"apiVersion":"v1","kind":"A","action":7}"#,
            r#"{"apiVersion":"v1","kind":"A","action":7}"#,
        );
    }
}
