//! Connect: requests that become a conversation with a pod, through the kubelet of its node
//! (upstream `ExecLocation`, `AttachLocation` and `PortForwardLocation`, pkg/registry/core/pod/
//! strategy.go, and pkg/registry/core/pod/rest/subresources.go, v1.35).
//!
//! The kubelet speaks every protocol that clients do, so that nothing is translated on the way, as
//! upstream's API server does for its kubelets.

use super::super::authz::{self, Ask};
use super::super::rbac::Action;
use super::super::request::Verb;
use super::Call;
use super::log::{PLAIN, container};
use crate::api::status::{Reason, Status};
use crate::stdx::chain;
use crate::stdx::http::{Response, wanted_protocol};
use bytes::Bytes;
use http::HeaderMap;
use k8s_openapi::api::core::v1::Pod;
use percent_encoding::utf8_percent_encode;

/// What of a request's headers is about what the connection becomes.
const UPGRADE_HEADERS: &[&str] = &[
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "x-stream-protocol-version",
];

/// How the streams that a client may want are called here and by a kubelet.
const STREAMS: &[(&str, &str)] =
    &[("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

/// Answers `exec`, `attach` or `portforward`.
pub(super) async fn to_pod(call: &Call<'_>, subresource: &str) -> Result<Response, Status> {
    let key = call.key()?;
    let current = call.server.current(call.kind, &key).await?;
    let pod: &Pod = current
        .object
        .as_any()
        .downcast_ref()
        .ok_or_else(|| Status::internal("only pods are talked to"))?;
    authorize(call, subresource).await?;
    let path = kubelet_path(call, pod, subresource)?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let Some(node) = node.filter(|node| !node.is_empty()) else {
        let message = format!("pod {} does not have a host assigned", key.name);
        return Err(Status::bad_request(message));
    };
    if wanted_protocol(call.headers).is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let mut request = http::Request::post(path).body(Bytes::new()).map_err(Status::internal)?;
    copy_headers(call.headers, request.headers_mut());
    call.server.nodes.call(node, request).await.map_err(|error| {
        let why = format!("cannot reach the kubelet of node {node:?}: {}", chain(&error));
        Status::new(Reason::ServiceUnavailable, why)
    })
}

/// A WebSocket begins with GET, and takes the right to create all the same (upstream
/// `AuthorizePodWebsocketUpgradeCreatePermission`, v1.35).
async fn authorize(call: &Call<'_>, subresource: &str) -> Result<(), Status> {
    if call.verb != Verb::Get {
        return Ok(());
    }
    let ask = Ask::of(
        call.identity,
        Action::Resource {
            verb: Verb::Create.as_str(),
            group: "",
            resource: "pods",
            subresource,
            name: call.name.unwrap_or_default(),
            namespace: call.namespace,
        },
    );
    authz::require(call.server, &ask).await
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in UPGRADE_HEADERS {
        for value in from.get_all(*name) {
            to.append(*name, value.clone());
        }
    }
}

fn kubelet_path(call: &Call<'_>, pod: &Pod, subresource: &str) -> Result<String, Status> {
    let encode = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
    let name = call.name.unwrap_or_default();
    let place = format!("{}/{}", encode(call.namespace.unwrap_or_default()), encode(name));
    let mut parameters = Vec::new();
    let path = if subresource == "portforward" {
        let ports: Vec<_> = call.query.all("ports").collect();
        if !ports.is_empty() {
            parameters.push(("port", encode(&ports.join(","))));
        }
        format!("/portForward/{place}")
    } else {
        let container = container(pod, name, call.query.text("container"))?;
        for (ours, theirs) in STREAMS {
            if call.query.flag(ours) {
                parameters.push((theirs, "1".to_owned()));
            }
        }
        if subresource == "exec" {
            parameters.extend(call.query.all("command").map(|word| ("command", encode(word))));
        }
        format!("/{subresource}/{place}/{}", encode(&container))
    };
    let parameters: Vec<_> =
        parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(format!("{path}?{}", parameters.join("&")))
}
