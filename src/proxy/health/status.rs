//! What upstream's proxies tell on port 10249 of the loopback (cmd/kube-proxy/app/server.go,
//! `serveMetrics`, v1.35): what is counted, and in which way they work. The kubelet's port has what is
//! counted as well, for those who are not on this node.

use super::super::Proxy;
use super::listen::{accept, bind_to_loopback, bound, not_found};
use crate::stdx::chain;
use crate::stdx::http::{Response, full};
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use std::io;
use std::sync::Arc;
use tracing::info;

const PORT: u16 = 10_249;

/// One of upstream's words.
const MODE: &str = "nftables";

/// Answers until it is dropped, as soon as the port is to be had.
pub(in super::super) async fn serve(proxy: Proxy) {
    let missed = |error: &io::Error| {
        info!(error = chain(error), "the proxy's own port {PORT} is somebody else's");
    };
    let listener = bound(|| bind_to_loopback(PORT), missed).await;
    accept(listener, Arc::new(move |path: &str| answer(&proxy, path))).await;
}

fn answer(proxy: &Proxy, path: &str) -> Response {
    match path {
        "/metrics" => text("text/plain; version=0.0.4; charset=utf-8", proxy.metrics()),
        "/proxyMode" => text("text/plain; charset=utf-8", MODE.to_owned()),
        "/healthz" => text("text/plain; charset=utf-8", "ok".to_owned()),
        _ => not_found(),
    }
}

fn text(kind: &str, body: String) -> Response {
    http::Response::builder()
        .header(CONTENT_TYPE, kind)
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(full(body))
        .expect("all of it is valid")
}
