//! Which nodes run a DaemonSet's pod: by name, labels and taints, with what its pods tolerate.
//!
//! Upstream: `NodeShouldRunDaemonPod` (pkg/controller/daemon/daemon_controller.go, v1.35).

use crate::api::node_selector::{NodeIdentity, forbids_scheduling, pod_may_use, tolerates};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, PodSpec, Taint, Toleration};

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// What every pod of a DaemonSet tolerates: it belongs to the node, however the node fares.
const TOLERATED: &[(&str, &str)] = &[
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];

/// And what one on the host's network tolerates.
const TOLERATED_WITHOUT_NETWORK: (&str, &str) =
    ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

/// Whether a node runs a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fit {
    /// It shall have one.
    pub(super) should_run: bool,
    /// One that is there may stay.
    pub(super) may_stay: bool,
}

impl Fit {
    pub(super) fn of(set: &DaemonSet, node: &Node) -> Self {
        let Some(pod) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else {
            return Self::default();
        };
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let only = pod.node_name.as_deref().filter(|only| !only.is_empty());
        let identity = NodeIdentity { name, labels: node.metadata.labels.as_ref() };
        if only.is_some_and(|only| only != name) || !pod_may_use(pod, identity) {
            return Self::default();
        }
        let tolerations = tolerations(pod);
        let repels = |taint: &&Taint| !tolerates(&tolerations, taint);
        let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        Self {
            should_run: !taints().any(|taint| forbids_scheduling(taint) && repels(&taint)),
            may_stay: !taints().any(|taint| taint.effect == NO_EXECUTE && repels(&taint)),
        }
    }
}

/// The template's tolerations with those of every pod of a DaemonSet: upstream
/// `AddOrUpdateDaemonPodTolerations`.
pub(super) fn tolerations(pod: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = pod.tolerations.clone().unwrap_or_default();
    let is_on_host = pod.host_network == Some(true);
    let more = is_on_host.then_some(&TOLERATED_WITHOUT_NETWORK);
    for (key, effect) in TOLERATED.iter().chain(more) {
        let toleration = Toleration {
            key: Some((*key).to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some((*effect).to_owned()),
            ..Toleration::default()
        };
        // One with a limit of time becomes one without.
        let same = tolerations.iter_mut().find(|known| {
            (&known.key, &known.operator, &known.effect)
                == (&toleration.key, &toleration.operator, &toleration.effect)
                && known.value.as_deref().unwrap_or_default().is_empty()
        });
        match same {
            Some(known) => *known = toleration,
            None => tolerations.push(toleration),
        }
    }
    tolerations
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(pod: &Value, node: &Value, expected: (bool, bool)) {
        let mut set = json!({"metadata": {}, "spec": {"selector": {},
            "template": {"spec": {"containers": []}}}});
        json_patch::merge(&mut set["spec"]["template"]["spec"], pod);
        let mut full = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd"}}});
        json_patch::merge(&mut full, node);
        let set: DaemonSet = serde_json::from_value(set).unwrap();
        let node: Node = serde_json::from_value(full).unwrap();
        let fit = Fit::of(&set, &node);
        assert_eq!((fit.should_run, fit.may_stay), expected, "{pod} on {node:?}");
    }

    #[test]
    fn nodes_are_chosen_by_name_labels_and_affinity() {
        let plain = json!({});
        check(&plain, &plain, (true, true));
        check(&json!({"nodeName": "n1"}), &plain, (true, true));
        check(&json!({"nodeName": "n2"}), &plain, (false, false));
        check(&json!({"nodeSelector": {"disk": "ssd"}}), &plain, (true, true));
        check(&json!({"nodeSelector": {"disk": "hdd"}}), &plain, (false, false));
        let named = |name: &str| {
            let term = json!({"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [name]}]});
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [term]}}}})
        };
        check(&named("n1"), &plain, (true, true));
        check(&named("n2"), &plain, (false, false));
        // That a node takes no other pods is no matter.
        check(&plain, &json!({"spec": {"unschedulable": true}}), (true, true));
    }

    #[test]
    fn taints_keep_pods_away_or_drive_them_out() {
        let tainted = |key: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "value": "v", "effect": effect}]}});
        let plain = json!({});
        check(&plain, &tainted("k", "PreferNoSchedule"), (true, true));
        check(&plain, &tainted("k", "NoSchedule"), (false, true));
        check(&plain, &tainted("k", "NoExecute"), (false, false));
        let tolerant = json!({"tolerations": [{"key": "k", "operator": "Exists"}]});
        check(&tolerant, &tainted("k", "NoExecute"), (true, true));
        for (key, effect) in TOLERATED {
            check(&plain, &tainted(key, effect), (true, true));
        }
        let (key, effect) = TOLERATED_WITHOUT_NETWORK;
        check(&plain, &tainted(key, effect), (false, true));
        check(&json!({"hostNetwork": true}), &tainted(key, effect), (true, true));
    }

    #[test]
    fn what_is_tolerated_is_so_for_ever() {
        let pod = json!({"containers": [], "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 7},
            {"key": "mine", "operator": "Exists"}]});
        let tolerations = tolerations(&serde_json::from_value(pod).unwrap());
        assert_eq!(tolerations.len(), TOLERATED.len() + 1);
        assert!(tolerations.iter().all(|toleration| toleration.toleration_seconds.is_none()));
    }
}
