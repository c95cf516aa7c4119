//! What a slice says of one pod of a Service, and what all slices of a Service have in common.
//!
//! Follows upstream staging/src/k8s.io/endpointslice/utils.go (v1.35).

use super::super::endpoint_slices::{IPV4, IPV6, MANAGED_BY, SERVICE_NAME, name_base};
use super::super::service_pods::{HEADLESS_LABEL, addresses, hostname, is_headless, target_port};
use crate::api::owner::controller_reference;
use crate::api::pod::{is_ready, node_name};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// What these slices are [managed by](MANAGED_BY).
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// Labels that follow from what a slice is, whatever the Service says.
const RESERVED: &[&str] = &[SERVICE_NAME, MANAGED_BY, HEADLESS_LABEL];

/// The families of the slices of a Service (upstream `getAddressTypesForService`).
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let spec = service.spec.clone().unwrap_or_default();
    let named = spec.ip_families.unwrap_or_default();
    let families: Vec<_> =
        [IPV4, IPV6].into_iter().filter(|family| named.iter().any(|name| name == family)).collect();
    if !families.is_empty() {
        return families;
    }
    match spec.cluster_ip.as_deref() {
        Some("None" | "") | None => vec![IPV4, IPV6],
        Some(address) if address.contains(':') => vec![IPV6],
        Some(_) => vec![IPV4],
    }
}

/// What a slice says of a pod; `None` where it has no address of this family.
pub(super) fn endpoint(
    service: &Service,
    pod: &Pod,
    zone: Option<&str>,
    family: &str,
) -> Option<Endpoint> {
    let is_of_family = |address: &std::net::IpAddr| address.is_ipv4() == (family == IPV4);
    let addresses: Vec<_> =
        addresses(pod).filter(is_of_family).map(|address| address.to_string()).collect();
    if addresses.is_empty() {
        return None;
    }
    let (serving, terminating) = (is_ready(pod), pod.metadata.deletion_timestamp.is_some());
    Some(Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_unready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service).map(str::to_owned),
        node_name: node_name(pod).map(str::to_owned),
        zone: zone.filter(|zone| !zone.is_empty()).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// Whether also pods that are not ready are to be used.
pub(super) fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// The ports of a Service as this pod has them. A port that it does not have is left out.
pub(super) fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    found.collect()
}

/// A slice of the Service without endpoints.
pub(super) fn template(service: &Service, family: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(name_base(name)),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Vec::new(),
        ports: Some(ports),
    }
}

/// Those of the Service, and the reserved ones (upstream `setEndpointSliceLabels`).
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|name, _| !RESERVED.contains(&name.as_str()));
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}
