//! Names of addresses (coredns `serviceRecordForIP`, plugin/kubernetes/reverse.go). Pure.

use super::plan::Outcome;
use super::records::{Question, record};
use super::{TTL, Zone};
use crate::dns::index::{Exposed, Index, Named, Whole};
use crate::dns::names::name_of;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{RData, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const V4: &str = "in-addr.arpa";
const V6: &str = "ip6.arpa";

/// Half a byte for each label.
const V6_NIBBLES: usize = 32;

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for, where it is a whole one.
pub(in crate::dns) fn address_of(text: &str) -> Option<IpAddr> {
    if let Some(before) = text.strip_suffix(V4).and_then(|before| before.strip_suffix('.')) {
        let mut labels = before.split('.');
        let mut octets = [0; 4];
        for octet in octets.iter_mut().rev() {
            *octet = decimal(labels.next()?)?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let before = text.strip_suffix(V6)?.strip_suffix('.')?;
    let (mut bits, mut count) = (0_u128, 0);
    for label in before.rsplit('.') {
        let [digit] = label.as_bytes() else { return None };
        let nibble = char::from(*digit).to_digit(16)?;
        bits = bits.checked_shl(4)? | u128::from(nibble);
        count += 1;
        if count > V6_NIBBLES {
            return None;
        }
    }
    (count == V6_NIBBLES).then(|| Ipv6Addr::from(bits).into())
}

/// A number as it is written in such names: no sign, no zero before it.
fn decimal(label: &str) -> Option<u8> {
    let is_plain = label == "0" || !label.starts_with(['0', '+']);
    label.parse().ok().filter(|_| is_plain)
}

/// Of addresses that are nobody's in the cluster, only those that could be are answered: nobody
/// else knows them, and they are nobody else's business. (coredns asks upstream servers.)
pub(in crate::dns) fn answer_reverse(
    index: &Index,
    zone: &Zone,
    question: &Question<'_>,
    address: IpAddr,
) -> Outcome {
    let names = names(index, zone, address);
    let authority = || {
        let apex = if address.is_ipv4() { V4 } else { V6 };
        let apex = name_of(apex).expect("a name written here");
        Box::new(zone.start_of_authority(apex, index))
    };
    if names.is_empty() {
        let is_inside = zone.ranges.iter().any(|range| range.contains(&address));
        return match (is_inside, index.whole()) {
            (false, _) => Outcome::Elsewhere,
            (true, Whole::NotYet) => Outcome::NotReady,
            (true, Whole::Yes) => Outcome::NoName(authority()),
        };
    }
    if question.kind != RecordType::PTR {
        return Outcome::NoData(authority());
    }
    let pointer = |name: &String| record(question, TTL, name, |name| RData::PTR(PTR(name)));
    let answers = names.iter().filter_map(pointer).collect();
    Outcome::Found { answers, additional: Vec::new() }
}

/// The one Service that has the address, or else the names of all endpoints that have it.
fn names(index: &Index, zone: &Zone, address: IpAddr) -> Vec<String> {
    let domain = &zone.domain;
    let mut names = Vec::new();
    for (key, named) in index.holders(address) {
        match &named.exposed {
            Some(Exposed::Cluster { addresses, .. }) if addresses.contains(&address) => {
                return vec![format!("{key}.svc.{domain}")];
            }
            Some(Exposed::External(_)) | None => {}
            Some(_) => {
                let labels = labels(named, address);
                names.extend(labels.map(|label| format!("{label}.{key}.svc.{domain}")));
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn labels(named: &Named, address: IpAddr) -> impl Iterator<Item = String> {
    let endpoints = named.slices().flat_map(|slice| &slice.endpoints);
    endpoints.filter(move |endpoint| endpoint.address == address).map(|endpoint| endpoint.label())
}
