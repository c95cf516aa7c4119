//! What is filled in for Pods, but not for the templates of workloads.
//!
//! Follows upstream `SetDefaults_Pod` (pkg/apis/core/v1/defaults.go, v1.35).

use super::podspec;
use crate::api::pod;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};

pub(super) fn apply(pod: &mut Pod) {
    let spec = pod.spec.get_or_insert_default();
    podspec::apply_defaults(spec);
    spec.containers.iter_mut().for_each(request_limits);
    spec.init_containers.iter_mut().flatten().for_each(request_limits);
    default_pod_limits(spec);
    default_pod_requests(spec);
    spec.enable_service_links.get_or_insert(true);
    if spec.host_network == Some(true) {
        default_host_ports(spec.containers.iter_mut());
        default_host_ports(spec.init_containers.iter_mut().flatten());
    }
    pod.status.get_or_insert_default();
    default_status(pod);
}

/// What is limited but not asked for is asked for up to its limit.
fn request_limits(container: &mut Container) {
    let resources = container.resources.get_or_insert_default();
    let Some(limits) = &resources.limits else {
        return;
    };
    let requests = resources.requests.get_or_insert_default();
    for (name, limit) in limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
}

/// A pod that has amounts as a whole is limited in huge pages to what its containers are.
fn default_pod_limits(spec: &mut PodSpec) {
    let is_set = |resources: &ResourceRequirements| {
        resources.limits.is_some() || resources.requests.is_some()
    };
    if !spec.resources.as_ref().is_some_and(is_set) {
        return;
    }
    let containers = pod::container_limits(spec);
    let resources = spec.resources.get_or_insert_default();
    for (name, limit) in containers {
        let is_requested = resources.requests.iter().any(|requests| requests.contains_key(&name));
        if name.starts_with("hugepages-") && !is_requested {
            let limits = resources.limits.get_or_insert_default();
            limits.entry(name).or_insert_with(|| limit.to_field());
        }
    }
}

/// A pod that is limited as a whole asks for what its containers ask for, or else its limits.
fn default_pod_requests(spec: &mut PodSpec) {
    let containers = pod::container_requests(spec);
    let Some(resources) = &mut spec.resources else {
        return;
    };
    let Some(limits) = resources.limits.clone() else {
        return;
    };
    let mut requests = resources.requests.take().unwrap_or_default();
    for (name, amount) in containers {
        if matches!(name.as_str(), "cpu" | "memory") {
            requests.entry(name).or_insert_with(|| amount.to_field());
        }
    }
    for (name, limit) in limits {
        if pod::is_pod_level_resource(&name) {
            requests.entry(name).or_insert(limit);
        }
    }
    resources.requests = Some(requests).filter(|requests| !requests.is_empty());
}

/// On the network of the host, a container's port is the host's.
fn default_host_ports<'a>(containers: impl Iterator<Item = &'a mut Container>) {
    for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
        if port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

fn default_status(pod: &mut Pod) {
    let status = pod.status.get_or_insert_default();
    // The first of the addresses is repeated in the older field (upstream
    // Convert_core_PodStatus_To_v1_PodStatus).
    if let Some(first) = status.pod_ips.as_ref().and_then(|ips| ips.first()) {
        status.pod_ip = Some(first.ip.clone());
    } else if let Some(ip) = status.pod_ip.clone().filter(|ip| !ip.is_empty()) {
        status.pod_ips = Some(vec![k8s_openapi::api::core::v1::PodIP { ip }]);
    }
    let lists = [
        &mut status.init_container_statuses,
        &mut status.container_statuses,
        &mut status.ephemeral_container_statuses,
    ];
    for container in lists.into_iter().flatten().flatten() {
        default_container_status(container);
    }
}

fn default_container_status(container: &mut ContainerStatus) {
    podspec::round_up(container.allocated_resources.as_mut());
    if let Some(resources) = &mut container.resources {
        podspec::round_up(resources.limits.as_mut());
        podspec::round_up(resources.requests.as_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, pointer: &str, expected: Value) {
        let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        apply(&mut pod);
        let value = serde_json::to_value(&pod).unwrap();
        assert_eq!(value["spec"].pointer(pointer), Some(&expected), "{value:#}");
        let before = pod.clone();
        apply(&mut pod);
        assert_eq!(pod, before, "defaults settle at once");
    }

    #[test]
    fn limits_are_requested() {
        check(
            json!({"containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"},
            }}]}),
            "/containers/0/resources/requests",
            json!({"cpu": "500m", "memory": "1Gi"}),
        );
        check(json!({"containers": []}), "/enableServiceLinks", json!(true));
    }

    #[test]
    fn ports_on_the_host_network_are_host_ports() {
        check(
            json!({"hostNetwork": true, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}),
            "/containers/0/ports/0",
            json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"}),
        );
    }

    #[test]
    fn a_pod_limited_as_a_whole_asks_for_what_its_containers_ask() {
        check(
            json!({
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
            }),
            "/resources/requests",
            json!({"cpu": "1", "memory": "1Gi"}),
        );
        check(
            json!({
                "containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "2Mi"}}}],
                "resources": {"limits": {"cpu": "2"}},
            }),
            "/resources",
            json!({
                "limits": {"cpu": "2", "hugepages-2Mi": "2Mi"},
                "requests": {"cpu": "2", "hugepages-2Mi": "2Mi"},
            }),
        );
    }
}
