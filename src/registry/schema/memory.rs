//! How much memory an object takes as what it stands for, told from its document: `[null,null]` is
//! two structs where a list of structs is meant, and a container takes two thousand bytes.

use super::table::{BUILT_IN, Shape, TypeRef};
use std::sync::LazyLock;

/// An object that takes more memory than this, without its texts, is refused: it is there several
/// times while a request is answered. Upstream has no such limit.
pub const OBJECT_BYTES_MAX: usize = 48 * 1024 * 1024;

/// What a text, a list, a map or a number takes.
const FIELD_BYTES: usize = 24;

/// What each built-in type takes, with the structs in it.
static BYTES: LazyLock<Box<[usize]>> = LazyLock::new(|| {
    let mut known: Vec<_> = BUILT_IN.types().map(|_| Bytes::Unknown).collect();
    BUILT_IN.types().map(|(of, _)| sum(of, &mut known)).collect()
});

#[derive(Clone, Copy)]
enum Bytes {
    Unknown,
    /// A type that has itself in it has it in a box.
    Recursive,
    Known(usize),
}

/// How deep it goes is bounded by the table: it meets no type twice.
fn sum(of: TypeRef, known: &mut [Bytes]) -> usize {
    let at = usize::from(of.0);
    match known[at] {
        Bytes::Known(bytes) => return bytes,
        Bytes::Recursive => return size_of::<usize>(),
        Bytes::Unknown => known[at] = Bytes::Recursive,
    }
    let fields = BUILT_IN.get(of).fields().map(|field| match field.shape() {
        Shape::Struct(inner) => sum(inner, known),
        _ => FIELD_BYTES,
    });
    let bytes = fields.sum::<usize>().max(FIELD_BYTES);
    known[at] = Bytes::Known(bytes);
    bytes
}

/// What an element of a list, or a value of a map, takes.
pub(super) fn bytes(shape: Shape) -> usize {
    match shape {
        Shape::Struct(of) => BYTES.get(usize::from(of.0)).copied().unwrap_or(FIELD_BYTES),
        _ => FIELD_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check, types};
    use super::*;
    use serde_json::{Value, json};

    fn bytes_of(spec: Value) -> usize {
        let mut pod = json!({"spec": spec});
        check(types::POD, &mut pod).bytes
    }

    #[test]
    fn elements_count_with_the_structs_in_them_also_where_they_are_null() {
        assert_eq!(bytes_of(json!({})), 0);
        let one = bytes_of(json!({"containers": [{}]}));
        assert!((1_000..8_000).contains(&one), "{one}");
        assert_eq!(bytes_of(json!({"containers": [null, null]})), 2 * one);
        let more = bytes_of(json!({"containers": [{"env": [null], "args": ["a", "b"]}]}));
        assert!(more > one + 3 * FIELD_BYTES, "{more}");
    }

    #[test]
    fn types_that_have_themselves_in_them_are_no_larger_for_it() {
        let mut definition = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "properties": {"a": {"properties": {"b": null}}},
        }}}]}});
        let bytes = check(types::CUSTOM_RESOURCE_DEFINITION, &mut definition).bytes;
        assert!((2_000..10_000).contains(&bytes), "{bytes}");
    }
}
