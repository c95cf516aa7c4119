//! PodDisruptionBudgets: how many pods of an application may be away at once.
//!
//! Follows upstream pkg/registry/policy/poddisruptionbudget and `ValidatePodDisruptionBudget`
//! (pkg/apis/policy/validation, v1.35).

use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{conditions, label_selector, not_negative, one_of, to_value};
use crate::registry::kinds::apps::{validate_share, validate_whole};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::borrow::Cow;

const EVICTION_POLICIES: &[&str] = &["AlwaysAllow", "IfHealthyBudget"];

impl Resource for PodDisruptionBudget {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "poddisruptionbudget",
        short_names: &[Cow::Borrowed("pdb")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::POD_DISRUPTION_BUDGET;
    const HALVES: Halves<Self> = halves!();
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Min Available", "Pods that must be there at any time."),
        Column::text("Max Unavailable", "Pods that may be away at any time."),
        Column::integer("Allowed Disruptions", "Pods that may be evicted now."),
        Column::AGE,
    ];
    const UPDATES_UNCONDITIONALLY: bool = false;

    fn apply_defaults(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = Vec::new();
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&path, to_value(&spec), detail));
        }
        for (field, share) in
            [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)]
        {
            let path = path.child(field);
            errors.extend(share.iter().flat_map(|share| validate_share(share, &path)));
            errors.extend(share.iter().filter_map(|share| validate_whole(share, &path)));
        }
        if let Some(selector) = &spec.selector {
            errors.extend(label_selector(selector, &path.child("selector")));
        }
        if let Some(policy) = spec.unhealthy_pod_eviction_policy.as_deref() {
            let path = path.child("unhealthyPodEvictionPolicy");
            errors.extend(one_of(&path, policy, EVICTION_POLICIES));
        }
        errors
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let status = self.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let of_conditions = status.conditions.as_deref().unwrap_or_default();
        let mut errors = conditions(of_conditions, &path.child("conditions"));
        for (field, count) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            errors.extend(not_negative(&path.child(field), Some(count)));
        }
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let allowed = self.status.as_ref().map_or(0, |status| status.disruptions_allowed);
        let shown = |share: Option<IntOrString>| match share {
            None => Value::from("N/A"),
            Some(IntOrString::Int(number)) => Value::from(number.to_string()),
            Some(IntOrString::String(text)) => Value::from(text),
        };
        vec![
            cells::name(&self.metadata),
            shown(spec.min_available),
            shown(spec.max_unavailable),
            allowed.into(),
            cells::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::{Value, json};

    fn budget(spec: Value) -> Case {
        let metadata = json!({"name": "web", "namespace": "default"});
        Case::of("poddisruptionbudgets", json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn one_bound_and_no_more() {
        check(&budget(json!({})), &[]);
        check(&budget(json!({"minAvailable": "100%", "selector": {}})), &[]);
        check(
            &budget(json!({"minAvailable": -1, "maxUnavailable": "101%"})),
            &[
                "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":-1}: minAvailable and maxUnavailable cannot be both set",
                "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ],
        );
        check(
            &budget(json!({"maxUnavailable": "x", "unhealthyPodEvictionPolicy": "Never",
                "selector": {"matchLabels": {"a": "-"}}})),
            &[
                "spec.maxUnavailable: Invalid value: \"x\": a valid percent string must be",
                "spec.selector.matchLabels: Invalid value: \"-\": a valid label must be",
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ],
        );
    }

    #[test]
    fn conditions_are_whole() {
        let status = json!({
            "currentHealthy": -1, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            "conditions": [
                {"type": "A", "status": "True", "reason": "Ok", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "A", "status": "Yes", "reason": "", "message": "", "observedGeneration": -1,
                    "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "B", "status": "True", "reason": "9", "message": "",
                    "lastTransitionTime": "0001-01-01T00:00:00Z"},
            ],
        });
        let old = budget(json!({}));
        check_status_update(
            &old,
            &old.with(json!({"status": status})),
            &[
                "status.conditions[1].type: Duplicate value: \"A\"",
                "status.conditions[1].status: Unsupported value: \"Yes\"",
                "status.conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
                "status.conditions[1].reason: Required value",
                "status.conditions[2].lastTransitionTime: Required value",
                "status.conditions[2].reason: Invalid value: \"9\": a condition reason must start with alphabetic character",
                "status.currentHealthy: Invalid value: -1",
            ],
        );
    }
}
