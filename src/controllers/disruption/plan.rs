//! How many pods of a disruption budget may go now.
//!
//! Follows upstream `trySync` and `updatePdbStatus` (pkg/controller/disruption/disruption.go, v1.35).

use crate::api::labels::Selector;
use crate::api::pod::{condition, is_ready, is_terminal};
use crate::client::{Patch, ResourceType, key_of, object_reference};
use crate::control::{Attempt, Plan, Report, Write};
use crate::controllers::share::{Rounding, scaled};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A pod that was to be evicted and is still there after so long counts again: upstream's
/// `DeletionTimeout`.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// A pod that somebody meant to disrupt and that is still there after so long is not meant any
/// more: upstream's `stalePodDisruptionTimeout`.
const STALE_AFTER: SignedDuration = SignedDuration::from_secs(120);

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Everything a decision may depend on.
#[derive(Clone, Debug)]
pub enum Observed {
    Budget(Box<ObservedBudget>),
    /// A pod that somebody meant to disrupt.
    Target {
        pod: Arc<Pod>,
        attempt: Attempt,
    },
}

/// A budget and its pods.
#[derive(Clone, Debug)]
pub struct ObservedBudget {
    pub budget: Arc<PodDisruptionBudget>,
    /// The pods that its selector matches.
    pub pods: Vec<Arc<Pod>>,
    /// How many pods there are to be, all their owners together. Asked only where that matters.
    pub expected: Result<Expected, String>,
    pub attempt: Attempt,
}

/// What the owners of pods want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub pods: i32,
    /// Some pods have no owner that could say.
    pub has_unmanaged: bool,
}

pub fn plan(observed: &Observed) -> Plan {
    match observed {
        Observed::Budget(observed) => plan_budget(observed),
        Observed::Target { pod, attempt } => plan_target(pod, attempt.now),
    }
}

/// Whether it must be known how many pods there are to be.
pub(super) fn depends_on_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let is_share = |value: &IntOrString| matches!(value, IntOrString::String(_));
    spec.is_some_and(|spec| {
        spec.max_unavailable.is_some() || spec.min_available.as_ref().is_some_and(is_share)
    })
}

pub(super) fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::of_object(budget.spec.as_ref()?.selector.as_ref()).ok()
}

fn plan_budget(observed: &ObservedBudget) -> Plan {
    let budget = &*observed.budget;
    let mut plan = Plan { regarding: object_reference(budget), ..Plan::default() };
    if observed.pods.is_empty() {
        plan.reports.push(Report::normal("NoPods", "No matching pods found"));
    }
    let (status, recheck_after) = match &observed.expected {
        Ok(expected) => {
            plan.reports.extend(unmanaged_pods(budget, expected));
            status(observed, expected)
        }
        Err(problem) => {
            let message = format!("Failed to calculate the number of expected pods: {problem}");
            plan.reports.push(Report::warning("CalculateExpectedPodCountFailed", message));
            (failed_status(observed, problem), None)
        }
    };
    if budget.status.as_ref() != Some(&status) {
        let reported = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        plan.then([Write::update_status(&reported)]);
    }
    plan.recheck_after = recheck_after;
    plan
}

fn unmanaged_pods(budget: &PodDisruptionBudget, expected: &Expected) -> Option<Report> {
    expected.has_unmanaged.then(|| {
        let selector = selector(budget).map(|selector| selector.to_string()).unwrap_or_default();
        let message = format!(
            "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be \
             unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may \
             result in undefined behavior. To account for these pods please set \
             \".spec.minAvailable\" field of the PDB to an integer value."
        );
        Report::warning("UnmanagedPods", message)
    })
}

fn status(
    observed: &ObservedBudget,
    expected: &Expected,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let (budget, now) = (&*observed.budget, observed.attempt.now);
    let (disrupted, recheck_after) = disrupted_pods(observed);
    let is_healthy = |pod: &&Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        pod.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(name) && is_ready(pod)
    };
    let current_healthy = count(observed.pods.iter().filter(is_healthy).count());
    let (expected_pods, desired_healthy) = wanted(observed, expected);
    let spare = if expected_pods > 0 { (current_healthy - desired_healthy).max(0) } else { 0 };
    let known = budget.status.as_ref().and_then(|status| status.conditions.clone());
    let mut status = PodDisruptionBudgetStatus {
        current_healthy,
        desired_healthy,
        expected_pods,
        disruptions_allowed: spare,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: known,
    };
    let said = if spare > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, said, "", now);
    (status, recheck_after)
}

