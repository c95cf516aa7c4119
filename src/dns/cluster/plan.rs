//! The decision: a question about a name of the cluster, and what is known. Pure.

use super::parse::{Wanted, parse};
use super::records::{Question, address_record, record};
use super::{TTL, Zone};
use crate::dns::index::{Endpoint, Exposed, Index, Named, Port, Slice, Whole, undashed};
use crate::dns::names::{name_of, within};
use hickory_proto::rr::rdata::{CNAME, NS, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::HashSet;
use std::net::IpAddr;

/// The version of the specification that is followed.
const SCHEMA_VERSION: &str = "1.1.0";

/// How long that may be kept, in seconds: as in the specification's example, and coredns.
const SCHEMA_VERSION_TTL: u32 = 28_800;

/// What SRV records that are to be used evenly share.
const WEIGHTS: usize = 100;

/// What is known about a question.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dns) enum Outcome {
    Found {
        answers: Vec<Record>,
        additional: Vec<Record>,
    },
    /// The name is another one for `target`, which is to be asked for next.
    Alias {
        record: Box<Record>,
        target: Name,
    },
    /// The name is there, and has nothing of that type. With the start of authority.
    NoData(Box<Record>),
    /// There is no such name. With the start of authority.
    NoName(Box<Record>),
    /// Nothing is known, but not all has been read.
    NotReady,
    /// Somebody else's name.
    Elsewhere,
}

/// What one look comes to, before it is decided how to say it.
enum Found {
    Records(Vec<Record>),
    WithAdditional(Vec<Record>, Vec<Record>),
    Alias(Box<Record>, Name),
    /// The name is there.
    Name,
    Nothing,
}

/// `turn` differs from one question to the next: of several addresses each is the first in turn,
/// because that is the one that most take.
pub(in crate::dns) fn answer(
    index: &Index,
    zone: &Zone,
    question: &Question<'_>,
    turn: usize,
) -> Outcome {
    let Some(before) = within(question.text, &zone.domain) else { return Outcome::Elsewhere };
    let look = Look { index, zone, question, turn };
    let found = look.at(parse(before));
    let authority = || Box::new(zone.start_of_authority(zone.origin.clone(), index));
    match found {
        Found::Records(answers) if answers.is_empty() => Outcome::NoData(authority()),
        Found::Records(answers) => Outcome::Found { answers, additional: Vec::new() },
        Found::WithAdditional(answers, _) if answers.is_empty() => Outcome::NoData(authority()),
        Found::WithAdditional(answers, additional) => Outcome::Found { answers, additional },
        Found::Alias(record, target) => Outcome::Alias { record, target },
        Found::Name => Outcome::NoData(authority()),
        Found::Nothing if index.whole() == Whole::NotYet => Outcome::NotReady,
        Found::Nothing => Outcome::NoName(authority()),
    }
}

#[derive(Clone, Copy)]
struct Look<'a> {
    index: &'a Index,
    zone: &'a Zone,
    question: &'a Question<'a>,
    turn: usize,
}

impl<'a> Look<'a> {
    fn at(self, wanted: Wanted<'_>) -> Found {
        match wanted {
            Wanted::Apex => self.apex(),
            Wanted::Inner => Found::Name,
            Wanted::Version => self.version(),
            Wanted::NameServer => Found::Records(self.addresses(self.zone.addresses.iter())),
            Wanted::Namespace { namespace } => self.namespace(namespace),
            Wanted::Service { key, .. } => self.service(key),
            Wanted::Endpoint { label, key } => self.endpoint(label, key),
            Wanted::Port { name, protocol, key } => self.port(name, protocol, key),
            Wanted::Pod { label, namespace } => self.pod(label, namespace),
            Wanted::Nothing => Found::Nothing,
        }
    }

    fn apex(self) -> Found {
        let Zone { origin, name_server, addresses, .. } = self.zone;
        let own = |data| Record::from_rdata(self.question.name.clone(), TTL, data);
        match self.question.kind {
            RecordType::SOA => {
                Found::Records(vec![self.zone.start_of_authority(origin.clone(), self.index)])
            }
            RecordType::NS => {
                let glue = addresses.iter();
                let glue = glue.map(|address| address_record(name_server.clone(), TTL, *address));
                Found::WithAdditional(vec![own(RData::NS(NS(name_server.clone())))], glue.collect())
            }
            _ => Found::Name,
        }
    }

    fn version(self) -> Found {
        if self.question.kind != RecordType::TXT {
            return Found::Name;
        }
        let text = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
        let record = Record::from_rdata(self.question.name.clone(), SCHEMA_VERSION_TTL, text);
        Found::Records(vec![record])
    }

