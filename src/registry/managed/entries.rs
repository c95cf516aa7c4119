//! `metadata.managedFields`: who manages which fields, in which version, since when
//! (apimachinery pkg/util/managedfields/internal/managedfields.go, v1.35).

use super::document::Text;
use super::set::FieldSet;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

/// How a manager came to its fields. Upstream's order is the derived one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who manages fields. Who applies is the same in each version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    pub manager: Cow<'a, str>,
    pub operation: Operation,
    /// The version of the paths in [`Entry::fields`].
    pub version: Cow<'a, str>,
    /// Empty for the object itself.
    pub subresource: Cow<'a, str>,
}

/// What one owner manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub owner: Owner<'a>,
    pub time: Option<Timestamp>,
    pub fields: FieldSet<'a>,
}

impl Owner<'_> {
    /// Whether this and the other have one entry between them.
    #[must_use]
    pub fn is(&self, other: &Owner<'_>) -> bool {
        self.identity() == other.identity()
    }

    /// What tells owners apart: manager, operation, subresource, and the version of who updates.
    fn identity(&self) -> (&str, Operation, &str, &str) {
        let version = if self.operation == Operation::Apply { "" } else { &*self.version };
        (&self.manager, self.operation, &self.subresource, version)
    }

    /// What upstream sorts owners by (`BuildManagerIdentifier`).
    #[must_use]
    pub(super) fn identifier(&self) -> String {
        let mut out = String::from("{");
        self.write_members(self.operation == Operation::Update, &mut out);
        if !self.subresource.is_empty() {
            write_text(",\"subresource\":", &self.subresource, &mut out);
        }
        out.push('}');
        out
    }

    fn write_members(&self, with_version: bool, out: &mut String) {
        if !self.manager.is_empty() {
            write_text("\"manager\":", &self.manager, out);
            out.push(',');
        }
        write_text("\"operation\":", self.operation.as_str(), out);
        if with_version {
            write_text(",\"apiVersion\":", &self.version, out);
        }
    }

    /// As conflicts name it (upstream `printManager`).
    #[must_use]
    pub(super) fn described(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.version));
        }
        out
    }
}

fn write_text(name: &str, text: &str, out: &mut String) {
    out.push_str(name);
    out.push_str(&serde_json::to_string(text).expect("a text is JSON"));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    manager: Option<Text<'a>>,
    #[serde(borrow)]
    operation: Option<Text<'a>>,
    #[serde(borrow)]
    api_version: Option<Text<'a>>,
    #[serde(borrow)]
    time: Option<Text<'a>>,
    #[serde(borrow)]
    fields_type: Option<Text<'a>>,
    #[serde(borrow)]
    fields_v1: Option<&'a RawValue>,
    #[serde(borrow)]
    subresource: Option<Text<'a>>,
}

/// Reads the list (upstream `DecodeManagedFields`). Of entries of one owner the last one counts.
///
/// # Errors
/// Where an entry is none, in a few words.
pub(super) fn parse(json: &str) -> Result<Vec<Entry<'_>>, String> {
    let wires: Vec<Wire<'_>> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let read = wires.into_iter().enumerate().map(|(index, wire)| parse_entry(index, wire));
    let entries = read.collect::<Result<Vec<_>, _>>()?;
    let mut last = HashMap::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        last.insert(entry.owner.identity(), index);
    }
    let is_last: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| last[&entry.owner.identity()] == index)
        .collect();
    let kept = entries.into_iter().zip(is_last).filter(|(_, is_last)| *is_last);
    Ok(kept.map(|(entry, _)| entry).collect())
}

