//! One step of a path into a document, and how it is written: `f:name`, `k:{"name":"a"}`, `v:"a"`,
//! `i:0` (structured-merge-diff v6, fieldpath/element.go and serialize-pe.go).

use super::document::{Node, Text};
use crate::api::field::shown_name;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

/// Which child of a value is meant. Upstream's order is the derived one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element<'a> {
    /// A member of a map or struct.
    Field(Cow<'a, str>),
    /// The element of a list whose keys have these values, sorted by name.
    Key(Vec<(Cow<'a, str>, Node<'a>)>),
    /// The element of a set that is this value.
    Value(Node<'a>),
    Index(i64),
}

impl<'a> Element<'a> {
    #[must_use]
    pub fn field(name: &'a str) -> Self {
        Self::Field(Cow::Borrowed(name))
    }

    /// Writes it as a JSON string, as upstream's encoder does.
    pub(super) fn write_json(&self, out: &mut String) {
        out.push('"');
        match self {
            Self::Field(name) => {
                out.push_str("f:");
                escape(name, Escapes::Plain, out);
            }
            Self::Key(fields) => {
                let mut inner = String::from("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    inner.push_str(if index == 0 { "\"" } else { ",\"" });
                    escape(name, Escapes::Plain, &mut inner);
                    inner.push_str("\":");
                    write_value(value, &mut inner);
                }
                inner.push('}');
                escape(&inner, Escapes::Plain, out);
            }
            Self::Value(value) => {
                let mut inner = String::from("v:");
                write_value(value, &mut inner);
                escape(&inner, Escapes::Plain, out);
            }
            Self::Index(index) => {
                write!(out, "i:{index}").expect("writing to a String succeeds");
            }
        }
        out.push('"');
    }

    /// Reads what upstream's `DeserializePathElement` reads. `None` for sorts of elements that are
    /// not known: they are skipped, as a later version may know them.
    ///
    /// # Errors
    /// Where the text is no path element.
    pub(super) fn parse(text: Cow<'a, str>) -> Result<Option<Self>, String> {
        let Some(rest) = text.get(2..).filter(|_| text.as_bytes()[1] == b':') else {
            return Err(match text.len() {
                0 | 1 => "key must be 2 characters long:".to_owned(),
                _ => format!("missing colon: {text}"),
            });
        };
        match text.as_bytes()[0] {
            b'f' => Ok(Some(Self::Field(match text {
                Cow::Borrowed(text) => Cow::Borrowed(&text[2..]),
                Cow::Owned(_) => Cow::Owned(rest.to_owned()),
            }))),
            b'v' => {
                let value = serde_json::from_str::<Node<'_>>(rest).map_err(|e| e.to_string())?;
                Ok(Some(Self::Value(value.into_owned())))
            }
            b'k' => {
                let mut deserializer = serde_json::Deserializer::from_str(rest);
                let fields = deserializer.deserialize_map(KeyVisitor).map_err(|e| e.to_string())?;
                deserializer.end().map_err(|error| error.to_string())?;
                Ok(Some(Self::Key(fields)))
            }
            b'i' => {
                let index = rest.parse().map_err(|_| format!("not an index: {text}"))?;
                Ok(Some(Self::Index(index)))
            }
            _ => Ok(None),
        }
    }
}

impl Display for Element<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{}", shown_name(name)),
            Self::Key(fields) => {
                out.write_str("[")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(out, "{comma}{name}={}", shown_name(&value.in_path()))?;
                }
                out.write_str("]")
            }
            Self::Value(value) => write!(out, "[={}]", shown_name(&value.in_path())),
            Self::Index(index) => write!(out, "[{index}]"),
        }
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Vec<(Cow<'static, str>, Node<'static>)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some((Text(name), value)) = members.next_entry::<Text<'_>, Node<'_>>()? {
            fields.push((Cow::Owned(name.into_owned()), value.into_owned()));
        }
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        if fields.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom("a key comes twice"));
        }
        Ok(fields)
    }
}

