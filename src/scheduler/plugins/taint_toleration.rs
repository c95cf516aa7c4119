//! Keeps pods off nodes with taints they do not tolerate. Follows upstream plugins/tainttoleration
//! (v1.35).

use super::SCORE_MAX;
use crate::api::node_selector;
use crate::scheduler::snapshot::{NodeFacts, PodFacts};
use k8s_openapi::api::core::v1::Taint;

/// A node with this many taints that would rather not have a pod scores nothing.
const UNWANTED_TAINTS_MAX: i64 = 10;

pub(super) fn reasons(pod: &PodFacts, node: &NodeFacts) -> Vec<String> {
    let forbids = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    let offending = node.taints().filter(forbids).find(|taint| !tolerates(pod, taint));
    let reason = |taint: &Taint| {
        let value = taint.value.as_deref().unwrap_or_default();
        format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)
    };
    offending.map(reason).into_iter().collect()
}

/// Fewer taints that would rather not have the pod are better.
pub(super) fn score(pod: &PodFacts, node: &NodeFacts) -> i64 {
    let prefers_not = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint);
    let count = i64::try_from(node.taints().filter(prefers_not).count()).unwrap_or(i64::MAX);
    (UNWANTED_TAINTS_MAX - count).max(0) * SCORE_MAX / UNWANTED_TAINTS_MAX
}

pub(super) fn tolerates(pod: &PodFacts, taint: &Taint) -> bool {
    let spec = pod.pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    node_selector::tolerates(tolerations, taint)
}
