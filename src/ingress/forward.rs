//! What happens between the proxy and endpoints for one request: which are tried, and when again.
//!
//! A request is sent again where nothing of it was sent before, and where a kept connection turns out
//! to be closed and the request only reads (RFC 9110, 9.2.2); never when an answer has begun.

use super::headers;
use super::limits::{CONNECT_TIMEOUT, ENDPOINTS_TRIED_MAX};
use super::outgoing::Content;
use super::proxy::{Proxy, Routed, Visitor};
use super::refusal::Refusal;
use super::tunnel::Tunnel;
use super::upstream::{Answering, Asking, ConnectError, Endpoint, Exchange, NoAnswer, Patience};
use crate::stdx::chain;
use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// An answer, and what it comes on where that is for one request at a time.
struct Answered {
    response: Response<Incoming>,
    exchange: Option<Box<Exchange>>,
    endpoint: Arc<Endpoint>,
}

/// What came of an attempt that brought no answer.
enum Failed {
    /// Nothing was sent, because the connection was kept for too long.
    Stale(Box<Request<Asking>>),
    /// Nothing was sent: the endpoint is not to be had.
    Unreachable(Box<Request<Asking>>, Refusal),
    /// It may have reached the endpoint, and may be sent again.
    Again(Box<Request<Asking>>),
    Finally(Refusal),
}

/// How endpoints are asked for one request.
struct Call<'a> {
    proxy: &'a Proxy,
    connect_timeout: Duration,
    patience: Patience,
}

impl Proxy {
    /// Sends a request to an endpoint. Says also to which.
    pub(super) async fn forward(
        &self,
        routed: Routed<'_>,
        visitor: &Visitor,
    ) -> Result<(Response<Content>, SocketAddr), Refusal> {
        let Routed { route, backend, head, body, upgrade } = routed;
        let mut endpoint = backend
            .choose(&[])
            .ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no endpoint is ready"))?;
        let timeouts = route.settings.timeouts;
        let patience = Patience::new(timeouts, endpoint.protocol);
        let connect_timeout = timeouts.connect.unwrap_or(CONNECT_TIMEOUT);
        let call = Call { proxy: self, connect_timeout, patience };
        let body = match upgrade {
            Some(_) => Asking::nothing(),
            None => Asking::new(body, patience.send),
        };
        let mut request = Box::new(Request::from_parts(head, body));
        let (mut tried, mut may_be_kept) = (Vec::new(), true);
        let answered = loop {
            match call.ask(&endpoint, request, may_be_kept).await {
                Ok(answered) => break answered,
                Err(Failed::Finally(refusal)) => return Err(refusal),
                Err(Failed::Stale(same)) => (request, may_be_kept) = (same, false),
                Err(Failed::Again(same)) => {
                    route.counted.repeated();
                    (request, may_be_kept) = (same, false);
                }
                Err(Failed::Unreachable(same, refusal)) => {
                    route.counted.unreachable();
                    tried.push(endpoint.address);
                    let next = backend.choose(&tried).filter(|_| tried.len() < ENDPOINTS_TRIED_MAX);
                    endpoint = next.ok_or(refusal)?;
                    request = same;
                }
            }
        };
        let address = answered.endpoint.address;
        Ok((finish(answered, upgrade, visitor, patience)?, address))
    }
}

impl Call<'_> {
    async fn ask(
        &self,
        endpoint: &Arc<Endpoint>,
        request: Box<Request<Asking>>,
        may_be_kept: bool,
    ) -> Result<Answered, Failed> {
        match endpoint.protocol.is_http2() {
            true => self.ask_shared(endpoint, request).await,
            false => self.ask_alone(endpoint, request, may_be_kept).await,
        }
    }

    /// On a connection that nobody else uses meanwhile.
    async fn ask_alone(
        &self,
        endpoint: &Arc<Endpoint>,
        mut request: Box<Request<Asking>>,
        may_be_kept: bool,
    ) -> Result<Answered, Failed> {
        let kept = if may_be_kept { endpoint.take() } else { None };
        let mut exchange = match kept {
            Some(kept) => kept,
            None => {
                let connector = &self.proxy.connector;
                match connector.exchange(endpoint, self.connect_timeout).await {
                    Ok(exchange) => exchange,
                    Err(error) => return Err(unreachable(endpoint, request, &error)),
                }
            }
        };
        for_http1(&mut request);
        let was_kept = exchange.is_used();
        let copy = (was_kept && is_repeatable(&request)).then(|| copy(&request));
        match (exchange.send(*request, self.patience).await, copy) {
            (Ok(response), _) => {
                Ok(Answered { response, exchange: Some(exchange), endpoint: Arc::clone(endpoint) })
            }
            (Err(NoAnswer::NotSent(request)), _) if was_kept => Err(Failed::Stale(request)),
            (Err(NoAnswer::NotSent(request)), _) => {
                endpoint.ails();
                let text = "the endpoint closes its connections";
                Err(Failed::Unreachable(request, Refusal::new(StatusCode::BAD_GATEWAY, text)))
            }
            (Err(NoAnswer::Broken(_)), Some(copy)) => Err(Failed::Again(copy)),
            (Err(error), _) => Err(Failed::Finally(no_answer(endpoint, &error))),
        }
    }

    /// On the connection that all requests share.
    async fn ask_shared(
        &self,
        endpoint: &Arc<Endpoint>,
        mut request: Box<Request<Asking>>,
    ) -> Result<Answered, Failed> {
        let mut shared = match self.proxy.connector.shared(endpoint, self.connect_timeout).await {
            Ok(shared) => shared,
            Err(error) => return Err(unreachable(endpoint, request, &error)),
        };
        for_http2(&mut request, endpoint.protocol.has_tls());
        match shared.send(*request, self.patience).await {
            Ok(response) => {
                Ok(Answered { response, exchange: None, endpoint: Arc::clone(endpoint) })
            }
            Err(NoAnswer::NotSent(request)) => {
                let text = "the endpoint closed the connection";
                let refusal = Refusal::new(StatusCode::BAD_GATEWAY, text);
                Err(Failed::Unreachable(request, refusal))
            }
            Err(error) => Err(Failed::Finally(no_answer(endpoint, &error))),
        }
    }
}

