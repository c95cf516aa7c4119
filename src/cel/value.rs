//! What expressions evaluate to.
//!
//! Values of documents are looked at where they are ([`super::view`]); values that are made are
//! shared. Lists are joined without copying, so that adding two costs nothing however long they
//! are.

use super::authorizer::{Decision, Question};
use super::declared::{Declared, ListKind, Object};
use super::foreign::Foreign;
use super::types::Type;
use super::view;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An error that `||` and `&&` may absorb. The words are cel-go's.
    #[error("{0}")]
    Failed(Cow<'static, str>),
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    #[error("operation interrupted")]
    Interrupted,
}

impl Fault {
    pub(super) const NO_OVERLOAD: Self = Self::Failed(Cow::Borrowed("no such overload"));

    pub(super) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(message.into())
    }

    /// Whether a function was called with what it does not take.
    #[must_use]
    pub fn is_no_overload(&self) -> bool {
        matches!(self, Self::Failed(message) if message.starts_with("no such overload"))
    }
}

pub(super) type Outcome<'a> = Result<Value<'a>, Fault>;

/// A value. What it borrows from are the documents that the evaluation was given.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(jiff::Timestamp),
    /// In nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Type(Arc<str>),
    Optional(Option<Arc<Value<'a>>>),
    Foreign(Foreign),
    Question(Arc<Question>),
    Decision(Arc<Decision>),
}

#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Owned(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    pub(super) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text::Owned(text.into()))
    }

    pub(super) fn texts<T: Into<Arc<str>>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::list(texts.into_iter().map(Self::text).collect())
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        Self::List(List { items: Items::Made(Arc::new(items)), kind: ListKind::Atomic })
    }

    pub(super) fn some(value: Self) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A count; none is larger than an `i64` holds.
    pub(super) fn count(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A part of a document that is described by `declared`.
    pub fn of_json(json: &'a Json, declared: &Declared) -> Result<Self, Fault> {
        view::read(json, declared)
    }

    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What `type()` says of it.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Foreign(foreign) => foreign.type_name(),
            Self::Question(question) => question.type_name(),
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// How large it is for costs (cel-go `actualSize`): one, where it has no size.
    pub(super) fn size(&self) -> u64 {
        let size = match self {
            Self::Text(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Foreign(foreign) => foreign.size(),
            _ => 1,
        };
        u64::try_from(size).unwrap_or(u64::MAX)
    }

    /// Whether it is what its type has before anything is set (cel-go `traits.Zeroer`).
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(value) => !value,
            Self::Int(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::Text(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(nanoseconds) => *nanoseconds == 0,
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Optional(value) => value.is_none(),
            _ => false,
        }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// A list, with what its schema says of its order.
#[derive(Clone, Debug)]
pub struct List<'a> {
    pub(super) items: Items<'a>,
    pub(super) kind: ListKind,
}

#[derive(Clone, Debug)]
pub(super) enum Items<'a> {
    Made(Arc<Vec<Value<'a>>>),
    Json(&'a [Json], Arc<Declared>),
    Joined(Arc<Joined<'a>>),
}

#[derive(Debug)]
pub(super) struct Joined<'a> {
    left: List<'a>,
    right: List<'a>,
    length: usize,
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match &self.items {
            Items::Made(items) => items.len(),
            Items::Json(items, _) => items.len(),
            Items::Joined(joined) => joined.length,
        }
    }

    /// Whether its schema says more of it than that it is a list.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self.items, Items::Json(..))
    }

    /// The element at an index that is below the length.
    pub(super) fn get(&self, index: usize) -> Outcome<'a> {
        let (mut list, mut index) = (self, index);
        loop {
            let found = match &list.items {
                Items::Made(items) => items.get(index).cloned().map(Ok),
                Items::Json(items, declared) => {
                    items.get(index).map(|item| view::read(item, declared))
                }
                Items::Joined(joined) => {
                    let left = joined.left.len();
                    list = if index < left { &joined.left } else { &joined.right };
                    index = if index < left { index } else { index - left };
                    continue;
                }
            };
            return found.unwrap_or_else(|| Err(Fault::new("index out of bounds")));
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Outcome<'a>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Both, one after the other. Neither is copied.
    pub(super) fn join(left: Self, right: Self) -> Self {
        if right.len() == 0 {
            return Self { kind: ListKind::Atomic, ..left };
        }
        if left.len() == 0 {
            return Self { kind: ListKind::Atomic, ..right };
        }
        let length = left.len().saturating_add(right.len());
        let items = Items::Joined(Arc::new(Joined { left, right, length }));
        Self { items, kind: ListKind::Atomic }
    }

    /// One more at the end; without copying, where nobody else has the list.
    pub(super) fn push(mut self, value: Value<'a>) -> Self {
        if let Items::Made(items) = &mut self.items {
            Arc::make_mut(items).push(value);
            return self;
        }
        let items = Items::Made(Arc::new(vec![value]));
        Self::join(self, Self { items, kind: ListKind::Atomic })
    }
}

/// What a map knows its values by. Numbers that are equal are the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// By its bits; only of numbers that are not whole.
    Double(u64),
    Text(Arc<str>),
}

impl Key {
    pub(super) fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Uint(value) => i64::try_from(*value).map_or(Self::Uint(*value), Self::Int),
            Value::Double(value) => match super::numbers::double_to_int(*value) {
                Some(whole) => Self::Int(whole),
                None => Self::Double(value.to_bits()),
            },
            Value::Text(Text::Owned(text)) => Self::Text(Arc::clone(text)),
            Value::Text(Text::Borrowed(text)) => Self::Text((*text).into()),
            _ => return None,
        })
    }
}

