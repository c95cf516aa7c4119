//! EndpointSlices as those see them who write them: whose they are, and how they are told apart.

use super::service_pods::GENERATED_BASE_MAX;
use crate::api::ObjectKey;
use crate::client::Cache;
use crate::control::Queue;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The Service, or the Endpoints, that a slice is of. The only link that readers go by.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Who writes a slice.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

pub(super) const IPV4: &str = "IPv4";
pub(super) const IPV6: &str = "IPv6";

/// The Service or the Endpoints that a slice is of.
pub(super) fn owner_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = label(&slice.metadata, SERVICE_NAME).filter(|name| !name.is_empty())?;
    Some(ObjectKey { namespace: slice.metadata.namespace.clone(), name: name.to_owned() })
}

pub(super) fn is_managed_by(slice: &EndpointSlice, manager: &str) -> bool {
    label(&slice.metadata, MANAGED_BY) == Some(manager)
}

fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// What the names of the slices begin with that are of an object of this name.
pub(super) fn name_base(owner: &str) -> String {
    format!("{owner}-")
}

/// The slices of an object that `manager` writes and nobody is deleting. Their names begin with
/// that of the object, so that no others are looked through.
pub(super) fn slices_of(
    slices: &Cache<EndpointSlice>,
    owner: &ObjectKey,
    manager: &str,
) -> Vec<Arc<EndpointSlice>> {
    let Some(namespace) = owner.namespace.as_deref() else { return Vec::new() };
    let base = name_base(&owner.name);
    let start = base.get(..GENERATED_BASE_MAX).unwrap_or(&base);
    slices.list_beginning(namespace, start, |slice| {
        slice.metadata.deletion_timestamp.is_none()
            && is_managed_by(slice, manager)
            && label(&slice.metadata, SERVICE_NAME) == Some(&owner.name)
    })
}

/// Queues what a slice is, or was, of, when it changes and `manager` writes or wrote it.
pub(super) fn queue_owners_of_slices(
    queue: &Queue<ObjectKey>,
    slices: &Cache<EndpointSlice>,
    manager: &'static str,
) {
    let changed = queue.clone();
    slices.on_change(move |change| {
        let versions = [&change.old, &change.new].into_iter().flatten();
        let managed = versions.filter(|slice| is_managed_by(slice, manager));
        managed.filter_map(|slice| owner_key(slice)).for_each(|key| changed.add(&key));
    });
}

/// What the ports of a slice have in common with those of another, however they are ordered
/// (upstream `PortMapKey`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortsKey(Vec<(String, String, Option<i32>, Option<String>)>);

impl PortsKey {
    pub(super) fn of(ports: &[EndpointPort]) -> Self {
        let key = |port: &EndpointPort| {
            let name = port.name.clone().unwrap_or_default();
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (name, protocol, port.port, port.app_protocol.clone())
        };
        let mut keys: Vec<_> = ports.iter().map(key).collect();
        keys.sort();
        Self(keys)
    }
}

/// What makes an endpoint the one that was there before, whatever else has changed (upstream
/// `hashEndpoint`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    addresses: Vec<String>,
    hostname: String,
    /// Namespace and name of the pod.
    target: (String, String),
}

impl Identity {
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        let mut addresses = endpoint.addresses.clone();
        addresses.sort();
        let target = endpoint.target_ref.clone().unwrap_or_default();
        Self {
            addresses,
            hostname: endpoint.hostname.clone().unwrap_or_default(),
            target: (target.namespace.unwrap_or_default(), target.name.unwrap_or_default()),
        }
    }
}

/// Whether two endpoints of one [`Identity`] say the same, but for hints (upstream
/// `EndpointsEqualBeyondHash`).
pub(super) fn says_the_same(one: &Endpoint, other: &Endpoint) -> bool {
    let essence = |endpoint: &Endpoint| {
        let mut essence = Endpoint { hints: None, addresses: Vec::new(), ..endpoint.clone() };
        if let Some(target) = &mut essence.target_ref {
            target.resource_version = None;
        }
        essence.conditions.get_or_insert_default();
        essence
    };
    essence(one) == essence(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_ports_does_not_matter() {
        let ports = |value| -> Vec<EndpointPort> { serde_json::from_value(value).unwrap() };
        let one = ports(json!([{"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b"}]));
        let other = ports(json!([{"name": "b", "protocol": "TCP"}, {"name": "a", "port": 1}]));
        assert_eq!(PortsKey::of(&one), PortsKey::of(&other));
        assert_ne!(PortsKey::of(&one), PortsKey::of(&one[..1]));
        assert_ne!(PortsKey::of(&one[..1]), PortsKey::of(&[]));
    }

    #[test]
    fn an_endpoint_is_known_by_its_addresses_and_its_pod() {
        let endpoint = |value| -> Endpoint { serde_json::from_value(value).unwrap() };
        let pod = |version: &str, uid: &str| {
            json!({"kind": "Pod", "namespace": "n", "name": "p", "uid": uid,
                "resourceVersion": version})
        };
        let one = endpoint(json!({"addresses": ["10.0.0.1"], "targetRef": pod("1", "u"),
            "hints": {"forZones": [{"name": "z"}]}}));
        let later = endpoint(json!({"addresses": ["10.0.0.1"], "targetRef": pod("2", "u")}));
        assert_eq!(Identity::of(&one), Identity::of(&later));
        assert!(says_the_same(&one, &later));
        let again = endpoint(json!({"addresses": ["10.0.0.1"], "targetRef": pod("2", "v")}));
        assert_eq!(Identity::of(&one), Identity::of(&again));
        assert!(!says_the_same(&one, &again));
        let elsewhere = endpoint(json!({"addresses": ["10.0.0.2"], "targetRef": pod("1", "u")}));
        assert_ne!(Identity::of(&one), Identity::of(&elsewhere));
    }
}
