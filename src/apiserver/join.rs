//! What machines that join, and those that have joined, need of the API server besides the API.
//!
//! `/cacerts` is whom to trust: whoever asks knows it by its hash. [`TUNNEL_PATH`] is where a node
//! opens the connection by which its kubelet is asked: nodes reach out, nobody reaches in. Both
//! as k3s has them (`/cacerts`, `/v1-k3s/connect`).

use super::identity::Identity;
use super::server::{Asked, Server, no_such_path};
use crate::api::node::{AGENT_PREFIX, AGENTS};
use crate::api::status::{Reason, Status};
use crate::stdx::http::{Response, full, wanted_protocol};
use http::header::{CONTENT_TYPE, HeaderValue};

/// Where a node opens its tunnel.
pub const TUNNEL_PATH: &str = "/v1-kinglet/connect";

/// What the connection becomes.
pub const TUNNEL_PROTOCOL: &str = "kinglet-tunnel";

/// The authorities.
pub(super) fn authorities(server: &Server, path: &str) -> Option<Response> {
    let is_asked = path == "/cacerts";
    is_asked.then(|| {
        let mut response = Response::new(full(server.config.tokens.root_ca.to_string()));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    })
}

/// Takes the connection of a node over.
///
/// # Errors
/// Where somebody else asks, or for something else.
pub(super) fn connect(
    server: &Server,
    asked: &Asked,
    identity: &Identity,
) -> Result<Response, Status> {
    let node = identity.user().strip_prefix(AGENT_PREFIX);
    let Some(node) = node.filter(|_| identity.groups().iter().any(|group| group == AGENTS)) else {
        return Err(Status::new(Reason::Forbidden, "only agents of nodes open tunnels"));
    };
    if wanted_protocol(&asked.headers) != Some(TUNNEL_PROTOCOL) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    server.nodes.take_tunnel(node).ok_or_else(no_such_path)
}
