//! Keeps pods off nodes with taints they do not tolerate. Follows upstream plugins/tainttoleration
//! (v1.35).

use super::SCORE_MAX;
use crate::scheduler::snapshot::{NodeFacts, PodFacts};
use k8s_openapi::api::core::v1::{Taint, Toleration};

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
    let tolerations = spec.and_then(|spec| spec.tolerations.as_ref()).into_iter().flatten();
    tolerations.into_iter().any(|toleration| covers(toleration, taint))
}

/// Upstream `ToleratesTaint` (api core/v1/toleration.go).
fn covers(toleration: &Toleration, taint: &Taint) -> bool {
    let absent_or = |wanted: &Option<String>, actual: &str| match wanted.as_deref() {
        None | Some("") => true,
        Some(wanted) => wanted == actual,
    };
    let value = taint.value.as_deref().unwrap_or_default();
    absent_or(&toleration.effect, &taint.effect)
        && absent_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            _ => toleration.value.as_deref().unwrap_or_default() == value,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn tolerations_cover_taints() {
        let check = |toleration: Value, taint: Value, expected: bool| {
            let shown = format!("{toleration} {taint}");
            let toleration = serde_json::from_value(toleration).unwrap();
            let taint = serde_json::from_value(taint).unwrap();
            assert_eq!(covers(&toleration, &taint), expected, "{shown}");
        };
        let taint = json!({"key": "gpu", "value": "yes", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), taint.clone(), true);
        check(json!({"key": "gpu", "operator": "Exists"}), taint.clone(), true);
        check(json!({"key": "cpu", "operator": "Exists"}), taint.clone(), false);
        check(json!({"key": "gpu", "value": "yes"}), taint.clone(), true);
        check(json!({"key": "gpu", "operator": "Equal", "value": "no"}), taint.clone(), false);
        check(json!({"key": "gpu", "value": "yes", "effect": "NoExecute"}), taint, false);
    }
}