    fn namespace(self, namespace: &str) -> Found {
        if self.index.has_namespace(namespace) { Found::Name } else { Found::Nothing }
    }

    fn service(self, key: &str) -> Found {
        let Some(named) = self.index.service(key) else { return Found::Nothing };
        match &named.exposed {
            None => Found::Nothing,
            Some(Exposed::External(target)) => self.external(target),
            Some(Exposed::Cluster { addresses, ports }) => match self.question.kind {
                RecordType::SRV => self.ports_of_service(key, addresses, ports.iter()),
                _ => Found::Records(self.addresses(addresses.iter())),
            },
            Some(Exposed::Headless) => {
                let any_port = |_: &Port| true;
                match self.question.kind {
                    RecordType::SRV => self.ports_of_endpoints(key, named, any_port),
                    _ => self.endpoints(named.slices().flat_map(|slice| &slice.endpoints)),
                }
            }
        }
    }

    /// A name that stands for another. What only looks like a name is none.
    fn external(self, target: &str) -> Found {
        if target.parse::<IpAddr>().is_ok() || target == self.question.text {
            return Found::Nothing;
        }
        let record = record(self.question, TTL, target, |name| RData::CNAME(CNAME(name)));
        match (record, name_of(target)) {
            (Some(record), Some(_)) if self.question.kind == RecordType::CNAME => {
                Found::Records(vec![record])
            }
            (Some(record), Some(target)) => Found::Alias(Box::new(record), target),
            _ => Found::Nothing,
        }
    }

    /// One endpoint by its name: also of a Service with an address (coredns `findServices`).
    fn endpoint(self, label: &str, key: &str) -> Found {
        let Some(named) = self.index.service(key) else { return Found::Nothing };
        match &named.exposed {
            None | Some(Exposed::External(_)) => return Found::Nothing,
            Some(Exposed::Cluster { .. } | Exposed::Headless) => {}
        }
        if let Some(protocol) = label.strip_prefix('_') {
            // `_tcp` has the names of ports below it (RFC 8020); coredns denies it.
            let is_there = named_ports(named).any(|port| port.protocol.as_str() == protocol);
            return if is_there { Found::Name } else { Found::Nothing };
        }
        let address = undashed(label);
        let called = |endpoint: &&Endpoint| endpoint.is_called(label, address);
        if self.question.kind == RecordType::SRV {
            return self.ports_of_endpoint(key, named, label);
        }
        self.endpoints(named.slices().flat_map(|slice| &slice.endpoints).filter(called))
    }

    /// A port by its name.
    fn port(self, name: &str, protocol: &str, key: &str) -> Found {
        let Some(named) = self.index.service(key) else { return Found::Nothing };
        let is_it = |port: &Port| {
            !port.name.is_empty()
                && port.name.eq_ignore_ascii_case(name)
                && port.protocol.as_str() == protocol
        };
        match &named.exposed {
            None | Some(Exposed::External(_)) => Found::Nothing,
            Some(Exposed::Cluster { addresses, ports }) => {
                if !ports.iter().any(is_it) {
                    return Found::Nothing;
                }
                match self.question.kind {
                    RecordType::SRV => {
                        let ports = ports.iter().filter(|port| is_it(port));
                        self.ports_of_service(key, addresses, ports)
                    }
                    _ => Found::Records(self.addresses(addresses.iter())),
                }
            }
            Some(Exposed::Headless) => match self.question.kind {
                RecordType::SRV => self.ports_of_endpoints(key, named, is_it),
                _ => {
                    let slices = named.slices().filter(|slice| slice.ports.iter().any(is_it));
                    self.endpoints(slices.flat_map(|slice| &slice.endpoints))
                }
            },
        }
    }

    /// Whatever address the label says, if the namespace is there (coredns `findPods`).
    fn pod(self, label: &str, namespace: &str) -> Found {
        match undashed(label) {
            Some(address) if self.index.has_namespace(namespace) => {
                Found::Records(self.addresses([address].iter()))
            }
            _ => Found::Nothing,
        }
    }

