//! What a NetworkPolicy says, understood once: pure.
//!
//! Start at [`Policy::of`]. Follows the documentation of networking.k8s.io/v1 (v1.35). Objects were
//! validated when they were written; what cannot be understood all the same allows nothing.

use super::ranges::minus;
use crate::api::ObjectKey;
use crate::api::labels::Selector;
use crate::client::key_of;
use crate::network::Protocol;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Whose connections a rule is about, as seen from the pods that the policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Direction {
    /// They are the servers.
    Ingress,
    /// They are the clients.
    Egress,
}

impl Direction {
    pub(super) const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) key: ObjectKey,
    /// The pods of its namespace that it is about.
    pub(super) subjects: Selector,
    /// `None`: it says nothing about that direction. No rule: nothing is allowed.
    pub(super) ingress: Option<Vec<Rule>>,
    pub(super) egress: Option<Vec<Rule>>,
}

/// Connections that are allowed: with one of the peers, to one of the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// `None`: everybody.
    pub(super) peers: Option<Vec<Peer>>,
    /// `None`: every port of every protocol, and protocols without ports.
    pub(super) ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Pods { namespaces: Namespaces, pods: Selector },
    Ranges(Vec<IpNet>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Namespaces {
    /// That of the policy.
    Own,
    Selected(Selector),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Every(Protocol),
    /// Both ends included.
    Numbers {
        protocol: Protocol,
        first: u16,
        last: u16,
    },
    /// The port that the server calls so.
    Named {
        protocol: Protocol,
        name: String,
    },
}

impl Policy {
    pub(super) fn of(policy: &NetworkPolicy) -> Self {
        let empty = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&empty);
        let ingress = spec.ingress.iter().flatten();
        let ingress = ingress.map(|rule| rule_of(rule.from.as_deref(), rule.ports.as_deref()));
        let egress = spec.egress.iter().flatten();
        let egress = egress.map(|rule| rule_of(rule.to.as_deref(), rule.ports.as_deref()));
        Self {
            key: key_of(&policy.metadata),
            // Absent is empty here, which selects all pods of the namespace.
            subjects: selector(Some(&spec.pod_selector.clone().unwrap_or_default())),
            ingress: is_about(spec, Direction::Ingress).then(|| ingress.collect()),
            egress: is_about(spec, Direction::Egress).then(|| egress.collect()),
        }
    }

    pub(super) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Without `policyTypes` a policy is always about ingress, and about egress where it has rules for
/// it (upstream `SetDefaults_NetworkPolicy` fills the field in so).
fn is_about(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => direction == Direction::Ingress || spec.egress.is_some(),
        Some(types) => types.iter().any(|kind| kind.eq_ignore_ascii_case(direction.as_str())),
    }
}

