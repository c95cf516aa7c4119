//! A node's ingress, and a cluster as a test wants it.

use crate::api::{Api, Line};
use crate::endpoint::{DEADLINE, Endpoint, get};
use k8s_openapi::api::networking::v1::{Ingress as Ingresses, IngressClass};
use kinglet::api::ingress::CONTROLLER;
use kinglet::client::{Cache, Client, Selection};
use kinglet::ingress::{Config, Ingress, Parts, start};
use kinglet::stdx::{Clock, Tasks};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Rig {
    pub(crate) api: Arc<Api>,
    pub(crate) ingress: Ingress,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    tasks: Tasks,
}

impl Rig {
    pub(crate) async fn start(put: impl FnOnce(&Api)) -> Self {
        Self::with(put, |_| {}).await
    }

    pub(crate) async fn with(put: impl FnOnce(&Api), adjust: impl FnOnce(&mut Config)) -> Self {
        let api: Arc<Api> = Arc::default();
        api.put("ingressclasses", "kinglet", json!({ "spec": { "controller": CONTROLLER } }));
        put(&api);
        let mut config = Config {
            node: "one".to_owned(),
            bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            http_port: Some(0),
            https_port: Some(0),
            trusted_proxies: Vec::new(),
            access_log: None,
            connections_max: 1_000,
            clock: Clock::system(),
        };
        adjust(&mut config);
        let mut tasks = Tasks::default();
        let client = Client::new(Arc::new(Line(Arc::clone(&api))), "test");
        let all = Selection::default;
        let parts = Parts {
            ingresses: Cache::<Ingresses>::start(client.clone(), all(), &mut tasks),
            classes: Cache::<IngressClass>::start(client.clone(), all(), &mut tasks),
            services: Cache::start(client.clone(), all(), &mut tasks),
            endpoint_slices: Cache::start(client.clone(), all(), &mut tasks),
            client,
        };
        let ingress = start(config, parts, &mut tasks).unwrap();
        let (http, https) = tokio::join!(ingress.address(false), ingress.address(true));
        Self { api, ingress, http, https, tasks }
    }

    pub(crate) async fn stop(self) {
        self.tasks.stop(DEADLINE).await.unwrap();
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> (u16, String) {
        get(self.http, host, path).await
    }

    /// Waits until a path answers like this.
    pub(crate) async fn eventually(&self, host: &str, path: &str, expected: (u16, &str)) {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let (status, body) = self.get(host, path).await;
            if (status, body.as_str()) == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{host}{path}: {status} {body}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A Service with one port, `http`, and these endpoints.
pub(crate) fn service(api: &Api, name: &str, endpoints: &[&Endpoint]) {
    service_speaking(api, name, "http", endpoints);
}

pub(crate) fn service_speaking(api: &Api, name: &str, protocol: &str, endpoints: &[&Endpoint]) {
    let port = json!([{ "name": "http", "port": 80 }]);
    api.put("services", name, json!({ "spec": { "ports": port } }));
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    slices(api, name, protocol, &addresses);
}

/// A slice for each, because each has a port of its own.
pub(crate) fn slices(api: &Api, service: &str, protocol: &str, addresses: &[SocketAddr]) {
    for (index, address) in addresses.iter().enumerate() {
        let port = json!({ "name": "http", "port": address.port(), "appProtocol": protocol });
        let slice = json!({
            "metadata": { "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{ "addresses": [address.ip().to_string()] }],
        });
        api.put("endpointslices", &format!("{service}-{index}"), slice);
    }
}

/// An Ingress with rules `host path service`.
pub(crate) fn ingress(api: &Api, name: &str, rules: &[&str], further: Value) {
    let rule = |text: &&str| {
        let parts: Vec<&str> = text.split(' ').collect();
        let backend = json!({ "service": { "name": parts[2], "port": { "name": "http" } } });
        let path = json!({ "path": parts[1], "pathType": "Prefix", "backend": backend });
        json!({ "host": parts[0], "http": { "paths": [path] } })
    };
    let rules: Vec<_> = rules.iter().map(rule).collect();
    let mut object = json!({ "spec": { "ingressClassName": "kinglet", "rules": rules } });
    for (name, value) in further.as_object().into_iter().flatten() {
        match name.as_str() {
            "annotations" => object["metadata"]["annotations"] = value.clone(),
            name => object["spec"][name] = value.clone(),
        }
    }
    api.put("ingresses", name, object);
}
