//! Uses processor and memory of a node to equal shares. Follows upstream
//! plugins/noderesources/balanced_allocation.go (v1.35).

use super::{Normalize, SCORE_MAX, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::node::NodeFacts;

pub(super) const SCORE: Score = Score {
    weight: 1,
    concerns: |cycle| {
        let wanted = &cycle.pod.ask.requests;
        wanted.milli_cpu > 0 || wanted.memory_bytes > 0
    },
    raw: balance,
    normalize: Normalize::Never,
    follows_room: true,
};

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a share is between 0 and 1, a score between 0 and 100"
)]
fn balance(cycle: &Cycle<'_>, node: &NodeFacts) -> i64 {
    let (have, used, wanted) = (&node.allocatable, &node.requested, &cycle.pod.ask.requests);
    let share = |have: i64, used: i64, wanted: i64| {
        (have != 0).then(|| (used.saturating_add(wanted) as f64 / have as f64).min(1.0))
    };
    let cpu = share(have.milli_cpu, used.milli_cpu, wanted.milli_cpu);
    let memory = share(have.memory_bytes, used.memory_bytes, wanted.memory_bytes);
    let deviation = match (cpu, memory) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::super::testing::{node, pod, scores};
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn equal_shares_are_better() {
        let sized = |name: &str, allocatable: Value| {
            node(name, json!({"status": {"allocatable": allocatable}}))
        };
        let nodes = [
            sized("a", json!({"cpu": "4", "memory": "4Gi"})),
            sized("b", json!({"cpu": "2", "memory": "4Gi"})),
            sized("c", json!({"cpu": "1", "memory": "40Gi"})),
        ];
        let requests = json!({"cpu": "1", "memory": "1Gi"});
        let pod =
            pod("p", json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}));
        assert_eq!(scores(&SCORE, &pod, &nodes), [100, 87, 51]);
    }
}
