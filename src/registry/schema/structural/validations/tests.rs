//! Tables of objects, and what rules have against them.

use super::super::node::Structural;
use super::*;
use crate::api::FieldPath;
use serde_json::{Value, json};

fn structural(schema: Value) -> Structural {
    Structural::new(&serde_json::from_value(schema).unwrap()).unwrap()
}

/// `spec` of a resource.
fn of_spec(spec: Value) -> Structural {
    structural(json!({"type": "object", "properties": {"spec": spec}}))
}

fn told(finding: &Finding) -> Vec<String> {
    let errors = finding.errors.iter().map(ToString::to_string);
    errors.chain(finding.warnings.iter().map(|text| format!("warning: {text}"))).collect()
}

#[track_caller]
fn check_with(schema: &Structural, value: Value, before: Before<'_>, expected: &[&str]) {
    let rules = Rules::of(schema, true).expect("there are rules");
    let subject = Subject { schema, value: &value, before };
    let finding = rules.check(subject, &FieldPath::default(), BUDGET);
    assert_eq!(told(&finding), expected, "{value}");
}

#[track_caller]
fn check(spec: &Value, value: Value, expected: &[&str]) {
    check_with(&of_spec(spec.clone()), json!({ "spec": value }), Before::Nothing, expected);
}

/// An update from the first to the second.
#[track_caller]
fn check_update(spec: &Value, (old, new): (Value, Value), expected: &[&str]) {
    let old = json!({ "spec": old });
    let new = json!({ "spec": new });
    check_with(&of_spec(spec.clone()), new, Before::Tolerated(&old), expected);
}

fn rule(rule: &str) -> Value {
    json!([{ "rule": rule }])
}

#[test]
fn rules_are_asked_of_the_values_of_their_schema() {
    let spec = json!({"type": "object",
        "x-kubernetes-validations": [{"rule": "self.min <= self.max"}],
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "name": {"type": "string", "x-kubernetes-validations": rule("self.startsWith('a')")},
            "any": {"x-kubernetes-int-or-string": true,
                "x-kubernetes-validations": rule("type(self) == int ? self > 0 : self.endsWith('%')")},
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rule("self != ''")}},
            "map": {"type": "object", "additionalProperties": {"type": "integer", "x-kubernetes-validations": rule("self > 0")}},
        },
    });
    let bounds = |min: i64, max: i64| json!({"min": min, "max": max});
    check(&spec, bounds(1, 2), &[]);
    check(&spec, bounds(2, 1), &["spec: Invalid value: failed rule: self.min <= self.max"]);
    let mut value = bounds(1, 2);
    value["name"] = json!("b");
    value["any"] = json!("5");
    value["list"] = json!(["a", ""]);
    value["map"] = json!({"k": 1, "l": -1});
    check(
        &spec,
        value,
        &[
            "spec.any: Invalid value: \"5\": failed rule: type(self) == int ? self > 0 : self.endsWith('%')",
            "spec.list[1]: Invalid value: \"\": failed rule: self != ''",
            "spec.map[l]: Invalid value: -1: failed rule: self > 0",
            "spec.name: Invalid value: \"b\": failed rule: self.startsWith('a')",
        ],
    );
}

#[test]
fn absent_and_null_values_are_not_asked() {
    let spec = json!({"type": "object", "properties": {
        "a": {"type": "string", "nullable": true, "x-kubernetes-validations": rule("false")},
        "b": {"type": "integer"},
    }, "x-kubernetes-validations": rule("!has(self.a) && self.b > 0")});
    check(&spec, json!({"a": null, "b": 1}), &[]);
    check(&spec, json!({"b": 1}), &[]);
    check(
        &spec,
        json!({}),
        &[
            "spec: Invalid value: \"object\": no such key: b evaluating rule: !has(self.a) && self.b > 0",
        ],
    );
    check_with(&of_spec(spec), json!({}), Before::Nothing, &[]);
}

