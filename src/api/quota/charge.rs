//! Whether the quotas of a namespace have room for an object, and what they have used with it
//! (upstream `CheckRequest`, apiserver pkg/admission/plugin/resourcequota, v1.35).

use super::{Subject, is_in_scope, matches, pods, usage};
use crate::api::Quantity;
use crate::api::pod::{Amounts, amounts};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;

/// What a quota has used once the object is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Which of the quotas that were asked.
    pub quota: usize,
    /// All that is used, of what the object does not use as well.
    pub used: Amounts,
}

/// Why an object may not be stored, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("failed quota: {quota}: {why}")]
    Unsaid { quota: String, why: String },
    /// Nobody has counted yet what there is.
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    Uncounted { quota: String, resources: String },
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded { quota: String, requested: String, used: String, limited: String },
}

/// Charges every quota that is about the object. `old` is what it takes the place of: then only what
/// is used beyond that is charged, and what is used less is found out by the quota controller.
///
/// # Errors
/// Where a quota has no room, or does not know whether it has.
pub fn charge(
    quotas: &[&ResourceQuota],
    subject: Subject<'_>,
    old: Option<Subject<'_>>,
    now: Timestamp,
) -> Result<Vec<Charge>, Refusal> {
    let concerned: Vec<(usize, &ResourceQuota)> =
        quotas.iter().copied().enumerate().filter(|(_, quota)| matches(quota, subject)).collect();
    if concerned.is_empty() {
        return Ok(Vec::new());
    }
    for (_, quota) in &concerned {
        check_known(quota, subject)?;
    }
    let (uses, used_before) = (usage(subject, now), old.map(|old| usage(old, now)));
    let mut charges = Vec::new();
    for (index, quota) in concerned {
        let before = old.filter(|old| matches(quota, *old)).and(used_before.as_ref());
        let more = beyond(&uses, before);
        if let Some(used) = add(quota, &more)? {
            charges.push(Charge { quota: index, used });
        }
    }
    Ok(charges)
}

/// Which of the quotas will be about the object as soon as they are counted. It is stored without
/// asking them, as upstream does; whoever counts meanwhile must not miss it.
pub fn uncounted(quotas: &[&ResourceQuota], subject: Subject<'_>) -> Vec<usize> {
    let waits = |quota: &ResourceQuota| {
        let wanted = amounts(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()));
        let told = hard(quota);
        let mut measured = wanted.keys().filter(|name| subject.counted().is_measured_by(name));
        measured.any(|name| !told.contains_key(name)) && is_in_scope(quota, subject)
    };
    let waiting = quotas.iter().enumerate().filter(|(_, quota)| waits(quota));
    waiting.map(|(index, _)| index).collect()
}

fn name(quota: &ResourceQuota) -> String {
    quota.metadata.name.clone().unwrap_or_default()
}

fn hard(quota: &ResourceQuota) -> Amounts {
    amounts(quota.status.as_ref().and_then(|status| status.hard.as_ref()))
}

fn used(quota: &ResourceQuota) -> Amounts {
    amounts(quota.status.as_ref().and_then(|status| status.used.as_ref()))
}

fn check_known(quota: &ResourceQuota, subject: Subject<'_>) -> Result<(), Refusal> {
    let (hard, used) = (hard(quota), used(quota));
    let measured = || hard.keys().filter(|name| subject.counted().is_measured_by(name));
    if let Subject::Pod(pod) = subject
        && let Some(spec) = &pod.spec
    {
        pods::check_said(spec, measured().map(String::as_str))
            .map_err(|why| Refusal::Unsaid { quota: name(quota), why })?;
    }
    if measured().all(|name| used.contains_key(name)) {
        return Ok(());
    }
    let resources = measured().map(String::as_str).collect::<Vec<_>>().join(",");
    Err(Refusal::Uncounted { quota: name(quota), resources })
}

/// What is used more than before, and nothing else.
fn beyond(uses: &Amounts, before: Option<&Amounts>) -> Amounts {
    let more = uses.iter().map(|(name, amount)| {
        let before = before.and_then(|before| before.get(name)).copied().unwrap_or_default();
        (name.clone(), *amount - before)
    });
    more.filter(|(_, amount)| !amount.is_zero() && !amount.is_negative()).collect()
}

