//! Endpoints: the older form of EndpointSlices.
//!
//! Follows upstream `ValidateEndpoints` (pkg/apis/core/validation, v1.35).

use super::addresses::{PROTOCOLS, validate_endpoint_ip};
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{invalid, invalid_number, ip, ip_warning, one_of};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::Value;
use std::borrow::Cow;

/// What says who keeps the object, and who keeps most of them.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

/// More addresses than this are counted, not shown.
const SHOWN_MAX: usize = 3;

impl Resource for Endpoints {
    const FACTS: KindFacts = KindFacts::built_in::<Self>(BuiltIn {
        singular: "endpoints",
        short_names: &[Cow::Borrowed("ep")],
        ..BuiltIn::NAMESPACED
    });
    const SCHEMA: TypeRef = types::ENDPOINTS;
    const DEPRECATION: Option<&'static str> =
        Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice");
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("Endpoints", "Addresses and ports that are ready."),
        Column::AGE,
    ];
    const CREATES_ON_UPDATE: bool = true;

    fn apply_defaults(&mut self) {
        self.subsets.take_if(|subsets| subsets.is_empty());
        for subset in self.subsets.iter_mut().flatten() {
            for port in subset.ports.iter_mut().flatten() {
                port.protocol.take_if(|protocol| protocol.is_empty());
                port.protocol.get_or_insert_with(|| "TCP".to_owned());
            }
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("subsets");
        let subsets = self.subsets.iter().flatten().enumerate();
        subsets.flat_map(|(index, subset)| validate_subset(subset, &path.index(index))).collect()
    }

    /// What the controller writes is as it should be.
    fn warnings(&self, _old: Option<&Self>) -> Vec<String> {
        let managed = self.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        if managed.is_some_and(|by| by == CONTROLLER) {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let path = FieldPath::new("subsets").index(index);
            let lists = [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ];
            for (name, list) in lists {
                for (index, address) in list.iter().flatten().enumerate() {
                    let path = path.child(name).index(index).child("ip");
                    warnings.extend(ip_warning(&path, &address.ip));
                }
            }
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cells::name(&self.metadata),
            addresses(self.subsets.as_deref().unwrap_or_default()).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn addresses(subsets: &[EndpointSubset]) -> String {
    let mut all = subsets.iter().flat_map(|subset| {
        let addresses = subset.addresses.iter().flatten();
        let ports = subset.ports.as_deref().unwrap_or_default();
        match ports {
            [] => addresses.map(|address| address.ip.clone()).collect::<Vec<_>>(),
            ports => ports
                .iter()
                .flat_map(|port| addresses.clone().map(|address| join(&address.ip, port.port)))
                .collect(),
        }
    });
    if subsets.is_empty() {
        return cells::NONE.to_owned();
    }
    let shown: Vec<_> = all.by_ref().take(SHOWN_MAX).collect();
    match all.count() {
        0 => shown.join(","),
        more => format!("{} + {more} more...", shown.join(",")),
    }
}

fn join(ip: &str, port: i32) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn validate_subset(subset: &EndpointSubset, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let lists =
        [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
    if lists.iter().all(|(_, list)| list.as_ref().is_none_or(|list| list.is_empty())) {
        let detail = "must specify `addresses` or `notReadyAddresses`";
        errors.push(FieldError::required(path, detail));
    }
    for (field, list) in lists {
        for (index, address) in list.iter().flatten().enumerate() {
            errors.extend(validate_address(address, &path.child(field).index(index)));
        }
    }
    let ports = subset.ports.as_deref().unwrap_or_default();
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        if ports.len() > 1 && port.name.as_ref().is_none_or(|name| name.is_empty()) {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        errors.extend(validate_port(port, &path));
    }
    errors
}

fn validate_address(address: &EndpointAddress, path: &FieldPath) -> Vec<FieldError> {
    let ip_path = path.child("ip");
    let mut errors: Vec<_> = ip(&ip_path, &address.ip).into_iter().collect();
    if let Some(hostname) = address.hostname.as_deref().filter(|name| !name.is_empty()) {
        errors.extend(invalid(&path.child("hostname"), hostname, names::dns1123_label(hostname)));
    }
    if let Some(node) = address.node_name.as_deref() {
        errors.extend(invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node)));
    }
    errors.extend(validate_endpoint_ip(&address.ip, &ip_path));
    errors
}

fn validate_port(port: &EndpointPort, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
        errors.extend(invalid(&path.child("name"), name, names::dns1123_label(name)));
    }
    errors.extend(invalid_number(&path.child("port"), port.port, names::port_number));
    let protocol = port.protocol.as_deref().unwrap_or_default();
    errors.extend(one_of(&path.child("protocol"), protocol, PROTOCOLS));
    if let Some(name) = port.app_protocol.as_deref() {
        errors.extend(invalid(&path.child("appProtocol"), name, names::qualified_name(name)));
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check};
    use serde_json::{Value, json};

    fn endpoints(subset: Value) -> Case {
        Case::of(
            "endpoints",
            json!({"metadata": {"name": "a", "namespace": "b"}, "subsets": [subset]}),
        )
    }

    #[test]
    fn subsets() {
        check(&endpoints(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]})), &[]);
        check(
            &endpoints(
                json!({"ports": [{"port": 80}, {"port": 0, "name": "A", "protocol": "ICMP"}]}),
            ),
            &[
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[0].ports[0].name: Required value",
                "subsets[0].ports[1].name: Invalid value: \"A\": a lowercase RFC 1123 label",
                "subsets[0].ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "subsets[0].ports[1].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        );
        check(
            &endpoints(
                json!({"notReadyAddresses": [{"ip": "127.0.0.1", "hostname": "A", "nodeName": "-"}]}),
            ),
            &[
                "subsets[0].notReadyAddresses[0].hostname: Invalid value: \"A\": a lowercase RFC 1123 label",
                "subsets[0].notReadyAddresses[0].nodeName: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
                "subsets[0].notReadyAddresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range",
            ],
        );
    }

    #[test]
    fn three_addresses_are_shown() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let shown = |subset: Value| endpoints(subset).decode().row(now)[1].clone();
        let addresses: Vec<_> =
            (1..=5).map(|last| json!({"ip": format!("10.0.0.{last}")})).collect();
        assert_eq!(
            shown(json!({"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]})),
            "[fd00::1]:80"
        );
        assert_eq!(
            shown(json!({"addresses": addresses})),
            "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more..."
        );
    }
}
