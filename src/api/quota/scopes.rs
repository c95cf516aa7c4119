//! Which objects a quota is about (upstream `podMatchesScopeFunc` and `pvcMatchesScopeFunc`,
//! pkg/quota/v1/evaluator/core, v1.35).

use super::Subject;
use crate::api::pod::{QosClass, qos_class};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodAffinityTerm, PodSpec, ResourceQuota,
};

/// One scope of a quota.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    name: &'a str,
    operator: &'a str,
    values: &'a [String],
}

/// The scopes of a quota, however they are written.
pub(super) fn of(quota: &ResourceQuota) -> impl Iterator<Item = Scope<'_>> {
    let spec = quota.spec.as_ref();
    let plain = spec.and_then(|spec| spec.scopes.as_deref()).unwrap_or_default();
    let plain = plain.iter().map(|name| Scope { name, operator: "Exists", values: &[] });
    let selector = spec.and_then(|spec| spec.scope_selector.as_ref());
    let selected = selector.and_then(|selector| selector.match_expressions.as_deref());
    plain.chain(selected.unwrap_or_default().iter().map(|requirement| Scope {
        name: &requirement.scope_name,
        operator: &requirement.operator,
        values: requirement.values.as_deref().unwrap_or_default(),
    }))
}

impl Scope<'_> {
    pub(super) fn has(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Pod(pod) => self.has_pod(pod),
            Subject::Claim(claim) if self.name == "VolumeAttributesClass" => {
                self.has_named(&attributes_classes(claim))
            }
            Subject::Claim(_) | Subject::Devices(_) | Subject::Service(_) | Subject::Other(_) => {
                false
            }
        }
    }

    fn has_pod(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let is_terminating = spec.active_deadline_seconds.is_some_and(|seconds| seconds >= 0);
        let is_best_effort = || qos_class(spec) == QosClass::BestEffort;
        match self.name {
            "Terminating" => is_terminating,
            "NotTerminating" => !is_terminating,
            "BestEffort" => is_best_effort(),
            "NotBestEffort" => !is_best_effort(),
            "PriorityClass" => {
                let class = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
                self.has_named(&class.into_iter().collect::<Vec<_>>())
            }
            "CrossNamespacePodAffinity" => looks_into_other_namespaces(spec),
            _ => false,
        }
    }

    /// Whether the class or one of the classes of an object is one of those that are meant.
    fn has_named(&self, classes: &[&str]) -> bool {
        let is_one = classes.iter().any(|class| self.values.iter().any(|value| value == class));
        match self.operator {
            "In" => is_one,
            "NotIn" => classes.is_empty() || classes.iter().any(|class| !self.lists(class)),
            "Exists" => !classes.is_empty(),
            "DoesNotExist" => classes.is_empty(),
            _ => false,
        }
    }

    fn lists(&self, class: &str) -> bool {
        self.values.iter().any(|value| value == class)
    }
}

/// The class that the claim has, wants, or is being given.
fn attributes_classes(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|it| it.volume_attributes_class_name.as_deref());
    let current = status.and_then(|it| it.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|it| {
        it.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref()
    });
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

fn looks_into_other_namespaces(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else { return false };
    let near = affinity.pod_affinity.as_ref().map(|it| {
        (
            &it.required_during_scheduling_ignored_during_execution,
            &it.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let far = affinity.pod_anti_affinity.as_ref().map(|it| {
        (
            &it.required_during_scheduling_ignored_during_execution,
            &it.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let looks = |term: &PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
            || term.namespace_selector.is_some()
    };
    near.into_iter().chain(far).any(|(required, preferred)| {
        required.iter().flatten().any(looks)
            || preferred.iter().flatten().any(|term| looks(&term.pod_affinity_term))
    })
}

#[cfg(test)]
mod tests {
    use super::super::is_in_scope;
    use super::*;
    use serde_json::{Value, json};

    fn check(quota: &Value, spec: &Value, expected: bool) {
        let mut pod = json!({"metadata": {}, "spec": {"containers": []}});
        json_patch::merge(&mut pod["spec"], spec);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let quota_object = serde_json::from_value(json!({"metadata": {}, "spec": quota})).unwrap();
        assert_eq!(is_in_scope(&quota_object, Subject::Pod(&pod)), expected, "{quota} {spec}");
    }

    #[test]
    fn scopes_of_pods() {
        let plain = |scope: &str| json!({"scopes": [scope]});
        let deadline = json!({"activeDeadlineSeconds": 5});
        check(&json!({}), &deadline, true);
        check(&plain("Terminating"), &deadline, true);
        check(&plain("NotTerminating"), &deadline, false);
        check(&plain("BestEffort"), &json!({}), true);
        check(&plain("NotBestEffort"), &json!({}), false);
        check(&plain("PriorityClass"), &json!({}), false);
        check(&plain("PriorityClass"), &json!({"priorityClassName": "high"}), true);
        let term = json!([{"topologyKey": "k", "namespaces": ["other"]}]);
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let affinity = json!({"affinity": {"podAntiAffinity": {required: term}}});
        check(&plain("CrossNamespacePodAffinity"), &affinity, true);
        check(&plain("CrossNamespacePodAffinity"), &json!({}), false);
        check(&json!({"scopes": ["BestEffort", "Terminating"]}), &json!({}), false);
    }

    #[test]
    fn selectors_choose_by_class() {
        let selector = |operator: &str, values: &[&str]| {
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
        };
        let high = json!({"priorityClassName": "high"});
        check(&selector("In", &["high", "top"]), &high, true);
        check(&selector("In", &["low"]), &high, false);
        check(&selector("In", &["low"]), &json!({}), false);
        check(&selector("NotIn", &["low"]), &high, true);
        check(&selector("NotIn", &["high"]), &high, false);
        check(&selector("NotIn", &["high"]), &json!({}), true);
        check(&selector("DoesNotExist", &[]), &json!({}), true);
    }

    #[test]
    fn objects_without_scopes_are_in_none() {
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {}, "spec": {"scopes": ["BestEffort"]}}))
                .unwrap();
        assert!(!is_in_scope(&quota, Subject::Service(&Default::default())));
        assert!(is_in_scope(&ResourceQuota::default(), Subject::Service(&Default::default())));
    }
}
