//! Where requests for a backend go: the endpoints of its EndpointSlices. Pure.

use super::model::Protocol;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// On an EndpointSlice: the Service that it is of.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// It ends, and still answers.
    Leaving,
    Ready,
}

/// The endpoints of a Service's port, by the port's name, and what each speaks: those that are
/// ready, and where there are none, those that still answer while they end (as upstream's proxy
/// chooses them, `CategorizeEndpoints` in pkg/proxy/topology.go, v1.35). An endpoint that two slices
/// have is ready where one says so.
pub(super) fn endpoints<'a>(
    port_name: &str,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> BTreeMap<SocketAddr, Protocol> {
    let mut found: BTreeMap<SocketAddr, (State, Protocol)> = BTreeMap::new();
    for slice in slices {
        let Some((port, protocol)) = port_of(slice, port_name) else { continue };
        for endpoint in &slice.endpoints {
            let Some((address, state)) = address_of(endpoint).zip(state_of(endpoint)) else {
                continue;
            };
            let entry = found.entry(SocketAddr::new(address, port)).or_insert((state, protocol));
            entry.0 = entry.0.max(state);
        }
    }
    let best = found.values().map(|(state, _)| *state).max();
    let chosen = found.into_iter().filter(|(_, (state, _))| Some(*state) == best);
    chosen.map(|(address, (_, protocol))| (address, protocol)).collect()
}

fn port_of(slice: &EndpointSlice, name: &str) -> Option<(u16, Protocol)> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports.iter().find(|port| {
        let is_tcp = port.protocol.as_deref().unwrap_or("TCP") == "TCP";
        is_tcp && port.name.as_deref().unwrap_or_default() == name
    })?;
    let protocol = port.app_protocol.as_deref().map(Protocol::of_port).unwrap_or_default();
    Some((u16::try_from(port.port?).ok()?, protocol))
}

/// Only the first counts (discovery/v1 `Endpoint.Addresses`); names are not looked up.
fn address_of(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

fn state_of(endpoint: &Endpoint) -> Option<State> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let is_ready = conditions.ready.unwrap_or(true);
    let is_serving = conditions.serving.unwrap_or(is_ready);
    match (is_ready, is_serving && conditions.terminating.unwrap_or(false)) {
        (true, _) => Some(State::Ready),
        (false, true) => Some(State::Leaving),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Endpoints as `address` or `address:conditions`, of which `r` is ready, `s` serving and `t`
    /// terminating.
    fn slice(port: Value, endpoints: &[&str]) -> EndpointSlice {
        let endpoint = |text: &&str| {
            let (address, conditions) = text.split_once('/').unwrap_or((text, ""));
            let says = |letter| conditions.contains(letter);
            let all = json!({ "ready": says('r'), "serving": says('s'), "terminating": says('t') });
            match conditions {
                "" => json!({ "addresses": [address] }),
                _ => json!({ "addresses": [address, "203.0.113.9"], "conditions": all }),
            }
        };
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        let slice = json!({ "addressType": "IPv4", "ports": [port], "endpoints": endpoints });
        serde_json::from_value(slice).unwrap()
    }

    fn http() -> Value {
        json!({ "name": "http", "port": 8080, "protocol": "TCP" })
    }

    #[track_caller]
    fn check(slices: &[EndpointSlice], expected: &[&str]) {
        let found: Vec<_> =
            endpoints("http", slices).keys().map(|address| address.to_string()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn ready_endpoints_of_all_slices_are_asked() {
        check(&[], &[]);
        check(&[slice(http(), &[])], &[]);
        let slices = [
            slice(http(), &["10.0.0.2/rs", "10.0.0.1", "10.0.0.3/", "10.0.0.4/x"]),
            slice(http(), &["10.0.0.5/rs", "10.0.0.2/st", "fd00::1/rs"]),
        ];
        check(
            &slices,
            &["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.5:8080", "[fd00::1]:8080"],
        );
    }

    #[test]
    fn where_none_is_ready_those_that_end_still_answer() {
        check(&[slice(http(), &["10.0.0.1/st", "10.0.0.2/t", "10.0.0.3/s"])], &["10.0.0.1:8080"]);
        check(&[slice(http(), &["10.0.0.1/st", "10.0.0.2/rs"])], &["10.0.0.2:8080"]);
        // Addresses that are published although they are not ready.
        check(&[slice(http(), &["10.0.0.1/rt"])], &["10.0.0.1:8080"]);
    }

    #[test]
    fn ports_are_found_by_name() {
        for port in [
            json!({ "name": "other", "port": 80 }),
            json!({ "name": "http", "port": 80, "protocol": "UDP" }),
            json!({ "name": "http" }),
            json!({ "port": 80 }),
        ] {
            check(&[slice(port, &["10.0.0.1"])], &[]);
        }
        let unnamed = slice(json!({ "port": 80 }), &["10.0.0.1"]);
        assert_eq!(endpoints("", [&unnamed]).len(), 1);
        check(&[slice(http(), &["some.name", ""])], &[]);
    }

    #[test]
    fn a_port_says_what_is_spoken() {
        for (app, expected) in [
            ("kubernetes.io/h2c", Protocol::Http2),
            ("grpc", Protocol::Http2),
            ("https", Protocol::Https1),
            ("kubernetes.io/wss", Protocol::Https1),
            ("kubernetes.io/ws", Protocol::Http1),
            ("http", Protocol::Http1),
        ] {
            let port = json!({ "name": "http", "port": 1, "appProtocol": app });
            let found = endpoints("http", [&slice(port, &["10.0.0.1"])]);
            assert_eq!(found.values().copied().collect::<Vec<_>>(), [expected], "{app}");
        }
    }
}
