//! The certificates that this server shows and hands out, kept good while it runs.
//!
//! Start at [`Certificates::open`]. Whatever is due is made anew at the start and, by
//! [`Certificates::keep`], while the server runs: when its time has come, and when somebody has
//! taken a file away or put another one there. Connections that are open keep the certificate they
//! began with.

use super::config::ServerConfig;
use super::tls_directory::TlsDirectory;
use crate::api::ranges::address_at;
use crate::client::remote::Remote;
use crate::client::{Credentials, Kubeconfig};
use crate::controllers::certificates::Signers;
use crate::pki::{Leaf, Pki, ServerTls, Subject, kubeconfig};
use crate::stdx::{Backoff, Clock, blocking, write_atomically};
use anyhow::Context as _;
use jiff::Timestamp;
use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Certificates are not looked at more often than this.
const LOOK_INTERVAL_MIN: Duration = Duration::from_secs(60);

/// Between attempts to make what is due, for example while the disk is full.
const RETRY: Backoff =
    Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(60 * 60) };

/// Where kubelets are is said with each request.
const NOWHERE: &str = "https://localhost";

/// Who changes one file often changes more: they are looked at when this has passed.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Certificates {
    terms: Terms,
    clock: Clock,
    directory: PathBuf,
    pki: Pki,
    tls: ServerTls,
    kubelet_tls: ServerTls,
    /// Made when a kubelet elsewhere is first asked something.
    kubelets: Mutex<Option<Kubelets>>,
    first_due: Timestamp,
}

/// For whom certificates are.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Every name and address that clients may use for the API server.
    serving_names: Vec<String>,
    /// Every name and address that the kubelet is reached by.
    kubelet_names: Vec<String>,
    /// Where the administrator reaches the API server.
    server: String,
    kubeconfig: PathBuf,
    kubeconfig_mode: u32,
}

/// The way to kubelets of other nodes.
#[derive(Clone, Debug)]
struct Kubelets {
    leaf: Leaf,
    way: Remote,
}

impl Certificates {
    /// Reads what there is, and makes what is missing or due. The administrator gets a kubeconfig
    /// by [`Certificates::hand_out`].
    pub(super) fn open(terms: Terms, directory: &Path, clock: &Clock) -> anyhow::Result<Arc<Self>> {
        let pki = Pki::open(directory, clock.now())?;
        let serving = pki.serving(&terms.serving_names, clock.now())?;
        let tls = ServerTls::new(&serving, pki.client_ca(), clock.clone())?;
        let kubelet = pki.serving_kubelet(&terms.kubelet_names, clock.now())?;
        let kubelet_tls = ServerTls::new(&kubelet, pki.client_ca(), clock.clone())?;
        Ok(Arc::new(Self {
            terms,
            clock: clock.clone(),
            directory: directory.to_owned(),
            pki,
            tls,
            kubelet_tls,
            kubelets: Mutex::default(),
            first_due: serving.due().min(kubelet.due()),
        }))
    }

    /// What the API server is reached with.
    pub(super) fn tls(&self) -> &ServerTls {
        &self.tls
    }

    /// What the kubelet is reached with.
    pub(super) fn kubelet_tls(&self) -> &ServerTls {
        &self.kubelet_tls
    }

    /// The way to the kubelet at `server`. One set of connections serves all of them, until the
    /// certificate that the API server shows them is made anew.
    pub(super) async fn kubelet_at(self: Arc<Self>, server: &str) -> anyhow::Result<Remote> {
        let known = self.known_kubelets().map(|known| known.way);
        let way = match known {
            Some(way) => way,
            None => blocking(move || self.open_kubelets()).await?.way,
        };
        Ok(way.at(server)?)
    }

    fn known_kubelets(&self) -> Option<Kubelets> {
        self.kubelets.lock().expect("no panics under this lock").clone()
    }

    /// Reads the certificate that kubelets are shown; another one begins new connections.
    fn open_kubelets(&self) -> anyhow::Result<Kubelets> {
        let subject = Subject { user: "system:kube-apiserver", groups: &["system:masters"] };
        let leaf = self.pki.client("client-kube-apiserver-kubelet", subject, self.clock.now())?;
        let known = self.known_kubelets();
        if let Some(known) = known.filter(|known| known.leaf.certificate == leaf.certificate) {
            return Ok(known);
        }
        let (chain, key) = (leaf.certificate.clone().into(), leaf.key.clone().into());
        let kubelets = Kubelets {
            leaf,
            way: Remote::upgradable(&Kubeconfig {
                server: NOWHERE.to_owned(),
                certificate_authority: self.server_ca().into(),
                credentials: Credentials::Certificate { chain, key },
            })?,
        };
        *self.kubelets.lock().expect("no panics under this lock") = Some(kubelets.clone());
        Ok(kubelets)
    }

