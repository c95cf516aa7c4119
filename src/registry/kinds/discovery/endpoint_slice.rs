//! EndpointSlices: where a Service leads to.
//!
//! Follows upstream `ValidateEndpointSlice` (pkg/apis/discovery/validation) and
//! pkg/registry/discovery/endpointslice (v1.35).

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{canonical_ip, immutable, invalid, ip, ip_warning, one_of, parse_ip};
use crate::registry::kinds::core::addresses::{PROTOCOLS, validate_endpoint_ip};
use crate::registry::schema::{TypeRef, types};
use crate::registry::{BuiltIn, Column, KindFacts, Resource, cells};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};
use serde_json::Value;
use std::collections::BTreeSet;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;

/// More than this are counted, not shown.
const SHOWN_MAX: usize = 3;

/// What says who keeps the object, and who keeps most of them.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLERS: [&str; 2] =
    ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

impl Resource for EndpointSlice {
    const FACTS: KindFacts =
        KindFacts::built_in::<Self>(BuiltIn { singular: "endpointslice", ..BuiltIn::NAMESPACED });
    const SCHEMA: TypeRef = types::ENDPOINT_SLICE;
    const COUNTS_GENERATIONS: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::text("AddressType", "Kind of the addresses."),
        Column::text("Ports", "Ports of the endpoints."),
        Column::text("Endpoints", "Addresses of the endpoints."),
        Column::AGE,
    ];

    fn apply_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    /// The topology of older clients is not served by this version.
    fn prepare_create(&mut self) {
        for endpoint in &mut self.endpoints {
            endpoint.deprecated_topology = None;
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        if self.endpoints != old.endpoints {
            self.prepare_create();
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("addressType");
        let mut errors = Vec::new();
        match self.address_type.as_str() {
            "" => errors.push(FieldError::required(&path, "")),
            kind => errors.extend(one_of(&path, kind, &["FQDN", "IPv4", "IPv6"])),
        }
        let ports = self.ports.as_deref().unwrap_or_default();
        errors.extend(validate_ports(ports, &FieldPath::new("ports")));
        errors.extend(validate_endpoints(self, &FieldPath::new("endpoints")));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let path = FieldPath::new("addressType");
        let kind = |slice: &Self| slice.address_type.clone().into();
        immutable(&path, kind(self), &kind(old)).into_iter().collect()
    }

    fn is_new_generation(&self, old: &Self) -> bool {
        (&self.endpoints, &self.ports, &self.address_type, &self.metadata.labels)
            != (&old.endpoints, &old.ports, &old.address_type, &old.metadata.labels)
    }

    /// What the controllers write is as it should be.
    fn warnings(&self, old: Option<&Self>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && self.address_type == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let managed = self.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        if managed.is_some_and(|by| CONTROLLERS.contains(&by.as_str())) {
            return warnings;
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let path = FieldPath::new("endpoints").index(index).child("addresses");
            for (index, address) in endpoint.addresses.iter().enumerate() {
                warnings.extend(ip_warning(&path.index(index), address));
            }
        }
        warnings
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let ports = self.ports.iter().flatten().map(|port| match (port.port, &port.name) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "*".to_owned(),
        });
        let addresses = self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone());
        vec![
            cells::name(&self.metadata),
            self.address_type.clone().into(),
            shown(ports).into(),
            shown(addresses).into(),
            cells::age(&self.metadata, now),
        ]
    }
}

fn shown(mut all: impl Iterator<Item = String>) -> String {
    let first = all.by_ref().take(SHOWN_MAX).collect::<Vec<_>>().join(",");
    match all.count() {
        0 if first.is_empty() => "<unset>".to_owned(),
        0 => first,
        more => format!("{first} + {more} more..."),
    }
}

fn validate_ports(ports: &[EndpointPort], path: &FieldPath) -> Vec<FieldError> {
    if ports.len() > PORTS_MAX {
        return vec![FieldError::too_many(path, ports.len(), PORTS_MAX)];
    }
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            errors.extend(invalid(&path.child("name"), name, names::dns1123_label(name)));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        errors.extend(one_of(&path.child("protocol"), protocol, PROTOCOLS));
        if let Some(name) = port.app_protocol.as_deref() {
            errors.extend(invalid(&path.child("appProtocol"), name, names::qualified_name(name)));
        }
    }
    errors
}

fn validate_endpoints(slice: &EndpointSlice, path: &FieldPath) -> Vec<FieldError> {
    if slice.endpoints.len() > ENDPOINTS_MAX {
        return vec![FieldError::too_many(path, slice.endpoints.len(), ENDPOINTS_MAX)];
    }
    let each = slice.endpoints.iter().enumerate();
    each.flat_map(|(index, endpoint)| {
        validate_endpoint(endpoint, &slice.address_type, &path.index(index))
    })
    .collect()
}

