//! One node with its kubelet, and a cluster that can go away.

use crate::runtime::{FakeNetwork, FakeRuntime};
use crate::support::{Api, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use kinglet::apiserver::Identity;
use kinglet::client::{Cache, Client, Selection};
use kinglet::kubelet::eviction::EvictionConfig;
use kinglet::kubelet::eviction::plan::Thresholds;
use kinglet::kubelet::files::resolv_conf::ClusterDns;
use kinglet::kubelet::images::garbage::ImageGarbage;
use kinglet::kubelet::node::NodeSettings;
use kinglet::kubelet::shutdown::plan::ShutdownGrace;
use kinglet::kubelet::volumes::Volumes;
use kinglet::kubelet::{Config, Kubelet, NodeFiles, Parts, start};
use kinglet::stdx::http::{HttpService, Request, Response, full, streamed};
use kinglet::stdx::{Clock, Tasks};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;

pub(crate) const NODE: &str = "node-1";

/// A clock that can be set forward.
#[derive(Clone, Debug, Default)]
pub(crate) struct Time(Arc<Mutex<SignedDuration>>);

impl Time {
    pub(crate) fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::from_fn(move || Timestamp::now() + *ahead.lock().unwrap())
    }

    pub(crate) fn pass(&self, seconds: i64) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(seconds);
    }
}

/// The API server behind a line that can be cut: what is under way breaks off then.
#[derive(Debug)]
pub(crate) struct Line {
    service: Arc<dyn HttpService>,
    is_up: watch::Sender<bool>,
    /// What is asked at this path waits.
    held: watch::Sender<Option<&'static str>>,
    /// Gives tokens in the API server's place, at the rig's own time.
    pub(crate) tokens: FakeTokens,
}

/// Tokens for whoever asks: unsigned, but otherwise as they are.
#[derive(Debug)]
pub(crate) struct FakeTokens {
    clock: Clock,
    /// The accounts that were asked for, with what was asked.
    pub(crate) asked: Mutex<Vec<(String, Value)>>,
    /// So many are refused.
    refusals: Mutex<u32>,
}

impl FakeTokens {
    pub(crate) fn refuse(&self, times: u32) {
        *self.refusals.lock().unwrap() = times;
    }

    fn answer(&self, request: &Request) -> Option<Response> {
        let account = request.uri().path().strip_suffix("/token")?.rsplit('/').next()?;
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            let mut refused = Response::new(full("no"));
            *refused.status_mut() = http::StatusCode::FORBIDDEN;
            return Some(refused);
        }
        let mut asked: Value = serde_json::from_slice(request.body()).unwrap();
        let spec = asked["spec"].clone();
        let mut all = self.asked.lock().unwrap();
        all.push((account.to_owned(), spec.clone()));
        let issued = self.clock.now();
        let expires = issued + SignedDuration::from_secs(spec["expirationSeconds"].as_i64()?);
        let claims = json!({
            "iat": issued.as_second(), "exp": expires.as_second(), "jti": all.len(),
            "kubernetes.io": { "pod": spec["boundObjectRef"] },
        });
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
        asked["status"] = json!({ "token": token, "expirationTimestamp": expires });
        Some(Response::new(full(asked.to_string())))
    }
}

impl Line {
    pub(crate) fn set(&self, is_up: bool) {
        self.is_up.send_replace(is_up);
    }

    /// Has requests for `path` wait, or none any more.
    pub(crate) fn hold(&self, path: Option<&'static str>) {
        self.held.send_replace(path);
    }
}

impl HttpService for Line {
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let (mut is_up, mut held) = (self.is_up.subscribe(), self.held.subscribe());
        let path = request.uri().path().to_owned();
        let given = if *is_up.borrow() { self.tokens.answer(&request) } else { None };
        let call = match given {
            Some(response) => Box::pin(std::future::ready(Ok(response))),
            None => self.service.call(request),
        };
        Box::pin(async move {
            held.wait_for(|held| *held != Some(&*path)).await.ok();
            if !*is_up.borrow() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (head, body) = call.await?.into_parts();
            let cut = async move {
                is_up.wait_for(|is_up| !is_up).await.ok();
            };
            let pieces = body.into_data_stream().take_until(Box::pin(cut));
            let pieces = pieces.chain(futures_util::stream::empty());
            Ok(Response::from_parts(head, streamed(pieces)))
        })
    }
}

/// What a test wants otherwise in its kubelet's settings.
type Adjust = Box<dyn Fn(&mut Config)>;

