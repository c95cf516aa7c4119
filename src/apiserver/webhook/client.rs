//! One request to a webhook, and the connections that are kept to it.

use super::answer;
use super::hook::{BadHook, Hook};
use super::network::{Dial, Network};
use crate::pki::trusted_by_default;
use crate::stdx::{blocking, chain};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// Connections to so many hooks are kept (upstream `defaultCacheSize`). With more, those of the hook that
/// nobody has asked for longest are closed when what is under way on them is done.
const HOOKS_MAX: usize = 200;

/// Connections to one hook that stay open while nobody asks.
const IDLE_PER_HOOK_MAX: usize = 25;

/// A connection over which nothing is asked for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// A longer answer is none.
const ANSWER_BYTES_MAX: usize = 16 << 20;

type Connections = Pool<HttpsConnector<Dial>, Full<Bytes>>;

/// Asks webhooks.
pub(in super::super) struct Hooks {
    network: Arc<Network>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Grows with each use.
    uses: u64,
    /// With when each was last used.
    hooks: BTreeMap<Hook, (u64, Connections)>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hooks")
    }
}

/// Why there is no answer, as clients are told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in super::super) struct Unanswered(String);

impl From<BadHook> for Unanswered {
    fn from(bad: BadHook) -> Self {
        Self(bad.to_string())
    }
}

impl Hooks {
    pub(in super::super) fn new(network: Network) -> Self {
        Self { network: Arc::new(network), known: Mutex::default() }
    }

    /// Posts a document of JSON, and returns the answer's: it has all come within `patience`.
    ///
    /// # Errors
    /// Where there is none, in the words in which upstream tells it.
    pub(in super::super) async fn post(
        &self,
        hook: &Hook,
        body: Vec<u8>,
        patience: Duration,
    ) -> Result<Bytes, Unanswered> {
        let address = hook.address(patience)?;
        let connections = self.connections(hook).await?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address.clone();
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, json);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kinglet"));
        match timeout(patience, ask(&connections, request)).await {
            Ok(Ok(answer)) => answer.map_err(Unanswered),
            Ok(Err(error)) => Err(unreachable(&address, &explain(&*error))),
            Err(_elapsed) => Err(unreachable(&address, "context deadline exceeded")),
        }
    }

    async fn connections(&self, hook: &Hook) -> Result<Connections, BadHook> {
        if let Some(known) = self.known.lock().expect("no panics under this lock").find(hook) {
            return Ok(known);
        }
        let roots = match hook.roots()? {
            Some(roots) => roots,
            None => blocking(trusted_by_default).await,
        };
        let dial = Dial { network: Arc::clone(&self.network), way: hook.way.clone() };
        let made = connections(roots, dial)?;
        let mut known = self.known.lock().expect("no panics under this lock");
        Ok(known.add(hook, made))
    }
}

impl Known {
    fn find(&mut self, hook: &Hook) -> Option<Connections> {
        self.uses += 1;
        let (used, connections) = self.hooks.get_mut(hook)?;
        *used = self.uses;
        Some(connections.clone())
    }

    /// Somebody else may have been faster.
    fn add(&mut self, hook: &Hook, made: Connections) -> Connections {
        if let Some(known) = self.find(hook) {
            return known;
        }
        if self.hooks.len() >= HOOKS_MAX {
            let oldest = self.hooks.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(hook, _)| hook.clone()) {
                self.hooks.remove(&oldest);
            }
        }
        self.hooks.insert(hook.clone(), (self.uses, made.clone()));
        made
    }
}

/// HTTP/1.1, so that requests are spread over a Service's endpoints as upstream's are.
fn connections(roots: RootCertStore, dial: Dial) -> Result<Connections, BadHook> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(dial);
    Ok(Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOOK_MAX)
        .build(connector))
}

type Broken = Box<dyn Error + Send + Sync>;

