//! JSON as it is stored and shown: numbers as Go writes them.
//!
//! To Go a number of a custom resource that was written `5.0` is a double, and doubles that are
//! whole are written without a point. So are those of definitions (`maximum: 5`).
//!
//! A type is read from bytes and written to bytes, by this one writer. Each further form that it can be
//! read from or written to is compiled anew for it and for all that it consists of, and there are a thousand
//! generated types. So their way to a [`Value`] and from one is over bytes.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::ser::Formatter;
use serde_json::{Error, Serializer, Value};
use std::io::{self, Write};

/// Whole numbers of this magnitude and above are written with an exponent, as Go does it.
const PLAIN_MAX: f64 = 1e21;
/// And so are those below this one.
const PLAIN_MIN: f64 = 1e-6;

#[derive(Debug)]
struct GoNumbers;

impl Formatter for GoNumbers {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let magnitude = value.abs();
        if magnitude == 0.0 || (PLAIN_MIN..PLAIN_MAX).contains(&magnitude) {
            // The shortest text that reads as the same number; without a point where it is whole.
            return write!(writer, "{value}");
        }
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                write!(writer, "{digits}e+{exponent}")
            }
            _ => writer.write_all(text.as_bytes()),
        }
    }
}

/// `value` as JSON.
///
/// # Panics
/// Where it is none, such as a map whose keys are no texts. Generated types always are.
pub fn to_vec(value: &impl Serialize) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    let mut serializer = Serializer::with_formatter(&mut json, GoNumbers);
    value.serialize(&mut serializer).expect("objects always serialize, and memory takes all");
    json
}

/// `value` as JSON that can be looked into.
///
/// # Panics
/// As [`to_vec`].
pub fn to_value(value: &impl Serialize) -> Value {
    serde_json::from_slice(&to_vec(value)).expect("what was just written can be read")
}

/// What `value` is as a `T`.
///
/// # Errors
/// Where it is none. There is no line and no column in it: nobody has seen the bytes.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    serde_json::from_slice(&to_vec(value)).map_err(|error| {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        Error::custom(text.strip_suffix(&place).unwrap_or(&text))
    })
}

/// How many bytes the value has with which `json` begins, if it is whole. Where it begins and ends is
/// all that is looked at: what is no JSON in between has a length as well.
#[must_use]
pub fn value_length(json: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match json.get(at)? {
            b'"' => at += text_length(&json[at..])?,
            b'[' | b'{' => {
                depth += 1;
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' if depth == 0 => return None,
            b',' | b':' => {
                at += 1;
                continue;
            }
            _ => {
                let ends = |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}' | b'"');
                let rest = &json[at..];
                at += rest.iter().position(ends).unwrap_or(rest.len());
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// As [`value_length`], of a text.
fn text_length(json: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += json.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        match json[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (number, expected) in [
            (5.0, "5"),
            (0.5, "0.5"),
            (-0.25, "-0.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (0.0, "0"),
        ] {
            assert_eq!(String::from_utf8(to_vec(&number)).unwrap(), expected);
        }
        let value = serde_json::json!({"a": [1, 2.0], "b": "x"});
        assert_eq!(to_vec(&value), br#"{"a":[1,2],"b":"x"}"#);
    }

    #[test]
    fn errors_of_values_have_no_place() {
        let read = from_value::<u8>(&serde_json::json!("x"));
        let expected = "invalid type: string \"x\", expected u8";
        assert_eq!(read.unwrap_err().to_string(), expected);
        assert_eq!(from_value::<Vec<u8>>(&to_value(&[1, 2])).unwrap(), [1, 2]);
    }

    #[test]
    fn values_end_where_they_end() {
        for (json, expected) in [
            (r#""a",1"#, Some(3)),
            (r#""a\"\\",1"#, Some(7)),
            (r#"{"a":[1,{"]":"}"}]},"b""#, Some(19)),
            ("[],", Some(2)),
            ("12.5,", Some(4)),
            ("true}", Some(4)),
            ("null", Some(4)),
            (r#"[1,"#, None),
            (r#""a"#, None),
            (r#""a\"#, None),
            ("", None),
            (",", None),
            ("]", None),
        ] {
            assert_eq!(value_length(json.as_bytes()), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were(number in any::<f64>()) {
            prop_assume!(number.is_finite());
            let text = String::from_utf8(to_vec(&number)).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), number);
        }
    }
}
