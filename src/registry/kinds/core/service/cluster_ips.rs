//! The addresses of a Service, and the families they are of.
//!
//! Follows upstream `ValidateServiceClusterIPsRelatedFields` (pkg/apis/core/validation, v1.35).

use super::{HEADLESS, Type, cluster_ips, is_headless, type_of};
use crate::api::field::ERRORS_MAX;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::{ip, one_of, parse_ip, to_value};
use k8s_openapi::api::core::v1::ServiceSpec;
use std::collections::BTreeSet;

/// One address of each family.
const CLUSTER_IPS_MAX: usize = 2;

pub(super) fn validate(spec: &ServiceSpec) -> Vec<FieldError> {
    if type_of(spec) == Type::ExternalName {
        return Vec::new();
    }
    let path = FieldPath::new("spec");
    let ips_path = path.child("clusterIPs");
    let ips = cluster_ips(spec);
    let mut errors: Vec<_> = validate_agreement(spec, &ips_path).into_iter().collect();
    errors.extend(validate_families(spec, &path.child("ipFamilies")));
    if let Some(policy) = spec.ip_family_policy.as_deref() {
        let known = &["PreferDualStack", "RequireDualStack", "SingleStack"];
        errors.extend(one_of(&path.child("ipFamilyPolicy"), policy, known));
    }
    let malformed = validate_addresses(ips, &ips_path);
    let is_malformed = !malformed.is_empty();
    errors.extend(malformed);
    if ips.len() > CLUSTER_IPS_MAX {
        let detail = "may only hold up to 2 values";
        errors.push(FieldError::invalid(&ips_path, to_value(&ips), detail));
    }
    if !is_malformed {
        errors.extend(validate_stack(spec, &ips_path));
    }
    errors
}

/// The older field repeats the first of the newer one.
fn validate_agreement(spec: &ServiceSpec, path: &FieldPath) -> Option<FieldError> {
    let ips = cluster_ips(spec);
    match (spec.cluster_ip.as_deref().unwrap_or_default(), ips) {
        ("", []) => None,
        ("", _) => {
            let detail = "must be empty when `clusterIP` is not specified";
            Some(FieldError::invalid(path, to_value(&ips), detail))
        }
        (_, []) => Some(FieldError::required(path, "")),
        (ip, [first, ..]) if ip == first => None,
        _ => {
            let detail = "first value must match `clusterIP`";
            Some(FieldError::invalid(path, to_value(&ips), detail))
        }
    }
}

fn validate_families(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, family) in spec.ip_families.iter().flatten().enumerate() {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        errors.extend(one_of(&path.index(index), family, &["IPv4", "IPv6"]));
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&path.index(index), family.as_str()));
        }
    }
    errors
}

fn validate_addresses(ips: &[String], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, address) in ips.iter().enumerate() {
        if errors.len() >= ERRORS_MAX {
            break;
        }
        if index == 0 && address == HEADLESS {
            if ips.len() > 1 {
                let detail = "'None' must be the first and only value";
                errors.push(FieldError::invalid(path, to_value(&ips), detail));
            }
            continue;
        }
        errors.extend(ip(&path.index(index), address));
    }
    errors
}

fn validate_stack(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let ips = cluster_ips(spec);
    let mut errors = Vec::new();
    let is_ipv6 = |ip: &str| parse_ip(ip).is_some_and(|ip| ip.is_ipv6());
    let count_of = |wanted: bool| ips.iter().filter(|ip| is_ipv6(ip) == wanted).count();
    if ips.len() > 1 && (count_of(true) == 0 || count_of(false) == 0) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(path, to_value(&ips), detail));
    }
    if is_headless(spec) {
        return errors;
    }
    let families = spec.ip_families.iter().flatten();
    for (index, (ip, family)) in ips.iter().zip(families).enumerate() {
        let is_wrong = match family.as_str() {
            "IPv4" => is_ipv6(ip),
            "IPv6" => !is_ipv6(ip),
            _ => false,
        };
        if is_wrong {
            let detail =
                format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(&path.index(index), ip.as_str(), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        let texts: Vec<_> = validate(&spec).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:#?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn addresses_and_families_agree() {
        check(json!({}), &[]);
        check(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}),
            &[],
        );
        check(json!({"clusterIP": "10.0.0.1"}), &["spec.clusterIPs: Required value"]);
        check(
            json!({"clusterIPs": ["10.0.0.1"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
            ],
        );
        check(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
            &["spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`"],
        );
        check(
            json!({"clusterIP": "x", "clusterIPs": ["x"]}),
            &["spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address"],
        );
        check(
            json!({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.1"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.1\"]: 'None' must be the first and only value",
            ],
        );
        check(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ],
        );
        check(
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
            &[
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        );
        check(
            json!({"ipFamilies": ["IPv4", "IPv4", "IPX"], "ipFamilyPolicy": "Both"}),
            &[
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilies[2]: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\"",
            ],
        );
    }
}