    /// Those who sign certificates that somebody asks for.
    pub(super) fn signers(&self) -> Signers {
        Signers { client: self.pki.client_issuer(), server: self.pki.server_issuer() }
    }

    /// Whom clients of the API server trust, as PEM.
    pub(super) fn server_ca(&self) -> &str {
        self.pki.server_ca()
    }

    /// Whose client certificates are believed, as PEM.
    pub(super) fn client_ca(&self) -> &str {
        self.pki.client_ca()
    }

    /// Writes the administrator's kubeconfig. Returns when its certificate is due.
    pub(super) fn hand_out(&self) -> anyhow::Result<Timestamp> {
        let subject = Subject { user: "system:admin", groups: &["system:masters"] };
        let admin = self.pki.client("client-admin", subject, self.clock.now())?;
        let text = kubeconfig(&self.terms.server, self.pki.server_ca(), &admin);
        let path = &self.terms.kubeconfig;
        if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(admin.due());
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)
            .and_then(|()| write_atomically(path, text.as_bytes(), self.terms.kubeconfig_mode))
            .with_context(|| {
                let path = path.display();
                format!("cannot write {path}; --write-kubeconfig chooses another file")
            })?;
        Ok(admin.due())
    }

    /// Makes anew what is due, in time, and what somebody has thrown away, until `shutdown`.
    pub(super) async fn keep(self: Arc<Self>, admin_due: Timestamp, shutdown: CancellationToken) {
        let mut files = TlsDirectory::watch(&self.directory);
        let mut due = self.first_due.min(admin_due);
        let (mut failures, mut has_changed) = (0, false);
        loop {
            if has_changed || due <= self.clock.now() {
                let own = Arc::clone(&self);
                match blocking(move || own.renew()).await {
                    Ok(next) => (due, failures, has_changed) = (next, 0, false),
                    Err(error) => {
                        failures += 1;
                        warn!(error = format!("{error:#}"), "certificates could not be renewed");
                    }
                }
            }
            let pause = LOOK_INTERVAL_MIN.max(RETRY.delay(failures));
            let wait = async {
                tokio::time::sleep(pause).await;
                self.clock.sleep_until(due).await;
            };
            tokio::select! {
                () = wait => {}
                // An attempt that failed has changed files too: it is not repeated for that.
                () = files.changed(is_certificate), if failures == 0 => {
                    tokio::time::sleep(SETTLE_TIME).await;
                    has_changed = true;
                }
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Reads all certificates and shows them; those that are missing or due are made. Returns when
    /// the next one is due.
    fn renew(&self) -> anyhow::Result<Timestamp> {
        let serving = self.pki.serving(&self.terms.serving_names, self.clock.now())?;
        let mut is_new = self.tls.replace(&serving)?;
        let kubelet = self.pki.serving_kubelet(&self.terms.kubelet_names, self.clock.now())?;
        is_new |= self.kubelet_tls.replace(&kubelet)?;
        let mut due = serving.due().min(kubelet.due()).min(self.hand_out()?);
        if let Some(known) = self.known_kubelets() {
            let opened = self.open_kubelets()?;
            is_new |= opened.leaf.certificate != known.leaf.certificate;
            due = due.min(opened.leaf.due());
        }
        if is_new {
            info!(%due, "certificates are renewed; the next time is due");
        }
        Ok(due)
    }
}

fn is_certificate(name: &OsStr) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| ending == "crt" || ending == "key")
}

impl Terms {
    pub(super) fn of(config: &ServerConfig) -> Self {
        let host = match config.node.bind_address {
            address if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            address => address,
        };
        Self {
            serving_names: serving_names(config),
            kubelet_names: kubelet_names(config),
            server: format!("https://{}", SocketAddr::new(host, config.https_port)),
            kubeconfig: config.kubeconfig.clone(),
            kubeconfig_mode: config.kubeconfig_mode,
        }
    }
}

/// Every name and address that the kubelet is reached by.
fn kubelet_names(config: &ServerConfig) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), config.node.name.clone()];
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let addresses = loopback.into_iter().chain(config.node.ips.iter().copied());
    names.extend(addresses.map(|address| address.to_string()));
    names
}

