//! The Node object of this node: registers it, keeps it true, and says that the node lives.
//!
//! Start at [`plan`], the decision. Architecture invariant: an idle node wakes for its lease only,
//! and for its status every five minutes.

mod facts;
mod plan;

pub use facts::{Cloud, NodeSettings};
pub(super) use plan::KUBELET_VERSION;

use crate::api::ObjectKey;
use crate::api::node::{name_taken, ready_status};
use crate::client::{Cache, Client, ClientError, Content, Patch, Selection};
use crate::kubelet::eviction::plan::Pressure;
use crate::network::{NetworkError, PodNetwork};
use crate::runtime::Runtime;
use crate::stdx::{Backoff, Clock, Tasks, chain, monotonic};
use facts::{Facts, Known, PartState};
use http::Method;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use plan::Write;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the lease is renewed, and how long it holds (upstream `nodeLeaseDurationSeconds` and
/// a quarter of it).
const LEASE_INTERVAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;

/// How long to wait before trying again what failed.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(7) };

/// A machine that goes down does not wait longer than this for the API server to hear of it.
pub(super) const TELL_SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);

/// What the node's keeper needs from outside.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub settings: NodeSettings,
    /// On the file system of the pods.
    pub data_dir: PathBuf,
    pub clock: Clock,
}

/// Keeps the Node object. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeKeeper(Arc<Keeper>);

#[derive(Debug)]
struct Keeper {
    config: NodeConfig,
    client: Client,
    runtime: Arc<dyn Runtime>,
    network: Arc<dyn PodNetwork>,
    node: Arc<Cache<Node>>,
    network_state: Mutex<PartState>,
    /// What the node is short of.
    pressure: Mutex<BTreeSet<Pressure>>,
    is_going_down: AtomicBool,
    changed: Notify,
    is_registered: watch::Sender<bool>,
    /// Whether it says of itself that it is ready.
    is_ready: watch::Sender<bool>,
    /// What was said when the name turned out to be another machine's.
    name_lost: watch::Sender<Option<String>>,
    network_ready: watch::Sender<bool>,
    /// What the network was last told.
    ranges: Mutex<Vec<IpNet>>,
}

impl NodeKeeper {
    /// Starts keeping the Node object and its lease.
    pub fn start(
        config: NodeConfig,
        client: Client,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn PodNetwork>,
        tasks: &mut Tasks,
    ) -> Self {
        let name = &config.settings.name;
        let selection = Selection::fields(format!("metadata.name={name}"));
        let node = Cache::start(client.clone(), selection, tasks);
        let waiting = PartState::NotReady("the node has no podCIDR yet".to_owned());
        let keeper = Arc::new(Keeper {
            config,
            client,
            runtime,
            network,
            node,
            network_state: Mutex::new(waiting),
            pressure: Mutex::default(),
            is_going_down: AtomicBool::new(false),
            changed: Notify::new(),
            is_registered: watch::Sender::new(false),
            is_ready: watch::Sender::new(false),
            name_lost: watch::Sender::new(None),
            network_ready: watch::Sender::new(false),
            ranges: Mutex::default(),
        });
        let listening = Arc::clone(&keeper);
        keeper.node.on_change(move |change| {
            let node = change.new.as_deref();
            let settings = &listening.config.settings;
            let is_lost = node.is_some_and(|node| plan::is_anothers(settings, node));
            if is_lost {
                listening.lose_name(name_taken(&settings.name));
            }
            let is_there = node.is_some() && !is_lost;
            listening
                .is_registered
                .send_if_modified(|known| std::mem::replace(known, is_there) != is_there);
            let is_ready = is_there && node.and_then(ready_status) == Some("True");
            listening.is_ready.send_replace(is_ready);
            listening.changed.notify_one();
        });
        let (status, lease, shutdown) =
            (Arc::clone(&keeper), Arc::clone(&keeper), tasks.shutdown());
        tasks.spawn("node-status", async move { status.keep_status(shutdown).await });
        let shutdown = tasks.shutdown();
        tasks.spawn("node-lease", async move { lease.keep_lease(shutdown).await });
        Self(keeper)
    }

