//! The objects of a file. Pure.
//!
//! Start at [`parse`]. A file has any number of YAML documents, or one of JSON; a list stands for what
//! is in it. Either all of a file is understood or none of it: half of what somebody means is what
//! nobody means.

use super::object::ObjectId;
use crate::registry::schema::{DecodeError, Decoded, Format, decode};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A file with more objects is refused: its AddOn lists them all, and is an object with a limit.
const OBJECTS_MAX: usize = 5_000;

/// What only the server writes, and what manifests have that were read from one.
const SERVERS_FIELDS: &[&str] =
    &["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

/// An object that is to be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) id: ObjectId,
    pub(super) document: Value,
}

/// # Errors
/// What is wrong with the file, and in which line.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Wanted>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Found::default();
    if text.trim_ascii_start().starts_with(b"{")
        && let Ok(Decoded { value, duplicates }) = decode(text, Format::Json)
        && duplicates.is_empty()
    {
        found.add_document(value, 1)?;
        return Ok(found.wanted);
    }
    for document in documents(text) {
        let value = read(text, &document)?;
        found.add_document(value, document.line)?;
    }
    Ok(found.wanted)
}

/// A part of a file.
#[derive(Debug)]
struct Document {
    line: usize,
    start: usize,
    end: usize,
}

/// A document begins with a line `---`, and ends before the next, or with a line `...`.
fn documents(text: &[u8]) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut open = Document { line: 1, start: 0, end: 0 };
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let is_marker = |marker: &[u8]| {
            let rest = line.strip_prefix(marker);
            rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
        };
        let (begins, ends) = (is_marker(b"---"), is_marker(b"..."));
        if begins {
            let start = open.end;
            documents.push(std::mem::replace(
                &mut open,
                Document { line: index + 1, start, end: start },
            ));
        }
        open.end += line.len();
        if ends {
            let start = open.end;
            documents.push(std::mem::replace(
                &mut open,
                Document { line: index + 2, start, end: start },
            ));
        }
    }
    documents.push(open);
    documents.retain(|document| document.end > document.start);
    documents
}

fn read(text: &[u8], document: &Document) -> Result<Value, String> {
    let own = &text[document.start..document.end];
    match decode(own, Format::Yaml) {
        Ok(Decoded { value, duplicates }) if duplicates.is_empty() => Ok(value),
        Ok(_) | Err(DecodeError::Yaml { .. }) => Err(complaint(own, document.line)),
        Err(error) => Err(format!("line {}: {error}", document.line)),
    }
}

/// What the reader has against a document, with lines as the file has them.
fn complaint(own: &[u8], line: usize) -> String {
    let padded = [vec![b'\n'; line - 1], own.to_owned()].concat();
    match decode(&padded, Format::Yaml) {
        Ok(Decoded { duplicates, .. }) => format!("yaml: {}", duplicates.join("; ")),
        Err(error) => error.to_string(),
    }
}

#[derive(Debug, Default)]
struct Found {
    wanted: Vec<Wanted>,
    /// In which document an object is.
    lines: BTreeMap<(String, String, Option<String>, String), usize>,
}

impl Found {
    fn add_document(&mut self, document: Value, line: usize) -> Result<(), String> {
        match document {
            // Comments alone.
            Value::Null => Ok(()),
            Value::Object(mut fields) => match list_of(&mut fields) {
                None => self.add(fields, line),
                Some(items) => items.into_iter().try_for_each(|item| self.add_item(item, line)),
            },
            _ => Err(format!("line {line}: the document is no object")),
        }
    }

    fn add_item(&mut self, item: Value, line: usize) -> Result<(), String> {
        if let Value::Object(mut fields) = item
            && list_of(&mut fields).is_none()
        {
            return self.add(fields, line);
        }
        Err(format!("line {line}: the list has something that is no object"))
    }

    fn add(&mut self, mut fields: Map<String, Value>, line: usize) -> Result<(), String> {
        if self.wanted.len() >= OBJECTS_MAX {
            return Err(format!("it has more than {OBJECTS_MAX} objects; use several files"));
        }
        let id = id_of(&fields).map_err(|missing| format!("line {line}: {missing}"))?;
        let key = (id.group().to_owned(), id.kind.clone(), id.namespace.clone(), id.name.clone());
        if let Some(first) = self.lines.insert(key, line) {
            return Err(format!("line {line}: {id} is there already, in line {first}"));
        }
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.retain(|name, _| !SERVERS_FIELDS.contains(&name.as_str()));
        }
        self.wanted.push(Wanted { id, document: Value::Object(fields) });
        Ok(())
    }
}

