//! Documents that grow out of bytes: of a type of the schema table, mostly with the fields that it
//! has and values that fit, so that what is behind the first checks is reached as well.

#![allow(dead_code, reason = "each target grows some of this")]

use kinglet::registry::schema::{BUILT_IN, Shape, TypeRef};
use serde_json::{Map, Value, json};

/// Nothing grows deeper, nor has more fields or elements at one place.
const DEPTH_MAX: usize = 12;
const WIDTH_MAX: u8 = 5;

/// What texts are made of: names, and what some format asks for.
const WORDS: [&str; 40] = [
    "a",
    "b",
    "c",
    "",
    "0",
    "1",
    "80",
    "-1",
    "1.5",
    "10Mi",
    "500m",
    "1e3",
    "50%",
    "true",
    "a.b/c",
    "example.com",
    "v1",
    "apps/v1",
    "Pod",
    "Always",
    "Never",
    "TCP",
    "Exists",
    "In",
    "NotIn",
    "Equal",
    "NoSchedule",
    "object",
    "array",
    "string",
    "integer",
    "map",
    "set",
    "/a/b",
    "../x",
    "10.0.0.1",
    "fd00::/64",
    "2026-01-01T00:00:00Z",
    "*/5 * * * *",
    "self.a > 0",
];

const NUMBERS: [i64; 12] =
    [0, 1, 2, 3, -1, 80, 443, 65_535, 65_536, 0x7fff_ffff, i64::MAX, i64::MIN];

/// Takes bytes; when there are none left, whatever is asked for is the least.
#[derive(Debug)]
pub struct Grower<'a> {
    bytes: &'a [u8],
}

