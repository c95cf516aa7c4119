//! Which pods a Service leads to, and to which of their ports: shared by those who write it down.
//!
//! Follows upstream staging/src/k8s.io/endpointslice/util and `FindPort` (v1.35).

use crate::api::ObjectKey;
use crate::api::pod::{is_ready, is_sidecar, is_terminal, node_name};
use crate::client::{Cache, Change, key_of};
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// On Services without a cluster address, and on what is written down about them.
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// When what is written down became so: the change of a pod or Service that it follows.
pub(super) const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// A random part of so many characters follows the name that others are made of, of which no more
/// is kept than leaves room for it (upstream `SimpleNameGenerator`).
pub(super) const GENERATED_BASE_MAX: usize = 58;

type Labels = BTreeMap<String, String>;

/// The labels of the pods that a Service leads to; `None` where it is for others to say where it
/// leads.
pub(super) fn selector(service: &Service) -> Option<&Labels> {
    let spec = service.spec.as_ref()?;
    spec.selector.as_ref().filter(|_| spec.type_.as_deref() != Some("ExternalName"))
}

pub(super) fn selects(selector: &Labels, metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    let has = |(name, value)| labels.is_some_and(|labels| labels.get(name) == Some(value));
    selector.iter().all(has)
}

/// Whether a Service has no address of its own (upstream `IsServiceIPSet`).
pub(super) fn is_headless(service: &Service) -> bool {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    matches!(address, None | Some("" | "None"))
}

/// Whether a pod can be reached at all: also one that is on its way out (upstream
/// `ShouldPodBeInEndpoints` with `includeTerminating`).
pub(super) fn can_be_reached(pod: &Pod) -> bool {
    !is_terminal(pod) && addresses(pod).next().is_some()
}

/// The addresses of a pod, the primary one first.
pub(super) fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> + '_ {
    let status = pod.status.as_ref();
    let all = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let only = status.and_then(|status| status.pod_ip.as_deref()).filter(|_| all.is_empty());
    let all = all.iter().map(|address| address.ip.as_str()).chain(only);
    all.filter_map(|address| address.parse::<IpAddr>().ok()).map(|address| address.to_canonical())
}

/// The name by which a pod is known below that of the Service (upstream `ShouldSetHostname`).
pub(super) fn hostname<'a>(pod: &'a Pod, service: &Service) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let is_below = spec.subdomain.is_some()
        && spec.subdomain == service.metadata.name
        && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.as_deref().filter(|hostname| is_below && !hostname.is_empty())
}

/// Where a pod listens for what comes to the port of a Service (upstream `FindPort`).
pub(super) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|it| is_sidecar(it));
    let containers: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let mut ports = containers.into_iter().flat_map(|container| container.ports.iter().flatten());
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let found = ports.find(|candidate| {
        candidate.name.as_ref() == Some(name)
            && protocol(&candidate.protocol) == protocol(&port.protocol)
    });
    found.map(|found| found.container_port)
}

/// The Services to look at when a pod changes (upstream `GetServicesToUpdateOnPodChange`).
pub(super) fn concerned(services: &Cache<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let reachable = |pod: &Option<Arc<Pod>>| pod.clone().filter(|pod| can_be_reached(pod));
    let (old, new) = (reachable(&change.old), reachable(&change.new));
    let (old, new) = (old.as_deref(), new.as_deref());
    let Some(namespace) = change.key.namespace.as_deref() else { return Vec::new() };
    let labels = |pod: Option<&Pod>| pod.and_then(|pod| pod.metadata.labels.clone());
    let has_changed = old.map(Reach::of) != new.map(Reach::of);
    if !has_changed && labels(old) == labels(new) {
        return Vec::new();
    }
    let is_of = |pod: Option<&Pod>, selector: &Labels| {
        pod.is_some_and(|pod| selects(selector, &pod.metadata))
    };
    let concerned = services.list_where(namespace, |service| {
        selector(service).is_some_and(|selector| {
            let (was, is) = (is_of(old, selector), is_of(new, selector));
            was != is || (has_changed && is)
        })
    });
    concerned.iter().map(|service| key_of(&service.metadata)).collect()
}

/// What of a pod makes a difference to those who reach it.
#[derive(Debug, PartialEq)]
struct Reach {
    addresses: Vec<IpAddr>,
    node: Option<String>,
    is_ready: bool,
    is_leaving: bool,
}

impl Reach {
    fn of(pod: &Pod) -> Self {
        Self {
            addresses: addresses(pod).collect(),
            node: node_name(pod).map(str::to_owned),
            is_ready: is_ready(pod),
            is_leaving: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(port: Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.7", "selector": {"app": "web"}, "ports": [port]},
        }))
        .unwrap()
    }

    fn pod(spec: Value) -> Pod {
        let metadata = json!({"name": "a", "namespace": "default"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[track_caller]
    fn check_port(port: Value, expected: Option<i32>) {
        let pod = pod(json!({
            "containers": [{"name": "c", "ports": [
                {"name": "http", "containerPort": 8080, "protocol": "TCP"},
                {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
            ]}],
            "initContainers": [
                {"name": "once", "ports": [{"name": "gone", "containerPort": 1}]},
                {"name": "aside", "restartPolicy": "Always",
                    "ports": [{"name": "metrics", "containerPort": 9090}]},
            ],
        }));
        let service = service(port);
        let port = &service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
        assert_eq!(target_port(&pod, port), expected, "{port:?}");
    }

    #[test]
    fn ports_are_found_by_name_and_protocol() {
        check_port(json!({"port": 80, "protocol": "TCP"}), Some(80));
        check_port(json!({"port": 80, "protocol": "TCP", "targetPort": 8000}), Some(8000));
        check_port(json!({"port": 80, "protocol": "TCP", "targetPort": "http"}), Some(8080));
        check_port(json!({"port": 53, "protocol": "UDP", "targetPort": "dns"}), Some(5353));
        check_port(json!({"port": 53, "protocol": "TCP", "targetPort": "dns"}), None);
        check_port(json!({"port": 80, "protocol": "TCP", "targetPort": "metrics"}), Some(9090));
        check_port(json!({"port": 80, "protocol": "TCP", "targetPort": "gone"}), None);
    }

    #[test]
    fn a_hostname_counts_below_its_own_service() {
        let service = service(json!({"port": 80}));
        let named = |subdomain: &str| {
            let pod = pod(json!({"containers": [], "hostname": "a", "subdomain": subdomain}));
            hostname(&pod, &service).map(str::to_owned)
        };
        assert_eq!(named("web"), Some("a".to_owned()));
        assert_eq!(named("other"), None);
        assert_eq!(hostname(&pod(json!({"containers": [], "hostname": "a"})), &service), None);
    }

    #[test]
    fn who_has_ended_or_has_no_address_cannot_be_reached() {
        let with = |status: Value| {
            let mut pod = pod(json!({"containers": []}));
            pod.status = serde_json::from_value(status).unwrap();
            can_be_reached(&pod)
        };
        assert!(with(json!({"phase": "Running", "podIP": "10.42.0.2"})));
        assert!(with(json!({"phase": "Pending", "podIPs": [{"ip": "10.42.0.2"}]})));
        assert!(!with(json!({"phase": "Running"})));
        assert!(!with(json!({"phase": "Succeeded", "podIP": "10.42.0.2"})));
    }
}
