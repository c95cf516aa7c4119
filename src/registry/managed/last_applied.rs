//! From `kubectl apply` to `kubectl apply --server-side`: what the annotation says that was applied
//! belongs to kubectl, and the annotation is kept for those who go back (apimachinery
//! pkg/util/managedfields/internal: lastappliedmanager.go, lastappliedupdater.go, v1.35).

use super::compare::compare;
use super::contents::contents;
use super::document::Node;
use super::set::FieldSet;
use super::updater::Frame;
use super::validate::validate;
use serde_json::{Value, json};

/// Whose applies this is for.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All annotations of an object together (upstream `TotalAnnotationSizeLimitB`). An annotation that
/// does not fit is taken away.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// What was applied the last time and is still so.
pub(super) fn unchanged<'a>(frame: &Frame<'a>, live: &Node<'a>) -> FieldSet<'a> {
    let annotation = live.get("metadata").and_then(|node| node.get("annotations"));
    let text = annotation.and_then(|node| node.get(ANNOTATION)).and_then(Node::text);
    let read = text.and_then(|text| serde_json::from_str::<Node<'_>>(text).ok());
    let Some(last) = read.map(Node::into_owned) else { return FieldSet::default() };
    let version = last.get("apiVersion").and_then(Node::text);
    if version != Some(frame.version) || validate(frame.place, &last).is_err() {
        return FieldSet::default();
    }
    let set = contents(frame.place, &last);
    match compare(frame.place, &last, live) {
        Ok(changes) => set
            .difference(&changes.modified)
            .difference(&changes.added)
            .difference(&changes.removed),
        Err(_) => FieldSet::default(),
    }
}

/// Writes down what is applied, where the object has the annotation.
pub(super) fn renew(object: &mut Value, config: &Value) {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations else { return };
    let has =
        annotations.get(ANNOTATION).and_then(Value::as_str).is_some_and(|own| !own.is_empty());
    if !has {
        return;
    }
    let mut config = config.clone();
    if let Some(own) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        own.remove(ANNOTATION);
    }
    annotations.insert(ANNOTATION.to_owned(), json!(go_json(&config)));
    let bytes = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(bytes).sum::<usize>() > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}

/// As Go's encoder writes it: kept out of HTML, and with a line feed at its end.
fn go_json(value: &Value) -> String {
    let mut text = value.to_string();
    for (letter, escape) in [
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u{2028}", "\\u2028"),
        ("\u{2029}", "\\u2029"),
    ] {
        text = text.replace(letter, escape);
    }
    text.push('\n');
    text
}
