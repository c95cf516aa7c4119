//! `FieldsV1`: a set of fields as JSON, written byte for byte as upstream writes it
//! (structured-merge-diff v6, fieldpath/serialize.go).
//!
//! `{"f:spec":{"f:replicas":{}}}` has one member. A place that is a member and has others below it
//! has `".":{}` among them. `serde_json` refuses what is nested deeper than 127 levels; the length
//! is that of the request.

use super::document::Text;
use super::element::Element;
use super::set::{Branch, FieldSet};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use std::fmt;

impl<'a> FieldSet<'a> {
    /// # Errors
    /// Where this is no set of fields.
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Below<'_>>(json).map(|read| read.set)
    }

    pub fn write_json(&self, out: &mut String) {
        self.write_contents(false, out);
    }

    fn write_contents(&self, is_member: bool, out: &mut String) {
        out.push('{');
        if is_member && !self.is_empty() {
            out.push_str("\".\":{}");
        }
        for (index, branch) in self.nodes.iter().enumerate() {
            if index > 0 || is_member {
                out.push(',');
            }
            branch.element.write_json(out);
            out.push(':');
            branch.below.write_contents(branch.is_member, out);
        }
        out.push('}');
    }
}

/// What is below a place, and whether the place itself is a member.
#[derive(Default)]
struct Below<'a> {
    set: FieldSet<'a>,
    has_dot: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Below<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BelowVisitor)
    }
}

struct BelowVisitor;

impl<'de> Visitor<'de> for BelowVisitor {
    type Value = Below<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of fields")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Below::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut branches: Vec<Branch<'de>> = Vec::new();
        let (mut has_dot, mut is_sorted) = (false, true);
        while let Some(Text(key)) = members.next_key()? {
            if key == "." {
                has_dot = true;
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let Some(element) = Element::parse(key).map_err(A::Error::custom)? else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let Below { set, has_dot } = members.next_value_seed(BelowSeed)?;
            is_sorted &= branches.last().is_none_or(|last| last.element < element);
            let is_member = has_dot || set.is_empty();
            branches.push(Branch { element, is_member, below: set });
        }
        let set =
            if is_sorted { FieldSet { nodes: branches } } else { FieldSet::of_branches(branches) };
        Ok(Below { set, has_dot })
    }
}

struct BelowSeed;

impl<'de> DeserializeSeed<'de> for BelowSeed {
    type Value = Below<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Below::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::managed::document::Node;
    use proptest::prelude::*;

    fn written(set: &FieldSet<'_>) -> String {
        let mut json = String::new();
        set.write_json(&mut json);
        json
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let set = FieldSet::parse(json).unwrap();
        assert_eq!(written(&set), expected);
        assert_eq!(FieldSet::parse(expected).unwrap(), set);
    }

    #[test]
    fn sets_are_read_and_written() {
        check("{}", "{}");
        check("null", "{}");
        check(r#"{".":{}}"#, "{}");
        check(r#"{"f:b":{},"f:a":{}}"#, r#"{"f:a":{},"f:b":{}}"#);
        check(r#"{"f:a":{"f:b":{},".":{}}}"#, r#"{"f:a":{".":{},"f:b":{}}}"#);
        check(r#"{"f:a":null,"f:b":{".":7}}"#, r#"{"f:a":{},"f:b":{}}"#);
        check(
            r#"{"f:a":{"f:b":{}},"f:c":{},"f:a":{"f:d":{}}}"#,
            r#"{"f:a":{"f:b":{},"f:d":{}},"f:c":{}}"#,
        );
    }

    #[test]
    fn elements_that_are_not_known_are_dropped() {
        check(r#"{"x:b":{"f:c":{}},"f:a":{"x:b":{}}}"#, r#"{"f:a":{}}"#);
    }

    #[test]
    fn ports_are_sorted_as_numbers() {
        check(
            r#"{"k:{\"port\":443}":{},"k:{\"port\":80}":{".":{},"f:port":{}},"v:\"b\"":{},"v:\"a\"":{}}"#,
            r#"{"k:{\"port\":80}":{".":{},"f:port":{}},"k:{\"port\":443}":{},"v:\"a\"":{},"v:\"b\"":{}}"#,
        );
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for json in ["[]", "7", "{", r#"{"f:a":7}"#, r#"{"a":{}}"#, r#"{"i:x":{}}"#, "{} {}"] {
            assert!(FieldSet::parse(json).is_err(), "{json}");
        }
        let deep = format!("{}{}{}", r#"{"f:a":"#.repeat(200), "{}", "}".repeat(200));
        assert!(FieldSet::parse(&deep).is_err());
    }

    fn element() -> impl Strategy<Value = Element<'static>> {
        let value = prop_oneof![
            (0_i64..4).prop_map(Node::Int),
            "[a<\"\\\\\n]{0,2}".prop_map(|text| Node::Text(text.into())),
            any::<bool>().prop_map(Node::Bool),
        ];
        prop_oneof![
            "[ab:.\"é]{0,2}".prop_map(|name| Element::Field(name.into())),
            value.clone().prop_map(Element::Value),
            value.prop_map(|value| Element::Key(vec![("k".into(), value)])),
            (0_i64..3).prop_map(Element::Index),
        ]
    }

    fn set() -> impl Strategy<Value = FieldSet<'static>> {
        let leaf = Just(FieldSet::default());
        leaf.prop_recursive(3, 24, 4, |inner| {
            let branch =
                (element(), any::<bool>(), inner).prop_map(|(element, is_member, below)| {
                    let is_member = is_member || below.is_empty();
                    Branch { element, is_member, below }
                });
            prop::collection::vec(branch, 0..4).prop_map(FieldSet::of_branches)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(set in set()) {
            let json = written(&set);
            prop_assert_eq!(FieldSet::parse(&json).unwrap(), set);
        }

        #[test]
        fn sets_obey_the_laws_of_sets(one in set(), other in set(), third in set()) {
            let both = one.clone().union(&other);
            prop_assert_eq!(&both, &other.clone().union(&one));
            prop_assert_eq!(both.clone().union(&third), one.clone().union(&other.clone().union(&third)));
            prop_assert_eq!(&one.clone().union(&one), &one);
            let common = one.intersection(&other);
            prop_assert_eq!(&common, &other.intersection(&one));
            let left = one.clone().difference(&other);
            prop_assert!(left.intersection(&other).is_empty());
            prop_assert_eq!(&left.clone().union(&common), &one);
            prop_assert_eq!(one.clone().difference(&common), left);
            prop_assert_eq!(&both.clone().difference(&other).union(&other), &both);
            prop_assert!(one.clone().recursive_difference(&one).is_empty());
            prop_assert_eq!(one.clone().beginning_with(&one), one);
        }
    }
}
