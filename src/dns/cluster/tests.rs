//! What the specification says, line by line, and what coredns does where it says nothing.

use super::*;
use crate::api::ObjectKey;
use crate::client::key_of;
use crate::dns::names::{name_of, text_of};
use hickory_proto::rr::RecordType;
use k8s_openapi::Metadata as _;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

/// A cluster with everything that the tests ask for.
pub(in crate::dns) fn index() -> Index {
    let mut index = Index::new();
    for name in ["shop", "empty"] {
        index.set_namespace(name, true);
    }
    for (name, spec) in services() {
        let metadata = json!({ "name": name, "namespace": "shop" });
        let service: Service =
            serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        index.set_service(&key_of(service.metadata()), Some(&service));
    }
    for (name, service, contents) in slices() {
        let slice = slice(name, service, contents);
        index.set_slice(&key_of(slice.metadata()), Some(&slice));
    }
    index.set_whole();
    index
}

fn slice(name: &str, service: &str, contents: Value) -> EndpointSlice {
    let labels = json!({ "kubernetes.io/service-name": service });
    let mut slice = contents;
    slice["metadata"] = json!({ "name": name, "namespace": "shop", "labels": labels });
    serde_json::from_value(slice).unwrap()
}

fn services() -> Vec<(&'static str, Value)> {
    let ports = json!([
        { "name": "http", "port": 80 }, { "name": "dns", "port": 53, "protocol": "UDP" },
    ]);
    vec![
        ("web", json!({ "clusterIPs": ["10.43.0.5"], "ports": ports })),
        ("both", json!({ "clusterIPs": ["10.43.0.6", "fd43::6"], "ports": [{ "port": 80 }] })),
        ("db", json!({ "clusterIPs": ["None"], "clusterIP": "None" })),
        ("idle", json!({ "clusterIPs": ["None"], "clusterIP": "None" })),
        ("bare", json!({ "clusterIPs": ["None"], "clusterIP": "None" })),
        ("out", json!({ "type": "ExternalName", "externalName": "WWW.example.org." })),
        ("in", json!({ "type": "ExternalName", "externalName": "web.shop.svc.cluster.local" })),
        (
            "round",
            json!({ "type": "ExternalName", "externalName": "round.shop.svc.cluster.local" }),
        ),
        ("number", json!({ "type": "ExternalName", "externalName": "192.0.2.1" })),
        ("pending", json!({ "type": "ClusterIP" })),
    ]
}

fn slices() -> Vec<(&'static str, &'static str, Value)> {
    let endpoint = |address: &str, more: Value| {
        let mut endpoint = more;
        endpoint["addresses"] = json!([address]);
        endpoint
    };
    let ready = |address: &str| endpoint(address, json!({ "conditions": { "ready": true } }));
    let sql = json!([{ "name": "sql", "port": 5432, "protocol": "TCP" }]);
    vec![
        (
            "web-a",
            "web",
            json!({
                "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                "endpoints": [ready("10.42.0.9")],
            }),
        ),
        (
            "db-a",
            "db",
            json!({ "addressType": "IPv4", "ports": sql, "endpoints": [
                endpoint("10.42.0.1", json!({ "hostname": "db-0" })),
                ready("10.42.0.2"),
                endpoint("10.42.0.3", json!({ "conditions": { "ready": false } })),
            ]}),
        ),
        // The same endpoint may be in two slices for a moment.
        (
            "db-b",
            "db",
            json!({ "addressType": "IPv4", "ports": sql, "endpoints": [ready("10.42.0.2")] }),
        ),
        (
            "db-c",
            "db",
            json!({ "addressType": "IPv6", "ports": sql, "endpoints": [
                endpoint("fd42::1", json!({ "hostname": "db-0" })),
            ]}),
        ),
        (
            "idle-a",
            "idle",
            json!({ "addressType": "IPv4", "ports": sql, "endpoints": [
                endpoint("10.42.0.4", json!({ "conditions": { "ready": false } })),
            ]}),
        ),
        (
            "bare-a",
            "bare",
            json!({ "addressType": "IPv4", "ports": [], "endpoints": [ready("10.42.0.5")] }),
        ),
        (
            "named",
            "db",
            json!({ "addressType": "FQDN", "ports": sql, "endpoints": [ready("a.example")] }),
        ),
    ]
}

