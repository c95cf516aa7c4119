//! What belongs to a Service besides itself, as the store has it: an IPAddress for each of its
//! addresses, a record of ours for each of its node ports.

use super::super::errors;
use super::super::keys;
use super::super::metadata::whole_second;
use super::super::server::Server;
use super::plan::Band;
use crate::api::ObjectKey;
use crate::api::ranges::address_at;
use crate::api::status::Status;
use crate::registry::{self, Kind, Object};
use crate::storage::{Entry, Key, ListRequest, Op};
use bytes::Bytes;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Random candidates that are tried before all records are read to find one that is free.
const PROBES_MAX: u32 = 16;

/// Where the records of node ports are.
pub(super) const NODE_PORTS: &str = "/kinglet.dev/nodeports/";

const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Upstream `ipallocator.ControllerName`.
pub(super) const MANAGER: &str = "ipallocator.k8s.io";

/// Something that one Service has and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    Address(IpAddr),
    NodePort(i32),
}

impl Record {
    /// Everything that a Service has.
    pub(super) fn of(service: &Service) -> BTreeSet<Self> {
        let Some(spec) = &service.spec else {
            return BTreeSet::new();
        };
        let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses = addresses.filter_map(|text| text.parse::<IpAddr>().ok()).map(Self::Address);
        let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
        let ports = ports.chain(spec.health_check_node_port).filter(|port| *port != 0);
        addresses.chain(ports.map(Self::NodePort)).collect()
    }

    pub(super) fn key(self) -> Key {
        match self {
            Self::Address(address) => {
                keys::of(addresses(), &ObjectKey::cluster(address.to_string()))
            }
            Self::NodePort(port) => Key::from(format!("{NODE_PORTS}{port}")),
        }
    }

    fn prefix(self) -> String {
        match self {
            Self::Address(_) => keys::prefix(addresses(), None),
            Self::NodePort(_) => NODE_PORTS.to_owned(),
        }
    }
}

/// The kind of the records of addresses.
pub(super) fn addresses() -> &'static Kind {
    registry::find("networking.k8s.io", "v1", "ipaddresses").expect("IPAddresses are built in")
}

/// A Service by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    namespace: String,
    name: String,
}

impl Owner {
    pub(super) fn of(service: &Service) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self { namespace: text(&service.metadata.namespace), name: text(&service.metadata.name) }
    }

    pub(super) fn named(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The Service whose address this is; `None` for that of something else.
    pub(super) fn of_address(address: &IPAddress) -> Option<Self> {
        let ParentReference { group, namespace, resource, name } =
            &address.spec.as_ref()?.parent_ref;
        let is_service = group.as_ref().is_none_or(String::is_empty) && resource == "services";
        let namespace = namespace.clone().unwrap_or_default();
        is_service.then(|| Self { namespace, name: name.clone() })
    }

    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(&self.namespace, &self.name)
    }

    /// What the record says that this Service has it.
    pub(super) fn value(&self, server: &Server, record: Record) -> Bytes {
        match record {
            Record::Address(address) => self.address(server, address).encode(),
            Record::NodePort(_) => Bytes::from(
                json!({"service": format!("{}/{}", self.namespace, self.name)}).to_string(),
            ),
        }
    }

    /// Upstream `newIPAddress` (pkg/registry/core/service/ipallocator, v1.35).
    fn address(&self, server: &Server, address: IpAddr) -> IPAddress {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let labels = [(FAMILY_LABEL, family), (MANAGED_BY, MANAGER)];
        let labels: BTreeMap<_, _> =
            labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        IPAddress {
            metadata: ObjectMeta {
                name: Some(address.to_string()),
                uid: Some(server.config.entropy.uuid().to_string()),
                creation_timestamp: Some(Time(whole_second(server.config.clock.now()))),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: Some(IPAddressSpec {
                parent_ref: ParentReference {
                    group: None,
                    resource: "services".to_owned(),
                    namespace: Some(self.namespace.clone()),
                    name: self.name.clone(),
                },
            }),
        }
    }

    /// Whether the record that was found says that this Service has it.
    pub(super) fn has(&self, server: &Server, record: Record, found: &Entry) -> bool {
        match record {
            Record::Address(_) => {
                let address = serde_json::from_slice::<IPAddress>(&found.value);
                address.is_ok_and(|address| Self::of_address(&address).as_ref() == Some(self))
            }
            Record::NodePort(_) => found.value == self.value(server, record),
        }
    }
}

