//! Reads JSON and YAML as apimachinery does, and says which fields came twice.
//!
//! JSON follows `sigs.k8s.io/json`, YAML `sigs.k8s.io/yaml` (see [`yaml`]); both at
//! the versions of Kubernetes v1.35. Of fields that come twice the last one counts.

use super::path::Path;
use super::yaml;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A longer document is refused, as upstream refuses longer request bodies
/// (`MaxRequestBodyBytes`, apiserver pkg/server/config.go).
pub const DOCUMENT_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A document nested deeper than this is refused. `serde_json` has the same limit when it reads
/// what was stored.
pub const DOCUMENT_DEPTH_MAX: usize = 127;

/// After so many problems with one document no more are reported, as in upstream's strict decoder
/// (`saveStrictError`, `sigs.k8s.io/json`).
pub(super) const PROBLEMS_MAX: usize = 100;

/// A document of more objects than this is refused: each takes some 600 bytes of memory as a value,
/// and up to 2,000 as what it stands for, even where it is written in two. Upstream has no such limit.
pub const DOCUMENT_OBJECTS_MAX: usize = 65_536;

/// A document of more values than this, in lists and as fields, is refused: `0,` takes 32 bytes as a
/// value, twice that while its list grows, as much again as what it stands for, and several hundred
/// where it is wrong. Upstream has no such limit.
pub const DOCUMENT_VALUES_MAX: usize = 262_144;

/// In which language a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// A document and what a strict decoder has against it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// One text for each field that came twice: `duplicate field "spec.replicas"` in JSON,
    /// `line 5: key "replicas" already set in map` in YAML.
    pub duplicates: Vec<String>,
}

/// Why a document cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the document is larger than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the document has more than {DOCUMENT_OBJECTS_MAX} objects")]
    TooManyObjects,
    #[error("the document has more than {DOCUMENT_VALUES_MAX} values")]
    TooManyValues,
    #[error("json: {problem}")]
    Json { problem: String },
    #[error("yaml: line {line}: {problem}")]
    Yaml { line: usize, problem: String },
    /// `path` is empty where it is no field that is wrong.
    #[error("protobuf: {path}{}{problem}", if path.is_empty() { "" } else { ": " })]
    Protobuf { path: String, problem: String },
}

/// Reads one document.
///
/// # Errors
/// If it is not well-formed, or larger or deeper than the limits allow.
pub fn decode(bytes: &[u8], format: Format) -> Result<Decoded, DecodeError> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    match format {
        Format::Json => decode_json(bytes, &mut Counts::default()),
        Format::Yaml => yaml::decode(bytes),
    }
}

/// Reads JSON, be it a part of a document of which so much was read before.
pub(super) fn decode_json(bytes: &[u8], counts: &mut Counts) -> Result<Decoded, DecodeError> {
    let mut reading = Reading { duplicates: Problems::default(), counts };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let seed = ValueSeed { path: &Path::Root, reading: &mut reading };
    let read = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    reading.counts.check()?;
    let value = read.map_err(|error| DecodeError::Json { problem: error.to_string() })?;
    Ok(Decoded { value, duplicates: reading.duplicates.into_texts() })
}

/// How much of what a document may have only so much was read of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    objects: usize,
    values: usize,
}

impl Counts {
    /// Another object begins.
    pub(super) fn add_object(&mut self) -> Result<(), DecodeError> {
        self.objects += 1;
        self.check()
    }

    /// Another element of a list or value of a field begins.
    pub(super) fn add_value(&mut self) -> Result<(), DecodeError> {
        self.values += 1;
        self.check()
    }

    fn check(&self) -> Result<(), DecodeError> {
        match self {
            Self { objects, .. } if *objects > DOCUMENT_OBJECTS_MAX => {
                Err(DecodeError::TooManyObjects)
            }
            Self { values, .. } if *values > DOCUMENT_VALUES_MAX => Err(DecodeError::TooManyValues),
            _ => Ok(()),
        }
    }
}

/// What is found out about a document while it is read.
#[derive(Debug)]
struct Reading<'c> {
    duplicates: Problems,
    counts: &'c mut Counts,
}

/// After so much text no more problems are written, be they told or known already: a field's name may
/// be as long as the document, and a hundred thousand fields below it may each come twice.
const PROBLEMS_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a document, each thing once.
#[derive(Debug, Default)]
pub(super) struct Problems {
    texts: Vec<String>,
    written_bytes: usize,
}

impl Problems {
    /// Adds a problem unless it is known already or there are too many.
    pub(super) fn report(&mut self, problem: impl FnOnce() -> String) {
        if self.texts.len() >= PROBLEMS_MAX || self.written_bytes >= PROBLEMS_BYTES_MAX {
            return;
        }
        let problem = problem();
        self.written_bytes += problem.len();
        if !self.texts.contains(&problem) {
            self.texts.push(problem);
        }
    }

