//! The columns that a definition asks for (upstream apiextensions
//! pkg/registry/customresource/tableconvertor, v1.35).

use super::json_path::JsonPath;
use crate::registry::cells;
use crate::registry::kind::Column;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Number, Value};
use std::borrow::Cow;

const INVALID: &str = "<invalid>";
const NO_VALUE: &str = "<no value>";
const CREATED: &str = ".metadata.creationTimestamp";

#[derive(Clone, Debug)]
pub(super) struct Columns {
    headers: Vec<Column>,
    /// Of all columns but the first, which is the name.
    paths: Vec<JsonPath>,
}

impl Columns {
    /// Without any of its own a version has `Age`. After one that is no path none is shown.
    pub(super) fn of(defined: &[CustomResourceColumnDefinition]) -> Self {
        let mut columns = Self { headers: vec![Column::NAME], paths: Vec::new() };
        if defined.is_empty() {
            let age = Column { kind: Cow::Borrowed("date"), ..Column::AGE };
            columns.headers.push(age);
            columns.paths.extend(JsonPath::parse(CREATED));
            return columns;
        }
        for column in defined {
            let Ok(path) = JsonPath::parse(&column.json_path) else { break };
            columns.headers.push(header(column));
            columns.paths.push(path);
        }
        columns
    }

    pub(super) fn headers(&self) -> &[Column] {
        &self.headers
    }

    /// The cells of an object.
    pub(super) fn row(&self, name: Value, object: &Value, now: Timestamp) -> Vec<Value> {
        let custom = self.headers[1..].iter().zip(&self.paths);
        let cell = |(header, path): (&Column, &JsonPath)| {
            let found = path.find(object).ok().and_then(|found| found.first().copied());
            found.map_or(Value::Null, |value| cell(&header.kind, value, now))
        };
        std::iter::once(name).chain(custom.map(cell)).collect()
    }
}

fn header(column: &CustomResourceColumnDefinition) -> Column {
    let described = column.description.clone().filter(|text| !text.is_empty());
    let description = described.unwrap_or_else(|| {
        format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
    });
    Column {
        name: column.name.clone().into(),
        kind: column.type_.clone().into(),
        format: column.format.clone().unwrap_or_default().into(),
        description: description.into(),
        priority: column.priority.unwrap_or_default(),
    }
}

/// Upstream `cellForJSONValue`; texts are printed whatever they are.
fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", Value::Null) => NO_VALUE.into(),
        ("string", value) => printed(value).into(),
        ("integer", Value::Number(number)) => whole(number),
        ("number", Value::Number(number)) => number.as_f64().map_or(Value::Null, Value::from),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => date(text, now),
        _ => Value::Null,
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::Number(number) if !number.is_i64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string())
        }
        other => other.to_string(),
    }
}

fn whole(number: &Number) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "Go's conversion, but for the saturation")]
    let truncated = || number.as_f64().map(|number| number as i64);
    number.as_i64().or_else(truncated).map_or(Value::Null, Value::from)
}

fn date(text: &str, now: Timestamp) -> Value {
    if text.is_empty() || text == "null" {
        return cells::since(None, now).into();
    }
    match text.parse::<Timestamp>() {
        Ok(then) => cells::since(Some(&Time(then)), now).into(),
        Err(_) => INVALID.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(kind: &str, path: &str, expected: Value) {
        let object = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"text": "a", "number": 3, "half": 1.5, "yes": true, "list": ["x", "y"], "null": null, "empty": ""},
        });
        let column = json!({"name": "C", "type": kind, "jsonPath": path});
        let columns = Columns::of(&[serde_json::from_value(column).unwrap()]);
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(columns.row(json!("n"), &object, now), [json!("n"), expected], "{kind} {path}");
    }

    #[test]
    fn cells_are_of_the_kind_of_their_column() {
        check("string", ".spec.text", json!("a"));
        check("string", ".spec.number", json!("3"));
        check("string", ".spec.half", json!("1.5"));
        check("string", ".spec.list", json!("[\"x\",\"y\"]"));
        check("string", ".spec.list[*]", json!("x"));
        check("string", ".spec.null", json!("<no value>"));
        check("string", ".spec.missing", json!(null));
        check("integer", ".spec.number", json!(3));
        check("integer", ".spec.half", json!(1));
        check("integer", ".spec.text", json!(null));
        check("number", ".spec.number", json!(3.0));
        check("boolean", ".spec.yes", json!(true));
        check("boolean", ".spec.text", json!(null));
        check("date", ".metadata.creationTimestamp", json!("5m"));
        check("date", ".spec.text", json!("<invalid>"));
        check("date", ".spec.empty", json!("<unknown>"));
        check("date", ".spec.list[9]", json!(null));
    }

    #[test]
    fn without_columns_there_is_the_age() {
        let columns = Columns::of(&[]);
        let names: Vec<_> = columns.headers().iter().map(|column| &*column.name).collect();
        assert_eq!(names, ["Name", "Age"]);
        assert_eq!(columns.headers()[1].kind, "date");
    }

    #[test]
    fn columns_say_where_they_come_from() {
        let column = json!({"name": "C", "type": "string", "jsonPath": ".spec.x", "priority": 1});
        let columns = Columns::of(&[serde_json::from_value(column).unwrap()]);
        assert_eq!(
            columns.headers()[1].description,
            "Custom resource definition column (in JSONPath format): .spec.x"
        );
        assert_eq!(columns.headers()[1].priority, 1);
    }
}
