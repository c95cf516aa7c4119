//! Expressions that users write, compiled, and evaluated over a small object within their budget.

#![no_main]

use kinglet::cel::{Budget, Declared, Environment, Shape, Type, Value, evaluate};
use kinglet::registry::custom::json_path::JsonPath;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::LazyLock;

static OBJECT: LazyLock<serde_json::Value> = LazyLock::new(
    || json!({"a": 1, "b": [1, 2.5, "x", null], "c": {"d": "2026-01-01T00:00:00Z", "e": {"f": true}}}),
);

fuzz_target!(|text: &str| {
    if let Ok(path) = JsonPath::parse(text) {
        drop(path.find(&OBJECT));
    }
    let environment = Environment::default().with("self", Type::Dyn);
    let Ok(program) = environment.compile(text) else { return };
    let own = Value::of_json(&OBJECT, &Declared::of(Shape::Any));
    drop(evaluate(&program, &[("self", own)], Budget::CALL));
});
