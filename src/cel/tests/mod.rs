//! Tests of the language as a whole: from a text to a value, a type, a cost or an error.

mod costs;
mod errors;
mod properties;
mod values;

use super::declared::{Declared, ListKind, Object, Shape};
use super::show::shown;
use super::value::Value;
use super::{Budget, Environment, Output, Program, evaluate};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn sized(shape: Shape, max_elements: u64) -> Arc<Declared> {
    Arc::new(Declared { max_elements, ..Declared::of(shape) })
}

fn plain(shape: Shape) -> Arc<Declared> {
    Arc::new(Declared::of(shape))
}

fn object(name: &str, fields: &[(&str, Arc<Declared>)]) -> Arc<Declared> {
    let fields: BTreeMap<String, Arc<Declared>> =
        fields.iter().map(|(name, field)| ((*name).to_owned(), Arc::clone(field))).collect();
    plain(Shape::Object(Object::new(name, Arc::new(fields))))
}

/// What `self` is in these tests.
fn declared() -> Arc<Declared> {
    let text = sized(Shape::String, 100);
    let item =
        object("self.items.@idx", &[("name", sized(Shape::String, 20)), ("n", plain(Shape::Int))]);
    object(
        "self",
        &[
            ("text", Arc::clone(&text)),
            ("name", Arc::clone(&text)),
            ("count", plain(Shape::Int)),
            ("ratio", plain(Shape::Double)),
            ("flag", plain(Shape::Bool)),
            ("any", sized(Shape::IntOrString, 64)),
            ("at", sized(Shape::Timestamp, 32)),
            ("span", sized(Shape::Duration, 32)),
            ("data", sized(Shape::Bytes, 32)),
            ("my-field.x", plain(Shape::Int)),
            ("namespace", Arc::clone(&text)),
            ("list", sized(Shape::List(Arc::clone(&text), ListKind::Atomic), 10)),
            ("ints", sized(Shape::List(plain(Shape::Int), ListKind::Atomic), 10)),
            ("set", sized(Shape::List(Arc::clone(&text), ListKind::Set), 10)),
            (
                "items",
                sized(
                    Shape::List(Arc::clone(&item), ListKind::Map(["name".to_owned()].into())),
                    10,
                ),
            ),
            ("map", sized(Shape::Map(text), 10)),
            ("inner", item),
        ],
    )
}

fn document() -> Json {
    json!({
        "text": "abc", "name": "web", "count": 3, "ratio": 1.5, "flag": true, "any": "50%",
        "at": "2024-02-03T04:05:06.007Z", "span": "1h30m", "data": "aGk=", "my-field.x": 7,
        "namespace": "shop", "list": ["a", "b", "c"], "ints": [3, 1, 2], "set": ["x", "y"],
        "items": [{"name": "a", "n": 1}, {"name": "b", "n": 2}], "map": {"k": "v", "l": "w"},
        "inner": {"name": "in", "unknown": 1},
    })
}

fn environment() -> Environment {
    let root = declared();
    Environment::default().with("self", root.to_type()).sized(root)
}

fn run<'a>(program: &Program, document: &'a Json) -> Output<'a> {
    let value = Value::of_json(document, &declared());
    evaluate(program, &[("self", value)], Budget::CALL)
}

/// The value in the words of messages, or the error after a `!`.
fn value_of(text: &str) -> String {
    let document = document();
    match environment().compile(text) {
        Err(error) => format!("!!{error}"),
        Ok(program) => match run(&program, &document).result {
            Ok(value) => shown(&value),
            Err(fault) => format!("!{fault}"),
        },
    }
}
