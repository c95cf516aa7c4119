//! Proxy: requests that are handed on to a kubelet, a pod or a Service (upstream
//! pkg/registry/core/{node,pod,service} `ResourceLocation`, and apimachinery
//! pkg/util/proxy/upgradeaware.go, v1.35).
//!
//! Links in what comes back are not rewritten, as upstream does for HTML.

use super::super::request::ResourcePath;
use super::super::server::{Asked, Server, no_such_path};
use crate::api::ObjectKey;
use crate::api::status::{Reason, Status};
use crate::pki::AnyServer;
use crate::registry;
use crate::stdx::chain;
use crate::stdx::http::{Request, Response, relay};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A pod that cannot be connected to in this time is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What is said to this server and to nobody behind it.
const PRIVATE_HEADERS: &[HeaderName] = &[AUTHORIZATION, HOST];

/// Asks pods, whatever certificate they show: who may reach them is decided here.
#[derive(Clone)]
pub(in super::super) struct PodClient(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

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
        Self(Pool::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }
}

/// Where a request goes on to: `[scheme:]name[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: &'a str,
    name: &'a str,
    /// A number or a name; empty for the first there is.
    port: &'a str,
}

impl<'a> Target<'a> {
    /// Upstream `SplitSchemeNamePort` (apimachinery pkg/util/net/port_split.go).
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme @ ("" | "http" | "https"), name, port] => (scheme, name, port),
            _ => return None,
        };
        let scheme = if scheme == "https" { "https" } else { "http" };
        (!name.is_empty()).then_some(Self { scheme, name, port })
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
        Status::bad_request(format!("invalid {} request {name:?}", path.resource))
    })?;
    if !path.group.is_empty() || path.version != "v1" {
        return Err(no_such_path());
    }
    match (path.resource.as_str(), namespace) {
        ("nodes", None) => {
            let key = ObjectKey::cluster(target.name);
            let _exists: serde_json::Value = read(server, "nodes", &key).await?;
            let request = request(asked, below(&asked.info.path, 5), body)?;
            let answered = server.nodes.call(target.name, request).await;
            answered.map_err(|error| unreachable(name, &error))
        }
        ("pods", Some(namespace)) => {
            let key = ObjectKey::namespaced(namespace, target.name);
            let address = pod_address(&read(server, "pods", &key).await?, target)?;
            to_pod(server, request(asked, below(&asked.info.path, 7), body)?, address).await
        }
        ("services", Some(namespace)) => {
            let address = service_address(server, namespace, target).await?;
            to_pod(server, request(asked, below(&asked.info.path, 7), body)?, address).await
        }
        _ => Err(no_such_path()),
    }
}

