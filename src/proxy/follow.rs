//! The loop: what changed is looked at, what is wanted goes into the ledger, and from there into the
//! kernel.
//!
//! While one transaction is under way, changes gather for the next: there is no other delay.

use super::Config;
use super::conntrack::{self, UdpPort, leaves_flows, udp_ports};
use super::followed::{Followed, Trigger, nobodys};
use super::health::HealthChecks;
use super::kernel::{Applied, Kernel};
use super::ledger::{Ledger, Owner};
use super::model::{self, HealthCheck, NodeView};
use super::ranges;
use super::render;
use super::tally::{ByFamily, Extent, WithoutLocal};
use crate::api::ObjectKey;
use crate::client::{EventType, object_reference};
use crate::network::range_routes;
use crate::stdx::{blocking, chain, monotonic};
use crate::sys::conntrack as kernel_flows;
use crate::sys::nft::{Heard, Others};
use crate::sys::sysctl;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, info, warn};

/// No more Services than this are in one transaction, so that a change does not wait for a burst of
/// others to be over: the kernel is given about 50 ms of work at once.
const SERVICES_PER_TRANSACTION: usize = 1_000;

/// Why a Service has not got its rules, as users are told.
const REFUSED_REASON: &str = "FailedToProgramService";

/// Why no Service gets its rules.
const BROKEN_REASON: &str = "FailedToProgramServices";

/// Why nobody answers a health check; upstream's word.
const HEALTH_REASON: &str = "FailedToStartServiceHealthcheck";

/// A client that has said all it has to say may wait this long for the answer. The kernel forgets such
/// a connection after a minute, and then it is translated no more. As upstream's
/// `--conntrack-tcp-timeout-close-wait` (pkg/proxy/apis/config/v1alpha1/defaults.go, v1.35).
const HALF_CLOSED_SECONDS: u64 = 3_600;

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    config: Config,
    followed: Arc<Followed>,
    ledger: Ledger,
    /// Ranges of Services to which there are no routes yet.
    new_ranges: Option<Vec<IpNet>>,
    kernel: Kernel,
    /// Services with ports of UDP.
    udp: BTreeMap<Owner, Vec<UdpPort>>,
    /// Those of them whose flows may go elsewhere than they should.
    leaving_flows: BTreeSet<Owner>,
    health: HealthChecks,
    /// Services with ports of policy Local that nobody here serves.
    without_local: BTreeMap<Owner, ByFamily<WithoutLocal>>,
    /// When that happened for which the kernel is being brought up to date.
    triggers: Vec<Trigger>,
}

impl Follower {
    pub(super) fn new(config: Config, followed: Arc<Followed>) -> Self {
        let health = HealthChecks::new(Arc::clone(&followed.progress));
        Self {
            config,
            followed,
            ledger: Ledger::default(),
            new_ranges: None,
            kernel: Kernel::default(),
            udp: BTreeMap::new(),
            leaving_flows: BTreeSet::new(),
            health,
            without_local: BTreeMap::new(),
            triggers: Vec::new(),
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        self.followed.synced().await;
        let began = monotonic();
        let mut others = self.others();
        // The kernel may have rules of before: they stay until all that is to be there is known.
        let names = self.followed.take(usize::MAX);
        self.look_at(&names);
        let applied = self.kernel.take_over(&mut self.ledger, began).await;
        let milliseconds = began.elapsed().as_millis();
        // One of the names is nobody's.
        let services = names.len() - 1;
        info!("the rules of {services} Services are there after {milliseconds} ms");
        remember_half_closed();
        self.count(Extent::Full, began);
        self.after(applied).await;
        loop {
            let due = [self.kernel.next_due(), self.health.next_due()];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                () = self.followed.wait() => {}
                () = until(due) => {}
                heard = changed(&mut others) => {
                    let began = monotonic();
                    let applied = self.kernel.look_again(heard, &mut self.ledger, began).await;
                    self.count(Extent::Full, began);
                    self.after(applied).await;
                }
            }
            let began = monotonic();
            let names = self.followed.take(SERVICES_PER_TRANSACTION);
            self.look_at(&names);
            let applied = self.kernel.apply(&mut self.ledger, began).await;
            if !names.is_empty() {
                self.count(Extent::Partial, began);
            }
            self.after(applied).await;
        }
    }

    /// `None` where the kernel does not tell: then what somebody takes away comes back with the next
    /// change that it is in the way of.
    fn others(&self) -> Option<Others> {
        match self.kernel.others() {
            Ok(others) => Some(others),
            Err(error) => {
                warn!(error = chain(&error), "nobody hears when the rules of Services are changed");
                None
            }
        }
    }

