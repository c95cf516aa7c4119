//! The scale of a custom resource: where its definition says that the numbers are (upstream
//! `ScaleREST` and `ValidateScaleSpec`, apiextensions pkg/registry/customresource, v1.35).

use crate::api::{FieldError, FieldPath};
use serde_json::{Map, Value, json};

const NOT_NEGATIVE: &str = "should be a non-negative integer";

/// Paths such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    pub spec_replicas: String,
    pub status_replicas: String,
    /// Absent or empty: there is no selector.
    pub label_selector: Option<String>,
}

/// What a scale says of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scaled {
    /// `None`: the field is not there.
    pub replicas: Option<i64>,
    pub status_replicas: i64,
    pub selector: String,
}

impl ScalePaths {
    /// What the scale of `object` is.
    ///
    /// # Errors
    /// Where a field is not what it should be.
    pub fn read(&self, object: &Value) -> Result<Scaled, String> {
        let selector = self.label_selector.as_deref().filter(|path| !path.is_empty());
        let selector = selector.map(|path| nested_text(object, path)).transpose()?.flatten();
        Ok(Scaled {
            replicas: nested_number(object, &self.spec_replicas)?,
            status_replicas: nested_number(object, &self.status_replicas)?.unwrap_or_default(),
            selector: selector.unwrap_or_default(),
        })
    }

    /// Sets how many replicas are wanted.
    ///
    /// # Errors
    /// Where there is no place for it.
    pub fn write(&self, object: &mut Value, replicas: i32) -> Result<(), String> {
        let mut place = object;
        for name in names(&self.spec_replicas) {
            let Value::Object(fields) = place else {
                return Err(format!("value cannot be set because {name} is not a map"));
            };
            place = fields.entry(name).or_insert_with(|| Value::Object(Map::new()));
        }
        *place = json!(replicas);
        Ok(())
    }

    pub(super) fn validate_spec(&self, object: &Value) -> Vec<FieldError> {
        validate_number(object, &self.spec_replicas).into_iter().collect()
    }

    pub(super) fn validate_status(&self, object: &Value) -> Vec<FieldError> {
        let mut errors: Vec<_> =
            validate_number(object, &self.status_replicas).into_iter().collect();
        if let Some(path) = &self.label_selector
            && let Err(problem) = nested_text(object, path)
        {
            errors.push(FieldError::invalid(&FieldPath::new(path), "", problem));
        }
        errors
    }
}

fn validate_number(object: &Value, path: &str) -> Option<FieldError> {
    let wrong = |value: i64, detail: String| {
        Some(FieldError::invalid(&FieldPath::new(path), value, detail))
    };
    match nested_number(object, path) {
        Err(problem) => wrong(0, problem),
        Ok(Some(number)) if number < 0 => wrong(number, NOT_NEGATIVE.to_owned()),
        Ok(Some(number)) if number > i64::from(i32::MAX) => {
            wrong(number, format!("should be less than or equal to {}", i32::MAX))
        }
        Ok(_) => None,
    }
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('.').unwrap_or(path).split('.')
}

/// Upstream `NestedFieldNoCopy` (apimachinery pkg/apis/meta/v1/unstructured).
fn nested<'v>(object: &'v Value, path: &str) -> Result<Option<&'v Value>, String> {
    let mut value = object;
    let mut so_far = String::new();
    for name in names(path) {
        match value {
            Value::Object(fields) => match fields.get(name) {
                Some(field) => value = field,
                None => return Ok(None),
            },
            Value::Null => return Ok(None),
            odd => {
                return Err(mismatch(&format!("{so_far}.{name}"), odd, "map[string]interface {}"));
            }
        }
        so_far.push('.');
        so_far.push_str(name);
    }
    Ok(Some(value))
}

fn nested_number(object: &Value, path: &str) -> Result<Option<i64>, String> {
    let Some(found) = nested(object, path)? else { return Ok(None) };
    let number = found.as_i64().ok_or_else(|| mismatch(&dotted(path), found, "int64"))?;
    Ok(Some(number))
}

fn nested_text(object: &Value, path: &str) -> Result<Option<String>, String> {
    let Some(found) = nested(object, path)? else { return Ok(None) };
    let text = found.as_str().ok_or_else(|| mismatch(&dotted(path), found, "string"))?;
    Ok(Some(text.to_owned()))
}

fn dotted(path: &str) -> String {
    format!(".{}", path.strip_prefix('.').unwrap_or(path))
}

fn mismatch(path: &str, found: &Value, wanted: &str) -> String {
    let (shown, kind) = match found {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(value) => (value.to_string(), "bool"),
        Value::Number(number) if number.is_i64() => (number.to_string(), "int64"),
        Value::Number(number) => (number.to_string(), "float64"),
        Value::String(text) => (text.clone(), "string"),
        Value::Array(_) => (found.to_string(), "[]interface {}"),
        Value::Object(_) => (found.to_string(), "map[string]interface {}"),
    };
    format!("{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> ScalePaths {
        ScalePaths {
            spec_replicas: ".spec.replicas".to_owned(),
            status_replicas: ".status.replicas".to_owned(),
            label_selector: Some(".status.selector".to_owned()),
        }
    }

    #[test]
    fn numbers_are_where_the_paths_say() {
        let mut object =
            json!({"spec": {"replicas": 2}, "status": {"replicas": 1, "selector": "a=b"}});
        let scaled = Scaled { replicas: Some(2), status_replicas: 1, selector: "a=b".to_owned() };
        assert_eq!(paths().read(&object), Ok(scaled));
        assert_eq!(paths().read(&json!({})), Ok(Scaled::default()));
        paths().write(&mut object, 5).unwrap();
        assert_eq!(object["spec"]["replicas"], 5);
        let mut empty = json!({});
        paths().write(&mut empty, 1).unwrap();
        assert_eq!(empty, json!({"spec": {"replicas": 1}}));
        assert!(paths().write(&mut json!({"spec": 1}), 1).is_err());
    }

    #[test]
    fn numbers_are_numbers_within_bounds() {
        let texts = |object: Value| {
            let mut errors = paths().validate_spec(&object);
            errors.extend(paths().validate_status(&object));
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(texts(json!({"spec": {"replicas": 1}, "status": {}})).is_empty());
        assert_eq!(
            texts(
                json!({"spec": {"replicas": -1}, "status": {"replicas": 2_147_483_648_i64, "selector": 1}})
            ),
            [
                ".spec.replicas: Invalid value: -1: should be a non-negative integer",
                ".status.replicas: Invalid value: 2147483648: should be less than or equal to 2147483647",
                ".status.selector: Invalid value: \"\": .status.selector accessor error: 1 is of the type int64, expected string",
            ]
        );
        assert_eq!(
            texts(json!({"spec": {"replicas": "x"}, "status": 1})),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: x is of the type string, expected int64",
                ".status.replicas: Invalid value: 0: .status.replicas accessor error: 1 is of the type int64, expected map[string]interface {}",
                ".status.selector: Invalid value: \"\": .status.selector accessor error: 1 is of the type int64, expected map[string]interface {}",
            ]
        );
    }
}
