//! What is at `/`: the paths that answer (upstream `Index`, apiserver pkg/server/routes/index.go,
//! v1.35). Objects are not among them.

use super::encoding::{json_response, pretty};
use super::{discovery, health};
use crate::registry::Rows;
use crate::stdx::http::Response;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeSet;

/// What is always there, and in no table of its own.
const OTHERS: &[&str] = &[
    "/.well-known/openid-configuration",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/version",
];

/// Answers if `path` (without a slash at its end) is that of the index.
pub(super) fn answer(rows: &Rows, path: &str) -> Option<Response> {
    if !matches!(path, "" | "/index.html") {
        return None;
    }
    let mut paths: BTreeSet<String> = OTHERS.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(discovery::paths(rows));
    paths.extend(health::paths());
    let json = json!({ "paths": paths }).to_string();
    Some(json_response(StatusCode::OK, pretty(json.as_bytes())))
}
