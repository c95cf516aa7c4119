//! What comes in may be anything, and what goes out is never more than was asked for.

use super::cluster::Question;
use super::cluster::tests::{index, zone};
use super::corefile;
use super::index::Index;
use super::message::{self, AskFlags, DATAGRAM_BYTES_MAX, Read, Reply, Response, Transport};
use super::names::name_of;
use super::routes::{Decision, World, decide};
use crate::api::ObjectKey;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// What a server that knows no others says to these bytes.
fn answered(index: &Index, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let request = match message::read(bytes, transport) {
        Read::Ask(request) => request,
        Read::Refuse(refusal) => return Some(refusal),
        Read::Ignore => return None,
    };
    let name = request.query().name();
    let question = Question { name, text: &request.text, kind: request.kind() };
    let (zone, routes) = (zone(), corefile::read(&BTreeMap::new(), &[]).unwrap());
    let reply = match decide(World { index, zone: &zone, routes: &routes }, &question, 0) {
        Decision::Reply(reply) => reply,
        Decision::Ask(ask) => Reply { answers: ask.aliases, ..Reply::of(ResponseCode::ServFail) },
    };
    Some(request.encode(&reply))
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name_of(name).unwrap(), kind));
    message
}

fn with_options(mut message: Message, bytes_max: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(bytes_max);
    message.set_edns(edns);
    message
}

/// `db` with many more endpoints, as many as make an answer long.
fn crowded() -> Index {
    let mut index = index();
    let endpoints: Vec<_> =
        (1..=200).map(|n| json!({ "addresses": [format!("10.42.7.{n}")] })).collect();
    let slice = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "db" } }, "addressType": "IPv4",
        "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }], "endpoints": endpoints,
    });
    let slice = serde_json::from_value(slice).unwrap();
    index.set_slice(&ObjectKey::namespaced("shop", "many"), Some(&slice));
    index
}

#[test]
fn answers_keep_within_what_the_client_takes() {
    let index = crowded();
    let db = "db.shop.svc.cluster.local";
    for (kind, bytes_max, transport, truncated) in [
        (RecordType::A, None, Transport::Udp, true),
        (RecordType::A, Some(100), Transport::Udp, true),
        (RecordType::A, Some(4096), Transport::Udp, true),
        (RecordType::SRV, Some(1232), Transport::Udp, true),
        (RecordType::A, None, Transport::Tcp, false),
        (RecordType::SRV, Some(1232), Transport::Tcp, false),
        (RecordType::AAAA, None, Transport::Udp, false),
    ] {
        let plain = query(db, kind);
        let asked = bytes_max.map_or(plain.clone(), |bytes_max| with_options(plain, bytes_max));
        let bytes = answered(&index, &asked.to_vec().unwrap(), transport).unwrap();
        let limit = match (transport, bytes_max) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => 512,
            (Transport::Udp, Some(bytes_max)) => bytes_max.clamp(512, DATAGRAM_BYTES_MAX),
        };
        assert!(bytes.len() <= usize::from(limit), "{} of {limit}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.truncation, truncated, "{kind} {bytes_max:?} {transport:?}");
        assert_eq!(answer.edns.is_some(), bytes_max.is_some());
        // As much as fits is said all the same: some clients never ask again.
        let room = bytes.len() > usize::from(limit) - 60;
        assert!(!truncated || room, "{} of {limit}", bytes.len());
        assert!(!truncated || answer.additionals.is_empty());
        assert!(!answer.answers.is_empty());
    }
}

#[test]
fn what_is_additional_is_left_out_silently() {
    let index = index();
    let asked = query("_sql._tcp.db.shop.svc.cluster.local", RecordType::SRV);
    let bytes = answered(&index, &asked.to_vec().unwrap(), Transport::Udp).unwrap();
    let answer = Message::from_vec(&bytes).unwrap();
    assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 3));
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.queries, asked.queries);
}

#[test]
fn requests_that_are_not_served_are_told_so() {
    let good = query("web.shop.svc.cluster.local", RecordType::A).to_vec().unwrap();
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = query("web.shop.svc.cluster.local", RecordType::A);
        change(&mut message);
        message.to_vec().unwrap()
    };
    let patched = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let newer = changed(&|it| {
        let mut edns = Edns::new();
        edns.set_version(1);
        it.set_edns(edns);
    });
    let twice = changed(&|it| {
        let query = it.queries[0].clone();
        it.add_query(query);
    });
    let chaos = changed(&|it| {
        it.queries[0].set_query_class(DNSClass::CH);
    });
    let transfer = query("cluster.local", RecordType::AXFR).to_vec().unwrap();
    for (bytes, expected) in [
        (good.clone(), Some(ResponseCode::NoError)),
        (patched(2, 0x81), None),
        (patched(2, 0x29), Some(ResponseCode::NotImp)),
        (patched(5, 0), Some(ResponseCode::FormErr)),
        (patched(7, 1), Some(ResponseCode::FormErr)),
        (patched(11, 200), Some(ResponseCode::FormErr)),
        (patched(4, 255), Some(ResponseCode::FormErr)),
        (patched(12, 64), Some(ResponseCode::FormErr)),
        (patched(12, 0xc0), Some(ResponseCode::FormErr)),
        (good[..20].to_vec(), Some(ResponseCode::FormErr)),
        (good[..11].to_vec(), None),
        (Vec::new(), None),
        // The same number as BADVERS.
        (newer, Some(ResponseCode::BADSIG)),
        (twice, Some(ResponseCode::FormErr)),
        (chaos, Some(ResponseCode::Refused)),
        (transfer, Some(ResponseCode::Refused)),
    ] {
        let answer = answered(&index(), &bytes, Transport::Udp);
        let answer = answer.map(|answer| Message::from_vec(&answer).unwrap());
        let code = answer.as_ref().map(|answer| answer.metadata.response_code);
        assert_eq!(code, expected, "{bytes:02x?}");
        assert!(answer.is_none_or(|answer| answer.metadata.id == 0x1234));
    }
}

