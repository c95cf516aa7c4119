//! From a message to the JSON document that a Go client would have sent for it.
//!
//! Fields that the table does not have are skipped. A zero that Go does not tell from absence is
//! left out where Go's JSON leaves it out (`omitempty`), so that objects are stored alike whichever
//! way they came. Unlike upstream, texts that are not UTF-8 are refused.

use super::super::decode::{
    Counts, DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DecodeError, decode_json,
};
use super::super::path::Path;
use super::super::table::{BUILT_IN, FieldView, Shape, Table, TypeRef, TypeView};
use super::wire::{Payload, Reader};
use crate::registry::schema::ZERO_TIME_SECONDS;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

/// The first second that RFC 3339 can write: that of the year 0.
const FIRST_TIME_SECONDS: i64 = -62_167_219_200;

/// Reads a message of the built-in type `of`. `apiVersion` and `kind` are not in it.
///
/// # Errors
/// If it is not well-formed, or deeper than a JSON document may be, or a field holds what its type
/// cannot.
pub fn decode(of: TypeRef, message: &[u8]) -> Result<Value, DecodeError> {
    if message.len() > DOCUMENT_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    let mut walker = Walker { table: &BUILT_IN, depth: 0, counts: Counts::default() };
    walker.object(of, message, &Path::Root)
}

/// A message that is read, and which fields are to be found in it.
#[derive(Clone, Copy)]
struct Scope<'a> {
    of: TypeRef,
    /// The numbers of the messages around this one that are embedded structs of the same type.
    inside: &'a [u8],
    path: &'a Path<'a>,
}

struct Walker<'t> {
    table: &'t Table,
    /// How many objects and lists are around the place that is read.
    depth: usize,
    counts: Counts,
}

/// What a field number means inside a type.
enum Found<'t> {
    Field(FieldView<'t>),
    /// The message of an embedded struct, whose fields are the type's own in JSON. Its number with
    /// those of the messages around it.
    Embedded(&'t [u8]),
    Unknown,
}

/// Looks for the field `number` of the message that is at `inside` within the type's own.
fn find<'t>(view: TypeView<'t>, inside: &[u8], number: u64) -> Found<'t> {
    let Ok(number) = u8::try_from(number) else { return Found::Unknown };
    for field in view.fields() {
        let path = field.protobuf_path();
        match path.strip_prefix(inside) {
            Some([first]) if *first == number => return Found::Field(field),
            Some([first, ..]) if *first == number => {
                return Found::Embedded(&path[..=inside.len()]);
            }
            _ => {}
        }
    }
    Found::Unknown
}

fn problem(path: &Path<'_>, problem: &dyn ToString) -> DecodeError {
    DecodeError::Protobuf { path: path.to_string(), problem: problem.to_string() }
}

/// The bytes of a field that must have some.
fn bytes<'a>(payload: Payload<'a>, path: &Path<'_>) -> Result<&'a [u8], DecodeError> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong_wire_type(path)),
    }
}

fn wrong_wire_type(path: &Path<'_>) -> DecodeError {
    problem(path, &"the wire type is not that of the field")
}

fn text(bytes: &[u8], path: &Path<'_>) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| problem(path, &"the text is not UTF-8"))
}

