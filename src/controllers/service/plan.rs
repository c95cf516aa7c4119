//! The decision about the addresses by which a Service is reached from outside.

use super::addresses::{HostPort, addresses_of, is_local, place};
use crate::client::object_reference;
use crate::control::{Attempt, Plan, Planned, Report, Write};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Upstream `LoadBalancerPortsError` (core/v1): some ports cannot be had.
const PORTS_ERROR: &str = "LoadBalancerPortsError";
const PORT_IN_USE: &str = "PortInUse";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub service: Arc<Service>,
    /// All Services that are reached from outside, this one among them.
    pub all: Vec<Arc<Service>>,
    pub nodes: Vec<Arc<Node>>,
    /// The nodes that have a ready pod of the Service.
    pub local: BTreeSet<String>,
    /// Ports that no Service can have.
    pub reserved: Vec<HostPort>,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let service = &*observed.service;
    if service.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let placement = place(service, &observed.all, &observed.nodes, &observed.reserved);
    let mut nodes = placement.nodes;
    if is_local(service) {
        nodes.retain(|node| {
            node.metadata.name.as_ref().is_some_and(|name| observed.local.contains(name))
        });
    }
    let addresses = addresses_of(service, &nodes);
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let in_the_way: Vec<String> = placement
        .taken
        .iter()
        .map(|(port, owner)| format!("port {}/{} belongs to {owner}", port.port, port.protocol))
        .collect();

    let before = service.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let shown = ingress(&addresses);
    status.load_balancer.get_or_insert_default().ingress = (!shown.is_empty()).then_some(shown);
    let message = in_the_way.join("; ");
    report_ports(observed, &mut status, &message);
    if status == before {
        return Plan::default();
    }
    let report = if addresses.is_empty() && !message.is_empty() {
        Report::warning(PORT_IN_USE, message)
    } else if addresses.is_empty() {
        let message = "There are no available nodes for LoadBalancer";
        Report::warning("UnAvailableLoadBalancer", message)
    } else {
        let old = before.load_balancer.unwrap_or_default().ingress.unwrap_or_default();
        let old: Vec<_> = old.into_iter().filter_map(|it| it.ip.or(it.hostname)).collect();
        let message = format!(
            "Updated LoadBalancer with new IPs: [{}] -> [{}]",
            old.join(" "),
            addresses.join(" ")
        );
        Report::normal("UpdatedLoadBalancer", message)
    };
    let updated = Service { status: Some(status), ..service.clone() };
    let write = Write::update_status(&updated);
    let planned = Planned { write, succeeded: Some(report), failed: None };
    Plan { steps: vec![vec![planned]], regarding: object_reference(service), ..Plan::default() }
}

fn ingress(addresses: &[String]) -> Vec<LoadBalancerIngress> {
    let ingress = addresses.iter().map(|address| LoadBalancerIngress {
        ip: Some(address.clone()),
        ip_mode: Some("VIP".to_owned()),
        ..LoadBalancerIngress::default()
    });
    ingress.collect()
}

/// Says in a condition which ports cannot be had, as long as there are any.
fn report_ports(observed: &Observed, status: &mut ServiceStatus, message: &str) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == PORTS_ERROR);
    match known {
        Some(index) if message.is_empty() => drop(conditions.remove(index)),
        Some(index) => message.clone_into(&mut conditions[index].message),
        None if message.is_empty() => {}
        None => conditions.push(Condition {
            type_: PORTS_ERROR.to_owned(),
            status: "True".to_owned(),
            reason: PORT_IN_USE.to_owned(),
            message: message.to_owned(),
            observed_generation: observed.service.metadata.generation,
            last_transition_time: Time(observed.attempt.now),
        }),
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
}
