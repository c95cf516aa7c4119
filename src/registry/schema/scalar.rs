//! What a YAML scalar means to Kubernetes: YAML 1.1 as Go clients read it.
//!
//! Follows `resolve` of `go.yaml.in/yaml/v2` (resolve.go, as in Kubernetes v1.35): `on` and `yes`
//! are booleans, `0644` is octal, `1_000` a number, a date is a string.

use granit_parser::Tag;
use std::borrow::Cow;

/// A scalar with its type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// A number beyond the range of `Int`.
    Uint(u64),
    Float(f64),
    Text(String),
}

/// The meaning of `text`; an error says why it does not have the type its tag claims.
pub(super) fn resolve(
    text: Cow<'_, str>,
    is_plain: bool,
    tag: Option<&Tag>,
) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return Ok(match is_plain.then(|| resolve_plain(&text)).flatten() {
            Some(scalar) => scalar,
            None => Scalar::Text(text.into_owned()),
        });
    };
    match tag.suffix_in_namespace("tag:yaml.org,2002:").as_deref() {
        Some(claimed @ ("bool" | "int" | "float" | "null")) => claim(&text, claimed),
        Some("binary") => decode_binary(&text),
        _ => Ok(Scalar::Text(text.into_owned())),
    }
}

fn claim(text: &str, claimed: &str) -> Result<Scalar, String> {
    let scalar = resolve_plain(text).unwrap_or_else(|| Scalar::Text(text.to_owned()));
    let actual = match (&scalar, claimed) {
        (Scalar::Null, "null")
        | (Scalar::Bool(_), "bool")
        | (Scalar::Int(_) | Scalar::Uint(_), "int")
        | (Scalar::Float(_), "float") => return Ok(scalar),
        #[expect(clippy::cast_precision_loss, reason = "what the tag asks for")]
        (Scalar::Int(number), "float") => return Ok(Scalar::Float(*number as f64)),
        (Scalar::Null, _) => "null",
        (Scalar::Bool(_), _) => "bool",
        (Scalar::Int(_) | Scalar::Uint(_), _) => "int",
        (Scalar::Float(_), _) => "float",
        (Scalar::Text(_), _) => "str",
    };
    Err(format!("cannot decode !!{actual} `{text}` as a !!{claimed}"))
}

fn decode_binary(text: &str) -> Result<Scalar, String> {
    use base64::Engine as _;
    let compact: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map_err(|_| "!!binary value contains invalid base64 data".to_owned())?;
    Ok(Scalar::Text(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What a scalar without quotes and tag is, if it is not just text.
fn resolve_plain(text: &str) -> Option<Scalar> {
    let known = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Scalar::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(Scalar::Bool(true))
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(Scalar::Bool(false))
        }
        ".nan" | ".NaN" | ".NAN" => Some(Scalar::Float(f64::NAN)),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            Some(Scalar::Float(f64::INFINITY))
        }
        "-.inf" | "-.Inf" | "-.INF" => Some(Scalar::Float(f64::NEG_INFINITY)),
        _ => None,
    };
    known.or_else(|| match text.as_bytes()[0] {
        b'.' => parse_float(text),
        b'0'..=b'9' | b'+' | b'-' => resolve_number(text),
        _ => None,
    })
}

fn resolve_number(text: &str) -> Option<Scalar> {
    let plain: Cow<'_, str> =
        if text.contains('_') { text.replace('_', "").into() } else { text.into() };
    parse_int(&plain).or_else(|| is_yaml_float(&plain).then(|| parse_float(&plain)).flatten())
}

