//! How a machine becomes a node of a cluster, and stays one: it trusts the authority that its token
//! names, asks for certificates with a key of its own, and keeps on disk what it needs to go on
//! without a server.
//!
//! Start at [`join`]. Written are the key, three certificates, two authorities, what the cluster has
//! agreed on and where its servers are: when the machine joins, and when one of them changes.

use super::config::{AgentConfig, Layout};
use super::settings::Settings;
use super::user_agents;
use crate::api::node::{AGENT_PREFIX, AGENTS};
use crate::client::remote::Remote;
use crate::client::watch::{Item, Watcher};
use crate::client::{Client, ClientError, Credentials, Kubeconfig, Selection};
use crate::pki::{AuthorityHash, JoinToken, Leaf, NodeKey, Subject, not_after};
use crate::stdx::http::{HttpService as _, read_whole};
use crate::stdx::{Backoff, Clock, write_atomically};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// Between attempts to reach a server that is away.
pub(super) const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5) };

/// A request for a certificate that is not answered after this long is made anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a server may say about its authorities.
const AUTHORITIES_BYTES_MAX: usize = 1 << 20;

const NODE_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// A machine that is a node of a cluster.
#[derive(Debug)]
pub(super) struct Membership {
    node: String,
    directory: PathBuf,
    pub(super) key: NodeKey,
    /// Whom servers are believed by, as PEM.
    pub(super) authority: String,
    pub(super) settings: Settings,
    /// `https://192.0.2.10:6443`, those that were told last; the one from the command line first.
    pub(super) servers: Vec<String>,
    /// As PEM: of the kubelet, and of the rest.
    certificates: [String; 2],
}

/// Why a machine is no node yet.
#[derive(Debug)]
enum Failure {
    /// Trying again will not help.
    Final(anyhow::Error),
    Away(anyhow::Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Status(status) => status.code,
            ClientError::Transport(_) | ClientError::Malformed(_) => 0,
        };
        match StatusCode::from_u16(code) {
            Ok(StatusCode::UNAUTHORIZED) => Self::Final(anyhow!(
                "the server does not believe the token: it is wrong, has been deleted, or has \
                 expired; `kinglet token create` on a server makes another"
            )),
            Ok(StatusCode::FORBIDDEN) => Self::Final(
                anyhow::Error::new(error).context("the token does not allow to join machines"),
            ),
            _ => Self::Away(error.into()),
        }
    }
}

/// Who a certificate is for.
struct Ask<'a> {
    signer: &'a str,
    request: String,
    usage: &'a str,
}

/// Reads what an earlier start has got, or gets it, however long a server may be away.
pub(super) async fn join(config: &AgentConfig, clock: &Clock) -> anyhow::Result<Membership> {
    let directory = Layout::of(&config.node.data_dir).agent();
    let key = NodeKey::open(&directory.join("tls"))?;
    let token = config.token.as_ref();
    if let Some(known) = Membership::read(config, &directory, clock.now())? {
        let other = token.and_then(|token| token.authority.as_ref());
        if other.is_some_and(|hash| *hash != AuthorityHash::of_pem(&known.authority)) {
            bail!(
                "this machine is a node of another cluster than the one of --token; remove {} to let \
                 it join that one",
                directory.join("tls").display()
            );
        }
        return Ok(known.with(key));
    }
    let token = token.context(
        "this machine has not joined a cluster, or its certificate has ended: --token is what it \
         joins with, and `kinglet token create` on a server prints one",
    )?;
    let mut failures = 0;
    for server in config.servers.iter().cycle() {
        match attempt(config, server, token, &key).await {
            Ok(found) => {
                found.write(&directory)?;
                info!(node = config.node.name, server, "joined the cluster");
                return Ok(found.with(key));
            }
            Err(Failure::Final(error)) => return Err(error.context(server.clone())),
            Err(Failure::Away(error)) => {
                failures += 1;
                if failures == 1 {
                    let error = format!("{error:#}");
                    warn!(server, error, "cannot join yet; will try until it works");
                }
                tokio::time::sleep(RETRY.delay(failures)).await;
            }
        }
    }
    bail!("--server is missing")
}

