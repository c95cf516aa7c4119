//! What the kubelet answers over HTTP: logs of containers, commands in them, their ports, what they
//! use, its pods, and that it is well.
//!
//! Start at [`answer`]. Upstream pkg/kubelet/server/server.go (v1.35).

mod commands;
mod configz;
mod host_logs;
mod logs;
mod measures;
mod ports;
mod query;
mod stats;

use super::worker::Shared;
use crate::api::ObjectKey;
use crate::stdx::http::{HttpService, Request, Response, full};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::{Container, Pod};
use percent_encoding::percent_decode_str;
use query::Query;
use serde_json::{Value, json};
use stats::Stats;
use std::io;
use std::sync::Arc;

/// An answer that says no: a code and a text for the user.
struct Refusal {
    code: StatusCode,
    text: String,
}

impl Refusal {
    fn new(code: StatusCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    fn internal(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }
}

/// The kubelet as an HTTP service. Whoever serves it checks who asks.
#[derive(Debug)]
pub(super) struct KubeletService {
    shared: Arc<Shared>,
    stats: Arc<Stats>,
}

impl KubeletService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, stats: Arc::default() }
    }
}

impl HttpService for KubeletService {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let (shared, stats) = (Arc::clone(&self.shared), Arc::clone(&self.stats));
        Box::pin(async move {
            let answered = answer(&shared, &stats, &request).await;
            Ok(answered.unwrap_or_else(|refusal| plain(refusal.code, refusal.text)))
        })
    }
}

fn plain(code: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(full(text));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn json_response(value: &Value) -> Response {
    let mut response = plain(StatusCode::OK, value.to_string());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn answer(shared: &Shared, stats: &Stats, request: &Request) -> Result<Response, Refusal> {
    let segments = segments(request.uri().path());
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let talks = is_read || request.method() == Method::POST;
    match segments[..] {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if is_read => {
            Ok(plain(StatusCode::OK, "ok"))
        }
        ["pods"] if is_read => Ok(pods(shared, |_pod| true)),
        ["runningpods"] if is_read => Ok(pods(shared, is_running)),
        ["stats" | "metrics", ..] if is_read => {
            measures::answer(shared, stats, &segments, &query).await
        }
        ["configz"] if is_read => Ok(json_response(&configz::render(&shared.config))),
        ["logs", ref path @ ..] if is_read => host_logs::answer(path).await,
        ["containerLogs", namespace, pod, container] if is_read => {
            let key = ObjectKey::namespaced(namespace, pod);
            logs::container_logs(shared, &key, container, &query).await
        }
        ["run", namespace, pod, container] | ["run", namespace, pod, _, container]
            if request.method() == Method::POST =>
        {
            let pod = find_pod(shared, namespace, pod, uid_in(&segments, 5))?;
            commands::run(shared, &pod, container, &query).await
        }
        ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] if talks => {
            let pod = find_pod(shared, namespace, pod, uid_in(&segments, 5))?;
            commands::exec(shared, request.headers(), (&pod, container), &query).await
        }
        ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container]
            if talks =>
        {
            let pod = find_pod(shared, namespace, pod, uid_in(&segments, 5))?;
            commands::attach(shared, request.headers(), (&pod, container), &query).await
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] if talks => {
            let pod = find_pod(shared, namespace, pod, uid_in(&segments, 4))?;
            ports::forward(shared, request.headers(), &pod, &query).await
        }
        [
            "healthz" | "configz" | "logs" | "pods" | "runningpods" | "containerLogs" | "run"
            | "exec" | "attach" | "portForward" | "stats" | "metrics",
            ..,
        ] if !is_read => {
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"))
        }
        _ => Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    }
}

/// The parts of a path, decoded.
fn segments(path: &str) -> Vec<String> {
    let parts = path.trim_end_matches('/').split('/').skip(1);
    parts.map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

/// The uid, in a path that has one: after kind, namespace and name.
fn uid_in<'a>(segments: &[&'a str], count: usize) -> Option<&'a str> {
    (segments.len() == count).then(|| segments[3])
}

fn find_pod(
    shared: &Shared,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<Pod>, Refusal> {
    let found = shared.pod_named(&ObjectKey::namespaced(namespace, name), uid);
    found.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "pod does not exist"))
}

fn pods(shared: &Shared, is_wanted: impl Fn(&Pod) -> bool) -> Response {
    let mut items = shared.all_pods();
    items.retain(|pod| is_wanted(pod));
    json_response(&json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items }))
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let is_it = |container: &Container| container.name == name;
    spec.containers.iter().any(is_it)
        || spec.init_containers.iter().flatten().any(is_it)
        || spec.ephemeral_containers.iter().flatten().any(|container| container.name == name)
}
