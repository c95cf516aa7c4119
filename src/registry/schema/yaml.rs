//! Reads a YAML document into the JSON that upstream's clients and servers read from it.
//!
//! Follows `YAMLToJSON` of `sigs.k8s.io/yaml` over `go.yaml.in/yaml/v2` (Kubernetes v1.35): the
//! first document of the stream, anchors and `<<` merges, keys made strings. What the scalars
//! mean is in [`scalar`](super::scalar). The parser gives events with positions; no library that
//! reads YAML into values has these rules and names the line of a key that comes twice.

use super::decode::{Counts, DOCUMENT_DEPTH_MAX, DecodeError, Decoded, Problems};
use super::scalar::{Scalar, resolve};
use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Anchors and aliases may copy so many bytes of document; then it is refused, as upstream's
/// parser refuses excessive aliasing.
const COPIED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a value costs besides its text.
const VALUE_BYTES: usize = 32;

/// What an object costs besides what is in it.
const OBJECT_BYTES: usize = 600;

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let read = &bytes[..error.valid_up_to()];
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        DecodeError::Yaml { line, problem: "invalid UTF-8".to_owned() }
    })?;
    let mut reader = Reader::new(text);
    let value = reader.document()?;
    Ok(Decoded { value, duplicates: reader.duplicates.into_texts() })
}

fn problem<T>(span: Span, problem: impl Into<String>) -> Result<T, DecodeError> {
    Err(DecodeError::Yaml { line: span.start.line(), problem: problem.into() })
}

type Scanned<'t> = (Event<'t>, Span);

/// An anchored value, for aliases to copy.
struct Anchored {
    value: Value,
    bytes: usize,
    depth: usize,
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// By the parser's number of the anchor. One that is missing is still being read.
    anchors: HashMap<usize, Anchored>,
    copied_bytes: usize,
    /// Without what is copied.
    counts: Counts,
    duplicates: Problems,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.flow_nesting_limit = DOCUMENT_DEPTH_MAX;
        options.block_nesting_limit = DOCUMENT_DEPTH_MAX;
        Self {
            events: Parser::new_from_str_with_options(text, options),
            anchors: HashMap::new(),
            copied_bytes: 0,
            counts: Counts::default(),
            duplicates: Problems::default(),
        }
    }

    /// The next event; the end of the stream when there is none.
    fn next(&mut self) -> Result<Scanned<'t>, DecodeError> {
        match self.events.next() {
            Some(Ok(scanned)) => Ok(scanned),
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Err(error)) => {
                let line = error.marker().line();
                Err(DecodeError::Yaml { line, problem: error.info() })
            }
        }
    }

    /// The first document of the stream; the others are not looked at, as upstream does not.
    fn document(&mut self) -> Result<Value, DecodeError> {
        let mut value = Value::Null;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return Ok(value),
                node => value = self.node(node, 0)?,
            }
        }
    }

    fn node(&mut self, (event, span): Scanned<'t>, depth: usize) -> Result<Value, DecodeError> {
        if depth > DOCUMENT_DEPTH_MAX {
            return problem(span, "exceeded max depth");
        }
        let (value, anchor) = match event {
            Event::Alias(id) => return self.copy(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar(text, style, tag.as_deref(), span)?.into_json(span)?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.mapping(depth)?, anchor),
            _ => return problem(span, "did not find expected node content"),
        };
        if anchor != 0 {
            self.remember(anchor, &value, span)?;
        }
        Ok(value)
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(list)),
                node => {
                    self.counts.add_value()?;
                    list.push(self.node(node, depth + 1)?);
                }
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, DecodeError> {
        self.counts.add_object()?;
        let mut map = Map::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Value::Object(map));
            }
            self.counts.add_value()?;
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, tag)
                if text == "<<" && tag.is_none());
            if is_merge {
                self.merge(&mut map, depth)?;
                continue;
            }
            let key = self.key((event, span))?;
            let node = self.next()?;
            let line = node.1.start.line();
            let value = self.node(node, depth + 1)?;
            self.set(&mut map, key, value, line);
        }
    }

    fn key(&mut self, (event, span): Scanned<'t>) -> Result<Key, DecodeError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(text, style, tag.as_deref(), span)?;
                let key = Key::of(&scalar, span)?;
                if anchor != 0 {
                    self.remember(anchor, &scalar.into_json(span)?, span)?;
                }
                Ok(key)
            }
            Event::Alias(id) => match self.copy(id, span, 0)? {
                Value::String(text) => Ok(Key { text, is_string: true }),
                Value::Number(number) => Ok(Key { text: number.to_string(), is_string: false }),
                Value::Bool(truth) => Ok(Key { text: truth.to_string(), is_string: false }),
                _ => problem(span, "invalid map key"),
            },
            _ => problem(span, "invalid map key"),
        }
    }

    fn set(&mut self, map: &mut Map<String, Value>, key: Key, value: Value, line: usize) {
        if map.contains_key(&key.text) {
            self.duplicates.report(|| {
                let shown =
                    if key.is_string { format!("{:?}", key.text) } else { key.text.clone() };
                format!("line {line}: key {shown} already set in map")
            });
        }
        map.insert(key.text, value);
    }

    /// Reads the value of a `<<` and adds its fields: a mapping, or a list of them of which the
    /// first ones win.
    fn merge(&mut self, map: &mut Map<String, Value>, depth: usize) -> Result<(), DecodeError> {
        let node = self.next()?;
        let span = node.1;
        let sources = match self.node(node, depth + 1)? {
            Value::Array(list) => list,
            one => vec![one],
        };
        for source in sources.into_iter().rev() {
            let Value::Object(fields) = source else {
                return problem(span, "map merge requires map or sequence of maps as the value");
            };
            for (text, value) in fields {
                self.set(map, Key { text, is_string: true }, value, span.start.line());
            }
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, value: &Value, span: Span) -> Result<(), DecodeError> {
        let (bytes, depth) = measure(value);
        self.spend(bytes, span)?;
        self.anchors.insert(anchor, Anchored { value: value.clone(), bytes, depth });
        Ok(())
    }

    fn copy(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Value, DecodeError> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return problem(span, "anchor value contains itself");
        };
        if depth + anchored.depth > DOCUMENT_DEPTH_MAX {
            return problem(span, "exceeded max depth");
        }
        let bytes = anchored.bytes;
        self.spend(bytes, span)?;
        Ok(self.anchors[&anchor].value.clone())
    }

    fn spend(&mut self, bytes: usize, span: Span) -> Result<(), DecodeError> {
        self.copied_bytes += bytes;
        if self.copied_bytes > COPIED_BYTES_MAX {
            return problem(span, "document contains excessive aliasing");
        }
        Ok(())
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    span: Span,
) -> Result<Scalar, DecodeError> {
    let is_plain = style == ScalarStyle::Plain;
    resolve(text, is_plain, tag).or_else(|why| problem(span, why))
}