#[test]
fn messages_reasons_and_fields_are_as_the_rule_says() {
    let with = |more: Value| {
        let mut rule = json!({"rule": "self.n > 0"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": "object", "properties": {"n": {"type": "integer"},
            "of": {"type": "object", "additionalProperties": {"type": "string"}}},
            "x-kubernetes-validations": [rule]})
    };
    let n = json!({"n": 0});
    for (more, expected) in [
        (json!({"message": " too small "}), "spec: Invalid value: too small"),
        (json!({"messageExpression": "'n is ' + string(self.n)"}), "spec: Invalid value: n is 0"),
        (json!({"messageExpression": "''", "message": "m"}), "spec: Invalid value: m"),
        (json!({"messageExpression": "'a\\nb'"}), "spec: Invalid value: failed rule: self.n > 0"),
        (
            json!({"messageExpression": "string(1 / self.n)", "message": "m"}),
            "spec: Invalid value: m",
        ),
        (json!({"reason": "FieldValueForbidden"}), "spec: Forbidden: failed rule: self.n > 0"),
        (json!({"reason": "FieldValueRequired"}), "spec: Required value: failed rule: self.n > 0"),
        (json!({"reason": "FieldValueDuplicate"}), "spec: Duplicate value"),
        (json!({"reason": "FieldValueInvalid"}), "spec: Invalid value: failed rule: self.n > 0"),
        (json!({"fieldPath": ".n"}), "spec.n: Invalid value: failed rule: self.n > 0"),
        (
            json!({"fieldPath": ".of['a.b']"}),
            "spec.of[a.b]: Invalid value: failed rule: self.n > 0",
        ),
    ] {
        check(&with(more), n.clone(), &[expected]);
    }
    check(
        &with(json!({"messageExpression": "'x'.join"})),
        n.clone(),
        &["spec: Invalid value: failed rule: self.n > 0"],
    );
    let scalar = json!({"type": "integer", "x-kubernetes-validations":
        [{"rule": "self > 0", "reason": "FieldValueDuplicate"}]});
    check(&scalar, json!(0), &["spec: Duplicate value: 0"]);
}

#[test]
fn every_resource_has_a_name_and_a_type() {
    let schema = structural(json!({"type": "object",
        "x-kubernetes-validations": rule("self.metadata.name.size() < 4 && self.kind == 'Widget'"),
        "properties": {"metadata": {"type": "object"}, "template": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
            "x-kubernetes-validations": rule("self.metadata.name != 'b'"),
        }},
    }));
    let object = |name: &str| {
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name},
            "template": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}, "spec": {}}})
    };
    let template = "template: Invalid value: failed rule: self.metadata.name != 'b'";
    check_with(&schema, object("web"), Before::Nothing, &[template]);
    check_with(
        &schema,
        object("website"),
        Before::Nothing,
        &[
            "<nil>: Invalid value: failed rule: self.metadata.name.size() < 4 && self.kind == 'Widget'",
            template,
        ],
    );
}

#[test]
fn rules_about_changes_are_for_what_was_there() {
    let spec = json!({"type": "object", "properties": {
        "size": {"type": "integer", "x-kubernetes-validations": rule("self >= oldSelf")},
        "once": {"type": "string", "x-kubernetes-validations":
            [{"rule": "oldSelf.hasValue() || self == 'new'", "optionalOldSelf": true}]},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"},
                "port": {"type": "integer", "x-kubernetes-validations": rule("self == oldSelf")}}}},
        "plain": {"type": "array", "items": {"type": "integer"},
            "x-kubernetes-validations": rule("self.size() >= oldSelf.size()")},
    }});
    check(&spec, json!({"size": 1, "once": "new", "plain": []}), &[]);
    check(
        &spec,
        json!({"once": "old"}),
        &["spec.once: Invalid value: \"old\": failed rule: oldSelf.hasValue() || self == 'new'"],
    );
    let port = |name: &str, port: i64| json!({"name": name, "port": port});
    check_update(
        &spec,
        (
            json!({"size": 2, "once": "new", "ports": [port("a", 1), port("b", 2)], "plain": [1]}),
            json!({"size": 1, "once": "x", "ports": [port("c", 3), port("b", 2), port("a", 9)], "plain": []}),
        ),
        &[
            "spec.plain: Invalid value: failed rule: self.size() >= oldSelf.size()",
            "spec.ports[2].port: Invalid value: 9: failed rule: self == oldSelf",
            "spec.size: Invalid value: 1: failed rule: self >= oldSelf",
        ],
    );
    check_update(&spec, (json!({}), json!({"size": 1})), &[]);
}

