//! Which nodes can take a pod, and which can take it best: pure functions over the snapshot.
//!
//! Start at [`FILTERS`] and [`SCORES`]: adding a plugin is one file and one line. Names, order,
//! reasons and weights are those of upstream's default profile
//! (pkg/scheduler/apis/config/v1/default_plugins.go, v1.35). What a plugin works out once per pod is
//! in the [`Cycle`]; what it says of events that may help is its hint.

mod balanced_allocation;
mod domains;
mod image_locality;
pub(super) mod inter_pod_affinity;
pub(super) mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod node_volume_limits;
mod resources_fit;
mod taint_toleration;
pub(super) mod topology_spread;
pub(super) mod volume_binding;
pub(super) mod volume_restrictions;
pub(super) mod volume_zone;

#[cfg(test)]
pub(super) mod testing;

use super::cycle::Cycle;
use super::event::Event;
use super::node::NodeFacts;
use super::pod::PodFacts;
use std::borrow::Cow;

/// The best score that a plugin can give.
pub(super) const SCORE_MAX: i64 = 100;

/// The plugins that can refuse a node, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
}

/// A set of plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PluginSet(u16);

impl PluginSet {
    pub(super) fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u16;
    }

    pub(super) fn contains(self, plugin: Plugin) -> bool {
        self.0 & (1 << plugin as u16) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Plugin> for PluginSet {
    fn from_iter<I: IntoIterator<Item = Plugin>>(plugins: I) -> Self {
        let mut set = Self::default();
        plugins.into_iter().for_each(|plugin| set.insert(plugin));
        set
    }
}

/// What users see; most are words that never change.
pub(super) type Reason = Cow<'static, str>;

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) plugin: Plugin,
    pub(super) reasons: Vec<Reason>,
    /// Whether it may be otherwise once less important pods are gone.
    pub(super) is_resolvable: bool,
}

impl Rejection {
    /// Other pods are in the way.
    pub(super) fn for_now(plugin: Plugin, reason: impl Into<Reason>) -> Self {
        Self { plugin, reasons: vec![reason.into()], is_resolvable: true }
    }

    /// No pod that goes would change it.
    pub(super) fn for_good(plugin: Plugin, reason: impl Into<Reason>) -> Self {
        Self { plugin, reasons: vec![reason.into()], is_resolvable: false }
    }
}

/// Refuses nodes.
pub(super) struct Filter {
    pub(super) plugin: Plugin,
    /// Whether the pod gives the plugin anything to look at.
    pub(super) concerns: fn(&Cycle<'_>) -> bool,
    pub(super) check: fn(&Cycle<'_>, &NodeFacts) -> Result<(), Rejection>,
    /// Whether a pod that the plugin refused may fit after this.
    pub(super) hint: fn(&PodFacts, &Event<'_>) -> bool,
}

/// The first that refuses a node ends the search of that node.
pub(super) const FILTERS: &[Filter] = &[
    node_unschedulable::FILTER,
    node_name::FILTER,
    taint_toleration::FILTER,
    node_affinity::FILTER,
    node_ports::FILTER,
    resources_fit::FILTER,
    volume_restrictions::FILTER,
    node_volume_limits::FILTER,
    volume_binding::FILTER,
    volume_zone::FILTER,
    topology_spread::FILTER,
    inter_pod_affinity::FILTER,
];

/// How raw scores become scores from 0 to [`SCORE_MAX`].
#[derive(Clone, Copy)]
pub(super) enum Normalize {
    /// They are already.
    Never,
    /// The highest becomes the best.
    ByHighest,
    /// The highest becomes nothing.
    ByHighestReversed,
    /// In its own way, over all nodes at once.
    With(fn(&mut [i64])),
}

impl Normalize {
    pub(super) fn apply(self, scores: &mut [i64]) {
        match self {
            Self::Never => {}
            Self::ByHighest => by_highest(scores, |score| score),
            Self::ByHighestReversed => by_highest(scores, |score| SCORE_MAX - score),
            Self::With(normalize) => normalize(scores),
        }
    }
}

/// Upstream `DefaultNormalizeScore` (plugins/helper/normalize_score.go, v1.35).
fn by_highest(scores: &mut [i64], turn: impl Fn(i64) -> i64) {
    let highest = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        *score = turn(if highest == 0 { 0 } else { SCORE_MAX * *score / highest });
    }
}

/// Says how well a node would take a pod that it can take.
pub(super) struct Score {
    pub(super) weight: i64,
    pub(super) concerns: fn(&Cycle<'_>) -> bool,
    pub(super) raw: fn(&Cycle<'_>, &NodeFacts) -> i64,
    pub(super) normalize: Normalize,
    /// Whether the score changes when a pod that has no wishes about others comes to the node.
    pub(super) follows_room: bool,
}

pub(super) const SCORES: &[Score] = &[
    taint_toleration::SCORE,
    node_affinity::SCORE,
    resources_fit::SCORE,
    topology_spread::SCORE,
    inter_pod_affinity::SCORE,
    balanced_allocation::SCORE,
    image_locality::SCORE,
];

/// The part of a node's score that changes when pods come.
pub(super) fn room_score(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let of_room = SCORES.iter().filter(|plugin| plugin.follows_room && (plugin.concerns)(cycle));
    of_room.map(|plugin| plugin.weight * (plugin.raw)(cycle, node)).sum()
}

/// Whether a pod that these plugins refused may fit after `event`.
pub(super) fn may_help(refused_by: PluginSet, pod: &PodFacts, event: &Event<'_>) -> bool {
    // Room that was kept for more important pods was no obstacle.
    if let Event::RoomFreed { priority } = event {
        return pod.priority() <= *priority;
    }
    let mut refused = FILTERS.iter().filter(|filter| refused_by.contains(filter.plugin));
    refused.any(|filter| (filter.hint)(pod, event))
}
