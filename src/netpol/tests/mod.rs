//! A cluster of three namespaces with three pods each, as upstream's tests of network policies have
//! it (test/e2e/network/netpol), all on this node.

mod changes;
mod golden;
mod truth;

use super::model::{Allowed, Family, Members, Model, SetName, Verdict};
use super::plan::{World, plan};
use super::policy::{Direction, Policy};
use crate::api::ObjectKey;
use crate::network::{Attached, NamedPort, PodTraits, Protocol};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];

/// Where a connection goes, besides the pod.
type Service = (Protocol, u16);

const TCP_80: Service = (Protocol::Tcp, 80);

/// Namespaces have the label `ns`, pods the label `pod`, with their names; the port 80 of each pod is
/// called `serve-80-tcp`, and so on for 81 and for UDP and SCTP.
fn cluster() -> World {
    let mut world = World {
        ranges: vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()],
        ..World::default()
    };
    for namespace in NAMESPACES {
        let labels = [("ns".to_owned(), namespace.to_owned())];
        world.namespaces.insert(namespace.to_owned(), labels.into());
        for pod in PODS {
            attach(&mut world, namespace, pod);
        }
    }
    world
}

fn attach(world: &mut World, namespace: &str, name: &str) {
    let port = |protocol: Protocol, number| {
        let name = format!("serve-{number}-{}", protocol.as_str());
        NamedPort { name, protocol, number }
    };
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let ports = protocols.into_iter().flat_map(|one| [port(one, 80), port(one, 81)]);
    let traits = PodTraits {
        uid: format!("{namespace}/{name}"),
        labels: [("pod".to_owned(), name.to_owned())].into(),
        ports: ports.collect(),
    };
    let sandbox = format!("{namespace}/{name}");
    let attached = Attached {
        sandbox: sandbox.clone(),
        pod: ObjectKey::namespaced(namespace, name),
        traits,
        addresses: Family::ALL.iter().map(|family| address(&sandbox, *family)).collect(),
    };
    world.attached.insert(sandbox, attached);
}

/// `y/b` is 10.42.0.22 and fd42::22.
fn address(pod: &str, family: Family) -> IpAddr {
    let (namespace, name) = pod.split_once('/').unwrap();
    let place = |all: &[&str], one: &str| all.iter().position(|it| *it == one).unwrap_or(8) + 1;
    let number = 10 * place(&NAMESPACES, namespace) + place(&PODS, name);
    let address = match family {
        Family::Ipv4 => format!("10.42.0.{number}"),
        Family::Ipv6 => format!("fd42::{number}"),
    };
    address.parse().unwrap()
}

/// A policy of the namespace `x`, or of another where it says so.
fn add_policy(world: &mut World, name: &str, policy: &Value) {
    let mut spec = policy.clone();
    let namespace = spec.as_object_mut().unwrap().remove("namespace");
    let namespace = namespace.unwrap_or_else(|| json!("x"));
    let policy = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
    let policy = Policy::of(&serde_json::from_value(policy).unwrap());
    world.policies.insert(policy.key.clone(), Arc::new(policy));
}

fn with_policies(policies: &[Value]) -> World {
    let mut world = cluster();
    for (number, policy) in policies.iter().enumerate() {
        add_policy(&mut world, &format!("p{number}"), policy);
    }
    world
}

/// What the rules of a model do with a connection.
fn passes(model: &Model, client: IpAddr, server: IpAddr, service: Service) -> bool {
    let is_own = client == server && model.isolated().contains(&client);
    let is_allowed = |direction: Direction| {
        let pod = match direction {
            Direction::Ingress => server,
            Direction::Egress => client,
        };
        match model.verdicts.get(&(direction, pod)) {
            Some(Verdict::Accept) => true,
            Some(Verdict::Isolate(chain)) => {
                let lines = model.isolations[chain].iter().flat_map(|name| &model.policies[name]);
                lines.into_iter().any(|line| allows(model, line, (client, server), service))
            }
            None => !model.ranges.iter().any(|range| range.contains(&pod)),
        }
    };
    is_own || Direction::BOTH.into_iter().all(is_allowed)
}

fn allows(model: &Model, line: &Allowed, ends: (IpAddr, IpAddr), service: Service) -> bool {
    let has = |set: &Option<SetName>, address: IpAddr| {
        let Some(set) = set else { return true };
        match &model.sets[set] {
            Members::Pods(pods) => pods.contains(&address),
            Members::Ranges(ranges) => ranges.iter().any(|range: &IpNet| range.contains(&address)),
        }
    };
    let is_port = line.port.is_none_or(|port| {
        let numbers = port.numbers.unwrap_or((0, u16::MAX));
        port.protocol == service.0 && (numbers.0..=numbers.1).contains(&service.1)
    });
    has(&line.client, ends.0) && has(&line.server, ends.1) && is_port
}

fn model(world: &World) -> Model {
    plan(world)
}