/// See the module.
pub(crate) struct Rig {
    pub(crate) api: Api,
    pub(crate) line: Arc<Line>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) time: Time,
    pub(crate) files: TempDir,
    adjust: Adjust,
    pub(crate) kubelet: Kubelet,
    tasks: Option<Tasks>,
}

impl Rig {
    /// A node that is ready.
    pub(crate) async fn start() -> Self {
        Self::start_as(|_config| {}).await
    }

    /// A node that is ready, and is short of what this says.
    pub(crate) async fn start_with(eviction: EvictionConfig) -> Self {
        Self::start_as(move |config| config.eviction = eviction.clone()).await
    }

    /// A node that is ready, with settings of its own.
    pub(crate) async fn start_as(adjust: impl Fn(&mut Config) + 'static) -> Self {
        let adjust: Adjust = Box::new(adjust);
        // RUST_LOG=debug shows what went on where a test fails.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
        let time = Time::default();
        let api = Api::start().await;
        api.give_authority("default").await;
        let service = api.server.local(Identity::new("kubelet", &["system:masters"]));
        let tokens =
            FakeTokens { clock: time.clock(), asked: Mutex::default(), refusals: Mutex::default() };
        let line = Arc::new(Line {
            service,
            is_up: watch::Sender::new(true),
            held: watch::Sender::default(),
            tokens,
        });
        let runtime = FakeRuntime::new(time.clock());
        runtime.add_image("web:1");
        let network = FakeNetwork::new();
        let files = tempfile::tempdir().unwrap();
        let (kubelet, tasks) = run(&line, &runtime, &network, &time, (files.path(), &adjust));
        let tasks = Some(tasks);
        let rig = Self { api, line, runtime, network, time, files, adjust, kubelet, tasks };
        rig.give_addresses().await;
        rig
    }

    /// What the controller for it does in a cluster.
    async fn give_addresses(&self) {
        let path = format!("/api/v1/nodes/{NODE}");
        eventually("the node", async || (self.api.get(&path).await.code == 200).then_some(()))
            .await;
        let range = json!({ "spec": { "podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"] } });
        self.api.patch(&path, "merge", &range).await.ok();
        eventually("the node to be ready", async || {
            let node = self.api.get(&path).await.ok();
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let ready = conditions.iter().find(|it| it["type"] == "Ready")?;
            (ready["status"] == "True").then_some(())
        })
        .await;
    }

    /// The kubelet ends; containers run on.
    pub(crate) async fn stop_kubelet(&mut self) {
        let tasks = self.tasks.take().unwrap();
        tasks.stop(Duration::from_secs(10)).await.unwrap();
    }

    pub(crate) fn start_kubelet(&mut self) {
        let place = (self.files.path(), &self.adjust);
        let (kubelet, tasks) = run(&self.line, &self.runtime, &self.network, &self.time, place);
        (self.kubelet, self.tasks) = (kubelet, Some(tasks));
    }

    /// Sets the clock forward and has everybody look at it.
    pub(crate) fn pass(&self, seconds: i64) {
        self.time.pass(seconds);
        self.runtime.relist();
    }

    /// What the kubelet says at a path.
    pub(crate) async fn answer(&self, path: &str) -> String {
        let request = http::Request::get(path).body(bytes::Bytes::new()).unwrap();
        let response = self.kubelet.service().call(request).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Makes a pod that is bound to the node. `spec` need not say the usual.
    pub(crate) async fn create_pod(&self, name: &str, spec: Value) -> Value {
        let mut spec = spec;
        spec["nodeName"] = json!(NODE);
        let fields = spec.as_object_mut().unwrap();
        fields.entry("containers").or_insert(json!([container("a")]));
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec,
        });
        self.api.post("/api/v1/namespaces/default/pods", &pod).await.ok()
    }

    pub(crate) async fn pod(&self, name: &str) -> Option<Value> {
        let answer = self.api.get(&format!("/api/v1/namespaces/default/pods/{name}")).await;
        (answer.code == 200).then(|| answer.json())
    }

    /// Waits until the pod is as `look` wants it, and returns it.
    pub(crate) async fn pod_until(&self, name: &str, look: impl Fn(&Value) -> bool) -> Value {
        let last = Mutex::new(Value::Null);
        let found = eventually(name, async || {
            let pod = self.pod(name).await?;
            *last.lock().unwrap() = pod["status"].clone();
            look(&pod).then_some(pod)
        });
        match tokio::time::timeout(Duration::from_secs(9), found).await {
            Ok(pod) => pod,
            Err(_elapsed) => panic!(
                "the pod never came to that: {:#}\n{:?}",
                last.lock().unwrap(),
                self.runtime.journal()
            ),
        }
    }

    pub(crate) async fn phase_until(&self, name: &str, phase: &str) -> Value {
        self.pod_until(name, |pod| pod["status"]["phase"] == phase).await
    }

    pub(crate) async fn running(&self, name: &str) -> Value {
        self.pod_until(name, |pod| condition(pod, "Ready") == "True").await
    }

    pub(crate) async fn gone(&self, name: &str) {
        eventually("the pod to go", async || self.pod(name).await.is_none().then_some(())).await;
    }

    pub(crate) async fn listing_until(&self, expected: &[&str]) {
        let reached =
            eventually("containers", async || (self.runtime.listing() == expected).then_some(()));
        if tokio::time::timeout(Duration::from_secs(9), reached).await.is_err() {
            panic!("{:?} and not {expected:?}", self.runtime.listing());
        }
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        self.api.delete(&format!("/api/v1/namespaces/default/pods/{name}")).await.ok();
    }

    /// Reasons and messages of the events of the namespace.
    pub(crate) async fn events(&self) -> Vec<String> {
        let events = self.api.get("/api/v1/namespaces/default/events").await.ok();
        let items = events["items"].as_array().unwrap().clone();
        let text = |event: &Value| {
            let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", word("reason"), word("message"))
        };
        items.iter().map(text).collect()
    }

    pub(crate) async fn event_until(&self, start: &str) {
        eventually(start, async || {
            self.events().await.iter().any(|event| event.starts_with(start)).then_some(())
        })
        .await;
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.files.path().join("pods")
    }
}

