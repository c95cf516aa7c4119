//! Sets of fields as clients send them in `managedFields`: what is read is written and read again.

#![no_main]

use kinglet::registry::managed::{FieldSet, Node, Place, contents, join, merge, split};
use kinglet::registry::schema::{BUILT_IN, types};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (one, other) = input;
    if let (Ok(one), Ok(other)) = (FieldSet::parse(one), FieldSet::parse(other)) {
        let _ = one.paths();
        let union = one.clone().union(&other);
        assert!(one.clone().difference(&union).is_empty());
        assert_eq!(one.intersection(&union).paths(), one.paths());
    }
    let place = Place::root(&BUILT_IN, types::POD);
    if let (Ok(one), Ok(other)) = (Node::parse(one.as_bytes()), Node::parse(other.as_bytes())) {
        let _ = contents(place, &one);
        drop(merge(place, &one, &other));
    }
    let split = split(one.as_bytes());
    drop(join(&split.object, split.managed));
});
