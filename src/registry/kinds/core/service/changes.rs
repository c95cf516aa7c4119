//! What an update of a Service keeps, and what it may not change.
//!
//! Follows upstream `normalizeClusterIPs` and `patchAllocatedValues`
//! (pkg/registry/core/service/storage), `dropTypeDependentFields` (its strategy) and
//! `ValidateServiceUpdate` (pkg/apis/core/validation), all v1.35.

use super::{Type, cluster_ips, is_external, is_headless, needs_health_check, type_of};
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::to_value;
use k8s_openapi::api::core::v1::ServiceSpec;
use std::collections::{BTreeMap, BTreeSet};

const UNCHANGEABLE: &str = "may not change once set";

/// Clients that know the older field only get the newer one filled in.
pub(super) fn complete_cluster_ips(spec: &mut ServiceSpec) {
    if cluster_ips(spec).is_empty() {
        spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
    }
}

/// Keeps what was given to the old Service and the new one says nothing about, and drops what was
/// copied along but means nothing for the new type.
pub(super) fn carry_over(spec: &mut ServiceSpec, old: &ServiceSpec) {
    align_cluster_ips(spec, old);
    keep_allocated(spec, old);
    drop_meaningless(spec, old);
}

fn align_cluster_ips(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if spec.cluster_ip == old.cluster_ip {
        if cluster_ips(spec).is_empty() {
            spec.cluster_ips.clone_from(&old.cluster_ips);
        }
    } else if spec.cluster_ips == old.cluster_ips {
        spec.cluster_ips = spec.cluster_ip.clone().map(|ip| vec![ip]);
    }
}

fn keep_allocated(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let (new_type, old_type) = (type_of(spec), type_of(old));
    if new_type.needs_cluster_ip() && old_type.needs_cluster_ip() {
        if spec.cluster_ip.is_none() {
            spec.cluster_ip.clone_from(&old.cluster_ip);
        }
        if spec.cluster_ips.is_none() {
            spec.cluster_ips.clone_from(&old.cluster_ips);
        }
        if spec.ip_families.is_none() {
            spec.ip_families.clone_from(&old.ip_families);
        }
        if spec.ip_family_policy.is_none() {
            spec.ip_family_policy.clone_from(&old.ip_family_policy);
        }
    }
    if is_given_node_ports(spec) && is_given_node_ports(old) {
        keep_node_ports(spec, old);
    }
    if needs_health_check(spec) && needs_health_check(old) {
        spec.health_check_node_port = spec.health_check_node_port.or(old.health_check_node_port);
    }
}