/// How many pods there are to be, and how many of them healthy: upstream `getExpectedPodCount`.
fn wanted(observed: &ObservedBudget, expected: &Expected) -> (i32, i32) {
    let spec = observed.budget.spec.as_ref();
    let (min, max) = spec
        .map(|spec| (spec.min_available.as_ref(), spec.max_unavailable.as_ref()))
        .unwrap_or_default();
    match (max, min) {
        (Some(max), _) => {
            let away = scaled(max, expected.pods, Rounding::Up);
            (expected.pods, expected.pods.saturating_sub(away).max(0))
        }
        (None, Some(IntOrString::Int(healthy))) => (count(observed.pods.len()), *healthy),
        (None, Some(share)) => (expected.pods, scaled(share, expected.pods, Rounding::Up)),
        (None, None) => (0, 0),
    }
}

/// The pods that were evicted and are not known to go yet, and when the first of them counts again.
fn disrupted_pods(observed: &ObservedBudget) -> (BTreeMap<String, Time>, Option<Duration>) {
    let known = observed.budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let (mut kept, mut first) = (BTreeMap::new(), None::<Duration>);
    let staying = observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    for name in staying.filter_map(|pod| pod.metadata.name.as_ref()) {
        let Some(evicted) = known.and_then(|known| known.get(name)) else { continue };
        let left = (evicted.0 + DELETION_TIMEOUT).duration_since(observed.attempt.now);
        if let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) {
            kept.insert(name.clone(), evicted.clone());
            first = Some(first.map_or(left, |first| first.min(left)));
        }
    }
    (kept, first)
}

/// Nothing may go while it is not known how many there are: upstream `failSafe`.
fn failed_status(observed: &ObservedBudget, problem: &str) -> PodDisruptionBudgetStatus {
    let mut status = observed.budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = 0;
    set_condition(&mut status, ("False", "SyncFailed"), problem, observed.attempt.now);
    status
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    (value, reason): (&str, &str),
    message: &str,
    now: Timestamp,
) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter_mut().find(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = known.as_ref().filter(|known| known.status == value);
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.map_or(Time(now), |known| known.last_transition_time.clone()),
        observed_generation,
    };
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// Upstream `syncStalePodDisruption`.
fn plan_target(pod: &Pod, now: Timestamp) -> Plan {
    let Some(since) = targeted_since(pod) else { return Plan::default() };
    let left = Duration::try_from((since + STALE_AFTER).duration_since(now));
    if let Some(left) = left.ok().filter(|left| !left.is_zero()) {
        return Plan { recheck_after: Some(left), ..Plan::default() };
    }
    let condition = json!({"type": DISRUPTION_TARGET, "status": "False", "reason": null,
        "message": null, "lastTransitionTime": Time(now)});
    Plan::of([Write::Patch {
        resource: ResourceType::of::<Pod>(),
        key: key_of(&pod.metadata),
        subresource: Some("status"),
        patch: Patch::Strategic(json!({
            "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": [condition]},
        })),
    }])
}

