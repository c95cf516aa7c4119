//! Where a Service that is a webhook answers (upstream `ResolveEndpoint`, apiserver
//! pkg/util/proxy/proxy.go, v1.35). Pure.
//!
//! Unlike what is proxied, a webhook may be outside of the cluster, at an address that somebody has
//! written down: who answers has to show a certificate by which the webhook's author knows it.

use super::super::verbs::is_of_others;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::net::{IpAddr, SocketAddr};

/// One that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    /// The pod of the Service's namespace that is said to be there.
    pub(super) pod: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All that are ready, the ones to ask first at the beginning.
    Candidates(Vec<Candidate>),
    /// A name that others look up.
    Host(String),
}

/// Those of the Service's first family of addresses come first, beginning with that of `lot`.
pub(super) fn resolve(
    service: &Service,
    slices: &[EndpointSlice],
    port: u16,
    lot: u128,
) -> Result<Found, String> {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    match spec.type_.as_deref().unwrap_or("ClusterIP") {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => return Ok(Found::Host(spec.external_name.unwrap_or_default())),
        other => return Err(format!("unsupported service type {other:?}")),
    }
    let mut ports = spec.ports.iter().flatten();
    let port_name = ports
        .find(|of_service| of_service.port == i32::from(port))
        .map(|port| port.name.as_deref().unwrap_or_default())
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for slice in slices {
        add_ready(&mut all, slice, (namespace, port_name));
    }
    if all.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    let count = u128::try_from(all.len()).expect("addresses fit");
    all.rotate_left(usize::try_from(lot % count).expect("less than there are"));
    let first = spec.ip_families.and_then(|families| families.into_iter().next());
    all.sort_by_key(|candidate| match first.as_deref() {
        Some("IPv4") => !candidate.address.is_ipv4(),
        Some("IPv6") => !candidate.address.is_ipv6(),
        _ => false,
    });
    Ok(Found::Candidates(all))
}

fn add_ready(
    all: &mut Vec<Candidate>,
    slice: &EndpointSlice,
    (namespace, port_name): (&str, &str),
) {
    let mut ports = slice.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == port_name);
    let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { return };
    for endpoint in &slice.endpoints {
        if endpoint.conditions.as_ref().is_some_and(|it| it.ready == Some(false)) {
            continue;
        }
        let address = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
        let Some(address) = address.filter(|address| is_of_others(*address)) else { continue };
        let target = endpoint.target_ref.as_ref();
        let pod = target.filter(|it| it.namespace.as_deref() == Some(namespace));
        let pod = pod.filter(|it| it.kind.as_deref() == Some("Pod")).and_then(|it| it.name.clone());
        all.push(Candidate { address: SocketAddr::new(address, port), pod });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resolved(spec: Value, slices: Value, port: u16, lot: u128) -> String {
        let service = json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec});
        let service: Service = serde_json::from_value(service).unwrap();
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).unwrap();
        match resolve(&service, &slices, port, lot) {
            Err(why) => why,
            Ok(Found::Host(host)) => host,
            Ok(Found::Candidates(all)) => {
                let texts = all
                    .iter()
                    .map(|it| format!("{} {}", it.address, it.pod.as_deref().unwrap_or("-")));
                texts.collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn slice(family: &str, endpoints: Value) -> Value {
        json!({"metadata": {}, "addressType": family, "endpoints": endpoints,
            "ports": [{"name": "https", "port": 8443}, {"name": "", "port": 1}]})
    }

    #[test]
    fn ready_endpoints_of_the_first_family_are_asked_first() {
        let spec = || {
            json!({"ipFamilies": ["IPv6", "IPv4"],
            "ports": [{"name": "https", "port": 443}]})
        };
        let pod = json!({"kind": "Pod", "namespace": "n", "name": "p"});
        let other = json!({"kind": "Pod", "namespace": "m", "name": "q"});
        let four = slice(
            "IPv4",
            json!([
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": pod},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": pod},
                {"addresses": ["10.0.0.3"], "targetRef": other},
                {"addresses": ["127.0.0.1"]},
            ]),
        );
        let six = slice("IPv6", json!([{"addresses": ["fd00::1"]}]));
        let expected = "[fd00::1]:8443 -, 10.0.0.1:8443 p, 10.0.0.3:8443 -";
        assert_eq!(resolved(spec(), json!([four, six]), 443, 0), expected);
        let expected = "[fd00::1]:8443 -, 10.0.0.3:8443 -, 10.0.0.1:8443 p";
        assert_eq!(resolved(spec(), json!([four, six]), 443, 1), expected);
    }

    #[test]
    fn what_cannot_be_resolved_is_told_as_upstream_tells_it() {
        let ports = || json!({"ports": [{"port": 443}]});
        assert_eq!(
            resolved(ports(), json!([]), 8443, 0),
            "no service port 8443 found for service \"web\""
        );
        assert_eq!(
            resolved(ports(), json!([]), 443, 0),
            "no endpoints available for service \"web\""
        );
        let near = slice("IPv4", json!([{"addresses": ["169.254.169.254"]}]));
        assert_eq!(
            resolved(ports(), json!([near]), 443, 0),
            "no endpoints available for service \"web\""
        );
        let external = json!({"type": "ExternalName", "externalName": "a.b"});
        assert_eq!(resolved(external, json!([]), 443, 0), "a.b");
        let odd = json!({"type": "Odd"});
        assert_eq!(resolved(odd, json!([]), 443, 0), "unsupported service type \"Odd\"");
    }
}
