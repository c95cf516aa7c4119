//! How fast pods get their nodes: many at once, and one at a time. Prints figures; checks that no
//! node has more than fits.
//!
//! `cargo bench --bench scheduling [NODES PODS]`. An API server on SQLite on a disk and the scheduler,
//! in one process as in the product; the nodes are objects without a kubelet. Pods are created
//! through the API while they are scheduled, as upstream's scheduler_perf does it
//! (test/integration/scheduler_perf, SchedulingBasic, whose threshold is 680 pods/s).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed run")]
#![expect(clippy::print_stdout, reason = "figures go to stdout")]

use futures_util::future::BoxFuture;
use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use kinglet::api::ObjectKey;
use kinglet::api::pod::node_name;
use kinglet::apiserver::{Config, Identity, NodeService, Server, TokenSettings};
use kinglet::client::{Cache, Client, Content, EventRecorder, Patch, Selection};
use kinglet::scheduler::{self, Scheduler, reporter};
use kinglet::stdx::http::{Request, Response};
use kinglet::stdx::{Clock, Entropy, Tasks, monotonic};
use kinglet::storage::Store;
use kinglet::storage::sqlite::{Config as SqliteConfig, Sqlite};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NODES: usize = 5_000;
const PODS: usize = 10_000;

/// Creates under way at once.
const SIDE_BY_SIDE: usize = 100;

/// Pods that are created one after another.
const ONE_BY_ONE: usize = 200;

/// What upstream's template of a pod asks for.
const PLAIN: &str = "plain";

const DEADLINE: Duration = Duration::from_secs(300);

