//! What is wrong with a submitted object, field by field.
//!
//! The texts follow upstream `field.Error` (apimachinery pkg/util/validation/field/errors.go,
//! v1.35), because users search for them and clients match them.

use crate::stdx::quoted;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A longer path is shared by those that go on from it, and not copied.
const COPIED_BYTES_MAX: usize = 256;

/// Of a longer name or key only so much is shown in paths. It may be as long as a request, with a
/// hundred thousand fields below it that are each wrong; upstream would write it as often.
const SHOWN_NAME_BYTES_MAX: usize = 1_024;

/// A name or key as it is shown in a path.
#[must_use]
pub fn shown_name(name: &str) -> Cow<'_, str> {
    if name.len() <= SHOWN_NAME_BYTES_MAX {
        return Cow::Borrowed(name);
    }
    let shown = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES_MAX)];
    Cow::Owned(format!("{shown}... ({} bytes)", name.len()))
}

/// Where in an object: `spec.containers[0].name`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default)]
pub struct FieldPath {
    /// What comes before `text`, where that is long.
    above: Option<Arc<FieldPath>>,
    text: String,
}

impl FieldPath {
    #[must_use]
    pub fn new(root: &str) -> Self {
        Self::default().followed_by(&[root])
    }

    /// This path and then the field `name`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        // Not formatted: paths are made for every field that is checked, and few are ever told.
        let name = &*shown_name(name);
        if self.is_empty() { Self::new(name) } else { self.followed_by(&[".", name]) }
    }

    /// This path and then the element `index` of the list there.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.followed_by(&[&format!("[{index}]")])
    }

    /// This path and then the value of `key` in the map there.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.followed_by(&["[", &shown_name(key), "]"])
    }

    fn is_empty(&self) -> bool {
        self.above.is_none() && self.text.is_empty()
    }

    fn followed_by(&self, texts: &[&str]) -> Self {
        let length = self.text.len() + texts.iter().map(|text| text.len()).sum::<usize>();
        let mut text = String::with_capacity(length);
        text.push_str(&self.text);
        texts.iter().for_each(|more| text.push_str(more));
        let path = Self { above: self.above.clone(), text };
        if length <= COPIED_BYTES_MAX {
            return path;
        }
        Self { above: Some(Arc::new(path)), text: String::new() }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = &self.above {
            fmt::Display::fmt(above, formatter)?;
        }
        formatter.write_str(&self.text)
    }
}

impl Ord for FieldPath {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.above, &other.above) {
            (None, None) => self.text.cmp(&other.text),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }
}

impl PartialOrd for FieldPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FieldPath {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for FieldPath {}

/// What kind of problem it is; decides the cause's reason and the beginning of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl Problem {
    /// The `reason` of a status cause, upstream `ErrorType`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// After so many errors walkers over objects that users define look for no more, nor do those over labels.
pub const ERRORS_MAX: usize = 1_000;

/// Of a list or object that an error shows, only so many values are: one error for each of a hundred
/// thousand elements may show all of them.
const SHOWN_VALUES_MAX: usize = 1_000;

/// Of a value or a detail that an error shows, only so much text is.
const SHOWN_TEXT_BYTES_MAX: usize = 1 << 20;

/// One problem with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pub path: FieldPath,
    pub problem: Problem,
    /// The value as printed in the message, where one is printed.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn new(path: &FieldPath, problem: Problem, mut value: Option<Value>, detail: String) -> Self {
        if let Some(value) = &mut value {
            let mut left = SHOWN_VALUES_MAX;
            shorten(value, &mut left);
        }
        Self { path: path.clone(), problem, value, detail }
    }

    #[must_use]
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Problem::Required, None, detail.into())
    }

    #[must_use]
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, Problem::Invalid, Some(value.into()), detail.into())
    }

    /// As [`FieldError::invalid`], where the value says nothing (upstream `OmitValueType`).
    #[must_use]
    pub fn invalid_unprinted(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Problem::Invalid, None, detail.into())
    }

    #[must_use]
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(path, Problem::NotFound, Some(value.into()), String::new())
    }

    #[must_use]
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(path, Problem::Duplicate, Some(value.into()), String::new())
    }

    #[must_use]
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(path, Problem::Forbidden, None, detail.into())
    }

    /// `supported` is listed sorted and quoted, as upstream's `NotSupported` does.
    #[must_use]
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut quoted: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
        quoted.sort();
        let detail = format!("supported values: {}", quoted.join(", "));
        Self::new(path, Problem::NotSupported, Some(value.into()), detail)
    }

    #[must_use]
    pub fn too_long(path: &FieldPath, bytes_max: usize) -> Self {
        let detail = format!("may not be more than {bytes_max} bytes");
        Self::new(path, Problem::TooLong, None, detail)
    }

    #[must_use]
    pub fn too_many(path: &FieldPath, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} items");
        Self::new(path, Problem::TooMany, Some(actual.into()), detail)
    }

    /// Problem, value and detail, without the path: the `message` of a status cause.
    #[must_use]
    pub fn body(&self) -> String {
        let mut text = self.problem.words().to_owned();
        if let Some(value) = &self.value {
            text.push_str(": ");
            // Go prints strings quoted and everything else as it is.
            let shown = value.as_str().map_or_else(|| value.to_string(), quoted);
            push_shown(&mut text, &shown);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            push_shown(&mut text, &self.detail);
        }
        text
    }
}

