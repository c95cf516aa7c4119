//! What a strict decoder has against a document, in upstream's words and order.
//!
//! Upstream decodes JSON into structs and notes unknown fields and fields that come twice as it
//! meets them (`UnmarshalStrict`, `sigs.k8s.io/json`, v1.35); what is inside an unknown field or
//! free-form JSON it does not look at. [`check`](super::check()) and [`decode`](super::decode())
//! know whether there is anything to say; only if so are the bytes read once more here.

use super::check::Checked;
use super::decode::{Decoded, Format, Problems};
use super::path::Path;
use super::table::{BUILT_IN, Shape, Table, TypeRef};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Unknown fields and fields that come twice. With `fieldValidation=Strict` this is the error,
/// with `Warn` each of [`warnings`](Self::warnings) is a header of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrictProblems {
    /// Of the YAML parser, which upstream runs first; one error for all of them.
    yaml: Vec<String>,
    fields: Vec<String>,
}

impl StrictProblems {
    /// Of a document that was decoded and checked, of the built-in type `of`. What is of another
    /// type is read without one first: what comes twice is told before what is unknown.
    #[must_use]
    pub fn of_document(
        of: Option<TypeRef>,
        (bytes, format): (&[u8], Format),
        decoded: &Decoded,
        checked: &Checked,
    ) -> Self {
        let unknown = || checked.unknown.clone();
        match format {
            _ if decoded.duplicates.is_empty() && checked.unknown.is_empty() => Self::default(),
            Format::Yaml => Self { yaml: decoded.duplicates.clone(), fields: unknown() },
            Format::Json if decoded.duplicates.is_empty() && checked.unknown.len() == 1 => {
                Self { yaml: Vec::new(), fields: unknown() }
            }
            Format::Json => {
                let fields = match of {
                    Some(of) => scan(Expected::Shape(Shape::Struct(of)), bytes),
                    None => decoded.duplicates.iter().cloned().chain(unknown()).collect(),
                };
                Self { yaml: Vec::new(), fields }
            }
        }
    }

    /// Of a merge patch or strategic merge patch, and of the document it made.
    #[must_use]
    pub fn of_patch(patch: &Decoded, checked: &Checked) -> Self {
        let mut fields = patch.duplicates.clone();
        fields.extend(checked.unknown.iter().cloned());
        Self { yaml: Vec::new(), fields }
    }

    /// Of a JSON patch, as bytes, and of the document it made.
    #[must_use]
    pub fn of_json_patch(patch: &[u8], checked: &Checked) -> Self {
        let mut fields = scan(Expected::Operations, patch);
        for text in &mut fields {
            text.insert_str(0, "json patch ");
        }
        fields.extend(checked.unknown.iter().cloned());
        Self { yaml: Vec::new(), fields }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.yaml.is_empty() && self.fields.is_empty()
    }

    /// One text a problem.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.yaml.iter().chain(&self.fields).map(String::as_str)
    }
}

