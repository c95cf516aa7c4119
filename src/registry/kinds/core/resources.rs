//! Amounts of resources: which names there are, and what requests and limits must satisfy.
//!
//! Follows upstream `validateResourceRequirements` (pkg/apis/core/validation) and
//! pkg/apis/core/helper (v1.35).

use crate::api::field::shown_name;
use crate::api::{FieldError, FieldPath, Quantity, names, pod};
use crate::registry::checks::{invalid, quantity};
use k8s_openapi::api::core::v1::{ResourceClaim, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource;
use std::collections::{BTreeMap, BTreeSet};

type Amounts = BTreeMap<String, resource::Quantity>;

const HUGE_PAGES: &str = "hugepages-";

/// Resources that come in whole numbers.
const INTEGER_RESOURCES: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Resources whose names need no domain, apart from those above.
const STANDARD_RESOURCES: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
];

/// What may have amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry::kinds) enum Holder {
    Container,
    /// The pod as a whole.
    Pod,
}

/// What is wrong with requests and limits. `claims` are the names of the pod's resource claims.
pub(in crate::registry::kinds) fn validate_requirements(
    requirements: &ResourceRequirements,
    holder: Holder,
    claims: &[&str],
    path: &FieldPath,
) -> Vec<FieldError> {
    let nothing = Amounts::new();
    let limits = requirements.limits.as_ref().unwrap_or(&nothing);
    let requests = requirements.requests.as_ref().unwrap_or(&nothing);
    let mut errors = validate_amounts(limits, holder, &path.child("limits"));
    for (name, amount) in requests {
        errors.extend(validate_amount(name, &amount.0, holder, &path.child("requests").key(name)));
        errors.extend(validate_request(name, amount, limits, path));
    }
    let mut all_names = limits.keys().chain(requests.keys());
    let has_huge_pages = all_names.any(|name| name.starts_with(HUGE_PAGES));
    let is_compute = |name: &str| matches!(name, "cpu" | "memory");
    if has_huge_pages && !limits.keys().chain(requests.keys()).any(|name| is_compute(name)) {
        errors.push(FieldError::forbidden(path, "HugePages require cpu or memory"));
    }
    let used = requirements.claims.as_deref().unwrap_or_default();
    errors.extend(validate_claims(used, claims, &path.child("claims")));
    errors
}

/// As [`validate_requirements`], for the resources that a pod takes beside its containers. Paths
/// and rules are those of limits.
pub(in crate::registry::kinds) fn validate_overhead(
    overhead: Option<&Amounts>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let limits = overhead.cloned();
    let requirements = ResourceRequirements { limits, ..ResourceRequirements::default() };
    validate_requirements(&requirements, Holder::Container, &[], path)
}

fn validate_amounts(amounts: &Amounts, holder: Holder, path: &FieldPath) -> Vec<FieldError> {
    let each = amounts.iter();
    each.flat_map(|(name, amount)| validate_amount(name, &amount.0, holder, &path.key(name)))
        .collect()
}

fn validate_amount(name: &str, amount: &str, holder: Holder, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = match holder {
        Holder::Container => validate_container_resource(name, path),
        Holder::Pod => validate_pod_resource(name, path),
    };
    errors.extend(validate_quantity(name, amount, path));
    if let Some(size) = name.strip_prefix(HUGE_PAGES)
        && !is_multiple(amount, size)
    {
        let detail = format!("{amount} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(path, amount, detail));
    }
    errors
}

/// What is wrong with the amount of a resource (upstream `ValidateResourceQuantityValue`).
pub(in crate::registry::kinds) fn validate_quantity(
    name: &str,
    amount: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> = quantity(path, amount).into_iter().collect();
    let must_be_whole = INTEGER_RESOURCES.contains(&name) || is_extended(name);
    if must_be_whole && amount.parse::<Quantity>().is_ok_and(|amount| !amount.is_integer()) {
        errors.push(FieldError::invalid(path, amount, "must be an integer"));
    }
    errors
}

fn is_multiple(amount: &str, size: &str) -> bool {
    let (Ok(amount), Ok(size)) = (amount.parse::<Quantity>(), size.parse::<Quantity>()) else {
        return false;
    };
    size.is_integer() && size > Quantity::ZERO && amount.units() % size.units() == 0
}

/// A request is at most its limit; what cannot be shared is requested exactly up to its limit.
fn validate_request(
    name: &str,
    amount: &resource::Quantity,
    limits: &Amounts,
    path: &FieldPath,
) -> Option<FieldError> {
    let Some(limit) = limits.get(name) else {
        let detail = "Limit must be set for non overcommitable resources";
        let path = path.child("limits");
        return (!is_overcommittable(name)).then(|| FieldError::required(&path, detail));
    };
    let relation = match Quantity::of(amount).cmp(&Quantity::of(limit)) {
        std::cmp::Ordering::Equal => return None,
        _ if !is_overcommittable(name) => "equal to",
        std::cmp::Ordering::Greater => "less than or equal to",
        std::cmp::Ordering::Less => return None,
    };
    let detail = format!("must be {relation} {name} limit of {}", limit.0);
    Some(FieldError::invalid(&path.child("requests"), amount.0.as_str(), detail))
}

pub(super) fn validate_resource(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let errors = invalid(path, name, names::qualified_name(name));
    let is_standard = STANDARD_RESOURCES.contains(&name)
        || INTEGER_RESOURCES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-");
    if errors.is_empty() && !name.contains('/') && !is_standard {
        let detail = "must be a standard resource type or fully qualified";
        return vec![FieldError::invalid(path, name, detail)];
    }
    errors
}

pub(super) fn validate_container_resource(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_resource(name, path);
    let detail = if name.contains('/') {
        (!is_native(name) && !is_extended(name))
            .then_some("doesn't follow extended resource name standard")
    } else {
        let is_standard =
            matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES);
        (!is_standard).then_some("must be a standard resource for containers")
    };
    errors.extend(detail.map(|detail| FieldError::invalid(path, name, detail)));
    errors
}

