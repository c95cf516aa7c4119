//! One request: which rule it comes under, and what becomes of it.
//!
//! Start at [`Proxy::answer`].

use super::access_log::{self, Entry};
use super::crowd::{Crowd, Seat};
use super::headers::{self, Arrival, Peer, Scheme};
use super::model::Settings;
use super::outgoing::{Content, Outgoing};
use super::refusal::Refusal;
use super::router::Router;
use super::tally::{Record, Route as Counted, Tally};
use super::target::{self, normal_path};
use super::tunnel::Tunnel;
use super::upstream::{Backend, Connector};
use crate::stdx::http::wanted_protocol;
use crate::stdx::{Clock, monotonic};
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) router: RwLock<Arc<Router<Route>>>,
    pub(super) connector: Connector,
    pub(super) crowd: Arc<Crowd>,
    pub(super) tally: Tally,
    pub(super) clock: Clock,
    /// Whose word about clients counts.
    pub(super) trusted: Vec<IpNet>,
    /// Where clients are sent that are to use TLS; `None`: nowhere.
    pub(super) https_port: Option<u16>,
    /// Where clients come to, with TLS and without.
    pub(super) bound: watch::Sender<BTreeMap<bool, SocketAddr>>,
    pub(super) closing: CancellationToken,
}

/// What a rule has become.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// Where requests go, or why they go nowhere.
    pub(super) backend: Result<Arc<Backend>, Arc<str>>,
    pub(super) settings: Arc<Settings>,
    pub(super) source: crate::api::ObjectKey,
    pub(super) counted: Arc<Counted>,
}

/// Who is at the other end of a connection, and what becomes of it.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) peer: Peer,
    pub(super) scheme: Scheme,
    pub(super) seat: Seat,
    /// What the connection becomes when the answer that is on its way is out.
    pub(super) tunnel: Mutex<Option<Tunnel>>,
}

/// A request that has its route.
pub(super) struct Routed<'a> {
    pub(super) route: &'a Route,
    pub(super) backend: &'a Backend,
    pub(super) head: Parts,
    pub(super) body: Incoming,
    /// The client wants the connection to become something else, and this is its end of it.
    pub(super) upgrade: Option<OnUpgrade>,
}

impl Proxy {
    /// Whether somebody's word about clients counts.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|range| range.contains(&address))
    }

    fn router(&self) -> Arc<Router<Route>> {
        Arc::clone(&self.router.read().expect("no panics under this lock"))
    }

    pub(super) async fn answer(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
    ) -> Response<Outgoing> {
        let (underway, began) = (visitor.seat.begin(), monotonic());
        let router = self.router();
        let mut entry = self.tally.log().map(|_| Box::new(self.entry(visitor, &request)));
        let (route, answered) = match self.find(&router, visitor, &request) {
            Ok(route) => {
                let answered = self.follow(route, visitor, request).await;
                (Some(route), answered)
            }
            Err(refusal) => (None, Err(refusal)),
        };
        let (response, endpoint) = match answered {
            Ok((response, endpoint)) => (response, endpoint),
            Err(refusal) => (refusal.answer().map(|text| Content::Own(Some(text))), None),
        };
        if let Some(entry) = &mut entry {
            entry.source = route.map(|route| route.source.clone());
            let backend = route.and_then(|route| route.backend.as_ref().ok());
            entry.backend = backend.map(|backend| backend.id.clone());
            entry.endpoint = endpoint;
        }
        let counted = route.map_or(&self.tally.unknown, |route| &route.counted);
        let record = Record::new(Arc::clone(counted), began, response.status());
        let record = record.logged(self.tally.log().cloned().zip(entry));
        response.map(|content| Outgoing::new(content, underway, record))
    }

    /// The rule that the request comes under.
    fn find<'a>(
        &self,
        router: &'a Router<Route>,
        visitor: &Visitor,
        request: &Request<Incoming>,
    ) -> Result<&'a Route, Refusal> {
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            let text = "this method is not served";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text));
        }
        let host = target::host(request)?;
        let path = normal_path(request.uri().path().as_bytes())?;
        let route = router.route(&host.name, &path).ok_or_else(|| {
            Refusal::new(StatusCode::NOT_FOUND, "nothing is served for this host and path")
        })?;
        let scheme = headers::scheme_of(request.headers(), &visitor.peer, visitor.scheme);
        match self.https_port {
            Some(port) if route.settings.redirects_to_https && scheme == Scheme::Http => {
                Err(redirect(request, &host.name, port))
            }
            _ => Ok(route),
        }
    }

    /// Sends the request on. Says also which endpoint has answered.
    async fn follow(
        &self,
        route: &Route,
        visitor: &Visitor,
        mut request: Request<Incoming>,
    ) -> Result<(Response<Content>, Option<SocketAddr>), Refusal> {
        let backend = match &route.backend {
            Ok(backend) => backend,
            Err(why) => {
                let text = why.to_string();
                return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text));
            }
        };
        let wants = wanted_protocol(request.headers())
            .filter(|_| request.version() == Version::HTTP_11)
            .and_then(|protocol| HeaderValue::from_str(protocol).ok());
        let upgrade = wants.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut head, body) = request.into_parts();
        let host = match head.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => head.headers.get(HOST).cloned(),
        };
        let arrival = Arrival {
            peer: &visitor.peer,
            scheme: visitor.scheme,
            host: &host.unwrap_or_else(|| HeaderValue::from_static("")),
        };
        headers::to_backend(&mut head.headers, arrival, wants);
        let routed = Routed { route, backend, head, body, upgrade };
        let (response, endpoint) = self.forward(routed, visitor).await?;
        Ok((response, Some(endpoint)))
    }

    fn entry(&self, visitor: &Visitor, request: &Request<Incoming>) -> Entry {
        let headers = request.headers();
        let host = request.uri().authority().map(|authority| authority.as_str().to_owned());
        let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
        Entry {
            at: self.clock.now(),
            peer: visitor.peer.address,
            method: request.method().clone(),
            target: target.to_owned(),
            version: request.version(),
            host: host.unwrap_or_else(|| access_log::text_of(headers, HOST)),
            referer: access_log::text_of(headers, access_log::REFERER),
            agent: access_log::text_of(headers, access_log::AGENT),
            source: None,
            backend: None,
            endpoint: None,
        }
    }
}

/// The same over HTTPS.
fn redirect(request: &Request<Incoming>, host: &str, port: u16) -> Refusal {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let location = match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    match HeaderValue::try_from(location) {
        Ok(location) if !host.is_empty() => Refusal::elsewhere(location),
        _ => Refusal::new(StatusCode::FORBIDDEN, "this is served over HTTPS only"),
    }
}
