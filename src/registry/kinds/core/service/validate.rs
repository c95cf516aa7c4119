//! What may be wrong with a Service.
//!
//! Follows upstream `validateService` (pkg/apis/core/validation, v1.35).

use super::super::addresses::{PROTOCOLS, validate_endpoint_ip};
use super::{Type, cluster_ips, is_external, is_headless, needs_health_check, type_of};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{
    cidr, invalid, invalid_number, ip, labels, one_of, parse_ip, present, required, to_value,
};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::json;
use std::collections::BTreeSet;

/// A client stays with one pod for a day at most.
const AFFINITY_SECONDS_MAX: i32 = 86_400;

const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
pub(super) const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
pub(super) const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn validate(service: &Service) -> Vec<FieldError> {
    let spec = service.spec.clone().unwrap_or_default();
    let path = FieldPath::new("spec");
    let mut errors: Vec<_> = validate_topology(service).into_iter().collect();
    errors.extend(validate_type(&spec, &path));
    errors.extend(validate_ports(&spec, &path.child("ports")));
    errors.extend(labels(spec.selector.as_ref(), &path.child("selector")));
    errors.extend(validate_affinity(&spec, &path));
    errors.extend(super::cluster_ips::validate(&spec));
    errors.extend(validate_external_ips(&spec, &path.child("externalIPs")));
    let known_types = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    let type_name = spec.type_.as_deref().unwrap_or_default();
    errors.extend(one_of(&path.child("type"), type_name, known_types));
    errors.extend(validate_duplicates(&spec, &path.child("ports")));
    errors.extend(validate_source_ranges(service, &spec, &path));
    errors.extend(validate_load_balancer(&spec, &path));
    errors.extend(validate_external_traffic(&spec, &path));
    errors.extend(validate_internal_traffic(&spec, &path));
    errors
}

/// The older and the newer annotation say the same.
fn validate_topology(service: &Service) -> Option<FieldError> {
    let annotations = service.metadata.annotations.as_ref()?;
    let (mode, hints) = (annotations.get(TOPOLOGY_MODE)?, annotations.get(TOPOLOGY_HINTS)?);
    let path = FieldPath::new("metadata").child("annotations").key(TOPOLOGY_MODE);
    let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
    (mode != hints).then(|| FieldError::invalid(&path, mode.as_str(), detail))
}

fn validate_type(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let has_ports = spec.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    if !has_ports && !is_headless(spec) && type_of(spec) != Type::ExternalName {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match type_of(spec) {
        Type::LoadBalancer | Type::NodePort if is_headless(spec) => {
            let kind = spec.type_.as_deref().unwrap_or_default();
            let detail = format!("may not be set to 'None' for {kind} services");
            let path = path.child("clusterIPs").index(0);
            errors.push(FieldError::invalid(&path, "None", detail));
        }
        Type::ExternalName => errors.extend(validate_external_name(spec, path)),
        _ => {}
    }
    errors
}

fn validate_external_name(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let has_families = spec.ip_families.as_ref().is_some_and(|families| !families.is_empty());
    let mut errors: Vec<_> = [
        ("clusterIPs", !cluster_ips(spec).is_empty()),
        ("ipFamilies", has_families),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .map(|(field, _)| {
        FieldError::forbidden(&path.child(field), "may not be set for ExternalName services")
    })
    .collect();
    let name = spec.external_name.as_deref().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    errors.extend(required(&path.child("externalName"), name, names::dns1123_subdomain));
    errors
}

fn validate_ports(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() {
            let is_missing = ports.len() > 1;
            errors.extend(is_missing.then(|| FieldError::required(&path.child("name"), "")));
        } else {
            errors.extend(invalid(&path.child("name"), name, names::dns1123_label(name)));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        errors.extend(validate_port(port, &path));
    }
    errors
}

fn validate_port(port: &ServicePort, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = invalid_number(&path.child("port"), port.port, names::port_number);
    let protocol = port.protocol.as_deref().unwrap_or_default();
    errors.extend(one_of(&path.child("protocol"), protocol, PROTOCOLS));
    let target = path.child("targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) => {
            errors.extend(invalid_number(&target, *number, names::port_number));
        }
        Some(IntOrString::String(name)) => {
            errors.extend(invalid(&target, name, names::port_name(name)));
        }
        None => {}
    }
    if let Some(name) = port.app_protocol.as_deref() {
        errors.extend(invalid(&path.child("appProtocol"), name, names::qualified_name(name)));
    }
    errors
}

fn validate_affinity(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let config_path = path.child("sessionAffinityConfig");
    let affinity = spec.session_affinity.as_deref().unwrap_or_default();
    let config = spec.session_affinity_config.as_ref();
    match (affinity, config) {
        ("None", None) => Vec::new(),
        ("None", Some(_)) => {
            let detail = "must not be set when session affinity is None";
            vec![FieldError::forbidden(&config_path, detail)]
        }
        ("ClientIP", config) => {
            let client = config.and_then(|config| config.client_ip.as_ref());
            let seconds = client.and_then(|client| client.timeout_seconds);
            let seconds_path = config_path.child("clientIP").child("timeoutSeconds");
            match seconds {
                None => {
                    let detail = "when session affinity type is ClientIP";
                    vec![FieldError::required(&seconds_path, detail)]
                }
                Some(1..=AFFINITY_SECONDS_MAX) => Vec::new(),
                Some(seconds) => {
                    let detail =
                        format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                    vec![FieldError::invalid(&seconds_path, seconds, detail)]
                }
            }
        }
        (other, _) => {
            let path = path.child("sessionAffinity");
            vec![FieldError::not_supported(&path, other, &["ClientIP", "None"])]
        }
    }
}

fn validate_external_ips(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, address) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.index(index);
        match ip(&path, address) {
            Some(error) => errors.push(error),
            None => errors.extend(validate_endpoint_ip(address, &path)),
        }
    }
    errors
}

