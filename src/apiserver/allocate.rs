//! What belongs to a Service besides itself: its addresses and node ports.
//!
//! Each is a record of its own in the store, written in one commit with the Service, so that no two
//! Services ever have the same and none is lost in a crash. Nothing is remembered in memory: a
//! free one is found by trying. Follows upstream pkg/registry/core/service/storage/alloc.go and
//! ipallocator (v1.35); which fields a Service's type has room for is the kind's own business.

mod plan;

use self::plan::{Band, Family};
use super::admission::Grounds;
use super::config::Config;
use super::errors;
use super::server::Server;
use crate::api::status::Status;
use crate::api::{FieldError, FieldPath};
use crate::registry::Object;
use crate::storage::{Key, ListRequest, Op};
use bytes::Bytes;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Random candidates that are tried before all records are read to find one that is free.
const PROBES_MAX: u32 = 16;

const ADDRESSES: &str = "/kinglet.dev/clusterips/";
const NODE_PORTS: &str = "/kinglet.dev/nodeports/";

/// Operations that go into the commit of the object.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    pub(super) ops: Vec<Op>,
    /// What the object was admitted on, kept until it is stored.
    grounds: Option<Grounds>,
}

impl Reservation {
    /// Adds what the object was admitted on.
    pub(super) fn rest_on(&mut self, mut grounds: Grounds) {
        self.ops.append(&mut grounds.ops);
        self.grounds = Some(grounds);
    }
}

/// What is taken for an object in this attempt, so that it does not take one thing twice.
struct Taking<'a> {
    server: &'a Server,
    owner: String,
    ops: Vec<Op>,
    taken: BTreeSet<String>,
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
    let mut taking = Taking::by(server, service);
    let held = old.map(records).unwrap_or_default();
    let spec = service.spec.get_or_insert_default();
    let filled = fill(&mut taking, spec, &held).await;
    filled.map_err(|refusal| match refusal {
        Refusal::Field(error) => Status::invalid("", "Service", &name, &[*error]),
        Refusal::Store(status) => *status,
    })?;
    let kept = records(service);
    for record in held.difference(&kept) {
        taking.give_back(record).await?;
    }
    Ok(Reservation { ops: taking.ops, grounds: None })
}

/// The records that go with an object that is removed.
pub(super) async fn release(server: &Server, old: &dyn Object) -> Result<Reservation, Status> {
    let Some(service) = old.as_any().downcast_ref::<Service>() else {
        return Ok(Reservation::default());
    };
    let mut taking = Taking::by(server, service);
    for record in records(service) {
        taking.give_back(&record).await?;
    }
    Ok(Reservation { ops: taking.ops, grounds: None })
}

/// The first address of a range, which is the API server's.
pub(super) fn first_address(cidr: &IpNet) -> IpAddr {
    plan::address_at(cidr, 1)
}

/// Why a Service cannot have what it asks for.
enum Refusal {
    Field(Box<FieldError>),
    Store(Box<Status>),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Store(Box::new(status))
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Field(Box::new(error))
    }
}

/// The keys of everything that a Service holds.
fn records(service: &Service) -> BTreeSet<String> {
    let Some(spec) = &service.spec else {
        return BTreeSet::new();
    };
    let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
    let addresses = addresses.filter_map(|text| text.parse::<IpAddr>().ok()).map(address_record);
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    let ports = ports.chain(spec.health_check_node_port).filter(|port| *port != 0);
    addresses.chain(ports.map(port_record)).collect()
}

fn address_record(address: IpAddr) -> String {
    format!("{ADDRESSES}{address}")
}

fn port_record(port: i32) -> String {
    format!("{NODE_PORTS}{port}")
}

async fn fill(
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
    held: &BTreeSet<String>,
) -> Result<(), Refusal> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(());
    }
    let config = &taking.server.config;
    let families = plan::families(spec, &plan::offered(&config.service_cidrs))?;
    spec.ip_families = Some(families.iter().map(|family| family.name().to_owned()).collect());
    let policy = if families.len() > 1 { "PreferDualStack" } else { "SingleStack" };
    spec.ip_family_policy.get_or_insert_with(|| policy.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        spec.cluster_ips = Some(vec!["None".to_owned()]);
    } else {
        fill_addresses(taking, spec, &families, held).await?;
    }
    fill_node_ports(taking, spec, held).await?;
    if plan::wants_health_check_port(spec) {
        fill_health_check_port(taking, spec, held).await?;
    }
    Ok(())
}

async fn fill_addresses(
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
    families: &[Family],
    held: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let mut wanted: Vec<String> = spec.cluster_ips.clone().unwrap_or_default();
    if wanted.is_empty() {
        wanted.extend(spec.cluster_ip.clone().filter(|address| !address.is_empty()));
    }
    let path = FieldPath::new("spec").child("clusterIPs");
    let mut addresses = Vec::with_capacity(families.len());
    for (index, family) in families.iter().enumerate() {
        let cidr = cidr_of(&taking.server.config, *family)
            .ok_or_else(|| FieldError::invalid(&path, wanted.clone(), "no range of this family"))?;
        let address = match wanted.get(index) {
            Some(text) => {
                let refused = |why: &str| {
                    let why = format!("failed to allocate IP {text}: {why}");
                    FieldError::invalid(&path, json!([text]), why)
                };
                let address: IpAddr =
                    text.parse().map_err(|_malformed| refused("it is not an address"))?;
                let record = address_record(address);
                if !held.contains(&record) {
                    if !plan::is_assignable(&cidr, address) {
                        let why = format!(
                            "the provided IP ({address}) is not in the valid range. The range of \
                             valid IPs is {cidr}"
                        );
                        return Err(refused(&why).into());
                    }
                    if !taking.take(record).await? {
                        return Err(refused("provided IP is already allocated").into());
                    }
                }
                address
            }
            None => taking.take_any_address(&cidr).await?,
        };
        addresses.push(address.to_string());
    }
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = Some(addresses);
    Ok(())
}