fn main() {
    let numbers: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (nodes, pods) = match numbers[..] {
        [nodes, pods] => (nodes, pods),
        _ => (NODES, PODS),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for kind in [PLAIN, "spread", "apart"] {
        // The harder kinds are looked at in part.
        let pods = if kind == PLAIN { pods } else { pods / 5 };
        runtime.block_on(run(kind, nodes, pods));
    }
}

/// Nodes without a kubelet.
#[derive(Debug)]
struct NoKubelets;

impl NodeService for NoKubelets {
    fn call(&self, node: &str, _request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let error = io::Error::other(format!("node {node} has no kubelet"));
        Box::pin(async move { Err(error) })
    }
}

/// A control plane of an API server and a scheduler.
struct Cluster {
    admin: Client,
    pods: Arc<Cache<Pod>>,
    bound: Arc<AtomicUsize>,
    store: Arc<Sqlite>,
    server: Arc<Server>,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store =
            Arc::new(Sqlite::open(SqliteConfig::file(directory.path().join("db"))).unwrap());
        let config = Config {
            clock: Clock::system(),
            entropy: Entropy::system(),
            advertise_address: [192, 0, 2, 1].into(),
            https_port: 6443,
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: 30_000..=32_767,
            components: vec!["controller-manager", "scheduler"],
            event_ttl: Config::EVENT_TTL,
            tokens: TokenSettings::of_cluster("cluster.local"),
            connections_max: 100,
        };
        let shared: Arc<dyn Store> = Arc::<Sqlite>::clone(&store);
        let server = Server::new(config, shared, Arc::new(NoKubelets));
        server.bootstrap().await.unwrap();
        let mut tasks = Tasks::default();
        server.keep(&mut tasks);
        let admin = Client::new(server.local(Identity::new("admin", &["system:masters"])), "bench");
        // In the product the controllers' cache of pods is the scheduler's as well.
        let pods: Arc<Cache<Pod>> = Cache::start(admin.clone(), Selection::default(), &mut tasks);
        let bound = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&bound);
        pods.on_change(move |change| {
            let is_bound =
                |pod: &Option<Arc<Pod>>| pod.as_deref().is_some_and(|pod| node_name(pod).is_some());
            if is_bound(&change.new) && !is_bound(&change.old) {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { admin, pods, bound, store, server, tasks, _directory: directory }
    }

    fn start_scheduler(&mut self) {
        let client =
            Client::new(self.server.local(Identity::new("system:kube-scheduler", &[])), "bench");
        let tasks = &mut self.tasks;
        let recorder = EventRecorder::start(client.clone(), reporter(), Clock::system(), tasks);
        let mut caches = scheduler::Caches::start(&client, tasks);
        caches.pods = Arc::clone(&self.pods);
        Scheduler::start(scheduler::Config { client, caches, recorder }, tasks);
    }

    /// Side by side, each in a task of its own.
    async fn create(&self, path: &'static str, objects: impl Iterator<Item = Value>) {
        let mut creates = JoinSet::new();
        for object in objects {
            if creates.len() >= SIDE_BY_SIDE {
                creates.join_next().await.unwrap().unwrap();
            }
            let admin = self.admin.clone();
            creates.spawn(async move {
                admin.request(Method::POST, path, Some(Content::json(&object))).await.unwrap();
            });
        }
        creates.join_all().await;
    }

    /// Takes the taint away that new nodes have until a controller sees them ready.
    async fn untaint(&self, nodes: usize) {
        let patch = Patch::Merge(json!({"spec": {"taints": null}}));
        for index in 0..nodes {
            let key = ObjectKey::cluster(node_name_of(index));
            self.admin.patch::<Node>(&key, &patch, None).await.unwrap();
        }
    }

    async fn until_bound(&self, count: usize, began: Instant) {
        while self.bound.load(Ordering::Relaxed) < count {
            assert!(began.elapsed() < DEADLINE, "{:?} of {count}", self.bound);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn run(kind: &str, nodes: usize, pods: usize) {
    let mut cluster = Cluster::start().await;
    // What a controller would make.
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster.create("/api/v1/namespaces/default/serviceaccounts", std::iter::once(account)).await;
    cluster.create("/api/v1/nodes", (0..nodes).map(node)).await;
    cluster.untaint(nodes).await;
    cluster.start_scheduler();
    // The first pod is bound once everything is known.
    cluster.create(PODS_PATH, std::iter::once(pod(kind, "first"))).await;
    cluster.until_bound(1, monotonic()).await;
    let began = monotonic();
    let cpu = cpu_seconds();
    cluster.create(PODS_PATH, (0..pods).map(|index| pod(kind, &format!("p-{index}")))).await;
    let created = began.elapsed().as_secs_f64();
    cluster.until_bound(pods + 1, began).await;
    let took = began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds() - cpu) * 1e6 / pods as f64;
    println!(
        "{pods} pods ({kind}) onto {nodes} nodes: {:.0} pods/s, {took:.2} s, of which {created:.2} s \
         while they were created; {cpu:.0} us of CPU each",
        pods as f64 / took,
    );
    if kind == PLAIN {
        one_by_one(&cluster).await;
    }
    check(&cluster, nodes, pods);
    cluster.tasks.stop(Duration::from_secs(10)).await.unwrap();
    cluster.store.close().await.unwrap();
}

const PODS_PATH: &str = "/api/v1/namespaces/default/pods";

/// From the create to the moment a watch shows the node.
async fn one_by_one(cluster: &Cluster) {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    cluster.pods.on_change(move |change| {
        if change.new.as_deref().is_some_and(|pod| node_name(pod).is_some()) {
            told.send(change.key.name.clone()).ok();
        }
    });
    while heard.try_recv().is_ok() {}
    let mut times = Vec::new();
    for index in 0..ONE_BY_ONE {
        let name = format!("one-{index}");
        let began = monotonic();
        cluster.create(PODS_PATH, std::iter::once(pod(PLAIN, &name))).await;
        while heard.recv().await.unwrap() != name {}
        times.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("create to bound, one at a time: p50 {p50:.2} ms, p99 {p99:.2} ms");
}

fn check(cluster: &Cluster, nodes: usize, pods: usize) {
    let mut by_node: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods.list() {
        *by_node.entry(node_name(&pod).unwrap().to_owned()).or_default() += 1;
    }
    let most = by_node.values().max().copied().unwrap_or_default();
    assert!(most <= 40, "{most} pods of 100m on a node of 4 processors");
    println!("  {pods} pods are on {} of {nodes} nodes, at most {most} on one", by_node.len());
}

fn node_name_of(index: usize) -> String {
    format!("node-{index:04}")
}

fn node(index: usize) -> Value {
    let name = node_name_of(index);
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", index % 3),
        }},
        "status": {
            "capacity": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    serde_json::to_value(serde_json::from_value::<Node>(node).unwrap()).unwrap()
}

fn pod(kind: &str, name: &str) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": kind}},
        "spec": {"containers": [{
            "name": "pause", "image": "registry.k8s.io/pause:3.10",
            "resources": {"requests": {"cpu": "100m", "memory": "500Mi"}},
        }]},
    });
    let selector = json!({"matchLabels": {"app": kind}});
    match kind {
        "spread" => {
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector,
            }]);
        }
        "apart" => {
            pod["spec"]["affinity"] = json!({"podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname", "labelSelector": selector,
                }],
            }});
        }
        _ => {}
    }
    pod
}

/// What this process has used so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    [11, 12].iter().map(|index| fields[*index].parse::<f64>().unwrap()).sum::<f64>() / 100.0
}
