//! The way from the API server to kubelets: a call in this process for its own, the tunnel that it
//! keeps open for one elsewhere, and HTTPS to its address for one that keeps none, as upstream's.

use super::certificates::Certificates;
use crate::api::ObjectKey;
use crate::apiserver::{NodeService, TUNNEL_PROTOCOL};
use crate::client::Client;
use crate::stdx::chain;
use crate::stdx::http::{ByteStream, HttpService, Request, Response, Upgrade, relay};
use crate::streaming::tunnel::Calls;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::header::{HOST, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

/// The kinds of addresses that a kubelet is reached by, the best first (upstream
/// `--kubelet-preferred-address-types`, without names, which take a DNS that knows them).
const ADDRESS_TYPES: &[&str] = &["InternalIP", "ExternalIP"];

/// Where a kubelet listens that does not say.
const KUBELET_PORT: u16 = 10250;

/// A kubelet behind a tunnel.
const KUBELET: &str = "kubelet";

/// The tunnels that nodes keep open, each with a number of its own.
#[derive(Debug, Default)]
struct Tunnels {
    /// The newest last: a node that opens another has not missed that the one before is of no use.
    open: BTreeMap<String, Vec<(u64, Calls)>>,
    opened: u64,
}

impl Tunnels {
    fn add(&mut self, node: &str, calls: Calls) -> u64 {
        self.opened += 1;
        self.open.entry(node.to_owned()).or_default().push((self.opened, calls));
        self.opened
    }

    fn remove(&mut self, node: &str, number: u64) {
        if let Some(open) = self.open.get_mut(node) {
            open.retain(|(other, _)| *other != number);
            if open.is_empty() {
                self.open.remove(node);
            }
        }
    }
}

/// Kubelets, known to the API server before any of them has started.
#[derive(Debug)]
pub(super) struct Nodes {
    tunnels: Arc<Mutex<Tunnels>>,
    /// What is said through tunnels, each to its end.
    conversations: TaskTracker,
    /// The node of this process.
    name: String,
    kubelet: OnceLock<Arc<dyn HttpService>>,
    /// Says where other nodes are.
    client: OnceLock<Client>,
    certificates: Arc<Certificates>,
}

impl Nodes {
    pub(super) fn new(name: String, certificates: Arc<Certificates>) -> Self {
        Self {
            tunnels: Arc::default(),
            conversations: TaskTracker::new(),
            name,
            kubelet: OnceLock::new(),
            client: OnceLock::new(),
            certificates,
        }
    }

    /// The kubelet of this process.
    pub(super) fn set_kubelet(&self, kubelet: Arc<dyn HttpService>) {
        // There is one agent in a server, and it starts once.
        self.kubelet.set(kubelet).ok();
    }

    /// Who says where other nodes are.
    pub(super) fn set_client(&self, client: Client) {
        // As with the kubelet.
        self.client.set(client).ok();
    }
}

impl Nodes {
    fn tunnel(&self, node: &str) -> Option<Calls> {
        let tunnels = self.tunnels.lock().expect("no panics under this lock");
        let open = tunnels.open.get(node)?;
        open.iter().rev().map(|(_, calls)| calls).find(|calls| !calls.is_closed()).cloned()
    }
}

impl NodeService for Nodes {
    fn take_tunnel(&self, node: &str) -> Option<Response> {
        let (tunnels, node) = (Arc::clone(&self.tunnels), node.to_owned());
        let protocol = HeaderValue::from_static(TUNNEL_PROTOCOL);
        Some(Upgrade::answer(protocol, |stream| async move {
            match Calls::begin(stream).await {
                Ok((calls, carried)) => {
                    let lock = || tunnels.lock().expect("no panics under this lock");
                    let number = lock().add(&node, calls);
                    info!(node, "the node can be asked through its tunnel");
                    carried.await;
                    lock().remove(&node, number);
                    info!(node, "the node's tunnel has ended");
                }
                Err(error) => debug!(error = chain(&error), node, "a tunnel did not begin"),
            }
        }))
    }

    fn connect(
        &self,
        node: &str,
        pod: SocketAddr,
    ) -> Option<BoxFuture<'static, io::Result<ByteStream>>> {
        let calls = self.tunnel(node).filter(|_| node != self.name)?;
        Some(Box::pin(async move { calls.open(&pod.to_string()).await }))
    }

    fn call(&self, node: &str, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let is_local = node == self.name;
        if let Some(kubelet) = self.kubelet.get().filter(|_| is_local) {
            return kubelet.call(request);
        }
        let tunnel = self.tunnel(node);
        if let Some(calls) = tunnel.filter(|_| !is_local) {
            return Box::pin(ask(calls, request, self.conversations.clone()));
        }
        let (client, certificates) = (self.client.get().cloned(), Arc::clone(&self.certificates));
        let node = node.to_owned();
        Box::pin(async move {
            let Some(client) = client.filter(|_| !is_local) else {
                return Err(io::Error::other(format!(
                    "the kubelet of node {node} has not started"
                )));
            };
            let found: Node =
                client.get(&ObjectKey::cluster(&*node)).await.map_err(io::Error::other)?;
            let server = kubelet_of(found.status.as_ref())
                .ok_or_else(|| io::Error::other(format!("node {node} has no address")))?;
            let kubelet = certificates.kubelet_at(&server).await.map_err(io::Error::other)?;
            kubelet.call(request).await
        })
    }
}

/// One request to a kubelet, through its tunnel. HTTP/1: the connection may become something else.
async fn ask(calls: Calls, request: Request, carriers: TaskTracker) -> io::Result<Response> {
    let stream = calls.open(KUBELET).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    // It ends with the answer's body, or with whoever reads it.
    carriers.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(error = chain(&error), "what was asked of a kubelet broke off");
        }
    });
    let (mut head, body) = request.into_parts();
    head.headers.insert(HOST, HeaderValue::from_static(KUBELET));
    let request = http::Request::from_parts(head, Full::new(body));
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(relay(response));
    }
    Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}

/// The address of a node's kubelet. Pure.
fn kubelet_of(status: Option<&NodeStatus>) -> Option<String> {
    let status = status?;
    let addresses = status.addresses.as_deref().unwrap_or_default();
    let of_type = |kind: &str| addresses.iter().find(|address| address.type_ == kind);
    let host = &ADDRESS_TYPES.iter().find_map(|kind| of_type(kind))?.address;
    let endpoint = status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref();
    let port = endpoint.and_then(|endpoint| u16::try_from(endpoint.port).ok());
    let port = port.filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
    Some(match host.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn kubelets_are_where_their_nodes_say() {
        let check = |addresses: Value, port: u16, expected: Option<&str>| {
            let status = json!({
                "addresses": addresses,
                "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
            });
            let status: NodeStatus = serde_json::from_value(status).unwrap();
            assert_eq!(kubelet_of(Some(&status)).as_deref(), expected, "{addresses}");
        };
        let address = |kind: &str, address: &str| json!({ "type": kind, "address": address });
        let both = json!([address("ExternalIP", "192.0.2.1"), address("InternalIP", "10.0.0.1")]);
        check(both, 10250, Some("https://10.0.0.1:10250"));
        check(json!([address("InternalIP", "fd00::1")]), 0, Some("https://[fd00::1]:10250"));
        check(json!([address("Hostname", "one")]), 10250, None);
        assert_eq!(kubelet_of(None), None);
    }
}
