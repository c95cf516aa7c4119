//! Keeps the node from running out of memory and disk: says so in the Node object, takes away
//! images that nobody uses, and ends pods where that is not enough.
//!
//! Start at [`keep`]; what is decided is in [`plan`], [`limits`] and
//! [`garbage`](super::images::garbage). It is looked when the kernel tells of pressure, at a named
//! deadline while pods run, and seldom while none do.

mod limits;
mod observe;
pub mod plan;

use super::images::garbage::{ImageGarbage, ImageLives};
use super::pod::plan::EVICTED;
use super::tally::Happening;
use super::worker::{Bell, Shared};
use crate::api::pod::is_terminal;
use crate::client::{EventType, key_of, object_reference};
use crate::runtime::{ContainerState, ContainerStatus, ImageId, RuntimeError};
use crate::stdx::{chain, monotonic};
use crate::sys::pressure::MemoryPressure;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use limits::Excess;
use plan::{Memory, Room, Rooms, Signal, Threshold, Thresholds, judge, message, rank};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How often it is looked while pods run, where the kernel tells of pressure on memory: then it is
/// the disk that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The same where the kernel does not, the node is short of something, or pods have limits for what
/// they have on disk.
const LOOK_OFTEN: Duration = Duration::from_secs(10);
/// The same while nothing runs.
const LOOK_SELDOM: Duration = Duration::from_secs(300);
/// The kernel is not listened to more often than this.
const LOOK_APART: Duration = Duration::from_secs(1);

/// How often images are looked at: upstream `ImageGCPeriod`.
const IMAGES_EVERY: Duration = Duration::from_secs(300);

/// A pod that goes at once has this long: upstream `immediateEvictionGracePeriodSeconds`.
const GRACE_AT_ONCE: SignedDuration = SignedDuration::from_secs(1);

/// When the node is short of something, and what goes then.
#[derive(Clone, Debug)]
pub struct EvictionConfig {
    pub thresholds: Thresholds,
    pub images: ImageGarbage,
}

/// That a pod has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Eviction {
    /// In the words of the pod's status.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) grace: SignedDuration,
    /// What the condition `DisruptionTarget` says, where the pod did nothing wrong.
    pub(super) disruption: Option<String>,
}

/// The pods of this node that have to go, by uid.
#[derive(Debug, Default)]
pub(super) struct Evictions(Mutex<BTreeMap<String, Eviction>>);

impl Evictions {
    /// Whether the pod has to go.
    pub(super) fn of(&self, uid: &str) -> Option<Eviction> {
        self.0.lock().expect("no panics under this lock").get(uid).cloned()
    }

    /// The pod has gone.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().expect("no panics under this lock").remove(uid);
    }

    /// False where it was said before.
    pub(super) fn order(&self, uid: &str, eviction: Eviction) -> bool {
        let mut all = self.0.lock().expect("no panics under this lock");
        all.insert(uid.to_owned(), eviction).is_none()
    }

    fn any(&self) -> bool {
        !self.0.lock().expect("no panics under this lock").is_empty()
    }
}

#[derive(Debug)]
struct Evictor {
    shared: Arc<Shared>,
    bell: Bell,
    memory: Memory,
    lives: ImageLives,
    images_due: Instant,
}

/// Why the node could not be looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the node cannot be measured")]
    Measure(#[source] io::Error),
    #[error("the containers are not known")]
    Runtime(#[source] RuntimeError),
}

/// Looks after the node for as long as it is asked to.
pub(super) async fn keep(shared: Arc<Shared>, bell: Bell) {
    shared.pods.synced().await;
    let mut changes = shared.pods_changed();
    let mut pressure = MemoryPressure::open();
    let mut evictor = Evictor {
        shared,
        bell,
        memory: Memory::default(),
        lives: ImageLives::default(),
        images_due: monotonic(),
    };
    loop {
        let is_told = pressure.is_some();
        let pause = evictor.look(is_told).await.unwrap_or_else(|error| {
            warn!(error = chain(&error), "cannot tell whether the node is short of something");
            LOOK_OFTEN
        });
        let felt = async {
            match &pressure {
                Some(pressure) => pressure.felt().await,
                None => std::future::pending().await,
            }
        };
        let is_lost = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            // A pod that comes now may be the one that has to go.
            Ok(()) = changes.changed(), if pause != LOOK_EVERY => false,
            felt = felt => felt.is_err(),
        };
        if is_lost {
            pressure = None;
        }
        tokio::time::sleep(LOOK_APART).await;
    }
}

impl Evictor {
    /// One look. Returns when to look again.
    async fn look(&mut self, is_told: bool) -> Result<Duration, LookError> {
        let containers = self.shared.runtime.containers().await.map_err(LookError::Runtime)?;
        let rooms = observe::rooms(&self.shared).await.map_err(LookError::Measure)?;
        let now = self.shared.clock.now();
        let thresholds = self.shared.config.eviction.thresholds.clone().with_allocatable();
        let judgement = judge(&thresholds, &self.memory, &rooms, now);
        self.memory = judgement.memory;
        let is_short = !judgement.pressure.is_empty();
        self.shared.keeper.set_pressure(judgement.pressure);
        if monotonic() >= self.images_due {
            self.images_due = monotonic() + IMAGES_EVERY;
            self.collect_images(&containers, &rooms, now).await;
        }
        let holds_any = self.hold_to_limits(&containers).await;
        if let Some(threshold) = judgement.reclaim {
            self.reclaim(&threshold, &containers, &rooms, now).await?;
        }
        let runs = |it: &ContainerStatus| matches!(it.state, ContainerState::Running { .. });
        Ok(match containers.iter().any(runs) {
            false if !is_short => LOOK_SELDOM,
            true if is_told && !is_short && !holds_any => LOOK_EVERY,
            _ => LOOK_OFTEN,
        })
    }

