//! Health-check node ports: load balancers outside ask there whether this node has endpoints of a
//! Service whose external traffic is for endpoints on its node only.
//!
//! Start at [`HealthChecks::set`]. Upstream: pkg/proxy/healthcheck/service_health.go, v1.35.

use super::ledger::Owner;
use super::model::HealthCheck;
use crate::api::ObjectKey;
use crate::stdx::http::{Response, full};
use crate::stdx::{Backoff, chain};
use http::StatusCode;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// Says how many endpoints there are, so that load balancers can weigh nodes.
const WEIGHT_HEADER: &str = "X-Load-Balancing-Endpoint-Weight";

/// One port takes no more connections than this at once; the others wait in the kernel.
const CONNECTIONS_MAX: usize = 64;

/// A connection on which nothing is asked for this long is closed.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that wait to be accepted.
const ACCEPT_BACKLOG: i32 = 128;

/// After a failed accept nothing is accepted for this long, so that the failure does not become a busy
/// loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that somebody else has is tried again after this long.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// All health-check node ports of this node.
#[derive(Debug, Default)]
pub(super) struct HealthChecks {
    open: BTreeMap<Owner, Open>,
    /// Ports that could not be had.
    waiting: BTreeMap<Owner, Waiting>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The rules are not as they should be.
    is_broken: AtomicBool,
}

#[derive(Debug)]
struct Open {
    node_port: u16,
    local_endpoints: Arc<AtomicUsize>,
    /// Ends with it.
    _listening: JoinSet<()>,
}

#[derive(Debug)]
struct Waiting {
    check: HealthCheck,
    failures: u32,
    due: Instant,
}

impl HealthChecks {
    /// Makes this the health check of a Service.
    ///
    /// # Errors
    /// Where the port cannot be had; it is tried again by [`HealthChecks::try_again`].
    pub(super) fn set(
        &mut self,
        service: &Owner,
        check: Option<HealthCheck>,
        now: Instant,
    ) -> io::Result<()> {
        let failures = self.waiting.remove(service).map_or(0, |waiting| waiting.failures);
        let Some(check) = check else {
            self.open.remove(service);
            return Ok(());
        };
        if let Some(open) = self.open.get(service)
            && open.node_port == check.node_port
        {
            open.local_endpoints.store(check.local_endpoints, Ordering::Relaxed);
            return Ok(());
        }
        self.open.remove(service);
        match self.listen(service, check) {
            Ok(open) => {
                self.open.insert(Arc::clone(service), open);
                Ok(())
            }
            Err(error) => {
                let failures = failures + 1;
                let due = now + BACKOFF.delay(failures);
                self.waiting.insert(Arc::clone(service), Waiting { check, failures, due });
                Err(error)
            }
        }
    }

