//! Questions, and the records that answer them. Pure.

use crate::dns::names;
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::IpAddr;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::dns) struct Question<'a> {
    /// As it was asked: answers repeat it letter by letter.
    pub(in crate::dns) name: &'a Name,
    /// The same as text ([`names::text_of`]).
    pub(in crate::dns) text: &'a str,
    pub(in crate::dns) kind: RecordType,
}

impl Question<'_> {
    /// Whether an address of that family answers it.
    pub(in crate::dns) fn takes(&self, address: IpAddr) -> bool {
        match self.kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        }
    }
}

pub(in crate::dns) fn address_record(name: Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name, ttl, data)
}

/// A record whose data is another name; `None` where that is none.
pub(in crate::dns) fn record(
    question: &Question<'_>,
    ttl: u32,
    target: &str,
    data: impl FnOnce(Name) -> RData,
) -> Option<Record> {
    let target = names::name_of(target)?;
    Some(Record::from_rdata(question.name.clone(), ttl, data(target)))
}