/// Ports and node ports are there once for each protocol.
fn validate_duplicates(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let mut errors = Vec::new();
    let node_ports = || {
        let each = ports.iter().enumerate();
        each.filter_map(|(index, port)| {
            let number = port.node_port.filter(|number| *number != 0)?;
            Some((path.index(index).child("nodePort"), port, number))
        })
    };
    if type_of(spec) == Type::ClusterIp {
        let detail = "may not be used when `type` is 'ClusterIP'";
        errors.extend(node_ports().map(|(path, _, _)| FieldError::forbidden(&path, detail)));
    }
    let mut seen = BTreeSet::new();
    for (path, port, number) in node_ports() {
        if !seen.insert((&port.protocol, number)) {
            errors.push(FieldError::duplicate(&path, number));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if !seen.insert((&port.protocol, port.port)) {
            // Upstream shows the key of the comparison as it prints a whole port.
            let key = json!({
                "Name": "", "Protocol": port.protocol, "AppProtocol": null, "Port": port.port,
                "TargetPort": 0, "NodePort": 0,
            });
            errors.push(FieldError::duplicate(&path.index(index), key));
        }
    }
    errors
}

fn validate_source_ranges(
    service: &Service,
    spec: &ServiceSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let is_balanced = type_of(spec) == Type::LoadBalancer;
    let mut errors = Vec::new();
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    if !ranges.is_empty() {
        let path = path.child("LoadBalancerSourceRanges");
        errors.extend((!is_balanced).then(|| FieldError::forbidden(&path, ONLY_BALANCED)));
        for (index, range) in ranges.iter().enumerate() {
            errors.extend(cidr(&path.index(index), range.trim()));
        }
        return errors;
    }
    let annotations = service.metadata.annotations.as_ref();
    if let Some(ranges) = annotations.and_then(|all| all.get(SOURCE_RANGES_ANNOTATION)) {
        let path = FieldPath::new("metadata").child("annotations").key(SOURCE_RANGES_ANNOTATION);
        errors.extend((!is_balanced).then(|| FieldError::forbidden(&path, ONLY_BALANCED)));
        let ranges = ranges.trim();
        if !ranges.is_empty() {
            errors.extend(ranges.split(',').filter_map(|range| cidr(&path, range.trim())));
        }
    }
    errors
}

fn validate_load_balancer(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let class_path = path.child("loadBalancerClass");
    let class = spec.load_balancer_class.as_deref();
    let allocates = spec.allocate_load_balancer_node_ports;
    let mut errors = Vec::new();
    if type_of(spec) == Type::LoadBalancer {
        if allocates.is_none() {
            let path = FieldPath::new("allocateLoadBalancerNodePorts");
            errors.push(FieldError::required(&path, ""));
        }
        if let Some(class) = class {
            errors.extend(invalid(&class_path, class, names::qualified_name(class)));
        }
        return errors;
    }
    if allocates.is_some() {
        let path = path.child("allocateLoadBalancerNodePorts");
        errors.push(FieldError::forbidden(&path, ONLY_BALANCED));
    }
    if class.is_some() {
        errors.push(FieldError::forbidden(&class_path, ONLY_BALANCED));
    }
    errors
}

fn validate_external_traffic(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy_path = path.child("externalTrafficPolicy");
    match (is_external(spec), spec.external_traffic_policy.as_deref()) {
        (false, Some(policy)) => {
            let detail = "may only be set for externally-accessible services";
            errors.push(FieldError::invalid(&policy_path, policy, detail));
        }
        (true, None) => errors.push(FieldError::required(&policy_path, "")),
        (true, Some(policy)) => errors.extend(one_of(&policy_path, policy, &["Cluster", "Local"])),
        (false, None) => {}
    }
    let port_path = path.child("healthCheckNodePort");
    match (needs_health_check(spec), spec.health_check_node_port.unwrap_or_default()) {
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(&port_path, port, detail));
        }
        (true, 0) => errors.push(FieldError::required(&port_path, "")),
        (true, port) => errors.extend(invalid_number(&port_path, port, names::port_number)),
    }
    errors
}