fn rule_of(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Rule {
    // An empty list is as good as none: it does not restrict.
    let peers = peers.filter(|peers| !peers.is_empty());
    let ports = ports.filter(|ports| !ports.is_empty());
    Rule {
        peers: peers.map(|peers| peers.iter().map(peer_of).collect()),
        ports: ports.map(|ports| ports.iter().filter_map(port_of).collect()),
    }
}

fn peer_of(peer: &NetworkPolicyPeer) -> Peer {
    if let Some(block) = &peer.ip_block {
        return Peer::Ranges(ranges_of(block));
    }
    let namespaces = match &peer.namespace_selector {
        None => Namespaces::Own,
        some => Namespaces::Selected(selector(some.as_ref())),
    };
    let pods = match &peer.pod_selector {
        // A namespace alone means all of its pods; a peer that says nothing at all is nobody.
        None if namespaces == Namespaces::Own => Selector::nothing(),
        None => Selector::everything(),
        some => selector(some.as_ref()),
    };
    Peer::Pods { namespaces, pods }
}

fn ranges_of(block: &IPBlock) -> Vec<IpNet> {
    let Ok(range) = block.cidr.parse() else { return Vec::new() };
    let excepts: Option<Vec<IpNet>> =
        block.except.iter().flatten().map(|except| except.parse().ok()).collect();
    excepts.map_or(Vec::new(), |excepts| minus(range, &excepts))
}

fn port_of(port: &NetworkPolicyPort) -> Option<Port> {
    let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
    match &port.port {
        None => Some(Port::Every(protocol)),
        Some(IntOrString::Int(first)) => {
            let first = u16::try_from(*first).ok()?;
            let last = port.end_port.map_or(Ok(first), u16::try_from).ok()?;
            Some(Port::Numbers { protocol, first, last })
        }
        Some(IntOrString::String(name)) => Some(Port::Named { protocol, name: name.clone() }),
    }
}

fn selector(selector: Option<&LabelSelector>) -> Selector {
    Selector::of_object(selector).unwrap_or_else(|_| Selector::nothing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn parsed(spec: serde_json::Value) -> Policy {
        let metadata = json!({"namespace": "x", "name": "p"});
        let policy = json!({"metadata": metadata, "spec": spec});
        Policy::of(&serde_json::from_value(policy).unwrap())
    }

    #[track_caller]
    fn check(spec: serde_json::Value, ingress: Option<usize>, egress: Option<usize>) {
        let policy = parsed(spec);
        let rules =
            [policy.ingress.map(|rules| rules.len()), policy.egress.map(|rules| rules.len())];
        assert_eq!(rules, [ingress, egress]);
    }

    #[test]
    fn a_policy_is_about_the_directions_it_names() {
        check(json!({}), Some(0), None);
        check(json!({"egress": []}), Some(0), Some(0));
        check(json!({"policyTypes": ["Egress"]}), None, Some(0));
        check(json!({"policyTypes": ["Egress"], "ingress": [{}]}), None, Some(0));
        check(json!({"policyTypes": ["Ingress", "Egress"], "egress": [{}]}), Some(0), Some(1));
    }

    #[test]
    fn without_peers_and_ports_everything_is_allowed() {
        let everything = vec![Rule { peers: None, ports: None }];
        assert_eq!(parsed(json!({"ingress": [{}]})).ingress, Some(everything.clone()));
        let empty = json!({"ingress": [{"from": [], "ports": []}]});
        assert_eq!(parsed(empty).ingress, Some(everything));
    }

    #[track_caller]
    fn check_peer(peer: serde_json::Value, expected: &Peer) {
        let policy = parsed(json!({"ingress": [{"from": [peer]}]}));
        let rules = policy.ingress.unwrap();
        assert_eq!(rules[0].peers.as_deref(), Some(std::slice::from_ref(expected)));
    }

    #[test]
    fn a_peer_is_pods_of_namespaces_or_ranges() {
        let (own, all) = (Namespaces::Own, Namespaces::Selected(Selector::everything()));
        let labelled = Selector::of_labels(&[("a".to_owned(), "b".to_owned())].into());
        let pods = |namespaces, pods| Peer::Pods { namespaces, pods };
        check_peer(json!({"podSelector": {}}), &pods(own.clone(), Selector::everything()));
        check_peer(json!({"namespaceSelector": {}}), &pods(all, Selector::everything()));
        check_peer(
            json!({"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {"matchLabels": {"a": "b"}}}),
            &pods(Namespaces::Selected(labelled.clone()), labelled),
        );
        check_peer(json!({}), &pods(own, Selector::nothing()));
        check_peer(
            json!({"ipBlock": {"cidr": "10.0.0.0/31", "except": ["10.0.0.1/32"]}}),
            &Peer::Ranges(vec!["10.0.0.0/32".parse().unwrap()]),
        );
        check_peer(json!({"ipBlock": {"cidr": "nonsense"}}), &Peer::Ranges(vec![]));
    }

    #[track_caller]
    fn check_port(port: serde_json::Value, expected: Option<Port>) {
        let policy = parsed(json!({"ingress": [{"ports": [port]}]}));
        let ports = policy.ingress.unwrap().remove(0).ports.unwrap();
        assert_eq!(ports, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_port_is_numbers_or_a_name() {
        let numbers = |protocol, first, last| Some(Port::Numbers { protocol, first, last });
        check_port(json!({"port": 80}), numbers(Protocol::Tcp, 80, 80));
        check_port(
            json!({"protocol": "SCTP", "port": 80, "endPort": 90}),
            numbers(Protocol::Sctp, 80, 90),
        );
        check_port(json!({"protocol": "UDP"}), Some(Port::Every(Protocol::Udp)));
        let named = Port::Named { protocol: Protocol::Tcp, name: "web".to_owned() };
        check_port(json!({"port": "web"}), Some(named));
        // Of no port that exists: nothing is allowed, which is not the same as no restriction.
        check_port(json!({"port": 99999}), None);
    }
}