fn validate_pod_resource(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_resource(name, path);
    if errors.is_empty() && !pod::is_pod_level_resource(name) {
        errors.push(FieldError::not_supported(path, name, &["cpu", HUGE_PAGES, "memory"]));
    }
    errors
}

/// Whether quotas know this name without a domain (upstream `IsStandardQuotaResourceName`).
pub(super) fn is_of_quota(name: &str) -> bool {
    (STANDARD_RESOURCES.contains(&name) && name != "storage")
        || INTEGER_RESOURCES.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
}

pub(super) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

pub(super) fn is_overcommittable(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Uses of the pod's resource claims (upstream `validateResourceClaimNames`).
fn validate_claims(used: &[ResourceClaim], known: &[&str], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    // Of each name, where each request of it came first.
    let mut seen: BTreeMap<&str, BTreeMap<Option<&str>, usize>> = BTreeMap::new();
    let names: BTreeSet<_> = known.iter().collect();
    let all = known.join(", ");
    for (index, claim) in used.iter().enumerate() {
        let path = path.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let request = claim.request.as_deref().filter(|request| !request.is_empty());
        if let Some(request) = request {
            let path = path.child("request");
            errors.extend(invalid(&path, request, names::dns1123_label(request)));
        }
        let before = seen.entry(name).or_default();
        let overlap = match request {
            None => before.values().next().map(|_| name.to_owned()),
            Some(wanted) => match (before.get(&None), before.get(&request)) {
                (None, None) => None,
                (whole, Some(same)) if whole.is_none_or(|whole| same < whole) => {
                    Some(format!("{name}/{wanted}"))
                }
                _ => Some(name.to_owned()),
            },
        };
        errors.extend(overlap.map(|text| FieldError::duplicate(&path, text)));
        before.entry(request).or_insert(index);
        if !names.contains(&name) {
            let listed = match known {
                [] => " which is empty".to_owned(),
                _ => format!(": {}", shown_name(&all)),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{listed}");
            errors.push(FieldError { detail, ..FieldError::not_found(&path, name) });
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(requirements: Value, expected: &[&str]) {
        check_for(Holder::Container, requirements, expected);
    }

    #[track_caller]
    fn check_for(holder: Holder, requirements: Value, expected: &[&str]) {
        let requirements = serde_json::from_value(requirements).unwrap();
        let errors =
            validate_requirements(&requirements, holder, &["gpu", "nic"], &FieldPath::new("r"));
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn names() {
        check(json!({"limits": {"cpu": "1", "memory": "1Gi", "example.com/x": "1"}}), &[]);
        check(
            json!({"limits": {"gpu": "1"}}),
            &[
                "r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "r.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            ],
        );
        check(
            json!({"limits": {"pods": "1"}}),
            &[
                "r.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ],
        );
        check(
            json!({"limits": {"requests.example.com/x": "1"}}),
            &[
                "r.limits[requests.example.com/x]: Invalid value: \"requests.example.com/x\": doesn't follow extended resource name standard",
            ],
        );
        check_for(
            Holder::Pod,
            json!({"limits": {"cpu": "1", "ephemeral-storage": "1Gi"}}),
            &[
                "r.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        );
    }

    #[test]
    fn amounts() {
        check(
            json!({"limits": {"cpu": "-1", "example.com/x": "1500m", "memory": "much"}}),
            &[
                "r.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "r.limits[example.com/x]: Invalid value: \"1500m\": must be an integer",
                "r.limits[memory]: Invalid value: \"much\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ],
        );
        check(
            json!({"limits": {"hugepages-2Mi": "3Mi"}, "requests": {"hugepages-2Mi": "3Mi"}}),
            &[
                "r.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "r.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "r: Forbidden: HugePages require cpu or memory",
            ],
        );
    }

    #[test]
    fn requests_stay_below_their_limits() {
        check(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}), &[]);
        check(
            json!({"limits": {"cpu": "1", "example.com/x": "2"}, "requests": {"cpu": "2", "example.com/x": "1"}}),
            &[
                "r.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                "r.requests: Invalid value: \"1\": must be equal to example.com/x limit of 2",
            ],
        );
        check(
            json!({"requests": {"example.com/x": "1"}}),
            &["r.limits: Required value: Limit must be set for non overcommitable resources"],
        );
    }

    #[test]
    fn claims_are_the_pods_and_used_once() {
        check(
            json!({"claims": [{"name": "gpu", "request": "a"}, {"name": "gpu", "request": "b"}, {"name": "nic"}]}),
            &[],
        );
        check(
            json!({"claims": [{"name": ""}, {"name": "gpu"}, {"name": "gpu"}, {"name": "tpu"}]}),
            &[
                "r.claims[0]: Required value",
                "r.claims[2]: Duplicate value: \"gpu\"",
                "r.claims[3]: Not found: \"tpu\": must be one of the names in pod.spec.resourceClaims: gpu, nic",
            ],
        );
    }
}
