//! Reads `application/vnd.kubernetes.protobuf`, which Go clients send for built-in kinds, as the JSON
//! value that it stands for.
//!
//! Start at [`Envelope`]. One walk over the schema table, which knows each field's number. In protobuf
//! Go writes every field that is no pointer, also where it means nothing; those zeros are left out,
//! as Go leaves them out of JSON. Answers are JSON, which those clients take as well.

use crate::registry::schema::{BUILT_IN, DOCUMENT_DEPTH_MAX, FieldView, Shape, TypeRef, TypeView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What every body begins with (upstream apimachinery pkg/runtime/serializer/protobuf, v1.35).
const MAGIC: &[u8] = b"k8s\0";

/// Why a body is not protobuf of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    Magic,
    #[error("the message ends within a field")]
    Truncated,
    #[error("field {number} has the wire type {wire}, which is not its type's")]
    Wire { number: u64, wire: u8 },
    #[error("field {0} is not UTF-8")]
    Text(&'static str),
    #[error("field {field} is not JSON: {why}")]
    Json { field: String, why: String },
    #[error("the message is nested deeper than {DOCUMENT_DEPTH_MAX} levels")]
    Depth,
}

/// What is around an object: `runtime.Unknown`, which says what is inside.
#[derive(Debug, Default)]
pub(crate) struct Envelope<'a> {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(crate) fn open(body: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Self::default();
        for field in Fields(body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?) {
            match field? {
                (1, Wire::Bytes(bytes)) => envelope.read_type(bytes)?,
                (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(bytes)) => self.api_version = text(bytes)?,
                (2, Wire::Bytes(bytes)) => self.kind = text(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The object inside, which is of the type `of`, as JSON.
    pub(crate) fn decode(&self, of: TypeRef) -> Result<Value, ProtobufError> {
        let mut object = Map::new();
        Walker::of(of, 0)?.message(&[], self.raw, &mut object)?;
        object.insert("apiVersion".to_owned(), self.api_version.as_str().into());
        object.insert("kind".to_owned(), self.kind.as_str().into());
        Ok(Value::Object(object))
    }
}

/// A field's value as it is on the wire.
#[derive(Clone, Copy, Debug)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// No built-in type has such a field.
    Fixed32,
}

impl Wire<'_> {
    fn kind(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32 => 5,
        }
    }
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u64, Wire<'a>), ProtobufError> {
        let tag = self.varint()?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            other => {
                let wire = u8::try_from(other).expect("three bits");
                return Err(ProtobufError::Wire { number, wire });
            }
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("as many as were taken"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Reads the messages of one type.
#[derive(Clone, Copy)]
struct Walker {
    view: TypeView<'static>,
    depth: usize,
}

impl Walker {
    fn of(of: TypeRef, depth: usize) -> Result<Self, ProtobufError> {
        if depth > DOCUMENT_DEPTH_MAX {
            return Err(ProtobufError::Depth);
        }
        Ok(Self { view: BUILT_IN.get(of), depth })
    }

    /// `prefix` leads to the message from the type's own: Go's embedded structs are messages in
    /// protobuf whose fields are the type's in JSON.
    fn message(
        self,
        prefix: &[u8],
        bytes: &[u8],
        object: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let Ok(number) = u8::try_from(number) else {
                continue;
            };
            let path = [prefix, &[number]].concat();
            let fields = self.view.fields();
            let mut inside = false;
            let mut own = None;
            for candidate in fields {
                let known = candidate.protobuf_path();
                if known == path {
                    own = Some(candidate);
                } else if known.starts_with(&path) {
                    inside = true;
                }
            }
            match (own, wire) {
                (Some(field), wire) => self.field(field, wire, object)?,
                (None, Wire::Bytes(bytes)) if inside => self.message(&path, bytes, object)?,
                // What this version does not have is passed over, as protobuf does.
                _ => {}
            }
        }
        Ok(())
    }

    fn field(
        self,
        field: FieldView<'static>,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let name = field.name();
        match field.shape() {
            Shape::List(element) => {
                let list = object.entry(name).or_insert_with(|| json!([]));
                let list = list.as_array_mut().expect("put there as a list");
                self.elements(BUILT_IN.element(element), field, wire, list)
            }
            Shape::Map(element) => {
                let Wire::Bytes(entry) = wire else {
                    return Err(mismatch(field, wire));
                };
                let (key, value) = self.entry(BUILT_IN.element(element), field, entry)?;
                let map = object.entry(name).or_insert_with(|| json!({}));
                map.as_object_mut().expect("put there as a map").insert(key, value);
                Ok(())
            }
            shape => {
                let value = self.value(shape, field, wire)?;
                if !means_nothing(field, &value) {
                    object.insert(name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    /// One element of a list, or several: numbers may be packed, some lists are in messages.
    fn elements(
        self,
        shape: Shape,
        field: FieldView<'static>,
        wire: Wire<'_>,
        list: &mut Vec<Value>,
    ) -> Result<(), ProtobufError> {
        if field.is_wrapped()
            && let Wire::Bytes(items) = wire
        {
            list.extend(self.wrapped(shape, field, items)?);
            return Ok(());
        }
        match (shape, wire) {
            (Shape::Int32 | Shape::Int64 | Shape::Bool, Wire::Bytes(packed)) => {
                let mut packed = Fields(packed);
                while !packed.0.is_empty() {
                    let number = Wire::Varint(packed.varint()?);
                    list.push(self.value(shape, field, number)?);
                }
            }
            (shape, wire) => list.push(self.value(shape, field, wire)?),
        }
        Ok(())
    }

    /// A message whose only field is the list.
    fn wrapped(
        self,
        shape: Shape,
        field: FieldView<'static>,
        bytes: &[u8],
    ) -> Result<Vec<Value>, ProtobufError> {
        let items = Fields(bytes).map(|item| self.value(shape, field, item?.1));
        items.collect()
    }

    fn entry(
        self,
        shape: Shape,
        field: FieldView<'static>,
        bytes: &[u8],
    ) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), None);
        for part in Fields(bytes) {
            match part? {
                (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                (2, Wire::Bytes(items)) if field.is_wrapped() => {
                    let Shape::List(element) = shape else {
                        return Err(mismatch(field, Wire::Bytes(items)));
                    };
                    let items = self.wrapped(BUILT_IN.element(element), field, items)?;
                    value = Some(Value::Array(items));
                }
                (2, wire) => value = Some(self.value(shape, field, wire)?),
                _ => {}
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(shape))))
    }

    fn value(
        self,
        shape: Shape,
        field: FieldView<'static>,
        wire: Wire<'_>,
    ) -> Result<Value, ProtobufError> {
        match (shape, wire) {
            (Shape::String, Wire::Bytes(bytes)) => Ok(text(bytes)?.into()),
            (Shape::Bool, Wire::Varint(number)) => Ok((number != 0).into()),
            (Shape::Int32 | Shape::Int64, Wire::Varint(number)) => Ok(number.cast_signed().into()),
            (Shape::Double, Wire::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
            (Shape::Bytes, Wire::Bytes(bytes)) => Ok(STANDARD.encode(bytes).into()),
            (Shape::Quantity, Wire::Bytes(bytes)) => first_text(bytes, 1),
            (Shape::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
            (Shape::Time, Wire::Bytes(bytes)) => time(bytes, false),
            (Shape::MicroTime, Wire::Bytes(bytes)) => time(bytes, true),
            (Shape::Object | Shape::Any, Wire::Bytes(bytes)) => embedded(field, bytes),
            (Shape::Struct(of), Wire::Bytes(bytes)) => {
                let mut object = Map::new();
                Walker::of(of, self.depth + 1)?.message(&[], bytes, &mut object)?;
                Ok(Value::Object(object))
            }
            (_, wire) => Err(mismatch(field, wire)),
        }
    }
}

fn mismatch(field: FieldView<'_>, wire: Wire<'_>) -> ProtobufError {
    let number = field.protobuf_path().last().copied().unwrap_or_default();
    ProtobufError::Wire { number: number.into(), wire: wire.kind() }
}

/// Whether Go would leave this out of JSON.
fn means_nothing(field: FieldView<'_>, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.is_pointer() || field.is_required() => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn zero(shape: Shape) -> Value {
    match shape {
        Shape::Bool => json!(false),
        Shape::Int32 | Shape::Int64 | Shape::Double => json!(0),
        Shape::List(_) => json!([]),
        Shape::Map(_) | Shape::Struct(_) | Shape::Object | Shape::Any => json!({}),
        _ => json!(""),
    }
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProtobufError::Text("of text"))?;
    Ok(text.to_owned())
}

/// The text that is field `number` of a message.
fn first_text(bytes: &[u8], number: u64) -> Result<Value, ProtobufError> {
    for field in Fields(bytes) {
        if let (is, Wire::Bytes(bytes)) = field?
            && is == number
        {
            return Ok(text(bytes)?.into());
        }
    }
    Ok(Value::Null)
}

/// `IntOrString`: which of the two it is, the number, the text.
fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut string) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => string = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { string.into() } else { number.into() })
}

/// `Time`: seconds and nanoseconds; without either it is no time.
fn time(bytes: &[u8], with_micros: bool) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanos = i32::try_from(value.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    // The zero time of Go is the year 1, which it sends for "never" as well.
    let Ok(time) = Timestamp::new(seconds, nanos) else {
        return Ok(Value::Null);
    };
    if (seconds, nanos) == (0, 0) || seconds < GO_ZERO_TIME_SECONDS + 1 {
        return Ok(Value::Null);
    }
    let format = if with_micros { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string().into())
}

/// January 1 of the year 1, before 1970.
const GO_ZERO_TIME_SECONDS: i64 = -62_135_596_800;

/// `RawExtension`, `FieldsV1` and the like: JSON as bytes in field 1.
fn embedded(field: FieldView<'_>, bytes: &[u8]) -> Result<Value, ProtobufError> {
    for part in Fields(bytes) {
        if let (1, Wire::Bytes(json)) = part?
            && !json.is_empty()
        {
            return serde_json::from_slice(json).map_err(|error| ProtobufError::Json {
                field: field.name().to_owned(),
                why: error.to_string(),
            });
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::schema::types;

    /// A field that is a message or text.
    fn bytes(number: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len()).unwrap();
        assert!(length < 0x80);
        [&[number << 3 | 2, length][..], contents].concat()
    }

    fn varint(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, b"v1"), bytes(2, b"Thing")].concat();
        [MAGIC, &bytes(1, &meta), &bytes(2, raw)].concat()
    }

    fn decode(of: TypeRef, body: &[u8]) -> Result<Value, ProtobufError> {
        Envelope::open(body)?.decode(of)
    }

    fn check(of: TypeRef, raw: &[u8], expected: Value) {
        let mut value = decode(of, &body(raw)).unwrap();
        let object = value.as_object_mut().unwrap();
        assert_eq!(object.remove("apiVersion"), Some(json!("v1")));
        assert_eq!(object.remove("kind"), Some(json!("Thing")));
        assert_eq!(value, expected);
    }

    #[test]
    fn maps_text_and_times() {
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let empty = [bytes(1, b"e"), bytes(2, b"")].concat();
        let time = varint(1, 60);
        let metadata = [
            bytes(1, b"a"),
            bytes(2, b""),
            bytes(3, b"default"),
            varint(7, 0),
            bytes(8, &time),
            bytes(11, &entry),
        ]
        .concat();
        let raw = [bytes(1, &metadata), bytes(2, &entry), bytes(2, &empty)].concat();
        check(
            types::CONFIG_MAP,
            &raw,
            json!({
                "metadata": {
                    "name": "a", "namespace": "default", "labels": {"k": "v"},
                    "creationTimestamp": "1970-01-01T00:01:00Z",
                },
                "data": {"k": "v", "e": ""},
            }),
        );
    }

    #[test]
    fn zeros_stay_only_where_they_mean_something() {
        // replicas is a pointer, minReadySeconds and paused are not.
        let spec = [varint(1, 0), varint(5, 0), varint(7, 0)].concat();
        check(types::DEPLOYMENT, &bytes(2, &spec), json!({"spec": {"replicas": 0}}));
    }

    #[test]
    fn embedded_structs_are_nested_in_protobuf_only() {
        // volumes[0].name, and emptyDir.medium inside the message of the volume's source.
        let source = bytes(2, &bytes(1, b"Memory"));
        let volume = [bytes(1, b"tmp"), bytes(2, &source)].concat();
        let port = [bytes(1, b"http"), varint(3, 80)].concat();
        let container =
            [bytes(1, b"c"), bytes(2, b"image"), bytes(6, &port), bytes(3, b"a"), bytes(3, b"b")]
                .concat();
        let spec = [bytes(1, &volume), bytes(2, &container)].concat();
        check(
            types::POD,
            &bytes(2, &spec),
            json!({"spec": {
                "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}],
                "containers": [{
                    "name": "c", "image": "image", "command": ["a", "b"],
                    "ports": [{"name": "http", "containerPort": 80}],
                }],
            }}),
        );
    }

    #[test]
    fn numbers_or_text() {
        let number = [varint(1, 0), varint(2, 80)].concat();
        let name = [varint(1, 1), bytes(3, b"http")].concat();
        for (target, expected) in [(number, json!(80)), (name, json!("http"))] {
            let port = [varint(3, 80), bytes(4, &target)].concat();
            check(
                types::SERVICE,
                &bytes(2, &bytes(1, &port)),
                json!({"spec": {"ports": [{"port": 80, "targetPort": expected}]}}),
            );
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        assert_eq!(decode(types::POD, b"{}"), Err(ProtobufError::Magic));
        let whole = body(&bytes(2, &bytes(2, &bytes(1, b"c"))));
        for end in MAGIC.len() + 1..whole.len() {
            // Never a panic; where a cut falls between two fields, the rest is simply absent.
            decode(types::POD, &whole[..end]).ok();
        }
        let wrong = body(&varint(1, 7));
        assert_eq!(decode(types::POD, &wrong), Err(ProtobufError::Wire { number: 1, wire: 0 }));
    }
}
