//! Room for what a pod asks, and more room as the better choice. Follows upstream
//! plugins/noderesources fit.go and least_allocated.go (v1.35).

use super::SCORE_MAX;
use crate::scheduler::resources::Resources;
use crate::scheduler::snapshot::{NodeFacts, PodFacts};

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let mut reasons = Vec::new();
    if node.pods_count() >= node.pods_max {
        reasons.push("Too many pods".to_owned());
    }
    let Resources { milli_cpu, memory_bytes, storage_bytes, others } = &pod.requests;
    let (have, used) = (&node.allocatable, &node.requested);
    let mut ask = |name: &str, wanted: i64, have: i64, used: i64| {
        if wanted > 0 && wanted > have.saturating_sub(used) {
            reasons.push(format!("Insufficient {name}"));
        }
    };
    ask("cpu", *milli_cpu, have.milli_cpu, used.milli_cpu);
    ask("memory", *memory_bytes, have.memory_bytes, used.memory_bytes);
    ask("ephemeral-storage", *storage_bytes, have.storage_bytes, used.storage_bytes);
    for (name, wanted) in others {
        let amount = |resources: &Resources| resources.others.get(name).copied().unwrap_or(0);
        ask(name, *wanted, amount(have), amount(used));
    }
    reasons
}

/// The mean over processor and memory of the share that would stay free.
pub(super) fn least_allocated(pod: &PodFacts, node: &NodeFacts) -> i64 {
    let mut used = node.requested_for_scoring.clone();
    used.add(&pod.requests_for_scoring);
    let free = |have: i64, used: i64| match have {
        0 => 0,
        have => (have - used).max(0).saturating_mul(SCORE_MAX) / have,
    };
    let cpu = free(node.allocatable.milli_cpu, used.milli_cpu);
    let memory = free(node.allocatable.memory_bytes, used.memory_bytes);
    i64::midpoint(cpu, memory)
}
