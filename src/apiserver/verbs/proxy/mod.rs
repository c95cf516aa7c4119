//! Proxy: requests that are handed on to a node, a pod or a Service (upstream
//! pkg/registry/core/{node,pod,service} `ResourceLocation`, and apimachinery
//! pkg/util/proxy/upgradeaware.go, v1.35).
//!
//! Start at [`answer`]. Where a request goes is in [`plan`], what becomes of a page's links in
//! [`links`].

mod links;
mod plan;

use super::super::request::ResourcePath;
use super::super::server::{Asked, Server, no_such_path};
use crate::api::ObjectKey;
use crate::api::status::{Reason, Status};
use crate::pki::AnyServer;
use crate::registry::{self, Kind};
use crate::stdx::chain;
use crate::stdx::http::{ByteStream, Request, Response, full, relay, wanted_protocol};
use crate::storage::{ListRequest, Store};
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use links::Site;
use plan::{Place, Target, Written};
pub(in super::super) use plan::{is_of_others, node_of};
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// A pod that cannot be connected to in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A page that is longer breaks off: links are found in whole pages.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// What is said to this server and to nobody behind it. Nobody is to pack what may be a page.
const PRIVATE_HEADERS: &[HeaderName] = &[AUTHORIZATION, HOST, ACCEPT_ENCODING];

/// Where the path of a node begins that is asked for through a proxy, in segments; and that of what
/// is in a namespace.
const NODE_SEGMENTS: usize = 5;
const NAMESPACED_SEGMENTS: usize = 7;

/// Asks pods, whatever certificate they show: who may reach them is decided here.
#[derive(Clone)]
pub(in super::super) struct PodClient {
    over_network: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Connections through nodes, each to its end.
    through_nodes: TaskTracker,
}

/// Where a request is sent.
#[derive(Clone, Debug)]
struct Way {
    place: Place,
    /// Behind which it is, where it is an address of a pod.
    node: Option<String>,
}

impl Way {
    fn to_pod(place: Place, pod: &Pod) -> Self {
        Self { place, node: plan::node_of(pod).map(str::to_owned) }
    }
}

impl fmt::Debug for PodClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PodClient")
    }
}

impl Default for PodClient {
    fn default() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config((*AnyServer::client_config()).clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // Nothing stays open between requests.
        let over_network =
            Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Self { over_network, through_nodes: TaskTracker::new() }
    }
}

impl PodClient {
    /// One request on a connection of its own.
    async fn ask_on(
        &self,
        stream: ByteStream,
        place: Place,
        request: Request,
    ) -> io::Result<http::Response<Incoming>> {
        let stream: ByteStream = match place.is_secure() {
            true => {
                let connector = TlsConnector::from(AnyServer::client_config());
                let name = ServerName::from(place.address().ip());
                Box::new(connector.connect(name, stream).await?)
            }
            false => stream,
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // It ends with the answer's body, or with whoever reads it.
        self.through_nodes.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(error = chain(&error), "what was asked of a pod broke off");
            }
        });
        let (mut head, body) = request.into_parts();
        let host = HeaderValue::from_str(&place.host()).map_err(io::Error::other)?;
        head.headers.insert(HOST, host);
        let request = http::Request::from_parts(head, Full::new(body));
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// Answers a request for `proxy` or for what is below it.
pub(super) async fn answer(
    server: &Arc<Server>,
    asked: &Asked,
    path: &ResourcePath,
    body: Bytes,
) -> Result<Response, Status> {
    let name = path.name.as_deref().unwrap_or_default();
    let namespace = path.namespace.as_deref();
    let target = Target::parse(name).ok_or_else(|| {
        let singular = path.resource.trim_end_matches('s');
        Status::bad_request(format!("invalid {singular} request {name:?}"))
    })?;
    if !path.group.is_empty() || path.version != "v1" {
        return Err(no_such_path());
    }
    let (way, segments) = match (path.resource.as_str(), namespace) {
        ("nodes", None) => {
            let node = read(server, "nodes", &ObjectKey::cluster(target.name)).await?;
            let place = plan::of_node(&node, target)?;
            (place.map(|place| Way { place, node: None }), NODE_SEGMENTS)
        }
        ("pods", Some(namespace)) => {
            let key = ObjectKey::namespaced(namespace, target.name);
            let pod = read(server, "pods", &key).await?;
            (Some(Way::to_pod(plan::of_pod(&pod, target)?, &pod)), NAMESPACED_SEGMENTS)
        }
        ("services", Some(namespace)) => {
            (Some(of_service(server, namespace, target).await?), NAMESPACED_SEGMENTS)
        }
        _ => return Err(no_such_path()),
    };
    let below = below(&asked.info.path, segments);
    if let Some(redirect) = to_root(asked, below) {
        return Ok(redirect);
    }
    let request = request(asked, below.unwrap_or_default(), body)?;
    match way {
        Some(way) => {
            let length = asked.info.path.len() - below.map_or(0, |below| below.len() + 1);
            let prefix = asked.info.path[..length].to_owned();
            to_place(server, request, way, &prefix).await
        }
        None => {
            let answered = server.nodes.call(target.name, request).await;
            answered.map_err(|error| unreachable(name, &error))
        }
    }
}

