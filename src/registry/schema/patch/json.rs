//! JSON patch (RFC 6902), with upstream's limits.

use super::PatchError;
use crate::registry::schema::DOCUMENT_DEPTH_MAX;
use json_patch::jsonptr::Pointer;
use json_patch::{AddOperation, PatchOperation, ReplaceOperation, patch_unsafe};
use serde_json::Value;

/// A JSON patch of more operations is refused, as upstream does (`maxJSONPatchOperations`,
/// apiserver pkg/endpoints/handlers/patch.go, v1.35).
pub const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// A JSON patch whose `copy` operations copy more JSON is refused (`JSONPatchMaxCopyBytes`,
/// apiserver pkg/server/config.go, v1.35).
pub const JSON_PATCH_COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A JSON patch whose operations look at or move more values than this is refused: an element that
/// is added at the beginning of a list moves all others. Upstream has no such limit, and would take
/// minutes for what is refused here.
pub const JSON_PATCH_WORK_MAX: usize = 32_000_000;

/// Applies a JSON patch.
///
/// # Errors
/// If it is no list of operations, too long, or if an operation does not apply.
pub fn json_patch(document: Value, patch: Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::malformed("a JSON patch is a list of operations"));
    };
    if operations.len() > JSON_PATCH_OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations { operations: operations.len() });
    }
    let mut patching = Patching { document, copied_bytes: 0, work: 0 };
    for (index, operation) in operations.into_iter().enumerate() {
        let Some(operation) = patching.as_upstream(read_operation(index, operation)?) else {
            continue;
        };
        patching.spend(&operation).map_err(|problem| {
            PatchError::does_not_apply(format!("operation {index} {problem}"))
        })?;
        patch_unsafe(&mut patching.document, std::slice::from_ref(&operation)).map_err(
            |error| {
                let path = operation.path();
                PatchError::does_not_apply(format!("operation {index} at {path}: {}", error.kind))
            },
        )?;
    }
    Ok(patching.document)
}

fn read_operation(index: usize, operation: Value) -> Result<PatchOperation, PatchError> {
    if !operation.is_object() {
        return Err(PatchError::malformed(format!("operation {index} is no object")));
    }
    serde_json::from_value(operation)
        .map_err(|error| PatchError::does_not_apply(format!("operation {index}: {error}")))
}

/// A document on its way, and what it has cost so far.
struct Patching {
    document: Value,
    copied_bytes: usize,
    work: usize,
}

impl Patching {
    /// What upstream makes of an operation on a field that its object does not have: one that is
    /// replaced is added, and it is the same as null (`replace` and `test`, evanphx/json-patch v4).
    fn as_upstream(&self, operation: PatchOperation) -> Option<PatchOperation> {
        match operation {
            PatchOperation::Replace(ReplaceOperation { path, value }) if self.lacks(&path) => {
                Some(PatchOperation::Add(AddOperation { path, value }))
            }
            PatchOperation::Test(test) if test.value.is_null() && self.lacks(&test.path) => None,
            other => Some(other),
        }
    }

    /// Whether the path leads to a field that there is not, of an object that there is.
    fn lacks(&self, path: &Pointer) -> bool {
        let object = path.parent().and_then(|parent| self.document.pointer(parent.as_str()));
        object.is_some_and(Value::is_object) && self.document.pointer(path.as_str()).is_none()
    }

