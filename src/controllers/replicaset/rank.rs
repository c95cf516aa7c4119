//! Which pods a ReplicaSet can do without most easily.

use crate::api::pod::{is_bound, is_ready, is_sidecar, node_name, phase};
use crate::controllers::availability::ready_since;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

/// Users' own order: upstream's pod-deletion-cost (core/v1 `PodDeletionCost`).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts so that those to delete come first: upstream `ActivePodsWithRanks`
/// (pkg/controller/controller_utils.go, v1.35). `on_node` is how many active pods of this set and
/// its sibling sets are on each node: one of two pods on a node goes before one that is alone.
pub(super) fn sort_by_deletion(
    pods: &mut [&Pod],
    on_node: &BTreeMap<String, usize>,
    now: Timestamp,
) {
    let rank =
        |pod: &Pod| node_name(pod).and_then(|node| on_node.get(node)).copied().unwrap_or_default();
    pods.sort_by(|a, b| compare(a, b, now, rank));
}

fn compare(a: &Pod, b: &Pod, now: Timestamp, rank: impl Fn(&Pod) -> usize) -> Ordering {
    let early = |pod: &Pod| {
        (is_bound(pod), phase_order(pod), is_ready(pod), deletion_cost(pod), Reverse(rank(pod)))
    };
    let since = |pod: &Pod| (is_ready(pod)).then(|| ready_since(pod));
    early(a)
        .cmp(&early(b))
        .then_with(|| younger_first(since(a).flatten(), since(b).flatten(), (a, b), now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| younger_first(created(a), created(b), (a, b), now))
        // So that the choice does not depend on the order in a cache.
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn phase_order(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        // Upstream's map has no entry for others, which makes them equal to `Pending`.
        _ => 0,
    }
}

/// Zero where it is absent or not a number, as upstream's `GetDeletionCostFromPodAnnotations`: a
/// leading plus sign and superfluous zeros do not make a number.
fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(DELETION_COST)) else { return 0 };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'));
    if is_plain { text.parse().unwrap_or_default() } else { 0 }
}

/// No time at all comes first. Other times are compared by the power of two of their age, so that
/// scaling down does not always hit the newest: equals are in the random order of their uids.
fn younger_first(
    a: Option<Timestamp>,
    b: Option<Timestamp>,
    pods: (&Pod, &Pod),
    now: Timestamp,
) -> Ordering {
    match (a, b) {
        (a, b) if a == b => Ordering::Equal,
        (Some(a), Some(b)) => {
            let by_uid = || pods.0.metadata.uid.cmp(&pods.1.metadata.uid);
            age_power(a, now).cmp(&age_power(b, now)).then_with(by_uid)
        }
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// The binary logarithm of the age in nanoseconds; below all of them for what is not in the past.
fn age_power(time: Timestamp, now: Timestamp) -> Option<u32> {
    u128::try_from(now.duration_since(time).as_nanos()).ok()?.checked_ilog2()
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// The most restarts of a container, then those of a sidecar.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let sidecars: BTreeSet<&str> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let containers = status.container_statuses.iter().flatten();
    let inits = status.init_container_statuses.iter().flatten();
    let sidecars = inits.filter(|container| sidecars.contains(container.name.as_str()));
    (
        containers.map(|container| container.restart_count).max().unwrap_or_default(),
        sidecars.map(|container| container.restart_count).max().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn pod(uid: &str, spec: Value, status: Value, metadata: Value) -> Pod {
        let mut value = json!({"metadata": metadata, "spec": spec, "status": status});
        value["metadata"]["uid"] = json!(uid);
        value["spec"]["containers"] = json!([]);
        serde_json::from_value(value).unwrap()
    }

    fn ready(since: &str) -> Value {
        json!({"phase": "Running", "conditions":
            [{"type": "Ready", "status": "True", "lastTransitionTime": since}]})
    }

    /// The pod called `first` goes before the one called `second`, whatever their uids.
    #[track_caller]
    fn check(first: (Value, Value, Value), second: (Value, Value, Value)) {
        let on_node = BTreeMap::from([("crowded".to_owned(), 2), ("n".to_owned(), 1)]);
        for (uid_of_first, uid_of_second) in [("a", "b"), ("b", "a")] {
            let first = pod(uid_of_first, first.0.clone(), first.1.clone(), first.2.clone());
            let second = pod(uid_of_second, second.0.clone(), second.1.clone(), second.2.clone());
            let mut pods = [&second, &first];
            sort_by_deletion(&mut pods, &on_node, NOW.parse().unwrap());
            assert_eq!(pods[0].metadata.uid, first.metadata.uid, "{first:#?} before {second:#?}");
        }
    }

    #[test]
    fn pods_go_in_upstreams_order() {
        let (old, new) = ("2026-11-19T12:00:00Z", "2026-11-20T11:59:00Z");
        let on = |node: &str| json!({"nodeName": node});
        let none = || json!({});
        let cost = |cost: &str| json!({"annotations": {DELETION_COST: cost}});
        let restarted = |count: i32| {
            let mut status = ready(old);
            status["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "",
                "ready": true, "restartCount": count}]);
            status
        };
        // Not scheduled, although all else speaks for it.
        check((none(), ready(old), cost("9")), (on("n"), json!({"phase": "Pending"}), cost("-9")));
        check(
            (on("n"), json!({"phase": "Pending"}), none()),
            (on("n"), json!({"phase": "Unknown"}), none()),
        );
        check(
            (on("n"), json!({"phase": "Unknown"}), none()),
            (on("n"), json!({"phase": "Running"}), none()),
        );
        check((on("n"), json!({"phase": "Running"}), cost("9")), (on("n"), ready(new), none()));
        check((on("n"), ready(old), cost("-1")), (on("crowded"), ready(new), none()));
        check((on("n"), ready(old), none()), (on("n"), ready(new), cost("1")));
        check((on("n"), ready(old), cost("01")), (on("n"), ready(old), cost("1")));
        check((on("crowded"), ready(old), none()), (on("n"), ready(new), none()));
        check((on("n"), ready(new), none()), (on("n"), restarted(7), none()));
        check((on("n"), restarted(2), none()), (on("n"), restarted(1), none()));
        let created = |time: &str| json!({"creationTimestamp": time});
        check((on("n"), ready(old), created(new)), (on("n"), ready(old), created(old)));
        check((on("n"), ready(old), none()), (on("n"), ready(old), created(new)));
    }

    #[test]
    fn ages_are_compared_by_their_power_of_two() {
        let at =
            |uid: &str, since: &str| pod(uid, json!({"nodeName": "n"}), ready(since), json!({}));
        // 100 and 110 minutes are alike, so that the uid decides.
        let (older, younger) = (at("a", "2026-11-20T10:10:00Z"), at("b", "2026-11-20T10:20:00Z"));
        let mut pods = [&younger, &older];
        sort_by_deletion(&mut pods, &BTreeMap::new(), NOW.parse().unwrap());
        assert_eq!(pods[0].metadata.uid.as_deref(), Some("a"));
    }
}
