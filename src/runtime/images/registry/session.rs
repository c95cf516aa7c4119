//! What one pull asks of registries, and how long it keeps asking.

use super::super::DefaultEndpoint;
use super::super::digest::Digest;
use super::super::manifest::{Descriptor, MANIFEST_TYPES};
use super::super::reference::{Reference, Version};
use super::super::store::check_blob;
use super::Failure;
use super::auth::{Exchange, Identity};
use super::challenge;
use super::endpoint::{self, Endpoint, Scheme};
use super::registries::{Login, Registries};
use super::transport::{Proxy, Transport};
use crate::runtime::Credentials;
use crate::runtime::error::PullError;
use crate::stdx::Backoff;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A larger manifest is refused, as by registries themselves (distribution v3.0,
/// `maxManifestBodySize`).
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of the error that a registry explains itself with.
const EXPLANATION_BYTES_MAX: usize = 16 * 1024;
/// An answer that leads on more often than this leads nowhere.
const REDIRECTS_MAX: u32 = 10;
/// How often in a row the last endpoint may fail; those before it only twice.
const ATTEMPTS_MAX: u32 = 5;
const ATTEMPTS_OF_MIRRORS_MAX: u32 = 2;
/// How often in a row one may say nothing at all: each time costs a minute, and whoever wants the image
/// is to hear of it, and asks again later.
const SILENCES_MAX: u32 = 2;
const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(8) };
/// A registry that wants to be left alone for longer is, by failing.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How the parts of one image are got.
#[derive(Debug)]
pub(in super::super) struct Session {
    reference: Reference,
    pub(super) transport: Transport,
    registries: Arc<Registries>,
    remotes: Vec<Remote>,
    /// The endpoint that answered last.
    preferred: AtomicUsize,
}

/// One endpoint and who we are there.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) endpoint: Endpoint,
    identity: Identity,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// Below the repository.
    pub(super) path: String,
    /// What an error calls it.
    pub(super) what: String,
    pub(super) accept: String,
    /// The first byte that is wanted.
    pub(super) from: u64,
}

/// What a reference leads to.
#[derive(Debug)]
pub(in super::super) enum Found {
    /// A manifest or an index that is on this node already.
    Known(Digest),
    Fetched(Fetched),
}

/// A manifest or an index.
#[derive(Debug)]
pub(in super::super) struct Fetched {
    pub(in super::super) digest: Digest,
    pub(in super::super) bytes: Bytes,
    pub(in super::super) content_type: String,
}

/// Counts failures in a row, and says when to stop.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
    silences: u32,
}

impl Session {
    pub(in super::super) fn new(
        reference: Reference,
        credentials: &[Credentials],
        registries: Arc<Registries>,
        default: DefaultEndpoint,
        proxy: Proxy,
    ) -> Self {
        let endpoints = endpoint::plan(&reference, &registries, default);
        let remotes = endpoints
            .into_iter()
            .map(|endpoint| Remote { identity: identity(&endpoint, credentials), endpoint })
            .collect();
        let transport = Transport::new(proxy);
        Self { reference, transport, registries, remotes, preferred: AtomicUsize::new(0) }
    }

    pub(in super::super) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Asks what the reference stands for. Where `known` is the digest that it stood for last, a
    /// registry that says so is not asked for more: that costs nothing of its allowance.
    pub(in super::super) async fn resolve(
        &self,
        known: Option<&Digest>,
    ) -> Result<Found, PullError> {
        let digest = match self.reference.version() {
            Version::Digest(digest) => Some(digest),
            Version::Tag(_) => None,
        };
        if let (None, Some(known)) = (digest, known)
            && self.current_digest().await? == Some(known.clone())
        {
            return Ok(Found::Known(known.clone()));
        }
        self.document(digest).await.map(Found::Fetched)
    }

    /// The manifest or index of that digest.
    pub(in super::super) async fn document(
        &self,
        digest: Option<&Digest>,
    ) -> Result<Fetched, PullError> {
        let ask = self.ask_for_manifest(Method::GET, digest);
        let (response, bytes) = self.get_whole(&ask, MANIFEST_BYTES_MAX).await?;
        let content_type = text_header(&response, &header::CONTENT_TYPE).to_owned();
        if let Some(digest) = digest {
            check_blob(digest, &bytes, &ask.what)?;
        }
        let digest = digest.cloned().unwrap_or_else(|| Digest::of(&bytes));
        Ok(Fetched { digest, bytes, content_type })
    }

