//! Pods and namespaces as policies see them.
//!
//! Every node with policies has all pods of the cluster in memory. A decoded Pod has tens of
//! kilobytes; what is here has some hundred bytes.

use crate::api::{ObjectKey, Revision};
use crate::client::Watched;
use crate::network::{NamedPort, Protocol};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What selectors look at.
pub(super) type Labels = BTreeMap<String, String>;

/// A pod that others may know by its labels and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct PodView {
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    revision: Option<Revision>,
    pub(super) labels: Labels,
    /// Empty where no selector can mean it: it has none yet, or those of its node, or its own are
    /// somebody else's by now because it is over.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<NamedPort>,
}

impl PodView {
    /// Whether policies can tell it from `other`, an older state of the same pod.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.labels == other.labels
            && self.addresses == other.addresses
            && self.ports == other.ports
    }
}

impl Watched for PodView {
    fn revision(&self) -> Option<Revision> {
        self.revision
    }

    fn trim(&mut self) {}
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct NamespaceView {
    pub(super) name: String,
    revision: Option<Revision>,
    pub(super) labels: Labels,
}

impl Watched for NamespaceView {
    fn revision(&self) -> Option<Revision> {
        self.revision
    }

    fn trim(&mut self) {}
}

/// Either of them as the server sends it.
#[derive(Deserialize)]
struct Wire {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireSpec,
    #[serde(default)]
    status: WireStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMetadata {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    uid: String,
    resource_version: Option<String>,
    #[serde(default)]
    labels: Labels,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireSpec {
    host_network: bool,
    containers: Vec<WireContainer>,
    init_containers: Vec<WireContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireContainer {
    #[serde(default)]
    ports: Vec<WirePort>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePort {
    name: Option<String>,
    container_port: u16,
    protocol: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WireStatus {
    phase: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<WireAddress>,
}

#[derive(Deserialize)]
struct WireAddress {
    ip: String,
}

impl From<Wire> for PodView {
    fn from(wire: Wire) -> Self {
        let is_over = matches!(wire.status.phase.as_str(), "Succeeded" | "Failed");
        let addresses = match is_over || wire.spec.host_network {
            true => Vec::new(),
            false => wire.status.pod_ips.iter().filter_map(|one| one.ip.parse().ok()).collect(),
        };
        // Of init containers only sidecars go on (upstream `podutil.FindPort`).
        let sidecars = wire.spec.init_containers.into_iter();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let containers = wire.spec.containers.into_iter().chain(sidecars);
        Self {
            key: ObjectKey { namespace: wire.metadata.namespace, name: wire.metadata.name },
            uid: wire.metadata.uid,
            revision: wire.metadata.resource_version.and_then(|text| text.parse().ok()),
            labels: wire.metadata.labels,
            addresses,
            ports: containers.flat_map(|one| one.ports).filter_map(named).collect(),
        }
    }
}

fn named(port: WirePort) -> Option<NamedPort> {
    let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
    Some(NamedPort { name: port.name?, protocol, number: port.container_port })
}

impl From<Wire> for NamespaceView {
    fn from(wire: Wire) -> Self {
        Self {
            name: wire.metadata.name,
            revision: wire.metadata.resource_version.and_then(|text| text.parse().ok()),
            labels: wire.metadata.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(spec: Value, status: Value, expected: &str) {
        let metadata = json!({"name": "a", "namespace": "x", "labels": {"app": "web"}});
        let pod = json!({"metadata": metadata, "spec": spec, "status": status});
        let view: PodView = serde_json::from_value(pod).unwrap();
        let addresses: Vec<_> = view.addresses.iter().map(ToString::to_string).collect();
        let ports = view.ports.iter();
        let ports: Vec<_> = ports
            .map(|port| format!("{}={}/{}", port.name, port.protocol.as_str(), port.number))
            .collect();
        assert_eq!(format!("{} {}", addresses.join(","), ports.join(",")), expected);
    }

    #[test]
    fn a_pod_is_known_by_addresses_of_its_own() {
        let addresses = json!([{"ip": "10.42.0.2"}, {"ip": "fd42::2"}]);
        check(json!({}), json!({"podIPs": addresses}), "10.42.0.2,fd42::2 ");
        check(json!({"hostNetwork": true}), json!({"podIPs": addresses}), " ");
        check(json!({}), json!({"podIPs": addresses, "phase": "Succeeded"}), " ");
        check(json!({}), json!({"podIPs": addresses, "phase": "Failed"}), " ");
        check(json!({}), json!({}), " ");
    }

    #[test]
    fn ports_have_names_in_containers_that_go_on() {
        let port = |name: &str, number| json!({"ports": [{"name": name, "containerPort": number}]});
        let sidecar = json!({"restartPolicy": "Always",
            "ports": [{"name": "dns", "protocol": "UDP", "containerPort": 53}]});
        let nameless = json!({"ports": [{"containerPort": 1}]});
        check(
            json!({"containers": [port("web", 80), nameless], "initContainers": [port("no", 1), sidecar]}),
            json!({}),
            " web=tcp/80,dns=udp/53",
        );
    }
}