    /// The node as the API server shows it; `None` before it has registered.
    #[must_use]
    pub fn node(&self) -> Option<Arc<Node>> {
        self.0.node()
    }

    /// Something that the Node object says has changed, such as the images.
    pub fn look_again(&self) {
        self.0.changed.notify_one();
    }

    /// The node as the API server shows it, or as it will register: an API server may be away.
    pub(super) async fn node_anyway(&self) -> Result<Arc<Node>, Failure> {
        match self.node() {
            Some(node) => Ok(node),
            None => Ok(Arc::new(self.0.own().await?)),
        }
    }

    /// Whether the API server has the node.
    pub(super) fn registered(&self) -> watch::Receiver<bool> {
        self.0.is_registered.subscribe()
    }

    /// Waits until the API server has the node and it is ready.
    pub(super) async fn ready(&self) {
        wait_true(&self.0.is_ready).await;
    }

    /// What the node is short of.
    pub(super) fn pressure(&self) -> BTreeSet<Pressure> {
        self.0.pressure.lock().expect("no panics under this lock").clone()
    }

    /// The node is short of these and of nothing else.
    pub(super) fn set_pressure(&self, pressure: BTreeSet<Pressure>) {
        let mut known = self.0.pressure.lock().expect("no panics under this lock");
        if *known != pressure {
            *known = pressure;
            self.0.changed.notify_one();
        }
    }

    /// The node is not ready from now on: the machine goes down. Returns when that is told, or when
    /// it would take too long.
    pub(super) async fn begin_shutdown(&self) {
        self.0.is_going_down.store(true, Ordering::Relaxed);
        match tokio::time::timeout(TELL_SHUTDOWN_WITHIN, self.0.look()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(error = chain(&*error), "cannot say that the machine goes down")
            }
            Err(_elapsed) => warn!("the API server does not hear that the machine goes down"),
        }
    }

    /// Waits until the name is another machine's, and says what was said of it. There is nothing left
    /// to do here then.
    pub(super) async fn name_lost(&self) -> String {
        let mut lost = self.0.name_lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender lives as long as its keeper.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Waits until pods can be put on the network.
    pub async fn network_ready(&self) {
        wait_true(&self.0.network_ready).await;
    }
}

impl Keeper {
    fn node(&self) -> Option<Arc<Node>> {
        let node = self.node.get(&ObjectKey::cluster(self.config.settings.name.clone()))?;
        (!plan::is_anothers(&self.config.settings, &node)).then_some(node)
    }

    fn lose_name(&self, why: String) {
        self.name_lost.send_if_modified(|known| known.replace(why).is_none());
    }

    /// The API server may say before the Node does whose the name is.
    fn heed(&self, error: &ClientError) {
        if error.is_node_name_taken() {
            self.lose_name(error.to_string());
        }
    }

