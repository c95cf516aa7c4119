//! Whether a pod may be evicted, and what that costs its budget. Pure.
//!
//! Follows upstream `EvictionREST` (pkg/registry/core/pod/storage/eviction.go, v1.35).

use crate::api::labels::Selector;
use crate::api::pod::{is_ready, phase};
use crate::api::status::{Cause, Reason, Status, Subject};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::BTreeMap;

/// More evicted pods than this, of which the controller has not heard yet, are too many for one
/// budget: upstream's `MaxDisruptedPodSize`.
const DISRUPTED_PODS_MAX: usize = 2_000;

/// A client comes back after this long when the controller has not looked at a budget yet.
const UNPROCESSED_RETRY_SECONDS: u32 = 10;

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
const TOO_MANY: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// What an eviction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    /// No budget is about the pod, or it has ended or is on its way out.
    Free,
    /// None, as long as the pod stays as it is: it does not run yet.
    WhileUnchanged,
    /// None, as long as the pod stays as it is: it is unhealthy, and this one of the budgets does
    /// not keep such pods.
    WhileUnhealthy(usize),
    /// One of the disruptions that this one of the budgets allows.
    Budget(usize),
}

pub(super) fn permission(pod: &Pod, budgets: &[PodDisruptionBudget]) -> Result<Permission, Status> {
    match phase(pod) {
        _ if pod.metadata.deletion_timestamp.is_some() => return Ok(Permission::Free),
        "Succeeded" | "Failed" => return Ok(Permission::Free),
        "Pending" => return Ok(Permission::WhileUnchanged),
        _ => {}
    }
    let no_labels = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&no_labels);
    let selects = |budget: &PodDisruptionBudget| {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        Selector::of_object(selector).is_ok_and(|selector| selector.matches(labels))
    };
    let mut selecting =
        budgets.iter().enumerate().filter(|(_, budget)| selects(budget)).map(|(number, _)| number);
    let Some(number) = selecting.next() else { return Ok(Permission::Free) };
    if selecting.next().is_some() {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction \
                       subresource does not support.";
        return Err(Status::new(Reason::Unknown, message));
    }
    let keeps = !is_ready(pod) && !keeps_unhealthy(&budgets[number]);
    Ok(if keeps { Permission::WhileUnhealthy(number) } else { Permission::Budget(number) })
}

/// Whether a pod that is not ready needs one of the disruptions as well.
fn keeps_unhealthy(budget: &PodDisruptionBudget) -> bool {
    let policy =
        budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let is_whole = budget.status.as_ref().is_some_and(|status| {
        status.current_healthy >= status.desired_healthy && status.desired_healthy > 0
    });
    policy != Some("AlwaysAllow") && !is_whole
}

/// The budget with one disruption less, which this pod is: upstream `checkAndDecrement`.
pub(super) fn spend(
    budget: &PodDisruptionBudget,
    pod: &str,
    now: Timestamp,
) -> Result<PodDisruptionBudget, Status> {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let mut status = budget.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or_default()
        < budget.metadata.generation.unwrap_or_default()
    {
        return Err(unprocessed(name));
    }
    let forbidden = |why: &str| {
        let subject = Subject { group: "policy", resource: "poddisruptionbudgets", name };
        Err(Status::forbidden(subject, why))
    };
    if status.disruptions_allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status.disrupted_pods.as_ref().is_some_and(|pods| pods.len() > DISRUPTED_PODS_MAX) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }
    if status.disruptions_allowed == 0 {
        return Err(refused(refusal(name, &status), None));
    }
    status.disruptions_allowed -= 1;
    if status.disruptions_allowed == 0 {
        exhaust(&mut status, now);
    }
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), Time(now));
    Ok(PodDisruptionBudget { status: Some(status), ..budget.clone() })
}

fn exhaust(status: &mut PodDisruptionBudgetStatus, now: Timestamp) {
    let observed_generation = status.observed_generation;
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != DISRUPTION_ALLOWED);
    conditions.push(Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: "False".to_owned(),
        reason: "InsufficientPods".to_owned(),
        message: String::new(),
        last_transition_time: Time(now),
        observed_generation,
    });
}

