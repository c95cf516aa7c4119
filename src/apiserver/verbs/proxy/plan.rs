//! Where a proxied request goes: to the kubelet, to a place in the pod network, or nowhere. Pure.
//!
//! Only what a node or a pod really has is connected to: an address that somebody has written down
//! is not enough, or everybody who writes endpoints could reach whatever this server reaches.

use crate::api::status::{Reason, Status};
use k8s_openapi::api::core::v1::{Endpoints, Node, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What a request for something behind this server names: `[scheme:]name[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    scheme: &'static str,
    pub(super) name: &'a str,
    /// A number or a name; empty for the first there is.
    port: &'a str,
}

impl<'a> Target<'a> {
    /// Upstream `SplitSchemeNamePort` (apimachinery pkg/util/net/port_split.go).
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<_> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme @ ("" | "http" | "https"), name, port] => (scheme, name, port),
            _ => return None,
        };
        let scheme = if scheme == "https" { "https" } else { "http" };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }

    fn at(self, address: IpAddr, port: u16) -> Place {
        Place { scheme: self.scheme, address: SocketAddr::new(address, port) }
    }
}

/// A place that requests are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    scheme: &'static str,
    address: SocketAddr,
}

impl Place {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// As it is written in URLs.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme, self.address)
    }
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// An address that others can have: Go's `IP.IsGlobalUnicast`. Neither this machine's own nor that
/// of its link, where clouds tell machines their secrets.
pub(in super::super::super) fn is_of_others(address: IpAddr) -> bool {
    let is_near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => return is_of_others(mapped.into()),
            None => address.segments()[0] & 0xffc0 == 0xfe80,
        },
    };
    !is_near && !address.is_loopback() && !address.is_multicast() && !address.is_unspecified()
}

/// A port of the node itself; `None` for its kubelet.
pub(super) fn of_node(node: &Node, target: Target<'_>) -> Result<Option<Place>, Status> {
    let status = node.status.clone().unwrap_or_default();
    let kubelet = status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint);
    if target.port.is_empty()
        || kubelet.is_some_and(|kubelet| kubelet.port.to_string() == target.port)
    {
        return Ok(None);
    }
    let port = number(target)?;
    let addresses = status.addresses.unwrap_or_default();
    let internal = addresses.iter().find(|address| address.type_ == "InternalIP");
    let address = internal.and_then(|address| address.address.parse().ok());
    let address = address.filter(|address| is_of_others(*address)).ok_or_else(not_allowed)?;
    Ok(Some(target.at(address, port)))
}

/// The node behind which the pod has an address of its own.
pub(in super::super::super) fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true))?;
    spec.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Where the pod listens: its first port, unless one is named.
pub(super) fn of_pod(pod: &Pod, target: Target<'_>) -> Result<Place, Status> {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok());
    let address = address.filter(|address| is_of_others(*address)).ok_or_else(not_allowed)?;
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers
        .find_map(|container| container.ports.as_ref()?.first())
        .map(|it| it.container_port);
    let port = match (target.port, first.and_then(|port| u16::try_from(port).ok())) {
        ("", Some(first)) => first,
        ("", None) if target.scheme == "https" => 443,
        ("", None) => 80,
        _ => number(target)?,
    };
    Ok(target.at(address, port))
}

fn number(target: Target<'_>) -> Result<u16, Status> {
    target.port.parse().map_err(|_error| {
        Status::bad_request(format!("invalid port {:?} of {:?}", target.port, target.name))
    })
}

/// The name of the Service's port: a number is that of a port, and no name is a name, too.
pub(super) fn port_name<'a>(service: &'a Service, target: Target<'a>) -> Result<&'a str, Status> {
    let Ok(number) = target.port.parse::<i64>() else { return Ok(target.port) };
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.into_iter().find(|port| i64::from(port.port) == number);
    found.map(|port| port.name.as_deref().unwrap_or_default()).ok_or_else(|| {
        let message = format!("no service port {number} found for service {:?}", target.name);
        Status::new(Reason::ServiceUnavailable, message)
    })
}

/// A pod that is said to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) pod: String,
    address: IpAddr,
    port: u16,
}

impl Candidate {
    /// Where a request goes, if the pod is what it is said to be.
    pub(super) fn at(&self, pod: &Pod, target: Target<'_>) -> Option<Place> {
        let addresses = pod.status.as_ref()?.pod_ips.as_deref().unwrap_or_default();
        let mut addresses = addresses.iter().filter_map(|it| it.ip.parse::<IpAddr>().ok());
        let is_its_own = addresses.any(|address| address == self.address);
        (is_its_own && is_of_others(self.address)).then(|| target.at(self.address, self.port))
    }
}

/// What is written down about who serves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'a> {
    pub(super) endpoints: Option<&'a Endpoints>,
    pub(super) slices: &'a [EndpointSlice],
}

/// Every pod of the namespace that is said to be ready at the port, beginning with that of `lot`.
pub(super) fn candidates(
    written: Written<'_>,
    (namespace, port_name): (&str, &str),
    lot: u128,
) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut add = |addresses: &[&str], pod: Option<&ObjectReference>, port: Option<i32>| {
        let pod = pod.filter(|pod| pod.namespace.as_deref() == Some(namespace));
        let pod = pod.and_then(|pod| pod.name.clone());
        let port = port.and_then(|port| u16::try_from(port).ok());
        let (Some(pod), Some(port)) = (pod, port) else { return };
        for address in addresses.iter().filter_map(|address| address.parse().ok()) {
            let candidate = Candidate { pod: pod.clone(), address, port };
            if !all.contains(&candidate) {
                all.push(candidate);
            }
        }
    };
    let is_meant = |name: Option<&str>| name.unwrap_or_default() == port_name;
    for subset in written.endpoints.iter().flat_map(|it| it.subsets.iter().flatten()) {
        let port = subset.ports.iter().flatten().find(|port| is_meant(port.name.as_deref()));
        for address in subset.addresses.iter().flatten() {
            add(&[&address.ip], address.target_ref.as_ref(), port.map(|port| port.port));
        }
    }
    for slice in written.slices {
        let port = slice.ports.iter().flatten().find(|port| is_meant(port.name.as_deref()));
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            if conditions.is_none_or(|conditions| conditions.ready != Some(false)) {
                let addresses: Vec<_> = endpoint.addresses.iter().map(String::as_str).collect();
                add(&addresses, endpoint.target_ref.as_ref(), port.and_then(|port| port.port));
            }
        }
    }
    if !all.is_empty() {
        let count = u128::try_from(all.len()).expect("addresses fit");
        all.rotate_left(usize::try_from(lot % count).expect("less than there are"));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn names_may_have_schemes_and_ports() {
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let target = Target::parse(text);
            assert_eq!(target.map(|it| (it.scheme, it.name, it.port)), expected, "{text}");
        };
        check("web", Some(("http", "web", "")));
        check("web:80", Some(("http", "web", "80")));
        check("web:", Some(("http", "web", "")));
        check("https:web:named", Some(("https", "web", "named")));
        check(":web:80", Some(("http", "web", "80")));
        check("ftp:web:80", None);
        check("a:b:c:d", None);
        check(":80", None);
    }

    fn shown(place: Result<Place, Status>) -> String {
        place.map_or_else(|status| status.message, |place| place.to_string())
    }

    #[test]
    fn pods_are_reached_at_their_own_addresses() {
        let check = |address: &str, ports: Value, target: &str, expected: &str| {
            let pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": ports}]},
                "status": {"podIP": address}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let target = Target::parse(target).unwrap();
            assert_eq!(shown(of_pod(&pod, target)), expected, "{address} {target:?}");
        };
        let ports = || json!([{"containerPort": 8080}, {"containerPort": 9090}]);
        check("10.42.0.5", ports(), "web", "http://10.42.0.5:8080");
        check("10.42.0.5", ports(), "https:web:1", "https://10.42.0.5:1");
        check("10.42.0.5", json!([]), "web", "http://10.42.0.5:80");
        check("10.42.0.5", json!([]), "https:web:", "https://10.42.0.5:443");
        check("fd00::5", ports(), "web", "http://[fd00::5]:8080");
        check("10.42.0.5", ports(), "web:http", "invalid port \"http\" of \"web\"");
        for address in
            ["", "127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "0.0.0.0"]
        {
            check(address, ports(), "web", "address not allowed");
        }
    }

    #[test]
    fn pods_are_behind_their_nodes() {
        let check = |spec: Value, expected: Option<&str>| {
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).unwrap();
            assert_eq!(node_of(&pod), expected);
        };
        check(json!({"containers": [], "nodeName": "two"}), Some("two"));
        check(json!({"containers": [], "nodeName": "two", "hostNetwork": true}), None);
        check(json!({"containers": []}), None);
    }

    #[test]
    fn nodes_have_a_kubelet_and_other_ports() {
        let check = |address: &str, target: &str, expected: &str| {
            let node = json!({"status": {
                "addresses": [{"type": "Hostname", "address": "one"},
                    {"type": "InternalIP", "address": address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
            let node: Node = serde_json::from_value(node).unwrap();
            let place = of_node(&node, Target::parse(target).unwrap());
            let shown = match place {
                Ok(None) => "the kubelet".to_owned(),
                Ok(Some(place)) => place.to_string(),
                Err(status) => status.message,
            };
            assert_eq!(shown, expected, "{address} {target}");
        };
        check("192.0.2.1", "one", "the kubelet");
        check("192.0.2.1", "https:one:10250", "the kubelet");
        check("192.0.2.1", "one:9100", "http://192.0.2.1:9100");
        check("127.0.0.1", "one:9100", "address not allowed");
        check("192.0.2.1", "one:metrics", "invalid port \"metrics\" of \"one\"");
    }

    #[test]
    fn ports_of_services_have_names() {
        let service = json!({"spec": {"ports": [{"port": 80}, {"port": 443, "name": "tls"}]}});
        let service: Service = serde_json::from_value(service).unwrap();
        let check = |target: &str, expected: &str| {
            let name = port_name(&service, Target::parse(target).unwrap());
            assert_eq!(name.map_or_else(|no| no.message, str::to_owned), expected, "{target}");
        };
        check("web", "");
        check("web:80", "");
        check("web:443", "tls");
        check("web:tls", "tls");
        check("web:9", "no service port 9 found for service \"web\"");
    }

    #[test]
    fn only_ready_pods_of_the_namespace_serve() {
        let pod = |name: &str, namespace: &str| json!({"kind": "Pod", "name": name, "namespace": namespace});
        let endpoint = |address: &str, ready: Value, of: Value| json!({"addresses": [address], "conditions": {"ready": ready}, "targetRef": of});
        let slices = json!([{"metadata": {}, "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080}], "endpoints": [
                endpoint("10.0.0.1", json!(true), pod("a", "n")),
                endpoint("10.0.0.2", json!(false), pod("b", "n")),
                endpoint("10.0.0.3", json!(null), pod("c", "n")),
                endpoint("10.0.0.4", json!(true), pod("d", "other")),
                endpoint("10.0.0.5", json!(true), json!(null)),
        ]}]);
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).unwrap();
        let endpoints = json!({"metadata": {}, "subsets": [{"ports": [{"name": "web", "port": 9}],
            "addresses": [{"ip": "10.0.0.9", "targetRef": pod("e", "n")}],
            "notReadyAddresses": [{"ip": "10.0.0.8", "targetRef": pod("f", "n")}]}]});
        let endpoints: Endpoints = serde_json::from_value(endpoints).unwrap();
        let written = Written { endpoints: Some(&endpoints), slices: &slices };
        let names = |port: &str, lot: u128| -> String {
            candidates(written, ("n", port), lot).iter().map(|it| it.pod.as_str()).collect()
        };
        assert_eq!(
            (names("web", 0), names("web", 1), names("web", 5)),
            ("eac".into(), "ace".into(), "cea".into())
        );
        assert_eq!(names("", 0), "");
    }

    #[test]
    fn a_pod_is_asked_what_its_addresses_are() {
        let pod: Pod =
            serde_json::from_value(json!({"status": {"podIPs": [{"ip": "10.0.0.1"}]}})).unwrap();
        let target = Target::parse("web").unwrap();
        let check = |address: &str, expected: Option<&str>| {
            let address = address.parse().unwrap();
            let candidate = Candidate { pod: "a".to_owned(), address, port: 8080 };
            let place = candidate.at(&pod, target).map(|place| place.to_string());
            assert_eq!(place.as_deref(), expected, "{address}");
        };
        check("10.0.0.1", Some("http://10.0.0.1:8080"));
        check("192.0.2.7", None);
    }
}