/// What follows so many segments of a path, as the client wrote it.
fn below(path: &str, segments: usize) -> &str {
    let mut rest = path.trim_start_matches('/');
    for _ in 0..segments {
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    rest
}

fn request(asked: &Asked, path: &str, body: Bytes) -> Result<Request, Status> {
    let query = asked.query.encode();
    let separator = if query.is_empty() { "" } else { "?" };
    let mut request = Request::new(body);
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = format!("/{path}{separator}{query}").parse().map_err(Status::internal)?;
    *request.headers_mut() = headers(&asked.headers);
    Ok(request)
}

fn headers(from: &HeaderMap) -> HeaderMap {
    let mut headers = from.clone();
    for name in PRIVATE_HEADERS {
        headers.remove(name);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    headers
}

fn unreachable(name: &str, error: &dyn std::error::Error) -> Status {
    let message = format!("error trying to reach {name:?}: {}", chain(error));
    Status::new(Reason::ServiceUnavailable, message)
}

/// A place in the pod network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    scheme: String,
    host: String,
    port: u16,
}

async fn to_pod(
    server: &Server,
    mut request: Request,
    Address { scheme, host, port }: Address,
) -> Result<Response, Status> {
    let host = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host,
    };
    let uri = format!("{scheme}://{host}:{port}{}", request.uri());
    *request.uri_mut() = uri.parse::<Uri>().map_err(Status::internal)?;
    let name = format!("{host}:{port}");
    let answered = server.pod_client.0.request(request.map(Full::new)).await;
    let response = answered.map_err(|error| unreachable(&name, &error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(relay(response));
    }
    Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}

async fn read<T: DeserializeOwned>(
    server: &Server,
    plural: &str,
    key: &ObjectKey,
) -> Result<T, Status> {
    let group = if plural == "endpointslices" { "discovery.k8s.io" } else { "" };
    let kind = registry::find(group, "v1", plural).ok_or_else(no_such_path)?;
    let entry = server.find(kind, key).await?;
    let entry = entry.ok_or_else(|| super::super::errors::not_found(kind, key))?;
    serde_json::from_slice(&entry.value).map_err(Status::internal)
}

/// Where the pod listens: its first port, unless one is named.
fn pod_address(pod: &Pod, target: Target<'_>) -> Result<Address, Status> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let host = address
        .filter(|address| !address.is_empty())
        .ok_or_else(|| Status::bad_request("address not allowed: the pod has none yet"))?;
    let mut ports = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first =
        ports.find_map(|container| container.ports.as_ref()?.first().map(|it| it.container_port));
    let port = match target.port {
        "" => first.and_then(|port| u16::try_from(port).ok()).unwrap_or(80),
        text => text.parse().map_err(|_error| {
            Status::bad_request(format!(
                "invalid pod request {:?}: the port is no number",
                target.name
            ))
        })?,
    };
    Ok(Address { scheme: target.scheme.to_owned(), host, port })
}

/// A ready endpoint of the Service, at the port that is named by name or number.
async fn service_address(
    server: &Server,
    namespace: &str,
    target: Target<'_>,
) -> Result<Address, Status> {
    let key = ObjectKey::namespaced(namespace, target.name);
    let service: Service = read(server, "services", &key).await?;
    let unavailable =
        |why: &str| Status::new(Reason::ServiceUnavailable, format!("{why} {:?}", target.name));
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let by_number = |text: &str| text.parse::<i32>().ok();
    let port = ports.iter().find(|port| match target.port {
        "" => true,
        text => port.name.as_deref() == Some(text) || by_number(text) == Some(port.port),
    });
    let port = port.ok_or_else(|| unavailable("no such port of service"))?;
    for slice in slices(server, namespace, target.name).await? {
        let slice_ports = slice.ports.iter().flatten();
        let matching = slice_ports.filter(|it| {
            it.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        });
        let number = matching.filter_map(|it| it.port).next().or(match &port.target_port {
            Some(IntOrString::Int(number)) => Some(*number),
            _ => None,
        });
        let ready = slice.endpoints.iter().find(|endpoint| {
            endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
        });
        if let (Some(number), Some(endpoint)) = (number, ready)
            && let (Some(host), Ok(port)) = (endpoint.addresses.first(), u16::try_from(number))
        {
            return Ok(Address { scheme: target.scheme.to_owned(), host: host.clone(), port });
        }
    }
    Err(unavailable("no endpoints available for service"))
}

async fn slices(
    server: &Server,
    namespace: &str,
    service: &str,
) -> Result<Vec<EndpointSlice>, Status> {
    let kind =
        registry::find("discovery.k8s.io", "v1", "endpointslices").ok_or_else(no_such_path)?;
    let prefix = super::super::keys::prefix(kind, Some(namespace));
    let request = crate::storage::ListRequest { prefix, after: None, limit: None, at: None };
    let read = server.store.list(request).await;
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
    fn names_may_have_schemes_and_ports() {
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let target = Target::parse(text);
            assert_eq!(target.map(|it| (it.scheme, it.name, it.port)), expected, "{text}");
        };
        check("web", Some(("http", "web", "")));
        check("web:80", Some(("http", "web", "80")));
        check("web:", Some(("http", "web", "")));
        check("https:web:named", Some(("https", "web", "named")));
        check(":web:80", Some(("http", "web", "80")));
        check("ftp:web:80", None);
        check("a:b:c:d", None);
        check(":80", None);
    }

    #[test]
    fn what_follows_is_kept_as_it_was_written() {
        let path = "/api/v1/namespaces/a/pods/b/proxy/x%2Fy/z/";
        assert_eq!(below(path, 7), "x%2Fy/z/");
        assert_eq!(below("/api/v1/nodes/one/proxy", 5), "");
        assert_eq!(below("/api/v1/nodes/one/proxy/", 5), "");
    }
}
