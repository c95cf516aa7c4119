//! What the cluster's own names stand for: the DNS-based service discovery specification 1.1, and
//! where that leaves things open, coredns' kubernetes plugin (`pods insecure`).
//!
//! Start at [`plan::answer`]. Architecture invariant: pure; all of it is the index, the zone and
//! the question.

mod parse;
mod plan;
mod records;
mod reverse;
#[cfg(test)]
pub(super) mod tests;

pub(super) use plan::{Outcome, answer};
pub(super) use records::{Question, address_record, record};
pub(super) use reverse::{address_of, answer_reverse};

use super::index::Index;
use super::names;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use ipnet::IpNet;
use std::net::IpAddr;

/// How long an answer about the cluster may be kept, in seconds; coredns' default. It is also how
/// long one may be kept that there is nothing.
pub(super) const TTL: u32 = 5;

/// The domain of a cluster, and who answers for it.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    /// `cluster.local`, lower case.
    pub(super) domain: String,
    origin: Name,
    name_server: Name,
    hostmaster: Name,
    /// Where the cluster's DNS answers.
    pub(super) addresses: Vec<IpAddr>,
    /// The addresses of pods and Services: nobody outside knows their names.
    pub(super) ranges: Vec<IpNet>,
}

impl Zone {
    /// `None` where the domain is no name.
    pub(super) fn new(domain: &str, addresses: Vec<IpAddr>, ranges: Vec<IpNet>) -> Option<Self> {
        let domain = names::parse(domain)?;
        Some(Self {
            origin: names::name_of(&domain)?,
            name_server: names::name_of(&format!("ns.dns.{domain}"))?,
            hostmaster: names::name_of(&format!("hostmaster.{domain}"))?,
            domain,
            addresses,
            ranges,
        })
    }

    /// What goes with an answer that there is nothing: who says so, and for how long.
    fn start_of_authority(&self, origin: Name, index: &Index) -> Record {
        let (server, hostmaster) = (self.name_server.clone(), self.hostmaster.clone());
        let soa = SOA::new(server, hostmaster, index.serial(), 7_200, 1_800, 86_400, TTL);
        Record::from_rdata(origin, TTL, RData::SOA(soa))
    }
}
