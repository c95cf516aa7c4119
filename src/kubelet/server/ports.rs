//! Connections to ports of pods, from inside their networks.

use super::{Query, Refusal};
use crate::kubelet::worker::Shared;
use crate::runtime::SandboxState;
use crate::stdx::http::Response;
use crate::stdx::{blocking, chain};
use crate::streaming::forward::{self, Dial, parse_ports};
use crate::sys::namespace::run_in_network;
use http::{HeaderMap, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

/// Where programs listen that mean to be reached from the pod alone, too: tried in this order
/// (containerd, CRI `portForward`).
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

pub(super) async fn forward(
    shared: &Shared,
    headers: &HeaderMap,
    pod: &Pod,
    query: &Query,
) -> Result<Response, Refusal> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let found = shared.runtime.pod(uid).await;
    let found = found.map_err(|error| Refusal::internal(chain(&error)))?;
    let ready = found.sandboxes.into_iter().find(|it| it.state == SandboxState::Ready);
    let Some(sandbox) = ready else {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("pod {name:?} is not running")));
    };
    let network = sandbox.network_namespace;
    let dial: Dial = Arc::new(move |port| {
        let network = network.clone();
        Box::pin(async move { dial(network, port).await })
    });
    let answer = forward::answer(headers, parse_ports(query.all("port")), dial);
    Ok(answer.unwrap_or_else(|refused| refused.answer()))
}

/// Connects to a port of the pod's own addresses, whichever family its program listens on.
async fn dial(network: Option<PathBuf>, port: u16) -> Result<TcpStream, String> {
    let mut reasons = Vec::new();
    for address in LOOPBACK {
        match connect(network.clone(), SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Err(format!("failed to connect to localhost:{port} inside the pod: {}", reasons.join("; ")))
}

/// A socket belongs to the network that it is made in, wherever it is used afterwards.
async fn connect(network: Option<PathBuf>, address: SocketAddr) -> io::Result<TcpStream> {
    let make = move || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket)
    };
    let socket = match network {
        None => make()?,
        Some(network) => blocking(move || run_in_network(&network, make)).await??,
    };
    TcpSocket::from_std_stream(socket.into()).connect(address).await
}
