//! The certificates that this server shows and hands out, kept good while it runs.
//!
//! Start at [`Certificates::open`]. Whatever is due is made anew at the start and, by
//! [`Certificates::keep`], while the server runs: connections that are open keep the certificate
//! they began with.

use super::config::ServerConfig;
use crate::controllers::certificates::Signers;
use crate::pki::{Leaf, Pki, ServerTls, Subject, kubeconfig};
use crate::stdx::{Backoff, Clock, blocking, write_atomically};
use anyhow::Context as _;
use jiff::Timestamp;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Certificates are looked at this often at least: a clock that is set, or a machine that sleeps,
/// moves the time of day without moving the one that is waited by.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// And not more often than this.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(60);

/// Between attempts to make what is due, for example while the disk is full.
const RETRY: Backoff =
    Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(60 * 60) };

/// See the module.
#[derive(Debug)]
pub(super) struct Certificates {
    config: ServerConfig,
    clock: Clock,
    pki: Pki,
    tls: ServerTls,
    kubelet_tls: ServerTls,
    first_due: Timestamp,
}

impl Certificates {
    /// Reads what there is, and makes what is missing or due. The administrator gets a kubeconfig
    /// by [`Certificates::hand_out`].
    pub(super) fn open(
        config: &ServerConfig,
        directory: &Path,
        clock: &Clock,
    ) -> anyhow::Result<Arc<Self>> {
        let pki = Pki::open(directory, clock.now())?;
        let serving = pki.serving(&serving_names(config), clock.now())?;
        let tls = ServerTls::new(&serving, pki.client_ca())?;
        let kubelet = pki.serving_kubelet(&kubelet_names(config), clock.now())?;
        let kubelet_tls = ServerTls::new(&kubelet, pki.client_ca())?;
        let first_due = serving.due().min(kubelet.due());
        let (config, clock) = (config.clone(), clock.clone());
        Ok(Arc::new(Self { config, clock, pki, tls, kubelet_tls, first_due }))
    }

    /// What the API server is reached with.
    pub(super) fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// What the kubelet is reached with.
    pub(super) fn kubelet_tls(&self) -> &ServerTls {
        &self.kubelet_tls
    }

    /// What the API server shows kubelets.
    pub(super) fn kubelet_client(&self) -> anyhow::Result<Leaf> {
        let subject = Subject { user: "system:kube-apiserver", groups: &["system:masters"] };
        Ok(self.pki.client("client-kube-apiserver-kubelet", subject, self.clock.now())?)
    }

    /// Those who sign certificates that somebody asks for.
    pub(super) fn signers(&self) -> Signers {
        Signers { client: self.pki.client_issuer(), server: self.pki.server_issuer() }
    }

    /// Whom clients of the API server trust, as PEM.
    pub(super) fn server_ca(&self) -> &str {
        self.pki.server_ca()
    }

    /// Writes the administrator's kubeconfig. Returns when its certificate is due.
    pub(super) fn hand_out(&self) -> anyhow::Result<Timestamp> {
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let admin = self.pki.client("client-admin", subject, self.clock.now())?;
        let config = &self.config;
        let host = match config.bind_address {
            address if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            address => address,
        };
        let server = format!("https://{}", SocketAddr::new(host, config.https_port));
        let text = kubeconfig(&server, self.pki.server_ca(), &admin);
        let path = &config.kubeconfig;
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)
            .and_then(|()| write_atomically(path, text.as_bytes(), config.kubeconfig_mode))
            .with_context(|| {
                let path = path.display();
                format!("cannot write {path}; --write-kubeconfig chooses another file")
            })?;
        Ok(admin.due())
    }

    /// Makes anew what is due, in time, until `shutdown`.
    pub(super) async fn keep(self: Arc<Self>, admin_due: Timestamp, shutdown: CancellationToken) {
        let mut due = self.first_due.min(admin_due);
        let mut failures = 0;
        loop {
            let now = self.clock.now();
            if due <= now {
                let own = Arc::clone(&self);
                match blocking(move || own.renew()).await {
                    Ok(next) => (due, failures) = (next, 0),
                    Err(error) => {
                        failures += 1;
                        warn!(error = format!("{error:#}"), "certificates could not be renewed");
                    }
                }
            }
            let wait = wait(now, due).max(RETRY.delay(failures));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn renew(&self) -> anyhow::Result<Timestamp> {
        let serving = self.pki.serving(&serving_names(&self.config), self.clock.now())?;
        self.tls.replace(&serving)?;
        let kubelet = self.pki.serving_kubelet(&kubelet_names(&self.config), self.clock.now())?;
        self.kubelet_tls.replace(&kubelet)?;
        let due = serving.due().min(kubelet.due()).min(self.hand_out()?);
        info!(%due, "certificates are renewed; the next time is due");
        Ok(due)
    }
}

/// How long to wait for a moment. Pure.
fn wait(now: Timestamp, due: Timestamp) -> Duration {
    let left = Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO);
    left.clamp(LOOK_INTERVAL_MIN, LOOK_INTERVAL_MAX)
}

/// Every name and address that the kubelet is reached by.
fn kubelet_names(config: &ServerConfig) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), config.node_name.clone()];
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let addresses = loopback.into_iter().chain(config.node_ips.iter().copied());
    names.extend(addresses.map(|address| address.to_string()));
    names
}

/// Every name and address that clients may use for the API server.
fn serving_names(config: &ServerConfig) -> Vec<String> {
    let domain = &config.cluster_domain;
    let mut names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .map(str::to_owned)
        .to_vec();
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.push(config.node_name.clone());
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let service = config.service_cidrs.iter().filter_map(|range| range.hosts().next());
    let addresses = loopback
        .into_iter()
        .chain(service)
        .chain(config.node_ips.iter().copied())
        .chain([config.advertise_address]);
    names.extend(addresses.map(|address| address.to_string()));
    names.extend(config.tls_sans.iter().cloned());
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_looked_at_once_a_day_and_when_they_are_due() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (seconds, expected) in
            [(-10, 60), (0, 60), (59, 60), (3_600, 3_600), (86_401, 86_400), (1 << 30, 86_400)]
        {
            let due = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
            assert_eq!(wait(now, due).as_secs(), expected, "{seconds}");
        }
    }
}