    pub(super) fn into_texts(self) -> Vec<String> {
        self.texts
    }
}

/// Builds a [`Value`] as `serde_json` does, watching for names that come twice.
struct ValueSeed<'a, 'c> {
    path: &'a Path<'a>,
    reading: &'a mut Reading<'c>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let path = self.path.index(list.len());
            let seed = ValueSeed { path: &path, reading: self.reading };
            match access.next_element_seed(seed)? {
                Some(element) => {
                    self.reading.counts.add_value().map_err(serde::de::Error::custom)?;
                    list.push(element);
                }
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        self.reading.counts.add_object().map_err(serde::de::Error::custom)?;
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.reading.counts.add_value().map_err(serde::de::Error::custom)?;
            let path = self.path.key(&key);
            if map.contains_key(&key) {
                let problem = || format!("duplicate field {:?}", path.to_string());
                self.reading.duplicates.report(problem);
            }
            let seed = ValueSeed { path: &path, reading: self.reading };
            let value = access.next_value_seed(seed)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(format: Format, text: &str, value: &Value, duplicates: &[&str]) {
        let decoded = decode(text.as_bytes(), format).expect("well-formed");
        assert_eq!(decoded.value, *value, "{text}");
        assert_eq!(decoded.duplicates, duplicates, "{text}");
    }

    fn refused(format: Format, text: &str, problem: &str) {
        let error = decode(text.as_bytes(), format).expect_err(text);
        assert_eq!(error.to_string(), problem);
    }

    #[test]
    fn json_is_read_with_the_last_of_two_equal_names() {
        check(
            Format::Json,
            r#"{"a":1,"b":{"c":[true,null,1.5,"x"]}}"#,
            &json!({"a": 1, "b": {"c": [true, null, 1.5, "x"]}}),
            &[],
        );
        check(
            Format::Json,
            r#"{"a":{"b":1,"b":2,"b":3},"l":[{"x":0},{"x":1,"x":2}],"a":4}"#,
            &json!({"a": 4, "l": [{"x": 0}, {"x": 2}]}),
            &[r#"duplicate field "a.b""#, r#"duplicate field "l[1].x""#, r#"duplicate field "a""#],
        );
    }

    #[test]
    fn yaml_is_read_as_go_clients_read_it() {
        check(
            Format::Yaml,
            "mode: 0644\non: yes\n1: a\n1.5: b\n~x: c\nd: 2024-01-31\ne: 1e3\n",
            &json!({"mode": 420, "true": true, "1": "a", "1.5": "b", "~x": "c", "d": "2024-01-31", "e": 1000}),
            &[],
        );
        check(Format::Yaml, "{\"json\": [\"is\", 'yaml']}", &json!({"json": ["is", "yaml"]}), &[]);
        check(
            Format::Yaml,
            "text: |\n  a\n  b\nfolded: >-\n  a\n  b\nempty:\n",
            &json!({"text": "a\nb\n", "folded": "a b", "empty": null}),
            &[],
        );
        check(
            Format::Yaml,
            "a: \"0644\"\nb: 'on'\nc: !!str 5\n",
            &json!({"a": "0644", "b": "on", "c": "5"}),
            &[],
        );
    }

    #[test]
    fn only_the_first_document_is_read() {
        check(Format::Yaml, "a: 1\n---\nb: 2\n", &json!({"a": 1}), &[]);
        check(Format::Yaml, "---\n# nothing\n---\nb: 2\n", &json!(null), &[]);
        check(Format::Yaml, "", &json!(null), &[]);
    }

    #[test]
    fn keys_that_come_twice_in_yaml_are_named_with_their_line() {
        check(
            Format::Yaml,
            "spec:\n  replicas: 1\n  paused: true\n  replicas: 2\n  paused: false\n5: a\n5: b\n",
            &json!({"spec": {"replicas": 2, "paused": false}, "5": "b"}),
            &[
                "line 4: key \"replicas\" already set in map",
                "line 5: key \"paused\" already set in map",
                "line 7: key 5 already set in map",
            ],
        );
    }

    #[test]
    fn anchors_aliases_and_merges_are_expanded() {
        check(
            Format::Yaml,
            "base: &b {x: 1, w: 2}\ncopy: *b\nmore:\n  <<: *b\n  z: 3\n",
            &json!({"base": {"x": 1, "w": 2}, "copy": {"x": 1, "w": 2}, "more": {"x": 1, "w": 2, "z": 3}}),
            &[],
        );
        check(
            Format::Yaml,
            "a: &a {x: 1}\nb: &b {x: 2, w: 2}\nc:\n  <<: [*a, *b]\n",
            &json!({"a": {"x": 1}, "b": {"x": 2, "w": 2}, "c": {"x": 1, "w": 2}}),
            &["line 4: key \"x\" already set in map"],
        );
        refused(Format::Yaml, "a: &a [*a]\n", "yaml: line 1: anchor value contains itself");
        refused(Format::Yaml, "a: *b\n", "yaml: line 1: while parsing node, found unknown anchor");
        refused(
            Format::Yaml,
            "a: {<<: 5}\n",
            "yaml: line 1: map merge requires map or sequence of maps as the value",
        );
    }

    #[test]
    fn malformed_documents_say_where() {
        refused(Format::Json, "{\"a\": }", "json: expected value at line 1 column 7");
        refused(Format::Json, "{} {}", "json: trailing characters at line 1 column 4");
        refused(Format::Yaml, "? [a]\n: b\n", "yaml: line 1: invalid map key");
        refused(Format::Yaml, "a: .nan\n", "yaml: line 1: json: unsupported value: NaN");
        assert!(decode(b"a: \xff", Format::Yaml).is_err());
        assert!(decode(b"a: b: c", Format::Yaml).is_err());
    }

    #[test]
    fn documents_have_limits() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for format in [Format::Json, Format::Yaml] {
            assert!(decode(deep(DOCUMENT_DEPTH_MAX).as_bytes(), format).is_ok(), "{format:?}");
            assert!(decode(deep(DOCUMENT_DEPTH_MAX + 1).as_bytes(), format).is_err(), "{format:?}");
            let large = format!("[{}1]", " ".repeat(DOCUMENT_BYTES_MAX));
            assert!(matches!(decode(large.as_bytes(), format), Err(DecodeError::TooLarge)));
        }
        for (format, objects) in
            [(Format::Json, "{},"), (Format::Yaml, "{},"), (Format::Yaml, "a: b,")]
        {
            let many = |times: usize| format!("[{}0]", objects.repeat(times));
            assert!(decode(many(DOCUMENT_OBJECTS_MAX).as_bytes(), format).is_ok());
            let refused = decode(many(DOCUMENT_OBJECTS_MAX + 1).as_bytes(), format);
            assert!(matches!(refused, Err(DecodeError::TooManyObjects)), "{refused:?}");
        }
        for format in [Format::Json, Format::Yaml] {
            let list = |times: usize| format!("[{}]", vec!["0"; times].join(","));
            let fields = |times: usize| format!("{{{}}}", vec!["\"a\": 0"; times].join(","));
            for of in [list, fields] {
                assert!(decode(of(DOCUMENT_VALUES_MAX).as_bytes(), format).is_ok());
                let refused = decode(of(DOCUMENT_VALUES_MAX + 1).as_bytes(), format);
                assert!(matches!(refused, Err(DecodeError::TooManyValues)), "{refused:?}");
            }
        }
        let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol]\n");
        for level in 1..20 {
            let below = format!("*a{}", level - 1);
            let list = [below.as_str(); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        let error = decode(laughs.as_bytes(), Format::Yaml).expect_err("a billion laughs");
        assert!(error.to_string().ends_with("document contains excessive aliasing"), "{error}");
    }

    #[test]
    fn many_fields_that_come_twice_below_a_long_name_are_not_all_written() {
        let key = "k".repeat(1 << 20);
        let fields = vec![r#""a":1"#; 250_000].join(",");
        let text = format!(r#"{{"{key}":{{{fields}}}}}"#);
        let decoded = decode(text.as_bytes(), Format::Json).unwrap();
        let shown = format!("duplicate field \"{}... (1048576 bytes).a\"", "k".repeat(1_024));
        assert_eq!(decoded.duplicates, [shown]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Json, Format::Yaml] {
                drop(decode(&bytes, format));
            }
        }

        #[test]
        fn anything_like_yaml_is_read_or_refused(text in "[a-c0-9&*<>|:{}\\[\\],\n !\"'~.-]{0,80}") {
            drop(decode(text.as_bytes(), Format::Yaml));
        }

        #[test]
        fn json_is_read_back(value in any_json()) {
            let text = value.to_string();
            let decoded = decode(text.as_bytes(), Format::Json).expect("well-formed");
            prop_assert_eq!(&decoded.value, &value);
            prop_assert!(decoded.duplicates.is_empty());
            let decoded = decode(text.as_bytes(), Format::Yaml).expect("JSON is YAML");
            prop_assert_eq!(decoded.value, value);
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z.]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