    /// Adds what an operation is about to cost. A document never becomes deeper than one may be that
    /// is read: whoever walks it, or drops it, relies on that.
    fn spend(&mut self, operation: &PatchOperation) -> Result<(), String> {
        let path = operation.path();
        let place = match operation {
            PatchOperation::Test(_) => 0,
            _ => self.length_of_list(path),
        };
        let (from, put) = match operation {
            PatchOperation::Add(add) => (None, measure(&add.value)),
            PatchOperation::Replace(replace) => (None, measure(&replace.value)),
            PatchOperation::Test(test) => (None, measure(&test.value)),
            PatchOperation::Remove(_) => (None, Measure::default()),
            PatchOperation::Move(of) => (Some(&of.from), self.measure_at(&of.from)),
            PatchOperation::Copy(of) => (Some(&of.from), self.measure_at(&of.from)),
        };
        let gap = from.map_or(0, |from| self.length_of_list(from));
        self.work += place + gap + put.values;
        if self.work > JSON_PATCH_WORK_MAX {
            return Err(format!("moves more than {JSON_PATCH_WORK_MAX} values"));
        }
        let is_put = !matches!(operation, PatchOperation::Test(_) | PatchOperation::Remove(_));
        if is_put && path.tokens().count() + put.depth > DOCUMENT_DEPTH_MAX {
            return Err(format!("nests values deeper than {DOCUMENT_DEPTH_MAX}"));
        }
        if matches!(operation, PatchOperation::Copy(_)) {
            self.copied_bytes += put.bytes;
            if self.copied_bytes > JSON_PATCH_COPIED_BYTES_MAX {
                return Err(format!("copies more than {JSON_PATCH_COPIED_BYTES_MAX} bytes"));
            }
        }
        Ok(())
    }

    /// How many elements the list has that the path leads into.
    fn length_of_list(&self, path: &Pointer) -> usize {
        let list = path.parent().and_then(|parent| self.document.pointer(parent.as_str()));
        list.and_then(Value::as_array).map_or(0, Vec::len)
    }

    fn measure_at(&self, path: &Pointer) -> Measure {
        self.document.pointer(path.as_str()).map(measure).unwrap_or_default()
    }
}

/// An object counts as this many bytes that are copied, however short it is: it takes as much memory
/// as any other.
const OBJECT_BYTES: usize = 32;

/// How large a value is.
#[derive(Clone, Copy, Debug, Default)]
struct Measure {
    values: usize,
    /// As JSON, but for escapes, and [`OBJECT_BYTES`].
    bytes: usize,
    /// How many lists and objects are around the innermost value.
    depth: usize,
}

