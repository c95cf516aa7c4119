//! What may be wrong with the names a pod has and resolves.
//!
//! Follows upstream `validatePodDNSConfig`, `ValidateHostAliases` and `validatePodHostName`
//! (pkg/apis/core/validation, v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, ip, one_of, to_value};
use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec};

/// What the resolver of the C library can take.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_BYTES_MAX: usize = 2048;

/// The kernel's limit for a host name.
const HOSTNAME_BYTES_MAX: usize = 64;

const POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];

pub(super) fn validate_policy(spec: &PodSpec, path: &FieldPath) -> Option<FieldError> {
    match spec.dns_policy.as_deref().unwrap_or_default() {
        "" => Some(FieldError::required(path, "")),
        policy => one_of(path, policy, POLICIES),
    }
}

pub(super) fn validate_config(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let is_own = spec.dns_policy.as_deref() == Some("None");
    let Some(config) = &spec.dns_config else {
        let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
        return is_own.then(|| FieldError::required(path, detail)).into_iter().collect();
    };
    let servers = config.nameservers.as_deref().unwrap_or_default();
    if is_own && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        return vec![FieldError::required(&path.child("nameservers"), detail)];
    }
    let mut errors = validate_servers(servers, &path.child("nameservers"));
    errors.extend(validate_searches(config, &path.child("searches")));
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_ref().is_none_or(String::is_empty) {
            let path = path.child("options").index(index);
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
    errors
}

fn validate_servers(servers: &[String], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(FieldError::invalid(path, to_value(&servers), detail));
    }
    let each = servers.iter().enumerate();
    errors.extend(each.filter_map(|(index, server)| ip(&path.index(index), server)));
    errors
}

fn validate_searches(config: &PodDNSConfig, path: &FieldPath) -> Vec<FieldError> {
    let searches = config.searches.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(FieldError::invalid(path, to_value(&searches), detail));
    }
    if searches.join(" ").len() > SEARCH_LIST_BYTES_MAX {
        let detail = format!(
            "must not have more than {SEARCH_LIST_BYTES_MAX} characters (including spaces) in the search list"
        );
        errors.push(FieldError::invalid(path, to_value(&searches), detail));
    }
    for (index, search) in searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        let problems = names::dns1123_subdomain_with_underscore(search);
        errors.extend(invalid(&path.index(index), search, problems));
    }
    errors
}

pub(super) fn validate_aliases(aliases: &[HostAlias], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, alias) in aliases.iter().enumerate() {
        let path = path.index(index);
        errors.extend(ip(&path.child("ip"), &alias.ip));
        for (index, name) in alias.hostnames.iter().flatten().enumerate() {
            let path = path.child("hostnames").index(index);
            errors.extend(invalid(&path, name, names::dns1123_subdomain(name)));
        }
    }
    errors
}

/// The names of the pod itself.
pub(super) fn validate_names(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            errors.extend(invalid(&path.child(field), name, names::dns1123_label(name)));
        }
    }
    let Some(name) = spec.hostname_override.as_deref() else {
        return errors;
    };
    let path = path.child("hostnameOverride");
    for (is_wrong, detail) in [
        (
            spec.set_hostname_as_fqdn == Some(true),
            "may not be specified when setHostnameAsFQDN is true",
        ),
        (spec.host_network == Some(true), "may not be specified when hostNetwork is true"),
    ] {
        if is_wrong {
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if name.len() > HOSTNAME_BYTES_MAX {
        errors.push(FieldError::too_long(&path, HOSTNAME_BYTES_MAX));
    }
    errors.extend(invalid(&path, name, names::dns1123_subdomain(name)));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let path = FieldPath::new("spec");
        let mut errors = validate_config(&spec, &path.child("dnsConfig"));
        let aliases = spec.host_aliases.as_deref().unwrap_or_default();
        errors.extend(validate_aliases(aliases, &path.child("hostAliases")));
        errors.extend(validate_names(&spec, &path));
        compare(errors, expected);
    }

    #[test]
    fn what_the_resolver_can_take() {
        check(json!({"dnsConfig": {"nameservers": ["1.1.1.1"], "searches": [".", "a_b.c."]}}), &[]);
        check(
            json!({"dnsPolicy": "None"}),
            &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["-"]}}),
            &[
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
            ],
        );
        check(
            json!({"dnsConfig": {"nameservers": ["1.1.1.1", "x", "1.1.1.1", "1.1.1.1"], "searches": ["-"], "options": [{"name": ""}]}}),
            &[
                "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"x\",\"1.1.1.1\",\"1.1.1.1\"]: must not have more than 3 nameservers",
                "spec.dnsConfig.nameservers[1]: Invalid value: \"x\": must be a valid IP address",
                "spec.dnsConfig.searches[0]: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        );
        check(
            json!({"dnsConfig": {"searches": vec!["a".repeat(63); 33]}}),
            &[
                "spec.dnsConfig.searches: Invalid value: [",
                "spec.dnsConfig.searches: Invalid value: [",
            ],
        );
    }

    #[test]
    fn names_of_hosts() {
        check(
            json!({"hostAliases": [{"ip": "x", "hostnames": ["a.b", "A"]}], "hostname": "a.b", "subdomain": "A"}),
            &[
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address",
                "spec.hostAliases[0].hostnames[1]: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
                "spec.hostname: Invalid value: \"a.b\": must not contain dots",
                "spec.subdomain: Invalid value: \"A\": a lowercase RFC 1123 label",
            ],
        );
        check(
            json!({"hostnameOverride": "a".repeat(65), "setHostnameAsFQDN": true, "hostNetwork": true}),
            &[
                "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
                "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
                "spec.hostnameOverride: Too long: may not be more than 64 bytes",
            ],
        );
    }
}
