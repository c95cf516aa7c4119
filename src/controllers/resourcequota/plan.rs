//! The decision what a quota's status is to say.

use crate::api::pod::{Amounts, amounts, is_terminal};
use crate::control::{Plan, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota, ResourceQuotaStatus};
use std::sync::Arc;
use std::time::Duration;

/// What could not be counted is counted again after this long.
const RETRY: Duration = Duration::from_secs(5);

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub quota: Arc<ResourceQuota>,
    /// Or why nothing could be counted.
    pub count: Result<Count, String>,
    pub now: Timestamp,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// What is used, also of what the quota does not limit.
    pub used: Amounts,
    /// When it will be something else although nothing has happened.
    pub changes_at: Option<Timestamp>,
}

/// The names that the quota limits.
pub(super) fn hard(quota: &ResourceQuota) -> impl Iterator<Item = &str> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    hard.into_iter().flatten().map(|(name, _)| name.as_str())
}

/// Whether the status is of the limits that the quota has now.
pub(super) fn is_current(quota: &ResourceQuota) -> bool {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let status = quota.status.as_ref();
    let told = status.and_then(|status| status.hard.as_ref());
    let used = amounts(status.and_then(|status| status.used.as_ref()));
    // Quotas without limits have an empty status.
    (hard.is_none_or(|hard| hard.is_empty()) || status.is_some_and(|it| it.used.is_some()))
        && amounts(told) == amounts(hard)
        && used.keys().eq(amounts(hard).keys())
}

/// Whether what pods use may be something else after this change.
pub(super) fn counts_anew(old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let asked = |spec: Option<&PodSpec>| {
        let each = |spec: &PodSpec| {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.map(|container| container.resources.clone()).collect::<Vec<_>>()
        };
        spec.map(|spec| (each(spec), spec.resources.clone(), spec.active_deadline_seconds))
    };
    is_terminal(old) != is_terminal(new)
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || asked(old.spec.as_ref()) != asked(new.spec.as_ref())
}

/// Upstream `syncResourceQuota`.
pub fn plan(observed: &Observed) -> Plan {
    let Ok(count) = &observed.count else {
        return Plan { recheck_after: Some(RETRY), ..Plan::default() };
    };
    let quota = &*observed.quota;
    let limits = quota.spec.as_ref().and_then(|spec| spec.hard.clone());
    let used: Amounts = hard(quota)
        .map(|name| (name.to_owned(), count.used.get(name).copied().unwrap_or_default()))
        .collect();
    let told = quota.status.as_ref().and_then(|status| status.used.as_ref());
    let mut plan = Plan::default();
    if !is_current(quota) || amounts(told) != used {
        let used = used.iter().map(|(name, amount)| (name.clone(), amount.to_field())).collect();
        let status = ResourceQuotaStatus { hard: limits, used: Some(used) };
        let counted = ResourceQuota { status: Some(status), ..quota.clone() };
        plan.then([Write::update_status(&counted)]);
    }
    plan.recheck_after = count.changes_at.map(|at| {
        let left = Duration::try_from(at.duration_since(observed.now)).unwrap_or_default();
        left + Duration::from_secs(1)
    });
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Quantity;
    use serde_json::{Value, json};

    fn observed(quota: Value, used: &[(&str, i64)]) -> Observed {
        let used = used.iter().map(|(name, it)| ((*name).to_owned(), Quantity::decimal(*it)));
        let count = Count { used: used.collect(), changes_at: None };
        let quota = Arc::new(serde_json::from_value(quota).unwrap());
        Observed { quota, count: Ok(count), now: Timestamp::UNIX_EPOCH }
    }

    fn quota(hard: &Value, status: &Value) -> Value {
        json!({"metadata": {"name": "q", "namespace": "a"}, "spec": {"hard": hard}, "status": status})
    }

    #[track_caller]
    fn check(quota: Value, used: &[(&str, i64)], expected: &Value) {
        let plan = plan(&observed(quota, used));
        let written = plan.writes().next().map(|write| write.body()["status"].clone());
        assert_eq!(written.unwrap_or_default(), *expected);
    }

    #[test]
    fn a_new_quota_is_counted() {
        let hard = json!({"pods": "3", "requests.cpu": "1"});
        check(
            quota(&hard, &json!({})),
            &[("pods", 2), ("secrets", 4)],
            &json!({"hard": hard, "used": {"pods": "2", "requests.cpu": "0"}}),
        );
        let status = json!({"hard": hard, "used": {"pods": "2", "requests.cpu": "0"}});
        check(quota(&hard, &status), &[("pods", 2)], &Value::Null);
        check(quota(&json!({}), &json!({})), &[("pods", 2)], &Value::Null);
    }

    #[test]
    fn what_is_used_less_is_written() {
        let hard = json!({"pods": "3"});
        let status = json!({"hard": hard, "used": {"pods": "3"}});
        let fewer = json!({"hard": hard, "used": {"pods": "1"}});
        check(quota(&hard, &status), &[("pods", 1)], &fewer);
    }

    #[test]
    fn changed_limits_are_told() {
        let status = json!({"hard": {"pods": "3"}, "used": {"pods": "3"}});
        let more = json!({"pods": "5", "secrets": "1"});
        let told = json!({"hard": more, "used": {"pods": "3", "secrets": "0"}});
        check(quota(&more, &status), &[("pods", 3)], &told);
        let fewer = json!({"secrets": "1"});
        let told = json!({"hard": fewer, "used": {"secrets": "0"}});
        check(quota(&fewer, &status), &[("pods", 3)], &told);
    }

    #[test]
    fn what_cannot_be_counted_changes_nothing() {
        let mut observed = observed(quota(&json!({"pods": "3"}), &json!({})), &[]);
        observed.count = Err("pods: away".to_owned());
        let plan = plan(&observed);
        assert_eq!((plan.writes().count(), plan.recheck_after), (0, Some(RETRY)));
    }
}