fn validate_endpoint(endpoint: &Endpoint, kind: &str, path: &FieldPath) -> Vec<FieldError> {
    let addresses = path.child("addresses");
    let mut errors = Vec::new();
    match endpoint.addresses.len() {
        0 => errors.push(FieldError::required(&addresses, "must contain at least 1 address")),
        count if count > ADDRESSES_MAX => {
            errors.push(FieldError::too_many(&addresses, count, ADDRESSES_MAX));
        }
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        errors.extend(validate_address(address, kind, &addresses, index));
    }
    if let Some(node) = endpoint.node_name.as_deref() {
        errors.extend(invalid(&path.child("nodeName"), node, names::dns1123_subdomain(node)));
    }
    if let Some(name) = endpoint.hostname.as_deref() {
        errors.extend(invalid(&path.child("hostname"), name, names::dns1123_label(name)));
    }
    if let Some(hints) = &endpoint.hints {
        errors.extend(validate_hints(hints, &path.child("hints")));
    }
    errors
}

fn validate_address(
    address: &str,
    kind: &str,
    addresses: &FieldPath,
    index: usize,
) -> Vec<FieldError> {
    let path = addresses.index(index);
    let (malformed, is_right_family, family) = match kind {
        "IPv4" => (ip(&path, address), is_ipv4(address), "an IPv4"),
        "IPv6" => (canonical_ip(&path, address), !is_ipv4(address), "an IPv6"),
        "FQDN" => return validate_domain(address, &path),
        _ => return Vec::new(),
    };
    if let Some(malformed) = malformed {
        return vec![malformed];
    }
    let mut errors = Vec::new();
    if !is_right_family {
        let detail = format!("must be {family} address");
        errors.push(FieldError::invalid(addresses, address, detail));
    }
    errors.extend(validate_endpoint_ip(address, &path));
    errors
}

fn is_ipv4(address: &str) -> bool {
    parse_ip(address).is_some_and(|ip| ip.to_canonical().is_ipv4())
}

/// Upstream `IsFullyQualifiedDomainName`.
fn validate_domain(name: &str, path: &FieldPath) -> Vec<FieldError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        return vec![FieldError::invalid(path, name, problems.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![FieldError::invalid(path, name, detail)];
    }
    let labels = name.split('.');
    labels.flat_map(|label| invalid(path, label, names::dns1123_label(label))).collect()
}

fn validate_hints(hints: &EndpointHints, path: &FieldPath) -> Vec<FieldError> {
    let zones: Vec<_> = hints.for_zones.iter().flatten().map(|zone| zone.name.as_str()).collect();
    let nodes: Vec<_> = hints.for_nodes.iter().flatten().map(|node| node.name.as_str()).collect();
    let mut errors = Vec::new();
    let lists: [(&str, Vec<&str>, names::Rule); 2] =
        [("forZones", zones, names::label_value), ("forNodes", nodes, names::dns1123_subdomain)];
    for (field, list, rule) in lists {
        let path = path.child(field);
        if list.len() > HINTS_MAX {
            errors.push(FieldError::too_many(&path, list.len(), HINTS_MAX));
            return errors;
        }
        for (index, name) in list.iter().enumerate() {
            let path = path.index(index).child("name");
            if list[..index].contains(name) {
                errors.push(FieldError::duplicate(&path, *name));
            }
            errors.extend(invalid(&path, name, rule(name)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::{Case, check, check_update};
    use serde_json::{Value, json};

    fn slice(changes: Value) -> Case {
        Case::of(
            "endpointslices",
            json!({
                "metadata": {"name": "a", "namespace": "b"}, "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}],
            }),
        )
        .with(changes)
    }

    #[test]
    fn addresses_are_of_their_type() {
        check(&slice(json!({})), &[]);
        check(&slice(json!({"addressType": ""})), &["addressType: Required value"]);
        check(
            &slice(json!({"addressType": "IPX"})),
            &[
                "addressType: Unsupported value: \"IPX\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ],
        );
        check(
            &slice(
                json!({"endpoints": [{"addresses": []}, {"addresses": ["fd00::1"]}, {"addresses": ["x"]}]}),
            ),
            &[
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
                "endpoints[2].addresses[0]: Invalid value: \"x\": must be a valid IP address",
            ],
        );
        check(
            &slice(json!({"addressType": "IPv6", "endpoints": [{"addresses": ["FD00::1"]}]})),
            &[
                "endpoints[0].addresses[0]: Invalid value: \"FD00::1\": must be in canonical form (\"fd00::1\")",
            ],
        );
        check(
            &slice(
                json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.b."]}, {"addresses": ["a"]}]}),
            ),
            &[
                "endpoints[1].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments",
            ],
        );
    }

    #[test]
    fn ports_and_hints() {
        check(
            &slice(json!({"ports": [{"name": "a"}, {"name": "a", "protocol": "ICMP"}]})),
            &[
                "ports[1].name: Duplicate value: \"a\"",
                "ports[1].protocol: Unsupported value: \"ICMP\"",
            ],
        );
        let zone = json!({"name": "-"});
        check(
            &slice(
                json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": [zone, zone]}}]}),
            ),
            &[
                "endpoints[0].hints.forZones[0].name: Invalid value: \"-\": a valid label must be",
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"-\"",
                "endpoints[0].hints.forZones[1].name: Invalid value: \"-\": a valid label must be",
            ],
        );
        check_update(
            &slice(json!({})),
            &slice(json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}]})),
            &["addressType: Invalid value: \"IPv6\": field is immutable"],
        );
    }
}