/// What the quota has used with `more`; `None` where nothing of it is measured.
fn add(quota: &ResourceQuota, more: &Amounts) -> Result<Option<Amounts>, Refusal> {
    let (hard, mut used) = (hard(quota), used(quota));
    let requested: Amounts = more
        .iter()
        .filter(|(name, _)| hard.contains_key(*name))
        .map(|(name, amount)| (name.clone(), *amount))
        .collect();
    if requested.is_empty() {
        return Ok(None);
    }
    let before = used.clone();
    for (name, amount) in &requested {
        *used.entry(name.clone()).or_default() += *amount;
    }
    let exceeded: Vec<&String> =
        requested.keys().filter(|name| used.get(*name) > hard.get(*name)).collect();
    if exceeded.is_empty() {
        return Ok(Some(used));
    }
    let show = |amounts: &Amounts| {
        let shown = exceeded.iter().map(|name| {
            let amount = amounts.get(*name).copied().unwrap_or(Quantity::ZERO);
            format!("{name}={amount}")
        });
        shown.collect::<Vec<_>>().join(",")
    };
    Err(Refusal::Exceeded {
        quota: name(quota),
        requested: show(&requested),
        used: show(&before),
        limited: show(&hard),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::quota::Counted;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    fn quota(hard: Value, used: Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"},
            "status": {"hard": hard, "used": used}}))
        .unwrap()
    }

    fn pod(cpu: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers":
            [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}))
        .unwrap()
    }

    #[track_caller]
    fn check(quota: &ResourceQuota, new: Subject<'_>, old: Option<Subject<'_>>, expected: &str) {
        let charged = charge(&[quota], new, old, Timestamp::UNIX_EPOCH);
        let shown = match charged {
            Ok(charges) => charges
                .iter()
                .flat_map(|charge| &charge.used)
                .map(|(name, amount)| format!("{name}={amount}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_used_adds_up_to_the_limit() {
        let pod = pod("500m");
        let pod = Subject::Pod(&pod);
        let hard = json!({"pods": "2", "requests.cpu": "1", "secrets": "5"});
        let used =
            |pods: &str, cpu: &str| json!({"pods": pods, "requests.cpu": cpu, "secrets": "1"});
        check(
            &quota(hard.clone(), used("1", "500m")),
            pod,
            None,
            "pods=2 requests.cpu=1 secrets=1",
        );
        check(
            &quota(hard.clone(), used("1", "600m")),
            pod,
            None,
            "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: \
             requests.cpu=1",
        );
        check(
            &quota(hard, used("2", "900m")),
            pod,
            None,
            "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=900m, \
             limited: pods=2,requests.cpu=1",
        );
    }

    #[test]
    fn what_does_not_concern_a_quota_is_free() {
        let deployment = Subject::Other(Counted { group: "apps", plural: "deployments" });
        check(&quota(json!({"pods": "0"}), json!({"pods": "0"})), deployment, None, "");
        let hard = json!({"count/deployments.apps": "0"});
        check(
            &quota(hard, json!({"count/deployments.apps": "0"})),
            deployment,
            None,
            "exceeded quota: q, requested: count/deployments.apps=1, used: \
             count/deployments.apps=0, limited: count/deployments.apps=0",
        );
    }

    #[test]
    fn a_quota_that_nobody_has_counted_refuses() {
        check(
            &quota(json!({"pods": "2", "cpu": "1"}), json!({})),
            Subject::Pod(&pod("1")),
            None,
            "status unknown for quota: q, resources: cpu,pods",
        );
        check(
            &quota(json!({"limits.cpu": "2"}), json!({"limits.cpu": "0"})),
            Subject::Pod(&pod("1")),
            None,
            "failed quota: q: must specify limits.cpu for: c",
        );
    }

    #[test]
    fn quotas_that_are_yet_to_be_counted_are_known() {
        let check = |spec: Value, told: Value, expected: &[usize]| {
            let quota = json!({"spec": spec, "status": {"hard": told}});
            let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
            assert_eq!(uncounted(&[&quota], Subject::Pod(&pod("1"))), expected, "{quota:?}");
        };
        check(json!({"hard": {"pods": "2"}}), json!({}), &[0]);
        check(json!({"hard": {"pods": "2", "cpu": "1"}}), json!({"pods": "2"}), &[0]);
        check(json!({"hard": {"pods": "2"}}), json!({"pods": "1"}), &[]);
        check(json!({"hard": {"secrets": "2"}}), json!({}), &[]);
        check(json!({"hard": {"pods": "2"}, "scopes": ["BestEffort"]}), json!({}), &[]);
    }

    #[test]
    fn an_update_is_charged_for_what_is_more() {
        let (small, large) = (pod("1"), pod("3"));
        let (small, large) = (Subject::Pod(&small), Subject::Pod(&large));
        let full = quota(json!({"pods": "1", "cpu": "4"}), json!({"pods": "1", "cpu": "1"}));
        check(&full, large, Some(small), "cpu=3 pods=1");
        check(&full, small, Some(large), "");
        let fuller = quota(json!({"pods": "1", "cpu": "2"}), json!({"pods": "1", "cpu": "1"}));
        check(
            &fuller,
            large,
            Some(small),
            "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2",
        );
    }
}
