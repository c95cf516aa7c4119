//! What the rules of a definition may cost together, and how often each may be asked of one object.
//!
//! Follows upstream `CELSchemaContext` and `TotalCost` (apiextensions
//! pkg/apis/apiextensions/validation/cel_validation.go, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::cel::Declared;
use crate::cel::Shape;
use crate::registry::schema::structural::validations::{REQUEST_BYTES_MAX, declare};
use crate::registry::schema::structural::{Additional, Structural, Type};
use std::cell::OnceCell;
use std::sync::Arc;

/// An expression that may cost more is refused (upstream `StaticEstimatedCostLimit`).
pub(super) const COST_MAX: u64 = 10_000_000;
/// A definition whose rules may cost more together is refused (upstream
/// `StaticEstimatedCRDCostLimit`).
const TOTAL_COST_MAX: u64 = 100_000_000;
/// So many of those that cost the most are told.
const EXPENSIVE_MAX: usize = 4;
/// An expression that takes less of the whole is not told.
const EXPENSIVE_COST_MIN: u64 = TOTAL_COST_MAX / 100;

/// How values of a schema are reached from those of the schema above.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Property(&'a str),
    Items,
    Additional,
}

/// A schema, with what is above it.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) schema: &'a Structural,
    above: Option<(&'a Scope<'a>, Step<'a>)>,
    /// Whether this or one above has rules.
    is_declared: bool,
    declared: OnceCell<Option<Arc<Declared>>>,
    /// How many values of it an object may have at most; `None` where nothing bounds that.
    cardinality: Option<u64>,
}

impl<'a> Scope<'a> {
    pub(super) fn of_root(schema: &'a Structural) -> Self {
        Self {
            schema,
            above: None,
            is_declared: !schema.rules().is_empty(),
            declared: OnceCell::new(),
            cardinality: Some(1),
        }
    }

    /// What is below; `None` where the schema does not say anything of it.
    pub(super) fn below(&'a self, step: Step<'a>) -> Option<Self> {
        let schema = match step {
            Step::Property(name) => self.schema.property(name),
            Step::Items => self.schema.items(),
            Step::Additional => self.schema.additional_schema(),
        }?;
        let each = elements_max(self.schema);
        Some(Self {
            schema,
            above: Some((self, step)),
            is_declared: self.is_declared || !schema.rules().is_empty(),
            declared: OnceCell::new(),
            cardinality: self.cardinality.and_then(|count| Some(count.saturating_mul(each?))),
        })
    }

    /// What expressions may expect of its values. What is within the reach of a rule is declared
    /// once, with all that is below.
    pub(super) fn declared(&self) -> Option<&Arc<Declared>> {
        self.declared.get_or_init(|| self.declare()).as_ref()
    }

    fn declare(&self) -> Option<Arc<Declared>> {
        let is_resource = self.above.is_none() || self.schema.is_embedded();
        if let Some((above, step)) = self.above.filter(|(above, _)| above.is_declared) {
            let found = match (&above.declared()?.shape, step) {
                (Shape::Object(object), Step::Property(name)) => object.fields().property(name),
                (Shape::List(items, _), Step::Items) => Some(Arc::clone(items)),
                (Shape::Map(values), Step::Additional) => Some(Arc::clone(values)),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        declare(self.schema, is_resource)
    }

    /// What a rule may cost with one object, asked of all values there can be.
    pub(super) fn total(&self, cost: u64) -> u64 {
        let smallest = self.declared().map_or(0, |declared| declared.min_serialized);
        // A comma is between two.
        let fit = REQUEST_BYTES_MAX / smallest.saturating_add(1);
        cost.saturating_mul(self.cardinality.unwrap_or(fit))
    }
}

/// How many values a value of the schema may have; `None` where nothing bounds that (upstream
/// `extractMaxElements`).
fn elements_max(schema: &Structural) -> Option<u64> {
    let checks = schema.checks();
    let max = match schema.kind() {
        Type::Object if *schema.additional() != Additional::Unsaid => {
            checks.and_then(|checks| checks.max_properties)?
        }
        Type::Array => checks.and_then(|checks| checks.max_items)?,
        _ => 1,
    };
    Some(u64::try_from(max).unwrap_or(0))
}

/// What all rules of a definition may cost together.
#[derive(Debug, Default)]
pub(super) struct TotalCost {
    total: u64,
    /// The most expensive first.
    expensive: Vec<(FieldPath, u64)>,
}

impl TotalCost {
    pub(super) fn add(&mut self, path: &FieldPath, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost < EXPENSIVE_COST_MIN {
            return;
        }
        let at = self.expensive.partition_point(|(_, other)| *other >= cost);
        self.expensive.insert(at, (path.clone(), cost));
        self.expensive.truncate(EXPENSIVE_MAX);
    }

    /// What is wrong where it is too much, of a schema at a path.
    pub(super) fn errors(self, path: &FieldPath) -> Vec<FieldError> {
        if self.total <= TOTAL_COST_MAX {
            return Vec::new();
        }
        let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        let each = self.expensive.iter().map(|(path, _)| FieldError::forbidden(path, detail));
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let whole = FieldError::forbidden(path, exceeds(name, self.total, TOTAL_COST_MAX));
        each.chain([whole]).collect()
    }
}

/// Upstream `getCostErrorMessage`.
#[expect(clippy::cast_precision_loss, reason = "a factor that is shown to people")]
pub(super) fn exceeds(name: &str, cost: u64, max: u64) -> String {
    let factor = cost as f64 / max as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
