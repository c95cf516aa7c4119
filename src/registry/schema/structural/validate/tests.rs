//! Tables of what is wrong with values, as clients see it.

use super::super::Structural;
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn build(schema: Value) -> Structural {
    Structural::new(&serde_json::from_value(schema).unwrap()).unwrap()
}

#[track_caller]
fn check(schema: Value, value: Value, expected: &[&str]) {
    let errors = super::validate(&value, &build(schema));
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

/// Of the field `spec.a`.
#[track_caller]
fn field(schema: Value, value: Value, expected: &[&str]) {
    let schema = json!({"properties": {"spec": {"properties": {"a": schema}}}});
    check(schema, json!({"spec": {"a": value}}), expected);
}

#[test]
fn types() {
    for (kind, value) in [
        ("string", json!("x")),
        ("integer", json!(1)),
        ("integer", json!(1.0)),
        ("number", json!(1)),
        ("number", json!(1.5)),
        ("boolean", json!(true)),
        ("array", json!([])),
        ("object", json!({})),
    ] {
        field(json!({"type": kind}), value, &[]);
    }
    field(
        json!({"type": "integer"}),
        json!("x"),
        &["spec.a: Invalid value: \"string\": spec.a in body must be of type integer: \"string\""],
    );
    field(
        json!({"type": "integer"}),
        json!(1.5),
        &["spec.a: Invalid value: \"number\": spec.a in body must be of type integer: \"number\""],
    );
    field(
        json!({"type": "string"}),
        json!(null),
        &["spec.a: Invalid value: \"null\": spec.a in body must be of type string: \"null\""],
    );
    field(json!({"type": "string", "nullable": true}), json!(null), &[]);
    field(json!({"x-kubernetes-int-or-string": true}), json!("x"), &[]);
    field(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &[
            "spec.a: Invalid value: \"boolean\": spec.a in body must be of type integer,string: \"boolean\"",
        ],
    );
    check(
        json!({"type": "object"}),
        json!([]),
        &["<nil>: Invalid value: \"array\":  in body must be of type object: \"array\""],
    );
}

#[test]
fn strings() {
    field(json!({"maxLength": 2}), json!("\u{e9}\u{e9}"), &[]);
    field(
        json!({"maxLength": 2}),
        json!("abc"),
        &["spec.a: Too long: may not be more than 2 bytes"],
    );
    field(
        json!({"minLength": 1, "pattern": "x"}),
        json!(""),
        &["spec.a: Invalid value: \"\": spec.a in body should be at least 1 chars long"],
    );
    field(
        json!({"pattern": "^[a-z]+$"}),
        json!("A"),
        &["spec.a: Invalid value: \"A\": spec.a in body should match '^[a-z]+$'"],
    );
    field(
        json!({"type": "string", "format": "date-time"}),
        json!("now"),
        &["spec.a: Invalid value: \"now\": spec.a in body must be of type date-time: \"now\""],
    );
    field(json!({"type": "string", "format": "unheard-of"}), json!("now"), &[]);
    field(
        json!({"enum": ["b", "a", 1, {"x": 1}]}),
        json!("c"),
        &[
            "spec.a: Unsupported value: \"c\": supported values: \"b\", \"a\", \"1\", \"{\\\"x\\\":1}\"",
        ],
    );
    field(json!({"enum": ["b", 1]}), json!(1.0), &[]);
    field(
        json!({"enum": ["b"], "nullable": true}),
        json!(null),
        &["spec.a: Unsupported value: null: supported values: \"b\""],
    );
}

#[test]
fn numbers() {
    field(
        json!({"minimum": 2, "maximum": 1}),
        json!(1),
        &["spec.a: Invalid value: 1: spec.a in body should be greater than or equal to 2"],
    );
    field(
        json!({"maximum": 5, "exclusiveMaximum": true}),
        json!(5),
        &["spec.a: Invalid value: 5: spec.a in body should be less than 5"],
    );
    field(
        json!({"minimum": 0.5}),
        json!(0.25),
        &["spec.a: Invalid value: 0.25: spec.a in body should be greater than or equal to 0.5"],
    );
    field(
        json!({"multipleOf": 5}),
        json!(7),
        &["spec.a: Invalid value: 7: spec.a in body should be a multiple of 5"],
    );
    field(json!({"multipleOf": 0.1}), json!(0.3), &[]);
    field(
        json!({"type": "integer", "format": "int32", "maximum": 10}),
        json!(11),
        &["spec.a: Invalid value: 11: spec.a in body should be less than or equal to 10"],
    );
}

#[test]
fn lists_and_objects() {
    field(
        json!({"items": {"type": "string"}, "minItems": 3, "maxItems": 1, "uniqueItems": true}),
        json!([1, 1]),
        &[
            "spec.a[0]: Invalid value: \"integer\": spec.a[0] in body must be of type string: \"integer\"",
            "spec.a[1]: Invalid value: \"integer\": spec.a[1] in body must be of type string: \"integer\"",
            "spec.a: Invalid value: 2: spec.a in body should have at least 3 items",
            "spec.a: Too many: 2: must have at most 1 item",
            "spec.a: Invalid value: \"\": spec.a in body shouldn't contain duplicates",
        ],
    );
    field(
        json!({"required": ["x"], "minProperties": 3, "maxProperties": 1}),
        json!({"y": 1, "z": 1}),
        &[
            "spec.a: Invalid value: 2: spec.a in body should have at least 3 properties",
            "spec.a: Too many: 2: must have at most 1 item",
            "spec.a.x: Required value",
        ],
    );
    field(
        json!({"additionalProperties": {"type": "string"}}),
        json!({"k.x": 1}),
        &[
            "spec.a.k.x: Invalid value: \"integer\": spec.a.k.x in body must be of type string: \"integer\"",
        ],
    );
    field(
        json!({"additionalProperties": false}),
        json!({"k": 1}),
        &["spec.a: Invalid value: \"k\": spec.a.k in body is a forbidden property"],
    );
    check(json!({"required": ["spec"]}), json!({}), &["spec: Required value"]);
}

#[test]
fn alternatives() {
    let either =
        json!([{"required": ["x"]}, {"required": ["y"], "properties": {"y": {"minimum": 1}}}]);
    field(json!({"anyOf": either}), json!({"x": 1}), &[]);
    field(
        json!({"anyOf": either}),
        json!({}),
        &[
            "<nil>: Invalid value: \"\": \"spec.a\" must validate at least one schema (anyOf)",
            "spec.a.x: Required value",
        ],
    );
    field(
        json!({"oneOf": either}),
        json!({"x": 1, "y": 1}),
        &[
            "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    field(
        json!({"oneOf": either}),
        json!({"y": 0}),
        &[
            "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found none valid",
            "spec.a.y: Invalid value: 0: spec.a.y in body should be greater than or equal to 1",
        ],
    );
    field(
        json!({"allOf": either}),
        json!({"x": 1}),
        &[
            "spec.a.y: Required value",
            "<nil>: Invalid value: \"\": \"spec.a\" must validate all the schemas (allOf)",
        ],
    );
    field(
        json!({"allOf": [{"required": ["x"]}]}),
        json!({}),
        &[
            "spec.a.x: Required value",
            "<nil>: Invalid value: \"\": \"spec.a\" must validate all the schemas (allOf). None validated",
        ],
    );
    field(
        json!({"not": {"required": ["x"]}}),
        json!({"x": 1}),
        &["<nil>: Invalid value: \"\": \"spec.a\" must not validate the schema (not)"],
    );
}

#[track_caller]
fn check_update(schema: &Value, old: Value, new: Value, expected: &[&str]) {
    let errors = super::validate_update(&new, &old, &build(schema.clone()));
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, expected);
}

#[test]
fn what_was_wrong_before_and_is_unchanged_is_tolerated() {
    let schema = json!({"properties": {"spec": {"properties": {
        "a": {"maximum": 5},
        "b": {"maximum": 5},
        "keyed": {
            "type": "array",
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"properties": {"k": {}, "v": {"maximum": 5}}},
        },
        "plain": {"type": "array", "items": {"maximum": 5}},
        "part": {"properties": {"x": {}}, "required": ["y"]},
    }}}});
    let too_large = "should be less than or equal to 5";
    let spec = |spec: Value| json!({ "spec": spec });
    check_update(&schema, spec(json!({"a": 9, "b": 1})), spec(json!({"a": 9, "b": 2})), &[]);
    check_update(
        &schema,
        spec(json!({"a": 9})),
        spec(json!({"a": 8})),
        &[&format!("spec.a: Invalid value: 8: spec.a in body {too_large}")],
    );
    check_update(
        &schema,
        spec(json!({"a": 1})),
        spec(json!({"b": 9})),
        &[&format!("spec.b: Invalid value: 9: spec.b in body {too_large}")],
    );
    let keyed = |list: Value| json!({"spec": {"keyed": list}});
    check_update(
        &schema,
        keyed(json!([{"k": 1, "v": 9}, {"k": 2, "v": 1}])),
        keyed(json!([{"k": 2, "v": 8}, {"k": 3}, {"k": 1, "v": 9}])),
        &[&format!("spec.keyed[0].v: Invalid value: 8: spec.keyed[0].v in body {too_large}")],
    );
    check_update(&schema, spec(json!({"plain": [9]})), spec(json!({"plain": [9], "a": 1})), &[]);
    check_update(
        &schema,
        spec(json!({"plain": [9]})),
        spec(json!({"plain": [9, 1]})),
        &[&format!("spec.plain[0]: Invalid value: 9: spec.plain[0] in body {too_large}")],
    );
    check_update(
        &schema,
        spec(json!({"part": {"x": 1}})),
        spec(json!({"part": {"x": 1}, "a": 1})),
        &[],
    );
    check_update(
        &schema,
        spec(json!({"part": {"x": 1}})),
        spec(json!({"part": {"x": 2}})),
        &["spec.part.y: Required value"],
    );
}

