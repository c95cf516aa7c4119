//! What of the cluster is in names, kept up by one change after the other. Pure: no lock, no
//! clock, no cache.
//!
//! Start at [`Index`]. Architecture invariant: the index holds what answers need and nothing else
//! of an object: a Service with an address takes about 150 bytes here, an endpoint about 100.

mod entry;
#[cfg(test)]
mod tests;

pub(super) use entry::{Endpoint, Exposed, Port, Slice, undashed};

use crate::api::ObjectKey;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Whose objects have been read at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// What is missing here may be there all the same.
    NotYet,
    Yes,
}

/// See the module. Names are as Kubernetes has them: lower case.
#[derive(Debug)]
pub(super) struct Index {
    /// By `service.namespace`.
    services: HashMap<Arc<str>, Named>,
    /// By `slice.namespace`: the key of the Service that it is of.
    slices: HashMap<Box<str>, Arc<str>>,
    /// Which Services have the address, or an endpoint with it: one entry for each time that it is
    /// told of, so that taking one away leaves the others.
    holders: HashMap<IpAddr, Vec<Arc<str>>>,
    namespaces: HashSet<Box<str>>,
    nodes: HashMap<Box<str>, Box<[IpAddr]>>,
    whole: Whole,
    /// Grows with every change.
    serial: u32,
}

/// All that is known under the name of a Service. The Service may be missing where its slices came
/// first, or are left over.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) exposed: Option<Exposed>,
    slices: Vec<(Box<str>, Slice)>,
}

impl Named {
    /// What the slices say.
    pub(super) fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().map(|(_name, slice)| slice)
    }

    fn addresses(&self) -> &[IpAddr] {
        match &self.exposed {
            Some(Exposed::Cluster { addresses, .. }) => addresses,
            _ => &[],
        }
    }

    fn is_empty(&self) -> bool {
        self.exposed.is_none() && self.slices.is_empty()
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            services: HashMap::new(),
            slices: HashMap::new(),
            holders: HashMap::new(),
            namespaces: HashSet::new(),
            nodes: HashMap::new(),
            whole: Whole::NotYet,
            serial: 1,
        }
    }

    /// Everything has been read.
    pub(super) fn set_whole(&mut self) {
        self.whole = Whole::Yes;
        self.changed();
    }

    pub(super) fn whole(&self) -> Whole {
        self.whole
    }

    pub(super) fn serial(&self) -> u32 {
        self.serial
    }

    /// `name` is `service.namespace`.
    pub(super) fn service(&self, name: &str) -> Option<&Named> {
        self.services.get(name)
    }

    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// The Services that have the address or an endpoint with it, with their keys.
    pub(super) fn holders(&self, address: IpAddr) -> impl Iterator<Item = (&str, &Named)> {
        let keys = self.holders.get(&address).into_iter().flatten();
        keys.filter_map(move |key| Some((&**key, self.services.get(key)?)))
    }

    /// The addresses of the node of this name.
    pub(super) fn node(&self, name: &str) -> Option<&[IpAddr]> {
        self.nodes.get(name).map(|addresses| &**addresses)
    }

    /// The node that has the address.
    pub(super) fn node_with(&self, address: IpAddr) -> Option<&str> {
        let mut nodes = self.nodes.iter();
        nodes.find(|(_, addresses)| addresses.contains(&address)).map(|(name, _)| &**name)
    }

    /// The Service is this now; `None`: it is gone.
    pub(super) fn set_service(&mut self, key: &ObjectKey, service: Option<&Service>) {
        self.changed();
        let key = self.shared(&key.name, key.namespace.as_deref());
        let exposed = service.and_then(Exposed::of);
        let named = self.services.entry(Arc::clone(&key)).or_default();
        let before = named.addresses().to_vec();
        named.exposed = exposed;
        let after = named.addresses().to_vec();
        self.drop_if_empty(&key);
        self.let_go(&key, before);
        self.hold(&key, after);
    }

    /// The slice is this now; `None`: it is gone.
    pub(super) fn set_slice(&mut self, key: &ObjectKey, slice: Option<&EndpointSlice>) {
        self.changed();
        let namespace = key.namespace.as_deref();
        let own = joined(&key.name, namespace);
        self.remove_slice(&own);
        let Some((service, slice)) = slice.and_then(Slice::of) else { return };
        let service = self.shared(service, namespace);
        let addresses = slice.endpoints.iter().map(|endpoint| endpoint.address).collect();
        let named = self.services.entry(Arc::clone(&service)).or_default();
        named.slices.push((own.clone(), slice));
        self.slices.insert(own, Arc::clone(&service));
        self.hold(&service, addresses);
    }

    fn remove_slice(&mut self, own: &str) {
        let Some(service) = self.slices.remove(own) else { return };
        let Some(named) = self.services.get_mut(&service) else { return };
        let at = named.slices.iter().position(|(name, _)| **name == *own);
        let removed = at.map(|at| named.slices.remove(at).1);
        self.drop_if_empty(&service);
        let endpoints = removed.iter().flat_map(|slice| &slice.endpoints);
        let addresses = endpoints.map(|endpoint| endpoint.address).collect();
        self.let_go(&service, addresses);
    }

    pub(super) fn set_namespace(&mut self, name: &str, is_there: bool) {
        self.changed();
        if is_there {
            self.namespaces.insert(name.into());
        } else {
            self.namespaces.remove(name);
        }
    }

    pub(super) fn set_node(&mut self, name: &str, node: Option<&Node>) {
        match node.map(entry::node_addresses) {
            Some(addresses) if !addresses.is_empty() => self.nodes.insert(name.into(), addresses),
            _ => self.nodes.remove(name),
        };
    }

    fn changed(&mut self) {
        self.serial = self.serial.wrapping_add(1);
    }

    /// `name.namespace`, in one copy for all who keep it.
    fn shared(&self, name: &str, namespace: Option<&str>) -> Arc<str> {
        let key = joined(name, namespace);
        match self.services.get_key_value(&*key) {
            Some((shared, _)) => Arc::clone(shared),
            None => key.into(),
        }
    }

    fn drop_if_empty(&mut self, key: &str) {
        if self.services.get(key).is_some_and(Named::is_empty) {
            self.services.remove(key);
        }
    }

    fn hold(&mut self, key: &Arc<str>, addresses: Vec<IpAddr>) {
        for address in addresses {
            let holders = self.holders.entry(address).or_insert_with(|| Vec::with_capacity(1));
            holders.push(Arc::clone(key));
        }
    }

    fn let_go(&mut self, key: &Arc<str>, addresses: Vec<IpAddr>) {
        for address in addresses {
            let Some(holders) = self.holders.get_mut(&address) else { continue };
            if let Some(at) = holders.iter().position(|holder| holder == key) {
                holders.swap_remove(at);
            }
            if holders.is_empty() {
                self.holders.remove(&address);
            }
        }
    }
}

fn joined(name: &str, namespace: Option<&str>) -> Box<str> {
    format!("{name}.{}", namespace.unwrap_or_default()).into()
}
