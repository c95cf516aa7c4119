//! Answers of other servers, for as long as they are good. Pure: the time is an argument.
//!
//! Start at [`Cache`]. Answers are kept as bytes and in two generations: what is asked for again is
//! carried into the young one, and when that is full the old one goes. Nothing waits for an entry
//! to expire; it is looked at when somebody asks.

use super::message::{AskFlags, Reply};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// All answers together take no more than about this; the ones that were asked for longest ago go.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// What an entry takes besides its name and its answer.
const ENTRY_BYTES: usize = 160;

/// No answer is kept for less: a client that asks twice in a row need not wait twice (coredns'
/// default).
const LIFE_MIN: Duration = Duration::from_secs(5);

/// That a server cannot answer is believed for this long (RFC 2308, 7.1).
const FAILURE_LIFE: Duration = Duration::from_secs(5);

/// For so long after its life an answer is better than none, where no server answers (RFC 8767).
const STALE_LIFE: Duration = Duration::from_secs(3_600);

/// An answer that was asked for again is fetched anew when less than this part of its life is left.
const REFRESH_PART: u32 = 10;

/// What is asked of others, and whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The name as text.
    pub(super) text: Box<str>,
    pub(super) kind: u16,
    pub(super) flags: AskFlags,
    /// The zone whose servers are asked.
    pub(super) zone: Box<str>,
}

impl Key {
    fn bytes(&self) -> usize {
        self.text.len() + self.zone.len()
    }
}

#[derive(Debug)]
struct Entry {
    answer: Box<[u8]>,
    stored: Instant,
    life: Duration,
    is_failure: bool,
    was_asked_again: bool,
    is_refreshing: bool,
    /// No server could say anything newer, and is not asked again before.
    rests_until: Option<Instant>,
}

impl Entry {
    /// Whether it is better than to say that there is nothing to be had just now.
    fn is_better(&self, now: Instant) -> bool {
        !self.is_failure && now < self.stored + self.life + STALE_LIFE
    }
}

/// What is known of a question.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    Nothing,
    Fresh(Reply, Refresh),
    /// Its time is over; better than nothing.
    Stale(Reply),
}

/// Whether who asks is to fetch an answer anew, because its time is nearly over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    No,
    Now,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_bytes: usize,
}

impl Cache {
    pub(super) fn get(&mut self, key: &Key, now: Instant) -> Known {
        if let Some((key, entry)) = self.old.remove_entry(key) {
            self.put(key, entry);
        }
        let Some(entry) = self.young.get_mut(key) else { return Known::Nothing };
        let age = now.saturating_duration_since(entry.stored);
        if age >= entry.life + STALE_LIFE {
            return Known::Nothing;
        }
        let left = entry.life.saturating_sub(age);
        let Some(reply) = decode(&entry.answer, left) else { return Known::Nothing };
        if left.is_zero() {
            return match entry.rests_until {
                Some(until) if now < until => Known::Fresh(reply, Refresh::No),
                _ => Known::Stale(reply),
            };
        }
        let is_due = left < entry.life / REFRESH_PART && entry.was_asked_again;
        let refresh = if is_due && !entry.is_refreshing { Refresh::Now } else { Refresh::No };
        entry.is_refreshing |= refresh == Refresh::Now;
        entry.was_asked_again = true;
        Known::Fresh(reply, refresh)
    }

    /// Keeps an answer for as long as its records say, `life_max` at most.
    pub(super) fn insert(&mut self, key: Key, reply: &Reply, life_max: Duration, now: Instant) {
        let Some(answer) = encode(reply) else { return };
        self.old.remove(&key);
        let life = life_of(reply, life_max);
        if is_failure(reply.code)
            && let Some(known) = self.young.get_mut(&key).filter(|known| known.is_better(now))
        {
            known.rests_until = Some(now + FAILURE_LIFE);
            return;
        }
        let entry = Entry {
            answer: answer.into(),
            stored: now,
            life,
            is_failure: is_failure(reply.code),
            was_asked_again: false,
            is_refreshing: false,
            rests_until: None,
        };
        self.put(key, entry);
    }

    /// Forgets everything: other servers may say something else.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let bytes = ENTRY_BYTES + key.bytes() + entry.answer.len();
        if self.young_bytes + bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(replaced) = self.young.insert(key, entry) {
            self.young_bytes -= ENTRY_BYTES + replaced.answer.len();
        }
    }
}

fn is_failure(code: ResponseCode) -> bool {
    !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// How long an answer is good: as its records say, and an answer that there is nothing as its start
/// of authority says (RFC 2308, 5).
fn life_of(reply: &Reply, life_max: Duration) -> Duration {
    if is_failure(reply.code) {
        return FAILURE_LIFE;
    }
    let seconds = match reply.answers.iter().map(|record| record.ttl).min() {
        Some(seconds) if reply.code == ResponseCode::NoError => seconds,
        answers => {
            reply.authorities.iter().filter_map(negative_life).chain(answers).min().unwrap_or(0)
        }
    };
    Duration::from_secs(seconds.into()).clamp(LIFE_MIN.min(life_max), life_max)
}

fn negative_life(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    }
}

fn encode(reply: &Reply) -> Option<Vec<u8>> {
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.response_code = ResponseCode::from_low(reply.code.low());
    message.metadata.authentic_data = reply.is_authentic;
    message.answers.clone_from(&reply.answers);
    message.authorities.clone_from(&reply.authorities);
    message.additionals.clone_from(&reply.additional);
    message.to_vec().ok()
}

/// The answer, with what is left of its time.
fn decode(bytes: &[u8], left: Duration) -> Option<Reply> {
    let message = Message::from_vec(bytes).ok()?;
    let left = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
    let aged = |records: Vec<Record>| {
        let aged = records.into_iter().map(|mut record| {
            record.ttl = record.ttl.min(left);
            record
        });
        aged.collect()
    };
    Some(Reply {
        code: message.metadata.response_code,
        is_authoritative: false,
        is_authentic: message.metadata.authentic_data,
        answers: aged(message.answers),
        authorities: aged(message.authorities),
        additional: aged(message.additionals),
    })
}

/// The key of a question.
pub(super) fn key(text: &str, kind: RecordType, flags: AskFlags, zone: &str) -> Key {
    Key { text: text.into(), kind: kind.into(), flags, zone: zone.into() }
}
