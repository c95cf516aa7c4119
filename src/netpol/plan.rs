//! What the kernel is to have, from what the cluster says: pure.
//!
//! Start at [`plan()`]. Only policies that select pods of this node are in the model; their peers
//! are pods of the whole cluster.

use super::model::{Allowed, Family, Members, Model, PortMatch, SetName, Verdict, policy_chain};
use super::policy::{Direction, Namespaces, Peer, Policy, Port, Rule};
use super::ranges::joined;
use super::view::{Labels, PodView};
use crate::api::ObjectKey;
use crate::network::{Attached, NamedPort, Protocol};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) policies: BTreeMap<ObjectKey, Arc<Policy>>,
    pub(super) pods: BTreeMap<ObjectKey, Arc<PodView>>,
    pub(super) namespaces: BTreeMap<String, Labels>,
    /// The pods of this node by their sandboxes, as the network has them.
    pub(super) attached: BTreeMap<String, Attached>,
    /// What pods of this node get their addresses from.
    pub(super) ranges: Vec<IpNet>,
}

/// A pod as policies see it, wherever what is known of it comes from.
#[derive(Clone, Copy, Debug)]
struct Pod<'a> {
    namespace: &'a str,
    labels: &'a Labels,
    ports: &'a [NamedPort],
    addresses: &'a [IpAddr],
}

/// Decides what the kernel is to have. Where nobody on this node is isolated that is nothing at all.
pub(super) fn plan(world: &World) -> Model {
    let local = local_pods(world);
    let pods = everybody(world, &local);
    let mut model = Model::default();
    let mut judges: BTreeMap<(Direction, IpAddr), Vec<String>> = BTreeMap::new();
    for policy in world.policies.values() {
        let is_subject = |pod: &&Pod<'_>| {
            Some(pod.namespace) == policy.key.namespace.as_deref()
                && policy.subjects.matches(pod.labels)
        };
        let subjects: Vec<Pod<'_>> = local.iter().filter(is_subject).copied().collect();
        for direction in Direction::BOTH {
            let Some(rules) = policy.rules(direction) else { continue };
            if subjects.is_empty() {
                continue;
            }
            let chain = policy_chain(&policy.key, direction);
            for address in subjects.iter().flat_map(|pod| pod.addresses) {
                judges.entry((direction, *address)).or_default().push(chain.clone());
            }
            let scene = Scene { world, policy, direction, subjects: &subjects, pods: &pods };
            let mut compiler = Compiler { scene, chain: &chain, model: &mut model };
            let allowed = rules.iter().enumerate();
            let allowed = allowed.flat_map(|(index, rule)| compiler.compile(index, rule)).collect();
            model.policies.insert(chain, allowed);
        }
    }
    if judges.is_empty() {
        return Model::default();
    }
    model.ranges.clone_from(&world.ranges);
    for address in local.iter().flat_map(|pod| pod.addresses) {
        for direction in Direction::BOTH {
            let verdict = match judges.remove(&(direction, *address)) {
                None => Verdict::Accept,
                Some(policies) => model.isolate(direction, policies),
            };
            model.verdicts.insert((direction, *address), verdict);
        }
    }
    model
}

/// The pods of this node. Their labels may have changed since they came.
fn local_pods(world: &World) -> Vec<Pod<'_>> {
    let local = world.attached.values().filter_map(|attached| {
        let known = world.pods.get(&attached.pod);
        let known = known.filter(|known| known.uid == attached.traits.uid);
        Some(Pod {
            namespace: attached.pod.namespace.as_deref()?,
            labels: known.map_or(&attached.traits.labels, |known| &known.labels),
            ports: &attached.traits.ports,
            addresses: &attached.addresses,
        })
    });
    local.collect()
}

/// All pods of the cluster. Where one of this node is concerned, the network knows better than the
/// pod's status, which follows later and stays a while longer.
fn everybody<'a>(world: &'a World, local: &[Pod<'a>]) -> Vec<Pod<'a>> {
    let here: BTreeSet<&str> =
        world.attached.values().map(|attached| attached.traits.uid.as_str()).collect();
    let taken: BTreeSet<&IpAddr> = local.iter().flat_map(|pod| pod.addresses).collect();
    let is_elsewhere = |pod: &&Arc<PodView>| {
        !pod.addresses.is_empty()
            && !here.contains(pod.uid.as_str())
            && !pod.addresses.iter().any(|address| taken.contains(address))
    };
    let elsewhere = world.pods.values().filter(is_elsewhere).filter_map(|pod| {
        Some(Pod {
            namespace: pod.key.namespace.as_deref()?,
            labels: &pod.labels,
            ports: &pod.ports,
            addresses: &pod.addresses,
        })
    });
    local.iter().copied().chain(elsewhere).collect()
}

/// What the rules of one policy are about.
#[derive(Clone, Copy, Debug)]
struct Scene<'a> {
    world: &'a World,
    policy: &'a Policy,
    direction: Direction,
    subjects: &'a [Pod<'a>],
    pods: &'a [Pod<'a>],
}

/// Makes lines and sets of the rules of one policy.
#[derive(Debug)]
struct Compiler<'a> {
    scene: Scene<'a>,
    chain: &'a str,
    model: &'a mut Model,
}

