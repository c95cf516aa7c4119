//! The rules against golden text: `tests/golden/netpol`.

use super::super::render::{changes, leftovers, whole};
use super::{World, add_policy, attach, model};
use crate::stdx::check_golden;
use crate::sys::nft::Batch;
use serde_json::json;

/// `UPDATE_GOLDEN=1` rewrites the file.
#[track_caller]
fn check(name: &str, batch: &Batch) {
    check_golden(&format!("netpol/{name}"), &batch.to_lines());
}

/// Two pods, of which one is isolated in both directions.
fn small() -> World {
    let mut world = World { ranges: vec!["10.42.0.0/24".parse().unwrap()], ..World::default() };
    world.namespaces.insert("x".to_owned(), [("ns".to_owned(), "x".to_owned())].into());
    attach(&mut world, "x", "a");
    attach(&mut world, "x", "b");
    let policy = json!({
        "podSelector": {"matchLabels": {"pod": "a"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [
                {"podSelector": {}},
                {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}},
            ],
            "ports": [{"port": 80}, {"protocol": "UDP", "port": 8000, "endPort": 8100}],
        }],
        "egress": [
            {"to": [{"podSelector": {"matchLabels": {"pod": "b"}}}], "ports": [{"port": "serve-81-tcp"}]},
            {"ports": [{"protocol": "SCTP"}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
        ],
    });
    add_policy(&mut world, "web", &policy);
    world
}

#[test]
fn the_rules_of_a_policy() {
    check("whole.txt", &whole(&model(&small())));
    check("none.txt", &whole(&model(&World::default())));
}

#[test]
fn a_pod_comes_by_elements() {
    let (before, mut after) = (small(), small());
    attach(&mut after, "x", "c");
    check("pod_comes.txt", &changes(&model(&before), &model(&after)));
    check("pod_goes.txt", &changes(&model(&after), &model(&before)));
    assert!(leftovers(&model(&after), &model(&before)).is_empty());
}

#[test]
fn a_second_policy_takes_a_chain_of_its_own() {
    let (before, mut after) = (small(), small());
    add_policy(&mut after, "open", &json!({"podSelector": {}, "ingress": [{}]}));
    let (before, after) = (model(&before), model(&after));
    check("policy_comes.txt", &changes(&before, &after));
    check("policy_goes.txt", &changes(&after, &before));
    check("policy_gone.txt", &leftovers(&after, &before));
}