#[test]
fn only_the_answer_to_a_question_is_believed() {
    let asked = Query::query(name_of("example.org").unwrap(), RecordType::A);
    let other = Query::query(name_of("example.net").unwrap(), RecordType::A);
    let response = |id, query: &Query, kind| {
        let mut message = Message::new(id, kind, OpCode::Query);
        message.add_query(query.clone());
        message.to_vec().unwrap()
    };
    let request = message::ask(7, &asked, AskFlags::default()).unwrap();
    assert!(Message::from_vec(&request).unwrap().edns.is_some());
    let believed = |bytes: &[u8]| match message::read_response(bytes, 7, &asked) {
        Some(Response::Whole(_)) => "whole",
        Some(Response::Truncated) => "truncated",
        None => "none",
    };
    let good = response(7, &asked, MessageType::Response);
    let mut cut = good.clone();
    cut[2] |= 2;
    let mut many = good.clone();
    many[6] = 0xff;
    assert_eq!(believed(&good), "whole");
    assert_eq!(believed(&cut), "truncated");
    assert_eq!(believed(&many), "none");
    assert_eq!(believed(&response(8, &asked, MessageType::Response)), "none");
    assert_eq!(believed(&response(7, &other, MessageType::Response)), "none");
    assert_eq!(believed(&response(7, &asked, MessageType::Query)), "none");
    assert_eq!(believed(b"short"), "none");
}

/// Requests that are nearly right.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("web.shop.svc.cluster.local".to_owned()),
        Just("_sql._tcp.db.shop.svc.cluster.local".to_owned()),
        Just("1.0.42.10.in-addr.arpa".to_owned()),
        Just("out.shop.svc.cluster.local".to_owned()),
        "[a-z_*-]{1,20}(\\.[a-z0-9_-]{1,30}){0,5}(\\.svc\\.cluster\\.local)?",
        "([0-9a-f]\\.){1,33}ip6\\.arpa",
    ];
    let options = proptest::option::of(any::<u16>());
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (names, any::<u16>(), options, changes, any::<prop::sample::Index>()).prop_map(
        |(name, kind, options, changes, cut)| {
            let Some(name) = name_of(&name) else { return Vec::new() };
            let mut message = Message::new(kind, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(name, RecordType::from(kind % 70)));
            let message = options.map_or(message.clone(), |options| with_options(message, options));
            let mut bytes = message.to_vec().unwrap();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if kind % 3 == 0 {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        },
    )
}

/// Whatever comes in: no panic, no answer to an answer, no longer than what the client takes, and
/// an answer that can be read.
fn hold(bytes: &[u8], transport: Transport) {
    let index = index();
    let Some(answer) = answered(&index, bytes, transport) else {
        assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0);
        return;
    };
    assert!(bytes[2] & 0x80 == 0 && answer[2] & 0x80 != 0);
    assert_eq!(answer[..2], bytes[..2]);
    assert!(transport == Transport::Tcp || answer.len() <= usize::from(DATAGRAM_BYTES_MAX));
    let answer = Message::from_vec(&answer).unwrap();
    if let Some(code) = refusal(bytes) {
        assert_eq!(answer.metadata.response_code, code, "{bytes:02x?}");
    }
}

/// What a request has to be refused with that cannot be understood.
fn refusal(bytes: &[u8]) -> Option<ResponseCode> {
    let count = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if bytes[2] & 0x78 != 0 {
        return Some(ResponseCode::NotImp);
    }
    let is_question = (count(4), count(6), count(8)) == (1, 0, 0) && count(10) <= 2;
    (!is_question || Message::from_vec(bytes).is_err()).then_some(ResponseCode::FormErr)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        hold(&bytes, Transport::Udp);
    }

    /// As the first: most of those are not so much as a header.
    #[test]
    fn any_bytes_after_a_header_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), additional in 0_u8..3,
    ) {
        let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        let bytes = [&header[..], &bytes].concat();
        hold(&bytes, Transport::Udp);
        hold(&bytes, Transport::Tcp);
    }

    #[test]
    fn requests_that_are_nearly_right_are_survived(bytes in nearly_requests()) {
        hold(&bytes, Transport::Udp);
        hold(&bytes, Transport::Tcp);
    }

    #[test]
    fn any_answer_of_another_server_is_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), is_response in any::<bool>(),
    ) {
        let query = Query::query(name_of("example.org").unwrap(), RecordType::A);
        let mut bytes = bytes;
        if is_response && bytes.len() > 6 {
            bytes[..6].copy_from_slice(&[0, 7, 0x81, 0x80, 0, 1]);
        }
        message::read_response(&bytes, 7, &query);
    }
}
