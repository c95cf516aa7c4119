//! What is worked out for pods that ask for the same, and brought up to date from one to the next.
//!
//! Start at [`Memory::recall`]. Architecture invariant: what is brought up to date step by step is
//! what would be worked out anew from the snapshot; the test below holds it to that.

use super::journal::{Position, Seen, Step};
use super::plugins::inter_pod_affinity::{self, Worth};
use super::plugins::topology_spread::{self, SoftCounts, soft_constraints};
use super::pod::Ask;
use super::ranking::Ranking;
use super::snapshot::Snapshot;
use std::sync::Arc;

/// So many kinds of pods are remembered; of those beyond, the one that was not asked for the longest
/// is worked out anew.
const CLASSES_MAX: usize = 16;

/// What the pods on all the nodes mean to pods that ask for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) near: Arc<inter_pod_affinity::Counts>,
    pub(super) worth: Arc<Worth>,
    pub(super) spread: Arc<topology_spread::Counts>,
    pub(super) soft_spread: Arc<SoftCounts>,
}

/// Pods that ask for the same.
#[derive(Debug)]
pub(super) struct Class {
    ask: Arc<Ask>,
    /// Through here the changes are taken in.
    position: Position,
    pub(super) known: Known,
    pub(super) ranking: Option<Ranking>,
}

/// The classes of the last pods, the latest last.
#[derive(Debug, Default)]
pub(super) struct Memory(Vec<Class>);

impl Known {
    pub(super) fn new(ask: &Ask, snapshot: &Snapshot) -> Self {
        let soft = soft_constraints(ask, snapshot);
        Self {
            near: Arc::new(inter_pod_affinity::Counts::new(ask, snapshot)),
            worth: Arc::new(Worth::new(ask, snapshot)),
            spread: Arc::new(topology_spread::Counts::new(ask, snapshot)),
            soft_spread: Arc::new(SoftCounts::new(ask, soft, snapshot)),
        }
    }

    /// A pod came to (1) or went from (-1) its node.
    fn count(&mut self, ask: &Ask, seen: &Seen, snapshot: &Snapshot, by: i64) {
        let (other, node) = (&*seen.ask, snapshot.at(seen.slot));
        if inter_pod_affinity::Counts::concerns(ask, other) {
            Arc::make_mut(&mut self.near).change(ask, (other, node), snapshot, by);
        }
        if Worth::concerns(ask, other) {
            Arc::make_mut(&mut self.worth).change(ask, (other, node), snapshot, by);
        }
        if seen.is_terminating {
            return;
        }
        if !self.spread.is_empty() {
            Arc::make_mut(&mut self.spread).change(ask, (other, node), by);
        }
        if !self.soft_spread.is_empty() {
            Arc::make_mut(&mut self.soft_spread).change(ask, (other, node), by);
        }
    }

    /// What belongs together may be other pods than before.
    fn renew_soft_spread(&mut self, ask: &Ask, snapshot: &Snapshot) {
        let soft = soft_constraints(ask, snapshot);
        if self.soft_spread.constraints() != soft {
            self.soft_spread = Arc::new(SoftCounts::new(ask, soft, snapshot));
        }
    }
}

impl Class {
    fn new(ask: &Arc<Ask>, snapshot: &Snapshot) -> Self {
        let (ask, position) = (Arc::clone(ask), snapshot.journal().end());
        let known = Known::new(&ask, snapshot);
        Self { ask, position, known, ranking: None }
    }

    /// Takes in what has changed; says whether all of that is known.
    fn catch_up(&mut self, snapshot: &Snapshot) -> bool {
        let Some(steps) = snapshot.journal().since(self.position) else { return false };
        for step in steps {
            match step {
                Step::Came(seen) => self.known.count(&self.ask, seen, snapshot, 1),
                Step::Gone(seen) => self.known.count(&self.ask, seen, snapshot, -1),
                Step::Offered => {}
            }
            if self.ranking.as_mut().is_some_and(|ranking| !ranking.outlives(step)) {
                self.ranking = None;
            }
        }
        self.position = snapshot.journal().end();
        true
    }
}