async fn attempt(
    config: &AgentConfig,
    server: &str,
    token: &JoinToken,
    key: &NodeKey,
) -> Result<Found, Failure> {
    let authority = authority(server, token.authority.as_ref()).await?;
    let remote = |credentials| -> Result<Client, Failure> {
        let authority = authority.clone().into_bytes();
        let server = server.to_owned();
        let config = Kubeconfig { server, certificate_authority: authority, credentials };
        let remote = Remote::new(&config).map_err(|error| Failure::Final(error.into()))?;
        Ok(Client::new(Arc::new(remote), user_agents::KINGLET))
    };
    let stranger = remote(Credentials::Token(token.bootstrap.text()))?;
    let data = Settings::read(&stranger).await?;
    let settings = Settings::from_data(&data).map_err(Failure::Final)?;
    let certificate = certificate(&stranger, node_request(&config.node.name, key)?).await?;
    let chain = certificate.clone().into_bytes();
    let node = remote(Credentials::Certificate { chain, key: key.pem().into_bytes() })?;
    let agent = self::certificate(&node, agent_request(&config.node.name, key)?).await?;
    Ok(Found {
        node: config.node.name.clone(),
        directory: Layout::of(&config.node.data_dir).agent(),
        authority,
        settings,
        servers: servers(&config.servers, &[]),
        certificates: [certificate, agent],
    })
}

/// Asks a server, whoever it may be, for its authority, and believes it by the hash.
async fn authority(server: &str, hash: Option<&AuthorityHash>) -> Result<String, Failure> {
    let anybody = Remote::unknown(server).map_err(|error| Failure::Final(error.into()))?;
    let request = http::Request::get("/cacerts").body(Bytes::new());
    let request = request.map_err(|error| Failure::Final(error.into()))?;
    let away = |error: std::io::Error| Failure::Away(error.into());
    let response = anybody.call(request).await.map_err(away)?;
    if response.status() != StatusCode::OK {
        let code = response.status();
        return Err(Failure::Final(anyhow!("this is no server of a cluster: /cacerts is {code}")));
    }
    let body = read_whole(response.into_body(), AUTHORITIES_BYTES_MAX).await.map_err(away)?;
    let text = String::from_utf8(body.to_vec())
        .map_err(|_| Failure::Final(anyhow!("this is no server of a cluster: no certificates")))?;
    let found = AuthorityHash::of_pem(&text);
    match hash {
        Some(hash) if *hash != found => Err(Failure::Final(anyhow!(
            "the server is not the one that the token is of: the token names the authority {hash}, \
             and this is {found}"
        ))),
        Some(_) => Ok(text),
        None => {
            warn!(
                server,
                "the token names no authority: whoever answers at this address is believed"
            );
            Ok(text)
        }
    }
}

fn node_request(node: &str, key: &NodeKey) -> Result<Ask<'static>, Failure> {
    let user = format!("system:node:{node}");
    let subject = Subject { user: &user, groups: &["system:nodes"] };
    ask(key, subject, &[], (NODE_SIGNER, "client auth"))
}

fn agent_request(node: &str, key: &NodeKey) -> Result<Ask<'static>, Failure> {
    let user = format!("{AGENT_PREFIX}{node}");
    let subject = Subject { user: &user, groups: &[AGENTS] };
    ask(key, subject, &[], (CLIENT_SIGNER, "client auth"))
}

fn ask(
    key: &NodeKey,
    subject: Subject<'_>,
    names: &[String],
    (signer, usage): (&'static str, &'static str),
) -> Result<Ask<'static>, Failure> {
    let request = key.request(subject, names).map_err(|error| Failure::Final(error.into()))?;
    Ok(Ask { signer, request, usage })
}

/// Asks for a certificate and waits for it.
async fn certificate(client: &Client, ask: Ask<'_>) -> Result<String, Failure> {
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("node-csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(ask.request.into_bytes()),
            signer_name: ask.signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), ask.usage.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let made = client.create(&request).await?;
    let name = made.metadata.name.unwrap_or_default();
    let selection = Selection::fields(format!("metadata.name={name}"));
    let mut watcher = Watcher::with_seldom_bookmarks(client.clone(), &selection);
    let answered = async {
        loop {
            let seen: Vec<CertificateSigningRequest> = match watcher.next().await {
                Item::Listed(all) => all,
                Item::Applied(one) => vec![one],
                Item::Deleted(_) | Item::Progress => Vec::new(),
            };
            if let Some(answer) = seen.iter().find_map(answer) {
                return answer;
            }
        }
    };
    let in_time = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
    in_time.unwrap_or_else(|_elapsed| {
        Err(Failure::Away(anyhow!(
            "nobody has answered the request {name} for a certificate; `kubectl certificate approve \
             {name}` does"
        )))
    })
}