    async fn keep_status(&self, shutdown: CancellationToken) {
        if shutdown.run_until_cancelled(self.node.synced()).await.is_none() {
            return;
        }
        let mut failures = 0;
        loop {
            let looked = async {
                self.configure_network().await?;
                self.look().await
            };
            let Some(outcome) = shutdown.run_until_cancelled(looked).await else { return };
            let wait = match outcome {
                Ok(()) => {
                    failures = 0;
                    plan::REPORT_INTERVAL.unsigned_abs()
                }
                Err(error) => {
                    failures += 1;
                    if let Some(error) = error.downcast_ref() {
                        self.heed(error);
                    }
                    if failures == 1 {
                        warn!(error = chain(&*error), "keeping the Node object failed; will retry");
                    }
                    RETRY.delay(failures)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn observe(&self) -> io::Result<Facts> {
        let network = self.network_state.lock().expect("no panics under this lock").clone();
        let pressure = self.pressure.lock().expect("no panics under this lock").clone();
        let is_going_down = self.is_going_down.load(Ordering::Relaxed);
        let known = Known { network, pressure, is_going_down };
        facts::observe(&*self.runtime, known, &self.config.data_dir).await
    }

    /// The node as it would register now.
    async fn own(&self) -> Result<Node, Failure> {
        let facts = self.observe().await?;
        Ok(plan::create(&self.config.settings, &facts, self.config.clock.now()))
    }

    /// One look: what is wrong with the Node object is written.
    async fn look(&self) -> Result<(), Failure> {
        let facts = self.observe().await?;
        let existing = self.node();
        let now = self.config.clock.now();
        for write in plan::plan(&self.config.settings, &facts, existing.as_deref(), now) {
            self.write(write).await?;
        }
        Ok(())
    }

    async fn write(&self, write: Write) -> Result<(), ClientError> {
        let key = ObjectKey::cluster(self.config.settings.name.clone());
        let result = match write {
            Write::Create(node) => {
                let created = self.client.create(&*node).await;
                if created.is_ok() {
                    info!(node = key.name, "registered this node");
                }
                created
            }
            Write::Patch(patch) => self.client.patch(&key, &Patch::Strategic(patch), None).await,
            Write::PatchStatus(patch) => {
                self.client.patch(&key, &Patch::Strategic(patch), Some("status")).await
            }
        };
        match result {
            Ok(written) => {
                let revision = crate::client::revision_of(&written.metadata).unwrap_or_default();
                self.node.wait_seen(revision).await;
                Ok(())
            }
            // Deleted or made meanwhile: the cache will say so, and this looks again.
            Err(error) if error.is_conflict() || error.is_already_exists() => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tells the network which addresses its pods get, as soon as the node has been given some, and
    /// others, where it has been deleted and comes again.
    async fn configure_network(&self) -> Result<(), Failure> {
        let ranges = self.node().map(|node| pod_cidrs(&node)).unwrap_or_default();
        let is_known = *self.ranges.lock().expect("no panics under this lock") == ranges;
        if ranges.is_empty() || (is_known && *self.network_ready.borrow()) {
            return Ok(());
        }
        let configured = self.network.configure(ranges.clone()).await;
        *self.ranges.lock().expect("no panics under this lock") = ranges;
        let state = match &configured {
            Ok(()) => PartState::Ready,
            Err(error) => PartState::NotReady(chain(error)),
        };
        *self.network_state.lock().expect("no panics under this lock") = state;
        self.network_ready.send_replace(configured.is_ok());
        match configured {
            // Without addresses there is nothing to try again until the node changes.
            Ok(()) | Err(NetworkError::NotConfigured) => Ok(()),
            Err(error) => {
                // The node says why it is not ready, before this is tried again.
                self.look().await?;
                Err(error.into())
            }
        }
    }

    async fn keep_lease(&self, shutdown: CancellationToken) {
        let mut due = monotonic();
        let mut failures = 0;
        loop {
            // The node owns its lease: before it has registered there is nobody to own it.
            let next = async {
                tokio::time::sleep_until(due.into()).await;
                wait_true(&self.is_registered).await;
            };
            if shutdown.run_until_cancelled(next).await.is_none() {
                return;
            }
            let Some(node) = self.node() else { continue };
            let renewed = shutdown.run_until_cancelled(self.renew(&node)).await;
            due = match renewed {
                None => return,
                Some(Ok(())) => {
                    failures = 0;
                    monotonic() + LEASE_INTERVAL
                }
                Some(Err(error)) => {
                    failures += 1;
                    self.heed(&error);
                    if failures == 1 {
                        let error = chain(&error);
                        warn!(error, "renewing the node's lease failed; will retry");
                    }
                    monotonic() + RETRY.delay(failures)
                }
            };
        }
    }

    async fn renew(&self, node: &Node) -> Result<(), ClientError> {
        const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let path = format!("{LEASES}/{}", self.config.settings.name);
        let now = self.config.clock.now();
        let patch = json!({"spec": {"renewTime": plan::micro(now)}});
        let content = Patch::Merge(patch).content();
        match self.client.request(Method::PATCH, &path, Some(content)).await {
            Err(error) if error.is_not_found() => {
                let lease: Value = plan::lease(node, LEASE_SECONDS, now);
                self.client.request(Method::POST, LEASES, Some(Content::json(&lease))).await?;
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }
}

async fn wait_true(state: &watch::Sender<bool>) {
    // The sender lives as long as its keeper, so that waiting does not fail.
    state.subscribe().wait_for(|state| *state).await.ok();
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    many.filter_map(|range| range.parse().ok()).collect()
}