/// An integer in Go's notation: decimal, `0x`, `0o`, `0b`, or octal with a leading zero.
fn parse_int(text: &str) -> Option<Scalar> {
    let (is_negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if is_negative {
        return 0_i64.checked_sub_unsigned(size).map(Scalar::Int);
    }
    Some(i64::try_from(size).map_or(Scalar::Uint(size), Scalar::Int))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_yaml_float(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let has_exponent = exponent.is_none_or(|digits| {
        let digits = digits.strip_prefix(['-', '+']).unwrap_or(digits);
        !digits.is_empty() && all_digits(digits)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    has_exponent && has_digits && all_digits(whole) && all_digits(fraction)
}

fn parse_float(text: &str) -> Option<Scalar> {
    // Too large a number is text, since Go's ParseFloat refuses it.
    text.parse().ok().filter(|number: &f64| number.is_finite()).map(Scalar::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Scalar) {
        let actual = resolve(text.into(), true, None).expect("no tag, no error");
        assert_eq!(actual, expected, "{text}");
    }

    fn text(text: &str) {
        check(text, Scalar::Text(text.to_owned()));
    }

    #[test]
    fn words_of_yaml_1_1_are_booleans_and_nulls() {
        for word in ["y", "Yes", "ON", "true", "True"] {
            check(word, Scalar::Bool(true));
        }
        for word in ["n", "no", "Off", "FALSE"] {
            check(word, Scalar::Bool(false));
        }
        for word in ["", "~", "null", "NULL"] {
            check(word, Scalar::Null);
        }
        for word in ["yEs", "tRUE", "nil", "None", "oN"] {
            text(word);
        }
    }

    #[test]
    fn integers_are_read_as_go_reads_them() {
        check("0", Scalar::Int(0));
        check("-0", Scalar::Int(0));
        check("+7", Scalar::Int(7));
        check("0644", Scalar::Int(420));
        check("0o644", Scalar::Int(420));
        check("0x1F", Scalar::Int(31));
        check("0b101", Scalar::Int(5));
        check("-0b11", Scalar::Int(-3));
        check("1_000", Scalar::Int(1000));
        check("0_7", Scalar::Int(7));
        check("9223372036854775807", Scalar::Int(i64::MAX));
        check("-9223372036854775808", Scalar::Int(i64::MIN));
        check("9223372036854775808", Scalar::Uint(1 << 63));
    }

    #[test]
    fn numbers_with_a_point_or_an_exponent_are_floats() {
        check("1.5", Scalar::Float(1.5));
        check("1.", Scalar::Float(1.0));
        check(".5", Scalar::Float(0.5));
        check("-.5", Scalar::Float(-0.5));
        check("1e3", Scalar::Float(1000.0));
        check("6.02E+23", Scalar::Float(6.02e23));
        check("18446744073709551616", Scalar::Float(18_446_744_073_709_551_616.0));
        // Not octal, so Go falls back to a float.
        check("089", Scalar::Float(89.0));
        check("-.inf", Scalar::Float(f64::NEG_INFINITY));
    }

    #[test]
    fn everything_else_is_text() {
        for word in [
            "2024-01-31",
            "2001-12-14t21:59:43.10-05:00",
            "1:30",
            "12:30:45",
            "1.2.3",
            "10.0.0.1",
            "0x",
            "0xZZ",
            "0b2",
            "+",
            "-",
            ".",
            "..",
            "1e",
            "1e999",
            "100m",
            "1Gi",
            "_1",
            "--1",
            "+-1",
            "0o9",
            "<",
            "=",
        ] {
            text(word);
        }
    }

    #[test]
    fn tags_are_checked_against_the_text() {
        let tagged = |name: &str, text: &str| {
            let tag = Tag::new("tag:yaml.org,2002:", name);
            resolve(text.to_owned().into(), false, Some(&tag))
        };
        assert_eq!(tagged("str", "12"), Ok(Scalar::Text("12".into())));
        assert_eq!(tagged("int", "12"), Ok(Scalar::Int(12)));
        assert_eq!(tagged("float", "12"), Ok(Scalar::Float(12.0)));
        assert_eq!(tagged("binary", "aGk="), Ok(Scalar::Text("hi".into())));
        assert_eq!(tagged("int", "x"), Err("cannot decode !!str `x` as a !!int".to_owned()));
        assert!(tagged("binary", "?").is_err());
    }
}
