//! Where the managers are in stored bytes: at the very beginning of the metadata.
//!
//! So whoever reads objects finds them without reading the object, and leaves them out without
//! reading them: they are half of many objects, and few look at them.

use crate::stdx::json;
use std::borrow::Cow;

const METADATA: &[u8] = b"\"metadata\":{";
const FIELD: &[u8] = b"\"managedFields\":";

/// `metadata` is found within so many bytes: only `apiVersion` and `kind` are before it.
const HEAD_BYTES_MAX: usize = 512;

/// Stored bytes, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split<'a> {
    /// The object without its managers.
    pub object: Cow<'a, [u8]>,
    /// The JSON list of managers.
    pub managed: Option<&'a str>,
}

fn members_offset(object: &[u8]) -> Option<usize> {
    let head = &object[..object.len().min(HEAD_BYTES_MAX)];
    head.windows(METADATA.len()).position(|window| window == METADATA).map(|at| at + METADATA.len())
}

/// Takes the managers out of what [`join`] has put together.
#[must_use]
pub fn split(stored: &[u8]) -> Split<'_> {
    let whole = Split { object: Cow::Borrowed(stored), managed: None };
    let Some(at) = members_offset(stored) else { return whole };
    let Some(list) = stored[at..].strip_prefix(FIELD) else { return whole };
    if !list.starts_with(b"[") {
        return whole;
    }
    let Some(length) = json::value_length(list) else { return whole };
    let Ok(managed) = std::str::from_utf8(&list[..length]) else { return whole };
    let rest = &list[length..];
    let rest = rest.strip_prefix(b",").unwrap_or(rest);
    let object = [&stored[..at], rest].concat();
    Split { object: Cow::Owned(object), managed: Some(managed) }
}

/// Puts the managers into an object that has none.
#[must_use]
pub fn join(object: &[u8], managed: Option<&str>) -> Vec<u8> {
    let (Some(managed), Some(at)) = (managed, members_offset(object)) else {
        return object.to_vec();
    };
    let mut out = Vec::with_capacity(object.len() + FIELD.len() + managed.len() + 1);
    out.extend_from_slice(&object[..at]);
    out.extend_from_slice(FIELD);
    out.extend_from_slice(managed.as_bytes());
    if object.get(at) != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(&object[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_go_in_and_out_again() {
        let managed = r#"[{"manager":"a]\"","fieldsV1":{"f:x":{},"k:{\"a\":1}":{}}}]"#;
        for object in [
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}}"#,
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{}}"#,
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
        ] {
            let stored = join(object.as_bytes(), Some(managed));
            let split = split(&stored);
            assert_eq!(&*split.object, object.as_bytes());
            assert_eq!(split.managed, object.contains("metadata").then_some(managed));
            serde_json::from_slice::<serde_json::Value>(&stored).unwrap();
            assert_eq!(join(object.as_bytes(), None), object.as_bytes());
        }
    }

    #[test]
    fn what_is_cut_off_is_left_alone() {
        for stored in [
            r#"{"metadata":{"managedFields":[{"a":"#,
            r#"{"metadata":{"managedFields":{}}}"#,
            r#"{"metadata":{"managedFields":7}}"#,
            r#"{"metadata":{"managedFields":"#,
            "",
        ] {
            assert_eq!(split(stored.as_bytes()).managed, None, "{stored}");
        }
    }
}
