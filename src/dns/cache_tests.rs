//! How long answers are kept.

use super::cache::{Cache, Key, Known, Refresh, key};
use super::message::{AskFlags, Reply};
use super::names::name_of;
use crate::stdx::monotonic;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{RData, Record, RecordType};
use std::time::Duration;

const LIFE: Duration = Duration::from_secs(30);

fn question(text: &str) -> Key {
    key(text, RecordType::A, AskFlags::default(), "")
}

fn found(ttl: u32) -> Reply {
    let record =
        Record::from_rdata(name_of("a.example").unwrap(), ttl, RData::A(A::new(1, 2, 3, 4)));
    Reply { answers: vec![record], ..Reply::default() }
}

fn missing(ttl: u32, minimum: u32) -> Reply {
    let name = name_of("example").unwrap();
    let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, minimum);
    let record = Record::from_rdata(name, ttl, RData::SOA(soa));
    Reply { authorities: vec![record], ..Reply::of(ResponseCode::NXDomain) }
}

/// The state of an answer after so many seconds: what is left of it.
fn after(reply: &Reply, seconds: u64) -> String {
    let (mut cache, start) = (Cache::default(), monotonic());
    cache.insert(question("a.example"), reply, LIFE, start);
    show(&cache.get(&question("a.example"), start + Duration::from_secs(seconds)))
}

fn show(known: &Known) -> String {
    let ttl = |reply: &Reply| {
        let mut records = reply.answers.iter().chain(&reply.authorities);
        records.next().map_or(0, |record| record.ttl)
    };
    match known {
        Known::Nothing => "nothing".to_owned(),
        Known::Fresh(reply, Refresh::No) => format!("{:?} for {}", reply.code, ttl(reply)),
        Known::Fresh(reply, Refresh::Now) => {
            format!("{:?} for {}, refresh", reply.code, ttl(reply))
        }
        Known::Stale(reply) => format!("{:?} for {}, stale", reply.code, ttl(reply)),
    }
}

#[test]
fn answers_live_as_long_as_their_records() {
    assert_eq!(after(&found(20), 0), "NoError for 20");
    assert_eq!(after(&found(20), 13), "NoError for 7");
    assert_eq!(after(&found(20), 20), "NoError for 1, stale");
    assert_eq!(after(&found(600), 29), "NoError for 1");
    assert_eq!(after(&found(600), 30), "NoError for 1, stale");
    assert_eq!(after(&found(0), 4), "NoError for 0");
    assert_eq!(after(&found(20), 3_700), "nothing");
    assert_eq!(after(&missing(900, 10), 9), "NXDomain for 1");
    assert_eq!(after(&missing(8, 900), 8), "NXDomain for 1, stale");
    assert_eq!(after(&Reply::of(ResponseCode::ServFail), 4), "ServFail for 0");
}

#[test]
fn answers_that_are_wanted_are_fetched_in_time() {
    let (mut cache, start) = (Cache::default(), monotonic());
    let at = |seconds| start + Duration::from_secs(seconds);
    cache.insert(question("a.example"), &found(30), LIFE, start);
    assert_eq!(show(&cache.get(&question("a.example"), at(1))), "NoError for 29");
    assert_eq!(show(&cache.get(&question("a.example"), at(28))), "NoError for 2, refresh");
    // By one of those who ask.
    assert_eq!(show(&cache.get(&question("a.example"), at(28))), "NoError for 2");
    // An answer that is worse than none does not take the place of a good one.
    cache.insert(question("a.example"), &Reply::of(ResponseCode::ServFail), LIFE, at(29));
    assert_eq!(show(&cache.get(&question("a.example"), at(29))), "NoError for 1");
    cache.insert(question("a.example"), &missing(9, 9), LIFE, at(29));
    assert_eq!(show(&cache.get(&question("a.example"), at(29))), "NXDomain for 9");
}

#[test]
fn servers_that_fail_are_not_asked_for_every_question() {
    let (mut cache, start) = (Cache::default(), monotonic());
    let at = |seconds| start + Duration::from_secs(seconds);
    let failure = Reply::of(ResponseCode::ServFail);
    cache.insert(question("a.example"), &found(30), LIFE, start);
    assert_eq!(show(&cache.get(&question("a.example"), at(30))), "NoError for 1, stale");
    cache.insert(question("a.example"), &failure, LIFE, at(32));
    assert_eq!(show(&cache.get(&question("a.example"), at(33))), "NoError for 1");
    assert_eq!(show(&cache.get(&question("a.example"), at(37))), "NoError for 1, stale");
    // There is nothing better any more.
    cache.insert(question("a.example"), &failure, LIFE, at(3_700));
    assert_eq!(show(&cache.get(&question("a.example"), at(3_704))), "ServFail for 0");
    cache.insert(question("a.example"), &failure, LIFE, at(3_710));
    assert_eq!(show(&cache.get(&question("a.example"), at(3_714))), "ServFail for 0");
}

#[test]
fn what_is_asked_for_stays_when_room_is_made() {
    let (mut cache, now) = (Cache::default(), monotonic());
    cache.insert(question("wanted.example"), &found(30), LIFE, now);
    for number in 0..30_000 {
        cache.insert(question(&format!("{number}.example")), &found(30), LIFE, now);
        if number % 1_000 == 0 {
            assert_ne!(cache.get(&question("wanted.example"), now), Known::Nothing, "{number}");
        }
    }
    assert_eq!(cache.get(&question("0.example"), now), Known::Nothing);
    assert!((4_000..12_000).contains(&cache.len()), "{}", cache.len());
}
