//! Checks values against a schema, in the words and order of kube-openapi's validator
//! (`SchemaValidator`, pkg/validation/validate, v1.35), as clients know them of custom resources.
//!
//! Start at [`validate()`]. Every check below returns an [`Outcome`]: what is wrong, and how much
//! matched, by which the best of several alternatives is chosen. What upstream leaves to the order
//! of Go's maps is sorted here.

pub(super) mod correlate;
mod outcome;
mod scalar;
#[cfg(test)]
mod tests;

use super::node::{Additional, Checks, Structural, Type};
use crate::api::{FieldError, FieldPath};
use correlate::Correlated;
use outcome::{Code, Outcome, Trail};
use serde_json::{Map, Value};

/// How upstream shows where errors are that are of the whole object.
#[must_use]
pub fn nowhere() -> FieldPath {
    FieldPath::new("<nil>")
}

/// What is wrong with `value` (upstream `ValidateCustomResource`).
#[must_use]
pub fn validate(value: &Value, schema: &Structural) -> Vec<FieldError> {
    check(value, schema, (Trail::Root, None)).into_errors(None)
}

/// What is wrong with going from `old` to `new`: what was wrong before and has not changed is
/// tolerated (upstream `ValidateCustomResourceUpdate`, KEP-4008).
#[must_use]
pub fn validate_update(new: &Value, old: &Value, schema: &Structural) -> Vec<FieldError> {
    let correlated = Correlated { new, old, schema };
    check_change(correlated, Trail::Root).into_errors(None)
}

/// As [`validate_update`], of a part of a resource at `path`. Without an old value nothing is
/// tolerated.
#[must_use]
pub fn validate_update_at(
    path: &FieldPath,
    new: &Value,
    old: Option<&Value>,
    schema: &Structural,
) -> Vec<FieldError> {
    let outcome = match old {
        Some(old) => check_change(Correlated { new, old, schema }, Trail::Root),
        None => check(new, schema, (Trail::Root, None)),
    };
    outcome.into_errors(Some(path))
}

/// As [`validate`], of a part of a resource at `path`.
#[must_use]
pub fn validate_part(path: &FieldPath, value: &Value, schema: &Structural) -> Vec<FieldError> {
    validate_update_at(path, value, None, schema)
}

/// Where a check is, and what was there before, where that is known.
type At<'a> = (Trail<'a>, Option<&'a Correlated<'a>>);

fn check_change(correlated: Correlated<'_>, trail: Trail<'_>) -> Outcome {
    let outcome = check(correlated.new, correlated.schema, (trail, Some(&correlated)));
    if !outcome.is_valid() && correlated.is_unchanged() {
        return outcome.tolerated();
    }
    outcome
}

/// Upstream `SchemaValidator.Validate`.
fn check(value: &Value, schema: &Structural, (trail, correlated): At<'_>) -> Outcome {
    let mut all = Outcome::default();
    let checks = schema.checks();
    if value.is_null() {
        all.merge(check_type(value, schema, trail));
        all.merge(
            checks.map(|checks| scalar::check_enum(value, checks, trail)).unwrap_or_default(),
        );
        return all;
    }
    let is_typed = schema.is_int_or_string() || schema.kind() != Type::Any;
    if is_typed || checks.is_some_and(|checks| checks.format.is_some()) {
        all.merge(check_type(value, schema, trail));
        all.count();
    }
    let alternatives = checks.map(|checks| check_alternatives(value, checks, trail));
    all.merge(alternatives.unwrap_or_else(Outcome::one));
    all.count();
    let no_checks = Checks::default();
    let checks = checks.unwrap_or(&no_checks);
    match value {
        Value::String(text) => {
            all.merge(scalar::check_string(text, checks, trail));
            all.count();
            if let Some(format) = &checks.format {
                all.merge(scalar::check_format(text, format, trail));
                all.count();
            }
        }
        Value::Number(number) => {
            all.merge(scalar::check_number(number, checks, trail));
            all.count();
        }
        Value::Array(list) => {
            all.merge(check_list(list, (schema, checks), (trail, correlated)));
            all.count();
        }
        _ => {}
    }
    all.merge(scalar::check_enum(value, checks, trail));
    all.count();
    if let Value::Object(object) = value {
        all.merge(check_object(object, (schema, checks), (trail, correlated)));
        all.count();
    }
    all.count();
    all
}