/// Every name and address that clients may use for the API server.
fn serving_names(config: &ServerConfig) -> Vec<String> {
    let domain = &config.cluster.cluster_domain;
    let mut names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        .map(str::to_owned)
        .to_vec();
    names.push(format!("kubernetes.default.svc.{domain}"));
    names.push(config.node.name.clone());
    let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
    let service = config.cluster.service_cidrs.iter().map(|range| address_at(range, 1));
    let addresses = loopback
        .into_iter()
        .chain(service)
        .chain(config.node.ips.iter().copied())
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
    use crate::pki::{AnyServer, discard_leaves};
    use crate::stdx::{Tasks, monotonic};
    use tokio_rustls::TlsConnector;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// A server's certificates in a directory of their own, kept while a test runs.
    struct Kept {
        certificates: Arc<Certificates>,
        directory: tempfile::TempDir,
        _tasks: Tasks,
    }

    impl Kept {
        fn tls(&self) -> PathBuf {
            self.directory.path().join("server/tls")
        }

        fn kubeconfig(&self) -> String {
            std::fs::read_to_string(&self.certificates.terms.kubeconfig).unwrap()
        }

        /// The certificates that the API server and the kubelet show, and the administrator's.
        async fn all(&self) -> [Vec<u8>; 3] {
            let (api, kubelet) = (self.certificates.tls(), self.certificates.kubelet_tls());
            [shown(api).await, shown(kubelet).await, self.kubeconfig().into_bytes()]
        }

        /// Waits until all are others than `before`.
        async fn renewed(&self, before: &[Vec<u8>; 3]) -> [Vec<u8>; 3] {
            let began = monotonic();
            loop {
                let now = self.all().await;
                if now.iter().zip(before).all(|(now, before)| now != before) {
                    return now;
                }
                assert!(
                    monotonic().duration_since(began) < Duration::from_secs(60),
                    "nothing was renewed"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The time of day goes as the time that is waited by.
    fn kept() -> Kept {
        let began = monotonic();
        let clock = Clock::from_fn(move || {
            let elapsed = i64::try_from(monotonic().duration_since(began).as_secs()).unwrap();
            Timestamp::from_second(1_800_000_000 + elapsed).unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let tls = directory.path().join("server/tls");
        let names = |name: &str| vec![name.to_owned()];
        let terms = Terms {
            serving_names: names("kubernetes"),
            kubelet_names: names("one"),
            server: "https://127.0.0.1:6443".to_owned(),
            kubeconfig: directory.path().join("admin.yaml"),
            kubeconfig_mode: 0o600,
        };
        let certificates = Certificates::open(terms, &tls, &clock).unwrap();
        let admin_due = certificates.hand_out().unwrap();
        let mut tasks = Tasks::default();
        let keep = Arc::clone(&certificates).keep(admin_due, tasks.shutdown());
        tasks.spawn("certificates", keep);
        Kept { certificates, directory, _tasks: tasks }
    }

    /// The certificate that whoever connects now is shown.
    async fn shown(tls: &ServerTls) -> Vec<u8> {
        let (client, server) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(AnyServer::client_config());
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let acceptor = tls.acceptor();
        let accepted = acceptor.accept(server);
        let (client, _server) = tokio::join!(connector.connect(name, client), accepted);
        let client = client.unwrap();
        client.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_near_its_end_is_renewed_in_time_again_and_again() {
        let kept = kept();
        let mut before = kept.all().await;
        for _ in 0..2 {
            tokio::time::sleep(DAY * 243).await;
            assert_eq!(kept.all().await, before, "it is good for long yet");
            tokio::time::sleep(DAY * 3).await;
            before = kept.renewed(&before).await;
        }
    }

    #[tokio::test]
    async fn what_is_thrown_away_is_made_anew_and_shown_at_once() {
        let kept = kept();
        let before = kept.all().await;
        discard_leaves(&kept.tls()).unwrap();
        let after = kept.renewed(&before).await;
        let served = std::fs::read(kept.tls().join("serving-kube-apiserver.crt")).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&served).unwrap();
        assert_eq!(after[0], pem.contents, "what is on the disk is what is shown");
        // Whoever is in the middle of it does not notice: the other half of the file comes later.
        std::fs::remove_file(kept.tls().join("serving-kubelet.key")).unwrap();
        let alone = async || shown(kept.certificates.kubelet_tls()).await != after[1];
        let began = monotonic();
        while !alone().await {
            assert!(
                monotonic().duration_since(began) < Duration::from_secs(60),
                "nothing was renewed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(shown(kept.certificates.tls()).await, after[0], "the other one is good");
    }

    #[tokio::test]
    async fn kubelets_are_reached_one_way_until_its_certificate_is_renewed() {
        let kept = kept();
        let certificates = &kept.certificates;
        Arc::clone(certificates).kubelet_at("https://192.0.2.2:10250").await.unwrap();
        let first = certificates.known_kubelets().unwrap().leaf.certificate;
        Arc::clone(certificates).kubelet_at("https://192.0.2.3:10250").await.unwrap();
        assert_eq!(certificates.known_kubelets().unwrap().leaf.certificate, first);
        let before = kept.all().await;
        discard_leaves(&kept.tls()).unwrap();
        kept.renewed(&before).await;
        let began = monotonic();
        while certificates.known_kubelets().unwrap().leaf.certificate == first {
            assert!(
                monotonic().duration_since(began) < Duration::from_secs(60),
                "nothing was renewed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
