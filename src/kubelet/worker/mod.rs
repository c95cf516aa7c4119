//! One worker for each pod: it looks, decides with [`plan`](super::pod::plan::plan), and does.
//!
//! Start at [`Workers::run`], which gives each pod its worker, and at `PodWorker::look`, which is
//! all that a worker does, again and again. A worker is told *that* something may have changed and
//! never *what*; it sleeps until then or until a time that its plan names.

mod admit;
mod asks;
mod configure;
mod end;
mod images;
mod job;
mod mirrors;
mod observe;
mod orphans;
mod pod;
mod prepare;
mod probe;
mod report;
mod resize;
mod shared;
mod start;
mod stop;
mod tell;
mod tidy;

pub(super) use shared::Shared;

use crate::client::key_of;
use crate::kubelet::static_pods::mirrored;
use crate::runtime::RuntimeEvent;
use crate::stdx::chain;
use k8s_openapi::api::core::v1::Pod;
use pod::PodWorker;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// All pods are looked at this often, so that an event that was lost delays and never breaks.
const LOOK_AT_ALL_EVERY: Duration = Duration::from_secs(300);

/// Before the uid of a static pod: the task that removes its mirror.
const MIRROR_TASK: &str = "mirror ";

/// Wakes the workers of pods. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<BellState>);

#[derive(Debug, Default)]
struct BellState {
    /// By uid.
    workers: Mutex<BTreeMap<String, Arc<Notify>>>,
    /// The uids of pods that have come and may have no worker yet.
    arrived: Mutex<BTreeSet<String>>,
    arrival: Notify,
}

impl Bell {
    /// Has the pod looked at.
    pub(super) fn ring(&self, uid: &str) {
        let workers = self.0.workers.lock().expect("no panics under this lock");
        match workers.get(uid) {
            Some(worker) => worker.notify_one(),
            None => {
                let mut arrived = self.0.arrived.lock().expect("no panics under this lock");
                arrived.insert(uid.to_owned());
                self.0.arrival.notify_one();
            }
        }
    }

    /// Has all pods looked at.
    pub(super) fn ring_all(&self) {
        let workers = self.0.workers.lock().expect("no panics under this lock");
        workers.values().for_each(|worker| worker.notify_one());
    }

    fn take_arrived(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.arrived.lock().expect("no panics under this lock"))
    }

    fn add_worker(&self, uid: &str) -> Arc<Notify> {
        let mut workers = self.0.workers.lock().expect("no panics under this lock");
        Arc::clone(workers.entry(uid.to_owned()).or_default())
    }

    fn remove_worker(&self, uid: &str) {
        self.0.workers.lock().expect("no panics under this lock").remove(uid);
    }

    fn has_worker(&self, uid: &str) -> bool {
        self.0.workers.lock().expect("no panics under this lock").contains_key(uid)
    }
}

