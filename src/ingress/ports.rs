//! The ports that clients come to, and the wait for those that somebody else has.

use super::listener;
use super::proxy::Proxy;
use crate::client::{EventRecorder, EventType};
use crate::stdx::chain;
use crate::sys::socket_watch::SocketWatch;
use crate::sys::tcp;
use k8s_openapi::api::core::v1::ObjectReference;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// So many connections may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4_096;

/// A port, and what is spoken there.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) number: u16,
    /// The flag that chooses another.
    pub(super) flag: &'static str,
    pub(super) tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Port").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Who is told that a port is taken.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) events: EventRecorder,
    pub(super) node: ObjectReference,
}

/// Serves at all of these ports until the proxy closes. Those that somebody else has are taken when
/// the kernel says that they are free.
pub(super) async fn serve(proxy: Arc<Proxy>, bind: IpAddr, ports: Vec<Port>, told: Told) {
    let mut accepting = JoinSet::new();
    let mut missing = ports;
    let mut watch = None;
    let mut is_first = true;
    while !missing.is_empty() {
        missing.retain(|port| match tcp::listen(SocketAddr::new(bind, port.number), BACKLOG) {
            Ok(listener) => {
                if let Ok(address) = listener.local_addr() {
                    let is_https = port.tls.is_some();
                    proxy.bound.send_modify(|bound| bound.extend([(is_https, address)]));
                }
                if watch.is_some() {
                    info!("port {} is free: the ingress has it now", port.number);
                }
                accepting.spawn(listener::accept(Arc::clone(&proxy), listener, port.tls.clone()));
                false
            }
            Err(error) => {
                if is_first {
                    tell(&told, bind, port, &error);
                }
                true
            }
        });
        is_first = false;
        let Some(watch) = &watch else {
            match SocketWatch::open() {
                // Whoever has gone meanwhile is not told.
                Ok(opened) => watch = Some(opened),
                Err(error) => {
                    let error = chain(&error);
                    warn!(error, "ports that are taken are not tried again");
                    break;
                }
            }
            continue;
        };
        let numbers: Vec<u16> = missing.iter().map(|port| port.number).collect();
        match proxy.closing.run_until_cancelled(watch.gone(&numbers)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                warn!(error = chain(&error), "ports that are taken are not tried again");
                break;
            }
            None => break,
        }
    }
    drop(watch);
    proxy.closing.cancelled().await;
    while accepting.join_next().await.is_some() {}
}

fn tell(told: &Told, bind: IpAddr, port: &Port, error: &io::Error) {
    let (number, flag) = (port.number, port.flag);
    let error = chain(error);
    warn!(
        error,
        "the ingress cannot listen on {}; `ss -ltnp sport = :{number}` says who has the port, and \
         --{flag} chooses another (0: none); it is tried again when the port is free",
        SocketAddr::new(bind, number)
    );
    let message = format!("The ingress cannot listen on port {number}: {error}");
    told.events.record(told.node.clone(), EventType::Warning, "IngressPortTaken", message);
}