pub(in crate::dns) fn zone() -> Zone {
    let ranges = ["10.42.0.0/16", "10.43.0.0/16", "fd42::/56", "fd43::/112"];
    let ranges = ranges.map(|range| range.parse().unwrap()).to_vec();
    Zone::new("Cluster.Local.", vec!["10.43.0.10".parse().unwrap()], ranges).unwrap()
}

/// One short line for what is answered.
fn told(index: &Index, question: &str, turn: usize) -> String {
    let (name, kind) = question.rsplit_once(' ').unwrap();
    let name = name_of(name).unwrap();
    let (text, kind) = (text_of(&name), kind.parse::<RecordType>().unwrap());
    let question = Question { name: &name, text: &text, kind };
    let outcome = match answer(index, &zone(), &question, turn) {
        Outcome::Elsewhere => match address_of(&text) {
            Some(address) => answer_reverse(index, &zone(), &question, address),
            None => Outcome::Elsewhere,
        },
        outcome => outcome,
    };
    match outcome {
        Outcome::Found { answers, additional } => {
            let ttls: Vec<_> = answers.iter().map(|record| record.ttl).collect();
            assert!(ttls.iter().all(|ttl| [5, 28_800].contains(ttl)), "{ttls:?}");
            let data = |records: &[Record], is_named: bool| {
                let one = |record: &Record| match is_named {
                    true => format!("{} {}", record.name, record.data),
                    false => record.data.to_string(),
                };
                records.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            match additional.is_empty() {
                true => data(&answers, false),
                false => format!("{} + {}", data(&answers, false), data(&additional, true)),
            }
        }
        Outcome::Alias { record, target } => format!("{} -> {target}", record.record_type()),
        Outcome::NoData(authority) => format!("no data, says {}", authority.name),
        Outcome::NoName(authority) => format!("no name, says {}", authority.name),
        Outcome::NotReady => "not ready".to_owned(),
        Outcome::Elsewhere => "elsewhere".to_owned(),
    }
}

const NO_DATA: &str = "no data, says cluster.local.";
const NO_NAME: &str = "no name, says cluster.local.";

#[track_caller]
fn check(question: &str, expected: &str) {
    assert_eq!(told(&index(), question, 0), expected, "{question}");
}

#[test]
fn a_service_with_an_address() {
    check("web.shop.svc.cluster.local A", "10.43.0.5");
    check("WEB.Shop.SVC.cluster.LOCAL A", "10.43.0.5");
    check("web.shop.svc.cluster.local AAAA", NO_DATA);
    check("web.shop.svc.cluster.local MX", NO_DATA);
    check("both.shop.svc.cluster.local A", "10.43.0.6");
    check("both.shop.svc.cluster.local AAAA", "fd43::6");
    check("nothing.shop.svc.cluster.local A", NO_NAME);
    check("pending.shop.svc.cluster.local A", NO_NAME);
    check("web.other.svc.cluster.local A", NO_NAME);
    check("10-42-0-9.web.shop.svc.cluster.local A", "10.42.0.9");
    check("10-42-0-8.web.shop.svc.cluster.local A", NO_NAME);
}

#[test]
fn ports_of_a_service_with_an_address() {
    check(
        "_http._tcp.web.shop.svc.cluster.local SRV",
        "0 100 80 web.shop.svc.cluster.local. + web.shop.svc.cluster.local. 10.43.0.5",
    );
    check("_http._tcp.web.shop.svc.cluster.local A", "10.43.0.5");
    check("_http._udp.web.shop.svc.cluster.local SRV", NO_NAME);
    check("_https._tcp.web.shop.svc.cluster.local SRV", NO_NAME);
    check("_._tcp.both.shop.svc.cluster.local SRV", NO_NAME);
    check("_tcp.web.shop.svc.cluster.local A", NO_DATA);
    check("_sctp.web.shop.svc.cluster.local A", NO_NAME);
    check(
        "web.shop.svc.cluster.local SRV",
        "0 50 80 web.shop.svc.cluster.local., 0 50 53 web.shop.svc.cluster.local. + \
         web.shop.svc.cluster.local. 10.43.0.5",
    );
    check(
        "both.shop.svc.cluster.local SRV",
        "0 100 80 both.shop.svc.cluster.local. + both.shop.svc.cluster.local. 10.43.0.6, \
         both.shop.svc.cluster.local. fd43::6",
    );
}

#[test]
fn a_headless_service() {
    check("db.shop.svc.cluster.local A", "10.42.0.1, 10.42.0.2");
    check("db.shop.svc.cluster.local AAAA", "fd42::1");
    check("db.shop.svc.cluster.local TXT", NO_DATA);
    check("db-0.db.shop.svc.cluster.local A", "10.42.0.1");
    check("db-0.db.shop.svc.cluster.local AAAA", "fd42::1");
    check("10-42-0-2.db.shop.svc.cluster.local A", "10.42.0.2");
    check("10-42-0-2.db.shop.svc.cluster.local AAAA", NO_DATA);
    // It has a name of its own, or is not ready.
    check("10-42-0-1.db.shop.svc.cluster.local A", NO_NAME);
    check("10-42-0-3.db.shop.svc.cluster.local A", NO_NAME);
    check("idle.shop.svc.cluster.local A", NO_NAME);
    check("bare.shop.svc.cluster.local A", "10.42.0.5");
    check("bare.shop.svc.cluster.local SRV", NO_DATA);
}

#[test]
fn ports_of_a_headless_service() {
    let (named, dashed) =
        ("db-0.db.shop.svc.cluster.local.", "10-42-0-2.db.shop.svc.cluster.local.");
    let all = format!(
        "0 50 5432 {named}, 0 50 5432 {dashed} + {named} 10.42.0.1, {dashed} 10.42.0.2, {named} fd42::1"
    );
    check("_sql._tcp.db.shop.svc.cluster.local SRV", &all);
    check("db.shop.svc.cluster.local SRV", &all);
    check("_sql._tcp.db.shop.svc.cluster.local AAAA", "fd42::1");
    check("_sql._tcp.idle.shop.svc.cluster.local SRV", NO_NAME);
    check(
        "10-42-0-2.db.shop.svc.cluster.local SRV",
        &format!("0 100 5432 {dashed} + {dashed} 10.42.0.2"),
    );
    check("_tcp.db.shop.svc.cluster.local SRV", NO_DATA);
    check("_tcp.idle.shop.svc.cluster.local SRV", NO_NAME);
}

#[test]
fn several_addresses_take_turns() {
    let index = index();
    let at = |turn| told(&index, "db.shop.svc.cluster.local A", turn);
    assert_eq!(at(1), "10.42.0.2, 10.42.0.1");
    assert_eq!(at(2), "10.42.0.1, 10.42.0.2");
}

#[test]
fn a_service_elsewhere() {
    check("out.shop.svc.cluster.local A", "CNAME -> www.example.org.");
    check("out.shop.svc.cluster.local AAAA", "CNAME -> www.example.org.");
    check("out.shop.svc.cluster.local CNAME", "www.example.org.");
    check("in.shop.svc.cluster.local A", "CNAME -> web.shop.svc.cluster.local.");
    check("round.shop.svc.cluster.local A", NO_NAME);
    check("number.shop.svc.cluster.local A", NO_NAME);
    check("a.out.shop.svc.cluster.local A", NO_NAME);
    check("_a._tcp.out.shop.svc.cluster.local SRV", NO_NAME);
}

#[test]
fn pods_by_their_addresses() {
    check("10-42-0-77.shop.pod.cluster.local A", "10.42.0.77");
    check("10-42-0-77.shop.pod.cluster.local AAAA", NO_DATA);
    check("fd42--7.shop.pod.cluster.local AAAA", "fd42::7");
    check("10-42-0-77.other.pod.cluster.local A", NO_NAME);
    check("web.shop.pod.cluster.local A", NO_NAME);
    check("x.10-42-0-77.shop.pod.cluster.local A", NO_NAME);
}

#[test]
fn the_zone_itself() {
    check("cluster.local A", NO_DATA);
    check("svc.cluster.local A", NO_DATA);
    check("pod.cluster.local AAAA", NO_DATA);
    check("shop.svc.cluster.local A", NO_DATA);
    check("empty.pod.cluster.local A", NO_DATA);
    check("other.svc.cluster.local A", NO_NAME);
    check("cluster.local NS", "ns.dns.cluster.local. + ns.dns.cluster.local. 10.43.0.10");
    check("ns.dns.cluster.local A", "10.43.0.10");
    check("dns-version.cluster.local TXT", "1.1.0");
    check("dns-version.cluster.local A", NO_DATA);
    check("example.org.cluster.local A", NO_NAME);
    check("example.org.shop.svc.cluster.local A", NO_NAME);
    let soa = told(&index(), "cluster.local SOA", 0);
    assert!(soa.starts_with("ns.dns.cluster.local. hostmaster.cluster.local. "), "{soa}");
    assert!(soa.ends_with(" 7200 1800 86400 5"), "{soa}");
}

#[test]
fn names_of_addresses() {
    check("5.0.43.10.in-addr.arpa PTR", "web.shop.svc.cluster.local.");
    check("1.0.42.10.in-addr.arpa PTR", "db-0.db.shop.svc.cluster.local.");
    check("2.0.42.10.in-addr.arpa PTR", "10-42-0-2.db.shop.svc.cluster.local.");
    check("9.0.42.10.in-addr.arpa PTR", "10-42-0-9.web.shop.svc.cluster.local.");
    check("3.0.42.10.in-addr.arpa PTR", "no name, says in-addr.arpa.");
    check("5.0.43.10.in-addr.arpa A", "no data, says in-addr.arpa.");
    check("1.2.0.192.in-addr.arpa PTR", "elsewhere");
    check("43.10.in-addr.arpa PTR", "elsewhere");
    check("05.0.43.10.in-addr.arpa PTR", "elsewhere");
    let zeros = "0.".repeat(23);
    check(&format!("6.{zeros}0.0.0.0.3.4.d.f.ip6.arpa PTR"), "both.shop.svc.cluster.local.");
    check(&format!("7.{zeros}0.0.0.0.3.4.d.f.ip6.arpa PTR"), "no name, says ip6.arpa.");
    check("8.b.d.0.1.0.0.2.ip6.arpa PTR", "elsewhere");
    check("example.org A", "elsewhere");
    check("mycluster.local A", "elsewhere");
}

#[test]
fn nothing_is_denied_before_all_is_known() {
    let mut index = Index::new();
    let service = json!({
        "metadata": { "name": "web", "namespace": "shop" }, "spec": { "clusterIPs": ["10.43.0.5"] },
    });
    let service: Service = serde_json::from_value(service).unwrap();
    index.set_service(&ObjectKey::namespaced("shop", "web"), Some(&service));
    for (question, expected) in [
        ("web.shop.svc.cluster.local A", "10.43.0.5"),
        ("db.shop.svc.cluster.local A", "not ready"),
        ("9.0.43.10.in-addr.arpa PTR", "not ready"),
        ("1.2.0.192.in-addr.arpa PTR", "elsewhere"),
    ] {
        assert_eq!(told(&index, question, 0), expected, "{question}");
    }
}
