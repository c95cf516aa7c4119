//! What makes a schema structural (upstream `ValidateStructural`, apiextensions
//! pkg/apiserver/schema/{validation,complete}.go, v1.35).
//!
//! Types and what belongs to them are said once, outside of `allOf`, `anyOf`, `oneOf` and `not`:
//! what is nested there says what values must be like, and of fields that the schema has.

use super::node::{Additional, Checks, Structural, Type};
use super::pattern::Pattern;
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Schemas that belong together are refused where their regular expressions take more memory than
/// this when they are all in use, or are as much work to compile. Upstream has no such limit.
const PATTERNS_BYTES_MAX: usize = 64 << 20;

const TOO_LARGE: &str = "the regular expressions of the schema are too large together";

/// What the regular expressions of schemas that belong together, such as those of all versions of a
/// definition, may still take.
#[derive(Debug)]
pub struct PatternBudget(Cell<usize>);

impl Default for PatternBudget {
    fn default() -> Self {
        Self(Cell::new(PATTERNS_BYTES_MAX))
    }
}

impl PatternBudget {
    fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self, bytes: usize) {
        self.0.set(self.0.get().saturating_sub(bytes));
    }
}

/// Where a schema is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is not structural about the schema at `path`, sorted.
#[must_use]
pub fn validate_structure(path: &FieldPath, schema: &Structural) -> Vec<FieldError> {
    validate_structure_within(&PatternBudget::default(), path, schema)
}

/// As [`validate_structure`], for one of several schemas that belong together.
#[must_use]
pub fn validate_structure_within(
    budget: &PatternBudget,
    path: &FieldPath,
    schema: &Structural,
) -> Vec<FieldError> {
    let mut rules = Rules { errors: Vec::new(), patterns: BTreeMap::new(), budget };
    rules.node(schema, Level::Root, path);
    if let Some(checks) = schema.checks() {
        rules.complete_checks(checks, Some(schema), &Paths { schema: path, nested: path });
    }
    rules.errors.sort_by_cached_key(ToString::to_string);
    rules.errors
}

struct Rules<'s> {
    errors: Vec<FieldError>,
    /// The regular expressions that were looked at, and what is wrong with them.
    patterns: BTreeMap<&'s str, Option<String>>,
    budget: &'s PatternBudget,
}

/// The place of a schema, and of what is nested and says something of it.
struct Paths<'a> {
    schema: &'a FieldPath,
    nested: &'a FieldPath,
}

impl Paths<'_> {
    fn step(&self, step: impl Fn(&FieldPath) -> FieldPath) -> (FieldPath, FieldPath) {
        (step(self.schema), step(self.nested))
    }
}

