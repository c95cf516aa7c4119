//! A JSON document as field sets are reckoned on it: a tree that borrows its text.
//!
//! Members of a map are sorted by name, so that two documents are compared in one walk side by side.
//! Values have upstream's order and equality (structured-merge-diff v6, value/value.go): a number
//! is a number, with a point or without.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};

/// A value in a document. `serde_json` refuses what is nested deeper than 127 levels.
#[derive(Clone, Debug)]
pub enum Node<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// Sorted by name.
    Map(Vec<(Cow<'a, str>, Self)>),
    /// What Go shows of a scalar or list that is not there.
    Implied(Implied),
    /// What Go shows of a struct that is not there.
    ImpliedMap(Vec<(Cow<'a, str>, Self)>),
}

/// The zero values that Go writes where there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implied {
    Null,
    False,
    Zero,
    Text(&'static str),
}

/// What a value is, regardless of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Null,
    Scalar,
    List,
    Map,
}

impl<'a> Node<'a> {
    /// # Errors
    /// Where this is not JSON.
    pub fn parse(json: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The same document, whose texts are borrowed.
    #[must_use]
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(bool) => Self::Bool(*bool),
            Value::Number(number) => number
                .as_i64()
                .map_or_else(|| Self::Float(number.as_f64().unwrap_or_default()), Self::Int),
            Value::String(text) => Self::Text(Cow::Borrowed(text)),
            Value::Array(list) => Self::List(list.iter().map(Self::of).collect()),
            Value::Object(map) => Self::Map(
                map.iter().map(|(name, value)| (Cow::Borrowed(&**name), Self::of(value))).collect(),
            ),
        }
    }

    /// The document, without what is merely implied.
    #[must_use]
    pub fn into_value(self) -> Value {
        match self {
            Self::Null | Self::Implied(_) => Value::Null,
            Self::ImpliedMap(_) => Value::Object(serde_json::Map::new()),
            Self::Bool(bool) => Value::Bool(bool),
            Self::Int(number) => Value::from(number),
            Self::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            Self::Text(text) => Value::String(text.into_owned()),
            Self::List(list) => Value::Array(list.into_iter().map(Self::into_value).collect()),
            Self::Map(map) => Value::Object(
                map.into_iter()
                    .filter(|(_, node)| !matches!(node, Self::Implied(_) | Self::ImpliedMap(_)))
                    .map(|(name, node)| (name.into_owned(), node.into_value()))
                    .collect(),
            ),
        }
    }

    /// The same with texts of its own.
    #[must_use]
    pub fn into_owned(self) -> Node<'static> {
        let members = |map: Vec<(Cow<'a, str>, Self)>| {
            let owned = |(name, node): (Cow<'a, str>, Self)| {
                (Cow::Owned(name.into_owned()), node.into_owned())
            };
            map.into_iter().map(owned).collect()
        };
        match self {
            Self::Null => Node::Null,
            Self::Bool(bool) => Node::Bool(bool),
            Self::Int(number) => Node::Int(number),
            Self::Float(number) => Node::Float(number),
            Self::Implied(implied) => Node::Implied(implied),
            Self::Text(text) => Node::Text(Cow::Owned(text.into_owned())),
            Self::List(list) => Node::List(list.into_iter().map(Self::into_owned).collect()),
            Self::Map(map) => Node::Map(members(map)),
            Self::ImpliedMap(map) => Node::ImpliedMap(members(map)),
        }
    }

    #[must_use]
    pub fn sort(&self) -> Sort {
        match self {
            Self::Null | Self::Implied(Implied::Null) => Sort::Null,
            Self::List(_) => Sort::List,
            Self::Map(_) | Self::ImpliedMap(_) => Sort::Map,
            _ => Sort::Scalar,
        }
    }

    /// The elements, where this is a list.
    #[must_use]
    pub fn elements(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// The members, where this is a map.
    #[must_use]
    pub fn members(&self) -> Option<&[(Cow<'a, str>, Self)]> {
        match self {
            Self::Map(map) | Self::ImpliedMap(map) => Some(map),
            _ => None,
        }
    }

    /// The member of this name, where this is a map that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        let members = self.members()?;
        let at = members.binary_search_by(|(own, _)| (**own).cmp(name)).ok()?;
        Some(&members[at].1)
    }

    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Implied(Implied::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "upstream compares such numbers so")]
            Self::Int(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Implied(Implied::Zero) => Some(0.0),
            _ => None,
        }
    }

    fn bool(&self) -> Option<bool> {
        match self {
            Self::Bool(bool) => Some(*bool),
            Self::Implied(Implied::False) => Some(false),
            _ => None,
        }
    }

    /// Upstream's order of sorts: numbers, texts, booleans, lists, maps, null.
    fn rank(&self) -> u8 {
        match self {
            Self::Int(_) | Self::Float(_) | Self::Implied(Implied::Zero) => 0,
            Self::Text(_) | Self::Implied(Implied::Text(_)) => 1,
            Self::Bool(_) | Self::Implied(Implied::False) => 2,
            Self::List(_) => 3,
            Self::Map(_) | Self::ImpliedMap(_) => 4,
            Self::Null | Self::Implied(Implied::Null) => 5,
        }
    }

    /// As Go prints it with `%v`.
    #[must_use]
    pub fn go(&self) -> String {
        let mut out = String::new();
        self.write_go(&mut out);
        out
    }

    fn write_go(&self, out: &mut String) {
        let write = |out: &mut String, text: fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing to a String succeeds");
        };
        match self {
            Self::Null | Self::Implied(Implied::Null) => out.push_str("<nil>"),
            Self::Bool(bool) => write(out, format_args!("{bool}")),
            Self::Implied(Implied::False) => out.push_str("false"),
            Self::Int(number) => write(out, format_args!("{number}")),
            Self::Float(number) => write(out, format_args!("{number}")),
            Self::Implied(Implied::Zero) => out.push('0'),
            Self::Text(text) => out.push_str(text),
            Self::Implied(Implied::Text(text)) => out.push_str(text),
            Self::List(list) => {
                out.push('[');
                for (index, node) in list.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { " " });
                    node.write_go(out);
                }
                out.push(']');
            }
            Self::Map(map) | Self::ImpliedMap(map) => {
                out.push_str("map[");
                for (index, (name, node)) in map.iter().enumerate() {
                    write(out, format_args!("{}{name}:", if index == 0 { "" } else { " " }));
                    node.write_go(out);
                }
                out.push(']');
            }
        }
    }

    /// As it is written in a path: texts in quotes (upstream `value.ToString`).
    #[must_use]
    pub fn in_path(&self) -> String {
        self.text().map_or_else(|| self.go(), |text| format!("{text:?}"))
    }
}

