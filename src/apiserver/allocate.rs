//! What belongs to a Service besides itself: its addresses and node ports, and its Endpoints when it
//! goes.
//!
//! Each is an object or a record of its own in the store, written in one commit with the Service, so
//! that no two Services ever have the same and none is lost in a crash. Nothing is remembered in
//! memory: a free one is found by trying. Follows upstream pkg/registry/core/service/storage/
//! {alloc,storage}.go and ipallocator (v1.35); which fields a Service's type has room for is the
//! kind's own business. What others delete or change of it is mended by [`repair`].

mod families;
mod plan;
mod repair;
mod taking;

pub(super) use self::repair::keep_allocations;

use self::families::{Family, HEADLESS};
use self::taking::{Record, Taking};
use super::admission::{Grounds, service_ranges};
use super::errors;
use super::keys;
use super::server::Server;
use crate::api::ranges::address_at;
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath, ObjectKey};
use crate::registry::{self, Object, service_address_errors};
use crate::storage::Op;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Operations that go into the commit of the object.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    pub(super) ops: Vec<Op>,
    /// What the object was admitted on, kept until it is stored.
    grounds: Option<Grounds>,
}

impl Reservation {
    fn of(ops: Vec<Op>) -> Self {
        Self { ops, grounds: None }
    }

    /// Adds what the object was admitted on.
    pub(super) fn rest_on(&mut self, mut grounds: Grounds) {
        self.ops.append(&mut grounds.ops);
        self.grounds = Some(grounds);
    }
}

/// Fills in what `new` is given and says which records come and go with it.
pub(super) async fn reserve(
    server: &Server,
    old: Option<&dyn Object>,
    new: &mut dyn Object,
) -> Result<Reservation, Status> {
    let Some(service) = new.as_any_mut().downcast_mut::<Service>() else {
        return Ok(Reservation::default());
    };
    let old = old.and_then(|old| old.as_any().downcast_ref::<Service>());
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut taking = Taking::by(server, service, old.map(Record::of).unwrap_or_default());
    let old_spec = old.and_then(|old| old.spec.as_ref());
    let filled = fill(server, &mut taking, service.spec.get_or_insert_default(), old_spec).await;
    filled.map_err(|refusal| match refusal {
        Refusal::Fields(errors) => Status::invalid("", "Service", &name, &errors),
        Refusal::Store(status) => *status,
    })?;
    taking.give_back_others(&Record::of(service)).await?;
    Ok(Reservation::of(taking.ops))
}

/// The records that go with an object that is removed.
pub(super) async fn release(server: &Server, old: &dyn Object) -> Result<Reservation, Status> {
    let Some(service) = old.as_any().downcast_ref::<Service>() else {
        return Ok(Reservation::default());
    };
    let mut taking = Taking::by(server, service, Record::of(service));
    taking.give_back_others(&BTreeSet::new()).await?;
    taking.ops.extend(endpoints_of(server, service).await?);
    Ok(Reservation::of(taking.ops))
}

/// Removes the Endpoints of a Service, which would lead elsewhere if another got its name (upstream
/// `afterDelete`). Those that somebody holds by a finalizer are left to their controller.
async fn endpoints_of(server: &Server, service: &Service) -> Result<Option<Op>, Status> {
    let kind = registry::find("", "v1", "endpoints").expect("Endpoints are built in");
    let key = ObjectKey {
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone().unwrap_or_default(),
    };
    let lookup = server.store.get(&keys::of(kind, &key)).await;
    let Some(entry) = lookup.map_err(|error| errors::of_read(&error))?.entry else {
        return Ok(None);
    };
    let object = kind.decode_stored(&entry.value).map_err(Status::internal)?;
    let is_held = object.metadata().finalizers.as_ref().is_some_and(|all| !all.is_empty());
    Ok((!is_held).then_some(Op::Delete { key: entry.key, expected: entry.revision }))
}

/// The first address of a range, which is the API server's.
pub(super) fn first_address(cidr: &IpNet) -> IpAddr {
    address_at(cidr, 1)
}

/// Why a Service cannot have what it asks for.
enum Refusal {
    Fields(Vec<FieldError>),
    Store(Box<Status>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Store(Box::new(status))
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Fields(vec![error])
    }
}