fn push_shown(text: &mut String, shown: &str) {
    if shown.len() <= SHOWN_TEXT_BYTES_MAX {
        text.push_str(shown);
        return;
    }
    text.push_str(&shown[..shown.floor_char_boundary(SHOWN_TEXT_BYTES_MAX)]);
    text.push_str(&format!("... ({} bytes)", shown.len()));
}

/// Takes out what is beyond so many values, which begin with the first, and says how much it was.
fn shorten(value: &mut Value, left: &mut usize) {
    *left = left.saturating_sub(1);
    match value {
        Value::Array(list) => {
            let shown = shorten_each(list.iter_mut(), left);
            let more = list.len() - shown;
            if more > 0 {
                list.truncate(shown);
                list.push(Value::String(format!("and {more} more")));
                list.shrink_to_fit();
            }
        }
        Value::Object(map) => {
            let shown = shorten_each(map.values_mut(), left);
            let more = map.len() - shown;
            if more > 0 {
                let mut kept: Map<_, _> = std::mem::take(map).into_iter().take(shown).collect();
                kept.insert("...".to_owned(), Value::String(format!("and {more} more")));
                *map = kept;
            }
        }
        _ => {}
    }
}

/// How many of the values are shown.
fn shorten_each<'v>(values: impl Iterator<Item = &'v mut Value>, left: &mut usize) -> usize {
    let mut shown = 0;
    for value in values {
        if *left == 0 {
            break;
        }
        shorten(value, left);
        shown += 1;
    }
    shown
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_are_upstreams() {
        let path = FieldPath::new("spec").child("containers").index(0).child("name");
        for (error, expected) in [
            (FieldError::required(&path, ""), "spec.containers[0].name: Required value"),
            (
                FieldError::invalid(&path, "A", "must be lower case"),
                "spec.containers[0].name: Invalid value: \"A\": must be lower case",
            ),
            (
                FieldError::not_supported(&path, "x", &["b", "a"]),
                "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn of_long_values_the_beginning_is_shown() {
        let path = FieldPath::new("spec");
        let of = |value: Value| FieldError::invalid(&path, value, "no").body();
        let list = of(json!(vec![0; 100_000]));
        assert!(list.ends_with("0,0,\"and 99001 more\"]: no"), "{}", list.len());
        let nested = of(json!(vec![vec![0; 400]; 400]));
        assert!(nested.ends_with("0,\"and 204 more\"],\"and 397 more\"]: no"));
        let object: Map<_, _> = (0..2_000).map(|it| (format!("k{it:04}"), json!(1))).collect();
        let object = of(Value::Object(object));
        assert!(object.starts_with("Invalid value: {\"...\":\"and 1001 more\",\"k0000\":1"));
        assert!(object.ends_with("\"k0998\":1}: no"));
        let text = of(json!("v".repeat(2 << 20)));
        assert!(text.ends_with("vvv... (2097154 bytes): no"));
        assert_eq!(of(json!([0, {"a": "b"}])), "Invalid value: [0,{\"a\":\"b\"}]: no");
    }

    #[test]
    fn long_names_are_shown_cut_and_long_paths_are_shared() {
        let path = FieldPath::new("spec").key(&"k".repeat(1 << 20));
        let paths: Vec<_> = (0..100_000).map(|index| path.index(index).child("name")).collect();
        let key = format!("{}... (1048576 bytes)", "k".repeat(1_024));
        assert_eq!(paths[7].to_string(), format!("spec[{key}][7].name"));
        assert_eq!(paths[7], FieldPath::new(&format!("spec[{key}][7].name")));
        assert_ne!(paths[7], paths[8]);
        assert_ne!(paths[7], FieldPath::default());
        assert_eq!(FieldPath::new(""), FieldPath::default());
    }
}