fn unreachable(endpoint: &Endpoint, request: Box<Request<Asking>>, error: &ConnectError) -> Failed {
    debug!(endpoint = %endpoint.address, error = chain(error), "an endpoint is not to be had");
    endpoint.ails();
    let status = match error {
        ConnectError::Late => StatusCode::GATEWAY_TIMEOUT,
        ConnectError::Refused(_) | ConnectError::Protocol(_) => StatusCode::BAD_GATEWAY,
    };
    Failed::Unreachable(request, Refusal::new(status, error.to_string()))
}

fn no_answer(endpoint: &Endpoint, error: &NoAnswer) -> Refusal {
    debug!(endpoint = %endpoint.address, error = chain(error), "an endpoint gave no answer");
    let status = match error {
        NoAnswer::Late => StatusCode::GATEWAY_TIMEOUT,
        NoAnswer::ClientSilent => StatusCode::REQUEST_TIMEOUT,
        NoAnswer::Broken(_) | NoAnswer::NotSent(_) => StatusCode::BAD_GATEWAY,
    };
    Refusal::new(status, error.to_string())
}

/// Whether it does no harm when an endpoint gets the request twice.
fn is_repeatable(request: &Request<Asking>) -> bool {
    let only_reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    only_reads && request.body().is_empty() && !request.headers().contains_key(UPGRADE)
}

fn copy(request: &Request<Asking>) -> Box<Request<Asking>> {
    let mut copy = Request::new(Asking::nothing());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Box::new(copy)
}

/// A request names its target and has the host in a header.
fn for_http1(request: &mut Request<Asking>) {
    *request.version_mut() = Version::HTTP_11;
    if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        *request.uri_mut() = target(request.uri()).into();
    }
}

fn target(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// A request says all of where it goes.
fn for_http2(request: &mut Request<Asking>, has_tls: bool) {
    *request.version_mut() = Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if has_tls { Scheme::HTTPS } else { Scheme::HTTP });
    let host = request.headers_mut().remove(HOST);
    parts.authority = host.and_then(|host| host.as_bytes().try_into().ok());
    parts.path_and_query = Some(target(request.uri()));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Makes the endpoint's answer the client's.
fn finish(
    answered: Answered,
    upgrade: Option<OnUpgrade>,
    visitor: &Visitor,
    patience: Patience,
) -> Result<Response<Content>, Refusal> {
    let Answered { response, exchange, endpoint } = answered;
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_11;
    let protocol = head.headers.get(UPGRADE).cloned();
    let kept_for = headers::kept_for(&head.headers);
    headers::to_client(&mut head.headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        let far = exchange.and_then(|exchange| exchange.into_stream());
        let (Some(client), Some((stream, read))) = (upgrade, far) else {
            let text = "the endpoint has changed the protocol though nobody asked it to";
            return Err(Refusal::new(StatusCode::BAD_GATEWAY, text));
        };
        let tunnel = Tunnel { client, stream, read, underway: visitor.seat.begin() };
        *visitor.tunnel.lock().expect("no panics under this lock") = Some(tunnel);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.extend(protocol.map(|protocol| (UPGRADE, protocol)));
        return Ok(Response::from_parts(head, Content::Own(None)));
    }
    let answering = Answering::new(body, patience.stream);
    let answering = match exchange {
        Some(exchange) => answering.on(exchange, endpoint, kept_for),
        None => answering,
    };
    Ok(Response::from_parts(head, Content::Endpoint(answering)))
}