/// Since when somebody means to disrupt a pod that is still there.
pub(super) fn targeted_since(pod: &Pod) -> Option<Timestamp> {
    if pod.metadata.deletion_timestamp.is_some() || is_terminal(pod) {
        return None;
    }
    let target = condition(pod, DISRUPTION_TARGET).filter(|target| target.status == "True")?;
    let by_kubelet = target.reason.as_deref() == Some("TerminationByKubelet");
    target.last_transition_time.as_ref().filter(|_| !by_kubelet).map(|time| time.0)
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn attempt() -> Attempt {
        Attempt { now: "2026-11-20T12:00:00Z".parse().unwrap(), failure: None }
    }

    /// `name[ unready][ leaving]`
    fn pod(text: &str) -> Arc<Pod> {
        let name = text.split(' ').next().unwrap();
        let ready = if text.contains("unready") { "False" } else { "True" };
        let mut pod = json!({"metadata": {"name": name},
            "status": {"conditions": [{"type": "Ready", "status": ready}]}});
        if text.contains("leaving") {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z");
        }
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn observed(spec: Value, disrupted: Value, pods: &[&str], expected: i32) -> ObservedBudget {
        let budget = json!({"metadata": {"name": "b", "namespace": "n", "generation": 3},
            "spec": spec, "status": {"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
                "disruptionsAllowed": 0, "disruptedPods": disrupted}});
        ObservedBudget {
            budget: Arc::new(serde_json::from_value(budget).unwrap()),
            pods: pods.iter().map(|text| pod(text)).collect(),
            expected: Ok(Expected { pods: expected, has_unmanaged: false }),
            attempt: attempt(),
        }
    }

    /// Allowed disruptions, healthy pods of the desired, and the expected; then what follows.
    #[track_caller]
    fn check(observed: ObservedBudget, expected: &str) {
        let plan = plan(&Observed::Budget(Box::new(observed)));
        let body = plan.writes().next().expect("a status is written").body();
        let status = &body["status"];
        let mut text = format!(
            "{}: {}/{} of {} {}",
            status["disruptionsAllowed"],
            status["currentHealthy"],
            status["desiredHealthy"],
            status["expectedPods"],
            status["conditions"][0]["reason"].as_str().unwrap(),
        );
        if let Some(disrupted) = status["disruptedPods"].as_object().filter(|it| !it.is_empty()) {
            text +=
                &format!(" without {}", disrupted.keys().cloned().collect::<Vec<_>>().join(","));
        }
        for report in &plan.reports {
            text += &format!("; {}", report.reason);
        }
        if let Some(after) = plan.recheck_after {
            text += &format!("; again in {}", after.as_secs());
        }
        assert_eq!(text, expected);
    }

    #[test]
    fn pods_beyond_those_that_must_be_healthy_may_go() {
        let three = &["a", "b", "c"];
        let min = |value: Value| json!({"minAvailable": value});
        let max = |value: Value| json!({"maxUnavailable": value});
        check(observed(min(json!(2)), json!({}), three, 0), "1: 3/2 of 3 SufficientPods");
        check(observed(min(json!(3)), json!({}), three, 0), "0: 3/3 of 3 InsufficientPods");
        check(observed(min(json!("50%")), json!({}), three, 3), "1: 3/2 of 3 SufficientPods");
        check(observed(max(json!(1)), json!({}), three, 3), "1: 3/2 of 3 SufficientPods");
        check(observed(max(json!("30%")), json!({}), three, 10), "0: 3/7 of 10 InsufficientPods");
        check(observed(max(json!("30%")), json!({}), three, 3), "1: 3/2 of 3 SufficientPods");
        check(observed(max(json!(9)), json!({}), three, 3), "3: 3/0 of 3 SufficientPods");
        check(
            observed(min(json!(1)), json!({}), &["a unready", "b leaving", "c"], 0),
            "0: 1/1 of 3 InsufficientPods",
        );
        check(observed(min(json!(0)), json!({}), &[], 0), "0: 0/0 of 0 InsufficientPods; NoPods");
    }

    #[test]
    fn evicted_pods_count_again_when_they_stay() {
        let evicted = json!({"a": "2026-11-20T11:59:00Z", "b": "2026-11-20T11:58:00Z",
            "c": "2026-11-20T11:59:30Z", "gone": "2026-11-20T11:59:30Z"});
        check(
            observed(json!({"minAvailable": 1}), evicted, &["a", "b", "c leaving", "d"], 0),
            "1: 2/1 of 4 SufficientPods without a; again in 60",
        );
    }

    #[test]
    fn nothing_may_go_while_nobody_knows_how_many_there_are() {
        let mut unknown = observed(json!({"maxUnavailable": 1}), json!({}), &["a"], 0);
        unknown.expected = Err("jobs.batch does not implement the scale subresource".to_owned());
        check(unknown, "0: 0/0 of 0 SyncFailed; CalculateExpectedPodCountFailed");
        let mut unmanaged = observed(json!({"maxUnavailable": 1}), json!({}), &["a", "b"], 1);
        unmanaged.expected = Ok(Expected { pods: 1, has_unmanaged: true });
        check(unmanaged, "2: 2/0 of 1 SufficientPods; UnmanagedPods");
    }

    #[test]
    fn a_pod_that_stays_is_no_target_any_more() {
        let target = |since: &str| -> Arc<Pod> {
            let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions":
                [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": since}]}});
            serde_json::from_value(pod).unwrap()
        };
        let look = |pod: Arc<Pod>| plan(&Observed::Target { pod, attempt: attempt() });
        let plan = look(target("2026-11-20T11:59:00Z"));
        assert_eq!(plan.recheck_after.map(|after| after.as_secs()), Some(60));
        let plan = look(target("2026-11-20T11:58:00Z"));
        assert_eq!(
            plan.writes().next().unwrap().body()["status"]["conditions"][0]["status"],
            "False"
        );
    }
}
