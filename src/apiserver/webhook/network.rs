//! The way to a webhook: to a host by its name, or to an endpoint of a Service, where need be through
//! the node that its pod is on.

use super::super::keys;
use super::super::server::NodeService;
use super::super::verbs::{endpoint_slices, node_of};
use super::endpoint::{Candidate, Found, resolve};
use super::hook::{ServiceName, Way};
use crate::api::ObjectKey;
use crate::registry::{self, Kind};
use crate::stdx::http::ByteStream;
use crate::stdx::{Entropy, chain};
use crate::storage::Store;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Service};
use serde::de::DeserializeOwned;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower_service::Service as Connector;

/// So many endpoints are tried, one after another, where those before do not take a connection.
const ENDPOINTS_TRIED_MAX: usize = 3;

/// The port of a URL that has none.
const HTTPS_PORT: u16 = 443;

/// What has to be known to find webhooks.
#[derive(Clone, Debug)]
pub(in super::super) struct Network {
    pub(in super::super) store: Arc<dyn Store>,
    pub(in super::super) nodes: Arc<dyn NodeService>,
    pub(in super::super) entropy: Entropy,
}

/// Connects to one webhook.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) network: Arc<Network>,
    pub(super) way: Way,
}

impl Connector<Uri> for Dial {
    type Response = Wire;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Wire>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let stream = match &own.way {
                Way::Url(_) => {
                    let host = address.host().unwrap_or_default();
                    let port = address.port_u16().unwrap_or(HTTPS_PORT);
                    to_host(host, port).await?
                }
                Way::Service { name, .. } => own.network.to_service(name).await?,
            };
            Ok(Wire(TokioIo::new(stream)))
        })
    }
}

impl Network {
    async fn to_service(&self, service: &ServiceName) -> io::Result<ByteStream> {
        let ServiceName { namespace, name, port } = service;
        let key = ObjectKey::namespaced(namespace, name.as_str());
        let found: Option<Service> = self.find("services", &key).await?;
        let found = found.ok_or_else(|| io::Error::other(format!("service {name:?} not found")))?;
        let slices = endpoint_slices(&*self.store, namespace, name).await;
        let slices = slices.map_err(|status| io::Error::other(status.message))?;
        let lot = self.entropy.draw();
        let candidates = match resolve(&found, &slices, *port, lot).map_err(io::Error::other)? {
            Found::Host(host) => return to_host(&host, *port).await,
            Found::Candidates(candidates) => candidates,
        };
        let mut refused = None;
        for candidate in candidates.into_iter().take(ENDPOINTS_TRIED_MAX) {
            match self.to_candidate(namespace, &candidate).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| io::Error::other("there is nobody to ask")))
    }

    async fn to_candidate(&self, namespace: &str, candidate: &Candidate) -> io::Result<ByteStream> {
        if let Some(pod) = &candidate.pod {
            let key = ObjectKey::namespaced(namespace, pod.as_str());
            let pod: Option<Pod> = self.find("pods", &key).await?;
            let node = pod.as_ref().filter(|pod| has_address(pod, candidate.address));
            let connecting =
                node.and_then(node_of).and_then(|node| self.nodes.connect(node, candidate.address));
            if let Some(connecting) = connecting {
                return connecting.await.map_err(|error| dialled(&candidate.address, &error));
            }
        }
        let stream = TcpStream::connect(candidate.address).await;
        prepared(stream.map_err(|error| dialled(&candidate.address, &error))?)
    }

    /// An object of the core group as it is stored.
    async fn find<T: DeserializeOwned>(
        &self,
        plural: &str,
        key: &ObjectKey,
    ) -> io::Result<Option<T>> {
        let kind: &Kind = registry::find("", "v1", plural).expect("a kind of the table");
        let read = self.store.get(&keys::of(kind, key)).await.map_err(io::Error::other)?;
        let entry = read.entry.map(|entry| serde_json::from_slice(&entry.value));
        entry.transpose().map_err(io::Error::other)
    }
}

fn has_address(pod: &Pod, address: SocketAddr) -> bool {
    let Some(status) = &pod.status else { return false };
    let all = status.pod_ips.iter().flatten().map(|it| it.ip.as_str());
    let mut all = all.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse().ok());
    all.any(|own: IpAddr| own == address.ip())
}

async fn to_host(host: &str, port: u16) -> io::Result<ByteStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await;
    prepared(stream.map_err(|error| dialled(&format_args!("{host}:{port}"), &error))?)
}

fn prepared(stream: TcpStream) -> io::Result<ByteStream> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// As Go says that nobody takes a connection.
fn dialled(address: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => chain(error),
    };
    io::Error::new(error.kind(), format!("dial tcp {address}: {why}"))
}

/// A connection as the pool has it.
pub(super) struct Wire(TokioIo<ByteStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Wire")
    }
}
