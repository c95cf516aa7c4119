//! A whole control plane that is played: the API server on a store without threads, all controllers,
//! the scheduler and the provisioners of local volumes, with a network between that delays, loses,
//! refuses and cuts, on a clock that jumps from one thing to do to the next.
//!
//! Start at [`play`] and at [`Cluster::tick`]. Rules ([`rules`]) hold after every commit, and at the
//! end everything comes to rest.

mod audit;
mod faults;
mod loops;
mod machines;
mod rules;
mod scenarios;
mod store;

use crate::random::Random;
use crate::seeds_of;
use crate::support::config;
use audit::{Objects, list};
use faults::Network;
use futures_util::future::BoxFuture;
use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use kinglet::api::ObjectKey;
use kinglet::apiserver::{Config, Identity, NodeService, Server};
use kinglet::client::{Client, ClientError, Content, DeleteOptions, Propagation};
use kinglet::pki::TokenKey;
use kinglet::stdx::http::{Request, Response, full};
use kinglet::stdx::{Clock, Entropy, Tasks};
use kinglet::storage::Store;
use machines::Machine;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::Memory;
use tempfile::TempDir;
use tokio::time::Instant;

/// How many seeds each of these scenarios is played with. They cost a second or two each.
const SEEDS: u64 = 2;

/// After this long without a change everything is at rest: longer than anybody waits for anything.
const REST: Duration = Duration::from_secs(400);

/// What has not come to rest after this long runs in circles.
const REST_WITHIN: Duration = Duration::from_secs(2 * 3_600);

/// When worlds begin.
const BEGINNING: &str = "2026-11-20T12:00:00Z";

/// A cluster, its machines and its users.
pub(crate) struct Cluster {
    pub(crate) store: Arc<Memory>,
    pub(crate) network: Arc<Network>,
    pub(crate) random: Random,
    /// May do everything, and meets no faults.
    pub(crate) admin: Client,
    pub(crate) clock: Clock,
    pub(crate) machines: Vec<Machine>,
    /// Pods that users have taken out of the API without asking their machines.
    pub(crate) forced: BTreeSet<String>,
    /// What all pods together have to do, in thousandths of a processor.
    pub(crate) load: Arc<AtomicU64>,
    /// By how many seconds the clock is ahead of the timers.
    ahead: Arc<AtomicI64>,
    server: Arc<Server>,
    loops: Option<Tasks>,
    started: Instant,
    disks: TempDir,
    seed: u64,
}

/// Plays a scenario with each seed.
pub(crate) fn play(scenario: impl AsyncFn(&mut Cluster)) {
    for seed in seeds_of(SEEDS) {
        play_one(seed, &scenario);
    }
}

pub(crate) fn play_one(seed: u64, scenario: &impl AsyncFn(&mut Cluster)) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut cluster = Cluster::start(seed).await;
        scenario(&mut cluster).await;
    });
}

impl Cluster {
    async fn start(seed: u64) -> Self {
        let started = Instant::now();
        let beginning: jiff::Timestamp = BEGINNING.parse().unwrap();
        let ahead = Arc::new(AtomicI64::new(0));
        let offset = Arc::clone(&ahead);
        let clock = Clock::from_fn(move || {
            let offset = SignedDuration::from_secs(offset.load(Ordering::Relaxed));
            beginning + started.elapsed() + offset
        });
        let (store, load) = (Memory::new(), Arc::new(AtomicU64::new(0)));
        let lots = Mutex::new(Random(seed ^ 0xE47_0001));
        let entropy = Entropy::from_fn(move || lots.lock().unwrap().wide());
        let config = Config { clock: clock.clone(), entropy, ..config() };
        let shared: Arc<dyn Store> = Arc::<Memory>::clone(&store);
        let nodes =
            Kubelets { store: Arc::clone(&store), load: Arc::clone(&load), clock: clock.clone() };
        let server = Server::new(config, shared, Arc::new(nodes));
        server.use_token_keys(&[TokenKey::ephemeral().unwrap()]).unwrap();
        server.bootstrap().await.unwrap();
        let admin = Client::new(server.local(Identity::new("a", &["system:masters"])), "test");
        let mut cluster = Self {
            store,
            network: Network::new(seed ^ 0xFA_0017),
            random: Random(seed),
            admin,
            clock,
            machines: Vec::new(),
            forced: BTreeSet::new(),
            load,
            ahead,
            server,
            loops: None,
            started,
            disks: tempfile::tempdir().unwrap(),
            seed,
        };
        cluster.store.audit(rules::always);
        cluster.start_loops();
        cluster
    }

    /// Sets the clock, by so many seconds.
    pub(crate) fn set_clock(&self, seconds: i64) {
        self.note(&format!("the clock is set by {seconds} s"));
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
        self.clock.was_set();
    }

    /// The root of a machine's local volumes.
    pub(crate) fn disk(&self, machine: &str) -> std::path::PathBuf {
        Path::new(self.disks.path()).join(machine)
    }

    /// Adds machines, and waits until pods can go there.
    pub(crate) async fn add_machines(&mut self, names: &[&str]) {
        for name in names {
            self.add_machine(name).await;
        }
        for _ in 0..20 {
            self.tick_of(Duration::from_secs(1)).await;
        }
    }

