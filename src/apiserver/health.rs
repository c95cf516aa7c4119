//! `/healthz`, `/livez`, `/readyz` and their single checks, and `/version`.

use super::encoding::json_response;
use super::query::Query;
use super::server::Server;
use crate::stdx::http::{Response, full};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::json;

/// The Kubernetes version that the API is that of, and ours behind the plus.
pub const GIT_VERSION: &str = concat!("v1.35.0+kinglet", env!("CARGO_PKG_VERSION_MAJOR"));

type Check = (&'static str, fn(&Server) -> Result<(), &'static str>);

const STORE: Check = ("store", |server| {
    if server.store.ended().is_cancelled() { Err("the store has ended") } else { Ok(()) }
});

const LIVE: &[Check] = &[("ping", |_| Ok(())), STORE];

const READY: &[Check] = &[
    ("ping", |_| Ok(())),
    STORE,
    ("poststarthook/bootstrap", |server| {
        if server.is_ready() { Ok(()) } else { Err("the first objects are not there yet") }
    }),
    ("shutdown", |server| {
        if server.closing.is_cancelled() { Err("the server is shutting down") } else { Ok(()) }
    }),
];

/// What ComponentStatuses tell of: the parts of the control plane by the names that upstream has for
/// them, and what is wrong with each. Those of this process are well as long as it is.
pub(super) fn components(server: &Server) -> Vec<(&'static str, Result<(), &'static str>)> {
    let beside = server.config.components.iter().map(|name| (*name, Ok(())));
    let (_, store) = STORE;
    beside.chain([("etcd-0", store(server))]).collect()
}

/// Answers if this is one of those paths.
pub(super) fn answer(server: &Server, path: &str, query: &Query) -> Option<Response> {
    if path == "/version" {
        return Some(json_response(StatusCode::OK, version().to_string()));
    }
    let (endpoint, check) = match path.get(1..)?.split_once('/') {
        Some((endpoint, check)) => (endpoint, Some(check)),
        None => (path.get(1..)?, None),
    };
    let checks = match endpoint {
        "healthz" | "livez" => LIVE,
        "readyz" => READY,
        _ => return None,
    };
    match check {
        None => Some(all(server, endpoint, checks, query)),
        Some(wanted) => {
            let (_, run) = checks.iter().find(|(name, _)| *name == wanted)?;
            Some(match run(server) {
                Ok(()) => text(StatusCode::OK, "ok".to_owned()),
                Err(why) => text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!("internal server error: {why}\n"),
                ),
            })
        }
    }
}

/// Runs every check that is not excluded; lists them where asked or where one fails.
fn all(server: &Server, endpoint: &str, checks: &[Check], query: &Query) -> Response {
    let mut lines = String::new();
    let mut failed = false;
    for (name, run) in checks {
        let line = match run(server) {
            _ if query.all("exclude").any(|excluded| excluded == *name) => {
                format!("[+]{name} excluded: ok\n")
            }
            Ok(()) => format!("[+]{name} ok\n"),
            Err(why) => {
                failed = true;
                format!("[-]{name} failed: {why}\n")
            }
        };
        lines.push_str(&line);
    }
    if failed {
        lines.push_str(&format!("{endpoint} check failed\n"));
        return text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    if query.get("verbose").is_some() {
        lines.push_str(&format!("{endpoint} check passed\n"));
        return text(StatusCode::OK, lines);
    }
    text(StatusCode::OK, "ok".to_owned())
}

fn text(code: StatusCode, body: String) -> Response {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let nosniff = HeaderName::from_static("x-content-type-options");
    headers.insert(nosniff, HeaderValue::from_static("nosniff"));
    response
}

fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// This machine's architecture by the name Go has for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
