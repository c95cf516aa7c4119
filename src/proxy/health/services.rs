//! Health-check node ports: load balancers outside ask there whether this node has endpoints of a
//! Service whose external traffic is for endpoints on its node only.
//!
//! Start at [`HealthChecks::set`]. Upstream: pkg/proxy/healthcheck/service_health.go, v1.35.

use super::super::ledger::Owner;
use super::super::model::HealthCheck;
use super::Progress;
use super::listen::{accept, bind, verdict};
use crate::api::ObjectKey;
use crate::stdx::http::Response;
use crate::stdx::{Backoff, chain, monotonic};
use http::header::HeaderName;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tracing::debug;

/// Says how many endpoints there are, so that load balancers can weigh nodes.
const WEIGHT_HEADER: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// A port that somebody else has is tried again after this long.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// All health-check node ports of this node.
#[derive(Debug)]
pub(in super::super) struct HealthChecks {
    open: BTreeMap<Owner, Open>,
    /// Ports that could not be had.
    waiting: BTreeMap<Owner, Waiting>,
    progress: Arc<Progress>,
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
    /// None yet. Where the rules are behind, all of them say that this node is not to be used.
    pub(in super::super) fn new(progress: Arc<Progress>) -> Self {
        Self { open: BTreeMap::new(), waiting: BTreeMap::new(), progress }
    }

    /// Makes this the health check of a Service.
    ///
    /// # Errors
    /// Where the port cannot be had; it is tried again by [`HealthChecks::try_again`].
    pub(in super::super) fn set(
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
    pub(in super::super) fn try_again(&mut self, now: Instant) {
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

    pub(in super::super) fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.due).min()
    }

    fn listen(&self, service: &Owner, check: HealthCheck) -> io::Result<Open> {
        let listener = bind(check.node_port)?;
        let local_endpoints = Arc::new(AtomicUsize::new(check.local_endpoints));
        let (owner, endpoints) = (Arc::clone(service), Arc::clone(&local_endpoints));
        let progress = Arc::clone(&self.progress);
        let answer = move |_path: &str| {
            let is_healthy = progress.is_healthy(monotonic());
            answer(&owner, endpoints.load(Ordering::Relaxed), is_healthy)
        };
        let mut listening = JoinSet::new();
        listening.spawn(accept(listener, Arc::new(answer)));
        Ok(Open { node_port: check.node_port, local_endpoints, _listening: listening })
    }
}

fn answer(service: &ObjectKey, local_endpoints: usize, is_healthy: bool) -> Response {
    let body = json!({
        "service": {
            "namespace": service.namespace.as_deref().unwrap_or_default(),
            "name": service.name,
        },
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": is_healthy,
    });
    let mut response = verdict(local_endpoints > 0 && is_healthy, &body);
    response.headers_mut().insert(WEIGHT_HEADER, local_endpoints.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::Clock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

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
            name.eq_ignore_ascii_case(WEIGHT_HEADER.as_str()).then(|| value.to_owned())
        });
        Ok((status, weight.unwrap(), body.to_owned()))
    }

    #[tokio::test]
    async fn load_balancers_are_told_how_many() {
        let progress = Arc::new(Progress::default());
        let mut checks = HealthChecks::new(Arc::clone(&progress));
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
        let now = Clock::system().now();
        let long_ago = monotonic().checked_sub(Duration::from_secs(61)).unwrap();
        progress.queued(long_ago, now);
        assert_eq!(ask(node_port).await.unwrap().0, "503");
        progress.applied(now, None);
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
        let mut checks = HealthChecks::new(Arc::default());
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