/// Upstream `typeValidator`, with its indulgence for strings and lists where there is a format.
fn check_type(value: &Value, schema: &Structural, trail: Trail<'_>) -> Outcome {
    let (found, format) = type_of(value);
    let wanted = type_names(schema);
    let wrong = |wanted: &str, found: &str| {
        let detail = format!("{trail} in body must be of type {wanted}: {found:?}");
        Outcome::failed(trail, Code::Type, Some(found.into()), detail)
    };
    if value.is_null() {
        let is_wrong = !wanted.is_empty() && !schema.is_nullable();
        return if is_wrong { wrong(&wanted.join(","), "null") } else { Outcome::one() };
    }
    let is_of = |name: &str| wanted.contains(&name);
    let is_whole = matches!(value, Value::Number(number) if scalar::is_whole(number));
    let is_as_number =
        found == "number" && is_whole && is_of("integer") || found == "integer" && is_of("number");
    let wanted_format = schema.checks().and_then(|checks| checks.format.as_deref());
    if let Some(wanted_format) = wanted_format {
        let is_text = value.is_string() || value.is_array();
        if !(is_text || is_of(found) || format == wanted_format || is_as_number) {
            return wrong(wanted_format, format);
        }
        if is_text && !is_of("number") && !is_of("integer") {
            return Outcome::one();
        }
    }
    if is_of(found) || is_as_number { Outcome::one() } else { wrong(&wanted.join(","), found) }
}

fn type_names(schema: &Structural) -> Vec<&str> {
    match schema.type_name() {
        _ if schema.is_int_or_string() => vec!["integer", "string"],
        "" => Vec::new(),
        name => vec![name],
    }
}

/// Type and format of a value.
fn type_of(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// `anyOf`, `oneOf`, `allOf` and `not` (upstream `schemaPropsValidator`). Nothing is tolerated
/// within them: only the field they are of as a whole.
fn check_alternatives(value: &Value, checks: &Checks, trail: Trail<'_>) -> Outcome {
    let mut all = Outcome::one();
    let try_one = |schema: &Structural| check(value, schema, (trail, None));
    if !checks.any_of.is_empty() {
        let best = best(checks.any_of.iter().map(try_one), Outcome::is_valid).0;
        if !best.is_valid() {
            all.add_plain(format!(
                "{:?} must validate at least one schema (anyOf)",
                trail.to_string()
            ));
        }
        all.merge(best);
    }
    if !checks.one_of.is_empty() {
        let (best, valid) = best(checks.one_of.iter().map(try_one), |_| false);
        if valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                _ => format!("Found {valid} valid alternatives"),
            };
            all.add_plain(format!(
                "{:?} must validate one and only one schema (oneOf). {found}",
                trail.to_string()
            ));
        }
        // Of several that are valid upstream tells none.
        if valid < 2 {
            all.merge(best);
        }
    }
    if !checks.all_of.is_empty() {
        let mut valid = 0;
        for outcome in checks.all_of.iter().map(try_one) {
            valid += usize::from(outcome.is_valid());
            all.merge(outcome);
        }
        if valid < checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            let place = trail.to_string();
            all.add_plain(format!("{place:?} must validate all the schemas (allOf){none}"));
        }
    }
    if checks.not.as_ref().is_some_and(|not| try_one(not).is_valid()) {
        all.add_plain(format!("{:?} must not validate the schema (not)", trail.to_string()));
    }
    all
}