    /// Addresses of endpoints: no endpoint, no name.
    fn endpoints<'e>(self, endpoints: impl Iterator<Item = &'e Endpoint>) -> Found {
        let mut endpoints = endpoints.peekable();
        if endpoints.peek().is_none() {
            return Found::Nothing;
        }
        Found::Records(self.addresses(endpoints.map(|endpoint| &endpoint.address)))
    }

    /// Those that the question takes, each once, in turn.
    fn addresses<'e>(self, addresses: impl Iterator<Item = &'e IpAddr>) -> Vec<Record> {
        let mut taken: Vec<IpAddr> =
            addresses.copied().filter(|address| self.question.takes(*address)).collect();
        taken.sort_unstable();
        taken.dedup();
        if !taken.is_empty() {
            let first = self.turn % taken.len();
            taken.rotate_left(first);
        }
        let record = |address| address_record(self.question.name.clone(), TTL, address);
        taken.into_iter().map(record).collect()
    }

    fn ports_of_service<'p>(
        self,
        key: &str,
        addresses: &[IpAddr],
        ports: impl Iterator<Item = &'p Port>,
    ) -> Found {
        let Some(target) = self.below(key, None) else { return Found::Nothing };
        let glue = addresses.iter().map(|address| (target.clone(), *address)).collect();
        let ports: Vec<_> = ports.map(|port| (port.number, target.clone())).collect();
        self.ports(ports, glue)
    }

    fn ports_of_endpoint(self, key: &str, named: &Named, label: &str) -> Found {
        let address = undashed(label);
        let called = |endpoint: &Endpoint| endpoint.is_called(label, address);
        self.ports_where(key, named.slices(), |_| true, called)
    }

    fn ports_of_endpoints(
        self,
        key: &str,
        named: &Named,
        is_wanted: impl Fn(&Port) -> bool,
    ) -> Found {
        self.ports_where(key, named.slices(), is_wanted, |_| true)
    }

    /// Each wanted port of each wanted endpoint.
    fn ports_where<'s>(
        self,
        key: &str,
        slices: impl Iterator<Item = &'s Slice>,
        is_port: impl Fn(&Port) -> bool,
        is_endpoint: impl Fn(&Endpoint) -> bool,
    ) -> Found {
        let (mut ports, mut glue, mut is_there) = (Vec::new(), Vec::new(), false);
        for slice in slices {
            let wanted: Vec<_> = slice.ports.iter().filter(|port| is_port(port)).collect();
            // A slice without ports has endpoints all the same, but nothing to say about ports.
            let counts = !wanted.is_empty() || slice.ports.is_empty();
            for endpoint in slice.endpoints.iter().filter(|endpoint| is_endpoint(endpoint)) {
                is_there |= counts;
                let Some(target) = self.below(key, Some(endpoint)) else { continue };
                ports.extend(wanted.iter().map(|port| (port.number, target.clone())));
                if !wanted.is_empty() {
                    glue.push((target, endpoint.address));
                }
            }
        }
        if is_there { self.ports(ports, glue) } else { Found::Nothing }
    }

    /// SRV records with the addresses of their targets.
    fn ports(self, ports: Vec<(u16, Name)>, glue: Vec<(Name, IpAddr)>) -> Found {
        let mut seen = HashSet::new();
        let ports: Vec<_> = ports.into_iter().filter(|port| seen.insert(port.clone())).collect();
        let mut seen = HashSet::new();
        let glue = glue.into_iter().filter(|glue| seen.insert(glue.clone()));
        let weight = (WEIGHTS / ports.len().max(1)).max(1);
        let weight = u16::try_from(weight).expect("at most a hundred");
        let record = |(port, target)| {
            let data = RData::SRV(SRV::new(0, weight, port, target));
            Record::from_rdata(self.question.name.clone(), TTL, data)
        };
        Found::WithAdditional(
            ports.into_iter().map(record).collect(),
            glue.map(|(name, address)| address_record(name, TTL, address)).collect(),
        )
    }

    /// The name of a Service, or of an endpoint of it.
    fn below(self, key: &str, endpoint: Option<&Endpoint>) -> Option<Name> {
        let domain = &self.zone.domain;
        match endpoint {
            Some(endpoint) => name_of(&format!("{}.{key}.svc.{domain}", endpoint.label())),
            None => name_of(&format!("{key}.svc.{domain}")),
        }
    }
}

/// The ports that have names below the Service's.
fn named_ports(named: &Named) -> impl Iterator<Item = &Port> {
    let own = match &named.exposed {
        Some(Exposed::Cluster { ports, .. }) => &ports[..],
        _ => &[],
    };
    let is_headless = named.exposed == Some(Exposed::Headless);
    let slices = named.slices().filter(move |slice| is_headless && !slice.endpoints.is_empty());
    let of_endpoints = slices.flat_map(|slice| slice.ports.iter());
    own.iter().chain(of_endpoints).filter(|port| !port.name.is_empty())
}
