//! The decision about the Endpoints of a Service (upstream `syncService`, pkg/controller/endpoint/
//! endpoints_controller.go, v1.35).

use super::super::endpoint_subsets::repack;
use super::super::service_pods::{
    HEADLESS_LABEL, TRIGGER_TIME, addresses, can_be_reached, hostname, is_headless, target_port,
};
use crate::api::pod::{condition, is_ready, node_name};
use crate::client::object_reference;
use crate::control::{Detail, Plan, Planned, Report, Write};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// More addresses than this are left out, those that are not ready first; an annotation says so.
pub(super) const ADDRESSES_MAX: usize = 1_000;

const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// With a selector; `None` where the Service is gone.
    pub service: Option<Arc<Service>>,
    /// The pods that it selects.
    pub pods: Vec<Arc<Pod>>,
    /// What there is by the name of the Service.
    pub endpoints: Option<Arc<Endpoints>>,
}

pub fn plan(observed: &Observed) -> Plan {
    match (&observed.service, &observed.endpoints) {
        (Some(service), endpoints) => keep(service, &observed.pods, endpoints.as_deref()),
        // Upstream also deletes what users have written where no Service ever was, when it starts.
        (None, Some(endpoints)) if is_own(endpoints) => Plan::of([Write::delete(&**endpoints)]),
        (None, _) => Plan::default(),
    }
}

fn is_own(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
}

fn keep(service: &Service, pods: &[Arc<Pod>], current: Option<&Endpoints>) -> Plan {
    let mut subsets = repack(&subsets(service, pods));
    let is_truncated = truncate(&mut subsets);
    let mut wanted = current.cloned().unwrap_or_else(|| named_as(service));
    wanted.metadata.labels = Some(labels(service));
    let before = current.and_then(|current| current.subsets.as_deref()).unwrap_or_default();
    if !is_same(before, &subsets) {
        wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    }
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if is_truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    if current == Some(&wanted)
        || (current.is_none() && service.metadata.deletion_timestamp.is_some())
    {
        return Plan::default();
    }
    let time = match current {
        Some(_) => trigger_time(before, &wanted, pods),
        None => service.metadata.creation_timestamp.as_ref().map(|time| time.0),
    };
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    match time {
        Some(time) => drop(annotations.insert(TRIGGER_TIME.to_owned(), time.to_string())),
        None => drop(annotations.remove(TRIGGER_TIME)),
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    let (write, reason) = match current {
        Some(_) => (Write::update(&wanted), "FailedToUpdateEndpoint"),
        None => (Write::create(&wanted), "FailedToCreateEndpoint"),
    };
    let failed = Report::warning(reason, "Failed to write endpoints: ").with(Detail::Error);
    let planned = Planned { write, succeeded: None, failed: Some(failed) };
    let regarding = object_reference(&wanted);
    Plan { steps: vec![vec![planned]], regarding, ..Plan::default() }
}

fn named_as(service: &Service) -> Endpoints {
    let ObjectMeta { name, namespace, .. } = service.metadata.clone();
    Endpoints { metadata: ObjectMeta { name, namespace, ..ObjectMeta::default() }, subsets: None }
}

/// Those of the Service, and what the Endpoints are.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

/// One subset for each pod and port.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.clone().unwrap_or_default();
    let publishes_unready = spec.publish_not_ready_addresses == Some(true);
    let ports = spec.ports.unwrap_or_default();
    let mut subsets = Vec::new();
    for pod in pods.iter().filter(|pod| can_be_reached(pod)) {
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        let Some(address) = address(service, pod).filter(|_| publishes_unready || !is_leaving)
        else {
            continue;
        };
        let is_ready = publishes_unready || is_ready(pod);
        let subset = |ports| EndpointSubset {
            addresses: is_ready.then(|| vec![address.clone()]),
            not_ready_addresses: (!is_ready).then(|| vec![address.clone()]),
            ports,
        };
        if ports.is_empty() && is_headless(service) {
            subsets.push(subset(None));
        }
        let own = ports.iter().filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone(),
                port: target_port(pod, port)?,
                protocol: port.protocol.clone(),
                app_protocol: port.app_protocol.clone(),
            })
        });
        subsets.extend(own.map(|port| subset(Some(vec![port]))));
    }
    subsets
}

