//! The way from the API server to kubelets: a call in this process for its own, HTTPS for others.

use super::certificates::Certificates;
use crate::api::ObjectKey;
use crate::apiserver::NodeService;
use crate::client::Client;
use crate::stdx::http::{HttpService, Request, Response};
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// The kinds of addresses that a kubelet is reached by, the best first (upstream
/// `--kubelet-preferred-address-types`, without names, which take a DNS that knows them).
const ADDRESS_TYPES: &[&str] = &["InternalIP", "ExternalIP"];

/// Where a kubelet listens that does not say.
const KUBELET_PORT: u16 = 10250;

/// Kubelets, known to the API server before any of them has started.
#[derive(Debug)]
pub(super) struct Nodes {
    /// The node of this process.
    name: String,
    kubelet: OnceLock<Arc<dyn HttpService>>,
    /// Says where other nodes are.
    client: OnceLock<Client>,
    certificates: Arc<Certificates>,
}

impl Nodes {
    pub(super) fn new(name: String, certificates: Arc<Certificates>) -> Self {
        Self { name, kubelet: OnceLock::new(), client: OnceLock::new(), certificates }
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

impl NodeService for Nodes {
    fn call(&self, node: &str, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let is_local = node == self.name;
        if let Some(kubelet) = self.kubelet.get().filter(|_| is_local) {
            return kubelet.call(request);
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