#[test]
fn what_was_wrong_and_has_not_changed_is_warned_of() {
    let spec = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": rule("self == 'right'")},
        "b": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": rule("self != ''")}},
        "never": {"type": "integer", "x-kubernetes-validations": rule("self > oldSelf")},
    }});
    let wrong = "spec.a: Invalid value: \"wrong\": failed rule: self == 'right'";
    let before = json!({"a": "wrong", "b": "x"});
    check_update(
        &spec,
        (before.clone(), json!({"a": "wrong", "b": "y"})),
        &[&format!("warning: {wrong}")],
    );
    check_update(&spec, (json!({"a": "other"}), before), &[wrong]);
    // Elements of a list without keys are what they were if the list is.
    let empty = "spec.list[0]: Invalid value: \"\": failed rule: self != ''";
    check_update(
        &spec,
        (json!({"list": [""]}), json!({"list": [""]})),
        &[&format!("warning: {empty}")],
    );
    check_update(&spec, (json!({"list": [""]}), json!({"list": ["", "a"]})), &[empty]);
    check_update(
        &spec,
        (json!({"never": 1}), json!({"never": 1})),
        &["spec.never: Invalid value: 1: failed rule: self > oldSelf"],
    );
}

#[test]
fn what_costs_too_much_ends_it() {
    let list = json!({"type": "array", "items": {"type": "integer"}});
    let spec = json!({"type": "object", "properties": {"list": list, "n": {"type": "integer"}},
        "x-kubernetes-validations": [
            {"rule": "self.list.all(x, self.list.all(y, x == y))"}, {"rule": "self.n > 0"}]});
    let many: Vec<_> = (0..725).map(|_| 20).collect();
    check(
        &spec,
        json!({"list": many, "n": 0}),
        &[
            "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.list.all(x, self.list.all(y, x == y))",
        ],
    );
    let schema = of_spec(spec);
    let rules = Rules::of(&schema, true).unwrap();
    let value = json!({"spec": {"list": [1, 1], "n": 0}});
    let subject = Subject { schema: &schema, value: &value, before: Before::Nothing };
    let all = rules.check(subject, &FieldPath::default(), BUDGET);
    assert_eq!(told(&all), ["spec: Invalid value: failed rule: self.n > 0"]);
    let spent = BUDGET - all.budget.unwrap();
    let exact = rules.check(subject, &FieldPath::default(), spent);
    assert_eq!((told(&exact), exact.budget), (told(&all), Some(0)));
    let short = rules.check(subject, &FieldPath::default(), spent - 1);
    let detail = "spec: Invalid value: \"object\": validation failed due to running out of cost budget, no further validation rules will be run";
    assert_eq!((told(&short), short.budget), (vec![detail.to_owned()], None));
}

#[test]
fn what_nothing_is_known_of_has_no_rules() {
    let schema = of_spec(json!({"type": "object", "properties": {"a": {"type": "string"}}}));
    assert!(Rules::of(&schema, true).is_none());
    let odd = json!({"type": "object", "properties": {
        "free": {"x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": rule("false")},
        "a": {"type": "integer", "x-kubernetes-validations": rule("self.b")},
    }});
    check(
        &odd,
        json!({"free": 1, "a": 1}),
        &[
            "spec.a: Invalid value: \"integer\": rule compile error: compilation failed: ERROR: <input>:1:5: type 'int' does not support field selection\n | self.b\n | ....^",
        ],
    );
}

