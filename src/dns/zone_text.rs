//! Zones that somebody has written down as text (RFC 1035, 5; coredns' plugin file). Pure.

use super::cluster::Question;
use super::message::Reply;
use super::names::{name_of, text_of, within};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;
use std::collections::HashMap;

/// Why a text is no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadZone {
    /// The text would have files of this machine read.
    #[error("$INCLUDE is not supported")]
    Includes,
    #[error("{0}")]
    Unreadable(String),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ZoneText {
    zone: String,
    /// By the text of the name.
    records: HashMap<String, Vec<Record>>,
}

/// What a zone says about a question.
#[derive(Debug)]
pub(super) enum Told {
    Reply(Reply),
    /// It is another name for that one.
    Alias(Box<Record>, Name),
}

impl ZoneText {
    /// `zone` is a name as text.
    pub(super) fn parse(zone: &str, text: &str) -> Result<Self, BadZone> {
        if text.to_ascii_uppercase().contains("$INCLUDE") {
            return Err(BadZone::Includes);
        }
        let unreadable = |error: &dyn std::fmt::Display| BadZone::Unreadable(error.to_string());
        let origin = name_of(zone).ok_or_else(|| unreadable(&"the zone has no name"))?;
        let parsed = Parser::new(text, None, Some(origin)).parse();
        let (_, sets) = parsed.map_err(|error| unreadable(&error))?;
        let mut records: HashMap<String, Vec<Record>> = HashMap::new();
        for set in sets.values() {
            let own = set.records_without_rrsigs().cloned();
            let name = text_of(set.name());
            if within(&name, zone).is_some() {
                records.entry(name).or_default().extend(own);
            }
        }
        Ok(Self { zone: zone.to_owned(), records })
    }

    /// `None` for names of other zones.
    pub(super) fn answer(&self, question: &Question<'_>) -> Option<Told> {
        within(question.text, &self.zone)?;
        let Some(records) = self.find(question.text) else {
            let has_below = self.records.keys().any(|name| within(name, question.text).is_some());
            let code = if has_below { ResponseCode::NoError } else { ResponseCode::NXDomain };
            return Some(Told::Reply(self.negative(code)));
        };
        let own = |record: &Record| {
            let mut own = record.clone();
            own.name = question.name.clone();
            own
        };
        let mut of_kind = records.iter().filter(|it| it.record_type() == question.kind).peekable();
        if of_kind.peek().is_some() {
            let answers = of_kind.map(own).collect();
            let reply = Reply { is_authoritative: true, answers, ..Reply::default() };
            return Some(Told::Reply(reply));
        }
        for record in records {
            if let RData::CNAME(target) = &record.data {
                return Some(Told::Alias(Box::new(own(record)), target.0.clone()));
            }
        }
        Some(Told::Reply(self.negative(ResponseCode::NoError)))
    }

    /// The records of a name, or those of the wildcard that it falls under (RFC 4592): the closest
    /// one above it that no name stands in the way of.
    fn find(&self, text: &str) -> Option<&Vec<Record>> {
        if let Some(records) = self.records.get(text) {
            return Some(records);
        }
        let mut name = text;
        while let Some((_, above)) = name.split_once('.') {
            if let Some(records) = self.records.get(&format!("*.{above}")) {
                return Some(records);
            }
            if above == self.zone || self.records.contains_key(above) {
                return None;
            }
            name = above;
        }
        None
    }

    fn negative(&self, code: ResponseCode) -> Reply {
        let apex = self.records.get(&self.zone).into_iter().flatten();
        let authorities = apex.filter(|it| it.record_type() == RecordType::SOA).cloned().collect();
        Reply { code, is_authoritative: true, authorities, ..Reply::default() }
    }
}
