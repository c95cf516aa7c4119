//! Being let in by one endpoint: passwords, and tokens that an authorization server gives for them.
//!
//! The exchange is that of the distribution project's token authentication (docs/spec/auth, v3.0).

use super::Failure;
use super::challenge::Challenge;
use super::registries::{Login, Registries};
use super::transport::Transport;
use crate::runtime::error::PullError;
use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::io;
use std::sync::{Arc, Mutex};

/// A larger answer of an authorization server is refused.
const TOKEN_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// What OAuth 2 servers are told who asks.
const CLIENT_ID: &str = "kinglet";
/// Everything but RFC 3986's unreserved characters is escaped.
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':').remove(b'/');

/// Who we say we are at one endpoint, and what came of it.
#[derive(Debug)]
pub(super) struct Identity {
    /// In the order in which they are tried. Nobody in particular (`None`) comes last.
    logins: Vec<Option<Login>>,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Of `logins`.
    current: usize,
    /// What requests carry.
    header: Option<HeaderValue>,
}

/// A login as it stands, to be held against later.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    current: usize,
    pub(super) header: Option<HeaderValue>,
}

/// What an exchange for a token needs to know.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) transport: &'a Transport,
    /// The endpoint's name, for errors.
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    /// Whether the endpoint itself is reached by plain http.
    pub(super) is_plain: bool,
    pub(super) registries: &'a Registries,
}

impl Identity {
    pub(super) fn new(logins: impl IntoIterator<Item = Login>) -> Self {
        let logins = logins.into_iter().map(Some).chain([None]).collect();
        Self { logins, state: Mutex::default() }
    }

    pub(super) fn attempt(&self) -> Attempt {
        let state = self.state.lock().expect("no panics under this lock");
        Attempt { current: state.current, header: state.header.clone() }
    }

    /// Whether there is anybody to name.
    pub(super) fn has_logins(&self) -> bool {
        self.logins.len() > 1
    }

    /// Goes on to the next login after `failed` was refused; `false` where there is none.
    pub(super) fn give_up(&self, failed: &Attempt) -> bool {
        let mut state = self.state.lock().expect("no panics under this lock");
        if state.current == failed.current {
            if state.current + 1 >= self.logins.len() {
                return false;
            }
            *state = State { current: state.current + 1, header: None };
        }
        true
    }

    /// Does what a challenge asks for, as the current login. `false` where that cannot convince.
    pub(super) async fn answer(
        &self,
        challenge: &Challenge,
        attempt: &Attempt,
        exchange: &Exchange<'_>,
    ) -> Result<bool, Failure> {
        let login = self.logins[attempt.current].as_ref();
        let header = match challenge {
            Challenge::Basic => match login {
                Some(Login::Password { username, password }) => Some(basic(username, password)),
                Some(Login::IdentityToken(_)) | None => None,
            },
            Challenge::Bearer { realm, service, scope } => {
                let wanted = Wanted {
                    service: service.as_deref(),
                    scope: scope
                        .clone()
                        .unwrap_or_else(|| format!("repository:{}:pull", exchange.repository)),
                };
                exchange.token(realm, &wanted, login).await?.map(|token| format!("Bearer {token}"))
            }
        };
        let Some(mut header) = header.and_then(|text| HeaderValue::try_from(text).ok()) else {
            return Ok(false);
        };
        header.set_sensitive(true);
        let mut state = self.state.lock().expect("no panics under this lock");
        if state.current == attempt.current {
            state.header = Some(header);
        }
        Ok(true)
    }
}