fn cidr_of(config: &Config, family: Family) -> Option<IpNet> {
    config.service_cidrs.iter().find(|cidr| Family::of(cidr) == family).copied()
}

/// Those that were asked for are taken whatever the Service is, so that what it shows is its own;
/// others are added where its type wants them.
async fn fill_node_ports(
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
    held: &BTreeSet<String>,
) -> Result<(), Refusal> {
    let path = FieldPath::new("spec").child("ports");
    let mut ports = spec.ports.take().unwrap_or_default();
    // These come first, so that none of them is taken for another port.
    for (index, port) in ports.iter().enumerate() {
        if let Some(wanted) = port.node_port.filter(|wanted| *wanted != 0) {
            let path = path.index(index).child("nodePort");
            taking.take_port(wanted, &path, held).await?;
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
    taking: &mut Taking<'_>,
    spec: &mut ServiceSpec,
    held: &BTreeSet<String>,
) -> Result<(), Refusal> {
    match spec.health_check_node_port.filter(|wanted| *wanted != 0) {
        Some(wanted) => {
            let path = FieldPath::new("spec").child("healthCheckNodePort");
            taking.take_port(wanted, &path, held).await?;
        }
        None => spec.health_check_node_port = Some(taking.take_any_port().await?),
    }
    Ok(())
}

impl<'a> Taking<'a> {
    fn by(server: &'a Server, service: &Service) -> Self {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let owner = format!("{namespace}/{name}");
        Self { server, owner, ops: Vec::new(), taken: BTreeSet::new() }
    }

    /// Takes a record that nobody has. Says whether it could.
    async fn take(&mut self, record: String) -> Result<bool, Status> {
        if self.taken.contains(&record) {
            return Ok(true);
        }
        let key = Key::from(record.as_str());
        let lookup = self.server.store.get(&key).await;
        if lookup.map_err(|error| errors::of_read(&error))?.entry.is_some() {
            return Ok(false);
        }
        self.ops.push(Op::Create { key, value: self.own_record() });
        self.taken.insert(record);
        Ok(true)
    }

    async fn take_port(
        &mut self,
        port: i32,
        path: &FieldPath,
        held: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let record = port_record(port);
        if held.contains(&record) {
            return Ok(());
        }
        let range = &self.server.config.node_ports;
        if !u16::try_from(port).is_ok_and(|port| range.contains(&port)) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            );
            return Err(FieldError::invalid(path, port, why).into());
        }
        if self.take(record).await? {
            return Ok(());
        }
        Err(FieldError::invalid(path, port, "provided port is already allocated").into())
    }

    async fn take_any_address(&mut self, cidr: &IpNet) -> Result<IpAddr, Status> {
        let cidr = *cidr;
        let name = move |offset| address_record(plan::address_at(&cidr, offset));
        let offset = self.take_any(Band::of_addresses(&cidr), ADDRESSES, name).await?;
        let offset = offset.ok_or_else(|| {
            Status::internal(format!("failed to allocate a serviceIP: range {cidr} is full"))
        })?;
        Ok(plan::address_at(&cidr, offset))
    }

    async fn take_any_port(&mut self) -> Result<i32, Status> {
        let range = self.server.config.node_ports.clone();
        let first = i32::from(*range.start());
        let port_at =
            move |offset: u64| first.saturating_add(i32::try_from(offset).unwrap_or(i32::MAX));
        let name = move |offset| port_record(port_at(offset));
        let offset = self.take_any(Band::of_ports(&range), NODE_PORTS, name).await?;
        offset
            .map(port_at)
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    /// Takes any free record of a band: by lot, and where that fails too often, the first free one.
    async fn take_any(
        &mut self,
        band: Band,
        prefix: &str,
        name: impl Fn(u64) -> String,
    ) -> Result<Option<u64>, Status> {
        for _ in 0..PROBES_MAX {
            let Some(offset) = band.by_lot(self.server.config.entropy.draw()) else {
                return Ok(None);
            };
            let record = name(offset);
            if !self.taken.contains(&record) && self.take(record).await? {
                return Ok(Some(offset));
            }
        }
        let request = ListRequest { prefix: prefix.to_owned(), after: None, limit: None, at: None };
        let page =
            self.server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        let mut taken: BTreeSet<String> =
            page.entries.iter().map(|entry| entry.key.as_str().to_owned()).collect();
        taken.extend(self.taken.iter().cloned());
        for offset in band.all() {
            let record = name(offset);
            if !taken.contains(&record) && self.take(record).await? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// What a record of this owner says.
    fn own_record(&self) -> Bytes {
        Bytes::from(json!({"service": self.owner}).to_string())
    }

    /// Gives a record back, if it is this owner's.
    async fn give_back(&mut self, record: &str) -> Result<(), Status> {
        let key = Key::from(record);
        let lookup = self.server.store.get(&key).await;
        let entry = lookup.map_err(|error| errors::of_read(&error))?.entry;
        if let Some(entry) = entry.filter(|entry| entry.value == self.own_record()) {
            self.ops.push(Op::Delete { key, expected: entry.revision });
        }
        Ok(())
    }
}
