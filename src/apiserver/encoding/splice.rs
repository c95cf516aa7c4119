//! Stored bytes with their revision put in.
//!
//! Objects are stored as canonical JSON, `apiVersion`, `kind` and `metadata` first, without a
//! `resourceVersion`: the store knows it, and it is known only after the object is written. It goes
//! right behind the brace of the metadata.

use crate::api::Revision;
use serde::Deserialize;
use std::io::Write as _;

const METADATA: &[u8] = b"\"metadata\":{";

/// Where the members of the metadata begin. `apiVersion` and `kind` come before it, and neither
/// can hold a quote, so that the first match is the right one.
fn members_offset(stored: &[u8]) -> Option<usize> {
    let head = &stored[..stored.len().min(512)];
    head.windows(METADATA.len()).position(|window| window == METADATA).map(|at| at + METADATA.len())
}

/// Appends the object as a client sees it.
pub(crate) fn push_with_revision(out: &mut Vec<u8>, stored: &[u8], revision: Revision) {
    let Some(offset) = members_offset(stored) else {
        // Not an object of ours; what is stored is better than nothing.
        out.extend_from_slice(stored);
        return;
    };
    out.reserve(stored.len() + 48);
    out.extend_from_slice(&stored[..offset]);
    push_member(out, revision, stored.get(offset) != Some(&b'}'));
    out.extend_from_slice(&stored[offset..]);
}

/// Appends the revision as the first member of metadata, which has more of them or not. What is
/// not stored, because somebody only asks what would be, has none.
pub(super) fn push_member(out: &mut Vec<u8>, revision: Revision, has_more: bool) {
    if revision == Revision::default() {
        return;
    }
    let comma = if has_more { "," } else { "" };
    write!(out, "\"resourceVersion\":\"{revision}\"{comma}").expect("writing to a Vec succeeds");
}

/// Appends the object as one of a list, which says of what kind its items are: they do not say it
/// again (upstream's built-in types are encoded without the `TypeMeta` that they do not have in
/// memory, apimachinery pkg/runtime/serializer/versioning, v1.35).
pub(crate) fn push_item(out: &mut Vec<u8>, stored: &[u8], revision: Revision) {
    let start = members_offset(stored).map_or(0, |offset| offset - METADATA.len());
    if start > 0 {
        out.push(b'{');
    }
    push_with_revision(out, &stored[start..], revision);
}

/// The object as a client sees it.
pub(crate) fn with_revision(stored: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = Vec::new();
    push_with_revision(&mut out, stored, revision);
    out
}

/// Reads the metadata, as much of it as `T` wants, and nothing of what follows it.
pub(crate) fn read_metadata<'a, T: Deserialize<'a>>(stored: &'a [u8]) -> Option<T> {
    let offset = members_offset(stored)? - 1;
    let mut deserializer = serde_json::Deserializer::from_slice(&stored[offset..]);
    T::deserialize(&mut deserializer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    #[test]
    fn the_revision_goes_into_the_metadata() {
        for (stored, expected) in [
            (
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}}"#,
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"7","name":"a"},"spec":{}}"#,
            ),
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            ("{}", "{}"),
        ] {
            let spliced = with_revision(stored.as_bytes(), Revision(7));
            assert_eq!(String::from_utf8(spliced).unwrap(), expected);
            assert_eq!(with_revision(stored.as_bytes(), Revision::default()), stored.as_bytes());
        }
    }

    #[test]
    fn items_do_not_say_of_what_kind_they_are() {
        for (stored, expected) in [
            (
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{}}"#,
                r#"{"metadata":{"resourceVersion":"7","name":"a"},"spec":{}}"#,
            ),
            (r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"7"}}"#),
            ("{}", "{}"),
        ] {
            let mut item = Vec::new();
            push_item(&mut item, stored.as_bytes(), Revision(7));
            assert_eq!(String::from_utf8(item).unwrap(), expected);
        }
    }

    #[test]
    fn metadata_is_read_alone() {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
        }
        let stored = br#"{"kind":"Pod","metadata":{"name":"a","labels":{"a":"b"}},"spec": broken"#;
        let head: Head<'_> = read_metadata(stored).unwrap();
        assert_eq!(head.labels["a"], "b");
    }
}