    fn look_at(&mut self, names: &[Owner]) {
        let zone = self.followed.zone();
        let node = NodeView {
            name: self.config.node_name.clone(),
            zone,
            addresses: self.config.node_ips.clone(),
        };
        for name in names {
            if **name == nobodys() {
                self.look_at_ranges(name);
                continue;
            }
            let parts = &self.followed.parts;
            let service = parts.services.get(name);
            let slices = self.followed.slices_of(name);
            let ports = service
                .as_deref()
                .map(|service| model::ports(service, &slices, &node))
                .unwrap_or_default();
            self.ledger.set(name, render::wanted(&ports));
            self.kernel.changed(name);
            let without_local = ByFamily::<WithoutLocal>::of(&ports);
            if without_local.is_none() {
                self.without_local.remove(name);
            } else {
                self.without_local.insert(Arc::clone(name), without_local);
            }
            self.triggers.extend(self.followed.take_triggers(name));
            self.look_at_flows(name, udp_ports(&ports));
            let check = service
                .as_deref()
                .and_then(|service| model::health_check(service, &slices, &node.name));
            self.look_at_health(name, check, service.as_deref());
        }
    }

    /// Who is inside of the cluster.
    fn look_at_ranges(&mut self, owner: &Owner) {
        let objects = self.followed.parts.service_cidrs.list();
        let ranges = ranges::of_services(&self.config.service_cidrs, &objects);
        self.ledger.set(owner, render::ranges(&self.config.cluster_cidrs, &ranges));
        self.new_ranges = Some(ranges);
    }

    /// After the rules: they answer for addresses that nobody has.
    async fn lead_in(&mut self) {
        let Some(ranges) = self.new_ranges.take() else { return };
        if let Err(error) = range_routes::lead(&self.config.interface, &ranges).await {
            warn!(
                error = chain(&error),
                "programs on this node reach Services only where there is a default route"
            );
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
        self.health.try_again(monotonic());
        if applied.is_done {
            self.followed.applied();
            let now = self.followed.parts.clock.now();
            let latency = |trigger: Trigger| {
                let latency = now.duration_since(trigger.at).try_into().unwrap_or_default();
                (trigger.family, latency)
            };
            self.followed.tally.programmed(self.triggers.drain(..).map(latency));
            self.lead_in().await;
            self.forget_flows().await;
        }
    }

    fn count(&self, extent: Extent, began: Instant) {
        let without_local = self.without_local.values().copied();
        let without_local = without_local.fold(ByFamily::default(), ByFamily::<WithoutLocal>::plus);
        let tally = &self.followed.tally;
        tally.synced(extent, began.elapsed());
        tally.is_now(self.kernel.refusals(), without_local);
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
            let (ipv4, ipv6): (Vec<_>, Vec<_>) =
                flows.into_iter().partition(|flow| flow.to.is_ipv4());
            Ok(ByFamily { ipv4: kernel_flows::forget(&ipv4)?, ipv6: kernel_flows::forget(&ipv6)? })
        });
        let began = monotonic();
        let forgotten: io::Result<ByFamily<usize>> = forgotten.await;
        let count = forgotten.as_ref().copied().unwrap_or_default();
        self.followed.tally.searched_flows(began.elapsed(), count);
        match forgotten {
            Ok(count) if count == ByFamily::default() => {}
            Ok(count) => debug!(?count, "flows of UDP to endpoints that are gone were forgotten"),
            Err(error) => warn!(
                error = chain(&error),
                "flows of UDP to endpoints that are gone cannot be forgotten: their clients have to \
                 wait until they are over"
            ),
        }
    }

    fn tell(&self, applied: &Applied) {
        let parts = &self.followed.parts;
        let node = &self.config.node_name;
        if let Some(why) = &applied.broken
            && let Some(object) = parts.nodes.get(&ObjectKey::cluster(node.clone()))
        {
            let message = format!("Services are not reached on this node as they should be: {why}");
            let object = object_reference(&*object);
            parts.recorder.record(object, EventType::Warning, BROKEN_REASON, message);
        }
        for (name, why) in &applied.refused {
            let Some(service) = parts.services.get(name) else { continue };
            let message = format!("node {node}: {why}");
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

/// For all connections of this network namespace: those to host ports need it as well.
fn remember_half_closed() {
    let setting = "net/netfilter/nf_conntrack_tcp_timeout_close_wait";
    if let Err(error) = sysctl::raise(setting, HALF_CLOSED_SECONDS) {
        warn!(
            error = chain(&error),
            "connections to Services that their clients have half closed break where the answer \
             takes longer than the kernel remembers them"
        );
    }
}

async fn changed(others: &mut Option<Others>) -> Heard {
    if let Some(listening) = others {
        match listening.changed().await {
            Ok(heard) => return heard,
            Err(error) => {
                warn!(
                    error = chain(&error),
                    "nobody hears any more when the rules of Services are changed"
                );
                *others = None;
            }
        }
    }
    std::future::pending().await
}