/// The one that is valid, or the first of those that matched the most; and how many are valid. None
/// is tried after one that is `enough`, and none is kept beside the best.
fn best(
    outcomes: impl Iterator<Item = Outcome>,
    enough: impl Fn(&Outcome) -> bool,
) -> (Outcome, usize) {
    let mut best: Option<Outcome> = None;
    let mut valid = 0;
    for outcome in outcomes {
        valid += usize::from(outcome.is_valid());
        let is_last = enough(&outcome);
        let is_better = best.as_ref().is_none_or(|best| {
            !best.is_valid() && (outcome.is_valid() || outcome.matches() > best.matches())
        });
        if is_better {
            best = Some(outcome);
        }
        if is_last {
            break;
        }
    }
    (best.unwrap_or_default(), valid)
}

/// Upstream `schemaSliceValidator`.
fn check_list(
    list: &[Value],
    (schema, checks): (&Structural, &Checks),
    (trail, correlated): At<'_>,
) -> Outcome {
    let mut all = Outcome::one();
    if let Some(items) = schema.items() {
        let before = correlated.map(Correlated::elements);
        for (index, value) in list.iter().enumerate() {
            let trail = trail.index(index);
            let old = before.as_ref().and_then(|before| before.find(value));
            all.merge(match old {
                Some(old) => check_change(Correlated { new: value, old, schema: items }, trail),
                None => check(value, items, (trail, None)),
            });
            if all.is_full() {
                return all;
            }
        }
    }
    let size = i64::try_from(list.len()).unwrap_or(i64::MAX);
    if let Some(min) = checks.min_items.filter(|min| size < *min) {
        let detail = format!("{trail} in body should have at least {min} items");
        all.add(trail, Code::Other, Some(size.into()), detail);
    }
    if let Some(max) = checks.max_items.filter(|max| size > *max) {
        all.add_too_many(trail, size, max);
    }
    if checks.is_unique && has_repeated(list) {
        let detail = format!("{trail} in body shouldn't contain duplicates");
        all.add(trail, Code::Other, None, detail);
    }
    all
}

fn has_repeated(list: &[Value]) -> bool {
    let mut seen = std::collections::HashSet::new();
    !list.iter().all(|value| seen.insert(value.to_string()))
}

/// Upstream `objectValidator`.
fn check_object(
    object: &Map<String, Value>,
    (schema, checks): (&Structural, &Checks),
    at: At<'_>,
) -> Outcome {
    let (trail, _) = at;
    let mut all = Outcome::default();
    let size = i64::try_from(object.len()).unwrap_or(i64::MAX);
    if let Some(min) = checks.min_properties.filter(|min| size < *min) {
        let detail = format!("{trail} in body should have at least {min} properties");
        all.add(trail, Code::Other, Some(size.into()), detail);
    }
    if let Some(max) = checks.max_properties.filter(|max| size > *max) {
        all.add_too_many(trail, size, max);
    }
    for (name, value) in object {
        if all.is_full() {
            return all;
        }
        if schema.property(name).is_some() {
            continue;
        }
        match schema.additional() {
            Additional::Schema(schema) => {
                all.merge(check_child((name, value, schema), trail.dotted(name), at));
            }
            Additional::Allowed(false) => {
                let detail = format!("{trail}.{name} in body is a forbidden property");
                all.add(trail, Code::Other, Some(name.as_str().into()), detail);
            }
            Additional::Allowed(true) | Additional::Unsaid => {}
        }
    }
    for (name, value) in object {
        if let Some(property) = schema.property(name) {
            all.merge(check_child((name, value, property), trail.name(name), at));
        }
    }
    for name in checks.required.iter().filter(|name| !object.contains_key(&***name)) {
        let trail = trail.dotted(name);
        all.add(trail, Code::Required, None, format!("{trail} in body is required"));
    }
    all
}

fn check_child(
    (name, value, schema): (&str, &Value, &Structural),
    trail: Trail<'_>,
    (above, correlated): At<'_>,
) -> Outcome {
    let is_type_of_all = matches!(above, Trail::Root) && matches!(name, "kind" | "apiVersion");
    match correlated.filter(|_| !is_type_of_all).and_then(|it| it.key(name)) {
        Some(child) => check_change(Correlated { schema, ..child }, trail),
        None => check(value, schema, (trail, None)),
    }
}
