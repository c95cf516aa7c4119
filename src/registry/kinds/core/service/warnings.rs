//! What whoever writes a Service is told: upstream `GetWarningsForService` (pkg/api/service, v1.35).

use super::validate::{TOPOLOGY_HINTS, TOPOLOGY_MODE};
use super::{Type, is_headless, type_of};
use crate::api::FieldPath;
use crate::registry::checks::{cidr_warnings, ip_warning};
use k8s_openapi::api::core::v1::Service;

pub(super) fn warnings(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    let mut warnings = Vec::new();
    let annotations = service.metadata.annotations.as_ref();
    if annotations.is_some_and(|all| all.contains_key(TOPOLOGY_HINTS)) {
        warnings.push(format!(
            "annotation {TOPOLOGY_HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"
        ));
    }
    let external = spec.external_ips.unwrap_or_default();
    let balancer = spec.load_balancer_ip.as_deref().unwrap_or_default();
    let headless = service.spec.as_ref().is_some_and(is_headless);
    if headless {
        if !balancer.is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.session_affinity.as_deref() != Some("None") {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    } else {
        for (index, address) in spec.cluster_ips.iter().flatten().enumerate() {
            warnings.extend(ip_warning(&path.child("clusterIPs").index(index), address));
        }
    }
    for (index, address) in external.iter().enumerate() {
        warnings.extend(ip_warning(&path.child("externalIPs").index(index), address));
    }
    warnings.extend(ip_warning(&path.child("loadBalancerIP"), balancer));
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        let path = path.child("loadBalancerSourceRanges").index(index);
        warnings.extend(cidr_warnings(&path, range));
    }
    let is_name = service.spec.as_ref().is_some_and(|spec| type_of(spec) == Type::ExternalName);
    if is_name && !external.is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !is_name && spec.external_name.is_some_and(|name| !name.is_empty()) {
        let warning = "spec.externalName is ignored when spec.type is not \"ExternalName\"";
        warnings.push(warning.to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, expected: &[&str]) {
        let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
        let warnings = Case::of("services", service).created().warnings(None);
        assert_eq!(warnings, expected);
    }

    #[test]
    fn what_means_nothing_is_told() {
        check(json!({"ports": [{"port": 80}]}), &[]);
        check(
            json!({"clusterIP": "None", "externalIPs": ["192.0.2.1"], "sessionAffinity": "ClientIP"}),
            &[
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        );
        check(
            json!({"externalName": "a.b"}),
            &["spec.externalName is ignored when spec.type is not \"ExternalName\""],
        );
    }

    #[test]
    fn addresses_in_unusual_forms_are_told() {
        check(
            json!({"externalIPs": ["192.0.02.1", "FD00::1"]}),
            &[
                "spec.externalIPs[0]: non-standard IP address \"192.0.02.1\" will be considered invalid in a future Kubernetes release: use \"192.0.2.1\"",
                "spec.externalIPs[1]: IPv6 address \"FD00::1\" should be in RFC 5952 canonical format (\"fd00::1\")",
            ],
        );
        check(
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.1/8", "10.0.0.0/08"]}),
            &[
                "spec.loadBalancerSourceRanges[0]: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
                "spec.loadBalancerSourceRanges[1]: non-standard CIDR value \"10.0.0.0/08\" will be considered invalid in a future Kubernetes release: use \"10.0.0.0/8\"",
            ],
        );
    }
}
