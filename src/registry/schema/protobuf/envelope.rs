//! What every body is in: four bytes that say so, and a `runtime.Unknown` with the type in words.

use super::super::DecodeError;
use super::super::table::{BUILT_IN, TypeRef};
use super::wire::{Opened, Payload, Reader, WireError, Writer};
use std::borrow::Cow;

const PREFIX: &[u8] = b"k8s\0";

/// The numbers of `runtime.Unknown` and `runtime.TypeMeta`.
const UNKNOWN_TYPE_META: u8 = 1;
const UNKNOWN_RAW: u8 = 2;
const UNKNOWN_CONTENT_ENCODING: u8 = 3;
const UNKNOWN_CONTENT_TYPE: u8 = 4;
const TYPE_META_API_VERSION: u8 = 1;
const TYPE_META_KIND: u8 = 2;

/// What an object calls itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta<'a> {
    pub api_version: Cow<'a, str>,
    pub kind: Cow<'a, str>,
}

impl TypeMeta<'static> {
    /// Of a built-in kind.
    #[must_use]
    pub fn of(kind: TypeRef) -> Self {
        let view = BUILT_IN.get(kind);
        let api_version = match (view.group(), view.version()) {
            ("", version) => Cow::Borrowed(version),
            (group, version) => Cow::Owned(format!("{group}/{version}")),
        };
        Self { api_version, kind: Cow::Borrowed(view.name()) }
    }
}

/// A body, with the message in it not looked at yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Empty where the sender leaves it to the path.
    pub type_meta: TypeMeta<'a>,
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// # Errors
    /// If this is not a message in an envelope.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let problem = |problem: String| DecodeError::Protobuf { path: String::new(), problem };
        let Some(unknown) = body.strip_prefix(PREFIX) else {
            let text = "provided data does not appear to be a protobuf message, expected prefix \
                        [107 56 115 0]";
            return Err(problem(text.to_owned()));
        };
        if unknown.is_empty() {
            return Err(problem("empty body".to_owned()));
        }
        Self::parse_unknown(unknown).map_err(|error| problem(error.to_string()))
    }

    fn parse_unknown(unknown: &'a [u8]) -> Result<Self, WireError> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(unknown);
        while let Some(field) = reader.field()? {
            match field {
                (1, Payload::Bytes(bytes)) => envelope.type_meta.merge(bytes)?,
                (2, Payload::Bytes(bytes)) => envelope.raw = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

impl<'a> TypeMeta<'a> {
    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), WireError> {
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field {
                (1, Payload::Bytes(text)) => self.api_version = String::from_utf8_lossy(text),
                (2, Payload::Bytes(text)) => self.kind = String::from_utf8_lossy(text),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Begins an envelope; the message follows.
pub(super) fn open(writer: &mut Writer, type_meta: &TypeMeta<'_>) -> Opened {
    writer.out.extend_from_slice(PREFIX);
    let opened = writer.open(UNKNOWN_TYPE_META);
    writer.bytes_field(TYPE_META_API_VERSION, type_meta.api_version.as_bytes());
    writer.bytes_field(TYPE_META_KIND, type_meta.kind.as_bytes());
    writer.close(opened);
    writer.open(UNKNOWN_RAW)
}

/// Ends it, as upstream does with two fields that nobody uses.
pub(super) fn close(writer: &mut Writer, message: Opened) {
    writer.close(message);
    writer.bytes_field(UNKNOWN_CONTENT_ENCODING, b"");
    writer.bytes_field(UNKNOWN_CONTENT_TYPE, b"");
}
