//! Connections to registries: TLS with the certificates that are set, proxies, time limits.

use super::super::blocking;
use super::registries::Tls;
use crate::pki::{AnyServer, trusted_by_default};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A registry whose host does not take the connection in this time cannot be reached.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// The same for one that does not begin to answer a request, the handshakes included.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// A connection that nothing is asked over for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Through which proxies registries are reached: those that `HTTPS_PROXY` and `NO_PROXY` name.
#[derive(Clone)]
pub struct Proxy(Option<Arc<Matcher>>);

impl Proxy {
    /// Every connection is made directly.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// As this process's environment says. Plain http is never sent through a proxy.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(Some(Arc::new(Matcher::from_env())))
    }

    /// Sends all https through the proxy at `address`, except to the hosts in `except`.
    #[must_use]
    pub fn through(address: &str, except: &str) -> Self {
        Self(Some(Arc::new(Matcher::builder().https(address).no(except).build())))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Proxy(as named)" } else { "Proxy(none)" })
    }
}

type Plain = HttpsConnector<HttpConnector>;

#[derive(Clone)]
enum HttpClient {
    Direct(Box<Client<Plain, Full<Bytes>>>),
    /// Through a proxy, to which the connection may itself be TLS.
    Tunnelled(Box<Client<HttpsConnector<Tunnel<Plain>>, Full<Bytes>>>),
}

/// The connections of one pull, by host. Dropped with it: nothing stays while nothing is pulled.
#[derive(Debug)]
pub(super) struct Transport {
    proxy: Proxy,
    clients: Mutex<BTreeMap<(String, Option<Tls>), HttpClient>>,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HttpClient")
    }
}

impl Transport {
    pub(super) fn new(proxy: Proxy) -> Self {
        Self { proxy, clients: Mutex::default() }
    }

    /// Sends a request and waits until the answer begins.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        tls: Option<&Tls>,
    ) -> io::Result<Response<Incoming>> {
        let client = self.client(request.uri(), tls).await?;
        let answer = async {
            match client {
                HttpClient::Direct(client) => client.request(request).await,
                HttpClient::Tunnelled(client) => client.request(request).await,
            }
        };
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(_elapsed) => {
                let seconds = ANSWER_MAX.as_secs();
                let text = format!("no answer in {seconds} s");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    async fn client(&self, uri: &Uri, tls: Option<&Tls>) -> io::Result<HttpClient> {
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let key = (host, tls.cloned());
        if let Some(client) = self.clients.lock().expect("no panics under this lock").get(&key) {
            return Ok(client.clone());
        }
        let is_https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let config = tls.cloned().unwrap_or_default();
        let tls =
            blocking(move || if is_https { client_config(&config) } else { Ok(without_trust()) })
                .await?;
        let intercept = self.proxy.0.as_ref().filter(|_| is_https).and_then(|m| m.intercept(uri));
        let client = match intercept {
            None => HttpClient::Direct(Box::new(build(over(direct(), tls)))),
            Some(proxy) => {
                let to_proxy = over(direct(), blocking(|| client_config(&Tls::default())).await?);
                let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
                if let Some(login) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(HeaderValue::clone(login));
                }
                HttpClient::Tunnelled(Box::new(build(over(tunnel, tls))))
            }
        };
        let mut clients = self.clients.lock().expect("no panics under this lock");
        Ok(clients.entry(key).or_insert(client).clone())
    }
}

fn direct() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_MAX));
    connector.set_nodelay(true);
    connector
}

/// HTTP/1.1: a connection for each layer shares a line better than one window for all.
fn over<C>(connector: C, tls: ClientConfig) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

fn build<C>(connector: C) -> Client<C, Full<Bytes>>
where
    C: hyper_util::client::legacy::connect::Connect + Clone,
{
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// For plain http: a client that could not make a TLS connection if it tried.
fn without_trust() -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

fn client_config(tls: &Tls) -> io::Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = if tls.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer::new(provider())))
    } else {
        builder.with_root_certificates(trusted(tls.ca_file.as_deref())?)
    };
    match (&tls.cert_file, &tls.key_file) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| named(certificate, &error)),
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// Whom everybody believes, and the authority that is set for the host.
fn trusted(ca_file: Option<&Path>) -> io::Result<RootCertStore> {
    let mut roots = trusted_by_default();
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| named(path, &error))?;
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).map_err(|error| named(path, &error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| named(path, &error))?;
    if found.is_empty() {
        return Err(named(path, &"no certificate in PEM is in it"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> io::Result<PrivateKeyDer<'static>> {
    let pem = std::fs::read(path).map_err(|error| named(path, &error))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| named(path, &error))
}

fn named(path: &Path, error: &dyn fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
