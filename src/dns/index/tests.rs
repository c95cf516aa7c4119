//! An index that is kept up by changes is the one that is made of what is left.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// One thing that happens to an object of a small cluster.
#[derive(Clone, Debug)]
enum Event {
    Service { name: u8, is: Option<u8> },
    Slice { name: u8, is: Option<(u8, Vec<u8>)> },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let service =
        (0..3_u8, proptest::option::of(0..6_u8)).prop_map(|(name, is)| Event::Service { name, is });
    let slice = (0..4_u8, proptest::option::of((0..3_u8, vec(0..5_u8, 0..4))))
        .prop_map(|(name, is)| Event::Slice { name, is });
    vec(prop_oneof![service, slice], 0..40)
}

fn service(kind: u8) -> Service {
    let spec = match kind {
        0 => json!({ "clusterIPs": ["None"] }),
        1 => json!({ "type": "ExternalName", "externalName": "example.org" }),
        2 => json!({}),
        number => json!({ "clusterIPs": [address(number)], "ports": [{ "port": 80 }] }),
    };
    serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap()
}

fn slice(service: u8, endpoints: &[u8]) -> EndpointSlice {
    let label = format!("s{service}");
    let endpoints: Vec<_> =
        endpoints.iter().map(|number| json!({ "addresses": [address(*number)] })).collect();
    serde_json::from_value(json!({
        "metadata": { "labels": { "kubernetes.io/service-name": label } },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "p", "port": 80, "protocol": "TCP" }],
    }))
    .unwrap()
}

fn address(number: u8) -> String {
    format!("10.0.0.{number}")
}

fn apply(index: &mut Index, event: &Event) {
    match event {
        Event::Service { name, is } => {
            let key = ObjectKey::namespaced("n", format!("s{name}"));
            index.set_service(&key, is.map(service).as_ref());
        }
        Event::Slice { name, is } => {
            let key = ObjectKey::namespaced("n", format!("slice{name}"));
            let slice = is.as_ref().map(|(service, endpoints)| slice(*service, endpoints));
            index.set_slice(&key, slice.as_ref());
        }
    }
}

/// All that can be read from an index, in order.
fn contents(index: &Index) -> String {
    let mut services: Vec<_> = index
        .services
        .iter()
        .map(|(key, named)| {
            let mut slices = named.slices.clone();
            slices.sort_by(|one, other| one.0.cmp(&other.0));
            format!("{key} {:?} {slices:?}", named.exposed)
        })
        .collect();
    services.sort_unstable();
    let holders: BTreeMap<_, _> = index
        .holders
        .iter()
        .map(|(address, holders)| {
            let mut holders = holders.clone();
            holders.sort_unstable();
            (address, holders)
        })
        .collect();
    let slices: BTreeMap<_, _> = index.slices.iter().collect();
    format!("{services:#?} {holders:?} {slices:?}")
}

proptest! {
    #[test]
    fn changes_leave_what_a_fresh_look_finds(events in events()) {
        let mut kept_up = Index::new();
        let mut last = BTreeMap::new();
        for event in &events {
            apply(&mut kept_up, event);
            let key = match event {
                Event::Service { name, .. } => (0, *name),
                Event::Slice { name, .. } => (1, *name),
            };
            last.insert(key, event.clone());
        }
        let mut fresh = Index::new();
        for event in last.values() {
            apply(&mut fresh, event);
        }
        prop_assert_eq!(contents(&kept_up), contents(&fresh));
    }
}
