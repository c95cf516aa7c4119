//! What a fresh cluster has before anybody asks for it: its namespaces, two priority classes, and
//! the Service by which pods reach the API. Made through the pipeline like everything else.

use super::identity::Identity;
use super::server::Server;
use crate::api::Status;
use crate::stdx::http::{HttpService, Request, read_whole};
use bytes::Bytes;
use http::{Method, StatusCode};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// An answer to one of these small requests is never larger.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Name, value and description, as upstream has them (pkg/apis/scheduling/v1/helpers.go, v1.35).
const PRIORITY_CLASSES: &[(&str, i32, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another \
         node if necessary.",
    ),
];

/// Why the first objects are not there.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("{method} {path} failed")]
    Refused {
        method: Method,
        path: String,
        #[source]
        status: Box<Status>,
    },
    #[error("the answer to {path} could not be read")]
    Unreadable {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Server {
    /// Makes what is missing and corrects what has moved. The server is ready afterwards.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn bootstrap(self: &Arc<Self>) -> Result<(), BootstrapError> {
        let api = Api(self.local(Identity::api_server()));
        for name in NAMESPACES {
            api.ensure("/api/v1/namespaces", name, &json!({"metadata": {"name": name}})).await?;
        }
        for (name, value, description) in PRIORITY_CLASSES {
            let class = json!({
                "metadata": {"name": name}, "value": value, "description": description,
            });
            api.ensure("/apis/scheduling.k8s.io/v1/priorityclasses", name, &class).await?;
        }
        self.ensure_service(&api).await?;
        self.bootstrapped.store(true, Ordering::Release);
        Ok(())
    }

    /// The Service `default/kubernetes` has no selector: its endpoints are this server's.
    async fn ensure_service(&self, api: &Api) -> Result<(), BootstrapError> {
        let config = &self.config;
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let services = "/api/v1/namespaces/default/services";
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": config.service_cidrs.first().map(first_address),
                "ports": [{"name": "https", "port": 443, "targetPort": config.https_port}],
            },
        });
        api.ensure(services, "kubernetes", &service).await?;

        let address = config.advertise_address;
        if address.is_loopback() || address.is_unspecified() {
            // Nobody but this machine could use it, and the API refuses such endpoints.
            return Ok(());
        }
        let port = json!({"name": "https", "port": config.https_port, "protocol": "TCP"});
        let mirrored = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let endpoints = json!({
            "metadata": {"name": "kubernetes", "labels": mirrored},
            "subsets": [{"addresses": [{"ip": address}], "ports": [port]}],
        });
        api.replace("/api/v1/namespaces/default/endpoints", "kubernetes", &endpoints).await?;
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let slice = json!({
            "metadata": {
                "name": "kubernetes",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": family,
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [port],
        });
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        api.replace(slices, "kubernetes", &slice).await
    }
}

/// The first address of the range of Services belongs to the API.
fn first_address(cidr: &IpNet) -> IpAddr {
    super::allocate::first_address(cidr)
}

/// The server's own way in.
struct Api(Arc<dyn HttpService>);

impl Api {
    async fn ensure(&self, path: &str, name: &str, object: &Value) -> Result<(), BootstrapError> {
        let own = format!("{path}/{name}");
        let (code, _) = self.ask(Method::GET, &own, None).await?;
        match code {
            StatusCode::NOT_FOUND => self.create(path, object).await,
            _ => Ok(()),
        }
    }

    /// As [`Api::ensure`], and what is there gets the contents of `object`.
    async fn replace(&self, path: &str, name: &str, object: &Value) -> Result<(), BootstrapError> {
        let own = format!("{path}/{name}");
        let (code, body) = self.ask(Method::GET, &own, None).await?;
        if code == StatusCode::NOT_FOUND {
            return self.create(path, object).await;
        }
        let (code, body) = match code {
            StatusCode::OK => self.ask(Method::PUT, &own, Some(object)).await?,
            _ => (code, body),
        };
        check(Method::PUT, &own, code, &body)
    }

    /// Somebody else may have made it meanwhile, which is as good.
    async fn create(&self, path: &str, object: &Value) -> Result<(), BootstrapError> {
        let (code, body) = self.ask(Method::POST, path, Some(object)).await?;
        if code == StatusCode::CONFLICT {
            return Ok(());
        }
        check(Method::POST, path, code, &body)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), BootstrapError> {
        let body = object.map(Value::to_string).unwrap_or_default();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("the paths here are constants");
        let unreadable = |source| BootstrapError::Unreadable { path: path.to_owned(), source };
        let response = self.0.call(request).await.map_err(unreadable)?;
        let code = response.status();
        let body = read_whole(response.into_body(), ANSWER_BYTES_MAX).await.map_err(unreadable)?;
        Ok((code, body))
    }
}

fn check(method: Method, path: &str, code: StatusCode, body: &[u8]) -> Result<(), BootstrapError> {
    if code.is_success() {
        return Ok(());
    }
    let status = serde_json::from_slice(body).unwrap_or_else(|_| Status::internal(code));
    Err(BootstrapError::Refused { method, path: path.to_owned(), status: Box::new(status) })
}