/// Upstream `needsNodePort` (pkg/registry/core/service/storage).
fn is_given_node_ports(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        Type::NodePort => true,
        Type::LoadBalancer => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// A port without a node port gets the one that the port of its name had, unless another port of
/// the new Service took it.
fn keep_node_ports(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let old_ports: BTreeMap<_, _> =
        old.ports.iter().flatten().map(|port| (&port.name, port.node_port)).collect();
    let used = node_ports(spec);
    for port in spec.ports.iter_mut().flatten().filter(|port| port.node_port.is_none()) {
        let known = old_ports.get(&port.name).copied().flatten();
        port.node_port = known.filter(|number| !used.contains(number));
    }
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i32> {
    spec.ports.iter().flatten().filter_map(|port| port.node_port).collect()
}

fn drop_meaningless(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let (new_type, old_type) = (type_of(spec), type_of(old));
    if old_type.needs_cluster_ip() && !new_type.needs_cluster_ip() {
        if (&spec.cluster_ip, &spec.cluster_ips) == (&old.cluster_ip, &old.cluster_ips) {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
        }
        spec.ip_families.take_if(|families| Some(&*families) == old.ip_families.as_ref());
        spec.ip_family_policy.take_if(|policy| Some(&*policy) == old.ip_family_policy.as_ref());
    }
    let has_old_ports = node_ports(spec).is_subset(&node_ports(old));
    if old_type.needs_node_port() && !new_type.needs_node_port() && has_old_ports {
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    if needs_health_check(old) && !needs_health_check(spec) {
        spec.health_check_node_port.take_if(|port| Some(*port) == old.health_check_node_port);
    }
    if old_type == Type::LoadBalancer && new_type != Type::LoadBalancer {
        let allocates = old.allocate_load_balancer_node_ports;
        spec.allocate_load_balancer_node_ports.take_if(|new| Some(*new) == allocates);
        let class = old.load_balancer_class.as_ref();
        spec.load_balancer_class.take_if(|new| Some(&*new) == class);
    }
    if is_external(old) && !is_external(spec) {
        let policy = old.external_traffic_policy.as_ref();
        spec.external_traffic_policy.take_if(|new| Some(&*new) == policy);
    }
}

/// What is wrong with going from the spec `old` to `new`.
pub(super) fn validate(new: &ServiceSpec, old: &ServiceSpec) -> Vec<FieldError> {
    let path = FieldPath::new("spec");
    let mut errors = Vec::new();
    let (new_type, old_type) = (type_of(new), type_of(old));
    if new_type != Type::ExternalName && old_type != Type::ExternalName {
        errors.extend(validate_cluster_ips(new, old, &path));
        errors.extend(validate_families(new, old, &path));
    }
    let both_balanced = new_type == Type::LoadBalancer && old_type == Type::LoadBalancer;
    if both_balanced && new.load_balancer_class != old.load_balancer_class {
        let class = to_value(&new.load_balancer_class);
        let path = path.child("loadBalancerClass");
        errors.push(FieldError::invalid(&path, class, UNCHANGEABLE));
    }
    let both_checked = needs_health_check(old) && needs_health_check(new);
    if both_checked && new.health_check_node_port != old.health_check_node_port {
        let path = path.child("healthCheckNodePort");
        errors.push(FieldError::forbidden(&path, "field is immutable"));
    }
    errors
}

fn is_single_stack(spec: &ServiceSpec) -> bool {
    spec.ip_family_policy.as_deref() == Some("SingleStack")
}

/// The first address stays; a second one may come, and go where the policy says so.
fn validate_cluster_ips(new: &ServiceSpec, old: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    if is_headless(new) && is_headless(old) {
        return Vec::new();
    }
    let (new_ips, old_ips) = (cluster_ips(new), cluster_ips(old));
    let ips_path = path.child("clusterIPs");
    let changed = |index: usize, detail: &str| {
        FieldError::invalid(&ips_path.index(index), to_value(&new_ips), detail)
    };
    if new_ips.len() == old_ips.len() {
        let pairs = new_ips.iter().zip(old_ips).enumerate();
        let different = pairs.filter(|(_, (new, old))| new != old);
        return different.map(|(index, _)| changed(index, UNCHANGEABLE)).collect();
    }
    let mut errors = Vec::new();
    if new_ips.is_empty() {
        errors.push(changed(0, "primary clusterIP can not be unset"));
    }
    if let (Some(new), Some(old)) = (new_ips.first(), old_ips.first())
        && new != old
    {
        errors.push(changed(0, UNCHANGEABLE));
    }
    if new_ips.len() < old_ips.len() && new_ips.len() == 1 && !is_single_stack(new) {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let policy = to_value(&new.ip_family_policy);
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    errors
}

fn validate_families(new: &ServiceSpec, old: &ServiceSpec, path: &FieldPath) -> Vec<FieldError> {
    if is_headless(new) || is_headless(old) {
        return Vec::new();
    }
    let new_families = new.ip_families.as_deref().unwrap_or_default();
    let old_families = old.ip_families.as_deref().unwrap_or_default();
    let first_path = path.child("ipFamilies").index(0);
    let changed = |detail: &str| FieldError::invalid(&first_path, to_value(&new_families), detail);
    if new_families.len() == old_families.len() {
        let pairs = new_families.iter().zip(old_families);
        return pairs.filter(|(new, old)| new != old).map(|_| changed(UNCHANGEABLE)).collect();
    }
    let mut errors = Vec::new();
    let is_released = new_families.len() < old_families.len();
    if is_released && cluster_ips(new).is_empty() {
        errors.push(changed("primary ipFamily can not be unset"));
    }
    if let (Some(new), Some(old)) = (new_families.first(), old_families.first())
        && new != old
    {
        errors.push(changed(UNCHANGEABLE));
    }
    if is_released && new_families.len() == 1 && !is_single_stack(new) {
        let detail = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        let policy = to_value(&new.ip_family_policy);
        errors.push(FieldError::invalid(&path.child("ipFamilyPolicy"), policy, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check_update};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Case {
        let given = json!({"spec": {
            "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": [{"name": "http", "port": 80}],
        }});
        Case::of("services", json!({"metadata": {"name": "web", "namespace": "default"}}))
            .with(given)
            .with(json!({"spec": spec}))
    }

    fn updated(old: &Case, new: &Case) -> Value {
        let mut object = new.decode();
        object.prepare_update(&*old.created());
        object.to_value()["spec"].clone()
    }

    #[test]
    fn what_was_given_is_kept() {
        let old = service(
            json!({"type": "NodePort", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
        );
        let new = service(json!({
            "type": "NodePort", "clusterIP": null, "clusterIPs": null, "ipFamilies": null,
            "ipFamilyPolicy": null, "ports": [{"name": "http", "port": 8080}],
        }));
        let spec = updated(&old, &new);
        assert_eq!(spec["clusterIPs"], json!(["10.43.0.1"]));
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        assert_eq!(spec["ports"][0]["nodePort"], 30080);
        check_update(&old, &new, &[]);
    }

    #[test]
    fn a_changed_type_drops_what_it_cannot_have() {
        let old = service(
            json!({"type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}),
        );
        let plain = old.with(json!({"spec": {"type": "ClusterIP"}}));
        let kept = old.with(json!({"spec": {
            "type": "ClusterIP", "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
        }}));
        for new in [plain, kept] {
            let spec = updated(&old, &new);
            assert_eq!(spec["ports"][0].get("nodePort"), None);
            assert_eq!(spec.get("externalTrafficPolicy"), None);
            assert_eq!(spec.get("allocateLoadBalancerNodePorts"), None);
            check_update(&old, &new, &[]);
        }
        let named = service(json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(updated(&old, &named).get("clusterIPs"), None);
        check_update(&old, &named, &[]);
    }

    #[test]
    fn the_first_address_stays() {
        let old = service(json!({}));
        check_update(
            &old,
            &service(json!({"clusterIP": "10.43.0.2"})),
            &["spec.clusterIPs[0]: Invalid value: [\"10.43.0.2\"]: may not change once set"],
        );
        let dual = service(json!({
            "clusterIPs": ["10.43.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
        }));
        check_update(&old, &dual, &[]);
        check_update(&dual, &old, &[]);
        check_update(
            &dual,
            &dual.with(json!({"spec": {"clusterIPs": ["10.43.0.1"], "ipFamilies": ["IPv4"]}})),
            &[
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
            ],
        );
    }

    #[test]
    fn the_class_of_a_load_balancer_stays() {
        let old = service(json!({"type": "LoadBalancer", "loadBalancerClass": "a/b"}));
        check_update(
            &old,
            &old.with(json!({"spec": {"loadBalancerClass": "a/c"}})),
            &["spec.loadBalancerClass: Invalid value: \"a/c\": may not change once set"],
        );
    }
}
