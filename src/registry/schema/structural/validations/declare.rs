//! What expressions may expect of a value, and how large it can be, from its schema (upstream
//! `SchemaDeclType`, apiserver pkg/cel/common/schemas.go, v1.35).

use super::super::node::{Checks, ListType, Structural, Type};
use crate::cel::{Declared, ListKind, Object, Shape};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A larger request is not accepted: nothing in an object is larger (upstream
/// `MaxRequestSizeBytes`).
pub const REQUEST_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// What opens and closes a text, a list or an object.
const DELIMITERS_BYTES: u64 = 2;
/// Quotes, colon and comma, and the shortest key.
const ENTRY_BYTES: u64 = 6;
/// The same around a name that is known.
const PROPERTY_BYTES: u64 = 4;
const BOOL_BYTES: u64 = 4;
const NUMBER_BYTES: u64 = 1;
/// Of a code point in UTF-8.
const CODE_POINT_BYTES: u64 = 4;

/// The fewest bytes of each format in JSON, and the most.
const DURATION_BYTES: (u64, u64) = (3, 32);
const DATE_BYTES: (u64, u64) = (12, 12);
const TIME_BYTES: (u64, u64) = (21, 32);

/// What types are called that have no name. Upstream takes another one each time, so that nobody
/// comes to rely on it.
const TYPE_NAME: &str = "selfType";

/// What a value of `schema` can be; `None` where expressions cannot name it, because nothing is
/// known of it or of what is in it. The root of a resource has a type and a name of its own.
#[must_use]
pub fn declare(schema: &Structural, is_resource: bool) -> Option<Arc<Declared>> {
    Declarer::default().declare(schema, is_resource, TYPE_NAME)
}

/// Whether expressions can name values of `schema`.
pub(super) fn is_accessible(schema: &Structural) -> bool {
    if schema.is_int_or_string() {
        return true;
    }
    match schema.kind() {
        Type::Array => schema.items().is_some_and(is_accessible),
        Type::Object => schema.additional_schema().is_none_or(is_accessible),
        Type::String | Type::Boolean | Type::Number | Type::Integer => true,
        Type::Any | Type::Unknown => false,
    }
}

/// What is the same is declared once.
#[derive(Default)]
struct Declarer {
    scalars: HashMap<(&'static str, u64, bool), Arc<Declared>>,
}

impl Declarer {
    fn declare(
        &mut self,
        schema: &Structural,
        is_resource: bool,
        name: &str,
    ) -> Option<Arc<Declared>> {
        let no_checks = Checks::default();
        let checks = schema.checks().unwrap_or(&no_checks);
        let is_nullable = schema.is_nullable();
        if schema.is_int_or_string() {
            let max = longest(checks).unwrap_or(REQUEST_BYTES_MAX - DELIMITERS_BYTES);
            return Some(self.scalar(("", Shape::IntOrString), (NUMBER_BYTES, max), is_nullable));
        }
        Some(match schema.kind() {
            Type::Array => {
                let items = schema.items()?;
                let name = format!("{name}.@idx");
                let items = self.declare(items, items.is_embedded(), &name)?;
                let estimate = room() / items.min_serialized.saturating_add(1);
                let max_elements = checks.max_items.map_or(estimate, at_least_none);
                let shape = Shape::List(items, list_kind(schema));
                let min_serialized = DELIMITERS_BYTES;
                Arc::new(Declared { shape, max_elements, min_serialized, is_nullable })
            }
            Type::Object => match schema.additional_schema() {
                Some(values) => {
                    let name = format!("{name}.@elem");
                    let values = self.declare(values, values.is_embedded(), &name)?;
                    let estimate = room() / values.min_serialized.saturating_add(ENTRY_BYTES);
                    let max_elements = checks.max_properties.map_or(estimate, at_least_none);
                    let min_serialized = DELIMITERS_BYTES;
                    let shape = Shape::Map(values);
                    Arc::new(Declared { shape, max_elements, min_serialized, is_nullable })
                }
                None => Arc::new(self.object((schema, checks), is_resource, name)),
            },
            Type::String => self.text(checks, is_nullable),
            Type::Boolean => self.scalar(("b", Shape::Bool), (BOOL_BYTES, 0), is_nullable),
            Type::Number => self.scalar(("n", Shape::Double), (NUMBER_BYTES, 0), is_nullable),
            Type::Integer => self.scalar(("i", Shape::Int), (NUMBER_BYTES, 0), is_nullable),
            Type::Any | Type::Unknown => return None,
        })
    }

    fn object(
        &mut self,
        (schema, checks): (&Structural, &Checks),
        is_resource: bool,
        name: &str,
    ) -> Declared {
        let lacks_meta = is_resource && !has_meta(schema);
        let mut fields: BTreeMap<String, (Arc<Declared>, bool)> = BTreeMap::new();
        for (property, below) in schema.properties() {
            if lacks_meta && super::super::META_FIELDS.contains(&property) {
                continue;
            }
            let path = format!("{name}.{property}");
            if let Some(declared) = self.declare(below, below.is_embedded(), &path) {
                let has_default = below.default_value().is_some();
                fields.insert(property.to_owned(), (declared, has_default));
            }
        }
        if lacks_meta {
            for (property, declared) in self.meta(name) {
                fields.insert(property.to_owned(), (declared, false));
            }
        }
        let is_required =
            |property: &str| checks.required.iter().any(|required| **required == *property);
        let mut min_serialized = DELIMITERS_BYTES;
        for (property, (declared, has_default)) in &fields {
            if !has_default && is_required(property) {
                let size = as_u64(property.len()) + declared.min_serialized + PROPERTY_BYTES;
                min_serialized = min_serialized.saturating_add(size);
            }
        }
        let fields: BTreeMap<String, Arc<Declared>> =
            fields.into_iter().map(|(property, (declared, _))| (property, declared)).collect();
        let shape = Shape::Object(Object::new(name, Arc::new(fields)));
        Declared { shape, max_elements: 0, min_serialized, is_nullable: schema.is_nullable() }
    }

    /// What the root of a resource always has (upstream `WithTypeAndObjectMeta`).
    fn meta(&mut self, name: &str) -> [(&'static str, Arc<Declared>); 3] {
        let text = self.text(&Checks::default(), false);
        let names = ["name", "generateName"].map(|name| (name.to_owned(), Arc::clone(&text)));
        let names = Object::new(&format!("{name}.metadata"), Arc::new(BTreeMap::from(names)));
        let metadata =
            Declared { min_serialized: DELIMITERS_BYTES, ..Declared::of(Shape::Object(names)) };
        [("kind", Arc::clone(&text)), ("apiVersion", text), ("metadata", Arc::new(metadata))]
    }

    fn text(&mut self, checks: &Checks, is_nullable: bool) -> Arc<Declared> {
        let whole = REQUEST_BYTES_MAX - DELIMITERS_BYTES;
        let (shape, (min, max)) = match checks.format.as_deref() {
            Some("byte") => {
                let max = checks.max_length.map_or(whole, at_least_none);
                (("byte", Shape::Bytes), (DELIMITERS_BYTES, max))
            }
            Some("duration") => (("duration", Shape::Duration), DURATION_BYTES),
            Some("date") => (("date", Shape::Date), DATE_BYTES),
            Some("date-time") => (("date-time", Shape::Timestamp), TIME_BYTES),
            _ => {
                let max = longest(checks).or_else(|| longest_of_enum(checks)).unwrap_or(whole);
                (("text", Shape::String), (DELIMITERS_BYTES, max))
            }
        };
        self.scalar(shape, (min, max), is_nullable)
    }

    /// The least size of a kind of scalars is always the same.
    fn scalar(
        &mut self,
        (kind, shape): (&'static str, Shape),
        (min_serialized, max_elements): (u64, u64),
        is_nullable: bool,
    ) -> Arc<Declared> {
        let made = || Arc::new(Declared { shape, max_elements, min_serialized, is_nullable });
        Arc::clone(self.scalars.entry((kind, max_elements, is_nullable)).or_insert_with(made))
    }
}

/// Whether a schema says all that every resource has.
fn has_meta(schema: &Structural) -> bool {
    let is_text = |schema: &Structural, name: &str| {
        schema.property(name).is_some_and(|schema| schema.kind() == Type::String)
    };
    let is_metadata = |metadata: &Structural| {
        metadata.kind() == Type::Object
            && is_text(metadata, "name")
            && is_text(metadata, "generateName")
    };
    is_text(schema, "kind")
        && is_text(schema, "apiVersion")
        && schema.property("metadata").is_some_and(is_metadata)
}

fn list_kind(schema: &Structural) -> ListKind {
    match schema.list_type() {
        ListType::Map => {
            ListKind::Map(schema.list_keys().iter().map(|key| String::from(&**key)).collect())
        }
        ListType::Set => ListKind::Set,
        ListType::Atomic | ListType::Unsaid => ListKind::Atomic,
    }
}

/// What is in a list or object that fills a request.
const fn room() -> u64 {
    REQUEST_BYTES_MAX - DELIMITERS_BYTES
}

/// Sizes are estimated in bytes, and `maxLength` is in code points.
fn longest(checks: &Checks) -> Option<u64> {
    checks.max_length.map(|max| at_least_none(max).saturating_mul(CODE_POINT_BYTES))
}

fn longest_of_enum(checks: &Checks) -> Option<u64> {
    let lengths = checks.one_of_values.iter().map(|value| value.as_str().map_or(0, str::len));
    lengths.max().map(as_u64)
}

fn at_least_none(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