    /// A blob that is small enough to be held in memory.
    pub(in super::super) async fn small_blob(
        &self,
        blob: &Descriptor,
        bytes_max: usize,
    ) -> Result<Bytes, PullError> {
        let ask = ask_for_blob(blob, "the configuration");
        let (_, bytes) = self.get_whole(&ask, bytes_max).await?;
        check_blob(&blob.digest, &bytes, &ask.what)?;
        Ok(bytes)
    }

    fn ask_for_manifest(&self, method: Method, digest: Option<&Digest>) -> Ask {
        let version = match (digest, self.reference.version()) {
            (Some(digest), _) | (None, Version::Digest(digest)) => digest.to_string(),
            (None, Version::Tag(tag)) => tag.clone(),
        };
        Ask {
            method,
            path: format!("manifests/{version}"),
            what: format!("manifest {version}"),
            accept: MANIFEST_TYPES.join(", "),
            from: 0,
        }
    }

    /// What the registry says that the tag stands for, where it says so without being asked for
    /// the manifest itself.
    async fn current_digest(&self) -> Result<Option<Digest>, PullError> {
        let ask = self.ask_for_manifest(Method::HEAD, None);
        match self.get_whole(&ask, 0).await {
            Ok((response, _)) => Ok(text_header(&response, "docker-content-digest").parse().ok()),
            // Some registries do not know HEAD; GET will tell what is really the matter.
            Err(PullError::Answered { code: 400..=499, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gets something small from the first endpoint that gives it.
    async fn get_whole(
        &self,
        ask: &Ask,
        bytes_max: usize,
    ) -> Result<(Response<()>, Bytes), PullError> {
        let mut last = None;
        for (index, remote) in self.in_order() {
            let mut patience = Patience::default();
            loop {
                let failure = match self.get_whole_once(remote, ask, bytes_max).await {
                    Ok(whole) => {
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(whole);
                    }
                    Err(failure) => failure,
                };
                match patience.wait(&failure, self.is_last(index)) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => {
                        last = Some(failure.error);
                        break;
                    }
                }
            }
        }
        Err(last.expect("a plan has at least one endpoint"))
    }

    async fn get_whole_once(
        &self,
        remote: &Remote,
        ask: &Ask,
        bytes_max: usize,
    ) -> Result<(Response<()>, Bytes), Failure> {
        let (head, body) = self.ask(remote, ask).await?.into_parts();
        if ask.method == Method::HEAD {
            return Ok((Response::from_parts(head, ()), Bytes::new()));
        }
        let whole = tokio::time::timeout(
            super::download::SILENCE_MAX,
            Limited::new(body, bytes_max).collect(),
        );
        let bytes = match whole.await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                let why = format!("it is larger than {bytes_max} bytes");
                return Err(PullError::Malformed { what: ask.what.clone(), why }.into());
            }
            Ok(Err(error)) => return Err(remote.unreachable(io::Error::other(error)).into()),
            Err(_elapsed) => {
                return Err(remote.unreachable(super::download::silence()).into());
            }
        };
        Ok((Response::from_parts(head, ()), bytes))
    }

    /// All endpoints, the one that answered last before the others.
    pub(super) fn in_order(&self) -> Vec<(usize, &Remote)> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut remotes: Vec<_> = self.remotes.iter().enumerate().collect();
        remotes.sort_by_key(|(index, _)| *index != preferred);
        remotes
    }