/// What was said about a request, where something was.
fn answer(request: &CertificateSigningRequest) -> Option<Result<String, Failure>> {
    let status = request.status.as_ref()?;
    if let Some(certificate) = status.certificate.as_ref().filter(|it| !it.0.is_empty()) {
        return Some(Ok(String::from_utf8_lossy(&certificate.0).into_owned()));
    }
    let mut conditions = status.conditions.iter().flatten();
    let refused = conditions.find(|it| matches!(it.type_.as_str(), "Denied" | "Failed"))?;
    let why = refused.message.clone().unwrap_or_else(|| refused.type_.clone());
    Some(Err(Failure::Final(anyhow!("the cluster refuses this machine: {why}"))))
}

/// A [`Membership`] without its key.
struct Found {
    node: String,
    directory: PathBuf,
    authority: String,
    settings: Settings,
    servers: Vec<String>,
    certificates: [String; 2],
}

const CERTIFICATES: [&str; 2] = ["client-kubelet.crt", "client-agent.crt"];

impl Found {
    fn with(self, key: NodeKey) -> Membership {
        let Self { node, directory, authority, settings, servers, certificates } = self;
        Membership { node, directory, key, authority, settings, servers, certificates }
    }

    fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let tls = directory.join("tls");
        save(&tls.join("server-ca.crt"), &self.authority)?;
        for (name, text) in CERTIFICATES.iter().zip(&self.certificates) {
            save(&tls.join(name), text)?;
        }
        save_settings(directory, &self.settings.to_data())
    }
}

fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    write_atomically(path, text.as_bytes(), 0o600)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn save_settings(directory: &Path, data: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(data).expect("texts always serialize");
    save(&directory.join("cluster.json"), &text)
}

impl Membership {
    /// What an earlier start has written; `None` where it is not whole, or has ended.
    fn read(
        config: &AgentConfig,
        directory: &Path,
        now: Timestamp,
    ) -> anyhow::Result<Option<Found>> {
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let certificates = CERTIFICATES.map(|name| read(&format!("tls/{name}")));
        let ([Some(node), Some(agent)], Some(authority), Some(data)) =
            (certificates, read("tls/server-ca.crt"), read("cluster.json"))
        else {
            return Ok(None);
        };
        let ends = [&node, &agent].map(|pem| not_after(pem.as_bytes()).unwrap_or(Timestamp::MIN));
        if let Some(end) = ends.into_iter().find(|end| *end <= now) {
            warn!(
                "the certificate of this node was good until {end}, and the clock of this machine says \
                 that it is {now}: set the clock if that is wrong; if not, the node has to join anew"
            );
            return Ok(None);
        }
        let name = &config.node.name;
        if !is_for(&node, &format!("system:node:{name}")) {
            bail!(
                "this machine has joined under another name than {name}; --node-name says under which, \
                 or remove {} to let it join anew",
                directory.join("tls").display()
            );
        }
        let data: BTreeMap<String, String> =
            serde_json::from_str(&data).context("cluster.json in the data directory")?;
        let told: Vec<String> = read("servers.json")
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        Ok(Some(Found {
            node: name.clone(),
            directory: directory.to_owned(),
            authority,
            settings: Settings::from_data(&data)?,
            servers: servers(&config.servers, &told),
            certificates: [node, agent],
        }))
    }

    /// The ways to servers as the kubelet, and as the rest.
    pub(super) fn ways(&self) -> anyhow::Result<[Kubeconfig; 2]> {
        let key = self.key.pem().into_bytes();
        let way = |chain: &String| Kubeconfig {
            server: self.servers[0].clone(),
            certificate_authority: self.authority.clone().into_bytes(),
            credentials: Credentials::Certificate {
                chain: chain.clone().into_bytes(),
                key: key.clone(),
            },
        };
        Ok([way(&self.certificates[0]), way(&self.certificates[1])])
    }

    /// When the first of the certificates is to be made anew.
    pub(super) fn due(&self) -> Timestamp {
        let due = |chain: &String| Leaf { certificate: chain.clone(), key: String::new() }.due();
        self.certificates.iter().map(due).min().unwrap_or(Timestamp::MIN)
    }