impl<'a> Grower<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                *byte
            }
            None => 0,
        }
    }

    pub fn choose<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let (high, low) =
            if list.len() > 256 { (self.byte(), self.byte()) } else { (0, self.byte()) };
        list.get((usize::from(high) << 8 | usize::from(low)) % list.len().max(1))
    }

    pub fn is_one_in(&mut self, times: u8) -> bool {
        !self.bytes.is_empty() && self.byte() % times == 1
    }

    pub fn text(&mut self) -> String {
        if self.is_one_in(8) {
            let length = usize::from(self.byte() % 24).min(self.bytes.len());
            let (text, rest) = self.bytes.split_at(length);
            self.bytes = rest;
            return String::from_utf8_lossy(text).into_owned();
        }
        (*self.choose(&WORDS).expect("there are words")).to_owned()
    }

    fn number(&mut self) -> i64 {
        *self.choose(&NUMBERS).expect("there are numbers")
    }

    /// A document of a built-in type.
    pub fn document(&mut self, of: TypeRef) -> Value {
        self.object(of, 0)
    }

    fn object(&mut self, of: TypeRef, depth: usize) -> Value {
        let view = BUILT_IN.get(of);
        if view.is_any() {
            return self.anything(depth);
        }
        let fields: Vec<_> = view.fields().collect();
        let mut object = Map::new();
        for field in fields.iter().filter(|field| field.is_required()) {
            if !self.is_one_in(16) {
                let value = self.value(field.shape(), depth + 1);
                object.insert(field.name().to_owned(), value);
            }
        }
        for _ in 0..self.byte() % (WIDTH_MAX + 1) {
            let Some(field) = self.choose(&fields).copied() else { break };
            let known: Vec<_> = field.enum_values().collect();
            let value = match known.is_empty() || self.is_one_in(8) {
                true => self.value(field.shape(), depth + 1),
                false => json!(self.choose(&known)),
            };
            let name = if self.is_one_in(32) { self.text() } else { field.name().to_owned() };
            object.insert(name, value);
        }
        Value::Object(object)
    }

    fn value(&mut self, shape: Shape, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        if self.is_one_in(48) {
            return self.anything(depth);
        }
        match shape {
            Shape::Struct(of) => self.object(of, depth),
            Shape::List(of) => {
                let element = BUILT_IN.element(of);
                let length = self.byte() % WIDTH_MAX;
                (0..length).map(|_| self.value(element, depth + 1)).collect()
            }
            Shape::Map(of) => {
                let element = BUILT_IN.element(of);
                let length = self.byte() % WIDTH_MAX;
                let entries = (0..length).map(|_| (self.text(), self.value(element, depth + 1)));
                Value::Object(entries.collect())
            }
            Shape::Bool => json!(self.byte() % 2 == 1),
            Shape::Int32 | Shape::Int64 => json!(self.number()),
            Shape::Double => json!(f64::from(self.byte()) / 4.0),
            Shape::IntOrString if self.byte() % 2 == 1 => json!(self.number()),
            Shape::Time | Shape::MicroTime => json!("2026-01-01T00:00:00Z"),
            Shape::Bytes => json!("YWJj"),
            Shape::Quantity => {
                json!(["1", "500m", "10Mi", "1e3", "-1", ""][usize::from(self.byte() % 6)])
            }
            Shape::Any | Shape::Object => self.anything(depth),
            Shape::String | Shape::IntOrString => json!(self.text()),
        }
    }

    /// Any JSON.
    pub fn anything(&mut self, depth: usize) -> Value {
        if depth > DEPTH_MAX {
            return Value::Null;
        }
        match self.byte() % 8 {
            0 => Value::Null,
            1 => json!(self.byte() % 2 == 1),
            2 => json!(self.number()),
            3 => json!(f64::from(self.byte()) / 8.0),
            4 | 5 => json!(self.text()),
            6 => {
                let length = self.byte() % WIDTH_MAX;
                (0..length).map(|_| self.anything(depth + 1)).collect()
            }
            _ => {
                let length = self.byte() % WIDTH_MAX;
                let entries = (0..length).map(|_| (self.text(), self.anything(depth + 1)));
                Value::Object(entries.collect())
            }
        }
    }

    /// A pointer to a place in a document, or beside one.
    pub fn pointer(&mut self, document: &Value) -> String {
        let mut pointer = String::new();
        let mut place = document;
        loop {
            let (name, inner) = match place {
                Value::Object(map) if !map.is_empty() => {
                    let names: Vec<_> = map.keys().collect();
                    let name = *self.choose(&names).expect("there are names");
                    (name.replace('~', "~0").replace('/', "~1"), &map[name])
                }
                Value::Array(list) if !list.is_empty() => {
                    let index = usize::from(self.byte()) % list.len();
                    (index.to_string(), &list[index])
                }
                _ => return pointer,
            };
            match self.byte() % 8 {
                0 => return pointer,
                1 => return pointer + "/" + &self.text().replace('/', "~1"),
                2 => return pointer + "/-",
                _ => {}
            }
            pointer.push('/');
            pointer.push_str(&name);
            place = inner;
        }
    }

    /// Puts directives of strategic merge patches here and there.
    pub fn direct(&mut self, patch: &mut Value) {
        match patch {
            Value::Object(map) => {
                let names: Vec<_> = map.keys().cloned().collect();
                map.values_mut().for_each(|value| self.direct(value));
                if self.is_one_in(4) {
                    let name = self.choose(&names).cloned().unwrap_or_default();
                    let list = map.get(&name).cloned().unwrap_or_default();
                    let (key, value) = match self.byte() % 6 {
                        0 => ("$patch".to_owned(), json!("delete")),
                        1 => ("$patch".to_owned(), json!("replace")),
                        2 => ("$retainKeys".to_owned(), json!(names)),
                        3 => (format!("$setElementOrder/{name}"), list),
                        4 => (format!("$deleteFromPrimitiveList/{name}"), list),
                        _ => (name, Value::Null),
                    };
                    map.insert(key, value);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|value| self.direct(value)),
            _ => {}
        }
    }
}