#[test]
fn a_part_is_checked_at_its_place() {
    let schema = build(
        json!({"type": "object", "properties": {"ready": {"type": "integer"}}, "required": ["x"]}),
    );
    let errors = super::validate_update_at(
        &FieldPath::new("status"),
        &json!({"ready": "no"}),
        None,
        &schema,
    );
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "status.ready: Invalid value: \"string\": ready in body must be of type integer: \"string\"",
            "status.x: Required value",
        ]
    );
}

/// Schemas of a few levels.
fn any_schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "default": "d"})),
        Just(json!({"type": "string", "maxLength": 3})),
        Just(json!({"type": "integer", "default": 1, "maximum": 5})),
        Just(json!({"type": "boolean", "nullable": true})),
        Just(json!({"x-kubernetes-int-or-string": true})),
        Just(json!({"x-kubernetes-preserve-unknown-fields": true})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-d]", inner.clone(), 0..4)
                .prop_map(|properties| json!({"type": "object", "properties": properties})),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            inner.prop_map(|of| json!({"type": "object", "additionalProperties": of})),
        ]
    })
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_i64..9).prop_map(Value::from),
        "[a-e]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::btree_map("[a-f]", inner.clone(), 0..4)
                .prop_map(|fields| json!(fields)),
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
        ]
    })
}

proptest! {
    #[test]
    fn pruning_and_defaulting_are_idempotent_and_keep_what_is_valid(
        schema in any_schema(),
        value in any_value(),
    ) {
        use super::super::{defaults, prune, validate_structure};
        let schema = build(json!({"type": "object", "properties": {"spec": schema}}));
        prop_assert_eq!(validate_structure(&FieldPath::new("s"), &schema), Vec::new());
        let mut object = json!({"spec": value});
        let was_valid = super::validate(&object, &schema).is_empty();
        let _ = prune(&mut object, &schema);
        let pruned = object.clone();
        prop_assert!(prune(&mut object, &schema).is_empty());
        prop_assert_eq!(&object, &pruned);
        defaults::prune_nulls(&mut object, &schema);
        defaults::apply(&mut object, &schema);
        let defaulted = object.clone();
        defaults::prune_nulls(&mut object, &schema);
        defaults::apply(&mut object, &schema);
        prop_assert_eq!(&object, &defaulted);
        prop_assert!(prune(&mut object, &schema).is_empty());
        if was_valid {
            prop_assert_eq!(super::validate(&object, &schema), Vec::new());
        }
        prop_assert!(super::validate_update(&object, &object, &schema).is_empty());
    }
}
