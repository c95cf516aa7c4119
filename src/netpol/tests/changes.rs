//! Changes one after the other lead to what everything anew would be, on a kernel of thirty lines
//! that refuses what nftables refuses.

use super::super::model::Model;
use super::super::render::{changes, leftovers, whole};
use super::{World, add_policy, attach, cluster, model};
use crate::sys::nft::Batch;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ROUNDS: u64 = 400;

/// What is in the table. Elements of maps are by their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kernel {
    exists: bool,
    chains: BTreeMap<String, Vec<Value>>,
    sets: BTreeMap<String, BTreeMap<String, Value>>,
}

impl Kernel {
    fn apply(&mut self, batch: &Batch) {
        for line in batch.to_lines().lines() {
            let command: Value = serde_json::from_str(line).unwrap();
            let (verb, object) = single(&command);
            let (kind, object) = single(object);
            self.command((verb, kind), object);
        }
    }

    fn command(&mut self, command: (&str, &str), object: &Value) {
        let name = || object["name"].as_str().unwrap().to_owned();
        match command {
            ("add", "table") => self.exists = true,
            ("delete", "table") => *self = Self::default(),
            ("add", "chain") => _ = self.chains.entry(name()).or_default(),
            ("flush", "chain") => self.chains.get_mut(&name()).unwrap().clear(),
            ("delete", "chain") => {
                assert_eq!(self.chains.remove(&name()), Some(vec![]), "{object}");
                assert!(!self.is_used(&name()), "{object}");
            }
            ("add", "rule") => {
                let chain = object["chain"].as_str().unwrap();
                self.chains.get_mut(chain).unwrap().push(object["expr"].clone());
            }
            ("add", "set" | "map") => _ = self.sets.entry(name()).or_default(),
            ("flush", "set") => self.sets.get_mut(&name()).unwrap().clear(),
            ("delete", "set") => {
                assert!(self.sets.remove(&name()).is_some(), "{object}");
                assert!(!self.is_used(&format!("@{}", name())), "{object}");
            }
            (verb, "element") => {
                let set = self.sets.get_mut(&name()).unwrap();
                for element in object["elem"].as_array().unwrap() {
                    let key =
                        if verb == "add" && element.is_array() { &element[0] } else { element };
                    let was_there = match verb {
                        "add" => set.insert(key.to_string(), element.clone()).is_some(),
                        _ => set.remove(&key.to_string()).is_none(),
                    };
                    assert!(!was_there, "{verb} {object}");
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_used(&self, name: &str) -> bool {
        let quoted = format!("{name:?}");
        let rules = self.chains.values().flatten();
        let elements = self.sets.values().flat_map(BTreeMap::values);
        rules.chain(elements).any(|value| value.to_string().contains(&quoted))
    }
}

fn single(value: &Value) -> (&str, &Value) {
    let (key, value) = value.as_object().unwrap().iter().next().unwrap();
    (key, value)
}

/// Numbers that look like chance and are the same each time.
struct Lot(u64);

impl Lot {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn disturb(world: &mut World, lot: &mut Lot) {
    let names = ["x/a", "x/b", "x/c", "y/a", "z/b"];
    let name = names[usize::try_from(lot.below(5)).unwrap()];
    match lot.below(3) {
        0 if world.attached.remove(name).is_none() => {
            let (namespace, pod) = name.split_once('/').unwrap();
            attach(world, namespace, pod);
        }
        0 => {}
        1 => {
            let labels = world.namespaces.get_mut(&name[..1]).unwrap();
            labels.insert("team".to_owned(), lot.below(2).to_string());
        }
        _ => {
            let policy = format!("p{}", lot.below(4));
            let before = world.policies.len();
            world.policies.retain(|key, _| key.name != policy);
            if world.policies.len() == before {
                add_policy(world, &policy, &some_policy(lot));
            }
        }
    }
}

fn some_policy(lot: &mut Lot) -> Value {
    let subjects =
        [json!({}), json!({"matchLabels": {"pod": "a"}}), json!({"matchLabels": {"pod": "b"}})];
    let peers = [
        json!([]),
        json!([{"podSelector": {}}]),
        json!([{"namespaceSelector": {"matchLabels": {"team": "1"}}}]),
        json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.42.0.12/32"]}}, {"podSelector": {}}]),
    ];
    let ports =
        [json!([]), json!([{"port": 80}]), json!([{"port": "serve-81-tcp"}, {"protocol": "UDP"}])];
    let mut pick =
        |all: &[Value]| all[usize::try_from(lot.below(all.len() as u64)).unwrap()].clone();
    json!({
        "podSelector": pick(&subjects),
        "policyTypes": pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]),
        "ingress": [{"from": pick(&peers), "ports": pick(&ports)}],
        "egress": [{"to": pick(&peers), "ports": pick(&ports)}],
    })
}

#[test]
fn changes_lead_to_what_everything_anew_would_be() {
    let (mut world, mut lot) = (cluster(), Lot(7));
    let mut has = Model::default();
    let mut kernel = Kernel::default();
    let mut seen = BTreeSet::new();
    for round in 0..ROUNDS {
        disturb(&mut world, &mut lot);
        let wanted = model(&world);
        kernel.apply(&changes(&has, &wanted));
        kernel.apply(&leftovers(&has, &wanted));
        let mut anew = Kernel::default();
        anew.apply(&whole(&wanted));
        assert_eq!(kernel, anew, "round {round}");
        seen.insert(wanted.isolations.len());
        has = wanted;
    }
    assert!(seen.len() > 3 && seen.contains(&0), "the rounds are all alike: {seen:?}");
}
