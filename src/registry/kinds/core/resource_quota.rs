//! ResourceQuotas: how much there may be in a namespace.
//!
//! Follows upstream pkg/registry/core/resourcequota and `ValidateResourceQuota`
//! (pkg/apis/core/validation, v1.35).

use super::{podspec, resources};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{ERRORS_OF_WHOLE_MAX, to_value};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, Halves, KindFacts, Resource, Subresource, cells, halves};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

type Amounts = BTreeMap<String, resource::Quantity>;

const TERMINATING: &str = "Terminating";
const NOT_TERMINATING: &str = "NotTerminating";
const BEST_EFFORT: &str = "BestEffort";
const NOT_BEST_EFFORT: &str = "NotBestEffort";
const PRIORITY_CLASS: &str = "PriorityClass";
const CROSS_NAMESPACE_AFFINITY: &str = "CrossNamespacePodAffinity";
const VOLUME_ATTRIBUTES_CLASS: &str = "VolumeAttributesClass";
const SCOPES: &[&str] = &[
    TERMINATING,
    NOT_TERMINATING,
    BEST_EFFORT,
    NOT_BEST_EFFORT,
    PRIORITY_CLASS,
    CROSS_NAMESPACE_AFFINITY,
    VOLUME_ATTRIBUTES_CLASS,
];
/// No object is in both of two such scopes.
const OPPOSITES: [[&str; 2]; 2] = [[BEST_EFFORT, NOT_BEST_EFFORT], [TERMINATING, NOT_TERMINATING]];

