//! The types that the checker knows, and what they are called.

use super::declared::Object;
use std::fmt;
use std::sync::Arc;

/// A type that is written out longer than this is cut: types can be larger than the expression.
const SHOWN_BYTES_MAX: usize = 4_096;

/// The type of an expression.
#[derive(Clone, Debug)]
pub enum Type {
    /// Anything; what it is shows when it is evaluated.
    Dyn,
    /// Of what is wrong and has been reported.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// A type of a library with parameters, as `optional_type(int)` and `net.IP`.
    Opaque(&'static str, Option<Arc<Type>>),
    /// A type of a library without fields, as `kubernetes.Quantity`.
    Named(&'static str),
    /// Declared fields.
    Object(Object),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// What a declaration leaves open, or the checker has not found out yet.
    Param(Param),
}

/// A type that is left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// The `A` of a declaration.
    Declared(char),
    /// One of a checker's own.
    Fresh(u32),
}

pub(super) const OPTIONAL: &str = "optional_type";

impl Type {
    #[must_use]
    pub fn list(element: Self) -> Self {
        Self::List(Arc::new(element))
    }

    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    #[must_use]
    pub fn optional(value: Self) -> Self {
        Self::Opaque(OPTIONAL, Some(Arc::new(value)))
    }

    pub(super) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// What an optional holds; the type itself where it is none.
    pub(super) fn unwrapped(&self) -> (&Self, bool) {
        match self {
            Self::Opaque(OPTIONAL, Some(inner)) => (inner, true),
            other => (other, false),
        }
    }

    /// The name without parameters, as `type()` gives it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "!error!",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Opaque(name, _) | Self::Named(name) => name,
            Self::Object(object) => object.name(),
            Self::Type(_) => "type",
            Self::Param(_) => "",
        }
    }

    fn write(&self, out: &mut String) {
        if out.len() > SHOWN_BYTES_MAX {
            return;
        }
        let parameters: [Option<&Self>; 2] = match self {
            Self::Null => return out.push_str("null"),
            Self::Timestamp => return out.push_str("timestamp"),
            Self::Duration => return out.push_str("duration"),
            Self::Param(Param::Declared(name)) => return out.push(*name),
            Self::Param(Param::Fresh(number)) => return out.push_str(&format!("_var{number}")),
            Self::List(inner) => [Some(&**inner), None],
            Self::Opaque(_, inner) | Self::Type(inner) => [inner.as_deref(), None],
            Self::Map(pair) => [Some(&pair.0), Some(&pair.1)],
            _ => [None, None],
        };
        out.push_str(self.name());
        for (index, parameter) in parameters.into_iter().flatten().enumerate() {
            out.push_str(if index == 0 { "(" } else { ", " });
            parameter.write(out);
        }
        if parameters[0].is_some() {
            out.push(')');
        }
    }
}

/// As cel-go's `FormatCELType`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}