impl Walker<'_> {
    /// The object of one message.
    fn object(
        &mut self,
        of: TypeRef,
        message: &[u8],
        path: &Path<'_>,
    ) -> Result<Value, DecodeError> {
        if self.table.get(of).is_any() {
            return self.free_form(of, message, path);
        }
        let mut object = Map::new();
        self.enter_object()?;
        self.fields(Scope { of, inside: &[], path }, message, &mut object)?;
        self.leave();
        Ok(Value::Object(object))
    }

    /// Reads the fields of a message into the object that they belong to.
    fn fields(
        &mut self,
        scope: Scope<'_>,
        message: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), DecodeError> {
        let Scope { of, inside, path } = scope;
        let view = self.table.get(of);
        let mut reader = Reader::new(message);
        while let Some((number, payload)) = reader.field().map_err(|error| problem(path, &error))? {
            match find(view, inside, number) {
                Found::Field(field) => {
                    let path = path.field(of, field.name());
                    self.field(field, payload, object, &path)?;
                }
                Found::Embedded(inside) => {
                    let scope = Scope { inside, ..scope };
                    self.fields(scope, bytes(payload, path)?, object)?;
                }
                Found::Unknown => {}
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: FieldView<'_>,
        payload: Payload<'_>,
        object: &mut Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let name = field.name();
        match field.shape() {
            Shape::List(of) => {
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let list = list.as_array_mut().expect("a list field holds nothing else");
                self.enter()?;
                match field.is_wrapped() {
                    true => self.wrapped(self.table.element(of), bytes(payload, path)?, list, path),
                    false => self.elements(self.table.element(of), payload, list, path),
                }?;
                self.leave();
                // No numbers, packed.
                if list.is_empty() {
                    object.remove(name);
                }
            }
            Shape::Map(of) => {
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let map = map.as_object_mut().expect("a map field holds nothing else");
                self.enter()?;
                self.entry(self.table.element(of), bytes(payload, path)?, map, path)?;
                self.leave();
            }
            Shape::Struct(of) if !self.table.get(of).is_any() => {
                // A message that comes in pieces is merged.
                let inner = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let inner = inner.as_object_mut().expect("a struct field holds nothing else");
                self.enter_object()?;
                self.fields(Scope { of, inside: &[], path }, bytes(payload, path)?, inner)?;
                self.leave();
            }
            shape => {
                let value = self.value(shape, payload, path)?;
                if value.is_null() || field.is_left_out(&value) {
                    object.remove(name);
                } else {
                    object.insert(name.to_owned(), value);
                }
            }
        }
        Ok(())
    }

    /// One element, or several numbers packed.
    fn elements(
        &mut self,
        shape: Shape,
        payload: Payload<'_>,
        list: &mut Vec<Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let is_number = matches!(shape, Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double);
        let (true, Payload::Bytes(packed)) = (is_number, payload) else {
            list.push(self.value(shape, payload, &path.index(list.len()))?);
            return Ok(());
        };
        let mut reader = Reader::new(packed);
        while !reader.is_empty() {
            let payload = match shape {
                Shape::Double => reader.fixed64().map(Payload::Fixed64),
                _ => reader.varint().map(Payload::Varint),
            };
            let payload = payload.map_err(|error| problem(path, &error))?;
            list.push(self.value(shape, payload, path)?);
        }
        Ok(())
    }

    /// A list in a message of its own.
    fn wrapped(
        &mut self,
        shape: Shape,
        message: &[u8],
        list: &mut Vec<Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let mut reader = Reader::new(message);
        while let Some((number, payload)) = reader.field().map_err(|error| problem(path, &error))? {
            if number == 1 {
                self.elements(shape, payload, list, path)?;
            }
        }
        Ok(())
    }

    /// An entry of a map: a message with the key and the value.
    fn entry(
        &mut self,
        shape: Shape,
        message: &[u8],
        map: &mut Map<String, Value>,
        path: &Path<'_>,
    ) -> Result<(), DecodeError> {
        let (mut key, mut value) = (String::new(), None);
        let mut reader = Reader::new(message);
        while let Some((number, payload)) = reader.field().map_err(|error| problem(path, &error))? {
            match number {
                1 => key = text(bytes(payload, path)?, path)?,
                2 => value = Some(payload),
                _ => {}
            }
        }
        let path = path.key(&key);
        // Either may be left out where it is empty.
        let value = match (value, shape) {
            (Some(payload), _) => self.value(shape, payload, &path)?,
            (None, Shape::Bool | Shape::Int32 | Shape::Int64) => {
                self.value(shape, Payload::Varint(0), &path)?
            }
            (None, _) => self.value(shape, Payload::Bytes(&[]), &path)?,
        };
        map.insert(key, value);
        Ok(())
    }

    /// A value that is not a field's list, map or struct. Null where it stands for nothing.
    fn value(
        &mut self,
        shape: Shape,
        payload: Payload<'_>,
        path: &Path<'_>,
    ) -> Result<Value, DecodeError> {
        self.counts.add_value()?;
        let bytes = match (shape, payload) {
            (Shape::Bool, Payload::Varint(number)) => return Ok(Value::Bool(number != 0)),
            (Shape::Int32, Payload::Varint(number)) => return Ok(Value::from(low_half(number))),
            (Shape::Int64, Payload::Varint(number)) => {
                return Ok(Value::from(number.cast_signed()));
            }
            (Shape::Double, Payload::Fixed64(bits)) => {
                let number = Number::from_f64(f64::from_bits(bits)).map(Value::Number);
                return number.ok_or_else(|| problem(path, &"JSON has no such number"));
            }
            (Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double, _) => {
                return Err(wrong_wire_type(path));
            }
            _ => bytes(payload, path)?,
        };
        match shape {
            Shape::String => text(bytes, path).map(Value::String),
            Shape::Bytes => Ok(Value::String(STANDARD.encode(bytes))),
            Shape::Quantity => quantity(bytes, path),
            Shape::IntOrString => int_or_string(bytes, path),
            Shape::Time | Shape::MicroTime => time(shape, bytes, path),
            Shape::Object | Shape::Any => match first(bytes, path)? {
                Some(json) => self.json(json, path),
                None => Ok(Value::Null),
            },
            Shape::Struct(of) => self.object(of, bytes, path),
            // In a map, a list is always wrapped.
            Shape::List(of) => {
                let mut list = Vec::new();
                self.enter()?;
                self.wrapped(self.table.element(of), bytes, &mut list, path)?;
                self.leave();
                Ok(Value::Array(list))
            }
            // Protobuf has no maps in lists or maps; numbers were dealt with above.
            _ => Err(wrong_wire_type(path)),
        }
    }

    /// JSON that protobuf has as text or, where it is one of a few things, as that.
    fn free_form(
        &mut self,
        of: TypeRef,
        message: &[u8],
        path: &Path<'_>,
    ) -> Result<Value, DecodeError> {
        let view = self.table.get(of);
        let mut value = Value::Null;
        let mut list = Vec::new();
        let mut reader = Reader::new(message);
        while let Some((number, payload)) = reader.field().map_err(|error| problem(path, &error))? {
            let Found::Field(field) = find(view, &[], number) else { continue };
            match field.shape() {
                Shape::Bytes => value = self.json(bytes(payload, path)?, path)?,
                Shape::List(of) => {
                    self.enter()?;
                    self.elements(self.table.element(of), payload, &mut list, path)?;
                    self.leave();
                }
                // Beside a schema, the bool only says that there is one.
                Shape::Bool if value.is_object() => {}
                shape => value = self.value(shape, payload, path)?,
            }
        }
        Ok(if list.is_empty() { value } else { Value::Array(list) })
    }

    fn json(&mut self, json: &[u8], path: &Path<'_>) -> Result<Value, DecodeError> {
        if json.is_empty() {
            return Ok(Value::Null);
        }
        let decoded = decode_json(json, &mut self.counts);
        let value = decoded.map(|decoded| decoded.value).map_err(|error| match error {
            DecodeError::Json { problem: why } => {
                problem(path, &format_args!("the JSON in it: {why}"))
            }
            other => other,
        })?;
        if self.depth + depth(&value) > DOCUMENT_DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(value)
    }

    fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > DOCUMENT_DEPTH_MAX { Err(too_deep()) } else { Ok(()) }
    }

    fn enter_object(&mut self) -> Result<(), DecodeError> {
        self.counts.add_object()?;
        self.enter()
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }
}