    pub(crate) async fn add_machine(&mut self, name: &str) {
        let sizes = json!({"cpu": "2", "memory": "4Gi", "pods": "20"});
        let node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"capacity": sizes, "allocatable": sizes}});
        self.create("/api/v1/nodes", node).await;
        let client = Client::new(self.server.local(Identity::node(name)), "kubelet");
        self.machines.retain(|machine| machine.name != name);
        self.machines.push(Machine::new(name, client, self.clock.clone()));
    }

    /// Creates an object; what is refused ends the test.
    pub(crate) async fn create(&self, path: &str, object: Value) {
        if let Err(error) = self.try_create(path, object).await {
            panic!("{path}: {error}");
        }
    }

    pub(crate) async fn try_create(&self, path: &str, object: Value) -> Result<(), ClientError> {
        let answer = self.admin.request(Method::POST, path, Some(Content::json(&object))).await;
        self.note(&format!("user creates {path} {}", audit::name(&object)));
        answer.map(drop)
    }

    /// Changes an object by a merge patch, if it is there.
    pub(crate) async fn patch(&self, path: &str, patch: Value) {
        self.note(&format!("user patches {path} {patch}"));
        let content = kinglet::client::Patch::Merge(patch).content();
        match self.admin.request(Method::PATCH, path, Some(content)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                panic!("{path}: {error}")
            }
            _ => {}
        }
    }

    pub(crate) async fn delete(&self, path: &str, propagation: Propagation) {
        self.note(&format!("user deletes {path} {propagation:?}"));
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        match self.admin.request(Method::DELETE, path, Some(options.content())).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => {
                panic!("{path}: {error}")
            }
            _ => {}
        }
    }

    /// Takes a pod out of the API, whatever its machine says.
    pub(crate) async fn force_delete(&mut self, namespace: &str, name: &str) {
        self.note(&format!("user forces {namespace}/{name} out"));
        self.forced.insert(format!("{namespace}/{name}"));
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        let key = ObjectKey::namespaced(namespace, name);
        // It may have gone by itself.
        self.admin.delete::<Pod>(&key, &options).await.ok();
    }

    pub(crate) fn note(&self, line: &str) {
        self.network.note(format!("{:9.3} {line}", self.started.elapsed().as_secs_f64()));
    }

    pub(crate) fn objects(&self) -> Objects {
        self.store.audit(|audit| audit.objects.clone())
    }

    pub(crate) fn machine(&mut self, name: &str) -> &mut Machine {
        self.machines.iter_mut().find(|machine| machine.name == name).expect("it was added")
    }

    /// Lets some time pass, in which machines do a part of what they have to.
    pub(crate) async fn tick(&mut self) {
        let millis = *self.random.pick(&[10, 300, 1_000, 3_000, 9_000]);
        self.tick_of(Duration::from_millis(millis)).await;
    }

    pub(crate) async fn tick_of(&mut self, time: Duration) {
        tokio::select! {
            biased;
            () = self.network.crashed.notified() => {
                self.note("all loops crash");
                self.restart_loops();
            }
            () = tokio::time::sleep(time) => {}
        }
        let objects = self.objects();
        for machine in &mut self.machines {
            machine.heartbeat(&objects).await;
            if let Err(problem) = machine.work(&objects, &mut self.random).await {
                self.fail(&problem);
            }
        }
        if self.network.has_faults() && self.random.one_in(30) {
            self.store.forget_history();
        }
        self.check();
    }

    /// Lets time pass until nothing changes any more.
    pub(crate) async fn rest(&mut self) {
        self.network.set_faults(false);
        let (mut quiet_since, mut seen) = (Instant::now(), 0);
        let deadline = Instant::now() + REST_WITHIN;
        while quiet_since.elapsed() < REST {
            assert!(Instant::now() < deadline, "it does not come to rest");
            self.tick_of(Duration::from_secs(8)).await;
            let changes = self.store.audit(|audit| audit.changes);
            if changes != seen {
                (quiet_since, seen) = (Instant::now(), changes);
            }
        }
    }

    fn check(&mut self) {
        if let Some(problem) = self.store.audit(audit::Audit::problem) {
            self.fail(&problem);
        }
        let mut places = BTreeSet::new();
        for machine in &self.machines {
            for place in machine.running.keys() {
                if !places.insert(place.clone()) && !self.forced.contains(place) {
                    self.fail(&format!("{place} runs on two machines"));
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn fail(&self, problem: &str) -> ! {
        panic!("{problem}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}play it again with SEED={}", self.network.story(), self.seed);
        }
    }
}

/// The kubelets as the API server reaches them: it asks them what their pods use.
#[derive(Debug)]
struct Kubelets {
    store: Arc<Memory>,
    load: Arc<AtomicU64>,
    clock: Clock,
}

impl NodeService for Kubelets {
    fn call(&self, node: &str, _request: Request) -> BoxFuture<'static, io::Result<Response>> {
        let pods: Vec<Value> = self.store.audit(|audit| {
            list(&audit.objects, "core/pods").filter(|pod| audit::is_ready(pod)).cloned().collect()
        });
        let share = self.load.load(Ordering::Relaxed) / u64::try_from(pods.len().max(1)).unwrap();
        let used = json!({"name": "c", "cpu": {"time": self.clock.now(), "windowSeconds": 10.0,
            "usageNanoCores": share * 1_000_000}, "memory": {"workingSetBytes": 1 << 20}});
        let own = pods.iter().filter(|pod| audit::text(pod, "/spec/nodeName") == node);
        let own: Vec<Value> = own
            .map(|pod| json!({"podRef": {"uid": audit::uid(pod)}, "containers": [used]}))
            .collect();
        let summary = json!({"node": used, "pods": own});
        Box::pin(std::future::ready(Ok(Response::new(full(summary.to_string())))))
    }
}
