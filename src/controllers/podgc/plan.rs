//! Which pods nobody needs any more.

use crate::control::{Attempt, Plan, Write};
use crate::controllers::disruption_target::{Cause, delete_at_once, mark_failed};
use crate::controllers::slow_start::BURST_PODS_MAX;
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::Arc;

/// So many pods that have ended are kept: the default of upstream's `--terminated-pod-gc-threshold`.
/// The oldest of those beyond go.
pub(super) const TERMINATED_PODS_MAX: usize = 12_500;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

const NODE_IS_GONE: Cause =
    Cause { reason: "DeletionByPodGC", message: "PodGC: node no longer exists" };

/// Pods to be looked through, with why.
#[derive(Clone, Debug)]
pub struct Observed {
    pub pods: Pods,
    pub attempt: Attempt,
}

/// See [`Observed`].
#[derive(Clone, Debug)]
pub enum Pods {
    /// Those of a node that is gone, according to the API server itself.
    OfGoneNode(Vec<Arc<Pod>>),
    /// Those of a node that a user has declared out of service.
    OfLostNode(Vec<Arc<Pod>>),
    /// One that has no node and is on its way out.
    Unscheduled(Arc<Pod>),
    /// All that have ended.
    Terminated(Vec<Arc<Pod>>),
}

/// Upstream `gcOrphaned`, `gcTerminating`, `gcUnscheduledTerminating` and `gcTerminated`
/// (pkg/controller/podgc/gc_controller.go, v1.35).
pub fn plan(observed: &Observed) -> Plan {
    let now = observed.attempt.now;
    let is_leaving = |pod: &&Arc<Pod>| pod.metadata.deletion_timestamp.is_some();
    let (pods, cause): (Vec<&Arc<Pod>>, Option<Cause>) = match &observed.pods {
        Pods::OfGoneNode(pods) => (pods.iter().collect(), Some(NODE_IS_GONE)),
        Pods::OfLostNode(pods) => (pods.iter().filter(is_leaving).collect(), None),
        Pods::Unscheduled(pod) => (vec![pod], None),
        Pods::Terminated(pods) => (surplus(pods), None),
    };
    let mut plan = Plan::default();
    plan.then(pods.iter().filter_map(|pod| mark_failed(pod, cause, now)));
    plan.then(pods.iter().map(|pod| delete_at_once(pod)).collect::<Vec<Write>>());
    plan
}

/// Evicted pods go first, then the oldest.
fn surplus(pods: &[Arc<Pod>]) -> Vec<&Arc<Pod>> {
    let count = pods.len().saturating_sub(TERMINATED_PODS_MAX).min(BURST_PODS_MAX);
    if count == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<&Arc<Pod>> = pods.iter().collect();
    ranked.sort_by_key(|pod| {
        let reason = pod.status.as_ref().and_then(|status| status.reason.as_deref());
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (reason != Some("Evicted"), created, pod.metadata.name.clone())
    });
    ranked.truncate(count);
    ranked
}

/// Whether a user has said that the node does not come back, and it does not say otherwise.
pub(super) fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !is_ready && taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(name: &str, phase: &str, more: &Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
            "status": {"phase": phase}});
        json_patch::merge(&mut pod, more);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[track_caller]
    fn check(pods: Pods, expected: &[&str]) {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let plan = plan(&Observed { pods, attempt: Attempt { now, failure: None } });
        let writes = plan.writes().map(|write| {
            let name = &write.key().unwrap().name;
            match write {
                Write::Delete { options, .. } => {
                    assert_eq!(options.grace_seconds, Some(0));
                    format!("delete {name}")
                }
                _ => {
                    let status = &write.body()["status"];
                    let reason = status["conditions"][0]["reason"].as_str().unwrap_or("-");
                    format!("{} {name} {reason}", status["phase"].as_str().unwrap())
                }
            }
        });
        assert_eq!(writes.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn pods_of_a_node_that_is_gone_have_failed_and_go() {
        let pods = vec![pod("a", "Running", &json!({})), pod("b", "Succeeded", &json!({}))];
        check(Pods::OfGoneNode(pods), &["Failed a DeletionByPodGC", "delete a", "delete b"]);
    }

    #[test]
    fn pods_on_their_way_out_need_not_wait_for_a_lost_node() {
        let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-20T11:00:00Z"}});
        let pods = vec![pod("a", "Running", &leaving), pod("b", "Running", &json!({}))];
        check(Pods::OfLostNode(pods), &["Failed a -", "delete a"]);
        check(Pods::Unscheduled(pod("c", "Pending", &leaving)), &["Failed c -", "delete c"]);
    }

    #[test]
    fn the_oldest_of_too_many_go() {
        let ended = |number: usize, more: Value| pod(&format!("{number:05}"), "Failed", &more);
        let mut pods: Vec<_> =
            (0..TERMINATED_PODS_MAX).map(|number| ended(number, json!({}))).collect();
        check(Pods::Terminated(pods.clone()), &[]);
        let created = json!({"metadata": {"creationTimestamp": "2026-11-20T11:00:00Z"}});
        let mut evicted = created.clone();
        evicted["status"] = json!({"reason": "Evicted"});
        pods.push(ended(90_000, created));
        pods.push(ended(90_001, evicted));
        check(Pods::Terminated(pods), &["delete 90001", "delete 00000"]);
    }

    #[test]
    fn a_node_is_lost_when_a_user_says_so() {
        let node = |ready: &str, taint: &str| -> Node {
            serde_json::from_value(json!({"metadata": {},
                "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        assert!(is_out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("False", "other")));
    }
}
