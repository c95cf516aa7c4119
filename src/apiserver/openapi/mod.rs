//! `/openapi/v2` and `/openapi/v3`.
//!
//! A document of v3 has the paths and types of one group's version, or one path that is of no kind; the
//! one of v2 has all of them. They are rendered when they are asked for and kept by nobody but clients,
//! who ask for them by their hash. The hashes are known once somebody has asked for the index, and are
//! worked out again where definitions change. kubectl looks into v3 whether the server checks fields
//! itself (the `fieldValidation` parameter of a PATCH, cli-runtime
//! pkg/resource/query_param_verifier_v3.go, v1.35). Before 1.27 it reads v2, in protobuf: to check
//! manifests, to merge them, to explain fields, and to find out whether a dry run is understood
//! (kubectl pkg/util/openapi and cli-runtime pkg/resource, v1.20).

mod document;
mod gnostic;
mod index;
mod operation;
mod paths;
mod roots;
mod schemas;
mod sources;

pub(super) use self::index::Index;

use self::document::Form;
use self::schemas::{Catalog, Edition};
use self::sources::Sources;
use super::encoding::{JSON, json_response};
use super::etag::{self, Hash};
use super::query::Query;
use super::server::{Asked, Server};
use crate::api::Status;
use crate::registry::Rows;
use crate::stdx::blocking;
use crate::stdx::http::Response;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

/// What clients ask for. It is no media type by the rules, because of the `@`.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// What they are given.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers if `path` (without a slash at its end) is one of these.
pub(super) async fn answer(
    server: &Server,
    rows: Arc<Rows>,
    path: &str,
    asked: &Asked,
) -> Result<Option<Response>, Status> {
    let Some(below) = path.strip_prefix("/openapi/") else { return Ok(None) };
    match below {
        "v2" => second(server, rows, &asked.headers).await.map(Some),
        "v3" => {
            let index = index::of(server, rows).await?;
            Ok(Some(json_response(StatusCode::OK, index.to_string())))
        }
        _ => match below.strip_prefix("v3/") {
            Some(name) => third(server, rows, name, asked).await,
            None => Ok(None),
        },
    }
}

async fn second(server: &Server, rows: Arc<Rows>, headers: &HeaderMap) -> Result<Response, Status> {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepts: Vec<_> = accepts.flat_map(|value| value.split(',')).map(str::trim).collect();
    let asks = |media_type: &str| accepts.iter().any(|accept| accept.starts_with(media_type));
    let (form, media_type) = if asks(V2_PROTOBUF_ASKED) || asks(V2_PROTOBUF) {
        (Form::Protobuf, HeaderValue::from_static(V2_PROTOBUF))
    } else {
        (Form::Json, JSON)
    };
    if let Some(hash) = server.openapi.hash_of_second(&rows, form)
        && etag::is_known(&hash, headers)
    {
        return Ok(etag::respond(&hash, media_type, headers, Vec::new));
    }
    let _turn = server.openapi.turn().await;
    let sources = Sources::of(server, Arc::clone(&rows), None).await?;
    let render = move || {
        let mut catalog = Catalog::new(Edition::Second, form);
        let body = sources.parts(&sources.everything(), &mut catalog).second(form);
        (Hash::of(&body), body)
    };
    let (hash, body) = blocking(render).await;
    server.openapi.keep_second(rows, form, hash.clone());
    Ok(etag::respond(&hash, media_type, headers, || body))
}

/// A document under its hash never changes: whoever asks by it need not ask again.
async fn third(
    server: &Server,
    rows: Arc<Rows>,
    name: &str,
    asked: &Asked,
) -> Result<Option<Response>, Status> {
    let (query, headers) = (&asked.query, &asked.headers);
    if let Some(hash) = server.openapi.hash_of(&rows, name)
        && etag::is_known(&hash, headers)
    {
        return Ok(Some(found(&hash, query, etag::respond(&hash, JSON, headers, Vec::new))));
    }
    let _turn = server.openapi.turn().await;
    let sources = Sources::of(server, rows, Some(name)).await?;
    let Some(subjects) = sources.documents().remove(name) else { return Ok(None) };
    let render = move || {
        let mut catalog = Catalog::new(Edition::Third, Form::Json);
        let body = sources.parts(&subjects, &mut catalog).third();
        (Hash::of(&body), body)
    };
    let (hash, body) = blocking(render).await;
    Ok(Some(found(&hash, query, etag::respond(&hash, JSON, headers, || body))))
}

fn found(hash: &Hash, query: &Query, mut response: Response) -> Response {
    if query.get("hash") == Some(hash.as_str()) {
        let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
        response.headers_mut().insert(CACHE_CONTROL, immutable);
    }
    response
}
