//! What the sandbox of a pod is to be: names, namespaces, cgroup, ports. Pure.

use super::resources::{pod_cgroup, pod_resources};
use crate::api::pod::is_sidecar;
use crate::kubelet::pod::BoundPod;
use crate::network::{HostPort, NamedPort, PodTraits, Protocol};
use crate::runtime::{NamespaceMode, SandboxConfig, SandboxNamespaces};
use k8s_openapi::api::core::v1::ContainerPort;
use std::collections::BTreeMap;

/// The kernel takes no longer host name.
const HOSTNAME_BYTES_MAX: usize = 63;

/// With the node's default runtime. `cgroup_root` is the node's own: the pod's cgroup is below it.
#[must_use]
pub fn sandbox(pod: &BoundPod, attempt: u32, cgroup_root: &str, node_name: &str) -> SandboxConfig {
    let spec = pod.spec();
    let namespace = |of_node: Option<bool>| match of_node {
        Some(true) => NamespaceMode::Node,
        _ => NamespaceMode::Pod,
    };
    let pid = match (spec.host_pid, spec.share_process_namespace) {
        (Some(true), _) => NamespaceMode::Node,
        (_, Some(true)) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    let sysctls = spec.security_context.iter().flat_map(|it| it.sysctls.iter().flatten());
    // Upstream sets no host name for pods on the node's network: they have the node's.
    let name = if pod.uses_node_network() { node_name.to_owned() } else { hostname(pod) };
    SandboxConfig {
        pod: pod.identity().clone(),
        attempt,
        hostname: name,
        namespaces: SandboxNamespaces {
            network: namespace(spec.host_network),
            pid,
            ipc: namespace(spec.host_ipc),
        },
        // Both `net/ipv4/x` and `net.ipv4.x` are written; the runtime knows the latter.
        sysctls: sysctls.map(|it| (it.name.replace('/', "."), it.value.clone())).collect(),
        cgroup: pod_cgroup(cgroup_root, pod),
        resources: pod_resources(pod),
        runtime_handler: String::new(),
        labels: BTreeMap::new(),
    }
}

/// The pod's own name for itself: upstream `GeneratePodHostNameAndDomain`
/// (pkg/kubelet/kubelet_pods.go, v1.35).
#[must_use]
pub fn hostname(pod: &BoundPod) -> String {
    let spec = pod.spec();
    let own = spec.hostname_override.as_deref().or(spec.hostname.as_deref());
    let name = own.filter(|name| !name.is_empty()).unwrap_or(pod.name());
    let cut = &name[..name.floor_char_boundary(HOSTNAME_BYTES_MAX)];
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// `web.shop.svc.cluster.local` for a pod with the subdomain `web`.
#[must_use]
pub fn domain(pod: &BoundPod, cluster_domain: &str) -> Option<String> {
    let spec = pod.spec();
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty())?;
    spec.hostname_override
        .is_none()
        .then(|| format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace()))
}

/// The ports of the node that lead to the pod. A pod on the node's own network needs none.
#[must_use]
pub fn host_ports(pod: &BoundPod) -> Vec<HostPort> {
    if pod.uses_node_network() {
        return Vec::new();
    }
    let containers = pod.init_containers().iter().chain(pod.containers());
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(host_port)
        .collect()
}

/// What network policies look at of the pod.
#[must_use]
pub fn pod_traits(pod: &BoundPod) -> PodTraits {
    // Of init containers only sidecars go on (upstream `podutil.FindPort`).
    let sidecars = pod.init_containers().iter().filter(|container| is_sidecar(container));
    let containers = pod.containers().iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone()?,
            protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
            number: u16::try_from(port.container_port).ok()?,
        })
    });
    PodTraits {
        uid: pod.uid().to_owned(),
        labels: pod.object().metadata.labels.clone().unwrap_or_default(),
        ports: named.collect(),
    }
}

fn host_port(port: &ContainerPort) -> Option<HostPort> {
    let host_ip = port.host_ip.as_deref().unwrap_or_default();
    Some(HostPort {
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        host_address: host_ip
            .parse()
            .ok()
            .filter(|address: &std::net::IpAddr| !address.is_unspecified()),
        host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
        container_port: u16::try_from(port.container_port).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(name: &str, spec: Value) -> BoundPod {
        let mut spec = spec;
        spec.as_object_mut().unwrap().entry("containers").or_insert(json!([{ "name": "a" }]));
        let metadata = json!({ "name": name, "namespace": "shop", "uid": "u1" });
        let object = json!({ "metadata": metadata, "spec": spec });
        BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap()
    }

    #[test]
    fn host_names_follow_the_spec_and_the_kernels_limit() {
        let long = "a".repeat(62) + "-tail";
        for (name, spec, hostname_, domain_) in [
            ("web", json!({}), "web", None),
            ("web", json!({ "hostname": "h" }), "h", None),
            ("web", json!({ "hostname": "h", "subdomain": "s" }), "h", Some("s.shop.svc.c.l")),
            ("web", json!({ "hostnameOverride": "o.x", "subdomain": "s" }), "o.x", None),
            (long.as_str(), json!({}), &long[..62], None),
        ] {
            let pod = pod(name, spec);
            assert_eq!(hostname(&pod), hostname_);
            assert_eq!(domain(&pod, "c.l").as_deref(), domain_);
        }
    }

    #[test]
    fn namespaces_are_the_pods_unless_the_node_s_are_asked_for() {
        let made = |spec| sandbox(&pod("web", spec), 3, "/k", "node-1");
        let plain = made(json!({}));
        assert_eq!((plain.attempt, plain.hostname.as_str()), (3, "web"));
        assert_eq!(plain.namespaces.network, NamespaceMode::Pod);
        assert_eq!(plain.namespaces.pid, NamespaceMode::Container);
        assert_eq!(
            made(json!({ "shareProcessNamespace": true })).namespaces.pid,
            NamespaceMode::Pod
        );
        let of_node = made(json!({ "hostNetwork": true, "hostPID": true, "hostIPC": true }));
        let node = NamespaceMode::Node;
        assert_eq!(of_node.namespaces, SandboxNamespaces { network: node, pid: node, ipc: node });
        assert_eq!(of_node.hostname, "node-1");
        let sysctls = json!({ "sysctls": [{ "name": "net/ipv4/ip_forward", "value": "1" }] });
        let made = made(json!({ "securityContext": sysctls }));
        assert_eq!(made.sysctls["net.ipv4.ip_forward"], "1");
    }

    #[test]
    fn host_ports_are_collected_from_all_containers() {
        let ports = json!([
            { "containerPort": 80, "hostPort": 8080 },
            { "containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1" },
            { "containerPort": 90 },
            { "containerPort": 70, "hostPort": 70, "hostIP": "0.0.0.0" },
        ]);
        let containers = json!([{ "name": "a", "ports": ports }]);
        let spec = json!({ "containers": containers });
        let rendered: Vec<_> = host_ports(&pod("web", spec.clone()))
            .iter()
            .map(|it| {
                let address = it.host_address.map_or("*".to_owned(), |ip| ip.to_string());
                format!("{address}:{}>{}/{}", it.host_port, it.container_port, it.protocol.as_str())
            })
            .collect();
        assert_eq!(rendered, ["*:8080>80/tcp", "127.0.0.1:53>53/udp", "*:70>70/tcp"]);
        let mut spec = spec;
        spec["hostNetwork"] = json!(true);
        assert!(host_ports(&pod("web", spec)).is_empty());
    }
}