/// What follows so many segments of a path and a slash, as the client wrote it.
fn below(path: &str, segments: usize) -> Option<&str> {
    let mut rest = path.trim_start_matches('/');
    for _ in 1..segments {
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    rest.split_once('/').map(|(_, rest)| rest)
}

/// Links of a page are told from where it is, which is below the proxy and not beside it (upstream
/// `proxyRedirectsforRootPath`).
fn to_root(asked: &Asked, below: Option<&str>) -> Option<Response> {
    let is_read = matches!(asked.method, Method::GET | Method::HEAD);
    if below.is_some() || !is_read || wanted_protocol(&asked.headers).is_some() {
        return None;
    }
    let query = asked.query.encode();
    let separator = if query.is_empty() { "" } else { "?" };
    let location = format!("{}/{separator}{query}", asked.info.path);
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, HeaderValue::from_str(&location).ok()?);
    Some(response)
}

fn request(asked: &Asked, path: &str, body: Bytes) -> Result<Request, Status> {
    let query = asked.query.encode();
    let separator = if query.is_empty() { "" } else { "?" };
    let mut request = Request::new(body);
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = format!("/{path}{separator}{query}").parse().map_err(Status::internal)?;
    *request.headers_mut() = headers(asked)?;
    Ok(request)
}

fn headers(asked: &Asked) -> Result<HeaderMap, Status> {
    let mut headers = asked.headers.clone();
    for name in PRIVATE_HEADERS {
        headers.remove(name);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    let path = HeaderValue::from_str(&asked.info.path).map_err(Status::internal)?;
    headers.insert("x-forwarded-uri", path);
    Ok(headers)
}

fn unreachable(name: &str, error: &dyn std::error::Error) -> Status {
    let message = format!("error trying to reach {name:?}: {}", chain(error));
    Status::new(Reason::ServiceUnavailable, message)
}

/// `prefix` is the path of the proxy itself.
async fn to_place(
    server: &Server,
    request: Request,
    way: Way,
    prefix: &str,
) -> Result<Response, Status> {
    let host = way.place.host();
    let mut response = ask(server, request, way).await.map_err(|why| unreachable(&host, &*why))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(relay(response));
    }
    let site = Site { host: &host, prefix };
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    if let Some(through) = location.and_then(|location| site.through(location)) {
        let through = HeaderValue::from_str(&through).map_err(Status::internal)?;
        response.headers_mut().insert(LOCATION, through);
    } else if is_page(response.headers()) {
        return page(response, site).await;
    }
    Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}

/// Asks a pod through its node, where that keeps a way open: it may be where the network between
/// nodes does not reach.
async fn ask(
    server: &Server,
    mut request: Request,
    Way { place, node }: Way,
) -> Result<http::Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
    let connecting = node.and_then(|node| server.nodes.connect(&node, place.address()));
    if let Some(connecting) = connecting {
        let stream = timeout(CONNECT_TIMEOUT, connecting).await??;
        return Ok(server.pod_client.ask_on(stream, place, request).await?);
    }
    *request.uri_mut() = format!("{place}{}", request.uri()).parse::<Uri>()?;
    Ok(server.pod_client.over_network.request(request.map(Full::new)).await?)
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim() == "text/html" && !headers.contains_key(CONTENT_ENCODING)
}

