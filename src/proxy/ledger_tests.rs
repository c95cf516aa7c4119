//! What is told in steps comes to the same as what is told at once, whatever the steps.

use super::chain::{Chain, Counted, Keys, Way};
use super::element::{Frontend, Key, Place, Value};
use super::ledger::{Changes, Ledger, Owner};
use super::listing::Listing;
use super::render::Wanted;
use crate::api::ObjectKey;
use crate::network::Protocol;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A kernel as strict as the real one: what is deleted has to be there, what is added must not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kernel(BTreeMap<String, HashMap<String, String>>);

impl Kernel {
    fn apply(&mut self, changes: &Changes) {
        for (set, key) in &changes.strays.elements {
            assert!(self.set(set).remove(key).is_some(), "{set} {key} is not there");
        }
        for change in changes.elements.iter().filter(|change| change.before.is_some()) {
            let was = self.set(change.name.set()).remove(&change.name.to_string());
            assert!(was.is_some(), "{:?} is not there", change.name);
        }
        for change in &changes.elements {
            let Some(after) = &change.after else { continue };
            let was =
                self.set(change.name.set()).insert(change.name.to_string(), after.to_string());
            assert_eq!(was, None, "{:?} is there", change.name);
        }
    }

    fn set(&mut self, name: &str) -> &mut HashMap<String, String> {
        self.0.entry(name.to_owned()).or_default()
    }

    fn listing(&self) -> Listing {
        Listing { elements: self.0.clone(), ..Listing::default() }
    }

    fn without_empty_sets(mut self) -> Self {
        self.0.retain(|_, elements| !elements.is_empty());
        self
    }
}

/// What a Service may want: frontends that others may want too, with some endpoints.
fn wanted(frontends: &[u8], endpoints: u8) -> Wanted {
    let mut elements = Vec::new();
    for last in frontends {
        let address = [198, 51, 100, *last].into();
        let frontend =
            Frontend { place: Place::Address(address), protocol: Protocol::Tcp, port: 80 };
        if endpoints == 0 {
            elements.push((Key::Refused(frontend), Value::Goto(Chain::Reject)));
            continue;
        }
        let way = Way::External { count: endpoints.into() };
        let chain = Chain::Counted(Counted { keys: Keys::AddressAndPort, way });
        elements.push((Key::Service(frontend), Value::Goto(chain)));
        for number in 0..endpoints {
            let endpoint = ([10, 42, *last, number], 8080).into();
            elements.push((Key::Endpoint(frontend, number.into()), Value::Endpoint(endpoint)));
            elements.push((Key::Hairpin([10, 42, 0, number].into()), Value::Present));
        }
    }
    Wanted { elements, sticky: Vec::new() }
}

fn owner(number: u8) -> Owner {
    Arc::new(ObjectKey::namespaced("default", format!("service-{number}")))
}

#[derive(Clone, Debug)]
enum Step {
    Set {
        owner: u8,
        frontends: Vec<u8>,
        endpoints: u8,
    },
    Apply,
    /// The kernel is looked at, after somebody has changed it.
    Look {
        lost: usize,
        strange: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..4, proptest::collection::vec(1_u8..5, 0..3), 0_u8..4).prop_map(
            |(owner, frontends, endpoints)| Step::Set { owner, frontends, endpoints }
        ),
        2 => Just(Step::Apply),
        1 => (0_usize..6, any::<bool>()).prop_map(|(lost, strange)| Step::Look { lost, strange }),
    ]
}

proptest! {
    #[test]
    fn steps_come_to_the_same(steps in proptest::collection::vec(step(), 0..40)) {
        let mut ledger = Ledger::default();
        let mut kernel = Kernel::default();
        let mut services: BTreeMap<u8, (Vec<u8>, u8)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set { owner: number, frontends, endpoints } => {
                    ledger.set(&owner(number), wanted(&frontends, endpoints));
                    services.insert(number, (frontends, endpoints));
                }
                Step::Apply => {
                    let changes = ledger.pending();
                    kernel.apply(&changes);
                    ledger.settled(&changes);
                }
                Step::Look { lost, strange } => {
                    for elements in kernel.0.values_mut() {
                        let keys: Vec<_> = elements.keys().take(lost).cloned().collect();
                        keys.iter().for_each(|key| drop(elements.remove(key)));
                    }
                    if strange {
                        kernel.set("hairpin-ip").insert("10.9.9.9 . 10.9.9.9".into(), String::new());
                    }
                    let strays = ledger.found(&kernel.listing());
                    let changes = Changes { strays, ..ledger.pending() };
                    kernel.apply(&changes);
                    ledger.settled(&changes);
                }
            }
        }
        kernel.apply(&ledger.pending());
        let mut at_once = Ledger::default();
        for (number, (frontends, endpoints)) in services {
            at_once.set(&owner(number), wanted(&frontends, endpoints));
        }
        let mut expected = Kernel::default();
        expected.apply(&at_once.pending());
        prop_assert_eq!(kernel.without_empty_sets(), expected);
    }
}

#[test]
fn the_first_by_name_has_what_two_want() {
    let mut ledger = Ledger::default();
    let mut kernel = Kernel::default();
    let mut check = |ledger: &mut Ledger, expected: Option<&str>| {
        let changes = ledger.pending();
        kernel.apply(&changes);
        ledger.settled(&changes);
        let found = kernel.set("services-ip").get("198.51.100.1 . tcp . 80").cloned();
        assert_eq!(found.as_deref(), expected);
    };
    ledger.set(&owner(2), wanted(&[1], 2));
    check(&mut ledger, Some("goto external-2"));
    ledger.set(&owner(1), wanted(&[1], 3));
    check(&mut ledger, Some("goto external-3"));
    ledger.set(&owner(2), wanted(&[1], 1));
    check(&mut ledger, Some("goto external-3"));
    ledger.set(&owner(1), Wanted::default());
    check(&mut ledger, Some("goto external-1"));
    ledger.set(&owner(2), Wanted::default());
    check(&mut ledger, None);
}

#[test]
fn a_change_that_is_undone_costs_nothing() {
    let mut ledger = Ledger::default();
    ledger.set(&owner(1), wanted(&[1], 2));
    let changes = ledger.pending();
    ledger.settled(&changes);
    ledger.set(&owner(1), wanted(&[1], 3));
    ledger.set(&owner(1), wanted(&[1], 2));
    assert!(ledger.pending().is_empty());
}

#[test]
fn what_was_refused_waits_apart() {
    let mut ledger = Ledger::default();
    for number in 1..4 {
        ledger.set(&owner(number), wanted(&[number], 1));
    }
    let (good, bad) = ledger.pending().split(|name| *name != owner(2));
    ledger.settled(&good);
    assert_eq!(ledger.pending().owners(), bad.owners());
    assert_eq!(bad.owners().into_iter().collect::<Vec<_>>(), [owner(2)]);
}