impl Memory {
    /// What is known about pods that ask for this, as of now.
    pub(super) fn recall(&mut self, ask: &Arc<Ask>, snapshot: &Snapshot) -> &mut Class {
        let is_it = |class: &Class| Arc::ptr_eq(&class.ask, ask) || class.ask == *ask;
        let found = self.0.iter().rposition(is_it);
        let mut class = found.map(|index| self.0.remove(index));
        class.take_if(|class| !class.catch_up(snapshot));
        let class = match class {
            Some(mut class) => {
                class.known.renew_soft_spread(ask, snapshot);
                class
            }
            None => Class::new(ask, snapshot),
        };
        if self.0.len() == CLASSES_MAX {
            self.0.remove(0);
        }
        self.0.push(class);
        self.0.last_mut().expect("just pushed")
    }

    /// Nodes for the next pods like the last that was recalled.
    pub(super) fn keep_ranking(&mut self, ranking: Ranking) {
        if let Some(class) = self.0.last_mut() {
            class.ranking = Some(ranking);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plugins::testing::{node, snapshot, whole_pod};
    use super::super::pod::PodFacts;
    use super::*;
    use serde_json::{Value, json};

    const NODES: usize = 6;

    fn term(app: &str, key: &str) -> Value {
        json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
    }

    /// Pods that count each other in every way there is.
    fn kinds() -> Vec<Value> {
        let required = |kind: &str, term: Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
        let wished = |kind: &str, term: Value| {
            let wish = json!([{"weight": 7, "podAffinityTerm": term}]);
            json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": wish}}})
        };
        let spread = |when: &str, key: &str| {
            json!({"topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when,
                "labelSelector": {"matchLabels": {"app": "web"}},
            }]})
        };
        vec![
            json!({}),
            required("podAntiAffinity", term("web", "kubernetes.io/hostname")),
            required("podAffinity", term("web", "zone")),
            wished("podAffinity", term("web", "zone")),
            wished("podAntiAffinity", term("db", "zone")),
            spread("DoNotSchedule", "zone"),
            spread("ScheduleAnyway", "zone"),
            spread("ScheduleAnyway", "kubernetes.io/hostname"),
        ]
    }

    fn pod(index: usize, lot: usize) -> PodFacts {
        let kinds = kinds();
        let app = if lot.is_multiple_of(3) { "db" } else { "web" };
        let deleted = lot.is_multiple_of(5).then_some("2026-01-01T00:00:00Z");
        let pod = json!({
            "metadata": {"labels": {"app": app}, "deletionTimestamp": deleted},
            "spec": kinds[lot % kinds.len()],
        });
        whole_pod(&format!("p-{index}"), pod)
    }

    /// A sequence that looks random and is the same each time.
    fn lots() -> impl Iterator<Item = usize> {
        let next = |lot: &u32| Some(lot.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        std::iter::successors(Some(7), next).map(|lot| (lot >> 8) as usize)
    }

    #[test]
    fn what_is_brought_up_to_date_is_what_would_be_found_anew() {
        let zoned = |index: usize| {
            let zone = ["a", "b"].get(index % 3).map(|zone| json!({"zone": zone}));
            node(&format!("n-{index}"), json!({"metadata": {"labels": zone.unwrap_or(json!({}))}}))
        };
        let nodes: Vec<_> = (0..NODES).map(zoned).collect();
        let mut snapshot = snapshot(&nodes, &[]);
        let asks: Vec<_> = (0..kinds().len()).map(|kind| pod(0, 8 * 9 + kind).ask).collect();
        let mut memory = Memory::default();
        let mut lots = lots();
        let mut draw = |below: usize| lots.next().unwrap() % below;
        for step in 0..2_000 {
            let index = draw(40);
            match draw(3) {
                0 => drop(snapshot.forget(&format!("p-{index}"))),
                _ => snapshot.assume(Arc::new(pod(index, draw(1_000))), &format!("n-{}", draw(7))),
            }
            if step % 97 == 0 {
                let other = zoned(draw(9)).metadata.labels;
                let mut changed = nodes[step % NODES].clone();
                changed.metadata.labels = other;
                let name = changed.metadata.name.clone().unwrap();
                snapshot.set_node(&name, Some(Arc::new(changed)));
                snapshot.prepare();
            }
            let ask = &asks[draw(asks.len())];
            assert_eq!(memory.recall(ask, &snapshot).known, Known::new(ask, &snapshot), "{step}");
        }
    }
}