/// As upstream `strictDecodingError` says it (apimachinery pkg/runtime/error.go, v1.35).
impl fmt::Display for StrictProblems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("strict decoding error: ")?;
        let mut separator = "";
        if !self.yaml.is_empty() {
            write!(formatter, "yaml: unmarshal errors:\n  {}", self.yaml.join("\n  "))?;
            separator = ", ";
        }
        for field in &self.fields {
            write!(formatter, "{separator}{field}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl std::error::Error for StrictProblems {}

/// What the scan is looking at.
#[derive(Clone, Copy)]
enum Expected {
    Shape(Shape),
    /// A JSON patch.
    Operations,
    /// One operation of it.
    Operation,
}

/// The fields of an operation of a JSON patch.
const OPERATION_FIELDS: [&str; 4] = ["from", "op", "path", "value"];

/// The problems of a JSON document, in the order of the document. One that is not well-formed
/// ends early: it has been refused before.
fn scan(expected: Expected, bytes: &[u8]) -> Vec<String> {
    let mut problems = Problems::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let scanner =
        Scanner { table: &BUILT_IN, expected, path: &Path::Root, problems: &mut problems };
    drop(scanner.deserialize(&mut reader));
    problems.into_texts()
}

struct Scanner<'a> {
    table: &'a Table,
    expected: Expected,
    path: &'a Path<'a>,
    problems: &'a mut Problems,
}

/// What is known of a name in an object.
enum Name {
    Unknown,
    /// Its value is skipped.
    Opaque,
    Known(Expected),
}

impl Scanner<'_> {
    fn lookup(&self, name: &str) -> Name {
        match self.expected {
            Expected::Shape(Shape::Struct(of)) => match self.table.get(of).field(name) {
                Some(field) => Name::Known(Expected::Shape(field.shape())),
                None => Name::Unknown,
            },
            Expected::Shape(Shape::Map(of)) => Name::Known(Expected::Shape(self.table.element(of))),
            Expected::Operation if OPERATION_FIELDS.contains(&name) => Name::Opaque,
            _ => Name::Unknown,
        }
    }

    fn element(&self) -> Option<Expected> {
        match self.expected {
            Expected::Shape(Shape::List(of)) => Some(Expected::Shape(self.table.element(of))),
            Expected::Operations => Some(Expected::Operation),
            _ => None,
        }
    }

    fn is_opaque(&self) -> bool {
        match self.expected {
            Expected::Shape(Shape::Struct(of)) => self.table.get(of).is_any(),
            Expected::Shape(Shape::Map(_) | Shape::List(_)) => false,
            Expected::Shape(_) => true,
            Expected::Operations | Expected::Operation => false,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Scanner<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.is_opaque() {
            deserializer.deserialize_ignored_any(IgnoredAny).map(drop)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Scanner<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some(expected) = self.element() else {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for index in 0.. {
            let path = self.path.index(index);
            let scanner =
                Scanner { table: self.table, expected, path: &path, problems: self.problems };
            if access.next_element_seed(scanner)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = access.next_key::<String>()? {
            let path = self.path.key(&name);
            let known = self.lookup(&name);
            match &known {
                Name::Unknown => {
                    self.problems.report(|| format!("unknown field {:?}", path.to_string()));
                }
                _ if seen.contains(&name) => {
                    self.problems.report(|| format!("duplicate field {:?}", path.to_string()));
                }
                _ => {}
            }
            match known {
                Name::Known(expected) => access.next_value_seed(Scanner {
                    table: self.table,
                    expected,
                    path: &path,
                    problems: self.problems,
                })?,
                Name::Unknown | Name::Opaque => drop(access.next_value::<IgnoredAny>()?),
            }
            seen.insert(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check, decode, types};
    use super::*;

    fn check_document(format: Format, text: &str, message: &str) {
        let decoded = decode(text.as_bytes(), format).unwrap();
        let checked = check(types::DEPLOYMENT, &mut decoded.value.clone());
        let of = types::DEPLOYMENT;
        let problems =
            StrictProblems::of_document(Some(of), (text.as_bytes(), format), &decoded, &checked);
        let said = if problems.is_empty() { String::new() } else { problems.to_string() };
        assert_eq!(said, message, "{text}");
    }

    #[test]
    fn json_is_reported_in_the_order_of_the_document() {
        check_document(Format::Json, r#"{"spec":{"replicas":1}}"#, "");
        check_document(
            Format::Json,
            r#"{"spec":{"unknownField":"x","replicas":1,"replicas":2}}"#,
            r#"strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas""#,
        );
        check_document(
            Format::Json,
            r#"{"spec":{"z":1,"template":{"spec":{"containers":[{"name":"a","name":"b","x":1}]}},"a":{"b":1,"b":2},"a":3}}"#,
            r#"strict decoding error: unknown field "spec.z", duplicate field "spec.template.spec.containers[0].name", unknown field "spec.template.spec.containers[0].x", unknown field "spec.a""#,
        );
    }

    #[test]
    fn labels_are_looked_into_and_free_form_json_is_not() {
        check_document(
            Format::Json,
            r#"{"metadata":{"labels":{"a":"1","a":"2"},"managedFields":[{"fieldsV1":{"x":1,"x":2}}]}}"#,
            r#"strict decoding error: duplicate field "metadata.labels.a""#,
        );
    }

    #[test]
    fn yaml_names_lines_and_then_unknown_fields() {
        check_document(
            Format::Yaml,
            "metadata:\n  name: a\n  name: b\n  extra: c\nspec:\n  paused: true\n  paused: false\n  extra: d\n",
            "strict decoding error: yaml: unmarshal errors:\n  line 3: key \"name\" already set in map\n  line 7: key \"paused\" already set in map, unknown field \"metadata.extra\", unknown field \"spec.extra\"",
        );
    }

    #[test]
    fn json_patches_are_checked_too() {
        let patch = br#"[{"op":"add","path":"/a","value":{"x":1,"x":2},"foo":1},{"op":"remove","path":"/a","path":"/b"}]"#;
        let problems = StrictProblems::of_json_patch(patch, &Checked::default());
        assert_eq!(
            problems.warnings().collect::<Vec<_>>(),
            [r#"json patch unknown field "[0].foo""#, r#"json patch duplicate field "[1].path""#]
        );
    }
}
