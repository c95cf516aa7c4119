//! The endpoints of one port of a Service, out of all its slices.
//!
//! Upstream: `EndpointSliceCache` (pkg/proxy/endpointslicecache.go, v1.35).

use super::element::Family;
use crate::network::Protocol;
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where a Service may send packets, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// It is on this node.
    pub(super) is_local: bool,
    pub(super) is_ready: bool,
    /// It is ready but for its being about to end.
    pub(super) is_serving: bool,
    pub(super) is_terminating: bool,
    /// Zones and nodes that it is meant for, where somebody has said so.
    pub(super) zones: Vec<String>,
    pub(super) nodes: Vec<String>,
}

/// Which port of which Service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Empty for the only port of a Service.
    pub(super) port: &'a str,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
    /// This node.
    pub(super) node: &'a str,
}

/// The endpoints of a port, in the order of their addresses. One that is in two slices, as it may be
/// for a moment, counts once.
pub(super) fn of_port<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    wanted: &Wanted<'_>,
) -> Vec<Endpoint> {
    let mut found: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for slice in slices {
        for port in numbers(slice, wanted) {
            for endpoint in &slice.endpoints {
                let Some(endpoint) = parse(endpoint, port, wanted) else { continue };
                match found.get_mut(&endpoint.address) {
                    Some(known) if rank(known) >= rank(&endpoint) => {}
                    Some(known) => *known = endpoint,
                    None => {
                        found.insert(endpoint.address, endpoint);
                    }
                }
            }
        }
    }
    found.into_values().collect()
}

/// Which of two statements about one endpoint is believed.
fn rank(endpoint: &Endpoint) -> (bool, bool, bool) {
    (endpoint.is_local, endpoint.is_ready, endpoint.is_serving)
}

/// The numbers that the port has in a slice.
fn numbers(slice: &EndpointSlice, wanted: &Wanted<'_>) -> Vec<u16> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let number = |port: &k8s_openapi::api::discovery::v1::EndpointPort| {
        let name = port.name.as_deref()?;
        let protocol = port.protocol.as_deref().map_or(Some(Protocol::Tcp), Protocol::parse)?;
        let number = port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        number.filter(|_| name == wanted.port && protocol == wanted.protocol)
    };
    ports.iter().filter_map(number).collect()
}

fn parse(endpoint: &SliceEndpoint, port: u16, wanted: &Wanted<'_>) -> Option<Endpoint> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    if Family::of(address) != wanted.family {
        return None;
    }
    let conditions = endpoint.conditions.as_ref();
    let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let is_serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
    let is_terminating =
        conditions.and_then(|conditions| conditions.terminating).unwrap_or_default();
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    Some(Endpoint {
        address: SocketAddr::new(address, port),
        is_local: endpoint.node_name.as_deref() == Some(wanted.node),
        is_ready,
        is_serving,
        is_terminating,
        zones: zones.iter().map(|zone| zone.name.clone()).collect(),
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn slice(value: &Value) -> EndpointSlice {
        let mut slice = json!({
            "metadata": {"name": "s", "namespace": "default"},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [],
        });
        slice.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(slice).unwrap()
    }

    /// `expected`: an address each, with what is told of it.
    #[track_caller]
    fn check(slices: &[Value], expected: &[&str]) {
        let slices: Vec<_> = slices.iter().map(slice).collect();
        let wanted =
            Wanted { port: "", protocol: Protocol::Tcp, family: Family::Ipv4, node: "here" };
        let found: Vec<_> = of_port(&slices, &wanted).iter().map(describe).collect();
        assert_eq!(found, expected);
    }

    fn describe(endpoint: &Endpoint) -> String {
        let flags = [
            (endpoint.is_local, " local"),
            (endpoint.is_ready, " ready"),
            (endpoint.is_serving, " serving"),
            (endpoint.is_terminating, " terminating"),
        ];
        let flags = flags.into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
        let hints = endpoint.zones.iter().chain(&endpoint.nodes).map(|hint| format!(" for {hint}"));
        let words: String = flags.map(str::to_owned).chain(hints).collect();
        format!("{}{words}", endpoint.address)
    }

    #[test]
    fn conditions_that_nobody_told() {
        let endpoints = json!({"endpoints": [
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.4", "10.0.0.99"], "nodeName": "here"},
            {"addresses": ["10.0.0.5"], "nodeName": "elsewhere",
             "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]}},
        ]});
        check(
            &[endpoints],
            &[
                "10.0.0.1:80 ready serving",
                "10.0.0.2:80",
                "10.0.0.3:80 serving terminating",
                "10.0.0.4:80 local ready serving",
                "10.0.0.5:80 ready serving for a for n",
            ],
        );
    }

    #[test]
    fn slices_are_united() {
        let first = json!({"endpoints": [
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            {"addresses": ["10.0.0.1"]},
        ]});
        let second = json!({"endpoints": [
            {"addresses": ["10.0.0.2"]},
            {"addresses": ["10.0.0.1"], "nodeName": "here", "conditions": {"ready": false}},
        ]});
        check(&[first, second], &["10.0.0.1:80 local", "10.0.0.2:80 ready serving"]);
    }

    #[test]
    fn ports_are_found_by_name_and_protocol() {
        let endpoints = json!([{"addresses": ["10.0.0.1"]}]);
        let ports = |ports: Value| json!({"ports": ports, "endpoints": endpoints});
        check(&[ports(json!([{"name": "", "port": 8080}]))], &["10.0.0.1:8080 ready serving"]);
        check(&[ports(json!([{"name": "", "port": 8080, "protocol": "UDP"}]))], &[]);
        check(&[ports(json!([{"name": "web", "port": 8080}]))], &[]);
        check(&[ports(json!([{"port": 8080}]))], &[]);
        check(&[ports(json!([{"name": ""}]))], &[]);
        check(&[ports(json!([{"name": "", "port": 0}]))], &[]);
        check(
            &[ports(json!([{"name": "", "port": 1}, {"name": "", "port": 2}]))],
            &["10.0.0.1:1 ready serving", "10.0.0.1:2 ready serving"],
        );
    }

    #[test]
    fn addresses_of_no_use_are_left_out() {
        let endpoints =
            json!({"endpoints": [{"addresses": ["fd00::1"]}, {"addresses": ["example.org"]}]});
        check(&[endpoints], &[]);
    }
}
