//! What a conversion webhook is asked, and what is believed of its answer (upstream
//! `createConversionReviewObjects`, `getConvertedObjectsFromResponse`, `validateConvertedObject` and
//! `restoreObjectMeta`, apiextensions pkg/apiserver/conversion/webhook_converter.go, v1.35). Pure.

use crate::api::FieldPath;
use crate::api::status::aggregate;
use crate::registry::metadata::{validate_annotations, validate_labels};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const GROUP: &str = "apiextensions.k8s.io";
const KIND: &str = "ConversionReview";

/// Where a `Kind` of metadata may differ afterwards.
const CHANGEABLE: [&str; 2] = ["labels", "annotations"];

/// One question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Review<'a> {
    /// `example.com/v2`.
    wanted: &'a str,
    /// Of ConversionReview: `v1` or `v1beta1`.
    version: &'static str,
    uid: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    kind: &'static str,
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: &'a str,
    objects: &'a [Value],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered<'a> {
    kind: Option<String>,
    api_version: Option<String>,
    #[serde(borrow)]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: Option<String>,
    #[serde(borrow)]
    converted_objects: Option<Vec<&'a RawValue>>,
    result: Option<Outcome>,
}

#[derive(Default, Deserialize)]
struct Outcome {
    status: Option<String>,
    message: Option<String>,
}

impl<'a> Review<'a> {
    /// Asks in the first of the versions that is spoken here.
    pub(super) fn of(wanted: &'a str, versions: &[String], uid: &'a str) -> Result<Self, String> {
        let spoken = versions.iter().find_map(|version| match version.as_str() {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        });
        let version = spoken.ok_or("no supported conversion review versions")?;
        Ok(Self { wanted, version, uid })
    }

    pub(super) fn request(&self, objects: &[Value]) -> Vec<u8> {
        let request = Request { uid: self.uid, desired_api_version: self.wanted, objects };
        let api_version = format!("{GROUP}/{}", self.version);
        let asked = Asked { kind: KIND, api_version, request };
        serde_json::to_vec(&asked).expect("JSON and text serialize")
    }

    /// What errors say that this was about: the object, or the list of all.
    pub(super) fn subject(&self, objects: &[Value]) -> String {
        match objects {
            [one] => gvk(text(one, "apiVersion"), text(one, "kind")),
            all => {
                let kind = all.first().map_or("", |object| text(object, "kind"));
                gvk(self.wanted, &format!("{kind}List"))
            }
        }
    }

    /// The converted objects of an answer, with the metadata that the original ones have.
    pub(super) fn settle(&self, originals: &[Value], answer: &[u8]) -> Result<Vec<Value>, String> {
        let subject = self.subject(originals);
        let failed = |why: String| format!("conversion webhook for {subject} failed: {why}");
        let converted = self.read(answer).map_err(failed)?;
        if converted.len() != originals.len() {
            let (got, expected) = (converted.len(), originals.len());
            return Err(format!(
                "conversion webhook for {subject} returned {got} objects, expected {expected}"
            ));
        }
        let is_list = originals.len() != 1;
        let mut settled = Vec::with_capacity(originals.len());
        for (index, (original, raw)) in originals.iter().zip(converted).enumerate() {
            let place = Place { subject: &subject, index, is_list };
            settled.push(self.accept(original, raw, place)?);
        }
        Ok(settled)
    }

    /// What there is in an answer that says that it is one.
    fn read<'b>(&self, answer: &'b [u8]) -> Result<Vec<&'b RawValue>, String> {
        let answered: Answered<'_> = serde_json::from_slice(answer)
            .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
        let is_v1 = self.version == "v1";
        let expected = format!("{GROUP}/{}", self.version);
        let (api_version, kind) = (answered.api_version, answered.kind);
        let (api_version, kind) = (api_version.unwrap_or_default(), kind.unwrap_or_default());
        if is_v1 && (api_version != expected || kind != KIND) {
            return Err(format!(
                "expected webhook response of {}, got {}",
                gvk(&expected, KIND),
                gvk(&api_version, &kind)
            ));
        }
        let response = answered.response.ok_or("no response provided")?;
        // Those of the older version say whose answer they are or not.
        let uid = response.uid.unwrap_or_default();
        if is_v1 && uid != self.uid {
            return Err(format!("expected response.uid={:?}, got {uid:?}", self.uid));
        }
        let Outcome { status, message } = response.result.unwrap_or_default();
        let status = status.unwrap_or_default();
        if status != "Success" {
            let message = message.filter(|message| !message.is_empty());
            return Err(message.unwrap_or_else(|| {
                format!("response.result.status was '{status}', not 'Success'")
            }));
        }
        Ok(response.converted_objects.unwrap_or_default())
    }

    fn accept(&self, original: &Value, raw: &RawValue, place: Place<'_>) -> Result<Value, String> {
        let mut converted = parse(raw).map_err(|why| place.unreadable(&why))?;
        let (got, kind) = (text(&converted, "apiVersion"), text(&converted, "kind"));
        if got != self.wanted {
            let wanted = self.wanted;
            return Err(
                place.misfit(&format!("invalid groupVersion (expected {wanted}, received {got})"))
            );
        }
        let expected = text(original, "kind");
        if kind != expected {
            return Err(
                place.misfit(&format!("invalid kind (expected {expected}, received {kind})"))
            );
        }
        check_same(original, &converted).map_err(|why| place.other(&why))?;
        restore(original, &mut converted).map_err(|why| place.bad_metadata(&why))?;
        Ok(converted)
    }
}

