//! Asks a container over HTTP, as its pod says.
//!
//! Start at [`plan`], which is pure, and [`send`]. Upstream `NewRequestForHTTPGetAction`
//! (pkg/probe/http/request.go) and `RedirectChecker` (pkg/probe/http/http.go), v1.35.

use crate::pki::AnyServer;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Collected, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls_pki_types::ServerName;
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Who is sent elsewhere more often goes nowhere.
const REDIRECTS_MAX: u32 = 10;

/// An answer is not read any further, and one that is longer counts as empty: upstream
/// `maxRespBodyLength`.
const BODY_BYTES_MAX: usize = 10 << 10;

/// What may not stand for itself in a path with its query.
const PATH: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`').add(b'{').add(b'}').add(b'#');

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    /// The server's certificate is nobody's business: it is the container itself that is asked.
    Https,
}

/// What to ask for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpGet {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
}

/// Why a container could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpGetError {
    #[error("the pod has no address yet")]
    NoAddress,
    #[error("couldn't find port {port} in container {container:?}")]
    NoPort { port: String, container: String },
    #[error("{name:?} cannot be a header")]
    BadHeader { name: String },
    #[error("{url:?} cannot be asked for")]
    BadUrl { url: String },
    #[error("{authority} cannot be reached")]
    Unreachable {
        authority: String,
        #[source]
        source: io::Error,
    },
    /// What would answer `http` does not answer `https`.
    #[error("{authority} does not speak TLS")]
    NotTls { authority: String },
    #[error("{authority} does not answer")]
    NoAnswer {
        authority: String,
        #[source]
        source: hyper::Error,
    },
    #[error("it redirects more than {REDIRECTS_MAX} times")]
    Redirects,
}

/// `address` is the pod's, `agent` what this calls itself where the pod does not say.
///
/// # Errors
/// For a port, a header or a URL that is none.
pub(super) fn plan(
    action: &HTTPGetAction,
    container: &Container,
    address: Option<IpAddr>,
    agent: &'static str,
) -> Result<HttpGet, HttpGetError> {
    let is_https =
        action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let host = match action.host.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => host.to_owned(),
        None => address.ok_or(HttpGetError::NoAddress)?.to_string(),
    };
    let path = action.path.as_deref().unwrap_or_default();
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(HttpGet {
        scheme: if is_https { Scheme::Https } else { Scheme::Http },
        host,
        port: port(&action.port, container)?,
        path: format!("{slash}{}", utf8_percent_encode(path, PATH)),
        headers: headers(action, agent)?,
    })
}

/// A number, or the name of one of the container's ports.
pub(super) fn port(wanted: &IntOrString, container: &Container) -> Result<u16, HttpGetError> {
    let number = match wanted {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let named = |port: &&k8s_openapi::api::core::v1::ContainerPort| {
                port.name.as_deref() == Some(text.as_str())
            };
            container.ports.iter().flatten().find(named).map(|port| port.container_port)
        }),
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| HttpGetError::NoPort {
        port: match wanted {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        },
        container: container.name.clone(),
    })
}

fn headers(action: &HTTPGetAction, agent: &'static str) -> Result<HeaderMap, HttpGetError> {
    let mut headers = HeaderMap::new();
    for header in action.http_headers.iter().flatten() {
        let bad = || HttpGetError::BadHeader { name: header.name.clone() };
        let name = HeaderName::try_from(&header.name).map_err(|_| bad())?;
        headers.append(name, HeaderValue::try_from(&header.value).map_err(|_| bad())?);
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
    // One that is set to nothing is not sent.
    let accept = headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    if accept.is_empty() {
        headers.remove(ACCEPT);
    }
    Ok(headers)
}

impl HttpGet {
    /// As a URL has it.
    pub(super) fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// All of it, as users know it.
    pub(super) fn url(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    /// The same without TLS, and without what is not for everybody's eyes.
    pub(super) fn in_plain(mut self) -> Self {
        self.headers.remove(AUTHORIZATION);
        Self { scheme: Scheme::Http, ..self }
    }

    /// Where a response sends whom it answers, if that is to the same host.
    fn redirected(&self, response: &Response<Bytes>) -> Option<Self> {
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        if !response.status().is_redirection() {
            return None;
        }
        let uri: Uri = location.parse().ok()?;
        let scheme = match uri.scheme_str() {
            None => self.scheme,
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) => return None,
        };
        let usual = if scheme == Scheme::Https { 443 } else { 80 };
        let (host, port) = match uri.authority() {
            None => (self.host.as_str(), self.port),
            Some(authority) => (authority.host(), authority.port_u16().unwrap_or(usual)),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let (host, path) = (host.trim_matches(['[', ']']), path.to_owned());
        (host == self.host && path.starts_with('/')).then(|| Self {
            scheme,
            host: host.to_owned(),
            port,
            path,
            headers: self.headers.clone(),
        })
    }
}

/// Asks, and follows where the same host leads. Whatever is answered is an answer.
pub(super) async fn send(get: HttpGet) -> Result<Response<Bytes>, HttpGetError> {
    let mut get = get;
    for _redirect in 0..=REDIRECTS_MAX {
        let response = send_once(&get).await?;
        match get.redirected(&response) {
            Some(next) => get = next,
            None => return Ok(response),
        }
    }
    Err(HttpGetError::Redirects)
}

async fn send_once(get: &HttpGet) -> Result<Response<Bytes>, HttpGetError> {
    let authority = get.authority();
    let unreachable = |source| HttpGetError::Unreachable { authority: authority.clone(), source };
    let stream = TcpStream::connect((get.host.as_str(), get.port)).await.map_err(unreachable)?;
    if get.scheme == Scheme::Http {
        return exchange(get, stream).await;
    }
    let name = ServerName::try_from(get.host.clone())
        .map_err(|_| HttpGetError::BadUrl { url: authority.clone() })?;
    let connector = TlsConnector::from(AnyServer::client_config());
    match connector.connect(name, stream).await {
        Ok(stream) => exchange(get, stream).await,
        Err(error) if is_not_tls(&error) => Err(HttpGetError::NotTls { authority }),
        Err(error) => Err(unreachable(error)),
    }
}

/// What comes first is nothing that TLS begins with.
fn is_not_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

async fn exchange<S>(get: &HttpGet, stream: S) -> Result<Response<Bytes>, HttpGetError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let no_answer = |source| HttpGetError::NoAnswer { authority: get.authority(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // The connection ends with this exchange.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let bad_url = |_error| HttpGetError::BadUrl { url: get.path.clone() };
    let mut request =
        Request::get(get.path.as_str()).body(Empty::<Bytes>::new()).map_err(bad_url)?;
    let headers = request.headers_mut();
    headers.clone_from(&get.headers);
    let host = HeaderValue::try_from(get.authority());
    let host = host.map_err(|_| HttpGetError::BadUrl { url: get.authority() })?;
    headers.entry(HOST).or_insert(host);
    let (head, body) = sender.send_request(request).await.map_err(no_answer)?.into_parts();
    // Also for the server's sake. Whether it says all of it, and at what length, does not matter.
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_or_else(|_unfinished| Bytes::new(), Collected::to_bytes);
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// `https web:8443 /path; name=value`, or the error.
    #[track_caller]
    fn check(action: Value, expected: &str) {
        let action = serde_json::from_value(action).unwrap();
        let ports = json!([{ "name": "web", "containerPort": 8080 }]);
        let container = serde_json::from_value(json!({ "name": "a", "ports": ports })).unwrap();
        let address = Some("10.42.0.9".parse().unwrap());
        let text = match plan(&action, &container, address, "kube-test/1.35") {
            Ok(get) => {
                let mut text = format!("{:?} {} {}", get.scheme, get.authority(), get.path);
                for (name, value) in &get.headers {
                    text += &format!("; {name}={}", value.to_str().unwrap());
                }
                text
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn requests_are_as_the_pod_says() {
        let usual = "; user-agent=kube-test/1.35; accept=*/*";
        check(json!({ "port": 80 }), &format!("Http 10.42.0.9:80 /{usual}"));
        check(
            json!({ "port": "web", "path": "/a b?x=1", "scheme": "HTTPS" }),
            &format!("Https 10.42.0.9:8080 /a%20b?x=1{usual}"),
        );
        check(
            json!({ "port": "81", "path": "health", "host": "::1" }),
            &format!("Http [::1]:81 /health{usual}"),
        );
        let headers = json!([
            { "name": "X-One", "value": "1" }, { "name": "user-agent", "value": "own" },
            { "name": "Accept", "value": "" },
        ]);
        check(
            json!({ "port": 80, "httpHeaders": headers }),
            "Http 10.42.0.9:80 /; x-one=1; user-agent=own",
        );
        check(json!({ "port": "none" }), "couldn't find port none in container \"a\"");
        check(json!({ "port": 70_000 }), "couldn't find port 70000 in container \"a\"");
        check(
            json!({ "port": 80, "httpHeaders": [{ "name": "a b", "value": "" }] }),
            "\"a b\" cannot be a header",
        );
    }

    /// Answers one connection after another, each with the next of `answers`. Returns what it was
    /// asked.
    async fn serve(answers: Vec<String>) -> (u16, JoinSet<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4_096];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                asked.push(request.lines().next().unwrap_or_default().to_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (port, server)
    }

    fn get(scheme: Scheme, port: u16) -> HttpGet {
        let (host, path) = ("127.0.0.1".to_owned(), "/one".to_owned());
        HttpGet { scheme, host, port, path, headers: HeaderMap::new() }
    }

    const LAST: &str = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno";

    #[tokio::test]
    async fn any_answer_is_one_and_redirects_are_followed_to_the_same_host() {
        let to = |place: &str| {
            format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n")
        };
        let (port, mut server) = serve(vec![to("/two"), LAST.to_owned()]).await;
        let response = send(get(Scheme::Http, port)).await.unwrap();
        assert_eq!((response.status().as_u16(), &**response.body()), (500, &b"no"[..]));
        let asked = server.join_next().await.unwrap().unwrap();
        assert_eq!(asked, ["GET /one HTTP/1.1", "GET /two HTTP/1.1"]);
        let (port, _server) = serve(vec![to("http://other.example/")]).await;
        assert_eq!(send(get(Scheme::Http, port)).await.unwrap().status(), 302);
    }

    #[tokio::test]
    async fn a_server_without_tls_is_told_from_one_that_is_not_there() {
        let (port, _server) = serve(vec![LAST.to_owned()]).await;
        let error = send(get(Scheme::Https, port)).await.unwrap_err();
        assert!(matches!(error, HttpGetError::NotTls { .. }), "{error:?}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = send(get(Scheme::Http, port)).await.unwrap_err();
        assert!(matches!(error, HttpGetError::Unreachable { .. }), "{error:?}");
    }
}
