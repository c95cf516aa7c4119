//! The layout of Endpoints: which addresses and ports are written together, and in which order.
//!
//! Follows upstream `RepackSubsets` (pkg/api/v1/endpoints/util.go, v1.35). Where upstream orders by
//! hashes, this orders by what is there.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};
use std::collections::BTreeMap;

/// Two addresses are one where they are equal and of the same object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AddressKey {
    ip: String,
    uid: Option<String>,
}

impl AddressKey {
    fn of(address: &EndpointAddress) -> Self {
        let uid = address.target_ref.as_ref().and_then(|target| target.uid.clone());
        Self { ip: address.ip.clone(), uid }
    }
}

/// `None` for an address without ports.
type PortKey = Option<(String, String, i32, Option<String>)>;

fn key_of_port(port: &EndpointPort) -> PortKey {
    let name = port.name.clone().unwrap_or_default();
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    Some((name, protocol, port.port, port.app_protocol.clone()))
}

/// Whether each address is ready.
type Readiness = BTreeMap<AddressKey, bool>;

/// The same addresses and ports in the one layout that they have: ports with the same addresses
/// together, everything in order. What is said to be ready and not ready is not.
pub(super) fn repack(subsets: &[EndpointSubset]) -> Vec<EndpointSubset> {
    let mut addresses: BTreeMap<AddressKey, EndpointAddress> = BTreeMap::new();
    let mut ports: BTreeMap<PortKey, Option<EndpointPort>> = BTreeMap::new();
    let mut by_port: BTreeMap<PortKey, Readiness> = BTreeMap::new();
    for subset in subsets {
        let own = subset.ports.as_deref().unwrap_or_default();
        let keys: Vec<PortKey> = match own {
            [] => vec![None],
            own => own.iter().map(key_of_port).collect(),
        };
        ports.extend(keys.iter().cloned().zip(own.iter().cloned().map(Some).chain([None])));
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, is_ready) in ready.chain(not_ready) {
            let key = AddressKey::of(address);
            addresses.entry(key.clone()).or_insert_with(|| address.clone());
            for port in &keys {
                let known = by_port.entry(port.clone()).or_default();
                *known.entry(key.clone()).or_insert(is_ready) &= is_ready;
            }
        }
    }
    let mut together: BTreeMap<Readiness, Vec<PortKey>> = BTreeMap::new();
    for (port, readiness) in by_port {
        together.entry(readiness).or_default().push(port);
    }
    let subset = |(readiness, keys): (Readiness, Vec<PortKey>)| {
        let pick = |wanted: bool| -> Option<Vec<EndpointAddress>> {
            let keys = readiness.iter().filter(|(_, is_ready)| **is_ready == wanted);
            let picked: Vec<_> = keys.map(|(key, _)| addresses[key].clone()).collect();
            (!picked.is_empty()).then_some(picked)
        };
        let ports: Vec<_> = keys.iter().filter_map(|key| ports[key].clone()).collect();
        EndpointSubset {
            addresses: pick(true),
            not_ready_addresses: pick(false),
            ports: (!ports.is_empty()).then_some(ports),
        }
    };
    together.into_iter().map(subset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(subsets: Value, expected: Value) {
        let subsets: Vec<EndpointSubset> = serde_json::from_value(subsets).unwrap();
        let repacked = repack(&subsets);
        assert_eq!(json!(repacked), expected);
        assert_eq!(repack(&repacked), repacked, "it is as it is then");
    }

    fn subset(ip: &str, port: i32) -> Value {
        json!({"addresses": [{"ip": ip}], "ports": [{"port": port, "protocol": "TCP"}]})
    }

    #[test]
    fn ports_with_the_same_addresses_are_together() {
        let (http, https) =
            (json!({"port": 80, "protocol": "TCP"}), json!({"port": 443, "protocol": "TCP"}));
        check(
            json!([
                subset("10.0.0.2", 80),
                subset("10.0.0.1", 80),
                subset("10.0.0.1", 443),
                subset("10.0.0.2", 443)
            ]),
            json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [http, https]}]),
        );
        check(
            json!([subset("10.0.0.2", 80), subset("10.0.0.1", 80), subset("10.0.0.1", 443)]),
            json!([
                {"addresses": [{"ip": "10.0.0.1"}], "ports": [https]},
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [http]},
            ]),
        );
    }

    #[test]
    fn what_is_not_ready_anywhere_is_not_ready() {
        let mut not_ready = json!({"ports": [{"port": 80, "protocol": "TCP"}]});
        not_ready["notReadyAddresses"] = json!([{"ip": "10.0.0.1"}]);
        check(json!([subset("10.0.0.1", 80), not_ready]), json!([not_ready]));
    }

    #[test]
    fn addresses_without_ports_are_kept() {
        check(
            json!([{"addresses": [{"ip": "10.0.0.2"}]}, {"addresses": [{"ip": "10.0.0.1"}]}]),
            json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}]),
        );
    }
}