/// Which object an error is about. Upstream words it differently for one object and for a list.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    subject: &'a str,
    index: usize,
    is_list: bool,
}

impl Place<'_> {
    fn told(&self, what: &str, why: &str) -> String {
        format!("conversion webhook for {} returned {what}: {why}", self.subject)
    }

    fn in_list(&self, why: &str) -> String {
        self.told(&format!("invalid converted object at index {}", self.index), why)
    }

    fn unreadable(&self, why: &str) -> String {
        if self.is_list { self.in_list(why) } else { why.to_owned() }
    }

    fn misfit(&self, why: &str) -> String {
        if self.is_list { self.in_list(why) } else { self.told("invalid object at index 0", why) }
    }

    fn other(&self, why: &str) -> String {
        if self.is_list { self.in_list(why) } else { self.told("invalid object", why) }
    }

    fn bad_metadata(&self, why: &str) -> String {
        if self.is_list {
            let index = self.index;
            return self.told(&format!("invalid metadata in object at index {index}"), why);
        }
        self.told("invalid metadata", why)
    }
}

/// An object that says of what kind it is.
fn parse(raw: &RawValue) -> Result<Value, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
    match value["kind"].as_str() {
        Some(kind) if !kind.is_empty() => Ok(value),
        _ => Err(format!("Object 'Kind' is missing in '{}'", raw.get())),
    }
}

fn text<'v>(object: &'v Value, field: &str) -> &'v str {
    object[field].as_str().unwrap_or_default()
}

fn gvk(api_version: &str, kind: &str) -> String {
    format!("{api_version}, Kind={kind}")
}

/// Everything by which an object is known stays.
fn check_same(original: &Value, converted: &Value) -> Result<(), String> {
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (text(&original["metadata"], field), text(&converted["metadata"], field));
        if was != is {
            return Err(format!("must have the same {name}: {was} != {is}"));
        }
    }
    Ok(())
}

/// Puts the original metadata in place of what came, but for labels and annotations.
fn restore(original: &Value, converted: &mut Value) -> Result<(), String> {
    let came = match converted.get_mut("metadata").map(Value::take) {
        None => return Err("missing metadata in converted object".to_owned()),
        Some(Value::Object(came)) => came,
        Some(other) => {
            let kind = go_type(&other);
            return Err(format!("invalid metadata of type {kind} in converted object"));
        }
    };
    let mut metadata = match original.get("metadata") {
        None => Map::new(),
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(other) => {
            return Err(format!("invalid metadata of type {} in input object", go_type(other)));
        }
    };
    for field in CHANGEABLE {
        let new = match came.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
                continue;
            }
            Some(Value::Object(new)) => new,
            Some(other) => {
                let kind = go_type(other);
                return Err(format!("invalid metadata.{field} of type {kind} in converted object"));
            }
        };
        check_texts(field, new, metadata.get(field))?;
        metadata.insert(field.to_owned(), Value::Object(new.clone()));
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(())
}

/// Labels or annotations that differ from those before have to be good ones.
fn check_texts(
    field: &str,
    new: &Map<String, Value>,
    before: Option<&Value>,
) -> Result<(), String> {
    let mut texts = BTreeMap::new();
    for (key, value) in new {
        let Some(text) = value.as_str() else {
            let kind = go_type(value);
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {kind} in converted object"
            ));
        };
        texts.insert(key.clone(), text.to_owned());
    }
    if before.and_then(Value::as_object) == Some(new) {
        return Ok(());
    }
    let path = FieldPath::new("metadata");
    let errors = match field {
        "labels" => validate_labels(Some(&texts), &path.child("labels")),
        _ => validate_annotations(Some(&texts), &path.child("annotation")),
    };
    if errors.is_empty() {
        return Ok(());
    }
    Err(aggregate(&errors.iter().map(ToString::to_string).collect::<Vec<_>>()))
}

/// What Go calls the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests;