impl Compiler<'_> {
    fn compile(&mut self, index: usize, rule: &Rule) -> Vec<Allowed> {
        let peers = rule.peers.as_deref().map(|peers| self.scene.peers(peers));
        let sets = match &peers {
            None => vec![None],
            Some(peers) => {
                let pods = self.sets(&format!("{index}-pods"), &Members::Pods(peers.pods.clone()));
                let ranges = Members::Ranges(peers.ranges.clone());
                let ranges = self.sets(&format!("{index}-ranges"), &ranges);
                pods.into_iter().chain(ranges).map(Some).collect()
            }
        };
        let Some(ports) = &rule.ports else {
            return sets.into_iter().map(|set| self.plain(set, None)).collect();
        };
        let mut allowed = Vec::new();
        for (place, port) in ports.iter().enumerate() {
            let port = match port {
                Port::Every(protocol) => PortMatch { protocol: *protocol, numbers: None },
                Port::Numbers { protocol, first, last } => {
                    PortMatch { protocol: *protocol, numbers: Some((*first, *last)) }
                }
                Port::Named { protocol, name } => {
                    for (number, servers) in self.scene.servers(peers.as_ref(), *protocol, name) {
                        let servers = Members::Pods(servers);
                        let servers = self.sets(&format!("{index}-{place}-{number}"), &servers);
                        let port =
                            PortMatch { protocol: *protocol, numbers: Some((number, number)) };
                        allowed.extend(self.named(&sets, &servers, port));
                    }
                    continue;
                }
            };
            allowed.extend(sets.iter().cloned().map(|set| self.plain(set, Some(port))));
        }
        allowed
    }

    /// Makes a set for each family that has members.
    fn sets(&mut self, purpose: &str, members: &Members) -> Vec<SetName> {
        let mut names = Vec::new();
        for family in Family::ALL {
            if let Some(members) = members.of_family(family) {
                let name = format!("{}-{purpose}-{}", self.chain, family.as_str());
                let name = SetName { family, name };
                self.model.sets.insert(name.clone(), members);
                names.push(name);
            }
        }
        names
    }

    fn plain(&self, peers: Option<SetName>, port: Option<PortMatch>) -> Allowed {
        match self.scene.direction {
            Direction::Ingress => Allowed { client: peers, server: None, port },
            Direction::Egress => Allowed { client: None, server: peers, port },
        }
    }

    /// Lines for the servers that call a port of theirs so. For egress these are peers already.
    fn named(
        &self,
        peers: &[Option<SetName>],
        servers: &[SetName],
        port: PortMatch,
    ) -> Vec<Allowed> {
        let mut allowed = Vec::new();
        for server in servers {
            // A connection has one family.
            let fits = |peers: &&Option<SetName>| {
                peers.as_ref().is_none_or(|peers| peers.family == server.family)
            };
            let clients = match self.scene.direction {
                Direction::Ingress => peers.iter().filter(fits).cloned().collect(),
                Direction::Egress => vec![None],
            };
            allowed.extend(clients.into_iter().map(|client| Allowed {
                client,
                server: Some(server.clone()),
                port: Some(port),
            }));
        }
        allowed
    }
}

impl Scene<'_> {
    fn peers(&self, peers: &[Peer]) -> Peers {
        let mut found = Peers { pods: BTreeSet::new(), ranges: Vec::new() };
        for peer in peers {
            match peer {
                Peer::Ranges(ranges) => found.ranges.extend(ranges),
                Peer::Pods { namespaces, pods } => {
                    let is_meant =
                        |pod: &&Pod<'_>| self.is_in(pod, namespaces) && pods.matches(pod.labels);
                    let meant = self.pods.iter().filter(is_meant);
                    found.pods.extend(meant.flat_map(|pod| pod.addresses));
                }
            }
        }
        found.ranges = joined(&found.ranges);
        found
    }

    fn is_in(&self, pod: &Pod<'_>, namespaces: &Namespaces) -> bool {
        match namespaces {
            Namespaces::Own => Some(pod.namespace) == self.policy.key.namespace.as_deref(),
            Namespaces::Selected(selector) => {
                let labels = self.world.namespaces.get(pod.namespace);
                labels.is_some_and(|labels| selector.matches(labels))
            }
        }
    }

    /// Who calls a port of theirs `name`, by its number: of the subjects where they are the servers,
    /// else of the peers. An address outside of the cluster has no names for its ports.
    fn servers(
        &self,
        peers: Option<&Peers>,
        protocol: Protocol,
        name: &str,
    ) -> BTreeMap<u16, BTreeSet<IpAddr>> {
        let (pods, peers) = match self.direction {
            Direction::Ingress => (self.subjects, None),
            Direction::Egress => (self.pods, peers),
        };
        let mut servers: BTreeMap<u16, BTreeSet<IpAddr>> = BTreeMap::new();
        for pod in pods {
            let mut ports = pod.ports.iter();
            let port = ports.find(|port| port.protocol == protocol && port.name == name);
            let is_meant = |address: &&IpAddr| peers.is_none_or(|peers| peers.has(address));
            let addresses = pod.addresses.iter().filter(is_meant);
            if let Some(port) = port {
                servers.entry(port.number).or_default().extend(addresses);
            }
        }
        servers
    }
}

/// Whom a rule means.
#[derive(Debug)]
struct Peers {
    pods: BTreeSet<IpAddr>,
    ranges: Vec<IpNet>,
}

impl Peers {
    fn has(&self, address: &IpAddr) -> bool {
        self.pods.contains(address) || self.ranges.iter().any(|range| range.contains(address))
    }
}
