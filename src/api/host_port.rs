//! Ports of nodes that pods take, and who of them is in whose way.

use super::pod::is_sidecar;
use k8s_openapi::api::core::v1::PodSpec;

/// A port of the node that a container takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

/// Every address of the node.
const ANY_ADDRESS: &str = "0.0.0.0";

impl HostPort {
    /// Upstream `HostPortInfo.CheckConflict` (pkg/scheduler/framework/types.go, v1.35).
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        let addresses = [self.address.as_str(), other.address.as_str()];
        self.port == other.port
            && self.protocol == other.protocol
            && (addresses.contains(&ANY_ADDRESS) || addresses[0] == addresses[1])
    }
}

/// Whether one of these is in the way of one of those.
#[must_use]
pub fn conflict(wanted: &[HostPort], taken: &[HostPort]) -> bool {
    wanted.iter().any(|wanted| taken.iter().any(|taken| wanted.conflicts_with(taken)))
}

/// Upstream `GetHostPorts` (pkg/scheduler/util, v1.35): of containers and sidecars.
#[must_use]
pub fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|one| is_sidecar(one));
    let ports = sidecars.chain(&spec.containers).flat_map(|one| one.ports.iter().flatten());
    let taken = ports.filter_map(|port| {
        let number = port.host_port.filter(|number| *number > 0)?;
        let address = port.host_ip.clone().filter(|address| !address.is_empty());
        Some(HostPort {
            address: address.unwrap_or_else(|| ANY_ADDRESS.to_owned()),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: number,
        })
    });
    taken.collect()
}