impl Ord for Node<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if let (Self::Int(own), Self::Int(other)) = (self, other) {
            return own.cmp(other);
        }
        if let (Some(own), Some(other)) = (self.number(), other.number()) {
            return own.partial_cmp(&other).unwrap_or(Ordering::Equal);
        }
        if let (Some(own), Some(other)) = (self.text(), other.text()) {
            return own.cmp(other);
        }
        if let (Some(own), Some(other)) = (self.bool(), other.bool()) {
            return own.cmp(&other);
        }
        if let (Some(own), Some(other)) = (self.elements(), other.elements()) {
            return own.cmp(other);
        }
        if let (Some(own), Some(other)) = (self.members(), other.members()) {
            return own.cmp(other);
        }
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Node<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(own), Self::Text(other)) => own == other,
            (Self::List(own), Self::List(other)) => own == other,
            (Self::Map(own), Self::Map(other)) => own == other,
            _ => self.cmp(other) == Ordering::Equal,
        }
    }
}

impl Eq for Node<'_> {}

/// A text that is borrowed where the JSON has it without escapes.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(bool))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Node::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "Go reads such numbers so")]
        Ok(i64::try_from(number).map_or(Node::Float(number as f64), Node::Int))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Node::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = elements.next_element()? {
            list.push(node);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut map: Vec<(Cow<'de, str>, Node<'de>)> = Vec::new();
        let mut is_sorted = true;
        while let Some((Text(name), node)) = members.next_entry()? {
            is_sorted &= map.last().is_none_or(|(last, _)| *last < name);
            map.push((name, node));
        }
        if !is_sorted {
            // Of members that come twice the last one counts.
            map.reverse();
            map.sort_by(|(one, _), (other, _)| one.cmp(other));
            map.dedup_by(|(one, _), (other, _)| one == other);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_have_upstreams_order() {
        let json = r#"[2, 2.5, "a", "b", false, true, [1], [1, 2], {"a": 1}, {"b": 0}, null]"#;
        let Node::List(nodes) = Node::parse(json.as_bytes()).unwrap() else { panic!("a list") };
        for (at, one) in nodes.iter().enumerate() {
            for (other_at, other) in nodes.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one:?} {other:?}");
            }
        }
        assert_eq!(Node::Int(2), Node::Float(2.0));
        assert_eq!(Node::ImpliedMap(Vec::new()), Node::Map(Vec::new()));
        assert_eq!(Node::Implied(Implied::Zero), Node::Int(0));
    }

    #[test]
    fn members_are_sorted_and_the_last_of_two_counts() {
        let document = Node::parse(br#"{"b": 1, "a": 2, "b": {"x": null}}"#).unwrap();
        assert_eq!(document.clone().into_value(), json!({"a": 2, "b": {"x": null}}));
        assert_eq!(document.get("a"), Some(&Node::Int(2)));
    }

    #[test]
    fn go_shows_values_its_own_way() {
        let value = json!({"b": [1, "x", null], "a": {"c": true}});
        assert_eq!(Node::of(&value).go(), "map[a:map[c:true] b:[1 x <nil>]]");
        assert_eq!(Node::of(&json!("x\"y")).in_path(), r#""x\"y""#);
    }
}
