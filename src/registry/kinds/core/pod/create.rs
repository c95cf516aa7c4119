//! What a new Pod is completed with from its own metadata.
//!
//! Follows upstream `mutatePodAffinity` and `mutateTopologySpreadConstraints`
//! (pkg/registry/core/pod/strategy.go, v1.35).

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// Turns the keys whose values are the pod's own into requirements of the selectors beside them.
pub(super) fn resolve_label_keys(spec: &mut PodSpec, labels: &Labels) {
    for term in spec.affinity.iter_mut().flat_map(terms) {
        if let Some(selector) = &mut term.label_selector {
            require(selector, term.match_label_keys.as_deref(), "In", labels);
            require(selector, term.mismatch_label_keys.as_deref(), "NotIn", labels);
        }
    }
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        if let Some(selector) = &mut constraint.label_selector {
            require(selector, constraint.match_label_keys.as_deref(), "In", labels);
        }
    }
}

fn terms(affinity: &mut Affinity) -> Vec<&mut PodAffinityTerm> {
    let mut terms: Vec<&mut PodAffinityTerm> = Vec::new();
    if let Some(pods) = &mut affinity.pod_affinity {
        terms.extend(pods.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let wishes = pods.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(wishes.flatten().map(|wish| &mut wish.pod_affinity_term));
    }
    if let Some(pods) = &mut affinity.pod_anti_affinity {
        terms.extend(pods.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let wishes = pods.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(wishes.flatten().map(|wish| &mut wish.pod_affinity_term));
    }
    terms
}

fn require(selector: &mut LabelSelector, keys: Option<&[String]>, operator: &str, labels: &Labels) {
    for (key, value) in keys.unwrap_or_default().iter().filter_map(|key| labels.get_key_value(key))
    {
        selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::json;

    #[test]
    fn keys_become_requirements_with_the_pods_own_values() {
        let case = Case::of(
            "pods",
            json!({
                "metadata": {"name": "a", "namespace": "b", "labels": {"hash": "1", "app": "web"}},
                "spec": {
                    "containers": [{"name": "c", "image": "i"}],
                    "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                        "topologyKey": "zone", "labelSelector": {},
                        "matchLabelKeys": ["hash", "none"], "mismatchLabelKeys": ["app"],
                    }]}},
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {}, "matchLabelKeys": ["hash"],
                    }],
                },
            }),
        );
        let spec = case.created().to_value()["spec"].clone();
        let term = "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector";
        let hash = json!({"key": "hash", "operator": "In", "values": ["1"]});
        let app = json!({"key": "app", "operator": "NotIn", "values": ["web"]});
        assert_eq!(spec.pointer(term), Some(&json!({"matchExpressions": [hash, app]})));
        assert_eq!(
            spec.pointer("/topologySpreadConstraints/0/labelSelector"),
            Some(&json!({"matchExpressions": [hash]}))
        );
    }
}