    /// Tries the ports that could not be had, when their time has come.
    pub(super) fn try_again(&mut self, now: Instant) {
        let is_due = |(service, waiting): (&Owner, &Waiting)| {
            (waiting.due <= now).then(|| (Arc::clone(service), waiting.check))
        };
        let due: Vec<_> = self.waiting.iter().filter_map(is_due).collect();
        for (service, check) in due {
            if let Err(error) = self.set(&service, Some(check), now) {
                debug!(%service, error = chain(&error), "a health-check port is still taken");
            }
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }

    /// Whether the rules of this node are as they should be: if not, load balancers are told so.
    pub(super) fn set_broken(&self, is_broken: bool) {
        self.state.is_broken.store(is_broken, Ordering::Relaxed);
    }

    fn listen(&self, service: &Owner, check: HealthCheck) -> io::Result<Open> {
        let listener = bind(check.node_port)?;
        let local_endpoints = Arc::new(AtomicUsize::new(check.local_endpoints));
        let asked = Arc::new(Asked {
            service: Arc::clone(service),
            local_endpoints: Arc::clone(&local_endpoints),
            state: Arc::clone(&self.state),
        });
        let mut listening = JoinSet::new();
        listening.spawn(accept(listener, asked));
        Ok(Open { node_port: check.node_port, local_endpoints, _listening: listening })
    }
}

/// On every address of the node, of both families where it has both.
fn bind(port: u16) -> io::Result<TcpListener> {
    let every = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(ACCEPT_BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match every(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        // A kernel without IPv6.
        Err(_) => every(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        listener => listener,
    }
}

/// What a port answers about.
#[derive(Debug)]
struct Asked {
    service: Owner,
    local_endpoints: Arc<AtomicUsize>,
    state: Arc<State>,
}

async fn accept(listener: TcpListener, asked: Arc<Asked>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(respond(stream, Arc::clone(&asked)));
                }
                Err(error) => {
                    warn!(error = chain(&error), "a health check was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn respond(stream: TcpStream, asked: Arc<Asked>) {
    let service = service_fn(move |_request| {
        let local_endpoints = asked.local_endpoints.load(Ordering::Relaxed);
        let is_healthy = !asked.state.is_broken.load(Ordering::Relaxed);
        let response = answer(&asked.service, local_endpoints, is_healthy);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(error = chain(&error), "a health check broke off");
    }
}

fn answer(service: &ObjectKey, local_endpoints: usize, is_healthy: bool) -> Response {
    let is_good = local_endpoints > 0 && is_healthy;
    let body = json!({
        "service": {
            "namespace": service.namespace.as_deref().unwrap_or_default(),
            "name": service.name,
        },
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": is_healthy,
    });
    http::Response::builder()
        .status(if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE })
        .header(CONTENT_TYPE, "application/json")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(WEIGHT_HEADER, local_endpoints)
        .body(full(body.to_string()))
        .expect("all of it is valid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::monotonic;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn service(name: &str) -> Owner {
        Arc::new(ObjectKey::namespaced("default", name))
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    /// Status, weight and body.
    async fn ask(port: u16) -> io::Result<(String, String, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /any HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        let weight = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(WEIGHT_HEADER).then(|| value.to_owned())
        });
        Ok((status, weight.unwrap(), body.to_owned()))
    }

    #[tokio::test]
    async fn load_balancers_are_told_how_many() {
        let mut checks = HealthChecks::default();
        let (web, node_port) = (service("web"), free_port());
        let of = |local_endpoints| Some(HealthCheck { node_port, local_endpoints });
        checks.set(&web, of(2), monotonic()).unwrap();
        let (status, weight, body) = ask(node_port).await.unwrap();
        assert_eq!((status.as_str(), weight.as_str()), ("200", "2"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body).unwrap(),
            json!({
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": 2, "serviceProxyHealthy": true,
            })
        );
        checks.set_broken(true);
        assert_eq!(ask(node_port).await.unwrap().0, "503");
        checks.set_broken(false);
        checks.set(&web, of(0), monotonic()).unwrap();
        let (status, weight, _) = ask(node_port).await.unwrap();
        assert_eq!((status.as_str(), weight.as_str()), ("503", "0"));
        checks.set(&web, None, monotonic()).unwrap();
        tokio::task::yield_now().await;
        assert!(ask(node_port).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_tried_again() {
        let taken = std::net::TcpListener::bind("[::]:0").unwrap();
        let node_port = taken.local_addr().unwrap().port();
        let mut checks = HealthChecks::default();
        let check = Some(HealthCheck { node_port, local_endpoints: 1 });
        let now = monotonic();
        let error = checks.set(&service("web"), check, now).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let due = checks.next_due().unwrap();
        assert_eq!(due, now + Duration::from_secs(1));
        checks.try_again(due);
        assert_eq!(checks.next_due().unwrap(), due + Duration::from_secs(2));
        drop(taken);
        checks.try_again(due + Duration::from_secs(2));
        assert_eq!(checks.next_due(), None);
        assert_eq!(ask(node_port).await.unwrap().0, "200");
    }
}