/// What is taken for a Service in this attempt, so that it does not take one thing twice.
pub(super) struct Taking<'a> {
    server: &'a Server,
    owner: Owner,
    /// What it has already.
    held: BTreeSet<Record>,
    taken: BTreeSet<Record>,
    pub(super) ops: Vec<Op>,
}

impl<'a> Taking<'a> {
    pub(super) fn by(server: &'a Server, service: &Service, held: BTreeSet<Record>) -> Self {
        let owner = Owner::of(service);
        Self { server, owner, held, taken: BTreeSet::new(), ops: Vec::new() }
    }

    /// Takes what the Service has, or nobody. Says whether it could.
    pub(super) async fn take(&mut self, record: Record) -> Result<bool, Status> {
        if self.held.contains(&record) || self.taken.contains(&record) {
            return Ok(true);
        }
        let key = record.key();
        let lookup = self.server.store.get(&key).await;
        if lookup.map_err(|error| errors::of_read(&error))?.entry.is_some() {
            return Ok(false);
        }
        self.ops.push(Op::Create { key, value: self.owner.value(self.server, record) });
        self.taken.insert(record);
        Ok(true)
    }

    pub(super) fn holds(&self, record: Record) -> bool {
        self.held.contains(&record)
    }

    /// Any free address of the first of these ranges that has one.
    pub(super) async fn take_any_address(&mut self, ranges: &[IpNet]) -> Result<IpAddr, Status> {
        for range in ranges {
            let record = |offset| Record::Address(address_at(range, offset));
            if let Some(offset) = self.take_any(Band::of_addresses(range), record).await? {
                return Ok(address_at(range, offset));
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
    }

    pub(super) async fn take_any_port(&mut self) -> Result<i32, Status> {
        let range = self.server.config.node_ports.clone();
        let first = i32::from(*range.start());
        let port_at =
            move |offset: u64| first.saturating_add(i32::try_from(offset).unwrap_or(i32::MAX));
        let record = move |offset| Record::NodePort(port_at(offset));
        let offset = self.take_any(Band::of_ports(&range), record).await?;
        offset
            .map(port_at)
            .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))
    }

    /// Takes any free record of a band: by lot, and where that fails too often, the first free one.
    async fn take_any(
        &mut self,
        band: Band,
        record: impl Fn(u64) -> Record,
    ) -> Result<Option<u64>, Status> {
        for _ in 0..PROBES_MAX {
            let Some(offset) = band.by_lot(self.server.config.entropy.draw()) else {
                return Ok(None);
            };
            if self.take_new(record(offset)).await? {
                return Ok(Some(offset));
            }
        }
        let Some(first) = band.all().next() else { return Ok(None) };
        let prefix = record(first).prefix();
        let request = ListRequest { prefix, after: None, limit: None, at: None };
        let page =
            self.server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        let taken: BTreeSet<Key> = page.entries.into_iter().map(|entry| entry.key).collect();
        for offset in band.all() {
            let record = record(offset);
            if !taken.contains(&record.key()) && self.take_new(record).await? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Takes what not even the Service itself has.
    async fn take_new(&mut self, record: Record) -> Result<bool, Status> {
        let is_own = self.held.contains(&record) || self.taken.contains(&record);
        Ok(!is_own && self.take(record).await?)
    }

    /// Gives everything back that the Service has and is not in `kept`.
    pub(super) async fn give_back_others(&mut self, kept: &BTreeSet<Record>) -> Result<(), Status> {
        let surplus: Vec<Record> = self.held.difference(kept).copied().collect();
        for record in surplus {
            self.give_back(record).await?;
        }
        Ok(())
    }

    /// Gives a record back, if it is this owner's.
    async fn give_back(&mut self, record: Record) -> Result<(), Status> {
        let key = record.key();
        let lookup = self.server.store.get(&key).await;
        let entry = lookup.map_err(|error| errors::of_read(&error))?.entry;
        if let Some(entry) = entry.filter(|entry| self.owner.has(self.server, record, entry)) {
            self.ops.push(Op::Delete { key, expected: entry.revision });
        }
        Ok(())
    }
}