async fn page(response: http::Response<Incoming>, site: Site<'_>) -> Result<Response, Status> {
    let (mut head, body) = response.into_parts();
    let read = Limited::new(body, PAGE_BYTES_MAX).collect().await;
    let html = read.map_err(|error| unreachable(site.host, &*error))?.to_bytes();
    let page = site.page(&html);
    // The answer to HEAD tells of a body that it does not have.
    if !html.is_empty() {
        head.headers.insert(CONTENT_LENGTH, page.len().into());
    }
    Ok(Response::from_parts(head, full(page)))
}

fn kind(group: &str, plural: &str) -> Result<&'static Kind, Status> {
    registry::find(group, "v1", plural).ok_or_else(no_such_path)
}

async fn read<T: DeserializeOwned>(
    server: &Server,
    plural: &str,
    key: &ObjectKey,
) -> Result<T, Status> {
    let kind = kind("", plural)?;
    let found = find(server, plural, key).await?;
    found.ok_or_else(|| super::super::errors::not_found(kind, key))
}

async fn find<T: DeserializeOwned>(
    server: &Server,
    plural: &str,
    key: &ObjectKey,
) -> Result<Option<T>, Status> {
    let entry = server.find(kind("", plural)?, key).await?;
    entry.map(|entry| serde_json::from_slice(&entry.value).map_err(Status::internal)).transpose()
}

/// A ready pod of the Service, any of them.
async fn of_service(server: &Server, namespace: &str, target: Target<'_>) -> Result<Way, Status> {
    let key = ObjectKey::namespaced(namespace, target.name);
    let service: Service = read(server, "services", &key).await?;
    let port_name = plan::port_name(&service, target)?;
    let endpoints = find(server, "endpoints", &key).await?;
    let slices = endpoint_slices(&*server.store, namespace, target.name).await?;
    let written = Written { endpoints: endpoints.as_ref(), slices: &slices };
    let lot = server.config.entropy.draw();
    for candidate in plan::candidates(written, (namespace, port_name), lot) {
        let key = ObjectKey::namespaced(namespace, candidate.pod.as_str());
        if let Some(pod) = find::<Pod>(server, "pods", &key).await?
            && let Some(place) = candidate.at(&pod, target)
        {
            return Ok(Way::to_pod(place, &pod));
        }
    }
    let message = format!("no endpoints available for service {:?}", target.name);
    Err(Status::new(Reason::ServiceUnavailable, message))
}

/// The slices that say where a Service's endpoints are.
pub(in super::super) async fn endpoint_slices(
    store: &dyn Store,
    namespace: &str,
    service: &str,
) -> Result<Vec<EndpointSlice>, Status> {
    let prefix =
        super::super::keys::prefix(kind("discovery.k8s.io", "endpointslices")?, Some(namespace));
    let request = ListRequest { prefix, after: None, limit: None, at: None };
    let read = store.list(request).await;
    let read = read.map_err(|error| super::super::errors::of_read(&error))?;
    let slices = read.entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok());
    let is_of_service = |slice: &EndpointSlice| {
        let labels = slice.metadata.labels.as_ref();
        let name = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        name.is_some_and(|name| name == service)
    };
    Ok(slices.filter(is_of_service).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_kept_as_it_was_written() {
        let path = "/api/v1/namespaces/a/pods/b/proxy/x%2Fy/z/";
        assert_eq!(below(path, NAMESPACED_SEGMENTS), Some("x%2Fy/z/"));
        assert_eq!(below("/api/v1/nodes/one/proxy", NODE_SEGMENTS), None);
        assert_eq!(below("/api/v1/nodes/one/proxy/", NODE_SEGMENTS), Some(""));
    }
}