/// The answer as it is judged, or why none came whole.
async fn ask(
    connections: &Connections,
    request: Request<Full<Bytes>>,
) -> Result<Result<Bytes, String>, Broken> {
    let (head, body) = connections.request(request).await?.into_parts();
    let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Ok(Err(format!("the answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        Err(error) => {
            let why = chain(&*error);
            return Ok(Err(format!(
                "unexpected error when reading response body. Please retry. Original error: {why}"
            )));
        }
    };
    Ok(answer::judge(head.status, &head.headers, &body).map(|()| body))
}

/// As Go tells of requests that have had no answer (`url.Error`).
fn unreachable(address: &Uri, why: &str) -> Unanswered {
    Unanswered(format!("Post \"{address}\": {why}"))
}

/// What is at the bottom of an error, in Go's words where they are known.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut bottom = error;
    loop {
        if let Some(tls) = bottom.downcast_ref::<rustls::Error>() {
            return explain_tls(tls);
        }
        // These do not count what they are made of among their causes.
        let made_of = bottom.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let next = made_of.map(|inner| inner as &(dyn Error + 'static)).or_else(|| bottom.source());
        match next {
            Some(next) => bottom = next,
            None => break,
        }
    }
    match bottom.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_incomplete_message() || error.is_closed() => "EOF".to_owned(),
        _ => bottom.to_string(),
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(why) = error else {
        return format!("remote error: tls: {error}");
    };
    let why = match why {
        // Of another authority with the name of one that is believed.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "certificate signed by unknown authority".to_owned()
        }
        CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. } => {
            format!("certificate has expired or is not yet valid: {error}")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            misnamed(expected, presented)
        }
        other => other.to_string(),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}

/// The certificate is somebody else's.
fn misnamed(expected: &ServerName<'_>, presented: &[String]) -> String {
    let name = expected.to_str();
    let is_address = matches!(expected, ServerName::IpAddress(_));
    if is_address && !presented.iter().any(|name| name.starts_with("IpAddress")) {
        return format!(
            "cannot validate certificate for {name} because it doesn't contain any IP SANs"
        );
    }
    let presented: Vec<_> = presented.iter().map(|name| bare(name)).collect();
    match presented.join(", ") {
        none if none.is_empty() => {
            format!("certificate is not valid for any names, but wanted to match {name}")
        }
        presented => format!("certificate is valid for {presented}, not {name}"),
    }
}

/// `DnsName("a")` is told as `a`.
fn bare(name: &str) -> &str {
    name.split_once('"').and_then(|(_, rest)| rest.split_once('"')).map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nobody_is_believed_is_told_as_go_tells_it() {
        let check = |error: CertificateError, expected: &str| {
            let wrapped = io::Error::other(rustls::Error::InvalidCertificate(error));
            let told = explain(&wrapped);
            let prefix = "tls: failed to verify certificate: x509: ";
            assert_eq!(told.strip_prefix(prefix), Some(expected), "{told}");
        };
        let unknown = "certificate signed by unknown authority";
        check(CertificateError::UnknownIssuer, unknown);
        check(CertificateError::BadSignature, unknown);
        let misnamed =
            |expected: &str, presented: &[&str]| CertificateError::NotValidForNameContext {
                expected: ServerName::try_from(expected.to_owned()).unwrap(),
                presented: presented.iter().map(|name| (*name).to_owned()).collect(),
            };
        check(
            misnamed("a.b.svc", &["DnsName(\"x.y\")", "DnsName(\"z\")"]),
            "certificate is valid for x.y, z, not a.b.svc",
        );
        check(
            misnamed("a.b.svc", &[]),
            "certificate is not valid for any names, but wanted to match a.b.svc",
        );
        check(
            misnamed("127.0.0.1", &["DnsName(\"x.y\")"]),
            "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs",
        );
    }

    #[test]
    fn other_errors_tell_what_is_at_their_bottom() {
        let refused = io::Error::other("dial tcp 10.0.0.1:443: connect: connection refused");
        assert_eq!(
            explain(&io::Error::other(refused)),
            "dial tcp 10.0.0.1:443: connect: connection refused"
        );
    }
}