/// The keys and values of a map that an expression has made.
pub(super) type Entries<'a> = BTreeMap<Key, (Value<'a>, Value<'a>)>;

#[derive(Clone, Debug)]
pub enum Map<'a> {
    #[doc(hidden)]
    Made(Made<'a>),
    /// An object of a document.
    Json(&'a serde_json::Map<String, Json>, Properties),
}

/// A map that an expression has made.
#[derive(Clone, Debug)]
pub struct Made<'a>(pub(super) Arc<Entries<'a>>);

/// What is known of the properties of a JSON object.
#[derive(Clone, Debug)]
pub enum Properties {
    Unknown,
    All(Arc<Declared>),
    Of(Object),
}

impl<'a> Map<'a> {
    pub(super) fn made(entries: Entries<'a>) -> Self {
        Self::Made(Made(Arc::new(entries)))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Made(made) => made.0.len(),
            Self::Json(map, _) => map.len(),
        }
    }

    /// Whether its schema says more of it than that it is a map.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self, Self::Json(_, Properties::All(_) | Properties::Of(_)))
    }

    pub(super) fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>, Fault> {
        match self {
            Self::Made(made) => {
                let key = Key::of(key);
                Ok(key.and_then(|key| made.0.get(&key)).map(|(_, value)| value.clone()))
            }
            Self::Json(map, properties) => match key {
                Value::Text(name) => view::property(map, properties, name).transpose(),
                _ if self.is_typed() => Err(Fault::NO_OVERLOAD),
                _ => Ok(None),
            },
        }
    }

    pub(super) fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Made(made) => made.0.values().map(|(key, _)| key.clone()).collect(),
            Self::Json(map, properties) => view::keys(map, properties),
        }
    }

    /// With one more key; without copying, where nobody else has the map.
    pub(super) fn insert(self, key: Value<'a>, value: Value<'a>) -> Result<Self, Fault> {
        let mut entries = match self {
            Self::Made(made) => made.0,
            Self::Json(..) => {
                let mut entries = Entries::new();
                for key in self.keys() {
                    if let (Some(name), Some(value)) = (Key::of(&key), self.find(&key)?) {
                        entries.insert(name, (key, value));
                    }
                }
                Arc::new(entries)
            }
        };
        let name = Key::of(&key).ok_or(Fault::NO_OVERLOAD)?;
        if entries.contains_key(&name) {
            let shown = super::show::shown(&key);
            return Err(Fault::new(format!("insert failed: key {shown} already exists")));
        }
        Arc::make_mut(&mut entries).insert(name, (key, value));
        Ok(Self::Made(Made(entries)))
    }
}

/// The name of a type as a value.
pub(super) fn type_value<'a>(ty: &Type) -> Value<'a> {
    Value::Type(ty.name().into())
}