impl Resource for ResourceQuota {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "resourcequota",
        short_names: &[Cow::Borrowed("quota")],
        subresources: &[Subresource::STATUS],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::RESOURCE_QUOTA;
    const RETURNS_DELETED: bool = true;
    const HALVES: Halves<Self> = halves!();
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Request", "What is used of what may be requested, and of other amounts."),
        Column::text("Limit", "What is used of what limits may add up to."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        podspec::round_up(self.spec.get_or_insert_default().hard.as_mut());
        let status = self.status.get_or_insert_default();
        podspec::round_up(status.hard.as_mut());
        podspec::round_up(status.used.as_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        let spec = self.spec.clone().unwrap_or_default();
        let path = FieldPath::new("spec");
        let mut errors = validate_amounts(spec.hard.as_ref(), &path.child("hard"));
        errors.extend(validate_scopes(&spec, &path.child("scopes")));
        errors.extend(validate_selector(&spec, &path.child("scopeSelector")));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let scopes = |quota: &Self| -> BTreeSet<String> {
            let spec = quota.spec.as_ref();
            spec.and_then(|spec| spec.scopes.as_ref()).into_iter().flatten().cloned().collect()
        };
        if scopes(self) == scopes(old) {
            return Vec::new();
        }
        let path = FieldPath::new("spec").child("scopes");
        let value = to_value(&self.spec.as_ref().and_then(|spec| spec.scopes.as_ref()));
        vec![FieldError::invalid(&path, value, "field is immutable")]
    }

    fn validate_status_update(&self, _old: &Self) -> Vec<FieldError> {
        let status = self.status.clone().unwrap_or_default();
        let path = FieldPath::new("status");
        let mut errors = validate_amounts(status.hard.as_ref(), &path.child("hard"));
        errors.extend(validate_amounts(status.used.as_ref(), &path.child("used")));
        errors
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let used = status.used.unwrap_or_default();
        let (limits, others): (Vec<_>, Vec<_>) =
            status.hard.iter().flatten().partition(|(name, _)| name.starts_with("limits."));
        let listed = |amounts: Vec<(&String, &resource::Quantity)>| {
            let each = amounts.into_iter().map(|(name, hard)| {
                let used = used.get(name).map_or("0", |used| used.0.as_str());
                format!("{name}: {used}/{}", hard.0)
            });
            each.collect::<Vec<_>>().join(", ")
        };
        vec![
            cells::name(&self.metadata),
            listed(others).into(),
            listed(limits).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn validate_amounts(amounts: Option<&Amounts>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, amount) in amounts.into_iter().flatten() {
        let path = path.key(name);
        errors.extend(resources::validate_resource(name, &path));
        if !name.contains('/') && !resources::is_of_quota(name) {
            let detail = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&path, name.as_str(), detail));
        }
        errors.extend(resources::validate_quantity(name, &amount.0, &path));
    }
    errors
}

fn validate_scopes(spec: &ResourceQuotaSpec, path: &FieldPath) -> Vec<FieldError> {
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let value = to_value(&scopes);
    let mut errors = Vec::new();
    for scope in scopes {
        if errors.len() >= ERRORS_OF_WHOLE_MAX {
            break;
        }
        if !SCOPES.contains(&scope.as_str()) {
            errors.push(FieldError::invalid(path, value.clone(), "unsupported scope"));
        }
        errors.extend(validate_fit(spec, scope, &value, path));
    }
    errors.extend(validate_opposites(scopes, &value, path));
    errors
}

/// Every amount must be one of what is in the scope.
fn validate_fit(
    spec: &ResourceQuotaSpec,
    scope: &str,
    value: &Value,
    path: &FieldPath,
) -> Vec<FieldError> {
    let names = spec.hard.iter().flatten().map(|(name, _)| name.as_str());
    let misfits = names.filter(|name| resources::is_of_quota(name) && !fits(scope, name));
    let detail = "unsupported scope applied to resource";
    let errors = misfits.map(|_| FieldError::invalid(path, value.clone(), detail));
    errors.take(ERRORS_OF_WHOLE_MAX).collect()
}

/// Upstream `IsResourceQuotaScopeValidForResource`.
fn fits(scope: &str, resource: &str) -> bool {
    let is_compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        TERMINATING
        | NOT_TERMINATING
        | NOT_BEST_EFFORT
        | PRIORITY_CLASS
        | CROSS_NAMESPACE_AFFINITY => resource == "pods" || is_compute,
        BEST_EFFORT => resource == "pods",
        VOLUME_ATTRIBUTES_CLASS => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn validate_opposites(scopes: &[String], value: &Value, path: &FieldPath) -> Vec<FieldError> {
    let has = |scope: &&str| scopes.iter().any(|one| one == scope);
    let conflicts = OPPOSITES.iter().filter(|pair| pair.iter().all(has));
    conflicts.map(|_| FieldError::invalid(path, value.clone(), "conflicting scopes")).collect()
}

fn validate_selector(spec: &ResourceQuotaSpec, path: &FieldPath) -> Vec<FieldError> {
    let Some(selector) = &spec.scope_selector else {
        return Vec::new();
    };
    let path = path.child("matchExpressions");
    let requirements = selector.match_expressions.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    for requirement in requirements {
        if errors.len() >= ERRORS_OF_WHOLE_MAX {
            break;
        }
        let scope = requirement.scope_name.as_str();
        if !SCOPES.contains(&scope) {
            let path = path.child("scopeName");
            errors.push(FieldError::invalid(&path, scope, "unsupported scope"));
        }
        errors.extend(validate_fit(spec, scope, &to_value(selector), &path));
        errors.extend(validate_requirement(requirement, &path));
    }
    let scopes: Vec<_> = requirements.iter().map(|one| one.scope_name.clone()).collect();
    errors.extend(validate_opposites(&scopes, &to_value(&spec.scopes), &path));
    errors
}

fn validate_requirement(
    requirement: &ScopedResourceSelectorRequirement,
    path: &FieldPath,
) -> Vec<FieldError> {
    let (operator_path, values_path) = (path.child("operator"), path.child("values"));
    let operator = requirement.operator.as_str();
    let has_classes =
        matches!(requirement.scope_name.as_str(), PRIORITY_CLASS | VOLUME_ATTRIBUTES_CLASS);
    let is_known = SCOPES.contains(&requirement.scope_name.as_str());
    let mut errors = Vec::new();
    if is_known && !has_classes && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(&operator_path, operator, detail));
    }
    match (operator, requirement.values.as_deref().unwrap_or_default()) {
        ("In" | "NotIn", []) => errors.push(FieldError::required(
            &values_path,
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        )),
        ("In" | "NotIn", _) | ("Exists" | "DoesNotExist", []) => {}
        ("Exists" | "DoesNotExist", values) => errors.push(FieldError::invalid(
            &values_path,
            to_value(&values),
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        )),
        _ => {
            let detail = "not a valid selector operator";
            errors.push(FieldError::invalid(&operator_path, operator, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
    use serde_json::{Value, json};

    fn quota(spec: Value) -> Case {
        let metadata = json!({"name": "all", "namespace": "default"});
        Case::of("resourcequotas", json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn amounts_are_of_what_is_counted() {
        check(
            &quota(json!({"hard": {
                "pods": "10", "requests.cpu": "1500m", "count/jobs.batch": "3",
                "requests.example.com/gpu": "1", "hugepages-2Mi": "4Mi",
                "gold.storageclass.storage.k8s.io/requests.storage": "1Gi",
            }})),
            &[],
        );
        check(
            &quota(json!({"hard": {"pods": "1.5", "secrets": "-1", "storage": "1Gi", "x": "1"}})),
            &[
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[secrets]: Invalid value: \"-1\": must be greater",
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
                "spec.hard[x]: Invalid value: \"x\": must be a standard resource for quota",
            ],
        );
    }

    #[test]
    fn scopes_fit_what_is_counted() {
        check(&quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "Terminating"]})), &[]);
        check(
            &quota(
                json!({"hard": {"secrets": "1"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"]}),
            ),
            &[
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope applied to resource",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: unsupported scope",
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\",\"Odd\"]: conflicting scopes",
            ],
        );
    }

    #[test]
    fn selectors_choose_among_classes() {
        let selecting = |requirement: Value| {
            quota(
                json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [requirement]}}),
            )
        };
        let path = "spec.scopeSelector.matchExpressions";
        check(
            &selecting(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]})),
            &[],
        );
        check(
            &selecting(json!({"scopeName": "PriorityClass", "operator": "NotIn"})),
            &[&format!("{path}.values: Required value: must be at least one value")],
        );
        check(
            &selecting(json!({"scopeName": "BestEffort", "operator": "In", "values": ["x"]})),
            &[&format!(
                "{path}.operator: Invalid value: \"In\": must be 'Exists' when scope is any of"
            )],
        );
        check(
            &selecting(json!({"scopeName": "Odd", "operator": "Like"})),
            &[
                &format!("{path}.scopeName: Invalid value: \"Odd\": unsupported scope"),
                &format!("{path}.operator: Invalid value: \"Like\": not a valid selector operator"),
            ],
        );
    }

    #[test]
    fn updates() {
        let scoped = |scopes: Value| quota(json!({"hard": {"pods": "1"}, "scopes": scopes}));
        let old = scoped(json!(["BestEffort", "Terminating"]));
        check_update(&old, &scoped(json!(["Terminating", "BestEffort"])), &[]);
        check_update(
            &old,
            &scoped(json!(["BestEffort"])),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
        );
        check_status_update(
            &old,
            &old.with(
                json!({"status": {"hard": {"pods": "1"}, "used": {"pods": "0.5", "y": "1"}}}),
            ),
            &[
                "status.used[pods]: Invalid value: \"500m\": must be an integer",
                "status.used[y]: Invalid value: \"y\": must be a standard resource type",
                "status.used[y]: Invalid value: \"y\": must be a standard resource for quota",
            ],
        );
    }
}