fn refusal(name: &str, status: &PodDisruptionBudgetStatus) -> String {
    let conditions = status.conditions.iter().flatten();
    let known = conditions
        .filter(|it| {
            it.type_ == DISRUPTION_ALLOWED && it.status == "False" && !it.message.is_empty()
        })
        .map(|it| (it.reason.as_str(), it.message.as_str()))
        .next();
    match known {
        Some(("SyncFailed", message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        ),
        _ if status.current_healthy <= status.desired_healthy => format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy, status.current_healthy
        ),
        Some((reason, message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// The controller has not looked at the budget since it was changed.
pub(super) fn unprocessed(name: &str) -> Status {
    let why = format!("The disruption budget {name} is still being processed by the server.");
    refused(why, Some(UNPROCESSED_RETRY_SECONDS))
}

fn refused(why: String, retry_after_seconds: Option<u32>) -> Status {
    let mut status = Status::new(Reason::TooManyRequests, TOO_MANY);
    let reason = "DisruptionBudget".to_owned();
    status.details.causes.push(Cause { reason, message: why, field: String::new() });
    status.details.retry_after_seconds = retry_after_seconds;
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(name: &str, spec: Value, status: Value) -> PodDisruptionBudget {
        let mut budget = json!({"metadata": {"name": name, "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3,
                "disruptionsAllowed": 1, "observedGeneration": 2}});
        json_patch::merge(&mut budget["spec"], &spec);
        json_patch::merge(&mut budget["status"], &status);
        serde_json::from_value(budget).unwrap()
    }

    #[track_caller]
    fn check(pod: Value, budgets: &[PodDisruptionBudget], expected: &str) {
        let mut whole = json!({"metadata": {"name": "p", "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        json_patch::merge(&mut whole, &pod);
        let pod = serde_json::from_value(whole).unwrap();
        let told = match permission(&pod, budgets) {
            Ok(permission) => format!("{permission:?}"),
            Err(status) => format!("{} {}", status.code, status.message),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn who_needs_a_budget() {
        let plain = || [budget("b", json!({}), json!({}))];
        let unready = json!({"status": {"conditions": []}});
        check(json!({}), &[], "Free");
        check(json!({"metadata": {"labels": {"app": "other"}}}), &plain(), "Free");
        check(json!({}), &plain(), "Budget(0)");
        check(json!({"status": {"phase": "Failed"}}), &plain(), "Free");
        check(json!({"status": {"phase": "Pending"}}), &plain(), "WhileUnchanged");
        let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-20T12:00:00Z"}});
        check(leaving, &plain(), "Free");
        check(unready.clone(), &plain(), "WhileUnhealthy(0)");
        let broken = json!({"currentHealthy": 1, "disruptionsAllowed": 0});
        check(unready.clone(), &[budget("b", json!({}), broken.clone())], "Budget(0)");
        let lenient = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        check(unready, &[budget("b", lenient, broken)], "WhileUnhealthy(0)");
        let two = [budget("a", json!({}), json!({})), budget("b", json!({}), json!({}))];
        check(
            json!({}),
            &two,
            "500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        );
    }

    #[track_caller]
    fn check_spend(status: Value, expected: &str) {
        let now = "2026-11-20T12:00:00Z".parse().unwrap();
        let told = match spend(&budget("b", json!({}), status), "p", now) {
            Ok(budget) => {
                let status = budget.status.unwrap();
                assert!(status.disrupted_pods.unwrap().contains_key("p"));
                format!("{} left", status.disruptions_allowed)
            }
            Err(status) => {
                let cause = status.details.causes.first().map(|cause| cause.message.clone());
                let retry = status.details.retry_after_seconds;
                format!("{} {retry:?} {}", status.code, cause.unwrap_or(status.message))
            }
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn a_budget_is_spent() {
        check_spend(json!({}), "0 left");
        check_spend(json!({"disruptionsAllowed": 3}), "2 left");
        check_spend(
            json!({"observedGeneration": 1}),
            "429 Some(10) The disruption budget b is still being processed by the server.",
        );
        check_spend(
            json!({"disruptionsAllowed": 0, "currentHealthy": 2}),
            "429 None The disruption budget b needs 2 healthy pods and has 2 currently",
        );
        let condition = |reason: &str| {
            json!({"disruptionsAllowed": 0, "conditions": [{"type": "DisruptionAllowed",
                "status": "False", "reason": reason, "message": "why",
                "lastTransitionTime": "2026-11-20T12:00:00Z"}]})
        };
        check_spend(
            condition("SyncFailed"),
            "429 None The disruption budget b does not allow evicting pods currently because it failed sync: why",
        );
        check_spend(
            condition("Other"),
            "429 None The disruption budget b does not allow evicting pods currently (Other): why",
        );
        check_spend(
            json!({"disruptionsAllowed": 0}),
            "429 None The disruption budget b does not allow evicting pods currently",
        );
        check_spend(
            json!({"disruptionsAllowed": -1}),
            "403 None poddisruptionbudgets.policy \"b\" is forbidden: pdb disruptions allowed is negative",
        );
    }
}