impl<'s> Rules<'s> {
    /// Upstream `validateStructuralInvariants`.
    fn node(&mut self, schema: &'s Structural, level: Level, path: &FieldPath) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        if schema.kind() == Type::Array && schema.items().is_none() {
            self.errors.push(FieldError::required(&path.child("items"), "must be specified"));
        }
        if let Some(items) = schema.items() {
            self.node(items, Level::Item, &path.child("items"));
        }
        for (name, property) in schema.properties() {
            self.node(property, Level::Field, &path.child("properties").key(name));
        }
        let additional = path.child("additionalProperties");
        if level == Level::Root && *schema.additional() != Additional::Unsaid {
            self.errors.push(FieldError::forbidden(&additional, "must not be used at the root"));
        }
        if let Some(schema) = schema.additional_schema() {
            self.node(schema, Level::Field, &additional);
        }
        self.extensions(schema, path);
        let patterns = IntOrString::of(schema);
        if let Some(checks) = schema.checks() {
            self.checks(checks, patterns, path);
        }
        self.kind(schema, level, path);
        self.metadata(schema, level, path);
    }

    /// Upstream `validateExtensions`.
    fn extensions(&mut self, schema: &Structural, path: &FieldPath) {
        for (name, is_set) in [
            ("x-kubernetes-preserve-unknown-fields", schema.preserves_unknown()),
            ("x-kubernetes-embedded-resource", schema.is_embedded()),
        ] {
            if schema.is_int_or_string() && is_set {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                self.errors.push(FieldError::invalid(&path.child(name), true, detail));
            }
        }
    }

    fn kind(&mut self, schema: &Structural, level: Level, path: &FieldPath) {
        let (kind, name) = (path.child("type"), schema.type_name());
        if schema.is_embedded() && schema.kind() != Type::Object {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            self.errors.push(if name.is_empty() {
                FieldError::required(&kind, detail)
            } else {
                FieldError::invalid(&kind, name, detail)
            });
        } else if name.is_empty() && !schema.is_int_or_string() && !schema.preserves_unknown() {
            let detail = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            self.errors.push(FieldError::required(&kind, detail));
        }
        if schema.is_embedded() && *schema.additional() != Additional::Unsaid {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            self.errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
        }
        if level == Level::Root && !name.is_empty() && schema.kind() != Type::Object {
            self.errors.push(FieldError::invalid(&kind, name, "must be object at the root"));
        }
        if schema.is_embedded() && !schema.preserves_unknown() && schema.properties().len() == 0 {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.errors.push(FieldError::required(&path.child("properties"), detail));
        }
    }

    fn metadata(&mut self, schema: &Structural, level: Level, path: &FieldPath) {
        let is_resource = level == Level::Root || schema.is_embedded();
        let properties = path.child("properties");
        for name in ["kind", "apiVersion"] {
            let Some(property) = schema.property(name).filter(|_| is_resource) else { continue };
            if property.kind() != Type::String {
                let path = properties.key(name).child("type");
                self.errors.push(FieldError::invalid(
                    &path,
                    property.type_name(),
                    "must be string",
                ));
            }
        }
        let Some(metadata) = schema.property("metadata") else { return };
        let path = properties.key("metadata");
        if is_resource && metadata.kind() != Type::Object {
            let detail = "must be object";
            self.errors.push(FieldError::invalid(
                &path.child("type"),
                metadata.type_name(),
                detail,
            ));
        }
        if level == Level::Root && !says_names_only(metadata) {
            let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.errors.push(FieldError::forbidden(&path, detail));
        }
    }

    /// Upstream `validateValueValidation`.
    fn checks(&mut self, checks: &'s Checks, skipped: IntOrString, path: &FieldPath) {
        if skipped != IntOrString::AnyOf {
            for (index, nested) in checks.any_of.iter().enumerate() {
                self.nested(nested, IntOrString::No, &path.child("anyOf").index(index));
            }
        }
        for (index, nested) in checks.all_of.iter().enumerate() {
            let is_first = index == 0 && skipped == IntOrString::FirstAllOf;
            let skipped = if is_first { IntOrString::AnyOf } else { IntOrString::No };
            self.nested(nested, skipped, &path.child("allOf").index(index));
        }
        for (index, nested) in checks.one_of.iter().enumerate() {
            self.nested(nested, IntOrString::No, &path.child("oneOf").index(index));
        }
        if let Some(not) = &checks.not {
            self.nested(not, IntOrString::No, &path.child("not"));
        }
        if let Some(pattern) = &checks.pattern {
            self.pattern(pattern, path);
        }
    }

    /// Each expression is compiled once.
    fn pattern(&mut self, pattern: &'s Pattern, path: &FieldPath) {
        let source = pattern.source();
        if !self.patterns.contains_key(source) && !self.budget.is_spent() {
            let checked = pattern.check();
            self.budget.spend(checked.as_ref().map_or_else(|bad| bad.cost, |bytes| *bytes));
            let problem = match checked {
                Ok(_) => self.budget.is_spent().then(|| TOO_LARGE.to_owned()),
                Err(error) => {
                    Some(format!("must be a valid regular expression, but isn't: {error}"))
                }
            };
            self.patterns.insert(source, problem);
        }
        if let Some(Some(problem)) = self.patterns.get(source) {
            let error = FieldError::invalid(&path.child("pattern"), source, problem.as_str());
            self.errors.push(error);
        }
    }

    /// Upstream `validateNestedValueValidation`.
    fn nested(&mut self, nested: &'s Structural, skipped: IntOrString, path: &FieldPath) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        if let Some(checks) = nested.checks() {
            self.checks(checks, skipped, path);
        }
        if let Some(items) = nested.items() {
            self.nested(items, IntOrString::No, &path.child("items"));
        }
        for (name, property) in nested.properties() {
            let path = path.child("properties").key(name);
            self.nested(property, IntOrString::No, &path);
        }
        let has_additional =
            !matches!(nested.additional(), Additional::Unsaid | Additional::Allowed(false));
        for (name, detail, is_found) in [
            ("type", "must be empty", nested.kind() != Type::Any),
            ("additionalProperties", "must be undefined", has_additional),
            ("default", "must be undefined", nested.default_value().is_some()),
            ("title", "must be empty", nested.marks.has_title),
            ("description", "must be empty", nested.marks.has_description),
            ("nullable", "must be false", nested.is_nullable()),
            ("x-kubernetes-preserve-unknown-fields", "must be false", nested.preserves_unknown()),
            ("x-kubernetes-embedded-resource", "must be false", nested.is_embedded()),
            ("x-kubernetes-int-or-string", "must be false", nested.is_int_or_string()),
            ("x-kubernetes-list-map-keys", "must be empty", !nested.list_keys().is_empty()),
            ("x-kubernetes-list-type", "must be undefined", nested.marks.has_list_type),
            ("x-kubernetes-map-type", "must be undefined", nested.marks.has_map_type),
            ("x-kubernetes-validations", "must be empty", !nested.rules().is_empty()),
        ] {
            if is_found {
                let detail = format!("{detail} to be structural");
                self.errors.push(FieldError::forbidden(&path.child(name), detail));
            }
        }
        if nested.property("metadata").is_some() {
            let path = path.child("properties").key("metadata");
            let detail = "must not be specified in a nested context";
            self.errors.push(FieldError::forbidden(&path, detail));
        }
    }

    /// Upstream `validateValueValidationCompleteness`.
    fn complete_checks(&mut self, checks: &Checks, schema: Option<&Structural>, paths: &Paths<'_>) {
        let Some(schema) = schema else { return self.incomplete(paths) };
        let mut below = |nested: &Structural, path: FieldPath| {
            let paths = Paths { schema: paths.schema, nested: &path };
            self.complete(nested, Some(schema), &paths);
        };
        if let Some(not) = &checks.not {
            below(not, paths.nested.child("not"));
        }
        let all = [("allOf", &checks.all_of), ("anyOf", &checks.any_of), ("oneOf", &checks.one_of)];
        for (name, nested) in all {
            for (index, nested) in nested.iter().enumerate() {
                below(nested, paths.nested.child(name).index(index));
            }
        }
    }

    /// Upstream `validateNestedValueValidationCompleteness`.
    fn complete(&mut self, nested: &Structural, schema: Option<&Structural>, paths: &Paths<'_>) {
        let Some(schema) = schema else { return self.incomplete(paths) };
        if let Some(checks) = nested.checks() {
            self.complete_checks(checks, Some(schema), paths);
        }
        if let Some(items) = nested.items() {
            let (at, nested) = paths.step(|path| path.child("items"));
            self.complete(items, schema.items(), &Paths { schema: &at, nested: &nested });
        }
        for (name, property) in nested.properties() {
            let (at, nested) = paths.step(|path| path.child("properties").key(name));
            let paths = Paths { schema: &at, nested: &nested };
            self.complete(property, schema.property(name), &paths);
        }
    }

    fn incomplete(&mut self, paths: &Paths<'_>) {
        let detail = format!("because it is defined in {}", paths.nested);
        self.errors.push(FieldError::required(paths.schema, detail));
    }
}

