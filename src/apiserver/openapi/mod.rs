//! `/openapi/v2` and `/openapi/v3`.
//!
//! A document of v3 has the paths and types of one group's version, the one of v2 those of all. They
//! have no descriptions of fields: those would be upstream's sentences. They are rendered when they are
//! asked for; clients keep them under their hash. kubectl looks into v3 whether the server checks fields itself (the `fieldValidation`
//! parameter of a PATCH, cli-runtime pkg/resource/query_param_verifier_v3.go, v1.35). Before 1.27 it
//! reads v2, in protobuf: to check manifests, to merge them, to explain fields, and to find out
//! whether a dry run is understood (kubectl pkg/util/openapi and cli-runtime pkg/resource, v1.20).

mod custom;
mod gnostic;
mod operation;
mod paths;
mod schemas;

use self::custom::Sources;
use self::schemas::Edition;
use super::encoding::{JSON, json_response};
use super::etag::{self, Hash};
use super::query::Query;
use super::server::{Asked, Server};
use crate::api::Status;
use crate::registry::{Kind, KindRef, Rows};
use crate::stdx::http::Response;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};

/// What clients ask for. It is no media type by the rules, because of the `@`.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What they are given.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The index of the documents of v3, made when it is first asked for, and again for other rows.
#[derive(Debug, Default)]
pub(super) struct Index(Mutex<Option<(Arc<Rows>, Arc<str>)>>);

impl Index {
    fn known(&self, rows: &Arc<Rows>) -> Option<Arc<str>> {
        let rendered = self.0.lock().expect("no panics under this lock");
        let (of, index) = rendered.as_ref()?;
        Arc::ptr_eq(of, rows).then(|| Arc::clone(index))
    }

    fn render(&self, sources: &Sources) -> Arc<str> {
        let index: Arc<str> = root(sources).to_string().into();
        let rendered = (Arc::clone(&sources.rows), Arc::clone(&index));
        *self.0.lock().expect("no panics under this lock") = Some(rendered);
        index
    }
}

/// Answers if `path` (without a slash at its end) is one of these.
pub(super) async fn answer(
    server: &Server,
    rows: Arc<Rows>,
    path: &str,
    asked: &Asked,
) -> Result<Option<Response>, Status> {
    let Some(below) = path.strip_prefix("/openapi/") else { return Ok(None) };
    let (query, headers) = (&asked.query, &asked.headers);
    if below == "v3"
        && let Some(index) = server.openapi.known(&rows)
    {
        return Ok(Some(json_response(StatusCode::OK, index.to_string())));
    }
    let sources = Sources::of(server, rows).await?;
    Ok(match below {
        "v2" => Some(second(&sources, headers)),
        "v3" => {
            let index = server.openapi.render(&sources);
            Some(json_response(StatusCode::OK, index.to_string()))
        }
        _ => {
            let document = below.strip_prefix("v3/").and_then(|of| document(&sources, of));
            document.map(|document| third(document.to_string(), query, headers))
        }
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": super::health::GIT_VERSION})
}

fn second(sources: &Sources, headers: &HeaderMap) -> Response {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepts: Vec<_> = accepts.flat_map(|value| value.split(',')).map(str::trim).collect();
    let asks = |media_type: &str| accepts.iter().any(|accept| accept.starts_with(media_type));
    let document = second_document(sources);
    let (body, media_type) = if asks(V2_PROTOBUF_ASKED) || asks(V2_PROTOBUF) {
        (gnostic::encode(&document), HeaderValue::from_static(V2_PROTOBUF))
    } else {
        (document.to_string().into_bytes(), JSON)
    };
    tagged(body, media_type, headers).0
}

fn second_document(sources: &Sources) -> Value {
    let mut paths = Map::new();
    let kinds: Vec<KindRef> = sources.rows.iter().collect();
    for kind in &kinds {
        paths.extend(sources.paths(kind, Edition::Second));
    }
    let definitions = sources.schemas(Edition::Second, kinds.iter());
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions})
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

fn root(sources: &Sources) -> Value {
    let mut paths = Map::new();
    for kind in sources.rows.iter() {
        let path = path_of(&kind);
        if paths.contains_key(&path) {
            continue;
        }
        let document = document(sources, &path).expect("the path is that of a kind");
        let hash = Hash::of(document.to_string().as_bytes());
        let hash = hash.as_str();
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of one group's version.
fn document(sources: &Sources, group_version: &str) -> Option<Value> {
    let mut paths = Map::new();
    let of_version = sources.rows.iter().filter(|kind| path_of(kind) == group_version);
    let kinds: Vec<KindRef> = of_version.collect();
    for kind in &kinds {
        paths.extend(sources.paths(kind, Edition::Third));
    }
    if paths.is_empty() {
        return None;
    }
    let components = json!({"schemas": sources.schemas(Edition::Third, kinds.iter())});
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": components}))
}

/// A document under its hash never changes: whoever asks by it need not ask again.
fn third(body: String, query: &Query, headers: &HeaderMap) -> Response {
    let (mut response, hash) = tagged(body.into_bytes(), JSON, headers);
    if query.get("hash") == Some(hash.as_str()) {
        let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(CACHE_CONTROL, immutable);
    }
    response
}

/// A document, unless the client has it already; and its hash.
fn tagged(body: Vec<u8>, media_type: HeaderValue, headers: &HeaderMap) -> (Response, Hash) {
    let hash = Hash::of(&body);
    (etag::respond(&hash, media_type, headers, || body), hash)
}