fn basic(username: &str, password: &str) -> String {
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

struct Wanted<'a> {
    service: Option<&'a str>,
    scope: String,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Exchange<'_> {
    /// `None` where the authorization server refuses.
    async fn token(
        &self,
        realm: &str,
        wanted: &Wanted<'_>,
        login: Option<&Login>,
    ) -> Result<Option<String>, Failure> {
        let malformed = |why: String| PullError::Malformed {
            what: format!("what registry {} asks for", self.registry),
            why,
        };
        let bad_realm = || malformed(format!("`{realm}` is no address of an authorization server"));
        let uri: Uri = realm.parse().map_err(|_| bad_realm())?;
        let is_plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(bad_realm().into()),
        };
        if is_plain && !self.is_plain && login.is_some() {
            // Over https we would not be asked to show a password to everybody on the way.
            return Err(
                malformed(format!("`{realm}` is not https, and would see a password")).into()
            );
        }
        let request = token_request(realm, wanted, login).map_err(|_| bad_realm())?;
        let tls = self.registries.tls(&uri);
        let response = self.transport.send(request, tls.as_ref()).await;
        let response = response.map_err(|source| self.unreachable(source))?;
        let status = response.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                return Ok(None);
            }
            _ => {
                let retry_after = super::session::retry_after(response.headers());
                let error = PullError::Answered {
                    registry: self.registry.to_owned(),
                    code: status.as_u16(),
                    what: format!("a token from {realm}"),
                };
                return Err(Failure { error, retry_after });
            }
        }
        let body = Limited::new(response.into_body(), TOKEN_ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(super::download::SILENCE_MAX, body).await;
        let body = body.map_err(|_elapsed| self.unreachable(super::download::silence()))?;
        let body = body.map_err(|error| self.unreachable(io::Error::other(error)))?.to_bytes();
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|error| malformed(format!("the token from {realm}: {error}")))?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() {
            return Err(malformed(format!("{realm} gave no token")).into());
        }
        Ok(Some(token))
    }

    fn unreachable(&self, source: io::Error) -> PullError {
        PullError::Unreachable { registry: self.registry.to_owned(), source: Arc::new(source) }
    }
}

fn token_request(
    realm: &str,
    wanted: &Wanted<'_>,
    login: Option<&Login>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let escaped = |text: &str| utf8_percent_encode(text, QUERY).to_string();
    let mut query = Vec::new();
    if let Some(service) = wanted.service {
        query.push(format!("service={}", escaped(service)));
    }
    query.extend(wanted.scope.split(' ').map(|scope| format!("scope={}", escaped(scope))));
    if let Some(Login::IdentityToken(token)) = login {
        query.push("grant_type=refresh_token".to_owned());
        query.push(format!("client_id={CLIENT_ID}"));
        query.push(format!("refresh_token={}", escaped(token)));
        return Request::builder()
            .method(Method::POST)
            .uri(realm)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(query.join("&").into()));
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let mut request = Request::builder().uri(format!("{realm}{separator}{}", query.join("&")));
    if let Some(Login::Password { username, password }) = login {
        request = request.header(header::AUTHORIZATION, basic(username, password));
    }
    request.body(Full::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_asked_for_by_query_or_by_form() {
        let wanted = Wanted { service: Some("a b"), scope: "repository:x/y:pull".to_owned() };
        let login = Login::Password { username: "user".to_owned(), password: "pass".to_owned() };
        let request = token_request("https://auth/token?x=1", &wanted, Some(&login)).unwrap();
        let expected = "https://auth/token?x=1&service=a%20b&scope=repository:x/y:pull";
        assert_eq!(request.uri(), expected);
        assert_eq!(request.headers()[header::AUTHORIZATION], "Basic dXNlcjpwYXNz");
        let login = Login::IdentityToken("t&t".to_owned());
        let request = token_request("https://auth/token", &wanted, Some(&login)).unwrap();
        assert_eq!((request.method(), request.uri().query()), (&Method::POST, None));
        assert!(request.headers().get(header::AUTHORIZATION).is_none());
    }

    #[test]
    fn logins_are_tried_in_their_order_and_then_nobody() {
        let login =
            |name: &str| Login::Password { username: name.to_owned(), password: String::new() };
        let identity = Identity::new([login("a"), login("b")]);
        let first = identity.attempt();
        assert!(identity.give_up(&first));
        assert!(identity.give_up(&first), "somebody else has given it up already");
        assert_eq!(identity.attempt().current, 1);
        assert!(identity.give_up(&identity.attempt()));
        assert!(!identity.give_up(&identity.attempt()), "nobody was the last");
    }
}