    /// Gets new certificates with those that are good yet.
    pub(super) async fn renew(&mut self, node: &Client) -> anyhow::Result<()> {
        let of = |failure: Failure| match failure {
            Failure::Final(error) | Failure::Away(error) => error,
        };
        for (index, ask) in
            [node_request(&self.node, &self.key), agent_request(&self.node, &self.key)]
                .into_iter()
                .enumerate()
        {
            let renewed = certificate(node, ask.map_err(of)?).await.map_err(of)?;
            save(&self.directory.join("tls").join(CERTIFICATES[index]), &renewed)?;
            self.certificates[index] = renewed;
        }
        info!("the certificates of this node are renewed");
        Ok(())
    }

    /// Takes over what the server says now about the cluster. Without a server, what is known has to
    /// do.
    pub(super) async fn refresh(&mut self, node: &Client) -> anyhow::Result<()> {
        let data = Settings::read(node).await?;
        let settings = Settings::from_data(&data)?;
        if settings != self.settings {
            save_settings(&self.directory, &data)?;
            self.settings = settings;
        }
        Ok(())
    }

    /// These are the servers, as the cluster says.
    pub(super) fn save_servers(directory: &Path, told: &[String]) -> anyhow::Result<()> {
        let text = serde_json::to_string(told).expect("texts always serialize");
        save(&directory.join("servers.json"), &text)
    }

    /// What the kubelet's port has shown before, where it is good for `names`.
    pub(super) fn serving(&self, names: &[String]) -> Option<Leaf> {
        let path = self.directory.join("tls").join("serving-kubelet.crt");
        let leaf = Leaf { certificate: fs::read_to_string(path).ok()?, key: self.key.pem() };
        leaf.is_good_for(names).then_some(leaf)
    }
}

/// Whether a certificate is for a user.
fn is_for(pem: &str, user: &str) -> bool {
    let parsed = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok();
    parsed
        .and_then(|(_, pem)| crate::pki::CertificateUser::of(&pem.contents).ok())
        .is_some_and(|subject| subject.user == user)
}

/// Those that somebody named first, and each once.
pub(super) fn servers(named: &[String], told: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for server in named.iter().chain(told) {
        let server = server.trim_end_matches('/');
        if all.iter().all(|other| other != server) {
            all.push(server.to_owned());
        }
    }
    all
}

/// Asks for a certificate of the kubelet's port, good for `names`.
pub(super) async fn serving_certificate(
    client: &Client,
    membership: (&str, &NodeKey, &Path),
    names: &[String],
) -> anyhow::Result<Leaf> {
    let (node, key, directory) = membership;
    let of = |failure: Failure| match failure {
        Failure::Final(error) | Failure::Away(error) => error,
    };
    let user = format!("system:node:{node}");
    let subject = Subject { user: &user, groups: &["system:nodes"] };
    let ask = ask(key, subject, names, (SERVING_SIGNER, "server auth")).map_err(of)?;
    let certificate = certificate(client, ask).await.map_err(of)?;
    save(&directory.join("tls").join("serving-kubelet.crt"), &certificate)?;
    Ok(Leaf { certificate, key: key.pem() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_asked_and_the_named_one_first() {
        let told = ["https://192.0.2.1:6443", "https://192.0.2.2:6443"].map(str::to_owned);
        let named = |server: &str| [server.to_owned()];
        assert_eq!(servers(&named("https://192.0.2.1:6443/"), &told), told);
        assert_eq!(servers(&named("https://edge:6443"), &told)[0], "https://edge:6443");
        assert_eq!(servers(&named("https://edge:6443"), &told).len(), 3);
    }

    #[test]
    fn what_is_said_about_a_request_is_heard() {
        let check = |status: serde_json::Value, expected: &str| {
            let request = serde_json::json!({
                "metadata": {"name": "r"},
                "spec": {"request": "", "signerName": "s"},
                "status": status,
            });
            let shown = match answer(&serde_json::from_value(request).unwrap()) {
                None => "nothing".to_owned(),
                Some(Ok(certificate)) => certificate,
                Some(Err(Failure::Final(error))) => format!("{error:#}"),
                Some(Err(Failure::Away(error))) => format!("away: {error:#}"),
            };
            assert_eq!(shown, expected);
        };
        let condition = |kind: &str, message: &str| {
            serde_json::json!({"conditions": [
                {"type": kind, "status": "True", "message": message},
            ]})
        };
        check(serde_json::json!({}), "nothing");
        check(condition("Approved", ""), "nothing");
        check(serde_json::json!({"certificate": "UEVN"}), "PEM");
        check(condition("Denied", "it is taken"), "the cluster refuses this machine: it is taken");
    }
}
