//! Clients that ask the API server over TLS, each on a connection of its own.

use super::machine::Machine;
use super::percentile::percentile;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kinglet::api::ObjectKey;
use kinglet::client::remote::Remote;
use kinglet::client::{Client, Content, Kubeconfig};
use kinglet::stdx::http::{HttpService as _, Upgrade};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Creates under way at once while objects are made that are measured later.
const FILL_SIDE_BY_SIDE: usize = 64;

/// How long a pod may take before the benchmark gives up.
const POD_DEADLINE: Duration = Duration::from_secs(120);

pub struct Load<'a> {
    machine: &'a Machine,
    kubeconfig: Kubeconfig,
}

impl<'a> Load<'a> {
    pub fn new(machine: &'a Machine) -> Self {
        let kubeconfig = Kubeconfig::read(&machine.path("kinglet.yaml")).unwrap();
        Self { machine, kubeconfig }
    }

    fn client(&self) -> Client {
        Client::new(Arc::new(Remote::new(&self.kubeconfig).unwrap()), "bench")
    }

    /// Runs `work` in the machine's network.
    fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.machine.inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(work())
        })
    }

    /// Creates so many ConfigMaps.
    pub fn fill(&self, count: usize) {
        let client = self.client();
        let indices: Vec<usize> = (0..count).collect();
        self.run(async || {
            for some in indices.chunks(FILL_SIDE_BY_SIDE) {
                let creates = some.iter().map(|index| {
                    client.request(Method::POST, CONFIG_MAPS, Some(config_map(*index)))
                });
                futures_util::future::try_join_all(creates).await.unwrap();
            }
        });
    }

    /// Runs `true` in a pod so often, each time over a connection of its own. Median and 99th
    /// percentile of the round trips, in milliseconds.
    pub fn execs(&self, pod: &str, count: usize) -> (f64, f64) {
        let service = Remote::upgradable(&self.kubeconfig).unwrap();
        let path =
            format!("/api/v1/namespaces/default/pods/{pod}/exec?command=true&stdout=1&stderr=1");
        let mut times: Vec<f64> = self.run(async || {
            let mut times = Vec::new();
            for _ in 0..count {
                let asked = now();
                exec(&service, &path).await;
                times.push(asked.elapsed().as_secs_f64() * 1000.0);
            }
            times
        });
        (percentile(&mut times, 50), percentile(&mut times, 99))
    }

    /// From the creation of one pod to its being Running, as a client sees it.
    pub fn start_pod(&self, manifest: &str) -> Duration {
        self.start_pods(manifest, 1)
    }

    pub fn start_pods(&self, manifest: &str, count: usize) -> Duration {
        let pods: Vec<Value> = manifest
            .split("---\n")
            .filter(|document| !document.trim().is_empty())
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect();
        assert_eq!(pods.len(), count);
        let client = self.client();
        self.run(async || {
            let began = now();
            for pod in &pods {
                let path = "/api/v1/namespaces/default/pods";
                client.request(Method::POST, path, Some(Content::json(pod))).await.unwrap();
            }
            let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
            for name in names {
                wait_running(&client, name, began).await;
            }
            began.elapsed()
        })
    }
}

/// Watches one pod until it runs: what a client that waits sees.
async fn wait_running(client: &Client, name: &str, began: Instant) {
    let key = ObjectKey::namespaced("default", name);
    loop {
        let pod: Pod = client.get(&key).await.unwrap();
        if kinglet::api::pod::phase(&pod) == "Running" {
            return;
        }
        assert!(began.elapsed() < POD_DEADLINE, "pod {name} does not start: {:?}", pod.status);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a command to its end over a WebSocket.
async fn exec(service: &Remote, path: &str) {
    let mut request = http::Request::get(path);
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ] {
        request = request.header(name, value);
    }
    let mut response = service.call(request.body(Bytes::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = Upgrade::take(&mut response).unwrap().run(Box::new(far));
    let talking = async {
        let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut outcome = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let bytes = message.into_data();
            if bytes.first() == Some(&3) {
                outcome.extend_from_slice(&bytes[1..]);
            }
        }
        assert!(String::from_utf8_lossy(&outcome).contains("Success"), "{outcome:?}");
    };
    // Whichever sees the end first: what was sent before it is still read.
    tokio::join!(talking, serving);
}

fn config_map(index: usize) -> Content {
    Content::json(&json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("c-{index}")},
        "data": {"payload": "x".repeat(256)},
    }))
}

fn now() -> Instant {
    kinglet::stdx::monotonic()
}
