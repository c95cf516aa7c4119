//! From JSON text to messages.
//!
//! The text is read once, and each value written as it is met. What the JSON does not have, the
//! message does not have either: to a Go client that is the same as the zeros that upstream sends
//! for it. Fields go out in the order of their numbers, as upstream's do: those of a struct are
//! written as they come and then put in order.

use super::super::table::{BUILT_IN, FieldView, Shape, TypeRef, TypeView};
use super::super::types;
use super::envelope::{self, TypeMeta};
use super::wire::{Opened, Writer};
use crate::registry::schema::ZERO_TIME_SECONDS;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// The number of the metadata in a list of any kind, and of its items.
const LIST_METADATA: u8 = 1;
const LIST_ITEMS: u8 = 2;

/// An object of the built-in type `of`, in an envelope.
///
/// # Errors
/// If the text is not JSON of this type.
pub fn encode(
    of: TypeRef,
    type_meta: &TypeMeta<'_>,
    json: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut encoder = Encoder::new(Vec::with_capacity(json.len()));
    let raw = envelope::open(&mut encoder.writer, type_meta);
    encoder.body(of, json)?;
    envelope::close(&mut encoder.writer, raw);
    Ok(encoder.writer.out)
}

/// Appends one frame of a watch: its length in four bytes, then a `WatchEvent` around the object in
/// its envelope (apimachinery pkg/util/framer and pkg/runtime/serializer/streaming).
///
/// # Errors
/// As [`encode`].
pub fn push_watch_frame(
    out: &mut Vec<u8>,
    event: &str,
    (of, type_meta): (TypeRef, &TypeMeta<'_>),
    json: &[u8],
) -> Result<(), serde_json::Error> {
    let mut encoder = Encoder::new(Vec::with_capacity(json.len()));
    encoder.writer.bytes_field(1, event.as_bytes());
    let object = encoder.writer.open(2);
    let extension = encoder.writer.open(1);
    let raw = envelope::open(&mut encoder.writer, type_meta);
    encoder.body(of, json)?;
    envelope::close(&mut encoder.writer, raw);
    encoder.writer.close(extension);
    encoder.writer.close(object);
    let frame = encoder.writer.out;
    let length = u32::try_from(frame.len()).map_err(|_| Error::custom("the object is too long"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&frame);
    Ok(())
}

/// Writes a list in an envelope, item by item.
#[derive(Debug)]
pub struct ListEncoder {
    of: TypeRef,
    encoder: Encoder,
    raw: Opened,
}

impl ListEncoder {
    /// Begins a list of objects of the type `of`; `metadata` is a `ListMeta` as JSON.
    ///
    /// # Errors
    /// If it is not.
    pub fn new(
        of: TypeRef,
        type_meta: &TypeMeta<'_>,
        metadata: &[u8],
    ) -> Result<Self, serde_json::Error> {
        let mut encoder = Encoder::new(Vec::new());
        let raw = envelope::open(&mut encoder.writer, type_meta);
        let list = BUILT_IN.get(types::PARTIAL_OBJECT_METADATA_LIST);
        let field = list.field("metadata").expect("a list has metadata");
        encoder.value(FieldOut::of(field.shape(), LIST_METADATA), metadata)?;
        Ok(Self { of, encoder, raw })
    }

    /// # Errors
    /// If the text is not JSON of the list's type.
    pub fn push(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        self.encoder.value(FieldOut::of(Shape::Struct(self.of), LIST_ITEMS), json)
    }

    /// The whole list.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        envelope::close(&mut self.encoder.writer, self.raw);
        self.encoder.writer.out
    }
}

/// A field that was written, tag and all, but for the embedded messages that it is in.
#[derive(Clone, Debug)]
struct Piece {
    path: &'static [u8],
    bytes: Range<usize>,
}

#[derive(Debug)]
struct Encoder {
    writer: Writer,
    /// The fields of the structs that are being written, the innermost ones last.
    pieces: Vec<Piece>,
    /// Where fields are kept while they are put in order.
    scratch: Vec<u8>,
}

impl Encoder {
    fn new(out: Vec<u8>) -> Self {
        let writer = Writer { out };
        Self { writer, pieces: Vec::new(), scratch: Vec::new() }
    }

    /// The fields of an object, without a tag and a length.
    fn body(&mut self, of: TypeRef, json: &[u8]) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        reader.deserialize_map(StructVisitor { encoder: self, of })?;
        reader.end()
    }

    fn value(&mut self, field: FieldOut, json: &[u8]) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        ValueSeed { encoder: self, field }.deserialize(&mut reader)?;
        reader.end()
    }

    /// Puts the pieces from `first` on, which fill the output from `start` on, in order.
    fn arrange(&mut self, first: usize, start: usize) {
        let pieces = &mut self.pieces[first..];
        let is_plain = |piece: &Piece| piece.path.len() == 1;
        if !(pieces.is_sorted_by_key(|piece| piece.path) && pieces.iter().all(is_plain)) {
            pieces.sort_by_key(|piece| piece.path);
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.writer.out[start..]);
            self.writer.out.truncate(start);
            for piece in pieces.iter_mut() {
                piece.bytes = piece.bytes.start - start..piece.bytes.end - start;
            }
            assemble(&mut self.writer, &self.scratch, pieces, 0);
        }
        self.pieces.truncate(first);
    }
}

