//! The loop: what changed is looked at, what is wanted goes into the ledger, and from there into the
//! kernel.
//!
//! While one transaction is under way, changes gather for the next: there is no other delay.

use super::conntrack::{self, UdpPort, leaves_flows, udp_ports};
use super::dirty::Dirty;
use super::health::HealthChecks;
use super::kernel::{Applied, Kernel};
use super::ledger::{Ledger, Owner};
use super::model::{self, HealthCheck, NodeView};
use super::render;
use super::slices::SliceIndex;
use super::{Config, Parts};
use crate::api::ObjectKey;
use crate::client::{EventType, key_of, object_reference};
use crate::stdx::{blocking, chain, monotonic};
use crate::sys::conntrack as kernel_flows;
use k8s_openapi::api::core::v1::{Node, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tracing::{debug, info, warn};

/// No more Services than this are in one transaction, so that a change does not wait for a burst of
/// others to be over: the kernel is given about 50 ms of work at once.
const SERVICES_PER_TRANSACTION: usize = 1_000;

/// Says in which zone a node is.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Why a Service has not got its rules, as users are told.
const REFUSED_REASON: &str = "FailedToProgramService";

/// Why nobody answers a health check; upstream's word.
const HEALTH_REASON: &str = "FailedToStartServiceHealthcheck";

/// What changes while the loop works.
#[derive(Debug)]
pub(super) struct Followed {
    parts: Parts,
    node_name: String,
    dirty: Dirty,
    slices: SliceIndex,
    zone: Mutex<Option<String>>,
}

impl Followed {
    /// Begins to listen.
    pub(super) fn start(config: &Config, parts: Parts) -> Arc<Self> {
        let followed = Arc::new(Self {
            parts,
            node_name: config.node_name.clone(),
            dirty: Dirty::default(),
            slices: SliceIndex::default(),
            zone: Mutex::default(),
        });
        let listening = Arc::clone(&followed);
        followed.parts.services.on_change(move |change| listening.dirty.add(change.key.clone()));
        let listening = Arc::clone(&followed);
        followed.parts.endpoint_slices.on_change(move |change| {
            listening
                .slices
                .take(change)
                .into_iter()
                .for_each(|service| listening.dirty.add(service));
        });
        let listening = Arc::clone(&followed);
        followed.parts.nodes.on_change(move |change| {
            if change.key.name == listening.node_name {
                listening.node_changed(change.new.as_deref());
            }
        });
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
            self.dirty.add(key_of(&service.metadata));
        }
    }

    async fn synced(&self) {
        tokio::join!(
            self.parts.services.synced(),
            self.parts.endpoint_slices.synced(),
            self.parts.nodes.synced(),
        );
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    config: Config,
    followed: Arc<Followed>,
    ledger: Ledger,
    kernel: Kernel,
    /// Services with ports of UDP.
    udp: BTreeMap<Owner, Vec<UdpPort>>,
    /// Those of them whose flows may go elsewhere than they should.
    leaving_flows: BTreeSet<Owner>,
    health: HealthChecks,
}

impl Follower {
    pub(super) fn new(config: Config, followed: Arc<Followed>) -> Self {
        let mut ledger = Ledger::default();
        let ranges = render::ranges(&config.cluster_cidrs, &config.service_cidrs);
        ledger.set(&Arc::new(ObjectKey::cluster("node")), ranges);
        Self {
            config,
            followed,
            ledger,
            kernel: Kernel::default(),
            udp: BTreeMap::new(),
            leaving_flows: BTreeSet::new(),
            health: HealthChecks::default(),
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        self.followed.synced().await;
        let began = monotonic();
        // The kernel may have rules of before: they stay until all that is to be there is known.
        let names = self.followed.dirty.take(usize::MAX);
        self.look_at(&names);
        let applied = self.kernel.take_over(&mut self.ledger, began).await;
        let milliseconds = began.elapsed().as_millis();
        info!("the rules of {} Services are there after {milliseconds} ms", names.len());
        self.after(applied).await;
        loop {
            let due = [self.kernel.next_due(), self.health.next_due()];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                () = self.followed.dirty.wait() => {}
                () = until(due) => {}
            }
            let names = self.followed.dirty.take(SERVICES_PER_TRANSACTION);
            self.look_at(&names);
            let applied = self.kernel.apply(&mut self.ledger, monotonic()).await;
            self.after(applied).await;
        }
    }

    fn look_at(&mut self, names: &[Owner]) {
        let zone = self.followed.zone.lock().expect("no panics under this lock").clone();
        let node = NodeView {
            name: self.config.node_name.clone(),
            zone,
            addresses: self.config.node_ips.clone(),
        };
        for name in names {
            let parts = &self.followed.parts;
            let service = parts.services.get(name);
            let slices = self.followed.slices.of(name, &parts.endpoint_slices);
            let ports = service
                .as_deref()
                .map(|service| model::ports(service, &slices, &node))
                .unwrap_or_default();
            self.ledger.set(name, render::wanted(&ports));
            self.kernel.changed(name);
            self.look_at_flows(name, udp_ports(&ports));
            let check = service
                .as_deref()
                .and_then(|service| model::health_check(service, &slices, &node.name));
            self.look_at_health(name, check, service.as_deref());
        }
    }

    /// Load balancers are told at once: they ask again and again, and may well ask too early.
    fn look_at_health(
        &mut self,
        name: &Owner,
        check: Option<HealthCheck>,
        service: Option<&Service>,
    ) {
        let Err(error) = self.health.set(name, check, monotonic()) else { return };
        let port = check.map_or(0, |check| check.node_port);
        warn!(service = %name, port, error = chain(&error), "a health check cannot be answered");
        if let Some(service) = service {
            let message = format!(
                "node {} failed to start healthcheck \"{name}\" on port {port}: {}",
                self.config.node_name,
                chain(&error)
            );
            let service = object_reference(service);
            let recorder = &self.followed.parts.recorder;
            recorder.record(service, EventType::Warning, HEALTH_REASON, message);
        }
    }

    fn look_at_flows(&mut self, name: &Owner, ports: Vec<UdpPort>) {
        let before = self.udp.remove(name).unwrap_or_default();
        if leaves_flows(&before, &ports) {
            self.leaving_flows.insert(Arc::clone(name));
        }
        if !ports.is_empty() {
            self.udp.insert(Arc::clone(name), ports);
        }
    }

    async fn after(&mut self, applied: Applied) {
        self.tell(&applied);
        self.health.set_broken(!applied.is_done);
        self.health.try_again(monotonic());
        if applied.is_done {
            self.forget_flows().await;
        }
    }

    /// After the rules: what is forgotten before would be remembered as it was by the next packet.
    async fn forget_flows(&mut self) {
        let leaving = std::mem::take(&mut self.leaving_flows);
        if leaving.is_empty() {
            return;
        }
        let ports = leaving.iter().filter_map(|name| self.udp.get(name)).flatten();
        let ports: Vec<_> = ports.cloned().collect();
        let forgotten = blocking(move || {
            let flows = conntrack::stale(kernel_flows::udp_flows()?, &ports);
            kernel_flows::forget(&flows)
        });
        let forgotten: io::Result<usize> = forgotten.await;
        match forgotten {
            Ok(0) => {}
            Ok(count) => debug!("{count} flows of UDP to endpoints that are gone were forgotten"),
            Err(error) => warn!(
                error = chain(&error),
                "flows of UDP to endpoints that are gone cannot be forgotten: their clients have to \
                 wait until they are over"
            ),
        }
    }

    fn tell(&self, applied: &Applied) {
        let parts = &self.followed.parts;
        for (name, why) in &applied.refused {
            let Some(service) = parts.services.get(name) else { continue };
            let message = format!("node {}: {why}", self.config.node_name);
            let service = object_reference(&*service);
            parts.recorder.record(service, EventType::Warning, REFUSED_REASON, message);
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
