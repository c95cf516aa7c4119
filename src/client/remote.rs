//! The way to an API server over the network: HTTP/2 over TLS, one connection for everything; or to a
//! kubelet over HTTP/1, whose answers may take their connection over.

use super::kubeconfig::{Credentials, Kubeconfig};
use crate::pki::{AnyServer, Untimely};
use crate::stdx::http::{ByteStream, HttpService, Request, Response, relay};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderValue};
use http::uri::{Authority, InvalidUri, Scheme};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A server that cannot be connected to in this time is away, and another is asked, where there is one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// While requests (and watches are requests) are open, a connection is probed this often, and
/// closed when nothing comes back: client-go's `ReadIdleTimeout` and `PingTimeout`, a third of
/// them. A broken wire is to be forgotten soon after it has been mended, and the longer TCP has been
/// without an answer, the longer it waits before it tries again.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a server cannot be talked to, before anything was sent.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("{server:?} is not the address of a server")]
    Address { server: String, source: InvalidUri },
    #[error("{server:?} is not an https address")]
    NotHttps { server: String },
    #[error("the {what} cannot be read as PEM")]
    Pem { what: &'static str, source: pem::Error },
    #[error("the {what} cannot be used")]
    Tls { what: &'static str, source: rustls::Error },
    #[error("the token cannot be sent in a header")]
    Token(#[source] http::header::InvalidHeaderValue),
}

/// Which versions of HTTP are spoken.
#[derive(Clone, Copy, Debug)]
enum Versions {
    All,
    /// HTTP/1 alone: only its connections can become something else.
    One,
}

/// An API server on the network. Give it to [`Client::new`](super::Client::new).
#[derive(Clone)]
pub struct Remote {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authority: Authority,
    /// Where the API begins on that server; empty for its root.
    base_path: String,
    authorization: Option<HeaderValue>,
}

impl Remote {
    /// # Errors
    /// Where the address, certificates or key are of no use. Nothing is sent yet.
    pub fn new(config: &Kubeconfig) -> Result<Self, RemoteError> {
        Self::speaking(config, Versions::All)
    }

    /// A server whose answers may take their connections over.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn upgradable(config: &Kubeconfig) -> Result<Self, RemoteError> {
        Self::speaking(config, Versions::One)
    }

    /// A server that may be anybody, to whom nothing is shown.
    ///
    /// # Errors
    /// Where that is not an address.
    pub fn unknown(server: &str) -> Result<Self, RemoteError> {
        let (authority, base_path) = parse(server)?;
        let tls = ClientConfig::clone(&AnyServer::client_config());
        Ok(Self { pool: pool(tls, Versions::One), authority, base_path, authorization: None })
    }

    fn speaking(config: &Kubeconfig, versions: Versions) -> Result<Self, RemoteError> {
        let (authority, base_path) = parse(&config.server)?;
        let pool = pool(tls_config(config)?, versions);
        let authorization = authorization(&config.credentials)?;
        Ok(Self { pool, authority, base_path, authorization })
    }

    /// Asks for a connection that becomes something else. Of a server that is
    /// [`upgradable`](Self::upgradable).
    ///
    /// # Errors
    /// Where there is no connection, or the server says no.
    pub async fn upgraded(&self, request: Request) -> io::Result<ByteStream> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let code = response.status();
            return Err(io::Error::other(format!("the server answers {code}")));
        }
        let stream = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(stream)))
    }

    async fn send(&self, request: Request) -> io::Result<http::Response<Incoming>> {
        let address = self.address_of(request.uri());
        let (mut head, body) = request.into_parts();
        head.uri = address.map_err(io::Error::other)?;
        if let Some(authorization) = self.authorization.clone() {
            head.headers.insert(AUTHORIZATION, authorization);
        }
        let request = http::Request::from_parts(head, Full::new(body));
        self.pool.request(request).await.map_err(|error| {
            let kind = match error.is_connect() {
                // The server has not heard of it: another may be asked.
                true => io::ErrorKind::NotConnected,
                false => io::ErrorKind::Other,
            };
            match Untimely::within(&error) {
                Some(untimely) => io::Error::new(kind, untimely),
                None => io::Error::new(kind, error),
            }
        })
    }

    /// Another server, with the same credentials and whom it trusts. Connections are kept for each
    /// server and shared by all who were made of one another.
    ///
    /// # Errors
    /// Where that is not an address.
    pub fn at(&self, server: &str) -> Result<Self, RemoteError> {
        let (authority, base_path) = parse(server)?;
        Ok(Self { authority, base_path, ..self.clone() })
    }

    fn address_of(&self, local: &Uri) -> http::Result<Uri> {
        let path = local.path_and_query().map_or("/", |path| path.as_str());
        Uri::builder()
            .scheme(Scheme::HTTPS)
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path}", self.base_path))
            .build()
    }
}

/// Where a server is, and where the API begins on it.
fn parse(server: &str) -> Result<(Authority, String), RemoteError> {
    let own = || server.to_owned();
    let address: Uri =
        server.parse().map_err(|source| RemoteError::Address { server: own(), source })?;
    match (address.scheme(), address.authority()) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTPS => {
            Ok((authority.clone(), address.path().trim_end_matches('/').to_owned()))
        }
        _ => Err(RemoteError::NotHttps { server: own() }),
    }
}

impl HttpService for Remote {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let own = self.clone();
        Box::pin(async move {
            let response = own.send(request).await?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(relay(response));
            }
            Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
        })
    }
}

fn pool(tls: ClientConfig, versions: Versions) -> Pool<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    let connector = match versions {
        Versions::All => connector.enable_all_versions().wrap_connector(tcp),
        Versions::One => connector.enable_http1().wrap_connector(tcp),
    };
    Pool::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(connector)
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Remote").field("server", &self.authority).finish_non_exhaustive()
    }
}

fn tls_config(config: &Kubeconfig) -> Result<ClientConfig, RemoteError> {
    let tls = |what| move |source| RemoteError::Tls { what, source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("certificate authority", &config.certificate_authority)? {
        roots.add(certificate).map_err(tls("certificate authority"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls("choice of TLS versions"))?
        .with_root_certificates(roots);
    match &config.credentials {
        Credentials::Anonymous | Credentials::Token(_) => Ok(builder.with_no_client_auth()),
        Credentials::Certificate { chain, key } => {
            let chain = certificates("client certificate", chain)?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|source| RemoteError::Pem { what: "client key", source })?;
            builder.with_client_auth_cert(chain, key).map_err(tls("client certificate"))
        }
    }
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, RemoteError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(found) if found.is_empty() => {
            Err(RemoteError::Pem { what, source: pem::Error::NoItemsFound })
        }
        Ok(found) => Ok(found),
        Err(source) => Err(RemoteError::Pem { what, source }),
    }
}

fn authorization(credentials: &Credentials) -> Result<Option<HeaderValue>, RemoteError> {
    let Credentials::Token(token) = credentials else { return Ok(None) };
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(RemoteError::Token)?;
    value.set_sensitive(true);
    Ok(Some(value))
}
