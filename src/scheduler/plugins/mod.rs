//! Which nodes can take a pod, and which can take it best: pure functions over the snapshot.
//!
//! Start at [`FILTERS`] and [`SCORES`]: adding a plugin is one file and one line. Names, reasons and
//! weights are those of upstream's default profile (pkg/scheduler/apis/config/v1/default_plugins.go,
//! v1.35).

mod node_affinity;
mod node_name;
mod node_unschedulable;
mod resources_fit;
mod taint_toleration;

use super::snapshot::{NodeFacts, PodFacts};

/// The best score that a plugin can give.
pub(super) const SCORE_MAX: i64 = 100;

/// Says why a node cannot take a pod; nothing when it can. One node may have several reasons.
pub(super) struct Filter {
    pub(super) name: &'static str,
    pub(super) reasons: fn(&PodFacts, &NodeFacts) -> Vec<String>,
}

/// Says how well a node would take a pod that it can take: 0 to [`SCORE_MAX`].
pub(super) struct Score {
    pub(super) weight: i64,
    pub(super) score: fn(&PodFacts, &NodeFacts) -> i64,
}

/// In the order in which they are asked: the first with a reason ends the search of a node.
pub(super) const FILTERS: &[Filter] = &[
    Filter { name: "NodeUnschedulable", reasons: node_unschedulable::reasons },
    Filter { name: "NodeName", reasons: node_name::reasons },
    Filter { name: "TaintToleration", reasons: taint_toleration::reasons },
    Filter { name: "NodeAffinity", reasons: node_affinity::reasons },
    Filter { name: "NodeResourcesFit", reasons: resources_fit::reasons },
];

pub(super) const SCORES: &[Score] = &[
    Score { weight: 3, score: taint_toleration::score },
    Score { weight: 1, score: resources_fit::least_allocated },
];