fn measure(value: &Value) -> Measure {
    let leaf = |bytes| Measure { values: 1, bytes, depth: 0 };
    let around = |all: Measure, inner: Measure, name_bytes: usize| Measure {
        values: all.values + inner.values,
        bytes: all.bytes + inner.bytes + name_bytes + 1,
        depth: all.depth.max(inner.depth + 1),
    };
    match value {
        Value::Null | Value::Bool(_) => leaf("null".len()),
        Value::Number(number) => leaf(number.to_string().len()),
        Value::String(text) => leaf(text.len() + 2),
        Value::Array(list) => {
            list.iter().fold(Measure { values: 1, bytes: 2, depth: 1 }, |all, one| {
                around(all, measure(one), 0)
            })
        }
        Value::Object(map) => {
            let empty = Measure { values: 1, bytes: OBJECT_BYTES, depth: 1 };
            map.iter().fold(empty, |all, (name, one)| around(all, measure(one), name.len() + 3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge_patch;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(patch: Value, expected: Value) {
        let document = json!({"a": {"b": 1}, "list": [1, 2]});
        assert_eq!(json_patch(document, patch).unwrap(), expected);
    }

    fn refused(patch: Value, code: u16, message: &str) {
        let document = json!({"a": {"b": 1}, "list": [1, 2]});
        let status = json_patch(document, patch).unwrap_err().to_status();
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }

    #[test]
    fn every_operation_applies() {
        check(
            json!([
                {"op": "test", "path": "/a/b", "value": 1},
                {"op": "add", "path": "/a/c~1d", "value": {"e": null}},
                {"op": "add", "path": "/list/-", "value": 3},
                {"op": "add", "path": "/list/0", "value": 0},
                {"op": "replace", "path": "/a/b", "value": 2},
                {"op": "copy", "from": "/a/b", "path": "/copied"},
                {"op": "move", "from": "/list/1", "path": "/moved"},
                {"op": "remove", "path": "/list/0"},
            ]),
            json!({"a": {"b": 2, "c/d": {"e": null}}, "copied": 2, "moved": 1, "list": [2, 3]}),
        );
        check(json!([]), json!({"a": {"b": 1}, "list": [1, 2]}));
    }

    #[test]
    fn what_does_not_apply_is_unprocessable() {
        let prefix = "the server rejected our request due to an error in our request: ";
        let refused = |patch, problem: &str| refused(patch, 422, &format!("{prefix}{problem}"));
        refused(
            json!([{"op": "test", "path": "/a/b", "value": 2}]),
            "operation 0 at /a/b: value did not match",
        );
        refused(json!([{"op": "remove", "path": "/x"}]), "operation 0 at /x: path is invalid");
        refused(
            json!([{"op": "replace", "path": "/x/y", "value": 1}]),
            "operation 0 at /x/y: path is invalid",
        );
        refused(
            json!([{"op": "replace", "path": "/list/2", "value": 1}]),
            "operation 0 at /list/2: path is invalid",
        );
        refused(
            json!([{"op": "test", "path": "/a/x", "value": 1}]),
            "operation 0 at /a/x: path is invalid",
        );
        refused(
            json!([{"op": "add", "path": "/list/7", "value": 1}]),
            "operation 0 at /list/7: path is invalid",
        );
        refused(
            json!([{"op": "move", "from": "/a", "path": "/a/b/c"}]),
            "operation 0 at /a/b/c: cannot move the value inside itself",
        );
        refused(json!([{"op": "add", "path": "/x"}]), "operation 0: missing field `value`");
    }

    #[test]
    fn a_field_that_is_not_there_is_as_good_as_null() {
        check(
            json!([
                {"op": "test", "path": "/a/x", "value": null},
                {"op": "replace", "path": "/a/x", "value": 2},
            ]),
            json!({"a": {"b": 1, "x": 2}, "list": [1, 2]}),
        );
    }

    #[test]
    fn what_is_no_patch_is_a_bad_request() {
        refused(json!({"op": "add"}), 400, "a JSON patch is a list of operations");
        refused(json!(["add"]), 400, "operation 0 is no object");
    }

    #[test]
    fn long_patches_and_growing_documents_are_refused() {
        let test = json!({"op": "test", "path": "/a/b", "value": 1});
        refused(
            Value::Array(vec![test; JSON_PATCH_OPERATIONS_MAX + 1]),
            413,
            "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001",
        );
        let doubling: Vec<_> =
            (0..40).map(|n| json!({"op": "copy", "from": "", "path": format!("/n{n}")})).collect();
        let error = json_patch(json!({"a": 1}), Value::Array(doubling)).unwrap_err();
        assert!(error.to_string().ends_with("copies more than 3145728 bytes"), "{error}");
    }

    #[test]
    fn operations_that_move_long_lists_again_and_again_are_refused() {
        let document = json!({"list": vec![0; 200_000]});
        for operation in [
            json!({"op": "add", "path": "/list/0", "value": 0}),
            json!({"op": "move", "from": "/list/0", "path": "/list/-"}),
            json!({"op": "remove", "path": "/list/0"}),
            json!({"op": "move", "from": "/list", "path": "/list"}),
        ] {
            let patch = vec![operation; JSON_PATCH_OPERATIONS_MAX];
            let error = json_patch(document.clone(), Value::Array(patch)).unwrap_err();
            assert!(error.to_string().ends_with("moves more than 32000000 values"), "{error}");
        }
        let few = json!([{"op": "add", "path": "/list/0", "value": 1}]);
        assert!(json_patch(document, few).is_ok());
    }

    #[test]
    fn documents_do_not_become_deeper_than_they_may_be() {
        let mut deep = vec![json!({"op": "add", "path": "/a", "value": {}})];
        for depth in (0..18).map(|power| 1 << power) {
            let path = "/a".repeat(depth + 1);
            deep.push(json!({"op": "copy", "from": "/a", "path": path}));
        }
        let error = json_patch(json!({}), Value::Array(deep)).unwrap_err();
        assert_eq!(error.to_string(), "operation 7 nests values deeper than 127");
        let steps = (1..200)
            .map(|depth| json!([{"op": "add", "path": "/a".repeat(depth), "value": {}}])[0].take());
        let error = json_patch(json!({}), Value::Array(steps.collect())).unwrap_err();
        assert_eq!(error.to_string(), "operation 126 nests values deeper than 127");
    }

    #[test]
    fn merge_patches_replace_and_remove() {
        let merged = merge_patch(
            json!({"a": {"b": 1, "c": 2}, "list": [1, 2], "gone": 1}),
            &json!({"a": {"b": null, "d": {"e": 1, "f": null}}, "list": [3], "gone": null}),
        );
        assert_eq!(merged, Ok(json!({"a": {"c": 2, "d": {"e": 1}}, "list": [3]})));
        let status = merge_patch(json!({}), &json!([1])).unwrap_err().to_status();
        assert_eq!((status.code, status.message.as_str()), (400, "Invalid JSON Patch"));
    }

    /// Names that need escapes, and numbers.
    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(
            ["a", "b", "a/b", "m~n", "", "0", "1", "-"].map(str::to_owned).to_vec(),
        )
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let fields = prop::collection::btree_map(name(), inner.clone(), 0..3);
            prop_oneof![
                prop::collection::vec(inner, 0..3).prop_map(Value::Array),
                fields.prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn pointer(names: &[String]) -> String {
        names.iter().map(|it| format!("/{}", it.replace('~', "~0").replace('/', "~1"))).collect()
    }

    fn place() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(name(), 0..4)
    }

    fn index(list: &[Value], name: &str) -> Option<usize> {
        let is_number = name == "0" || !name.starts_with('0');
        let index = name.parse::<usize>().ok().filter(|_| is_number)?;
        (index <= list.len()).then_some(index)
    }

    /// RFC 6902, 4.1: `None` where it does not apply.
    fn add(document: &Value, place: &[String], value: &Value) -> Option<Value> {
        let [first, rest @ ..] = place else { return Some(value.clone()) };
        let mut changed = document.clone();
        match &mut changed {
            Value::Object(fields) if rest.is_empty() => {
                drop(fields.insert(first.clone(), value.clone()))
            }
            Value::Object(fields) => {
                let inner = add(fields.get(first)?, rest, value)?;
                fields.insert(first.clone(), inner);
            }
            Value::Array(list) if rest.is_empty() && first == "-" => list.push(value.clone()),
            Value::Array(list) if rest.is_empty() => {
                list.insert(index(list, first)?, value.clone())
            }
            Value::Array(list) => {
                let at = index(list, first)?;
                list[..].get(at)?;
                list[at] = add(&list[at], rest, value)?;
            }
            _ => return None,
        }
        Some(changed)
    }

    /// RFC 6902, 4.2.
    fn remove(document: &Value, place: &[String]) -> Option<Value> {
        let (last, parents) = place.split_last()?;
        let mut changed = document.clone();
        match changed.pointer_mut(&pointer(parents))? {
            Value::Object(fields) => drop(fields.remove(last)?),
            Value::Array(list) => {
                let at = index(list, last).filter(|at| *at < list.len())?;
                list.remove(at);
            }
            _ => return None,
        }
        Some(changed)
    }

    proptest! {
        #[test]
        fn operations_do_what_the_rfc_says(
            document in document(),
            value in document(),
            place in place(),
            from in place(),
        ) {
            let (path, source) = (pointer(&place), pointer(&from));
            let found = |place: &str| document.pointer(place).cloned();
            let run = |operation: Value| json_patch(document.clone(), json!([operation])).ok();
            let ran = run(json!({"op": "add", "path": path, "value": value}));
            prop_assert_eq!(ran, add(&document, &place, &value), "add {} {}", path, document);
            if !place.is_empty() {
                let ran = run(json!({"op": "remove", "path": path}));
                prop_assert_eq!(ran, remove(&document, &place), "remove {} {}", path, document);
            }
            let ran = run(json!({"op": "test", "path": path, "value": value}));
            // But for upstream's exception.
            let parent = place.split_last().map(|(_, parents)| pointer(parents));
            let is_field = parent.and_then(|parent| found(&parent)).is_some_and(|at| at.is_object());
            let is_as_null = value.is_null() && is_field && found(&path).is_none();
            prop_assert_eq!(ran.is_some(), is_as_null || found(&path) == Some(value.clone()));
            let copied = found(&source).and_then(|value| add(&document, &place, &value));
            prop_assert_eq!(run(json!({"op": "copy", "path": path, "from": source})), copied);
        }

        #[test]
        fn anything_is_a_patch_or_is_refused(document in document(), patch in document()) {
            let patched = json_patch(document, patch);
            prop_assert!(patched.is_ok() || patched.is_err());
        }
    }
}