    pub(super) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.remotes.len()
    }

    /// Asks one endpoint, as whoever it takes to be answered. Anything but success is a failure.
    pub(super) async fn ask(
        &self,
        remote: &Remote,
        ask: &Ask,
    ) -> Result<Response<Incoming>, Failure> {
        let endpoint = &remote.endpoint;
        let uri = endpoint.uri(&ask.path).map_err(|error| remote.unreachable_for(error))?;
        let mut has_answered = false;
        loop {
            let attempt = remote.identity.attempt();
            let (response, was_redirected) =
                self.follow(remote, ask, uri.clone(), attempt.header.as_ref()).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let is_denied = status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
            if !is_denied || was_redirected {
                return Err(self.refusal(remote, ask, response).await);
            }
            let values = response.headers().get_all(header::WWW_AUTHENTICATE);
            let challenge = challenge::choose(values.iter().filter_map(|v| v.to_str().ok()));
            if let Some(challenge) = challenge.filter(|_| !has_answered) {
                let exchange = Exchange {
                    transport: &self.transport,
                    registry: endpoint.name(),
                    repository: &endpoint.repository,
                    is_plain: endpoint.scheme == Scheme::Http,
                    registries: &self.registries,
                };
                if remote.identity.answer(&challenge, &attempt, &exchange).await? {
                    has_answered = true;
                    continue;
                }
            }
            if !remote.identity.give_up(&attempt) {
                return Err(remote.denied().into());
            }
            has_answered = false;
        }
    }

    /// Sends a request, and again to where the answers lead. Says whether they led anywhere.
    async fn follow(
        &self,
        remote: &Remote,
        ask: &Ask,
        mut uri: Uri,
        authorization: Option<&http::HeaderValue>,
    ) -> Result<(Response<Incoming>, bool), Failure> {
        let origin = uri.clone();
        for redirects in 0..=REDIRECTS_MAX {
            // What identifies us is for the host that asked for it, and for no other.
            let is_origin =
                uri.scheme() == origin.scheme() && uri.authority() == origin.authority();
            let authorization = authorization.filter(|_| is_origin);
            let request = ask.request(&uri, authorization);
            let request = request.map_err(|error| remote.unreachable_for(error))?;
            let tls = match is_origin {
                true => remote.endpoint.host.tls.clone(),
                false => self.registries.tls(&uri),
            };
            let response = self.transport.send(request, tls.as_ref()).await;
            let response = response.map_err(|source| remote.unreachable(source))?;
            let leads_on = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !leads_on {
                return Ok((response, redirects > 0));
            }
            let location = text_header(&response, &header::LOCATION);
            uri = join(&uri, location).ok_or_else(|| PullError::Malformed {
                what: format!("where registry {} leads", remote.endpoint.name()),
                why: format!("`{location}` is no address"),
            })?;
        }
        Err(PullError::Malformed {
            what: format!("where registry {} leads", remote.endpoint.name()),
            why: format!("it leads on more than {REDIRECTS_MAX} times"),
        }
        .into())
    }

    /// Understands an answer that is not the one that was hoped for.
    async fn refusal(&self, remote: &Remote, ask: &Ask, response: Response<Incoming>) -> Failure {
        let code = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        if code == 404 && ask.path.starts_with("manifests/") {
            return PullError::NotFound { reference: self.reference.to_string() }.into();
        }
        let body = Limited::new(response.into_body(), EXPLANATION_BYTES_MAX);
        let body = tokio::time::timeout(super::download::SILENCE_MAX, body.collect()).await;
        let explanation = match body {
            Ok(Ok(collected)) => explanation(&collected.to_bytes()),
            _ => None,
        };
        let what = match explanation {
            Some(explanation) => format!("{} ({explanation})", ask.what),
            None => ask.what.clone(),
        };
        let registry = remote.endpoint.name().to_owned();
        Failure { error: PullError::Answered { registry, code, what }, retry_after }
    }
}

/// Credentials that came with the pull are for the registry that the reference names, not for
/// those that stand in for it; those have what `registries.yaml` gives them.
fn identity(endpoint: &Endpoint, credentials: &[Credentials]) -> Identity {
    let given =
        credentials.iter().filter(|_| endpoint.is_origin()).map(|credentials| Login::Password {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        });
    Identity::new(given.chain(endpoint.host.login.clone()))
}

impl Remote {
    pub(super) fn unreachable(&self, source: io::Error) -> PullError {
        let registry = self.endpoint.name().to_owned();
        PullError::Unreachable { registry, source: Arc::new(source) }
    }

    fn unreachable_for(&self, error: http::Error) -> PullError {
        self.unreachable(io::Error::other(error))
    }

    fn denied(&self) -> PullError {
        let registry = self.endpoint.name().to_owned();
        let repository = self.endpoint.repository.clone();
        if self.identity.has_logins() {
            PullError::Refused { registry, repository }
        } else {
            PullError::Denied { registry, repository }
        }
    }
}

