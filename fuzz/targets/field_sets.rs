//! Sets of fields as clients send them in `managedFields`: what is read is written and read again.

#![no_main]

use kinglet::registry::managed::{
    FieldSet, Node, Place, compare, contents, join, merge, remove, split,
};
use kinglet::registry::schema::{BUILT_IN, types};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once('\n').unwrap_or((text, ""));
    if let (Ok(one), Ok(other)) = (FieldSet::parse(one), FieldSet::parse(other)) {
        let _ = one.paths();
        let mut written = String::new();
        one.write_json(&mut written);
        assert_eq!(FieldSet::parse(&written).expect("what was written can be read"), one);
        let union = one.clone().union(&other);
        assert_eq!(union, other.clone().union(&one));
        let common = one.intersection(&other);
        assert_eq!(common, other.intersection(&one));
        assert_eq!(one.clone().difference(&other).union(&common), one);
        assert!(one.clone().recursive_difference(&one).is_empty());
        assert!(one.clone().difference(&union).is_empty());
        assert_eq!(one.intersection(&union), one);
    }
    let place = Place::root(&BUILT_IN, types::POD);
    if let (Ok(one), Ok(other)) = (Node::parse(one.as_bytes()), Node::parse(other.as_bytes())) {
        let _ = contents(place, &one);
        drop(merge(place, &one, &other));
        if let Ok(same) = compare(place, &one, &one) {
            assert!(same.is_same());
        }
        if let Ok(changes) = compare(place, &one, &other) {
            drop(remove(place, &one, &changes.removed));
        }
    }
    let split = split(one.as_bytes());
    drop(join(&split.object, split.managed));
});
