//! The decision about Endpoints that somebody else writes: which slices say the same (upstream
//! pkg/controller/endpointslicemirroring/reconciler.go, v1.35).

use super::super::endpoint_slices::{
    IPV4, IPV6, Identity, MANAGED_BY, PortsKey, SERVICE_NAME, name_base, says_the_same,
};
use super::super::endpoint_subsets::repack;
use super::super::service_pods::TRIGGER_TIME;
use crate::api::owner::controller_reference;
use crate::client::object_reference;
use crate::control::{Plan, Report, Write};
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Of a subset with more addresses than this the others are not mirrored: a slice has room for so
/// many (upstream `--mirroring-max-endpoints-per-subset`).
pub(super) const ADDRESSES_PER_SUBSET_MAX: usize = 1_000;

/// What these slices are [managed by](MANAGED_BY).
pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that are a lock and lead nowhere.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub endpoints: Option<Arc<Endpoints>>,
    /// The Service of the same name.
    pub service: Option<Arc<Service>>,
    /// The slices of this name that this controller manages and nobody is deleting.
    pub slices: Vec<Arc<EndpointSlice>>,
}

pub fn plan(observed: &Observed) -> Plan {
    let is_led_elsewhere =
        |service: &Service| service.spec.as_ref().is_some_and(|spec| spec.selector.is_some());
    let service = observed.service.as_ref().filter(|service| !is_led_elsewhere(service));
    let endpoints = observed.endpoints.as_ref().filter(|endpoints| is_mirrored(endpoints));
    let (Some(endpoints), Some(_)) = (endpoints, service) else {
        return Plan::of(observed.slices.iter().map(|slice| Write::delete(&**slice)));
    };
    let (wanted, skipped) = wanted(endpoints);
    let mut plan = Plan { regarding: object_reference(&**endpoints), ..Plan::default() };
    let (written, deleted) = reconcile(endpoints, wanted, &observed.slices);
    let is_going = endpoints.metadata.deletion_timestamp.is_some();
    plan.then(written.iter().filter_map(|slice| match slice.metadata.name {
        Some(_) => Some(Write::update(slice)),
        None => (!is_going).then(|| Write::create(slice)),
    }));
    plan.then(deleted.iter().map(|slice| Write::delete(&**slice)));
    if skipped > 0 && !plan.steps.is_empty() {
        let message = format!(
            "A max of {ADDRESSES_PER_SUBSET_MAX} addresses can be mirrored to EndpointSlices per \
             Endpoints subset. {skipped} addresses were skipped"
        );
        plan.reports.push(Report::warning("TooManyAddressesToMirror", message));
    }
    plan
}

/// Upstream `shouldMirror`.
pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skips = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP_MIRROR));
    let is_lock = metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    skips.is_none_or(|skips| skips != "true") && !is_lock
}

/// The endpoints of one family whose ports are the same.
#[derive(Debug)]
struct Group {
    ports: Vec<EndpointPort>,
    endpoints: BTreeMap<Identity, Endpoint>,
}

type Groups = BTreeMap<(&'static str, PortsKey), Group>;

/// What is to be mirrored, and how many addresses are not.
fn wanted(endpoints: &Endpoints) -> (Groups, usize) {
    let mut groups = Groups::new();
    let mut skipped = 0;
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(mirrored_port).collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let all: Vec<_> = ready.chain(others).collect();
        skipped += all.len().saturating_sub(ADDRESSES_PER_SUBSET_MAX);
        for (address, is_ready) in all.into_iter().take(ADDRESSES_PER_SUBSET_MAX) {
            // What is no address is not let in by validation.
            let Some((family, endpoint)) = mirrored(address, is_ready) else { continue };
            let group = groups
                .entry((family, PortsKey::of(&ports)))
                .or_insert_with(|| Group { ports: ports.clone(), endpoints: BTreeMap::new() });
            group.endpoints.insert(Identity::of(&endpoint), endpoint);
        }
    }
    (groups, skipped)
}

fn mirrored_port(port: &k8s_openapi::api::core::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    }
}

fn mirrored(address: &EndpointAddress, is_ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip = address.ip.parse::<IpAddr>().ok()?.to_canonical();
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(is_ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((if ip.is_ipv4() { IPV4 } else { IPV6 }, endpoint))
}

type Existing = Vec<Arc<EndpointSlice>>;

/// One slice for each group: what is written, those that have a name already, and what goes.
fn reconcile(
    endpoints: &Endpoints,
    groups: Groups,
    slices: &[Arc<EndpointSlice>],
) -> (Vec<EndpointSlice>, Existing) {
    let mut spare: Existing = slices.to_vec();
    let mut written = Vec::new();
    let mut unplaced = Vec::new();
    for ((family, key), group) in groups {
        let is_place = |slice: &Arc<EndpointSlice>| {
            slice.address_type == family
                && PortsKey::of(slice.ports.as_deref().unwrap_or_default()) == key
        };
        match spare.iter().position(is_place) {
            Some(index) => {
                let old = spare.remove(index);
                let new = slice(endpoints, family, group, Some(&old));
                written.extend((!is_same(&old, &new)).then_some(new));
            }
            None => unplaced.push((family, group)),
        }
    }
    // A slice that would go takes what would need a new one.
    for (family, group) in unplaced {
        let old = spare.iter().position(|slice| slice.address_type == family);
        let old = old.map(|index| spare.remove(index));
        written.push(slice(endpoints, family, group, old.as_deref()));
    }
    (written, spare)
}

fn slice(
    endpoints: &Endpoints,
    family: &str,
    group: Group,
    old: Option<&EndpointSlice>,
) -> EndpointSlice {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    let mut metadata = old.map_or_else(
        || ObjectMeta { generate_name: Some(name_base(&name)), ..ObjectMeta::default() },
        |old| old.metadata.clone(),
    );
    metadata.namespace.clone_from(&endpoints.metadata.namespace);
    metadata.labels = Some(labels);
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    metadata.owner_references = Some(vec![controller_reference(endpoints)]);
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        endpoints: group.endpoints.into_values().collect(),
        ports: Some(group.ports),
    }
}

/// In whatever order the endpoints are.
fn is_same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let by_identity = |slice: &EndpointSlice| -> BTreeMap<Identity, Endpoint> {
        let endpoints = slice.endpoints.iter().cloned();
        endpoints.map(|endpoint| (Identity::of(&endpoint), endpoint)).collect()
    };
    let (before, after) = (by_identity(old), by_identity(new));
    old.metadata.labels == new.metadata.labels
        && old.metadata.annotations.clone().unwrap_or_default()
            == new.metadata.annotations.clone().unwrap_or_default()
        && old.metadata.owner_references == new.metadata.owner_references
        && before.len() == after.len()
        && after
            .iter()
            .all(|(identity, new)| before.get(identity).is_some_and(|old| says_the_same(old, new)))
}
