//! Names with addresses that somebody has written down, as in /etc/hosts (coredns' plugin hosts).
//! Pure.

use super::cluster::{Question, address_of, address_record, record};
use super::message::Reply;
use super::names::{self, within};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{RData, RecordType};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// coredns' default, in seconds.
const TTL: u32 = 3_600;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts {
    /// By name; `*.example.org` stands for every name with one label more than `example.org`.
    names: BTreeMap<String, Vec<IpAddr>>,
    pub(super) ttl: u32,
    /// Whether addresses have names too.
    pub(super) reverse: bool,
    /// Who is asked about other names.
    pub(super) others: Others,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody: such a question fails.
    #[default]
    Nobody,
    /// Whoever comes next.
    Next,
    /// Whoever comes next, about names of these zones.
    NextFor(Vec<String>),
}

impl Default for Hosts {
    fn default() -> Self {
        let (names, others) = (BTreeMap::new(), Others::default());
        Self { names, ttl: TTL, reverse: true, others }
    }
}

impl Hosts {
    /// Takes a line of a hosts file, apart already; `None` where it is none.
    pub(super) fn add(&mut self, address: &str, names: &[String]) -> Option<()> {
        let address: IpAddr = address.parse().ok()?;
        if names.is_empty() {
            return None;
        }
        for name in names {
            let addresses = self.names.entry(names::parse(name)?).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Some(())
    }

    /// `None`: somebody else is to be asked.
    pub(super) fn answer(&self, question: &Question<'_>, turn: usize) -> Option<Reply> {
        let own = |answers| Reply { is_authoritative: true, answers, ..Reply::default() };
        if let Some(addresses) = self.find(question.text) {
            let taken = addresses.iter().copied().filter(|address| question.takes(*address));
            let mut taken: Vec<_> = taken.collect();
            if !taken.is_empty() {
                let first = turn % taken.len();
                taken.rotate_left(first);
            }
            let record = |address| address_record(question.name.clone(), self.ttl, address);
            return Some(own(taken.into_iter().map(record).collect()));
        }
        let pointers = self.pointers(question);
        if !pointers.is_empty() {
            let pointer =
                |name: &&String| record(question, self.ttl, name, |name| RData::PTR(PTR(name)));
            return Some(own(pointers.iter().filter_map(pointer).collect()));
        }
        match &self.others {
            Others::Next => None,
            Others::NextFor(zones)
                if zones.iter().any(|it| within(question.text, it).is_some()) =>
            {
                None
            }
            Others::NextFor(_) | Others::Nobody => Some(Reply::of(ResponseCode::ServFail)),
        }
    }

    fn find(&self, text: &str) -> Option<&[IpAddr]> {
        let any = || {
            let (_, above) = text.split_once('.')?;
            self.names.get(&format!("*.{above}"))
        };
        self.names.get(text).or_else(any).map(Vec::as_slice)
    }

    fn pointers(&self, question: &Question<'_>) -> Vec<&String> {
        if question.kind != RecordType::PTR || !self.reverse {
            return Vec::new();
        }
        let Some(address) = address_of(question.text) else { return Vec::new() };
        let names = self.names.iter().filter(|(name, _)| !name.starts_with('*'));
        names.filter(|(_, known)| known.contains(&address)).map(|(name, _)| name).collect()
    }
}