/// The address of the first family of the Service: there is room for one here.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let families = service.spec.as_ref()?.ip_families.as_deref().unwrap_or_default();
    let is_ipv4 = families.first().is_none_or(|family| family == "IPv4");
    let ip = addresses(pod).find(|address| address.is_ipv4() == is_ipv4)?;
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: hostname(pod, service).map(str::to_owned),
        node_name: node_name(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}

/// Leaves out what is too much, from each subset in proportion (upstream `truncateEndpoints`).
fn truncate(subsets: &mut [EndpointSubset]) -> bool {
    let count = |of: fn(&EndpointSubset) -> &Option<Vec<EndpointAddress>>| {
        move |subset: &EndpointSubset| of(subset).as_ref().map_or(0, Vec::len)
    };
    let (ready, not_ready) = (count(|it| &it.addresses), count(|it| &it.not_ready_addresses));
    let ready_total: usize = subsets.iter().map(&ready).sum();
    let not_ready_total: usize = subsets.iter().map(&not_ready).sum();
    if ready_total + not_ready_total <= ADDRESSES_MAX {
        return false;
    }
    let keeps_ready = ready_total <= ADDRESSES_MAX;
    let (total, room) = match keeps_ready {
        true => (not_ready_total, ADDRESSES_MAX - ready_total),
        false => (ready_total, ADDRESSES_MAX),
    };
    let mut left = room;
    for subset in subsets {
        let own = if keeps_ready { not_ready(subset) } else { ready(subset) };
        let share = (own * room).div_ceil(total).min(left);
        let list =
            if keeps_ready { &mut subset.not_ready_addresses } else { &mut subset.addresses };
        if let Some(list) = list {
            list.truncate(share);
        }
        if !keeps_ready {
            subset.not_ready_addresses = None;
        }
        left -= share.min(own);
    }
    true
}

/// Versions of pods do not matter.
fn is_same(one: &[EndpointSubset], other: &[EndpointSubset]) -> bool {
    let essence = |subsets: &[EndpointSubset]| {
        let mut subsets = subsets.to_vec();
        for subset in &mut subsets {
            let lists = [&mut subset.addresses, &mut subset.not_ready_addresses];
            for address in lists.into_iter().flatten().flatten() {
                if let Some(target) = &mut address.target_ref {
                    target.resource_version = None;
                }
            }
        }
        subsets
    };
    essence(one) == essence(other)
}

/// The first change of a pod that was not written down yet.
fn trigger_time(
    before: &[EndpointSubset],
    wanted: &Endpoints,
    pods: &[Arc<Pod>],
) -> Option<Timestamp> {
    let known = states(before);
    let subsets = wanted.subsets.as_deref().unwrap_or_default();
    let changed: BTreeSet<_> =
        states(subsets).difference(&known).map(|(ip, _)| ip.clone()).collect();
    let pods = pods.iter().filter(|pod| addresses(pod).any(|it| changed.contains(&it.to_string())));
    pods.filter_map(|pod| Some(condition(pod, "Ready")?.last_transition_time.as_ref()?.0)).min()
}

/// Every address, with whether it is ready.
fn states(subsets: &[EndpointSubset]) -> BTreeSet<(String, bool)> {
    let each = subsets.iter().flat_map(|subset| {
        let ready = subset.addresses.iter().flatten().map(|address| (address.ip.clone(), true));
        let others = subset.not_ready_addresses.iter().flatten();
        ready.chain(others.map(|address| (address.ip.clone(), false))).collect::<Vec<_>>()
    });
    each.collect()
}