/// A container that runs the image that is there.
pub(crate) fn container(name: &str) -> Value {
    json!({ "name": name, "image": "web:1" })
}

pub(crate) fn condition(pod: &Value, kind: &str) -> String {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.map(|it| it["status"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// The reason for which the first container waits.
pub(crate) fn waiting(pod: &Value) -> &str {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    state["waiting"]["reason"].as_str().unwrap_or_default()
}

/// How full the disk of the machine is that the tests run on is nothing to them.
pub(crate) fn no_eviction() -> EvictionConfig {
    let images = ImageGarbage { high_percent: 101, ..ImageGarbage::USUAL };
    EvictionConfig { thresholds: Thresholds::hard(Vec::new()), images }
}

fn run(
    line: &Arc<Line>,
    runtime: &Arc<FakeRuntime>,
    network: &Arc<FakeNetwork>,
    time: &Time,
    (files, adjust): (&Path, &Adjust),
) -> (Kubelet, Tasks) {
    let (hosts, resolv_conf) = (files.join("hosts"), files.join("resolv.conf"));
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch lan\n").unwrap();
    let mut config = Config {
        node: NodeSettings {
            external_addresses: Vec::new(),
            cloud: kinglet::kubelet::node::Cloud::None,
            key: None,
            wireguard_key: None,
            name: NODE.to_owned(),
            addresses: vec!["192.0.2.7".parse().unwrap()],
            labels: [].into(),
            taints: vec![],
            pods_max: 110,
            reserved: [].into(),
            kept_free: vec![],
            kubelet_port: 10_250,
        },
        cluster_dns: ClusterDns {
            addresses: vec!["10.43.0.10".parse().unwrap()],
            domain: "cluster.local".to_owned(),
        },
        volumes: Volumes { pods_dir: files.join("pods"), memory_dir: files.join("memory") },
        logs_dir: files.join("logs"),
        cgroup_root: "/kinglet-test".to_owned(),
        node_files: NodeFiles { hosts, resolv_conf },
        eviction: no_eviction(),
        shutdown_grace: ShutdownGrace::default(),
        seccomp_dir: files.join("seccomp"),
        static_pods_dir: files.join("manifests"),
    };
    adjust(&mut config);
    let mut tasks = Tasks::default();
    let service: Arc<dyn HttpService> = Arc::<Line>::clone(line);
    let client = Client::new(service, "kubelet-test");
    let services = Cache::start(client.clone(), Selection::default(), &mut tasks);
    let parts = Parts {
        client,
        runtime: Arc::<FakeRuntime>::clone(runtime),
        network: Arc::<FakeNetwork>::clone(network),
        services,
        further_metrics: std::collections::BTreeMap::new(),
        clock: time.clock(),
    };
    let kubelet = start(config, parts, &mut tasks).unwrap();
    (kubelet, tasks)
}