    /// A disk that is full is made free of images first.
    async fn collect_images(
        &mut self,
        containers: &[ContainerStatus],
        rooms: &Rooms,
        now: Timestamp,
    ) {
        let Some(room) = rooms.get(&Signal::ImagefsAvailable) else { return };
        let settings = self.shared.config.eviction.images;
        let bytes = settings.excess_bytes(room.capacity, room.available);
        self.remove_images(containers, bytes, now).await;
    }

    /// Removes so many bytes of images that nobody uses. Whether any went.
    async fn remove_images(
        &mut self,
        containers: &[ContainerStatus],
        bytes: u64,
        now: Timestamp,
    ) -> bool {
        let images = match self.shared.runtime.images().await {
            Ok(images) => images,
            Err(error) => {
                warn!(error = chain(&error), "cannot look for images that nobody uses");
                return false;
            }
        };
        let mut used: BTreeSet<_> = containers.iter().map(|it| it.image.clone()).collect();
        used.extend(self.image_volumes().await);
        self.lives.note(&images, &used, now);
        let age_min = self.shared.config.eviction.images.age_min;
        let mut any = false;
        for id in self.lives.victims(&images, bytes, age_min, now) {
            match self.shared.runtime.remove_image(&id.0).await {
                Ok(()) => {
                    info!(image = %id, "removed an image that nobody uses: the disk is full");
                    any = true;
                }
                Err(error) => warn!(image = %id, error = chain(&error), "cannot remove an image"),
            }
        }
        if any {
            self.shared.keeper.look_again();
        }
        any
    }

    /// The images that are volumes of pods that are here.
    async fn image_volumes(&self) -> Vec<ImageId> {
        let mut images = Vec::new();
        for pod in self.shared.all_pods().iter().filter(|pod| !is_terminal(pod)) {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            for image in volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_ref()) {
                // One that is not here is not removed either.
                if let Ok(Some(found)) = self.shared.runtime.image(image).await {
                    images.push(found.id);
                }
            }
        }
        images
    }

    /// Pods that take more of the disk than they may go, one by one.
    /// Whether there are any that are held to limits.
    async fn hold_to_limits(&self, containers: &[ContainerStatus]) -> bool {
        let mut any = false;
        for pod in self.active_pods() {
            let Some(spec) = pod.spec.as_ref().filter(|spec| limits::has_limits(spec)) else {
                continue;
            };
            any = true;
            match observe::on_disk(&self.shared, &pod, containers).await {
                Ok((on_disk, _)) => {
                    if let Some(Excess { signal, message }) = limits::excess(spec, &on_disk) {
                        self.evict(&pod, signal, evicted(message, GRACE_AT_ONCE));
                    }
                }
                Err(error) => {
                    let pod = key_of(&pod.metadata);
                    warn!(%pod, error = chain(&error), "cannot measure what a pod has on disk");
                }
            }
        }
        any
    }

    /// Gets back what the node is short of: images, and then the pod that matters least. One at a
    /// time: the next look sees what has come of it.
    async fn reclaim(
        &mut self,
        threshold: &Threshold,
        containers: &[ContainerStatus],
        rooms: &Rooms,
        now: Timestamp,
    ) -> Result<(), LookError> {
        if self.shared.evictions.any() {
            return Ok(());
        }
        let resource = threshold.signal.resource();
        self.tell_node(resource);
        if threshold.signal.pressure() == plan::Pressure::Disk
            && self.remove_images(containers, u64::MAX, now).await
        {
            return Ok(());
        }
        let pods = self.active_pods();
        let candidates = observe::candidates(&self.shared, &pods, containers, threshold.signal);
        let candidates = candidates.await.map_err(LookError::Measure)?;
        let Some(candidate) = rank(&candidates, threshold.signal).first().copied() else {
            return Ok(());
        };
        let pod = pods.iter().find(|pod| pod.metadata.uid.as_deref() == Some(&candidate.uid));
        let room = rooms.get(&threshold.signal).copied();
        let room = room.unwrap_or(Room { available: 0, capacity: 0 });
        if let Some(pod) = pod {
            let message = message(candidate, threshold, room);
            let disruption = Some(message.clone());
            let grace = self.grace(pod, threshold);
            let eviction = Eviction { disruption, ..evicted(message, grace) };
            self.evict(pod, threshold.signal.name(), eviction);
        }
        Ok(())
    }

    fn grace(&self, pod: &Pod, threshold: &Threshold) -> SignedDuration {
        let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let own = own.map_or(SignedDuration::MAX, SignedDuration::from_secs);
        match threshold.grace {
            None => GRACE_AT_ONCE,
            Some(_) => own.min(self.shared.config.eviction.thresholds.pod_grace_max),
        }
    }

    fn evict(&self, pod: &Pod, signal: &'static str, eviction: Eviction) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let message = eviction.message.clone();
        if self.shared.evictions.order(uid, eviction) {
            self.shared.tally.note_happening(Happening::Evicted(signal));
            info!(pod = %key_of(&pod.metadata), reason = message, "a pod has to go");
            self.bell.ring(uid);
        }
    }

    fn tell_node(&self, resource: &str) {
        let Some(node) = self.shared.keeper.node() else { return };
        let message = format!("Attempting to reclaim {resource}");
        let regarding = object_reference(&*node);
        self.shared.events.record(regarding, EventType::Warning, "EvictionThresholdMet", message);
    }

    /// Pods that are here and to stay.
    fn active_pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.shared.all_pods();
        pods.retain(|pod| crate::api::pod::is_active(pod));
        pods
    }
}

fn evicted(message: String, grace: SignedDuration) -> Eviction {
    Eviction { reason: EVICTED, message, grace, disruption: None }
}
