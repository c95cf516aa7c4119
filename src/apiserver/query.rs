//! The query of a request, and the options that verbs read from it.

use super::verbs::{MANAGER_BYTES_MAX, is_printable};
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, Revision};
use crate::stdx::quoted;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;
use std::num::{IntErrorKind, ParseIntError};

/// The parameters of a request's URL, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `a=b&c`. Nothing is refused: bytes that are no UTF-8 become replacement characters.
    #[must_use]
    pub(super) fn parse(text: &str) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self { pairs: pairs.collect() }
    }

    /// The text that this was read from, or one that means the same.
    #[must_use]
    pub(super) fn encode(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let pair = |(key, value): &(String, String)| format!("{}={}", encode(key), encode(value));
        self.pairs.iter().map(pair).collect::<Vec<_>>().join("&")
    }

    /// The first value of `name`.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, where it is not empty.
    #[must_use]
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of `name`.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Upstream's `Convert_Slice_string_To_bool`: there and neither `false` nor `0`.
    #[must_use]
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// The value of `name` as a number (upstream `Convert_Slice_string_To_int64`).
    ///
    /// # Errors
    /// A bad request where it is none, in the words of Go's `strconv`.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let read = |text: &str| {
            let why = |error| Status::bad_request(no_number("ParseInt", text, &error));
            text.parse().map_err(why)
        };
        self.get(name).map(read).transpose()
    }

    /// The revision that is asked for (upstream `ParseResourceVersion`). Zero is any.
    ///
    /// # Errors
    /// What is wrong with it, in upstream's words.
    pub(super) fn revision(&self) -> Result<Option<Revision>, FieldError> {
        let read = |text: &str| {
            let path = FieldPath::new("resourceVersion");
            text.parse().map_err(|error| {
                FieldError::invalid(&path, text, no_number("ParseUint", text, &error))
            })
        };
        self.text("resourceVersion").map(read).transpose()
    }
}

fn no_number(function: &str, text: &str, error: &ParseIntError) -> String {
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {}: {why}", quoted(text))
}

/// How unknown and duplicate fields of a body are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// What create, update and patch read from the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WriteOptions {
    /// Do everything but store.
    pub(super) dry_run: bool,
    pub(super) field_validation: FieldValidation,
}

/// What sort of patch options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patching {
    Apply,
    Other,
}

impl WriteOptions {
    /// # Errors
    /// Invalid where a value is not supported. `options` is the kind upstream names in that case:
    /// `CreateOptions`, `UpdateOptions`.
    pub(super) fn parse(query: &Query, options: &str) -> Result<Self, Status> {
        Self::check(query, options, Vec::new())
    }

    /// The options of a patch (upstream `ValidatePatchOptions`).
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and where something is only for the other sort of patch.
    pub(super) fn of_patch(query: &Query, patching: Patching) -> Result<Self, Status> {
        let mut errors = Vec::new();
        match patching {
            Patching::Apply if query.text("fieldManager").is_none() => {
                let path = FieldPath::new("fieldManager");
                errors.push(FieldError::required(&path, "is required for apply patch"));
            }
            Patching::Other if query.text("force").is_some() => {
                let path = FieldPath::new("force");
                let text = "may not be specified for non-apply patch";
                errors.push(FieldError::forbidden(&path, text));
            }
            Patching::Apply | Patching::Other => {}
        }
        Self::check(query, "PatchOptions", errors)
    }

    fn check(query: &Query, options: &str, mut errors: Vec<FieldError>) -> Result<Self, Status> {
        check_manager(query.text("fieldManager").unwrap_or_default(), &mut errors);
        let dry_run = parse_dry_run(query.all("dryRun"), &mut errors);
        let field_validation = match query.text("fieldValidation") {
            Some("Ignore") => FieldValidation::Ignore,
            // The default of the fieldValidation parameter since 1.27.
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = FieldPath::new("fieldValidation");
                let supported = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported(&path, other, &supported));
                FieldValidation::Warn
            }
        };
        if errors.is_empty() {
            return Ok(Self { dry_run, field_validation });
        }
        Err(Status::invalid("meta.k8s.io", options, "", &errors))
    }
}

