//! The decision about a Service: which slices say where it leads (upstream `Reconcile`,
//! staging/src/k8s.io/endpointslice/reconciler.go, v1.35).

use super::super::endpoint_slices::{Identity, PortsKey, says_the_same};
use super::super::service_pods::{TRIGGER_TIME, can_be_reached};
use super::endpoint::{endpoint, families, ports, publishes_unready, template};
use super::hints::{self, Rule};
use super::spread::{Slices, Wanted, spread};
use crate::api::pod::{condition, node_name};
use crate::client::object_reference;
use crate::control::{Plan, Report, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// It has a selector.
    pub service: Arc<Service>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// The slices of the Service that this controller manages and nobody is deleting.
    pub slices: Vec<Arc<EndpointSlice>>,
    /// The nodes of the pods that there are, with their zones.
    pub zones: BTreeMap<String, Option<String>>,
    /// All nodes, where each zone is to have its part of the endpoints. Else empty.
    pub nodes: Vec<Arc<Node>>,
}

pub fn plan(observed: &Observed) -> Plan {
    let service = &*observed.service;
    let mut slices = Slices::default();
    let mut reports = Vec::new();
    let families = families(service);
    for family in &families {
        let (of_family, told) = plan_family(observed, family);
        slices.extend(of_family);
        reports.extend(told);
    }
    let has_gone = |slice: &&Arc<EndpointSlice>| !families.contains(&slice.address_type.as_str());
    slices.deleted.extend(observed.slices.iter().filter(has_gone).cloned());
    if service.metadata.deletion_timestamp.is_some() {
        // Those of a Service that goes are collected; others would be in the way of that.
        slices.created.clear();
    }
    stamp(observed, &mut slices);
    let mut plan = Plan { regarding: object_reference(service), ..Plan::default() };
    let created = slices.created.iter().map(Write::create);
    plan.then(created.chain(slices.updated.iter().map(Write::update)));
    plan.then(slices.deleted.iter().map(|slice| Write::delete(&**slice)));
    if !plan.steps.is_empty() {
        plan.reports = reports;
    }
    plan
}

/// Upstream `reconcileByAddressType`.
fn plan_family(observed: &Observed, family: &str) -> (Slices, Vec<Report>) {
    let service = &*observed.service;
    let is_own = |slice: &EndpointSlice| {
        let mut owners = slice.metadata.owner_references.iter().flatten();
        owners.any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref())
    };
    let existing: Vec<_> =
        observed.slices.iter().filter(|slice| slice.address_type == family).cloned().collect();
    let (own, foreign): (Vec<_>, Vec<_>) = existing.iter().cloned().partition(|it| is_own(it));
    let mut by_ports: BTreeMap<PortsKey, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in own {
        let key = PortsKey::of(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(key).or_default().push(slice);
    }
    let mut slices = Slices { deleted: foreign, ..Slices::default() };
    for (key, group) in wanted(observed, family) {
        let template = template(service, family, group.ports);
        slices.extend(spread(&by_ports.remove(&key).unwrap_or_default(), group.wanted, &template));
    }
    slices.deleted.extend(by_ports.into_values().flatten());
    if slices.kept().next().is_none() {
        keep_placeholder(&mut slices, template(service, family, Vec::new()), is_own);
    }
    let rule = Rule::of(service);
    let reports = hints::reconcile(rule, family, &observed.nodes, &existing, &mut slices);
    slices.recycle(is_own);
    slices.drop_idle_writes(&existing);
    (slices, reports)
}

/// A Service always has a slice, so that readers know that it leads nowhere.
fn keep_placeholder(
    slices: &mut Slices,
    placeholder: EndpointSlice,
    is_own: impl Fn(&EndpointSlice) -> bool,
) {
    let is_one = |slice: &Arc<EndpointSlice>| {
        slice.endpoints.is_empty()
            && slice.ports.as_ref().is_none_or(Vec::is_empty)
            && slice.metadata.labels == placeholder.metadata.labels
            && is_own(slice)
    };
    match slices.deleted.iter().position(is_one) {
        Some(index) => slices.unchanged.push(slices.deleted.remove(index)),
        None => slices.created.push(placeholder),
    }
}

/// The endpoints whose ports are the same.
struct Group {
    ports: Vec<EndpointPort>,
    wanted: Wanted,
}

fn wanted(observed: &Observed, family: &str) -> BTreeMap<PortsKey, Group> {
    let service = &*observed.service;
    let mut groups: BTreeMap<PortsKey, Group> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| can_be_reached(pod)) {
        let zone = node_name(pod).and_then(|node| observed.zones.get(node));
        if zone.is_none() && !publishes_unready(service) {
            // It is looked at again when there is such a node.
            continue;
        }
        let zone = zone.and_then(Option::as_deref);
        let ports = ports(service, pod);
        let group = groups
            .entry(PortsKey::of(&ports))
            .or_insert_with(|| Group { ports, wanted: Wanted::new() });
        if let Some(endpoint) = endpoint(service, pod, zone, family) {
            group.wanted.insert(Identity::of(&endpoint), endpoint);
        }
    }
    groups
}

/// Writes down on all slices that are written since when it is so. Upstream `TriggerTimeTracker`
/// remembers what it has seen; here it is what the slices say.
fn stamp(observed: &Observed, slices: &mut Slices) {
    let time = trigger_time(observed, slices).map(|time| time.to_string());
    for slice in slices.written() {
        let annotations = slice.metadata.annotations.get_or_insert_default();
        match &time {
            Some(time) => drop(annotations.insert(TRIGGER_TIME.to_owned(), time.clone())),
            None => drop(annotations.remove(TRIGGER_TIME)),
        }
    }
}

/// The first change of a pod that is not in the slices yet; that of the Service where there are none.
fn trigger_time(observed: &Observed, slices: &mut Slices) -> Option<Timestamp> {
    if observed.slices.is_empty() {
        return observed.service.metadata.creation_timestamp.as_ref().map(|time| time.0);
    }
    let known: BTreeMap<Identity, &Endpoint> = observed
        .slices
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .map(|endpoint| (Identity::of(endpoint), endpoint))
        .collect();
    let pods: BTreeMap<Option<&str>, &Arc<Pod>> =
        observed.pods.iter().map(|pod| (pod.metadata.name.as_deref(), pod)).collect();
    let endpoints = slices.written().flat_map(|slice| &slice.endpoints);
    let changed = endpoints.filter(|endpoint| {
        known.get(&Identity::of(endpoint)).is_none_or(|old| !says_the_same(old, endpoint))
    });
    let times = changed.filter_map(|endpoint| {
        let pod = pods.get(&endpoint.target_ref.as_ref()?.name.as_deref())?;
        Some(condition(pod, "Ready")?.last_transition_time.as_ref()?.0)
    });
    times.min()
}
