//! The tree itself, compact: what few nodes have is behind a box that the others do not allocate.

use super::pattern::Pattern;
use serde_json::Value;
use std::sync::Arc;

/// The `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// None is said: any value.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// Something that is no type of OpenAPI: no value has it.
    Unknown,
}

impl Type {
    pub(super) fn parse(name: &str) -> Self {
        match name {
            "" => Self::Any,
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Unknown,
        }
    }

    /// `object`; empty where none is said.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Unknown => "unknown",
        }
    }
}

/// `x-kubernetes-list-type`. Absent is atomic to server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    #[default]
    Unsaid,
    Atomic,
    Set,
    /// By the keys in [`Structural::list_keys`].
    Map,
}

/// `x-kubernetes-map-type`. Absent is granular to server-side apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapType {
    #[default]
    Unsaid,
    Atomic,
    Granular,
}

/// What the properties of an object are that are not listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Nothing is said: such properties are pruned.
    #[default]
    Unsaid,
    /// `true`: kept, and what is in them is pruned. `false`: refused.
    Allowed(bool),
    Schema(Box<Structural>),
}

/// A rule in CEL, of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub rule: Box<str>,
    pub message: Box<str>,
    pub message_expression: Box<str>,
    /// `FieldValueInvalid` and its like; empty for that one.
    pub reason: Box<str>,
    pub field_path: Box<str>,
    pub optional_old_self: Option<bool>,
}

/// What values must be like, beyond their type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// One that is known; others say nothing.
    pub format: Option<Box<str>>,
    pub maximum: Option<f64>,
    pub minimum: Option<f64>,
    pub is_maximum_exclusive: bool,
    pub is_minimum_exclusive: bool,
    pub is_unique: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub pattern: Option<Arc<Pattern>>,
    pub one_of_values: Box<[Value]>,
    pub required: Box<[Box<str>]>,
    pub all_of: Box<[Structural]>,
    pub any_of: Box<[Structural]>,
    pub one_of: Box<[Structural]>,
    pub not: Option<Box<Structural>>,
}

/// What few schemas say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Extras {
    pub(super) default: Option<Value>,
    pub(super) list_keys: Box<[Box<str>]>,
    pub(super) rules: Box<[Rule]>,
    /// The name of a [`Type::Unknown`].
    pub(super) unknown_type: Option<Box<str>>,
}

/// Yes or no, of every schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) is_nullable: bool,
    pub(super) preserves_unknown: bool,
    pub(super) is_embedded: bool,
    pub(super) is_int_or_string: bool,
    /// These two are not kept, and forbidden in nested schemas.
    pub(super) has_title: bool,
    pub(super) has_description: bool,
    /// Whether a list type was said that is none.
    pub(super) has_list_type: bool,
    pub(super) has_map_type: bool,
}

/// A schema: of an object, of one of its fields, or one nested in `allOf` and its like.
///
/// A nested one (upstream `NestedValueValidation`) is the same thing; that it says nothing but
/// what values must be like is checked by [`super::validate_structure`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Structural {
    pub(super) kind: Type,
    pub(super) list: ListType,
    pub(super) map: MapType,
    pub(super) marks: Marks,
    /// Sorted by name.
    pub(super) properties: Box<[(Box<str>, Structural)]>,
    pub(super) items: Option<Box<Structural>>,
    pub(super) additional: Additional,
    pub(super) checks: Option<Box<Checks>>,
    pub(super) extras: Option<Box<Extras>>,
}

impl Structural {
    #[must_use]
    pub fn kind(&self) -> Type {
        self.kind
    }

    /// The name of the type as it was written.
    #[must_use]
    pub fn type_name(&self) -> &str {
        let unknown = self.extras.as_ref().and_then(|extras| extras.unknown_type.as_deref());
        unknown.unwrap_or(self.kind.name())
    }

    /// The schema of the property `name`, where it is listed.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&Self> {
        let found = self.properties.binary_search_by(|(other, _)| (**other).cmp(name));
        found.ok().map(|at| &self.properties[at].1)
    }

    /// The listed properties, sorted by name.
    pub fn properties(&self) -> impl ExactSizeIterator<Item = (&str, &Self)> {
        self.properties.iter().map(|(name, schema)| (&**name, schema))
    }

    /// The schema of the elements of a list.
    #[must_use]
    pub fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    #[must_use]
    pub fn additional(&self) -> &Additional {
        &self.additional
    }

    /// The schema of properties that are not listed.
    #[must_use]
    pub fn additional_schema(&self) -> Option<&Self> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            Additional::Unsaid | Additional::Allowed(_) => None,
        }
    }

    /// The schema of the property `name`, listed or not.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.property(name).or_else(|| self.additional_schema())
    }

    #[must_use]
    pub fn list_type(&self) -> ListType {
        self.list
    }

    /// `x-kubernetes-list-map-keys`.
    #[must_use]
    pub fn list_keys(&self) -> &[Box<str>] {
        self.extras.as_ref().map_or(&[], |extras| &extras.list_keys)
    }

    /// The default of the key `name` of the elements of a list of type map.
    #[must_use]
    pub fn list_key_default(&self, name: &str) -> Option<&Value> {
        self.items()?.property(name)?.default_value()
    }

    #[must_use]
    pub fn map_type(&self) -> MapType {
        self.map
    }

    #[must_use]
    pub fn is_nullable(&self) -> bool {
        self.marks.is_nullable
    }

    /// `x-kubernetes-preserve-unknown-fields`.
    #[must_use]
    pub fn preserves_unknown(&self) -> bool {
        self.marks.preserves_unknown
    }

    /// `x-kubernetes-embedded-resource`.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.marks.is_embedded
    }

    /// `x-kubernetes-int-or-string`.
    #[must_use]
    pub fn is_int_or_string(&self) -> bool {
        self.marks.is_int_or_string
    }

    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        self.extras.as_ref().and_then(|extras| extras.default.as_ref())
    }

    /// `x-kubernetes-validations`.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        self.extras.as_ref().map_or(&[], |extras| &extras.rules)
    }

    /// What values must be like, where anything is said.
    #[must_use]
    pub fn checks(&self) -> Option<&Checks> {
        self.checks.as_deref()
    }

    /// Whether this or anything below it has rules in CEL.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        let nested = |nested: &[Self]| nested.iter().any(Self::has_rules);
        !self.rules().is_empty()
            || self.properties.iter().any(|(_, schema)| schema.has_rules())
            || self.items().is_some_and(Self::has_rules)
            || self.additional_schema().is_some_and(Self::has_rules)
            || self.checks().is_some_and(|checks| nested(&checks.all_of))
    }

    /// This as the root of a resource: an object with `apiVersion`, `kind` and `metadata`.
    #[must_use]
    pub fn into_root(mut self) -> Self {
        self.marks.is_embedded = true;
        self
    }
}
