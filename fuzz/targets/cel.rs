//! Expressions that users write: compiled and evaluated over a small object, where nothing is known
//! of it and as a rule of a schema, within their budget.

#![no_main]

use kinglet::api::FieldPath;
use kinglet::cel::{Budget, Declared, Environment, Shape, Type, Value, evaluate};
use kinglet::registry::custom::json_path::JsonPath;
use kinglet::registry::schema::structural::{
    Structural, find_field,
    validations::{BUDGET, Before, Rules, Subject},
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::LazyLock;

static OBJECT: LazyLock<serde_json::Value> = LazyLock::new(
    || json!({"a": 1, "b": [1, 2.5, "x", null], "c": {"d": "2026-01-01T00:00:00Z", "e": {"f": true}}}),
);

/// What `schema` declares.
static DECLARED: LazyLock<serde_json::Value> = LazyLock::new(
    || json!({"a": 1, "b": ["x", "y"], "c": {"d": "2026-01-01T00:00:00Z", "e": {"f": true}}, "g": 5}),
);

/// A schema of such objects with the text as its rule, and as the rule's message.
fn schema(text: &str) -> Option<Structural> {
    let rule = json!({
        "rule": text, "messageExpression": text, "fieldPath": text, "optionalOldSelf": true,
    });
    let own = json!({"rule": text});
    let props = json!({"type": "object", "x-kubernetes-validations": [rule, own], "properties": {
        "a": {"type": "integer", "x-kubernetes-validations": [own]},
        "b": {"type": "array", "maxItems": 10, "x-kubernetes-list-type": "set",
            "items": {"type": "string", "maxLength": 20}},
        "c": {"type": "object", "properties": {
            "d": {"type": "string", "format": "date-time"},
            "e": {"type": "object", "additionalProperties": {"type": "boolean"}},
        }},
        "g": {"x-kubernetes-int-or-string": true},
    }});
    Structural::new(&serde_json::from_value(props).ok()?).ok()
}

fuzz_target!(|text: &str| {
    if let Ok(path) = JsonPath::parse(text) {
        drop(path.find(&OBJECT));
    }
    if let Some(schema) = schema(text) {
        let _ = find_field(text, &schema, true);
        let rules = Rules::of(&schema, true).expect("there are rules");
        for before in [Before::Nothing, Before::Tolerated(&OBJECT)] {
            let subject = Subject { schema: &schema, value: &DECLARED, before };
            let _ = rules.check(subject, &FieldPath::default(), BUDGET);
        }
    }
    let environment = Environment::default().with("self", Type::Dyn).binding();
    let Ok(program) = environment.compile(text) else { return };
    let own = Value::of_json(&OBJECT, &Declared::of(Shape::Any));
    drop(evaluate(&program, &[("self", own)], Budget::CALL));
});
