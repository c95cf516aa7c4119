//! How many nodes of a zone are away, and how fast pods may be driven from them.
//!
//! Follows upstream `ComputeZoneState`, `handleDisruption` and its rates (pkg/controller/
//! nodelifecycle, v1.35): where everything seems to be away, it is more likely that this side is.

use crate::api::node::ready_status;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pods are driven from one node of a zone at a time, so far apart: upstream's
/// `--node-eviction-rate` of 0.1 a second.
const EVICTION_PAUSE: Duration = Duration::from_secs(10);

/// As above in a large zone of which much is away: upstream's `--secondary-node-eviction-rate`.
const SECONDARY_EVICTION_PAUSE: Duration = Duration::from_secs(100);

/// A zone with more nodes is large: upstream's `--large-cluster-size-threshold`.
const LARGE_ZONE_NODES: usize = 50;

/// Much of a zone is away when this many hundredths of its nodes are: upstream's
/// `--unhealthy-zone-threshold`.
const UNHEALTHY_PERCENT: usize = 55;

/// Fewer nodes away are never much of a zone.
const UNHEALTHY_NODES_MIN: usize = 3;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// Region and zone.
pub(super) type ZoneKey = (String, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Normal,
    Partial,
    Full,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ready: usize,
    away: usize,
}

impl Counts {
    fn extent(self) -> Extent {
        let Self { ready, away } = self;
        if ready == 0 && away > 0 {
            Extent::Full
        } else if away >= UNHEALTHY_NODES_MIN && away * 100 >= (ready + away) * UNHEALTHY_PERCENT {
            Extent::Partial
        } else {
            Extent::Normal
        }
    }
}

/// What is away, over all zones.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones(BTreeMap<ZoneKey, Counts>);

impl Zones {
    pub(super) fn of(nodes: &[Arc<Node>]) -> Self {
        let mut zones = Self::default();
        let labelled = |node: &Node| {
            node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED))
        };
        for node in nodes.iter().filter(|node| !labelled(node)) {
            let counts = zones.0.entry(zone_of(node)).or_default();
            if ready_status(node) == Some("True") { counts.ready += 1 } else { counts.away += 1 }
        }
        zones
    }

    /// Every node of every zone is away.
    pub(super) fn all_away(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|counts| counts.extent() == Extent::Full)
    }

    /// As much is away of every zone, as far as it matters.
    pub(super) fn has_extents_of(&self, other: &Self) -> bool {
        let extents = |zones: &Self| -> Vec<(ZoneKey, Extent)> {
            zones.0.iter().map(|(zone, counts)| (zone.clone(), counts.extent())).collect()
        };
        extents(self) == extents(other)
    }

    /// How far apart nodes of the zone are emptied; `None` where none are.
    fn pause(&self, zone: &ZoneKey) -> Option<Duration> {
        let counts = self.0.get(zone).copied().unwrap_or_default();
        match counts.extent() {
            _ if self.all_away() => None,
            Extent::Normal | Extent::Full => Some(EVICTION_PAUSE),
            Extent::Partial => {
                (counts.ready + counts.away > LARGE_ZONE_NODES).then_some(SECONDARY_EVICTION_PAUSE)
            }
        }
    }
}

pub(super) fn zone_of(node: &Node) -> ZoneKey {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
    };
    (label(REGION), label(ZONE))
}

/// Whether pods may be driven from a node now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Now,
    After(Duration),
    /// Not until more nodes are back.
    Closed,
}

/// When the last node of each zone was emptied.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<ZoneKey, (Instant, String)>);

impl Pace {
    /// Takes the next slot of the node's zone for it, if it is free. A node keeps the slot that it
    /// has been given.
    pub(super) fn take(&mut self, zones: &Zones, node: (ZoneKey, &str), now: Instant) -> Slot {
        let (zone, name) = node;
        let Some(pause) = zones.pause(&zone) else { return Slot::Closed };
        if let Some((last, holder)) = self.0.get(&zone)
            && holder != name
        {
            let left = (*last + pause).saturating_duration_since(now);
            if !left.is_zero() {
                return Slot::After(left);
            }
        }
        self.0.insert(zone, (now, name.to_owned()));
        Slot::Now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nodes(zone: &str, ready: usize, away: usize) -> Vec<Arc<Node>> {
        let node = |number: usize, status: &str| {
            let node = json!({"metadata": {"name": format!("{zone}{number}"), "labels": {ZONE: zone}},
                "status": {"conditions": [{"type": "Ready", "status": status}]}});
            Arc::new(serde_json::from_value(node).unwrap())
        };
        let ready = (0..ready).map(|number| node(number, "True"));
        ready.chain((0..away).map(|number| node(1_000 + number, "Unknown"))).collect()
    }

    /// The pause in seconds in zone `a`.
    #[track_caller]
    fn check(a: (usize, usize), b: (usize, usize), expected: Option<u64>) {
        let mut all = nodes("a", a.0, a.1);
        all.extend(nodes("b", b.0, b.1));
        let pause = Zones::of(&all).pause(&(String::new(), "a".to_owned()));
        assert_eq!(pause.map(|pause| pause.as_secs()), expected, "{a:?} {b:?}");
    }

    #[test]
    fn the_more_is_away_the_slower_nodes_are_emptied() {
        check((5, 1), (0, 0), Some(10));
        check((1, 1), (0, 0), Some(10));
        check((0, 1), (0, 0), None);
        check((0, 3), (0, 2), None);
        check((0, 3), (1, 2), Some(10));
        check((4, 6), (5, 0), None);
        check((5, 6), (5, 0), Some(10));
        check((30, 40), (5, 0), Some(100));
    }

    #[test]
    fn one_node_of_a_zone_after_the_other() {
        let start = crate::stdx::monotonic();
        let zones = Zones::of(&nodes("a", 9, 2));
        let mut pace = Pace::default();
        let zone = || (String::new(), "a".to_owned());
        assert_eq!(pace.take(&zones, (zone(), "x"), start), Slot::Now);
        assert_eq!(pace.take(&zones, (zone(), "x"), start), Slot::Now);
        let soon = start + Duration::from_secs(4);
        assert_eq!(pace.take(&zones, (zone(), "y"), soon), Slot::After(Duration::from_secs(6)));
        let later = start + Duration::from_secs(10);
        assert_eq!(pace.take(&zones, (zone(), "y"), later), Slot::Now);
    }

    #[test]
    fn nodes_can_be_left_out() {
        let mut node = Node::clone(&nodes("a", 0, 1)[0]);
        node.metadata.labels.get_or_insert_default().insert(EXCLUDED.to_owned(), String::new());
        assert!(!Zones::of(&[Arc::new(node)]).all_away());
    }
}
