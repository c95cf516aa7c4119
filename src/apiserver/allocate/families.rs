//! Which families a Service is of: upstream `initIPFamilyFields` (pkg/registry/core/service/storage/
//! alloc.go, v1.35). Pure.
//!
//! Start at [`complete`]. What the fields must look like by themselves is the kind's business.

use crate::api::{FieldError, FieldPath};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;
use std::net::IpAddr;

pub(super) const HEADLESS: &str = "None";

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// A version of the Internet Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(cidr: &IpNet) -> Self {
        Self::of_address(cidr.addr())
    }

    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.name() == name)
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// The families that a cluster with these ranges has, the first one first.
pub(super) fn offered(cidrs: &[IpNet]) -> Vec<Family> {
    let mut families = Vec::new();
    for family in cidrs.iter().map(Family::of) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

/// The families of a Service, the one of its first address first.
pub(super) fn of_service(spec: &ServiceSpec) -> Vec<Family> {
    spec.ip_families.iter().flatten().filter_map(|name| Family::named(name)).collect()
}

/// Fills in the families and the policy about them, as far as they are not given. The cluster has
/// the families that are `offered`.
pub(super) fn complete(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    offered: &[Family],
) -> Result<(), Vec<FieldError>> {
    if spec.type_.as_deref() == Some("ExternalName") || is_left_as_it_is(spec, old) {
        return Ok(());
    }
    let is_anybodys = is_headless(spec) && spec.selector.as_ref().is_none_or(|it| it.is_empty());
    if spec.ip_family_policy.is_none() {
        let kept = old.and_then(|old| old.ip_family_policy.clone());
        let fallback = if is_anybodys { REQUIRE } else { SINGLE };
        spec.ip_family_policy = Some(kept.unwrap_or_else(|| fallback.to_owned()));
    }
    let mut errors = old.map(|old| release(spec, old)).unwrap_or_default();
    errors.extend(check_policy(spec));
    errors.extend(infer(spec, offered));
    if !errors.is_empty() {
        return Err(errors);
    }
    if is_anybodys {
        // Whoever writes its endpoints knows of which families they are.
        fill(spec, offered, |_| true);
        return Ok(());
    }
    let errors = check_offer(spec, offered);
    if !errors.is_empty() {
        return Err(errors);
    }
    fill(spec, offered, |family| offered.contains(&family));
    Ok(())
}

/// A Service that takes what there is is not changed because the cluster has: only when somebody
/// asks (upstream `isMatchingPreferDualStackClusterIPFields`).
fn is_left_as_it_is(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> bool {
    old.is_some_and(|old| {
        let prefers = |policy: &Option<String>| policy.as_deref().is_none_or(|it| it == PREFER);
        spec.ip_family_policy.is_some()
            && prefers(&spec.ip_family_policy)
            && prefers(&old.ip_family_policy)
            && (&spec.type_, &spec.cluster_ips, &spec.ip_families)
                == (&old.type_, &old.cluster_ips, &old.ip_families)
    })
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(HEADLESS)
}

fn is_single(spec: &ServiceSpec) -> bool {
    spec.ip_family_policy.as_deref() == Some(SINGLE)
}

fn count(list: Option<&Vec<String>>) -> usize {
    list.map_or(0, Vec::len)
}

/// A Service that is to have one family lets go of the other; no other Service loses one.
fn release(spec: &mut ServiceSpec, old: &ServiceSpec) -> Vec<FieldError> {
    if is_single(spec) {
        // The first ones never change.
        let lists =
            [(&mut spec.cluster_ips, &old.cluster_ips), (&mut spec.ip_families, &old.ip_families)];
        for (new, old) in lists {
            if let Some(list) = new.as_mut().filter(|list| Some(&**list) == old.as_ref()) {
                list.truncate(1);
            }
        }
        return Vec::new();
    }
    let is_reduced = |new: Option<&Vec<String>>, old: Option<&Vec<String>>| {
        count(new) > 0 && count(new) < count(old)
    };
    let mut errors = Vec::new();
    if is_reduced(spec.cluster_ips.as_ref(), old.cluster_ips.as_ref()) {
        let why = "must be 'SingleStack' to release the secondary cluster IP";
        errors.push(bad_policy(spec, why));
    }
    if is_reduced(spec.ip_families.as_ref(), old.ip_families.as_ref()) {
        let why = "must be 'SingleStack' to release the secondary IP family";
        errors.push(bad_policy(spec, why));
    }
    errors
}

fn bad_policy(spec: &ServiceSpec, why: &str) -> FieldError {
    let path = FieldPath::new("spec").child("ipFamilyPolicy");
    FieldError::invalid(&path, json!(spec.ip_family_policy), why)
}

fn check_policy(spec: &ServiceSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let begin = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    if is_single(spec) && count(spec.cluster_ips.as_ref()) == 2 {
        errors.push(bad_policy(spec, &format!("{begin} cluster IPs are specified")));
    }
    if is_single(spec) && count(spec.ip_families.as_ref()) == 2 {
        errors.push(bad_policy(spec, &format!("{begin} IP families are specified")));
    }
    errors
}

/// Families that follow from the addresses that are asked for.
fn infer(spec: &mut ServiceSpec, offered: &[Family]) -> Vec<FieldError> {
    let path = FieldPath::new("spec").child("clusterIPs");
    let mut errors = Vec::new();
    let addresses = spec.cluster_ips.clone().unwrap_or_default();
    let named = count(spec.ip_families.as_ref());
    for (index, text) in addresses.iter().enumerate().skip(named) {
        let Ok(address) = text.parse::<IpAddr>() else { break };
        let family = Family::of_address(address);
        if offered.contains(&family) {
            spec.ip_families.get_or_insert_default().push(family.name().to_owned());
        } else {
            let why = format!("{} is not configured on this cluster", family.name());
            errors.push(FieldError::invalid(&path.index(index), json!(addresses), why));
        }
    }
    errors
}

fn check_offer(spec: &ServiceSpec, offered: &[Family]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.ip_family_policy.as_deref() == Some(REQUIRE) && offered.len() < 2 {
        errors.push(bad_policy(spec, "this cluster is not configured for dual-stack services"));
    }
    let path = FieldPath::new("spec").child("ipFamilies");
    for (index, name) in spec.ip_families.iter().flatten().enumerate() {
        if !Family::named(name).is_some_and(|family| offered.contains(&family)) {
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(&path.index(index), name.as_str(), why));
        }
    }
    errors
}

/// The cluster's first family where none is named, and the other one where both are wanted.
fn fill(spec: &mut ServiceSpec, offered: &[Family], is_to_be_had: impl Fn(Family) -> bool) {
    let wants_both = !is_single(spec);
    let families = spec.ip_families.get_or_insert_default();
    if families.is_empty() {
        families.extend(offered.first().map(|family| family.name().to_owned()));
    }
    if let ([only], true) = (&families[..], wants_both)
        && let Some(other) = Family::named(only).map(Family::other)
        && is_to_be_had(other)
    {
        families.push(other.name().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn spec(value: Value) -> ServiceSpec {
        let mut spec: ServiceSpec = serde_json::from_value(value).unwrap();
        spec.type_.get_or_insert_with(|| "ClusterIP".to_owned());
        spec
    }

    /// Cluster: `4`, `6`, `46` or `64`.
    #[track_caller]
    fn check(cluster: &str, old: Option<Value>, new: Value, expected: &str) {
        let offered: Vec<_> =
            cluster.chars().map(|it| if it == '4' { Family::V4 } else { Family::V6 }).collect();
        let mut new = spec(new);
        let shown = match complete(&mut new, old.map(spec).as_ref(), &offered) {
            Ok(()) => {
                let families = new.ip_families.unwrap_or_default().join(" ");
                format!("{} {families}", new.ip_family_policy.unwrap_or_default())
            }
            Err(errors) => {
                let errors: Vec<_> = errors
                    .iter()
                    .map(|error| format!("{}: {}", error.path, error.detail))
                    .collect();
                errors.join("; ")
            }
        };
        assert_eq!(shown, expected);
    }

    fn selecting(more: Value) -> Value {
        let mut value = json!({"selector": {"a": "b"}});
        json_patch::merge(&mut value, &more);
        value
    }

    #[test]
    fn new_services_follow_their_policy() {
        check("46", None, json!({}), "SingleStack IPv4");
        check("64", None, json!({}), "SingleStack IPv6");
        check("46", None, json!({"ipFamilyPolicy": PREFER}), "PreferDualStack IPv4 IPv6");
        check("4", None, json!({"ipFamilyPolicy": PREFER}), "PreferDualStack IPv4");
        let six = json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]});
        check("46", None, six, "RequireDualStack IPv6 IPv4");
        check(
            "4",
            None,
            json!({"ipFamilyPolicy": REQUIRE}),
            "spec.ipFamilyPolicy: this cluster is not configured for dual-stack services",
        );
        check(
            "4",
            None,
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: not configured on this cluster",
        );
        check(
            "46",
            None,
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        );
        check("46", None, json!({"type": "ExternalName"}), " ");
    }

    #[test]
    fn families_follow_from_addresses() {
        let asks = |addresses: &[&str], policy: &str| json!({"clusterIP": addresses[0], "clusterIPs": addresses, "ipFamilyPolicy": policy});
        check("46", None, asks(&["fd00::1"], SINGLE), "SingleStack IPv6");
        check("46", None, asks(&["fd00::1"], PREFER), "PreferDualStack IPv6 IPv4");
        check("46", None, asks(&["fd00::1", "10.0.0.1"], REQUIRE), "RequireDualStack IPv6 IPv4");
        check(
            "46",
            None,
            asks(&["fd00::1", "10.0.0.1"], SINGLE),
            "spec.ipFamilyPolicy: must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
        );
        check(
            "4",
            None,
            asks(&["fd00::1"], SINGLE),
            "spec.clusterIPs[0]: IPv6 is not configured on this cluster",
        );
    }

    #[test]
    fn headless_services_without_selector_may_be_of_both() {
        let headless = || json!({"clusterIP": "None", "clusterIPs": ["None"]});
        check("4", None, headless(), "RequireDualStack IPv4 IPv6");
        check("6", None, headless(), "RequireDualStack IPv6 IPv4");
        check("4", None, selecting(headless()), "SingleStack IPv4");
        let mut single = headless();
        single["ipFamilyPolicy"] = json!(SINGLE);
        check("4", None, single.clone(), "SingleStack IPv4");
        single["ipFamilies"] = json!(["IPv6"]);
        check("4", None, single, "SingleStack IPv6");
    }

    fn dual(policy: &str) -> Value {
        selecting(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy}))
    }

    fn single(policy: &str) -> Value {
        selecting(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": policy}))
    }

    #[test]
    fn a_second_family_comes_and_goes_by_policy() {
        let asked = |policy| single(policy);
        check("46", Some(single(SINGLE)), asked(REQUIRE), "RequireDualStack IPv4 IPv6");
        check("46", Some(single(SINGLE)), asked(PREFER), "PreferDualStack IPv4 IPv6");
        check("46", Some(dual(REQUIRE)), dual(SINGLE), "SingleStack IPv4");
        check("46", Some(dual(REQUIRE)), single(SINGLE), "SingleStack IPv4");
        check(
            "46",
            Some(dual(REQUIRE)),
            single(REQUIRE),
            "spec.ipFamilyPolicy: must be 'SingleStack' to release the secondary cluster IP; \
             spec.ipFamilyPolicy: must be 'SingleStack' to release the secondary IP family",
        );
        let mut unsaid = dual(REQUIRE);
        unsaid["ipFamilyPolicy"] = json!(null);
        check("46", Some(dual(REQUIRE)), unsaid, "RequireDualStack IPv4 IPv6");
    }

    #[test]
    fn who_prefers_both_is_not_moved_by_the_cluster() {
        check("46", Some(single(PREFER)), single(PREFER), "PreferDualStack IPv4");
        check("4", Some(dual(PREFER)), dual(PREFER), "PreferDualStack IPv4 IPv6");
    }

    #[test]
    fn a_name_becomes_a_service() {
        let name = json!({"type": "ExternalName", "externalName": "a.b"});
        check("46", Some(name), json!({}), "SingleStack IPv4");
    }
}
