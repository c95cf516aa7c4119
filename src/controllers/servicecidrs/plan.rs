//! The decision about a range of the addresses of Services (upstream pkg/controller/servicecidrs,
//! v1.35).

use crate::client::object_reference;
use crate::control::{Attempt, Plan, Write};
use ipnet::IpNet;
use jiff::SignedDuration;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Somebody may be giving an address of the range to a Service at this moment, who has not heard yet
/// that it goes.
const DELETION_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// After it could not be found out whether addresses of the range are used.
const UNSURE_RETRY: Duration = Duration::from_secs(1);

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub range: Arc<ServiceCIDR>,
    pub all: Vec<Arc<ServiceCIDR>>,
    /// The addresses that Services have, where the range is to go; `None` where nobody could be
    /// asked.
    pub addresses: Option<Vec<IpAddr>>,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let regarding = object_reference(&*observed.range);
    let plan = match &observed.range.metadata.deletion_timestamp {
        None => keep(observed),
        Some(deleted) => let_go(observed, deleted),
    };
    Plan { regarding, ..plan }
}

fn keep(observed: &Observed) -> Plan {
    let mut range = ServiceCIDR::clone(&observed.range);
    let finalizers = range.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|known| known == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        return Plan::of([Write::update(&range)]);
    }
    show(observed, "True", "", "Kubernetes Service CIDR is ready")
}

fn let_go(observed: &Observed, deleted: &Time) -> Plan {
    let mut range = ServiceCIDR::clone(&observed.range);
    let finalizers = range.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|known| known == FINALIZER) {
        return Plan::default();
    }
    let Some(addresses) = &observed.addresses else {
        return Plan { recheck_after: Some(UNSURE_RETRY), ..Plan::default() };
    };
    if !can_go(observed, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove \
                       them or create a new ServiceCIDR";
        return show(observed, "False", "Terminating", message);
    }
    let left = DELETION_GRACE - observed.attempt.now.duration_since(deleted.0);
    if let Ok(left) = Duration::try_from(left)
        && !left.is_zero()
    {
        return Plan { recheck_after: Some(left), ..Plan::default() };
    }
    finalizers.retain(|known| known != FINALIZER);
    Plan::of([Write::update(&range)])
}

/// Whether every address that a Service has of this range is in another one, too (upstream
/// `canDeleteCIDR`).
fn can_go(observed: &Observed, addresses: &[IpAddr]) -> bool {
    let own = cidrs(&observed.range);
    let others =
        observed.all.iter().filter(|range| range.metadata.name != observed.range.metadata.name);
    let others: Vec<IpNet> = others.flat_map(|range| cidrs(range)).collect();
    addresses.iter().all(|address| {
        !own.iter().any(|cidr| cidr.contains(address))
            || others.iter().any(|cidr| cidr.contains(address))
    })
}

pub(super) fn cidrs(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Says in the status how it is, where it does not yet.
fn show(observed: &Observed, status: &str, reason: &str, message: &str) -> Plan {
    let mut range = ServiceCIDR::clone(&observed.range);
    let conditions = range.status.get_or_insert_default().conditions.get_or_insert_default();
    let index = conditions.iter().position(|condition| condition.type_ == "Ready");
    let index = index.unwrap_or_else(|| {
        conditions.push(Condition {
            type_: "Ready".to_owned(),
            status: String::new(),
            reason: String::new(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(observed.attempt.now),
        });
        conditions.len() - 1
    });
    let condition = &mut conditions[index];
    if (&*condition.status, &*condition.reason, &*condition.message) == (status, reason, message) {
        return Plan::default();
    }
    if condition.status != status {
        condition.last_transition_time = Time(observed.attempt.now);
    }
    status.clone_into(&mut condition.status);
    reason.clone_into(&mut condition.reason);
    message.clone_into(&mut condition.message);
    Plan::of([Write::update_status(&range)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(name: &str, cidr: &str, more: Value) -> Arc<ServiceCIDR> {
        let mut range = json!({"metadata": {"name": name, "finalizers": [FINALIZER]},
            "spec": {"cidrs": [cidr]}});
        json_patch::merge(&mut range, &more);
        Arc::new(serde_json::from_value(range).unwrap())
    }

    #[track_caller]
    fn check(more: Value, others: &[&str], addresses: Option<&[&str]>, expected: &str) {
        let own = range("own", "10.96.0.0/16", more);
        let others = others.iter().map(|cidr| range("other", cidr, json!({})));
        let plan = plan(&Observed {
            all: others.chain([Arc::clone(&own)]).collect(),
            range: own,
            addresses: addresses.map(|all| all.iter().map(|it| it.parse().unwrap()).collect()),
            attempt: Attempt { now: "2026-11-20T12:00:00Z".parse().unwrap(), failure: None },
        });
        let written = plan.writes().next().map(|write| {
            let body = write.body();
            match &body["status"]["conditions"][0]["status"] {
                Value::Null => body["metadata"]["finalizers"].to_string(),
                status => status.as_str().unwrap().to_owned(),
            }
        });
        let later = plan.recheck_after.map(|after| format!("after {after:?}"));
        assert_eq!(written.or(later).unwrap_or_default(), expected);
    }

    fn deleted(second: u8) -> Value {
        json!({"metadata": {"deletionTimestamp": format!("2026-11-20T11:59:{second:0>2}Z")}})
    }

    #[test]
    fn a_range_is_ready_and_kept() {
        let kept = format!("[\"{FINALIZER}\"]");
        check(json!({"metadata": {"finalizers": null}}), &[], None, &kept);
        check(json!({}), &[], None, "True");
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True",
            "reason": "", "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": "2026-11-20T11:00:00Z"}]}});
        check(ready, &[], None, "");
    }

    #[test]
    fn a_range_goes_when_nobody_needs_it() {
        check(deleted(30), &[], Some(&[]), "[]");
        check(deleted(55), &[], Some(&[]), "after 5s");
        check(deleted(30), &[], None, "after 1s");
        check(deleted(30), &[], Some(&["10.96.0.1"]), "False");
        check(deleted(30), &[], Some(&["10.43.0.1"]), "[]");
        check(deleted(30), &["10.96.0.0/24"], Some(&["10.96.0.1"]), "[]");
        check(deleted(30), &["10.96.0.0/24"], Some(&["10.96.1.1"]), "False");
    }
}