/// JSON as Go's encoders write it, which keep texts out of HTML.
fn write_value(value: &Node<'_>, out: &mut String) {
    if let Some(text) = value.text() {
        out.push('"');
        escape(text, Escapes::Html, out);
        out.push('"');
        return;
    }
    if let Some(list) = value.elements() {
        for (index, node) in list.iter().enumerate() {
            out.push(if index == 0 { '[' } else { ',' });
            write_value(node, out);
        }
        return out.push_str(if list.is_empty() { "[]" } else { "]" });
    }
    if let Some(map) = value.members() {
        for (index, (name, node)) in map.iter().enumerate() {
            out.push_str(if index == 0 { "{\"" } else { ",\"" });
            escape(name, Escapes::Html, out);
            out.push_str("\":");
            write_value(node, out);
        }
        return out.push_str(if map.is_empty() { "{}" } else { "}" });
    }
    match value {
        Node::Null => out.push_str("null"),
        scalar => out.push_str(&scalar.go()),
    }
}

/// Which letters are escaped beyond those that JSON asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    Plain,
    Html,
}

fn escape(text: &str, escapes: Escapes, out: &mut String) {
    let is_html = |letter| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    let is_special = |letter: char| {
        matches!(letter, '"' | '\\' | '\0'..='\x1f')
            || (escapes == Escapes::Html && is_html(letter))
    };
    let mut rest = text;
    while let Some(at) = rest.find(is_special) {
        let letter = rest[at..].chars().next().expect("one was found there");
        out.push_str(&rest[..at]);
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => {
                write!(out, "\\u{:04x}", u32::from(other)).expect("writing to a String succeeds");
            }
        }
        rest = &rest[at + letter.len_utf8()..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let parsed = Element::parse(Cow::Borrowed(text));
        let shown = parsed.map(|element| {
            let Some(element) = element else { return "unknown".to_owned() };
            let mut json = String::new();
            element.write_json(&mut json);
            let back: String = serde_json::from_str(&json).unwrap();
            assert_eq!(Element::parse(Cow::Borrowed(&back)), Ok(Some(element.clone())), "{json}");
            element.to_string()
        });
        match (shown, expected) {
            (Ok(shown), Ok(expected)) => assert_eq!(shown, expected, "{text}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
            (shown, _) => panic!("{text}: {shown:?}"),
        }
    }

    #[test]
    fn elements_are_read_and_shown() {
        check("f:a", Ok(".a"));
        check("f:", Ok("."));
        check("f:a.b/c:d", Ok(".a.b/c:d"));
        check(r#"k:{"port":80,"name":"x"}"#, Ok(r#"[name="x",port=80]"#));
        check(r#"v:"x""#, Ok(r#"[="x"]"#));
        check("v:true", Ok("[=true]"));
        check("i:7", Ok("[7]"));
        check("z:7", Ok("unknown"));
        check("fa", Err("missing colon: fa"));
        check("f", Err("2 characters"));
        check("i:x", Err("not an index"));
        check("v:{", Err("EOF"));
        check("v:1 2", Err("trailing"));
        check("k:[]", Err("an object of keys"));
        check(r#"k:{"a":1,"a":2}"#, Err("twice"));
        check("é:a", Err("missing colon"));
    }

    #[test]
    fn texts_are_kept_out_of_html_twice() {
        let mut json = String::new();
        Element::Value(Node::Text("a<b\n\"".into())).write_json(&mut json);
        assert_eq!(json, r#""v:\"a\\u003cb\\n\\\"\"""#);
    }

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let key = |port| Element::Key(vec![("port".into(), Node::Int(port))]);
        assert!(key(80) < key(443));
        assert!(Element::field("z") < key(1));
        assert!(key(1) < Element::Value(Node::Int(0)));
    }
}
