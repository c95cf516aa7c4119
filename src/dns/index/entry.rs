//! What of a Service, an EndpointSlice and a Node is in names. Pure.

use crate::network::Protocol;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use std::net::IpAddr;

/// Links a slice to its Service; nothing else does.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A Service, as far as names go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dns) enum Exposed {
    /// It has addresses of its own, in the order of its families.
    Cluster { addresses: Box<[IpAddr]>, ports: Box<[Port]> },
    /// Its names lead to its endpoints.
    Headless,
    /// Its name is another one for this one.
    External(Box<str>),
}

/// A port by its name; that of the only port may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dns) struct Port {
    pub(in crate::dns) name: Box<str>,
    pub(in crate::dns) protocol: Protocol,
    pub(in crate::dns) number: u16,
}

/// An address that is ready, with the name that its pod has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dns) struct Endpoint {
    pub(in crate::dns) address: IpAddr,
    pub(in crate::dns) hostname: Option<Box<str>>,
}

/// What a slice says. Endpoints that are not ready are left out: the slice of a Service that
/// publishes those too calls them ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::dns) struct Slice {
    pub(in crate::dns) ports: Box<[Port]>,
    pub(in crate::dns) endpoints: Box<[Endpoint]>,
}

impl Exposed {
    /// `None` for a Service that has no address yet.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref()?.trim_end_matches('.');
            return Some(Self::External(target.to_ascii_lowercase().into()));
        }
        let several = spec.cluster_ips.as_deref().unwrap_or_default();
        let texts = if several.is_empty() { spec.cluster_ip.as_slice() } else { several };
        if texts.first().is_some_and(|first| first == "None") {
            return Some(Self::Headless);
        }
        let addresses: Box<[_]> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Port::of(port.name.as_deref(), port.protocol.as_deref(), Some(port.port))
        });
        let ports = ports.collect();
        (!addresses.is_empty()).then_some(Self::Cluster { addresses, ports })
    }
}

impl Port {
    fn of(name: Option<&str>, protocol: Option<&str>, number: Option<i32>) -> Option<Self> {
        Some(Self {
            name: name.unwrap_or_default().into(),
            protocol: Protocol::parse(protocol.unwrap_or("TCP"))?,
            number: u16::try_from(number?).ok()?,
        })
    }
}

impl Endpoint {
    /// The first label of its name: what its pod calls itself, or else its address with dashes
    /// (coredns `endpointHostname`, plugin/kubernetes).
    pub(in crate::dns) fn label(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.to_string(),
            None => dashed(self.address),
        }
    }

    /// Whether `label` is its name. `address` is the address that the label can be read as.
    pub(in crate::dns) fn is_called(&self, label: &str, address: Option<IpAddr>) -> bool {
        match &self.hostname {
            Some(hostname) => hostname.eq_ignore_ascii_case(label),
            None => address == Some(self.address),
        }
    }
}

/// An address as a label: `10-42-0-7`, `fd00--7`. A label does not end with a dash.
fn dashed(address: IpAddr) -> String {
    let mut label = address.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') {
        label.push('0');
    }
    label
}

/// The address that a label stands for.
pub(in crate::dns) fn undashed(label: &str) -> Option<IpAddr> {
    let is_v4 = label.matches('-').count() == 3 && !label.contains("--");
    label.replace('-', if is_v4 { "." } else { ":" }).parse().ok()
}

impl Slice {
    /// The Service that the slice is of, and what it says. `None` where it is of none, or its
    /// addresses are no addresses.
    pub(super) fn of(slice: &EndpointSlice) -> Option<(&str, Self)> {
        let labels = slice.metadata.labels.as_ref()?;
        let service = labels.get(SERVICE_NAME).filter(|name| !name.is_empty())?;
        if slice.address_type == "FQDN" {
            return None;
        }
        let ports =
            slice.ports.iter().flatten().filter_map(|port| {
                Port::of(port.name.as_deref(), port.protocol.as_deref(), port.port)
            });
        let ready = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
        let endpoints = ready.flat_map(|endpoint| {
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse().ok());
            addresses.map(move |address| Endpoint { address, hostname: hostname.map(Into::into) })
        });
        Some((service, Self { ports: ports.collect(), endpoints: endpoints.collect() }))
    }
}

/// Nobody knowing better means that it is (API documentation of `EndpointConditions`, v1.35).
fn is_ready(endpoint: &ApiEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// The addresses that a node's own name leads to, as in k3s' `NodeHosts`.
pub(super) fn node_addresses(node: &Node) -> Box<[IpAddr]> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = listed.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_labels() {
        for (address, label) in [
            ("10.42.0.7", "10-42-0-7"),
            ("fd00::7", "fd00--7"),
            ("fd00::", "fd00--0"),
            ("fd00:1:2:3:4:5:6:7", "fd00-1-2-3-4-5-6-7"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(dashed(address), label);
            assert_eq!(undashed(label), Some(address), "{label}");
        }
        for label in ["10-42-0", "10-42-0-256", "web", "10-42-0-7-8", "", "----", "010-1-1-1"] {
            assert_eq!(undashed(label), None, "{label}");
        }
    }
}