/// How much memory a copy of `value` takes, about, and how deep it is nested.
fn measure(value: &Value) -> (usize, usize) {
    let add = |(bytes, depth): (usize, usize), (more, inner): (usize, usize)| {
        (bytes + more, depth.max(inner + 1))
    };
    match value {
        Value::String(text) => (VALUE_BYTES + text.len(), 0),
        Value::Array(list) => list.iter().map(measure).fold((VALUE_BYTES, 0), add),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let (bytes, depth) = measure(value);
                (bytes + key.len(), depth)
            })
            .fold((OBJECT_BYTES, 0), add),
        _ => (VALUE_BYTES, 0),
    }
}

impl Scalar {
    fn into_json(self, span: Span) -> Result<Value, DecodeError> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(truth),
            Self::Int(number) => Value::from(number),
            Self::Uint(number) => Value::from(number),
            Self::Text(text) => Value::String(text),
            Self::Float(number) if !number.is_finite() => {
                return problem(span, format!("json: unsupported value: {number}"));
            }
            // Go writes whole floats without a point, so that they are read again as integers.
            Self::Float(number) => match whole(number) {
                Some(integer) => Value::from(integer),
                None => Value::from(number),
            },
        })
    }
}

#[expect(clippy::cast_possible_truncation, reason = "in range and without a fraction")]
fn whole(number: f64) -> Option<i64> {
    const RANGE: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-RANGE..RANGE).contains(&number)).then_some(number as i64)
}

/// The key of a mapping, made a string.
struct Key {
    text: String,
    is_string: bool,
}

impl Key {
    fn of(scalar: &Scalar, span: Span) -> Result<Self, DecodeError> {
        let (text, is_string) = match scalar {
            Scalar::Text(text) => (text.clone(), true),
            Scalar::Bool(truth) => (truth.to_string(), false),
            Scalar::Int(number) => (number.to_string(), false),
            Scalar::Float(number) => (go_float(*number), false),
            Scalar::Null => return problem(span, "unsupported map key of type: null"),
            Scalar::Uint(_) => return problem(span, "unsupported map key of type: uint64"),
        };
        Ok(Self { text, is_string })
    }
}

/// Go's `FormatFloat(number, 'g', -1, 32)`, in which `sigs.k8s.io/yaml` writes keys.
#[expect(clippy::cast_possible_truncation, reason = "upstream narrows it too")]
fn go_float(number: f64) -> String {
    /// Numbers from ten to this power are written with an exponent.
    const LARGE: i32 = 6;
    let narrow = number as f32;
    if narrow.is_nan() {
        return ".nan".to_owned();
    }
    if narrow.is_infinite() {
        return if narrow > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{narrow:e}");
    let (digits, exponent) = scientific.split_once('e').expect("written with an exponent");
    let exponent: i32 = exponent.parse().expect("written as a number");
    if (-4..LARGE).contains(&exponent) {
        return format!("{narrow}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