#[track_caller]
fn check_declared(schema: Value, expected: Option<(u64, u64)>) {
    let declared = declare(&structural(schema.clone()), false);
    let sizes = declared.map(|declared| (declared.max_elements, declared.min_serialized));
    assert_eq!(sizes, expected, "{schema}");
}

#[test]
fn sizes_are_estimated_as_upstream_does() {
    const WHOLE: u64 = REQUEST_BYTES_MAX - 2;
    check_declared(json!({"type": "string"}), Some((WHOLE, 2)));
    check_declared(json!({"type": "string", "maxLength": 10}), Some((40, 2)));
    check_declared(json!({"type": "string", "maxLength": -1}), Some((0, 2)));
    check_declared(json!({"type": "string", "enum": ["a", "bcd"]}), Some((3, 2)));
    check_declared(json!({"type": "string", "format": "byte", "maxLength": 10}), Some((10, 2)));
    check_declared(json!({"type": "string", "format": "date"}), Some((12, 12)));
    check_declared(json!({"type": "string", "format": "date-time"}), Some((32, 21)));
    check_declared(json!({"type": "string", "format": "duration"}), Some((32, 3)));
    check_declared(json!({"x-kubernetes-int-or-string": true}), Some((WHOLE, 1)));
    check_declared(json!({"type": "boolean"}), Some((0, 4)));
    check_declared(json!({"type": "integer"}), Some((0, 1)));
    check_declared(json!({"type": "array", "items": {"type": "boolean"}}), Some((WHOLE / 5, 2)));
    check_declared(
        json!({"type": "array", "maxItems": 3, "items": {"type": "boolean"}}),
        Some((3, 2)),
    );
    check_declared(
        json!({"type": "object", "additionalProperties": {"type": "boolean"}}),
        Some((WHOLE / 10, 2)),
    );
    let required = json!({"type": "object", "required": ["ab", "c"], "properties": {
        "ab": {"type": "boolean"}, "c": {"type": "integer", "default": 1}, "d": {"type": "string"}}});
    check_declared(required, Some((0, 2 + 2 + 4 + 4)));
    for hidden in [
        json!({"x-kubernetes-preserve-unknown-fields": true}),
        json!({"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}}),
        json!({"type": "object", "additionalProperties": {}}),
    ] {
        check_declared(hidden, None);
    }
}

#[test]
fn lists_are_joined_and_compared_as_their_type_says() {
    let list = |kind: &str, more: Value| {
        let mut list = json!({"type": "array", "x-kubernetes-list-type": kind,
            "items": {"type": "string"}, "x-kubernetes-validations": more});
        if kind == "map" {
            list["x-kubernetes-list-map-keys"] = json!(["k"]);
            list["items"] = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}});
        }
        list
    };
    let changed = rule("self == oldSelf");
    let (old, new) = (json!(["a", "b"]), json!(["b", "a"]));
    check_update(&list("set", changed.clone()), (old.clone(), new.clone()), &[]);
    check_update(
        &list("atomic", changed.clone()),
        (old, new),
        &["spec: Invalid value: failed rule: self == oldSelf"],
    );
    let pair = |k: &str, v: &str| json!({"k": k, "v": v});
    let (old, new) =
        (json!([pair("a", "1"), pair("b", "2")]), json!([pair("b", "2"), pair("a", "1")]));
    check_update(&list("map", changed), (old, new), &[]);
    check(&list("set", rule("(self + ['a', 'c']).size() == 3")), json!(["a", "b"]), &[]);
    check(&list("map", rule("(self + self).size() == 1")), json!([pair("a", "1")]), &[]);
}
