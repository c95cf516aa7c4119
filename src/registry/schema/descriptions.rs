//! What upstream says of the types of the table and of their fields.
//!
//! The sentences are `k8s-openapi`'s, taken when this was built (build/descriptions.rs) and kept
//! compressed. Only OpenAPI documents have them, so nothing of it stays: [`Descriptions::read`]
//! decompresses all of them, half a megabyte, for as long as somebody renders.

use super::table::{BUILT_IN, TypeRef};
use flate2::read::DeflateDecoder;
use std::io::Read as _;

#[path = "../../../build/values.rs"]
mod values;
use values::VALUES;

static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema_descriptions"));

/// About how long they are, so that the buffer grows once.
const BYTES_EXPECTED: usize = 600 << 10;
/// The sizes of a text's end and of the number of an entry's text.
const END_BYTES: usize = 4;
const NUMBER_BYTES: usize = 2;

/// See the module.
#[derive(Debug)]
pub struct Descriptions {
    /// How many texts there are, where each ends, the texts' numbers by entry, and the texts.
    bytes: Vec<u8>,
    texts: usize,
}

impl Descriptions {
    /// Decompresses them.
    #[must_use]
    pub fn read() -> Self {
        let mut bytes = Vec::with_capacity(BYTES_EXPECTED);
        let read = DeflateDecoder::new(COMPRESSED).read_to_end(&mut bytes);
        read.expect("what the build script compressed can be decompressed");
        let mut descriptions = Self { bytes, texts: 0 };
        descriptions.texts = descriptions.number_at::<END_BYTES>(0);
        descriptions
    }

    /// What is said of a type.
    #[must_use]
    pub fn of_type(&self, of: TypeRef) -> Option<&str> {
        self.entry(usize::from(of.0))
    }

    /// What is said of the field of `of` that has `nth` fields before it.
    #[must_use]
    pub fn of_field(&self, of: TypeRef, nth: usize) -> Option<&str> {
        let (types, _) = BUILT_IN.size();
        self.entry(types + BUILT_IN.first_field(of) + nth)
    }

    /// What is said of a type that is a value and no struct, by its OpenAPI name.
    #[must_use]
    pub fn of_value(&self, name: &str) -> Option<&str> {
        let (types, fields) = BUILT_IN.size();
        let at = VALUES.iter().position(|value| *value == name)?;
        self.entry(types + fields + at)
    }

    fn number_at<const BYTES: usize>(&self, at: usize) -> usize {
        let bytes = self.bytes[at..at + BYTES].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    }

    fn entry(&self, entry: usize) -> Option<&str> {
        let entries = (1 + self.texts) * END_BYTES;
        let (types, fields) = BUILT_IN.size();
        let texts = entries + (types + fields + VALUES.len()) * NUMBER_BYTES;
        let number = self.number_at::<NUMBER_BYTES>(entries + entry * NUMBER_BYTES);
        let end = |number: usize| self.number_at::<END_BYTES>((1 + number) * END_BYTES);
        let start = number.checked_sub(1).map_or(0, end);
        let text = &self.bytes[texts..][start..end(number)];
        let text = std::str::from_utf8(text).expect("texts are written whole");
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::types;
    use super::*;
    use std::collections::BTreeSet;

    /// Types of which upstream says nothing either, or that are in no document.
    const TYPES_SAID_NOTHING_OF: [&str; 2] =
        ["io.k8s.api.admissionregistration.v1alpha1.MatchCondition", "PartialObjectMetadata"];
    /// Types without a word on some of their fields.
    const FIELDS_SAID_NOTHING_OF: [&str; 11] = [
        "CertificateSigningRequest",
        "ExternalDocumentation",
        "GroupResource",
        "IngressRule",
        "Info",
        "JSON",
        "JSONSchemaProps",
        "JSONSchemaPropsOrArray",
        "JSONSchemaPropsOrBool",
        "JSONSchemaPropsOrStringArray",
        "WatchEvent",
    ];

    fn field(of: TypeRef, name: &str) -> usize {
        BUILT_IN.get(of).fields().position(|field| field.name() == name).unwrap()
    }

    #[test]
    fn every_type_and_field_is_described() {
        let descriptions = Descriptions::read();
        let mut silent = BTreeSet::new();
        for (of, view) in BUILT_IN.types() {
            let name = format!("{}.{}", view.package(), view.name());
            // Lists are described in our own words.
            let is_list = view.is_kind() && view.name().ends_with("List");
            let is_listed =
                |list: &[&str]| list.iter().any(|listed| *listed == name || *listed == view.name());
            if is_list && view.field("items").is_some() || view.name() == "PartialObjectMetadata" {
                continue;
            }
            if descriptions.of_type(of).is_none() && !is_listed(&TYPES_SAID_NOTHING_OF) {
                silent.insert(name.clone());
            }
            for (nth, field) in view.fields().enumerate() {
                let is_said = descriptions.of_field(of, nth).is_some();
                if !is_said && !is_listed(&FIELDS_SAID_NOTHING_OF) {
                    silent.insert(format!("{name} {}", field.name()));
                }
            }
        }
        assert!(silent.is_empty(), "{silent:#?}");
    }

    #[test]
    fn descriptions_are_those_of_their_types_and_fields() {
        let descriptions = Descriptions::read();
        let begins = |text: Option<&str>, start: &str| {
            assert!(text.unwrap_or_default().starts_with(start), "{text:?}, not {start}");
        };
        begins(descriptions.of_type(types::POD), "Pod is a collection of containers");
        let spec = field(types::POD, "spec");
        begins(descriptions.of_field(types::POD, spec), "Specification of the desired behavior");
        let data = field(types::CONFIG_MAP, "binaryData");
        begins(descriptions.of_field(types::CONFIG_MAP, data), "BinaryData contains");
        for (name, word) in [
            ("io.k8s.apimachinery.pkg.api.resource.Quantity", "Quantity"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "Time"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", "MicroTime"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1", "FieldsV1"),
            ("io.k8s.apimachinery.pkg.runtime.RawExtension", "RawExtension"),
            ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", "IntOrString"),
        ] {
            begins(descriptions.of_value(name), word);
        }
        assert_eq!(descriptions.of_value("Pod"), None);
    }
}
