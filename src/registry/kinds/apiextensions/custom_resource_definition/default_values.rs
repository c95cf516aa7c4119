//! Defaults are values of the schema that they are of (upstream `ValidateDefaults`, apiextensions
//! pkg/apiserver/schema/defaulting/validation.go, v1.35).

use super::rules::{self, RULES_BYTES_MAX};
use crate::api::{FieldError, FieldPath};
use crate::registry::schema::structural::defaults::{self, Surrounding};
use crate::registry::schema::structural::validations::{self, Before, Rules, Subject};
use crate::registry::schema::structural::{
    Structural, embedded, prune_as, validate_part, validate_structure,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

/// What is wrong with the defaults of a resource's schema at `path`.
pub(super) fn validate(
    schema: &Structural,
    requires_pruned: bool,
    path: &FieldPath,
) -> Vec<FieldError> {
    if !defaults::has_default(schema) {
        return Vec::new();
    }
    let root = schema.clone().into_root();
    let budget = Some(validations::BUDGET);
    let mut walker = Walker { requires_pruned, budget, compiled_bytes: 0, errors: Vec::new() };
    let place = Place { root: &root, surrounding: &Surrounding::Root, is_in_metadata: false };
    walker.visit(&root, place, path);
    walker.errors
}

/// The rules below a default are compiled for it, and again for each default around it, until they have
/// this many bytes of expressions. Upstream has no such limit.
const COMPILED_BYTES_MAX: usize = 2 * RULES_BYTES_MAX;

/// Whether defaults say what the schema does not have.
pub(super) fn has_unpruned_defaults(props: &JSONSchemaProps) -> bool {
    let Ok(schema) = Structural::new(props) else { return false };
    if !defaults::has_default(&schema)
        || !validate_structure(&FieldPath::default(), &schema).is_empty()
    {
        return false;
    }
    let mut pruned = schema.clone();
    defaults::prune_defaults(&mut pruned);
    pruned != schema
}

struct Walker {
    requires_pruned: bool,
    /// What rules may still cost; `None` where that was not enough, and nothing more is said.
    budget: Option<u64>,
    /// How many bytes of expressions were compiled.
    compiled_bytes: usize,
    errors: Vec<FieldError>,
}

/// Where a schema is in the resource that it is a part of.
#[derive(Clone, Copy)]
struct Place<'a> {
    root: &'a Structural,
    surrounding: &'a Surrounding<'a>,
    is_in_metadata: bool,
}

impl Walker {
    fn visit(&mut self, schema: &Structural, place: Place<'_>, path: &FieldPath) {
        if self.budget.is_none() {
            return;
        }
        // A resource within a resource is one by itself.
        let place = match schema.is_embedded() {
            true => Place { root: schema, surrounding: &Surrounding::Root, is_in_metadata: false },
            false => place,
        };
        if let Some(default) = schema.default_value() {
            let path = path.child("default");
            let errors = match place.is_in_metadata {
                true => in_metadata(default, schema, place, &path),
                false => self.elsewhere(default, schema, &path),
            };
            if errors.is_empty() {
                self.rules((schema, std::ptr::eq(schema, place.root)), default, &path);
            }
            self.errors.extend(errors);
        }
        if let Some(items) = schema.items() {
            let surrounding = Surrounding::Element { above: place.surrounding };
            let place = Place { surrounding: &surrounding, ..place };
            self.visit(items, place, &path.child("items"));
        }
        for (name, property) in schema.properties() {
            let surrounding = Surrounding::Child { above: place.surrounding, name };
            let is_of_all = matches!(name, "metadata" | "apiVersion" | "kind");
            let is_in_metadata = place.is_in_metadata || (schema.is_embedded() && is_of_all);
            let place = Place { surrounding: &surrounding, is_in_metadata, ..place };
            self.visit(property, place, &path.child("properties").key(name));
        }
    }

    /// A default has to keep the rules as what does not change, and as what is new.
    fn rules(
        &mut self,
        (schema, is_resource): (&Structural, bool),
        default: &Value,
        path: &FieldPath,
    ) {
        let Some(budget) = self.budget else { return };
        self.compiled_bytes += rules::bytes(schema);
        if self.compiled_bytes > COMPILED_BYTES_MAX {
            let detail = format!(
                "defaults within each other must not have more than {COMPILED_BYTES_MAX} bytes of rules together"
            );
            self.errors.push(FieldError::forbidden(path, detail));
            self.budget = None;
            return;
        }
        let Some(rules) = Rules::of(schema, is_resource) else { return };
        let check = |before: Before<'_>| {
            rules.check(Subject { schema, value: default, before }, path, budget)
        };
        let mut finding = check(Before::Compared(default));
        if finding.errors.is_empty() {
            let as_new = check(Before::Nothing);
            finding.budget = finding.budget.min(as_new.budget);
            finding.errors = as_new.errors;
        }
        self.budget = finding.budget;
        self.errors.extend(finding.errors);
    }

    fn elsewhere(&self, default: &Value, schema: &Structural, path: &FieldPath) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut value = default.clone();
        if self.requires_pruned {
            prune_as(&mut value, schema, schema.is_embedded());
            if value != *default {
                let detail = "must not have unknown fields";
                errors.push(FieldError::invalid(path, default.clone(), detail));
            }
        }
        let mut value = default.clone();
        errors.extend(match embedded::coerce_at(path, &mut value, schema, schema.is_embedded()) {
            Err(error) => vec![error],
            Ok(_) => {
                let of_metadata = embedded::validate_at(path, &value, schema, schema.is_embedded());
                match of_metadata.is_empty() {
                    true => validate_part(path, &value, schema),
                    false => of_metadata,
                }
            }
        });
        errors
    }
}

/// A default within metadata is judged with all of it.
fn in_metadata(
    default: &Value,
    schema: &Structural,
    place: Place<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut object = place.surrounding.wrap(default.clone());
    let Value::Object(fields) = &mut object else { return Vec::new() };
    fields.entry("kind").or_insert_with(|| json!("Validation"));
    fields.entry("apiVersion").or_insert_with(|| json!("validation/v1"));
    let nowhere = FieldPath::default();
    let wrong = |problem: String| {
        let detail = format!("must result in valid metadata: {problem}");
        vec![FieldError::invalid(path, default.clone(), detail)]
    };
    match embedded::coerce_at(&nowhere, &mut object, place.root, true) {
        Err(error) => wrong(error.to_string()),
        Ok(_) => {
            let errors = embedded::validate_at(&nowhere, &object, place.root, true);
            match errors.is_empty() {
                true => validate_part(path, default, schema),
                false => wrong(aggregate(&errors)),
            }
        }
    }
}

/// Several errors as one text (upstream `ToAggregate`).
pub(super) fn aggregate(errors: &[FieldError]) -> String {
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    crate::api::status::aggregate(&texts)
}
