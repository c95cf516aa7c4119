//! What the loop works with: copies of what the API says, which of it has changed, and since when.

use super::dirty::Dirty;
use super::element::Family;
use super::health::Progress;
use super::ledger::Owner;
use super::slices::SliceIndex;
use super::tally::{Changed, Tally};
use super::{Config, Parts, Proxy};
use crate::api::ObjectKey;
use crate::client::{Change, key_of};
use crate::stdx::monotonic;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Says in which zone a node is.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// When the pod or Service changed so that a slice did.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// How long the rules of more Services than this take is not measured.
const TRIGGERS_MAX: usize = 4_096;

/// What changes while the loop works.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) parts: Parts,
    pub(super) progress: Arc<Progress>,
    pub(super) tally: Arc<Tally>,
    node_name: String,
    dirty: Dirty,
    slices: SliceIndex,
    zone: Mutex<Option<String>>,
    triggers: Mutex<Triggers>,
    /// What happened before is not measured.
    since: Timestamp,
}

/// When that happened by which the endpoints of Services changed.
type Triggers = BTreeMap<ObjectKey, Vec<Trigger>>;

/// The rules of this family have to follow what happened then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trigger {
    pub(super) family: Family,
    pub(super) at: Timestamp,
}

impl Followed {
    /// Begins to listen.
    pub(super) fn start(config: &Config, parts: Parts, proxy: &Proxy) -> Arc<Self> {
        let followed = Arc::new(Self {
            since: parts.clock.now(),
            parts,
            progress: Arc::clone(&proxy.progress),
            tally: Arc::clone(&proxy.tally),
            triggers: Mutex::default(),
            node_name: config.node_name.clone(),
            dirty: Dirty::default(),
            slices: SliceIndex::default(),
            zone: Mutex::default(),
        });
        let listening = Arc::clone(&followed);
        followed.parts.services.on_change(move |change| {
            listening.tally.heard(Changed::Service);
            listening.changed(change.key.clone());
        });
        let listening = Arc::clone(&followed);
        followed.parts.endpoint_slices.on_change(move |change| {
            listening.tally.heard(Changed::Endpoints);
            let services = listening.slices.take(change);
            listening.note_trigger(&services, change);
            services.into_iter().for_each(|service| listening.changed(service));
        });
        let listening = Arc::clone(&followed);
        followed.parts.nodes.on_change(move |change| {
            if change.key.name == listening.node_name {
                listening.node_changed(change.new.as_deref());
            }
        });
        let listening = Arc::clone(&followed);
        followed.parts.service_cidrs.on_change(move |_change| listening.changed(nobodys()));
        followed.changed(nobodys());
        followed
    }

    /// Hints are for zones.
    fn node_changed(&self, node: Option<&Node>) {
        let labels = node.and_then(|node| node.metadata.labels.as_ref());
        let zone = labels.and_then(|labels| labels.get(ZONE_LABEL)).filter(|zone| !zone.is_empty());
        {
            let mut known = self.zone.lock().expect("no panics under this lock");
            if known.as_ref() == zone {
                return;
            }
            *known = zone.cloned();
        }
        for service in self.parts.services.list() {
            self.changed(key_of(&service.metadata));
        }
    }

    fn changed(&self, service: ObjectKey) {
        self.progress.queued(monotonic(), self.parts.clock.now());
        self.dirty.add(service);
    }

    /// Takes note of when a pod or Service changed so that this slice did (upstream's
    /// `lastChangeTriggerTimes`, pkg/proxy/endpointschangetracker.go, v1.35).
    fn note_trigger(&self, services: &[ObjectKey], change: &Change<EndpointSlice>) {
        let Some(service) = services.last() else { return };
        let trigger = change.new.as_deref().and_then(trigger_time);
        let before = change.old.as_deref().and_then(trigger_time);
        let Some(trigger) = trigger.filter(|trigger| *trigger > self.since) else { return };
        if before == Some(trigger) {
            return;
        }
        let mut triggers = self.triggers.lock().expect("no panics under this lock");
        if triggers.len() < TRIGGERS_MAX || triggers.contains_key(service) {
            let is_ipv6 = change.new.as_deref().is_some_and(|slice| slice.address_type == "IPv6");
            let family = if is_ipv6 { Family::Ipv6 } else { Family::Ipv4 };
            triggers.entry(service.clone()).or_default().push(Trigger { family, at: trigger });
        }
    }

    /// When that happened by which the endpoints of a Service changed. Each is told once.
    pub(super) fn take_triggers(&self, service: &ObjectKey) -> Vec<Trigger> {
        let mut triggers = self.triggers.lock().expect("no panics under this lock");
        triggers.remove(service).unwrap_or_default()
    }

    /// Services that have to be looked at, `max` at most.
    pub(super) fn take(&self, max: usize) -> Vec<Owner> {
        let taken = self.dirty.take(max);
        if self.dirty.is_empty() {
            self.tally.nothing_pending();
        }
        taken
    }

    /// Waits until there are some.
    pub(super) async fn wait(&self) {
        self.dirty.wait().await;
    }

    /// The kernel has all that was taken.
    pub(super) fn applied(&self) {
        let behind_since = (!self.dirty.is_empty()).then(monotonic);
        self.progress.applied(self.parts.clock.now(), behind_since);
    }

    pub(super) fn slices_of(&self, service: &ObjectKey) -> Vec<Arc<EndpointSlice>> {
        self.slices.of(service, &self.parts.endpoint_slices)
    }

    pub(super) fn zone(&self) -> Option<String> {
        self.zone.lock().expect("no panics under this lock").clone()
    }

    pub(super) async fn synced(&self) {
        tokio::join!(
            self.parts.services.synced(),
            self.parts.endpoint_slices.synced(),
            self.parts.nodes.synced(),
            self.parts.service_cidrs.synced(),
        );
    }
}

/// What the rules have that is no Service's: looked at as if it were one's.
pub(super) fn nobodys() -> ObjectKey {
    ObjectKey::cluster("node")
}

fn trigger_time(slice: &EndpointSlice) -> Option<Timestamp> {
    slice.metadata.annotations.as_ref()?.get(TRIGGER_TIME)?.parse().ok()
}
