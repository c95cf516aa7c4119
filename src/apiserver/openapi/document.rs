//! Documents, put together of parts that are written already. Pure.
//!
//! A document as one tree would take ten times what its text does, and what several of them have in
//! common would be written again for each. So a part becomes bytes as soon as it is known.

use super::super::health::GIT_VERSION;
use super::gnostic;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Schemas that are written, by their OpenAPI names.
pub(super) type Schemas = BTreeMap<String, Bytes>;

/// What a document is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    /// gnostic's, of v2 alone.
    Protobuf,
}

impl Form {
    /// A schema, to be put under its name.
    pub(super) fn schema(self, schema: &Value) -> Bytes {
        match self {
            Self::Json => schema.to_string().into(),
            Self::Protobuf => gnostic::schema_message(schema).into(),
        }
    }

    /// A path with its operations, to be put under its name.
    pub(super) fn path(self, item: &Value) -> Bytes {
        match self {
            Self::Json => item.to_string().into(),
            Self::Protobuf => gnostic::path_message(item).into(),
        }
    }
}

/// The parts of a document.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Paths that are written, each with its operations.
    pub(super) paths: BTreeMap<String, Bytes>,
    pub(super) schemas: Schemas,
}

/// How a client says who it is.
fn bearer_token() -> Value {
    json!({
        "description": "Bearer Token authentication", "in": "header", "name": "authorization",
        "type": "apiKey",
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": GIT_VERSION})
}

impl Parts {
    /// The document of v3.
    pub(super) fn third(&self) -> Vec<u8> {
        let security = json!({"BearerToken": bearer_token()});
        let mut out = Vec::with_capacity(self.size());
        out.extend(b"{\"components\":{\"schemas\":");
        write_members(&mut out, &self.schemas);
        let between = format!(",\"securitySchemes\":{security}}},\"info\":{},", info());
        out.extend(between.as_bytes());
        out.extend(b"\"openapi\":\"3.0.0\",\"paths\":");
        write_members(&mut out, &self.paths);
        out.push(b'}');
        out
    }

    /// The document of v2, of parts that are in the same form.
    pub(super) fn second(&self, form: Form) -> Vec<u8> {
        let (token, used) = (json!({"BearerToken": bearer_token()}), json!([{"BearerToken": []}]));
        if form == Form::Protobuf {
            let head = json!({
                "info": info(), "security": used, "securityDefinitions": token, "swagger": "2.0",
            });
            return gnostic::document(&head, &self.paths, &self.schemas);
        }
        let mut out = Vec::with_capacity(self.size());
        out.extend(b"{\"definitions\":");
        write_members(&mut out, &self.schemas);
        out.extend(format!(",\"info\":{},\"paths\":", info()).as_bytes());
        write_members(&mut out, &self.paths);
        let rest = format!(",\"security\":{used},\"securityDefinitions\":{token},");
        out.extend(rest.as_bytes());
        out.extend(b"\"swagger\":\"2.0\"}");
        out
    }

    /// About how long the document is.
    fn size(&self) -> usize {
        /// Quotes, commas and what is around.
        const AROUND: usize = 8;
        let parts = self.paths.iter().chain(&self.schemas);
        let parts = parts.map(|(name, part)| name.len() + part.len() + AROUND);
        1024 + parts.sum::<usize>()
    }
}

fn write_members(out: &mut Vec<u8>, members: &BTreeMap<String, Bytes>) {
    out.push(b'{');
    for (nth, (name, value)) in members.iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend(Value::from(name.as_str()).to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(form: Form) -> Parts {
        let mut parts = Parts::default();
        for name in ["A", "B"] {
            let schema = json!({"description": "of \"it\"", "type": "object"});
            parts.schemas.insert(name.to_owned(), form.schema(&schema));
        }
        parts.paths.insert("/a/{b}".to_owned(), form.path(&json!({"get": {"tags": ["a"]}})));
        parts
    }

    #[test]
    fn documents_are_made_of_their_parts() {
        let third: Value = serde_json::from_slice(&parts(Form::Json).third()).unwrap();
        assert_eq!(third["components"]["schemas"]["B"]["description"], "of \"it\"");
        assert_eq!(third["components"]["securitySchemes"]["BearerToken"]["type"], "apiKey");
        assert_eq!(third["paths"]["/a/{b}"]["get"]["tags"], json!(["a"]));
        let second = parts(Form::Json).second(Form::Json);
        let second: Value = serde_json::from_slice(&second).unwrap();
        assert_eq!(second["definitions"]["A"]["type"], "object");
        assert_eq!(second["swagger"], "2.0");
        let empty: Value = serde_json::from_slice(&Parts::default().third()).unwrap();
        assert_eq!(empty["paths"], json!({}));
    }

    #[test]
    fn members_are_in_order() {
        let text = String::from_utf8(parts(Form::Json).third()).unwrap();
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text, parsed.to_string());
        let text = String::from_utf8(parts(Form::Json).second(Form::Json)).unwrap();
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text, parsed.to_string());
    }
}
