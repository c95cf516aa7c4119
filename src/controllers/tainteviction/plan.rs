//! Whether a pod may stay on a node with taints, and for how long.
//!
//! Follows upstream `processPodOnNode` (pkg/controller/tainteviction/taint_eviction.go, v1.35).

use crate::api::node_selector::covers;
use crate::client::object_reference;
use crate::control::{Attempt, Plan, Report, Write};
use crate::controllers::disruption_target::{Cause, mark};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use std::sync::Arc;
use std::time::Duration;

const NO_EXECUTE: &str = "NoExecute";

const TAINT: Cause = Cause {
    reason: "DeletionByTaintManager",
    message: "Taint manager: deleting due to NoExecute taint",
};

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub pod: Arc<Pod>,
    pub node: Arc<Node>,
    /// For how long the pod has been on a node that it is to leave some time.
    pub leaving_for: Option<Duration>,
    pub attempt: Attempt,
}

/// What the pod's tolerations say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Forever,
    AtMost(Duration),
    /// One of the taints is not tolerated at all.
    No,
}

pub fn plan(observed: &Observed) -> Plan {
    let pod = &*observed.pod;
    let mut plan = Plan { regarding: object_reference(pod), ..Plan::default() };
    if pod.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let name = |part: &Option<String>| part.clone().unwrap_or_default();
    let key = format!("{}/{}", name(&pod.metadata.namespace), name(&pod.metadata.name));
    let left = match stay(pod, &observed.node) {
        Stay::Forever => {
            if observed.leaving_for.is_some() {
                let message = format!("Cancelling deletion of Pod {key}");
                plan.reports.push(Report::normal("TaintManagerEviction", message));
            }
            return plan;
        }
        Stay::AtMost(longest) => longest.saturating_sub(observed.leaving_for.unwrap_or_default()),
        Stay::No => Duration::ZERO,
    };
    if !left.is_zero() {
        plan.recheck_after = Some(left);
        return plan;
    }
    plan.then(mark(pod, TAINT, observed.attempt.now));
    plan.then([Write::delete(pod)]);
    let message = format!("Marking for deletion Pod {key}");
    plan.reports.push(Report::normal("TaintManagerEviction", message));
    plan
}

/// How long the pod may stay on the node: as long as the least patient of the tolerations in use.
pub(super) fn stay(pod: &Pod, node: &Node) -> Stay {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
    let tolerations = tolerations.unwrap_or_default();
    let taints: Vec<&Taint> = no_execute(node).collect();
    let is_tolerated = |taint: &&Taint| tolerations.iter().any(|own| covers(own, taint));
    if !taints.iter().all(is_tolerated) {
        return Stay::No;
    }
    let is_used = |own: &&Toleration| taints.iter().any(|taint| covers(own, taint));
    let seconds = tolerations.iter().filter(is_used).filter_map(|own| own.toleration_seconds);
    match seconds.min() {
        None => Stay::Forever,
        Some(seconds) => Stay::AtMost(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}

/// The taints that drive pods away.
pub(super) fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == NO_EXECUTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(taints: &[&str], tolerations: Value, leaving: Option<u64>, expected: &[&str]) {
        let taints: Vec<Value> =
            taints.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        let node = json!({"metadata": {"name": "n"}, "spec": {"taints": taints}});
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "P"},
            "spec": {"containers": [], "tolerations": tolerations}});
        let plan = plan(&Observed {
            pod: serde_json::from_value(pod).unwrap(),
            node: serde_json::from_value(node).unwrap(),
            leaving_for: leaving.map(Duration::from_secs),
            attempt: Attempt { now: "2026-11-20T12:00:00Z".parse().unwrap(), failure: None },
        });
        let mut lines: Vec<String> = plan
            .writes()
            .map(|write| match write {
                Write::Delete { .. } => "delete".to_owned(),
                _ => write.body()["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned(),
            })
            .collect();
        lines.extend(plan.reports.iter().map(|report| report.message.clone()));
        lines.extend(plan.recheck_after.map(|after| format!("again in {}", after.as_secs())));
        assert_eq!(lines, expected, "{taints:?}");
    }

    fn toleration(key: &str, seconds: Option<i64>) -> Value {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds})
    }

    const GO: &[&str] = &["DeletionByTaintManager", "delete", "Marking for deletion Pod ns/p"];

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        check(&[], json!([]), None, &[]);
        check(&["a"], json!([]), None, GO);
        check(&["a"], json!([toleration("a", None)]), None, &[]);
        check(&["a"], json!([toleration("a", Some(300))]), None, &["again in 300"]);
        check(&["a"], json!([toleration("a", Some(300))]), Some(100), &["again in 200"]);
        check(&["a"], json!([toleration("a", Some(300))]), Some(300), GO);
        check(&["a"], json!([toleration("a", Some(-1))]), None, GO);
        let both = json!([toleration("a", Some(300)), toleration("b", Some(20))]);
        check(&["a"], both.clone(), None, &["again in 300"]);
        check(&["a", "b"], both.clone(), None, &["again in 20"]);
        check(&["a", "c"], both, None, GO);
        let forever_and_not = json!([toleration("a", None), toleration("a", Some(5))]);
        check(&["a"], forever_and_not, None, &["again in 5"]);
    }

    #[test]
    fn when_the_node_is_back_the_pod_stays() {
        let cancelled = "Cancelling deletion of Pod ns/p";
        check(&[], json!([toleration("a", Some(300))]), Some(100), &[cancelled]);
    }
}