/// The workers of all pods of this node.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    bell: Bell,
    running: JoinSet<()>,
    /// Whose task is whose.
    tasks: BTreeMap<Id, String>,
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>, bell: Bell) -> Self {
        Self { shared, bell, running: JoinSet::new(), tasks: BTreeMap::new() }
    }

    /// Works until told to stop. Containers run on.
    pub(super) async fn run(
        mut self,
        mut events: mpsc::Receiver<RuntimeEvent>,
        shutdown: CancellationToken,
    ) {
        // Whether there is an API server or not.
        self.shared.statics.list().iter().for_each(|object| self.admit(object));
        let stopped = shutdown.run_until_cancelled(self.begin()).await.is_none();
        if stopped {
            return;
        }
        let mut look_at_all = tokio::time::interval(LOOK_AT_ALL_EVERY);
        look_at_all.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut network = self.shared.network_open.clone();
        let mut registered = self.shared.keeper.registered();
        let services = Arc::clone(&self.shared.services);
        let (mut services_known, mut awaits_services) = (std::pin::pin!(services.synced()), true);
        let mut listening = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.bell.0.arrival.notified() => self.admit_arrived(),
                Some(ended) = self.running.join_next_with_id() => self.put_away(ended),
                event = events.recv(), if listening => match event {
                    Some(event) => self.hear(&event),
                    None => listening = false,
                },
                Ok(()) = network.changed() => self.bell.ring_all(),
                // Containers that are told of services wait for these.
                () = &mut services_known, if awaits_services => {
                    awaits_services = false;
                    self.bell.ring_all();
                }
                // Now static pods can have their mirrors.
                Ok(()) = registered.changed() => self.bell.ring_all(),
                _ = look_at_all.tick() => {
                    self.bell.ring_all();
                    self.admit_all();
                    self.look_for_orphans().await;
                }
            }
        }
    }

    /// Waits until it is known which pods there are: until then nothing is started or ended.
    async fn begin(&self) {
        self.shared.pods.synced().await;
        let (bell, changes) = (self.bell.clone(), self.shared.changes.clone());
        self.shared.pods.on_change(move |change| {
            changes.send_replace(());
            let pods = [change.old.as_deref(), change.new.as_deref()].into_iter().flatten();
            // A mirror is the static pod's to look at.
            let uid =
                |pod: &'_ Pod| mirrored(pod).or(pod.metadata.uid.as_deref()).map(str::to_owned);
            let uids: BTreeSet<_> = pods.filter_map(uid).collect();
            uids.iter().for_each(|uid| bell.ring(uid));
        });
    }

    fn hear(&self, event: &RuntimeEvent) {
        if !matches!(event, RuntimeEvent::ContainerStarted { .. }) {
            self.shared.exits.ring();
        }
        match event {
            RuntimeEvent::ContainerStarted { pod, .. }
            | RuntimeEvent::ContainerExited { pod, .. }
            | RuntimeEvent::SandboxLost { pod, .. } => self.bell.ring(&pod.uid),
            RuntimeEvent::Relist => self.bell.ring_all(),
        }
    }

    fn admit_arrived(&mut self) {
        let arrived = self.bell.take_arrived();
        if arrived.is_empty() {
            return;
        }
        self.remove_stale_mirrors();
        for object in self.shared.all_pods() {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            if arrived.contains(uid) {
                self.admit(&object);
            }
        }
    }

    /// Whatever became of its worker, each pod has one again.
    fn admit_all(&mut self) {
        self.remove_stale_mirrors();
        for object in self.shared.all_pods() {
            self.admit(&object);
        }
    }

    /// What stands in the API for a static pod that is not there any more goes.
    fn remove_stale_mirrors(&mut self) {
        for mirror in self.shared.pods.list() {
            let Some(uid) = mirrored(&mirror).filter(|uid| self.shared.statics.get(uid).is_none())
            else {
                continue;
            };
            let task = format!("{MIRROR_TASK}{uid}");
            if self.tasks.values().any(|known| *known == task) {
                continue;
            }
            let handle = self.running.spawn(mirrors::remove(Arc::clone(&self.shared), mirror));
            self.tasks.insert(handle.id(), task);
        }
    }

    fn admit(&mut self, object: &Arc<Pod>) {
        let Some(pod) = super::pod::BoundPod::read(Arc::clone(object)) else {
            warn!(pod = %key_of(&object.metadata), "a pod without uid or spec is left alone");
            return;
        };
        let uid = pod.uid().to_owned();
        if self.bell.has_worker(&uid) {
            self.bell.ring(&uid);
            return;
        }
        let poke = self.bell.add_worker(&uid);
        let worker = PodWorker::new(Arc::clone(&self.shared), pod);
        let handle = self.running.spawn(worker.run(poke));
        self.tasks.insert(handle.id(), uid);
    }

    async fn look_for_orphans(&mut self) {
        let orphans = match orphans::find(&self.shared).await {
            Ok(orphans) => orphans,
            Err(error) => {
                warn!(error = chain(&*error), "cannot look for pods that are gone");
                return;
            }
        };
        for uid in orphans {
            if self.bell.has_worker(&uid) {
                continue;
            }
            self.bell.add_worker(&uid);
            let shared = Arc::clone(&self.shared);
            let handle = self.running.spawn(orphans::remove(shared, uid.clone()));
            self.tasks.insert(handle.id(), uid);
        }
    }

    fn put_away(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let uid = self.tasks.remove(&id).unwrap_or_default();
        self.bell.remove_worker(&uid);
        self.shared.shutdown.ended(&uid);
        self.shared.ledger.forget(&uid);
        self.shared.statics.forget(&uid);
        if !uid.starts_with(MIRROR_TASK) {
            // It may have been a static pod's.
            self.remove_stale_mirrors();
        }
        if let Err(error) = ended {
            // Its containers run on; the next change of the pod, or the next look at all, gives it
            // a new worker.
            error!(pod_uid = uid, %error, "a pod's worker panicked");
        }
    }
}
