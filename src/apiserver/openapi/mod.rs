//! `/openapi/v2` and `/openapi/v3`.
//!
//! A document of v3 has the types of one group's version, and of paths as much as kubectl reads. It
//! is rendered when it is asked for; clients keep it under its hash. kubectl looks here whether the server checks fields itself (the `fieldValidation` parameter of a
//! PATCH, cli-runtime pkg/resource/query_param_verifier_v3.go, v1.35); kubectl before 1.24 cannot
//! apply where there is no `/openapi/v2` in protobuf, and takes a document without definitions.

mod schemas;

use super::encoding::json_response;
use super::query::Query;
use crate::registry::{KINDS, Kind};
use crate::stdx::http::{Response, full};
use aws_lc_rs::digest;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::sync::OnceLock;

/// What clients ask for. It is no media type by the rules, because of the `@`.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What they are given.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The index of the documents of v3, made when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Index(OnceLock<Value>);

/// Answers if `path` (without a slash at its end) is one of these.
pub(super) fn answer(
    index: &Index,
    path: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Option<Response> {
    match path {
        "/openapi/v2" => Some(second(headers)),
        "/openapi/v3" => {
            let root = index.0.get_or_init(root);
            Some(json_response(StatusCode::OK, root.to_string()))
        }
        _ => {
            let group_version = path.strip_prefix("/openapi/v3/")?;
            Some(third(document(group_version)?.to_string(), query, headers))
        }
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": super::health::GIT_VERSION})
}

fn second(headers: &HeaderMap) -> Response {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepts: Vec<_> = accepts.flat_map(|value| value.split(',')).map(str::trim).collect();
    let asks = |media_type: &str| accepts.iter().any(|accept| accept.starts_with(media_type));
    if asks(V2_PROTOBUF_ASKED) || asks(V2_PROTOBUF) {
        let mut response = Response::new(full(second_protobuf()));
        let media_type = HeaderValue::from_static(V2_PROTOBUF);
        response.headers_mut().insert(CONTENT_TYPE, media_type);
        return response;
    }
    let document = json!({"swagger": "2.0", "info": info(), "paths": {}});
    json_response(StatusCode::OK, document.to_string())
}

/// `openapi.v2.Document` with `swagger` (field 1), `info` (2) and empty `paths` (8).
fn second_protobuf() -> Vec<u8> {
    fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
        let length = u8::try_from(bytes.len()).expect("these texts are short");
        assert!(length < 0x80, "a length of one byte");
        out.extend([number << 3 | 2, length]);
        out.extend(bytes);
    }
    let mut info = Vec::new();
    field(&mut info, 1, b"Kubernetes");
    field(&mut info, 2, super::health::GIT_VERSION.as_bytes());
    let mut document = Vec::new();
    field(&mut document, 1, b"2.0");
    field(&mut document, 2, &info);
    field(&mut document, 8, b"");
    document
}

/// `api/v1`, `apis/apps/v1`.
fn path_of(kind: &Kind) -> String {
    let facts = &kind.facts;
    if facts.group.is_empty() {
        format!("api/{}", facts.version)
    } else {
        format!("apis/{}/{}", facts.group, facts.version)
    }
}

fn hash(text: &str) -> String {
    let mut hexadecimal = String::new();
    for byte in digest::digest(&digest::SHA256, text.as_bytes()).as_ref() {
        write!(hexadecimal, "{byte:02X}").expect("writing to a String succeeds");
    }
    hexadecimal
}

fn root() -> Value {
    let mut paths = Map::new();
    for kind in KINDS {
        let path = path_of(kind);
        if paths.contains_key(&path) {
            continue;
        }
        let hash = document(&path).map(|document| hash(&document.to_string())).unwrap_or_default();
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of one group's version.
fn document(group_version: &str) -> Option<Value> {
    let mut paths = Map::new();
    let mut roots = Vec::new();
    for kind in KINDS.iter().filter(|kind| path_of(kind) == group_version) {
        roots.push(kind.schema);
        let namespace = if kind.facts.is_namespaced() { "namespaces/{namespace}/" } else { "" };
        let path = format!("/{group_version}/{namespace}{}/{{name}}", kind.facts.plural);
        paths.insert(path, json!({"patch": patch_operation(kind)}));
    }
    if paths.is_empty() {
        return None;
    }
    let components = json!({"schemas": schemas::reachable(roots)});
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": components}))
}

fn patch_operation(kind: &Kind) -> Value {
    let facts = &kind.facts;
    let text = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    json!({
        "operationId": format!("patch{}", facts.kind),
        "parameters": [text("dryRun"), text("fieldManager"), text("fieldValidation")],
        "requestBody": {"content": {
            "application/json-patch+json": {},
            "application/merge-patch+json": {},
            "application/strategic-merge-patch+json": {},
        }},
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {
            "group": facts.group, "version": facts.version, "kind": facts.kind,
        },
    })
}

/// A document under its hash never changes: whoever asks by it need not ask again.
fn third(body: String, query: &Query, headers: &HeaderMap) -> Response {
    let hash = hash(&body);
    let is_pinned = query.get("hash") == Some(&hash);
    let etag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hexadecimal digits");
    let mut response = if headers.get(IF_NONE_MATCH) == Some(&etag) {
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json_response(StatusCode::OK, body)
    };
    response.headers_mut().insert(ETAG, etag);
    if is_pinned {
        let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(CACHE_CONTROL, immutable);
    }
    response
}
