//! The elements that a port of a Service needs: pure, from a [`Port`] to keys and values.

use super::chain::{Chain, Counted, Keys, LOCAL_FROM, Way};
use super::element::{Frontend, Key, Value};
use super::model::Port;
use super::sticky::{self, Sticky};
use super::topology::Policy;
use ipnet::IpNet;
use std::net::SocketAddr;

/// What the rules of one Service are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) elements: Vec<(Key, Value)>,
    pub(super) sticky: Vec<Sticky>,
}

/// All that a Service needs.
pub(super) fn wanted(ports: &[Port]) -> Wanted {
    let mut wanted = Wanted::default();
    for port in ports {
        let sticky = sticky::of(port);
        Rendering { port, sticky: sticky.as_ref(), elements: &mut wanted.elements }.all();
        wanted.sticky.extend(sticky);
    }
    wanted
}

/// What all Services together need: who is inside of the cluster.
pub(super) fn ranges(pods: &[IpNet], services: &[IpNet]) -> Wanted {
    let pods = pods.iter().map(|range| (Key::Pods(*range), Value::Present));
    let services = services.iter().map(|range| (Key::ServiceRange(*range), Value::Present));
    Wanted { elements: pods.chain(services).collect(), sticky: Vec::new() }
}

struct Rendering<'a> {
    port: &'a Port,
    sticky: Option<&'a Sticky>,
    elements: &'a mut Vec<(Key, Value)>,
}

impl Rendering<'_> {
    fn all(mut self) {
        self.put(Key::ClusterAddress(self.port.cluster_address), Value::Present);
        self.internal();
        for frontend in self.port.external_frontends() {
            self.external(frontend);
        }
        self.firewall();
        self.hairpins();
    }

    fn internal(&mut self) {
        let frontend = self.port.at(self.port.cluster_address);
        let reachable = &self.port.reachable;
        let endpoints = match self.port.policies.internal {
            Policy::Cluster => &reachable.cluster,
            Policy::Local => &reachable.local,
        };
        if endpoints.is_empty() {
            self.put(Key::Refused(frontend), self.refusal());
            return;
        }
        let chain = match self.sticky {
            Some(sticky) => Chain::Sticky(sticky.internal()),
            None => {
                self.endpoints(frontend, endpoints, 0);
                counted(frontend, Way::Internal { count: count(endpoints) })
            }
        };
        self.put(Key::Service(frontend), Value::Goto(chain));
    }

    fn external(&mut self, frontend: Frontend) {
        let reachable = &self.port.reachable;
        let is_local = self.port.policies.external == Policy::Local;
        let has_none_for_outsiders =
            if is_local { reachable.local.is_empty() } else { reachable.cluster.is_empty() };
        if has_none_for_outsiders {
            self.put(Key::Refused(frontend), self.refusal());
        }
        if !reachable.is_anywhere {
            return;
        }
        let chain = match self.sticky {
            Some(sticky) => Chain::Sticky(sticky.external()),
            None => {
                let count = self.endpoints(frontend, &reachable.cluster, 0);
                if is_local {
                    let local = self.endpoints(frontend, &reachable.local, LOCAL_FROM);
                    counted(frontend, Way::ExternalLocal { count, local })
                } else {
                    counted(frontend, Way::External { count })
                }
            }
        };
        self.put(Key::Service(frontend), Value::Goto(chain));
    }

    /// Where there is an endpoint elsewhere, a load balancer is not told that there is none.
    fn refusal(&self) -> Value {
        if self.port.reachable.is_anywhere { Value::Drop } else { Value::Goto(Chain::Reject) }
    }

    fn endpoints(&mut self, frontend: Frontend, endpoints: &[SocketAddr], from: u32) -> u32 {
        for (number, endpoint) in (from..).zip(endpoints) {
            self.put(Key::Endpoint(frontend, number), Value::Endpoint(*endpoint));
        }
        count(endpoints)
    }

    fn firewall(&mut self) {
        if self.port.sources.is_empty() {
            return;
        }
        for address in &self.port.balanced_addresses {
            let frontend = self.port.at(*address);
            self.put(Key::Firewalled(frontend), Value::Present);
            for range in &self.port.sources {
                self.put(Key::Source(frontend, *range), Value::Present);
            }
        }
    }

    fn hairpins(&mut self) {
        let reachable = &self.port.reachable;
        for endpoint in reachable.cluster.iter().chain(&reachable.local) {
            self.put(Key::Hairpin(endpoint.ip()), Value::Present);
        }
    }

    fn put(&mut self, key: Key, value: Value) {
        self.elements.push((key, value));
    }
}

fn counted(frontend: Frontend, way: Way) -> Chain {
    Chain::Counted(Counted { keys: Keys::of(frontend.place), way })
}

fn count(endpoints: &[SocketAddr]) -> u32 {
    u32::try_from(endpoints.len()).expect("no more than ENDPOINTS_MAX")
}
