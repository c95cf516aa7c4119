//! What the proxy has done, counted. Names and meanings of measurements are upstream's
//! (pkg/proxy/metrics/metrics.go, v1.35); see [`exposition`](super::exposition).

use super::element::Family;
use super::model::Port;
use super::topology::Policy;
use crate::stdx::exposition::Durations;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// In seconds: from a millisecond on, each twice the one before.
const SYNC_BOUNDS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// Some of upstream's, which begin at 0.25 s, and some below.
const PROGRAMMING_BOUNDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0,
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

/// What is counted for each family. What is not was for both: they share their transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ByFamily<T> {
    pub(super) ipv4: T,
    pub(super) ipv6: T,
}

impl<T> ByFamily<T> {
    pub(super) fn get(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    pub(super) fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }
}

/// All that was counted.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// Of the kernel's rules being brought up to date, whatever it took.
    pub(super) syncs: Durations,
    /// Those for which all of them were looked at.
    pub(super) full_syncs: Durations,
    /// Those for which only changes were.
    pub(super) partial_syncs: Durations,
    pub(super) service_changes: Changes,
    pub(super) endpoint_changes: Changes,
    pub(super) refusals: Refusals,
    /// From when a pod or Service changed to when the kernel knew.
    pub(super) programming: ByFamily<Durations>,
    pub(super) without_local: ByFamily<WithoutLocal>,
    pub(super) flow_searches: Durations,
    pub(super) forgotten_flows: ByFamily<u64>,
    /// By status.
    pub(super) healthz: BTreeMap<u16, u64>,
    pub(super) livez: BTreeMap<u16, u64>,
}

/// Changes that were heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) total: u64,
    /// Those of them that the kernel does not know yet.
    pub(super) pending: u64,
}

/// How often nft said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusals {
    pub(super) transactions: u64,
    /// To chains being deleted.
    pub(super) cleanups: u64,
}

/// Ports with the policy Local that have endpoints, but none on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WithoutLocal {
    pub(super) internal: u64,
    pub(super) external: u64,
}

/// Which changes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Service,
    Endpoints,
}

/// How the rules were brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The kernel's were looked at.
    Full,
    /// Only what has changed.
    Partial,
}

impl Default for Counts {
    fn default() -> Self {
        let of_syncs = Durations::by(SYNC_BOUNDS);
        let programming = Durations::by(PROGRAMMING_BOUNDS);
        Self {
            syncs: of_syncs,
            full_syncs: of_syncs,
            partial_syncs: of_syncs,
            service_changes: Changes::default(),
            endpoint_changes: Changes::default(),
            refusals: Refusals::default(),
            programming: ByFamily { ipv4: programming, ipv6: programming },
            without_local: ByFamily::default(),
            flow_searches: of_syncs,
            forgotten_flows: ByFamily::default(),
            healthz: BTreeMap::new(),
            livez: BTreeMap::new(),
        }
    }
}

impl Tally {
    pub(super) fn heard(&self, what: Changed) {
        let mut counts = self.lock();
        let changes = match what {
            Changed::Service => &mut counts.service_changes,
            Changed::Endpoints => &mut counts.endpoint_changes,
        };
        changes.total += 1;
        changes.pending += 1;
    }

    /// Everything that was heard of is looked at.
    pub(super) fn nothing_pending(&self) {
        let mut counts = self.lock();
        counts.service_changes.pending = 0;
        counts.endpoint_changes.pending = 0;
    }

    pub(super) fn synced(&self, extent: Extent, took: Duration) {
        let mut counts = self.lock();
        counts.syncs.note(took);
        match extent {
            Extent::Full => counts.full_syncs.note(took),
            Extent::Partial => counts.partial_syncs.note(took),
        }
    }

    pub(super) fn programmed(&self, latencies: impl IntoIterator<Item = (Family, Duration)>) {
        let mut counts = self.lock();
        for (family, latency) in latencies {
            counts.programming.get_mut(family).note(latency);
        }
    }

    pub(super) fn is_now(&self, refusals: Refusals, without_local: ByFamily<WithoutLocal>) {
        let mut counts = self.lock();
        counts.refusals = refusals;
        counts.without_local = without_local;
    }

    pub(super) fn searched_flows(&self, took: Duration, forgotten: ByFamily<usize>) {
        let mut counts = self.lock();
        counts.flow_searches.note(took);
        for family in Family::ALL {
            *counts.forgotten_flows.get_mut(family) +=
                u64::try_from(*forgotten.get(family)).unwrap_or_default();
        }
    }

    pub(super) fn answered(&self, is_livez: bool, status: u16) {
        let mut counts = self.lock();
        let answers = if is_livez { &mut counts.livez } else { &mut counts.healthz };
        *answers.entry(status).or_default() += 1;
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panics under this lock")
    }
}

impl WithoutLocal {
    fn plus(self, other: Self) -> Self {
        Self { internal: self.internal + other.internal, external: self.external + other.external }
    }
}

impl ByFamily<WithoutLocal> {
    /// Of the ports of one Service.
    pub(super) fn of(ports: &[Port]) -> Self {
        let mut by_family = Self::default();
        for port in ports {
            let all = by_family.get_mut(port.family());
            let has_none_here = port.reachable.is_anywhere && port.reachable.local.is_empty();
            let policies = &port.policies;
            if has_none_here && policies.internal == Policy::Local {
                all.internal += 1;
            }
            if has_none_here && policies.is_external && policies.external == Policy::Local {
                all.external += 1;
            }
        }
        by_family
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { ipv4: self.ipv4.plus(other.ipv4), ipv6: self.ipv6.plus(other.ipv6) }
    }
}