/// Upstream `ValidateFieldManager`.
fn check_manager(manager: &str, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("fieldManager");
    if manager.len() > MANAGER_BYTES_MAX {
        errors.push(FieldError::too_long(&path, MANAGER_BYTES_MAX));
    }
    for (position, letter) in manager.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let code = u32::from(letter);
        let text = format!("invalid character U+{code:04X} (at position {position})");
        errors.push(FieldError::invalid(&path, manager, text));
    }
}

/// Reads `dryRun`, which is a list of at most `All`.
pub(super) fn parse_dry_run<'a>(
    values: impl Iterator<Item = &'a str>,
    errors: &mut Vec<FieldError>,
) -> bool {
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        let path = FieldPath::new("dryRun");
        errors.push(FieldError::not_supported(&path, json!(values), &["All"]));
    }
    values.contains(&"All")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pairs() {
        let query = Query::parse("a=b%20c&d&a=x+y&=z&e=");
        assert_eq!(query.get("a"), Some("b c"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["b c", "x y"]);
        assert_eq!(query.get("d"), Some(""));
        assert_eq!(query.text("e"), None);
    }

    #[test]
    fn flags_are_upstreams() {
        for (text, expected) in [
            ("", false),
            ("w", true),
            ("w=true", true),
            ("w=1", true),
            ("w=0", false),
            ("w=False", false),
        ] {
            assert_eq!(Query::parse(text).flag("w"), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused_in_gos_words() {
        let check = |text: &str, expected: &str| {
            let found = Query::parse(text).number("limit");
            let found = found.map_or_else(|status| status.message, |found| format!("{found:?}"));
            assert_eq!(found, expected, "{text}");
        };
        check("", "None");
        check("limit=", r#"strconv.ParseInt: parsing "": invalid syntax"#);
        check("limit=-5", "Some(-5)");
        check("limit=a", r#"strconv.ParseInt: parsing "a": invalid syntax"#);
        check(
            "limit=9223372036854775808",
            r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#,
        );
        let revision = Query::parse("resourceVersion=-1").revision();
        assert_eq!(
            revision.unwrap_err().to_string(),
            r#"resourceVersion: Invalid value: "-1": strconv.ParseUint: parsing "-1": invalid syntax"#
        );
    }

    #[test]
    fn write_options_are_checked() {
        let parse = |text| WriteOptions::parse(&Query::parse(text), "CreateOptions");
        assert!(parse("dryRun=All").unwrap().dry_run);
        assert_eq!(parse("").unwrap().field_validation, FieldValidation::Warn);
        let error = parse("dryRun=Some&fieldValidation=x").unwrap_err();
        assert!(error.message.contains("dryRun: Unsupported value: [\"Some\"]"), "{error}");
        assert!(error.message.contains("fieldValidation: Unsupported value: \"x\""), "{error}");
    }

    #[test]
    fn names_of_managers_are_checked() {
        let check = |text: &str, patching, expected: &str| {
            let found = WriteOptions::of_patch(&Query::parse(text), patching);
            let found = found.map_or_else(|status| status.message, |_| String::new());
            assert_eq!(found, expected, "{text}");
        };
        let prefix = "PatchOptions.meta.k8s.io \"\" is invalid: ";
        check("fieldManager=me", Patching::Apply, "");
        check("fieldManager=me&force=true", Patching::Apply, "");
        check("", Patching::Other, "");
        check(
            "",
            Patching::Apply,
            &format!("{prefix}fieldManager: Required value: is required for apply patch"),
        );
        check(
            "force=false",
            Patching::Other,
            &format!("{prefix}force: Forbidden: may not be specified for non-apply patch"),
        );
        check(
            "fieldManager=a%07",
            Patching::Other,
            &format!(
                "{prefix}fieldManager: Invalid value: \"a\\a\": invalid character U+0007 (at position 1)"
            ),
        );
        let long = "x".repeat(129);
        check(
            &format!("fieldManager={long}"),
            Patching::Other,
            &format!("{prefix}fieldManager: Too long: may not be more than 128 bytes"),
        );
    }
}