/// Without a path, which would be very long.
fn too_deep() -> DecodeError {
    let problem = format!("the data is nested deeper than {DOCUMENT_DEPTH_MAX}");
    DecodeError::Protobuf { path: String::new(), problem }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// What a Go client makes of a number that was written with more bits.
fn low_half(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// The first field of a message that has no other.
fn first<'a>(message: &'a [u8], path: &Path<'_>) -> Result<Option<&'a [u8]>, DecodeError> {
    let mut found = None;
    let mut reader = Reader::new(message);
    while let Some((number, payload)) = reader.field().map_err(|error| problem(path, &error))? {
        if number == 1 {
            found = Some(bytes(payload, path)?);
        }
    }
    Ok(found)
}

/// Its text is judged where documents are checked.
fn quantity(message: &[u8], path: &Path<'_>) -> Result<Value, DecodeError> {
    match first(message, path)? {
        Some(bytes) => text(bytes, path).map(Value::String),
        None => Ok(Value::from("0")),
    }
}

fn int_or_string(message: &[u8], path: &Path<'_>) -> Result<Value, DecodeError> {
    let (mut kind, mut int, mut string) = (0, 0, None);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field().map_err(|error| problem(path, &error))? {
        match field {
            (1, Payload::Varint(number)) => kind = number,
            (2, Payload::Varint(number)) => int = low_half(number),
            (3, Payload::Bytes(bytes)) => string = Some(bytes),
            _ => {}
        }
    }
    match kind {
        0 => Ok(Value::from(int)),
        1 => text(string.unwrap_or_default(), path).map(Value::String),
        _ => Err(problem(path, &"impossible IntOrString.Type")),
    }
}

fn time(shape: Shape, message: &[u8], path: &Path<'_>) -> Result<Value, DecodeError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.field().map_err(|error| problem(path, &error))? {
        match field {
            (1, Payload::Varint(number)) => seconds = number.cast_signed(),
            (2, Payload::Varint(number)) => nanos = low_half(number),
            _ => {}
        }
    }
    // As in upstream's JSON, a time has whole seconds, a micro time whole microseconds.
    let nanos = if shape == Shape::Time { 0 } else { nanos - nanos % 1_000 };
    if message.is_empty() || (seconds, nanos) == (ZERO_TIME_SECONDS, 0) {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanos).ok();
    let time = time.filter(|time| time.as_second() >= FIRST_TIME_SECONDS);
    let time = time.ok_or_else(|| problem(path, &"the time is out of range"))?;
    let layout = if shape == Shape::Time { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
    Ok(Value::String(time.strftime(layout).to_string()))
}