async fn fill(
    server: &Server,
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
) -> Result<(), Refusal> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(());
    }
    let errors = service_address_errors(spec);
    if !errors.is_empty() {
        return Err(Refusal::Fields(errors));
    }
    let offered = families::offered(&server.config.service_cidrs);
    families::complete(spec, old, &offered).map_err(Refusal::Fields)?;
    if spec.cluster_ip.as_deref() == Some(HEADLESS) {
        spec.cluster_ips = Some(vec![HEADLESS.to_owned()]);
    } else {
        fill_addresses(server, taking, spec).await?;
    }
    fill_node_ports(server, taking, spec).await?;
    if plan::wants_health_check_port(spec) {
        fill_health_check_port(server, taking, spec).await?;
    }
    Ok(())
}

async fn fill_addresses(
    server: &Server,
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
) -> Result<(), Refusal> {
    let wanted: Vec<String> = spec.cluster_ips.clone().unwrap_or_default();
    let ranges: Vec<IpNet> = service_ranges(server).await?.iter().flat_map(plan::usable).collect();
    let mut addresses = Vec::new();
    for (index, family) in families::of_service(spec).into_iter().enumerate() {
        let address = match wanted.get(index) {
            Some(text) => take_address(taking, text, &ranges).await?,
            None => {
                let own = ranges.iter().filter(|range| Family::of(range) == family);
                taking.take_any_address(&own.copied().collect::<Vec<_>>()).await?
            }
        };
        addresses.push(address.to_string());
    }
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = Some(addresses);
    Ok(())
}

/// What the Service has already it keeps, wherever the ranges have gone.
async fn take_address(
    taking: &mut Taking<'_>,
    text: &str,
    ranges: &[IpNet],
) -> Result<IpAddr, Refusal> {
    let path = FieldPath::new("spec").child("clusterIPs");
    let refused = |why: &str| {
        let why = format!("failed to allocate IP {text}: {why}");
        FieldError::invalid(&path, json!([text]), why)
    };
    let address: IpAddr = text.parse().map_err(|_malformed| refused("it is not an address"))?;
    let record = Record::Address(address);
    if !taking.holds(record) {
        plan::check_address(ranges, address).map_err(|why| refused(&why))?;
        if !taking.take(record).await? {
            return Err(refused("provided IP is already allocated").into());
        }
    }
    Ok(address)
}

/// Those that were asked for are taken whatever the Service is, so that what it shows is its own;
/// others are added where its type wants them.
async fn fill_node_ports(
    server: &Server,
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
) -> Result<(), Refusal> {
    let path = FieldPath::new("spec").child("ports");
    let mut ports = spec.ports.take().unwrap_or_default();
    // These come first, so that none of them is taken for another port.
    for (index, port) in ports.iter().enumerate() {
        if let Some(wanted) = port.node_port.filter(|wanted| *wanted != 0) {
            let path = path.index(index).child("nodePort");
            take_port(server, taking, wanted, &path).await?;
        }
    }
    if plan::wants_node_ports(spec) {
        let mut shared = plan::SharedPorts::of(&ports);
        for port in ports.iter_mut().filter(|port| port.node_port.unwrap_or_default() == 0) {
            port.node_port = Some(match shared.find(port) {
                Some(port) => port,
                None => taking.take_any_port().await?,
            });
            shared.add(port);
        }
    }
    spec.ports = Some(ports);
    Ok(())
}

async fn fill_health_check_port(
    server: &Server,
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
) -> Result<(), Refusal> {
    match spec.health_check_node_port.filter(|wanted| *wanted != 0) {
        Some(wanted) => {
            let path = FieldPath::new("spec").child("healthCheckNodePort");
            take_port(server, taking, wanted, &path).await?;
        }
        None => spec.health_check_node_port = Some(taking.take_any_port().await?),
    }
    Ok(())
}

async fn take_port(
    server: &Server,
    taking: &mut Taking<'_>,
    port: i32,
    path: &FieldPath,
) -> Result<(), Refusal> {
    let record = Record::NodePort(port);
    if taking.holds(record) {
        return Ok(());
    }
    let range = &server.config.node_ports;
    if !u16::try_from(port).is_ok_and(|port| range.contains(&port)) {
        let why = format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            range.start(),
            range.end()
        );
        return Err(FieldError::invalid(path, port, why).into());
    }
    if taking.take(record).await? {
        return Ok(());
    }
    Err(FieldError::invalid(path, port, "provided port is already allocated").into())
}