/// The two forms in which the types of an int-or-string may be written out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IntOrString {
    No,
    AnyOf,
    FirstAllOf,
}

impl IntOrString {
    fn of(schema: &Structural) -> Self {
        let Some(checks) = schema.checks() else { return Self::No };
        let first = checks.all_of.first().and_then(Structural::checks);
        if is_either_type(&checks.any_of) {
            Self::AnyOf
        } else if first.is_some_and(|first| is_either_type(&first.any_of)) {
            Self::FirstAllOf
        } else {
            Self::No
        }
    }
}

fn is_either_type(any_of: &[Structural]) -> bool {
    let bare = |kind: Type| Structural { kind, ..Structural::default() };
    any_of == [bare(Type::Integer), bare(Type::String)]
}

fn says_names_only(metadata: &Structural) -> bool {
    let is_name = |name: &str| matches!(name, "name" | "generateName");
    let mut rest = metadata.clone();
    if rest.properties().all(|(name, _)| is_name(name)) {
        rest.properties = Box::default();
    }
    rest.kind = Type::Any;
    if let Some(extras) = &mut rest.extras {
        extras.default = None;
        extras.unknown_type = None;
    }
    rest.extras = rest.extras.filter(|extras| **extras != super::node::Extras::default());
    rest == Structural::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(schema: Value, expected: &[&str]) {
        let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
        let errors = validate_structure(&FieldPath::new("s"), &schema);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn what_is_structural_is_taken() {
        check(
            json!({
                "type": "object",
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}},
                    "spec": {
                        "type": "object",
                        "properties": {
                            "a": {"type": "string"},
                            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                            "other": {"x-kubernetes-int-or-string": true, "allOf": [
                                {"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"maxLength": 3},
                            ]},
                            "any": {"x-kubernetes-preserve-unknown-fields": true},
                        },
                        "anyOf": [{"required": ["a"]}, {"properties": {"a": {"pattern": "x"}}}],
                        "not": {"required": ["port"]},
                    },
                },
            }),
            &[],
        );
    }

    #[test]
    fn types_are_said_everywhere_and_metadata_nowhere() {
        check(
            json!({"properties": {
                "kind": {"type": "integer"},
                "metadata": {"type": "object", "description": "x"},
                "list": {"type": "array"},
                "items": {"type": "array", "items": {}},
                "field": {},
                "template": {"x-kubernetes-embedded-resource": true},
            }, "additionalProperties": true}),
            &[
                "s.additionalProperties: Forbidden: must not be used at the root",
                "s.properties[field].type: Required value: must not be empty for specified object fields",
                "s.properties[items].items.type: Required value: must not be empty for specified array items",
                "s.properties[kind].type: Invalid value: \"integer\": must be string",
                "s.properties[list].items: Required value: must be specified",
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
                "s.properties[template].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                "s.properties[template].type: Required value: must be object if x-kubernetes-embedded-resource is true",
                "s.type: Required value: must not be empty at the root",
            ],
        );
        check(
            json!({"type": "array", "items": {"type": "string"}}),
            &["s.type: Invalid value: \"array\": must be object at the root"],
        );
    }

    #[test]
    fn nested_schemas_say_nothing_of_types() {
        check(
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "allOf": [{
                "type": "object",
                "description": "x",
                "default": {},
                "nullable": true,
                "additionalProperties": {"type": "string"},
                "x-kubernetes-list-type": "odd",
                "properties": {"a": {"x-kubernetes-validations": [{"rule": "true"}]}, "metadata": {}, "b": {}},
            }]}),
            &[
                "s.allOf[0].additionalProperties: Forbidden: must be undefined to be structural",
                "s.allOf[0].default: Forbidden: must be undefined to be structural",
                "s.allOf[0].description: Forbidden: must be empty to be structural",
                "s.allOf[0].nullable: Forbidden: must be false to be structural",
                "s.allOf[0].properties[a].x-kubernetes-validations: Forbidden: must be empty to be structural",
                "s.allOf[0].properties[metadata]: Forbidden: must not be specified in a nested context",
                "s.allOf[0].type: Forbidden: must be empty to be structural",
                "s.allOf[0].x-kubernetes-list-type: Forbidden: must be undefined to be structural",
                "s.properties[b]: Required value: because it is defined in s.allOf[0].properties[b]",
                "s.properties[metadata]: Required value: because it is defined in s.allOf[0].properties[metadata]",
            ],
        );
    }

    #[test]
    fn patterns_are_not_too_large_together() {
        let patterns = |count: usize| {
            let of = |index: usize| {
                let pattern = format!("^(a{{1000}}){{60}}{index}$");
                (format!("p{index}"), json!({"type": "string", "pattern": pattern}))
            };
            let properties: serde_json::Map<_, _> = (0..count).map(of).collect();
            let schema = json!({"type": "object", "properties": properties});
            let schema = Structural::new(&serde_json::from_value(schema).unwrap()).unwrap();
            validate_structure(&FieldPath::new("s"), &schema)
        };
        assert!(patterns(10).is_empty());
        let errors = patterns(20);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().ends_with(TOO_LARGE), "{}", errors[0]);
    }

    #[test]
    fn patterns_are_regular_expressions() {
        check(
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}}),
            &[
                "s.properties[a].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[`",
            ],
        );
    }
}