fn parse_entry(index: usize, wire: Wire<'_>) -> Result<Entry<'_>, String> {
    let text = |text: Option<Text<'_>>| text.map(|Text(text)| text.into_owned());
    let operation = match wire.operation.as_ref().map(|Text(text)| &**text) {
        Some("Apply") => Operation::Apply,
        Some("Update") => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    let version = wire.api_version.map(|Text(text)| text).unwrap_or_default();
    if version.is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text(wire.fields_type).as_deref() {
        Some("FieldsV1") => {}
        None | Some("") => {
            return Err(format!("missing fieldsType in managed fields entry {index}"));
        }
        Some(other) => {
            return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}"));
        }
    }
    let fields = FieldSet::parse(wire.fields_v1.map_or("{}", RawValue::get))
        .map_err(|error| format!("error decoding set: {error}"))?;
    let time = wire.time.map(|Text(time)| time.parse()).transpose();
    let time = time.map_err(|error: jiff::Error| error.to_string())?;
    let manager = wire.manager.map(|Text(text)| text).unwrap_or_default();
    let subresource = wire.subresource.map(|Text(text)| text).unwrap_or_default();
    Ok(Entry { owner: Owner { manager, operation, version, subresource }, time, fields })
}

/// Whether a client asks with this to forget who managed what: by an empty list, or one with an
/// empty entry (upstream `isResetManagedFields`).
#[must_use]
pub(super) fn is_reset(json: &str) -> bool {
    let entries: Result<Vec<serde_json::Map<String, serde_json::Value>>, _> =
        serde_json::from_str(json);
    match entries.as_deref() {
        Ok([]) => true,
        Ok([only]) => only.values().all(serde_json::Value::is_null),
        _ => false,
    }
}

/// The list as it is [written](write()) here, whoever wrote it. `None` where it is none or empty.
#[must_use]
pub fn canonical(json: &str) -> Option<String> {
    write(parse(json).ok()?)
}

/// Whether the two lists differ in nothing but times.
#[must_use]
pub fn same_but_times(one: &str, other: &str) -> bool {
    let read = |json| {
        let mut entries = parse(json).ok()?;
        entries.iter_mut().for_each(|entry: &mut Entry<'_>| entry.time = None);
        write(entries)
    };
    one == other || read(one).is_some_and(|one| Some(one) == read(other))
}

/// Writes the list, sorted as upstream sorts it. `None` where there is nothing in it.
#[must_use]
pub(super) fn write(mut entries: Vec<Entry<'_>>) -> Option<String> {
    if entries.is_empty() {
        return None;
    }
    let seconds = |entry: &Entry<'_>| entry.time.map_or(0, Timestamp::as_second);
    entries.sort_by(|one, other| {
        let (own, their) = (&one.owner, &other.owner);
        (own.operation, seconds(one), &own.manager, &own.version, &own.subresource).cmp(&(
            their.operation,
            seconds(other),
            &their.manager,
            &their.version,
            &their.subresource,
        ))
    });
    let mut out = String::with_capacity(512);
    for (index, entry) in entries.iter().enumerate() {
        out.push_str(if index == 0 { "[{" } else { ",{" });
        entry.owner.write_members(true, &mut out);
        if let Some(time) = entry.time {
            let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
            write!(out, ",\"time\":\"{time}\"").expect("writing to a String succeeds");
        }
        out.push_str(",\"fieldsType\":\"FieldsV1\",\"fieldsV1\":");
        entry.fields.write_json(&mut out);
        if !entry.owner.subresource.is_empty() {
            write_text(",\"subresource\":", &entry.owner.subresource, &mut out);
        }
        out.push('}');
    }
    out.push(']');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<&str, &str>) {
        match (parse(json), expected) {
            (Ok(entries), Ok(expected)) => {
                assert_eq!(write(entries).unwrap_or_default(), expected);
            }
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (found, _) => panic!("{json}: {found:?}"),
        }
    }

    #[test]
    fn entries_are_sorted_by_operation_and_time() {
        check(
            r#"[
                {"manager":"c","operation":"Update","apiVersion":"v1","time":"2026-01-02T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}},
                {"manager":"b","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00.5Z","fieldsType":"FieldsV1","subresource":"status"},
                {"manager":"z","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{}},
                {"manager":"z","operation":"Apply","apiVersion":"v2","fieldsType":"FieldsV1","fieldsV1":{"f:x":{}}}
            ]"#,
            Ok(concat!(
                r#"[{"manager":"z","operation":"Apply","apiVersion":"v2","fieldsType":"FieldsV1","fieldsV1":{"f:x":{}}},"#,
                r#"{"manager":"b","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{},"subresource":"status"},"#,
                r#"{"manager":"c","operation":"Update","apiVersion":"v1","time":"2026-01-02T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}}]"#,
            )),
        );
        check("[]", Ok(""));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        check("{}", Err("sequence"));
        check("[{}]", Err("operation must be"));
        check(r#"[{"operation":"Apply"}]"#, Err("apiVersion must not be empty"));
        check(
            r#"[{"operation":"Apply","apiVersion":"v1"}]"#,
            Err("missing fieldsType in managed fields entry 0"),
        );
        check(
            r#"[{"operation":"Apply","apiVersion":"v1","fieldsType":"X"}]"#,
            Err("invalid fieldsType \"X\" in managed fields entry 0"),
        );
        check(
            r#"[{"operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"a":{}}}]"#,
            Err("error decoding set"),
        );
    }

    #[test]
    fn times_alone_are_no_difference() {
        let entry = |time: &str, field: &str| {
            format!(
                r#"[{{"manager":"a","operation":"Apply","apiVersion":"v1","time":"{time}","fieldsType":"FieldsV1","fieldsV1":{{"f:{field}":{{}}}}}}]"#
            )
        };
        let one = entry("2026-01-01T00:00:00Z", "a");
        assert!(same_but_times(&one, &entry("2026-01-02T00:00:00Z", "a")));
        assert!(!same_but_times(&one, &entry("2026-01-01T00:00:00Z", "b")));
        assert!(!same_but_times(&one, "[]"));
    }

    #[test]
    fn an_empty_list_or_entry_resets() {
        for (json, expected) in
            [("[]", true), ("[{}]", true), ("[{},{}]", false), (r#"[{"manager":"a"}]"#, false)]
        {
            assert_eq!(is_reset(json), expected, "{json}");
        }
    }
}