fn validate_internal_traffic(spec: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = spec.internal_traffic_policy.as_deref();
    let policy_path = path.child("internalTrafficPolicy");
    if matches!(type_of(spec), Type::ClusterIp | Type::NodePort | Type::LoadBalancer) {
        errors.extend(present(&policy_path, policy));
    }
    if let Some(policy) = policy {
        errors.extend(one_of(&policy_path, policy, &["Cluster", "Local"]));
    }
    if let Some(distribution) = spec.traffic_distribution.as_deref() {
        let known = &["PreferClose", "PreferSameNode", "PreferSameZone"];
        errors.extend(one_of(&path.child("trafficDistribution"), distribution, known));
    }
    errors
}

/// Upstream `ValidateLoadBalancerStatus`.
pub(super) fn validate_status(service: &Service) -> Vec<FieldError> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let path = FieldPath::new("status").child("loadBalancer").child("ingress");
    let is_balanced = service.spec.as_ref().is_some_and(|spec| type_of(spec) == Type::LoadBalancer);
    if !is_balanced && !ingress.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![FieldError::forbidden(&path, detail)];
    }
    let each = ingress.iter().enumerate();
    each.flat_map(|(index, ingress)| validate_ingress(ingress, &path.index(index))).collect()
}

fn validate_ingress(ingress: &LoadBalancerIngress, path: &FieldPath) -> Vec<FieldError> {
    let address = ingress.ip.as_deref().filter(|ip| !ip.is_empty());
    let mode_path = path.child("ipMode");
    let mut errors: Vec<_> =
        address.and_then(|address| ip(&path.child("ip"), address)).into_iter().collect();
    match (address, ingress.ip_mode.as_deref()) {
        (None, None) => {}
        (Some(_), None) => {
            errors.push(FieldError::required(&mode_path, "must be specified when `ip` is set"));
        }
        (None, Some(_)) => {
            let detail = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(&mode_path, detail));
        }
        (Some(_), Some(mode)) => errors.extend(one_of(&mode_path, mode, &["Proxy", "VIP"])),
    }
    if let Some(name) = ingress.hostname.as_deref().filter(|name| !name.is_empty()) {
        let path = path.child("hostname");
        errors.extend(invalid(&path, name, names::dns1123_subdomain(name)));
        if parse_ip(name).is_some() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path, to_value(&name), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_status_update};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Case {
        let port = json!({"spec": {"ports": [{"port": 80}]}});
        Case::of("services", json!({"metadata": {"name": "web", "namespace": "default"}}))
            .with(port)
            .with(json!({"spec": spec}))
    }

    #[test]
    fn types() {
        check(&service(json!({})), &[]);
        check(&service(json!({"ports": null})), &["spec.ports: Required value"]);
        check(&service(json!({"ports": null, "clusterIP": "None"})), &[]);
        check(
            &service(json!({"type": "Fast"})),
            &[
                "spec.type: Unsupported value: \"Fast\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        );
        check(
            &service(json!({"type": "NodePort", "clusterIP": "None"})),
            &[
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ],
        );
        check(&service(json!({"type": "ExternalName", "externalName": "a.b."})), &[]);
        check(
            &service(json!({"type": "ExternalName", "clusterIP": "10.0.0.1"})),
            &[
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.externalName: Required value",
            ],
        );
        check(
            &service(json!({})).with(json!({"metadata": {"name": "1a"}})),
            &["metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of"],
        );
    }

    #[test]
    fn ports() {
        check(
            &service(json!({"ports": [
                {"port": 0, "targetPort": "HTTP"}, {"name": "a", "port": 1, "protocol": "ICMP"},
                {"name": "a", "port": 2, "targetPort": 70000, "appProtocol": "-"},
            ]})),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: \"HTTP\": must contain only alpha-numeric",
                "spec.ports[0].targetPort: Invalid value: \"HTTP\": must contain at least one letter",
                "spec.ports[1].protocol: Unsupported value: \"ICMP\"",
                "spec.ports[2].name: Duplicate value: \"a\"",
                "spec.ports[2].targetPort: Invalid value: 70000: must be between 1 and 65535",
                "spec.ports[2].appProtocol: Invalid value: \"-\": name part must consist of",
            ],
        );
        check(
            &service(json!({"type": "NodePort", "ports": [
                {"name": "a", "port": 1, "nodePort": 30000}, {"name": "b", "port": 1, "nodePort": 30000},
            ]})),
            &[
                "spec.ports[1].nodePort: Duplicate value: 30000",
                "spec.ports[1]: Duplicate value: {",
            ],
        );
        check(
            &service(json!({"ports": [{"port": 1, "nodePort": 30000}]})),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        );
    }

    #[test]
    fn affinity_and_traffic() {
        check(
            &service(
                json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            ),
            &[
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400",
            ],
        );
        check(
            &service(json!({"sessionAffinity": "Cookie"})),
            &[
                "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
            ],
        );
        check(
            &service(
                json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Near", "trafficDistribution": "Far"}),
            ),
            &[
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                "spec.internalTrafficPolicy: Unsupported value: \"Near\": supported values: \"Cluster\", \"Local\"",
                "spec.trafficDistribution: Unsupported value: \"Far\": supported values: \"PreferClose\", \"PreferSameNode\", \"PreferSameZone\"",
            ],
        );
        check(
            &service(json!({"healthCheckNodePort": 30000})),
            &[
                "spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer'",
            ],
        );
    }

    #[test]
    fn addresses_and_load_balancers() {
        check(
            &service(json!({"externalIPs": ["x", "127.0.0.1"]})),
            &[
                "spec.externalIPs[0]: Invalid value: \"x\": must be a valid IP address",
                "spec.externalIPs[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            ],
        );
        check(
            &service(
                json!({"loadBalancerSourceRanges": [" 10.0.0.0/8 ", "x"], "loadBalancerClass": "a/b", "allocateLoadBalancerNodePorts": true}),
            ),
            &[
                "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.LoadBalancerSourceRanges[1]: Invalid value: \"x\": must be a valid CIDR value",
                "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
                "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            ],
        );
        let balanced = service(json!({"type": "LoadBalancer"}));
        let status = |ingress: Value| json!({"status": {"loadBalancer": {"ingress": [ingress]}}});
        check_status_update(&balanced, &balanced.with(status(json!({"ip": "1.2.3.4"}))), &[]);
        check_status_update(
            &balanced,
            &balanced.with(status(json!({"hostname": "1.2.3.4", "ipMode": "VIP"}))),
            &[
                "status.loadBalancer.ingress[0].ipMode: Forbidden: may not be specified when `ip` is not set",
                "status.loadBalancer.ingress[0].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ],
        );
        check_status_update(
            &service(json!({})),
            &service(json!({})).with(status(json!({"ip": "1.2.3.4"}))),
            &[
                "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'",
            ],
        );
    }
}
