//! Named formats: `format.dns1123Label().validate(name)` (apiserver pkg/cel/library/format.go,
//! v1.35).

use super::urls;
use crate::api::names;
use crate::cel::foreign::Foreign;
use crate::cel::times;
use crate::cel::value::{Fault, Outcome, Value};
use base64::Engine;

/// A rule for texts, and how costly it is.
#[derive(Debug)]
pub struct Format {
    function: &'static str,
    pub(in crate::cel) name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// As if it were an expression of so many characters.
    pub(in crate::cel) regex_size: u64,
}

/// How long upstream's expressions for these are.
const UUID_SIZE: u64 = 70;
const DATE_TIME_SIZE: u64 = 71;
const BASE64_SIZE: u64 = 84;
const URI_SIZE: u64 = 1_103;

static FORMATS: &[Format] = &[
    format("dns1123Label", "DNS1123Label", names::dns1123_label, 30),
    format("dns1123Subdomain", "DNS1123Subdomain", names::dns1123_subdomain, 60),
    format("dns1035Label", "DNS1035Label", names::dns1035_label, 30),
    format("qualifiedName", "QualifiedName", names::qualified_name, 60),
    format(
        "dns1123LabelPrefix",
        "DNS1123LabelPrefix",
        |text| names::dns1123_label(&names::without_trailing_dash(text)),
        30,
    ),
    format(
        "dns1123SubdomainPrefix",
        "DNS1123SubdomainPrefix",
        |text| names::dns1123_subdomain(&names::without_trailing_dash(text)),
        60,
    ),
    format(
        "dns1035LabelPrefix",
        "DNS1035LabelPrefix",
        |text| names::dns1035_label(&names::without_trailing_dash(text)),
        30,
    ),
    format("labelValue", "LabelValue", names::label_value, 40),
    format("uri", "URI", |text| urls::request_uri(text).err().into_iter().collect(), URI_SIZE),
    format(
        "uuid",
        "uuid",
        |text| problem(is_uuid(text), "does not match the UUID format"),
        UUID_SIZE,
    ),
    format(
        "byte",
        "byte",
        |text| {
            let is_base64 = base64::engine::general_purpose::STANDARD.decode(text).is_ok();
            problem(is_base64, "invalid base64")
        },
        BASE64_SIZE,
    ),
    format(
        "date",
        "date",
        |text| problem(times::parse_date(text).is_some(), "invalid date"),
        DATE_TIME_SIZE,
    ),
    format(
        "datetime",
        "datetime",
        |text| problem(times::parse_timestamp(text).is_some(), "invalid datetime"),
        DATE_TIME_SIZE,
    ),
];

const fn format(
    function: &'static str,
    name: &'static str,
    check: fn(&str) -> Vec<String>,
    regex_size: u64,
) -> Format {
    Format { function, name, check, regex_size }
}

/// Groups of hexadecimal digits, with or without hyphens between them.
fn is_uuid(text: &str) -> bool {
    let mut rest = text;
    for length in [8, 4, 4, 4, 12] {
        let start =
            if rest.len() < text.len() { rest.strip_prefix('-').unwrap_or(rest) } else { rest };
        let digits = start.bytes().take_while(u8::is_ascii_hexdigit).count();
        if digits < length {
            return false;
        }
        rest = &start[length..];
    }
    rest.is_empty()
}

fn problem(is_good: bool, message: &str) -> Vec<String> {
    if is_good { Vec::new() } else { vec![message.to_owned()] }
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (function, args) {
        ("validate", [Value::Foreign(Foreign::Format(format)), Value::Text(text)]) => {
            let problems = (format.check)(text);
            if problems.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::texts(problems)))
        }
        ("format.named", [Value::Text(name)]) => Ok(Value::Optional(
            find(name).map(|format| Value::Foreign(Foreign::Format(format)).into()),
        )),
        (function, []) => function
            .strip_prefix("format.")
            .and_then(find)
            .map(|format| Value::Foreign(Foreign::Format(format)))
            .ok_or(Fault::NO_OVERLOAD),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn find(function: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.function == function)
}