/// What is in a list, where it is one. In a list of one kind, objects need not say theirs.
fn list_of(fields: &mut Map<String, Value>) -> Option<Vec<Value>> {
    let of_kind = fields.get("kind")?.as_str()?.strip_suffix("List")?.to_owned();
    let Some(Value::Array(items)) = fields.get_mut("items") else { return None };
    let mut items = std::mem::take(items);
    let version = fields.get("apiVersion").cloned().unwrap_or_default();
    let items_of_kind = items.iter_mut().filter(|_| !of_kind.is_empty());
    for item in items_of_kind.filter_map(Value::as_object_mut) {
        item.entry("kind").or_insert_with(|| Value::String(of_kind.clone()));
        item.entry("apiVersion").or_insert_with(|| version.clone());
    }
    Some(items)
}

fn id_of(fields: &Map<String, Value>) -> Result<ObjectId, String> {
    fn text<'a>(of: Option<&'a Value>, name: &str) -> Option<&'a str> {
        of?.get(name)?.as_str().filter(|text| !text.is_empty())
    }
    let field = |name: &str| fields.get(name).and_then(Value::as_str).filter(|it| !it.is_empty());
    let kind = field("kind").ok_or("an object has no `kind`")?;
    let api_version = field("apiVersion").ok_or_else(|| format!("a {kind} has no `apiVersion`"))?;
    let metadata = fields.get("metadata");
    let name = text(metadata, "name").ok_or_else(|| format!("a {kind} has no `metadata.name`"))?;
    Ok(ObjectId {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: text(metadata, "namespace").map(str::to_owned),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match parse(text.as_bytes()) {
            Ok(wanted) => {
                let ids: Vec<_> = wanted.iter().map(|it| it.id.to_string()).collect();
                ids.join(", ")
            }
            Err(error) => error,
        };
        assert_eq!(actual, expected);
    }

    const A: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    const B: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: b, namespace: x}\n";

    #[test]
    fn a_file_has_any_number_of_documents() {
        check("", "");
        check("# nothing\n---\n# at all\n", "");
        check(A, "ConfigMap a");
        check(&format!("---\n{A}---\n{B}"), "ConfigMap a, Secret x/b");
        check(&format!("--- # first\n{A}\n---\n---\n\n--- \n{B}---"), "ConfigMap a, Secret x/b");
        check(&format!("{A}...\n{B}...\n"), "ConfigMap a, Secret x/b");
        check(&format!("\u{feff}{A}"), "ConfigMap a");
        check(&format!("{A}---\r\n{B}").replace('\n', "\r\n"), "ConfigMap a, Secret x/b");
        let text =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: |\n    ---\n    b\n";
        check(text, "ConfigMap a");
        check(r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}"#, "Pod p");
    }

    #[test]
    fn a_list_stands_for_what_is_in_it() {
        let item = "{apiVersion: v1, kind: Pod, metadata: {name: p}}";
        check(&format!("apiVersion: v1\nkind: List\nitems: [{item}]"), "Pod p");
        check("apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: p}}]", "Pod p");
        check("apiVersion: v1\nkind: List\nitems: []", "");
        check("apiVersion: v1\nkind: List\nitems: [1]", {
            "line 1: the list has something that is no object"
        });
        let nested =
            format!("apiVersion: v1\nkind: List\nitems: [{{kind: List, items: [{item}]}}]");
        check(&nested, "line 1: the list has something that is no object");
        let own = "apiVersion: example.com/v1\nkind: AllowList\nmetadata: {name: l}\n";
        check(own, "AllowList l");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        check(&format!("{A}---\nkind: [\n"), "yaml: line 5: unclosed bracket '['");
        check(&format!("{A}---\napiVersion: v1\nkind: a\nkind: b\n"), {
            "yaml: line 7: key \"kind\" already set in map"
        });
        check(&format!("{A}---\n- a\n"), "line 4: the document is no object");
        check("apiVersion: v1\nmetadata: {name: a}\n", "line 1: an object has no `kind`");
        check("kind: Pod\nmetadata: {name: a}\n", "line 1: a Pod has no `apiVersion`");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a}\n";
        check(text, "line 1: a Pod has no `metadata.name`");
        check(&format!("{A}---\n{A}"), "line 4: ConfigMap a is there already, in line 1");
    }

    #[test]
    fn what_only_a_server_writes_is_left_out() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  uid: u\n  \
                    resourceVersion: '7'\n  creationTimestamp: null\n  labels: {b: c}\n";
        let wanted = parse(text.as_bytes()).unwrap();
        let metadata = serde_json::json!({"name": "a", "labels": {"b": "c"}});
        assert_eq!(wanted[0].document["metadata"], metadata);
    }

    #[test]
    fn there_is_a_limit_to_the_objects_of_a_file() {
        let document =
            |number: usize| format!("---\n{}", A.replace("name: a", &format!("name: a{number}")));
        let text: String = (0..=OBJECTS_MAX).map(document).collect();
        check(&text, "it has more than 5000 objects; use several files");
    }
}