/// Writes sorted pieces, those of one embedded message in that message.
fn assemble(writer: &mut Writer, from: &[u8], pieces: &[Piece], depth: usize) {
    for group in pieces.chunk_by(|one, next| one.path[depth] == next.path[depth]) {
        if let [piece] = group
            && piece.path.len() == depth + 1
        {
            writer.out.extend_from_slice(&from[piece.bytes.clone()]);
        } else {
            let message = writer.open(group[0].path[depth]);
            assemble(writer, from, group, depth + 1);
            writer.close(message);
        }
    }
}

/// Which field a value is written as.
#[derive(Clone, Copy, Debug)]
struct FieldOut {
    number: u8,
    shape: Shape,
    /// Whether lists go into messages of their own.
    wraps: bool,
    /// Whether this is an element of a list or map, where null is the zero value.
    is_element: bool,
}

impl FieldOut {
    fn of(shape: Shape, number: u8) -> Self {
        Self { number, shape, wraps: false, is_element: false }
    }
}

/// Reads a value and writes it as a field. What is null is not written.
struct ValueSeed<'e> {
    encoder: &'e mut Encoder,
    field: FieldOut,
}

impl ValueSeed<'_> {
    fn free_form(self, of: TypeRef, json: &str) -> Result<(), serde_json::Error> {
        let Self { encoder, field } = self;
        let message = encoder.writer.open(field.number);
        for field in BUILT_IN.get(of).fields() {
            let Some(number) = field.protobuf_path().first().copied() else { continue };
            let out = FieldOut::of(field.shape(), number);
            match (field.shape(), json.as_bytes().first()) {
                (Shape::Bytes, _) => encoder.writer.bytes_field(number, json.as_bytes()),
                (Shape::Struct(_), Some(b'{'))
                | (Shape::List(_), Some(b'['))
                | (Shape::Bool, Some(b't' | b'f')) => encoder.value(out, json.as_bytes())?,
                // Beside a schema, the bool says that there is one.
                (Shape::Bool, Some(b'{')) => encoder.writer.varint_field(number, 1),
                _ => {}
            }
        }
        encoder.writer.close(message);
        Ok(())
    }

    /// The three fields of an `IntOrString`; of two of them only one says something.
    fn int_or_string(&mut self, kind: u64, number: i64, text: &str) {
        let writer = &mut self.encoder.writer;
        let message = writer.open(self.field.number);
        writer.varint_field(1, kind);
        writer.varint_field(2, number.cast_unsigned());
        writer.bytes_field(3, text.as_bytes());
        writer.close(message);
    }

    /// Whole seconds, or whole microseconds; nothing for Go's zero time.
    fn time(&mut self, text: &str) -> Result<(), jiff::Error> {
        let time: Timestamp = text.parse()?;
        let nanos = i64::from(time.subsec_nanosecond());
        let (seconds, nanos) = match self.field.shape {
            Shape::Time => (time.as_second() - i64::from(nanos < 0), 0),
            _ if nanos < 0 => (time.as_second() - 1, nanos + 1_000_000_000),
            _ => (time.as_second(), nanos),
        };
        let writer = &mut self.encoder.writer;
        let message = writer.open(self.field.number);
        if (seconds, nanos) != (ZERO_TIME_SECONDS, 0) {
            writer.varint_field(1, seconds.cast_unsigned());
            writer.varint_field(2, (nanos - nanos % 1_000).cast_unsigned());
        }
        writer.close(message);
        Ok(())
    }

    fn wrapped_text(&mut self, text: &str) {
        let message = self.encoder.writer.open(self.field.number);
        self.encoder.writer.bytes_field(1, text.as_bytes());
        self.encoder.writer.close(message);
    }

    fn number<E: Error>(&mut self, number: i64) -> Result<(), E> {
        match self.field.shape {
            Shape::Int32 | Shape::Int64 => {
                self.encoder.writer.varint_field(self.field.number, number.cast_unsigned());
            }
            Shape::IntOrString => self.int_or_string(0, number, ""),
            Shape::Quantity => self.wrapped_text(&number.to_string()),
            _ => return Err(E::custom("a number where the type has none")),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        let free = match self.field.shape {
            Shape::Object | Shape::Any => None,
            Shape::Struct(of) if BUILT_IN.get(of).is_any() => Some(of),
            _ => return deserializer.deserialize_any(self),
        };
        let json = <&RawValue>::deserialize(deserializer)?.get();
        match free {
            Some(of) => return self.free_form(of, json).map_err(D::Error::custom),
            None if json == "null" => {}
            None => self.wrapped_text(json),
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a value of the shape {:?}", self.field.shape)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        let FieldOut { number, shape, is_element, .. } = self.field;
        let writer = &mut self.encoder.writer;
        match shape {
            _ if !is_element => {}
            Shape::Bool | Shape::Int32 | Shape::Int64 => writer.varint_field(number, 0),
            Shape::Double => writer.fixed64_field(number, 0),
            _ => writer.bytes_field(number, b""),
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if self.field.shape != Shape::Bool {
            return Err(E::custom("a bool where the type has none"));
        }
        self.encoder.writer.varint_field(self.field.number, u64::from(value));
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        match self.field.shape {
            #[expect(clippy::cast_precision_loss, reason = "as Go reads an integer into a float")]
            Shape::Double => self.visit_f64(value as f64),
            _ => self.number(value),
        }
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        match (self.field.shape, i64::try_from(value)) {
            #[expect(clippy::cast_precision_loss, reason = "as Go reads an integer into a float")]
            (Shape::Double, _) => self.visit_f64(value as f64),
            (_, Ok(value)) => self.number(value),
            (_, Err(_)) => Err(E::custom("a number that is out of range")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        if self.field.shape != Shape::Double {
            return Err(E::custom("a fraction where the type has none"));
        }
        self.encoder.writer.fixed64_field(self.field.number, value.to_bits());
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.field.shape {
            Shape::String => {
                self.encoder.writer.bytes_field(self.field.number, text.as_bytes());
            }
            Shape::Bytes => {
                let bytes = STANDARD.decode(text).map_err(E::custom)?;
                self.encoder.writer.bytes_field(self.field.number, &bytes);
            }
            Shape::Quantity => self.wrapped_text(text),
            Shape::IntOrString => self.int_or_string(1, 0, text),
            Shape::Time | Shape::MicroTime => self.time(text).map_err(E::custom)?,
            _ => return Err(E::custom("a text where the type has none")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Shape::List(of) = self.field.shape else {
            return Err(A::Error::custom("a list where the type has none"));
        };
        let Self { encoder, field } = self;
        let shape = BUILT_IN.element(of);
        let wrapper = field.wraps.then(|| encoder.writer.open(field.number));
        let number = if field.wraps { 1 } else { field.number };
        let element = FieldOut { is_element: true, ..FieldOut::of(shape, number) };
        while list.next_element_seed(ValueSeed { encoder, field: element })?.is_some() {}
        if let Some(message) = wrapper {
            encoder.writer.close(message);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { encoder, field } = self;
        match field.shape {
            Shape::Struct(of) => {
                let message = encoder.writer.open(field.number);
                StructVisitor { encoder, of }.visit_map(map)?;
                encoder.writer.close(message);
            }
            Shape::Map(of) => {
                let shape = BUILT_IN.element(of);
                let value = FieldOut { shape, number: 2, is_element: true, ..field };
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let entry = encoder.writer.open(field.number);
                    encoder.writer.bytes_field(1, key.as_bytes());
                    map.next_value_seed(ValueSeed { encoder, field: value })?;
                    encoder.writer.close(entry);
                }
            }
            _ => return Err(A::Error::custom("an object where the type has none")),
        }
        Ok(())
    }
}

/// Writes the fields of a struct, in the order of their numbers.
struct StructVisitor<'e> {
    encoder: &'e mut Encoder,
    of: TypeRef,
}

impl<'de> Visitor<'de> for StructVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {}", BUILT_IN.get(self.of).name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self { encoder, of } = self;
        let view = BUILT_IN.get(of);
        let (first, start) = (encoder.pieces.len(), encoder.writer.out.len());
        while let Some(field) = object.next_key_seed(NameSeed { view })? {
            let path = field.map(|field| field.protobuf_path()).unwrap_or_default();
            // What protobuf does not have is the type's name, which the envelope has.
            let (Some(field), Some(number)) = (field, path.last().copied()) else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            let begin = encoder.writer.out.len();
            let wraps = field.is_wrapped();
            let out = FieldOut { wraps, ..FieldOut::of(field.shape(), number) };
            object.next_value_seed(ValueSeed { encoder, field: out })?;
            let bytes = begin..encoder.writer.out.len();
            if !bytes.is_empty() {
                encoder.pieces.push(Piece { path, bytes });
            }
        }
        encoder.arrange(first, start);
        Ok(())
    }
}

/// Looks up the name of a field without keeping it.
struct NameSeed {
    view: TypeView<'static>,
}

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<FieldView<'static>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<FieldView<'static>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.view.field(name))
    }
}
