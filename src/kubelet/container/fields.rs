//! What a container may be told of its own pod: `fieldRef` and `resourceFieldRef`.
//!
//! Upstream `podFieldSelectorRuntimeValue` (pkg/kubelet/kubelet_pods.go), pkg/fieldpath and
//! `ExtractContainerResourceValue` (pkg/api/v1/resource/helpers.go), v1.35. Pure.

use super::ConfigError;
use crate::api::Quantity;
use crate::api::pod::amounts;
use crate::kubelet::pod::BoundPod;
use crate::stdx::quoted;
use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is known of a pod and its node beyond the pod's object.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub pod_addresses: &'a [IpAddr],
    pub node_addresses: &'a [IpAddr],
    /// What the node can give to pods: a container without a limit is told this.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// The value of `metadata.name`, `status.podIP`, `metadata.labels['app']` and so on.
///
/// # Errors
/// For a path that names no such field.
pub fn field(pod: &BoundPod, around: &Surroundings<'_>, path: &str) -> Result<String, ConfigError> {
    let metadata = &pod.object().metadata;
    if let Some((map, key)) = subscripted(path) {
        let map = match map {
            "metadata.annotations" => metadata.annotations.as_ref(),
            "metadata.labels" => metadata.labels.as_ref(),
            _ => return Err(ConfigError::BadField { path: path.to_owned() }),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let first =
        |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
    let all = |addresses: &[IpAddr]| {
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        texts.join(",")
    };
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" | "spec.host" => pod.spec().node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => pod.spec().service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(around.node_addresses),
        "status.hostIPs" => all(around.node_addresses),
        "status.podIP" => first(around.pod_addresses),
        "status.podIPs" => all(around.pod_addresses),
        _ => return Err(ConfigError::BadField { path: path.to_owned() }),
    })
}

/// `metadata.labels['app']` -> `metadata.labels` and `app`.
fn subscripted(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['").filter(|(map, _)| !map.is_empty())
}

/// A map as upstream's `FormatMap` writes it: `key="value"` lines, sorted.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let pairs = map.into_iter().flatten();
    let lines: Vec<_> = pairs.map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// The value of `limits.cpu` and so on in units of the divisor, rounded up.
///
/// # Errors
/// For a container or a resource that there is not.
pub fn resource(
    pod: &BoundPod,
    own: &Container,
    around: &Surroundings<'_>,
    selector: &ResourceFieldSelector,
) -> Result<String, ConfigError> {
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own,
        Some(name) => {
            let mut all = pod.containers().iter().chain(pod.init_containers());
            all.find(|container| container.name == name)
                .ok_or_else(|| ConfigError::NoContainer { name: name.to_owned() })?
        }
    };
    let unsupported = || ConfigError::BadResource { resource: selector.resource.clone() };
    let (side, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage");
    if !known && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let amount = match side {
        "requests" => amounts(resources.and_then(|it| it.requests.as_ref())).remove(name),
        "limits" => {
            let limit = amounts(resources.and_then(|it| it.limits.as_ref())).remove(name);
            // Huge pages are never overcommitted: there the absence of a limit means none.
            let fallback = around.allocatable.get(name).copied().filter(|_| known);
            limit.filter(|limit| !limit.is_zero()).or(fallback)
        }
        _ => return Err(unsupported()),
    };
    let amount = amount.unwrap_or(Quantity::ZERO);
    let divisor = selector.divisor.as_ref().map(Quantity::of).filter(|it| !it.is_zero());
    let divisor = divisor.unwrap_or_else(|| Quantity::decimal(1));
    let (amount, divisor) = match name {
        "cpu" => (amount.milli_units(), divisor.milli_units()),
        _ => (amount.units(), divisor.units()),
    };
    Ok((amount.max(0).unsigned_abs()).div_ceil(divisor.max(1).unsigned_abs()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;
    use std::sync::Arc;

    fn pod() -> BoundPod {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u1",
                "labels": { "app": "web", "tier": "a\"b\n" },
                "annotations": { "example.com/x": "y" },
            },
            "spec": {
                "nodeName": "n1", "serviceAccountName": "sa",
                "containers": [
                    { "name": "a", "resources": {
                        "requests": { "cpu": "250m", "memory": "64Mi" },
                        "limits": { "cpu": "1500m", "hugepages-2Mi": "4Mi" } } },
                    { "name": "b" },
                ],
            },
        }))
        .unwrap();
        BoundPod::read(Arc::new(pod)).unwrap()
    }

    fn around(allocatable: &BTreeMap<String, Quantity>) -> Surroundings<'_> {
        static POD: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 0, 7))];
        static NODE: [IpAddr; 2] = [
            IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 1)),
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ];
        Surroundings { pod_addresses: &POD, node_addresses: &NODE, allocatable }
    }

    #[test]
    fn fields_of_the_pod_and_its_node() {
        for (path, expected) in [
            ("metadata.name", Some("web")),
            ("metadata.namespace", Some("shop")),
            ("metadata.uid", Some("u1")),
            ("metadata.labels", Some("app=\"web\"\ntier=\"a\\\"b\\n\"")),
            ("metadata.labels['app']", Some("web")),
            ("metadata.labels['none']", Some("")),
            ("metadata.annotations['example.com/x']", Some("y")),
            ("spec.nodeName", Some("n1")),
            ("spec.serviceAccountName", Some("sa")),
            ("status.podIP", Some("10.42.0.7")),
            ("status.hostIP", Some("192.168.0.1")),
            ("status.hostIPs", Some("192.168.0.1,::1")),
            ("spec.containers", None),
            ("spec.x['y']", None),
        ] {
            let value = field(&pod(), &around(&BTreeMap::new()), path).ok();
            assert_eq!(value.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn resources_in_units_of_the_divisor() {
        let allocatable = [("cpu", "4"), ("memory", "8Gi")];
        let allocatable = allocatable.map(|(name, it)| (name.to_owned(), it.parse().unwrap()));
        let allocatable = BTreeMap::from(allocatable);
        for (container, resource, divisor, expected) in [
            ("", "requests.cpu", "", Some("1")),
            ("", "requests.cpu", "1m", Some("250")),
            ("", "limits.cpu", "1", Some("2")),
            ("", "requests.memory", "1Mi", Some("64")),
            ("", "requests.memory", "0", Some("67108864")),
            ("", "limits.memory", "1Gi", Some("8")),
            ("", "limits.hugepages-2Mi", "1Mi", Some("4")),
            ("b", "limits.cpu", "1", Some("4")),
            ("b", "requests.cpu", "1", Some("0")),
            ("b", "limits.hugepages-2Mi", "1", Some("0")),
            ("c", "limits.cpu", "1", None),
            ("", "limits.example.com/gpu", "1", None),
            ("", "cpu", "1", None),
        ] {
            let selector: ResourceFieldSelector = serde_json::from_value(json!({
                "containerName": container, "resource": resource, "divisor": divisor,
            }))
            .unwrap();
            let selector = ResourceFieldSelector {
                divisor: selector.divisor.filter(|divisor| !divisor.0.is_empty()),
                ..selector
            };
            let pod = pod();
            let value =
                super::resource(&pod, &pod.containers()[0], &around(&allocatable), &selector);
            assert_eq!(value.ok().as_deref(), expected, "{container} {resource} {divisor}");
        }
    }
}