impl Ask {
    fn request(
        &self,
        uri: &Uri,
        authorization: Option<&http::HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(header::USER_AGENT, concat!("kinglet/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, &self.accept);
        if let Some(authority) = uri.authority() {
            request = request.header(header::HOST, authority.as_str());
        }
        if self.from > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.from));
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Full::default())
    }
}

pub(super) fn ask_for_blob(blob: &Descriptor, what: &str) -> Ask {
    let digest = &blob.digest;
    Ask {
        method: Method::GET,
        path: format!("blobs/{digest}"),
        what: format!("{what} {digest}"),
        accept: "*/*".to_owned(),
        from: 0,
    }
}

impl Patience {
    /// Forgets earlier failures: something has come since.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
        self.silences = 0;
    }

    /// How long to wait before asking the same endpoint again; `None` where that has no point.
    pub(super) fn wait(&mut self, failure: &Failure, is_last_endpoint: bool) -> Option<Duration> {
        self.failures += 1;
        self.silences += u32::from(failure.is_silence());
        let attempts = if is_last_endpoint { ATTEMPTS_MAX } else { ATTEMPTS_OF_MIRRORS_MAX };
        let is_enough = self.failures >= attempts || self.silences >= SILENCES_MAX;
        if !failure.error.is_transient() || is_enough {
            return None;
        }
        let delay = BACKOFF.delay(self.failures);
        match failure.retry_after {
            Some(wanted) if wanted > RETRY_AFTER_MAX => None,
            Some(wanted) => Some(wanted.max(delay)),
            None => Some(delay),
        }
    }
}

/// What a registry says about when to come again. Dates are rare, and no date is worth a clock.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

fn text_header<B>(response: &Response<B>, name: impl header::AsHeaderName) -> &str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The message in `{"errors": [{"code": ..., "message": ...}]}`.
fn explanation(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = body.pointer("/errors/0/message")?.as_str()?;
    Some(message.chars().filter(|character| !character.is_control()).take(200).collect())
}

/// Where `location` is, seen from `base`.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    if location.is_empty() {
        return None;
    }
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    let uri: Uri = text.parse().ok()?;
    matches!(uri.scheme_str(), Some("http" | "https")).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_seen_from_where_they_are_given() {
        let base: Uri = "https://r:5000/v2/a/blobs/x?y".parse().unwrap();
        for (location, expected) in [
            ("https://cdn/x?sig=1", Some("https://cdn/x?sig=1")),
            ("//cdn/x", Some("https://cdn/x")),
            ("/y?z", Some("https://r:5000/y?z")),
            ("z", Some("https://r:5000/v2/a/blobs/z")),
            ("", None),
            ("ftp://x/y", None),
        ] {
            assert_eq!(join(&base, location), expected.map(|text| text.parse().unwrap()));
        }
    }

    #[test]
    fn patience_ends() {
        let failure = |code: u16, retry_after: Option<u64>| Failure {
            error: PullError::Answered { registry: String::new(), code, what: String::new() },
            retry_after: retry_after.map(Duration::from_secs),
        };
        let waits = |failure: &Failure, is_last: bool| {
            let mut patience = Patience::default();
            let mut waits = Vec::new();
            while let Some(delay) = patience.wait(failure, is_last) {
                waits.push(delay.as_millis());
            }
            waits
        };
        assert_eq!(waits(&failure(503, None), true), [250, 500, 1000, 2000]);
        assert_eq!(waits(&failure(503, None), false), [250]);
        assert_eq!(waits(&failure(429, Some(1)), true), [1000, 1000, 1000, 2000]);
        assert!(waits(&failure(429, Some(3600)), true).is_empty());
        assert!(waits(&failure(400, None), true).is_empty());
        let silence = io::Error::other(io::Error::from(io::ErrorKind::TimedOut));
        let (registry, source) = (String::new(), Arc::new(silence));
        let silence = Failure::from(PullError::Unreachable { registry, source });
        assert_eq!(waits(&silence, true), [250]);
    }

    #[test]
    fn registries_explain_themselves() {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate\nlimit"}]}"#;
        assert_eq!(explanation(body).unwrap(), "pull ratelimit");
        assert_eq!(explanation(b"<html>"), None);
    }
}
