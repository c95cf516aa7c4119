//! What the tests of kinds share: an object as JSON, and what validation says of it.

use crate::registry::{KINDS, Kind, Object};
use serde_json::{Value, json};

/// An object of a kind as somebody would send it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    kind: &'static Kind,
    object: Value,
}

impl Case {
    pub(super) fn of(plural: &str, mut object: Value) -> Self {
        let kind = KINDS.iter().find(|kind| kind.facts.plural == plural).unwrap();
        object["apiVersion"] = kind.facts.api_version().into();
        object["kind"] = json!(kind.facts.kind);
        Self { kind, object }
    }

    /// The same object with `changes` merged into it (RFC 7386: null removes).
    pub(super) fn with(&self, changes: Value) -> Self {
        let mut object = self.object.clone();
        json_patch::merge(&mut object, &changes);
        Self { object, ..self.clone() }
    }

    pub(super) fn decode(&self) -> Box<dyn Object> {
        let mut object = self.kind.decode(self.object.clone()).unwrap();
        object.apply_defaults();
        object
    }

    /// As it is after a create.
    pub(super) fn created(&self) -> Box<dyn Object> {
        let mut object = self.decode();
        object.prepare_create();
        object
    }
}

/// A new object has exactly these errors; each is given by its beginning.
#[track_caller]
pub(super) fn check(case: &Case, expected: &[&str]) {
    compare(case.created().validate(), expected);
}

/// An update from `old` to `new` has exactly these errors; each is given by its beginning.
#[track_caller]
pub(super) fn check_update(old: &Case, new: &Case, expected: &[&str]) {
    let old = old.created();
    let mut new = new.decode();
    new.prepare_update(&*old);
    compare(new.validate_update(&*old), expected);
}

/// As [`check_update`], of `/status`. `old` is taken as stored, with its status.
#[track_caller]
pub(super) fn check_status_update(old: &Case, new: &Case, expected: &[&str]) {
    let old = old.decode();
    let mut new = new.decode();
    new.prepare_status_update(&*old);
    compare(new.validate_status_update(&*old), expected);
}

/// An update by way of a subresource that shows the object has exactly these errors.
#[track_caller]
pub(super) fn check_part(subresource: &str, old: &Case, new: &Case, expected: &[&str]) {
    let old = old.decode();
    let mut new = new.decode();
    new.prepare_part(subresource, &*old);
    compare(new.validate_part(subresource, &*old), expected);
}

#[track_caller]
pub(super) fn compare(errors: Vec<crate::api::FieldError>, expected: &[&str]) {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let all_match = texts.len() == expected.len()
        && texts.iter().zip(expected).all(|(text, expected)| text.starts_with(expected));
    assert!(all_match, "got {texts:#?}\nexpected {expected:#?}");
}
