//! What the kernel says it has, from `nft --json list table`.

use super::base;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The table as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// By set or map: the text of each key, and of what it leads to.
    pub(super) elements: BTreeMap<String, HashMap<String, String>>,
    pub(super) chains: BTreeSet<String>,
    /// Sets and maps.
    pub(super) sets: BTreeSet<String>,
}

impl Listing {
    /// Reads what nft printed. Elements of sets whose names begin with `without` are left out.
    pub(super) fn parse(printed: &Json, without: &str) -> Self {
        let mut listing = Self::default();
        let objects = printed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        for object in objects {
            if let Some(name) = object["chain"]["name"].as_str() {
                listing.chains.insert(name.to_owned());
            }
            for set in [&object["set"], &object["map"]] {
                let Some(name) = set["name"].as_str() else { continue };
                listing.sets.insert(name.to_owned());
                if !name.starts_with(without) {
                    listing.elements.insert(name.to_owned(), elements(&set["elem"]));
                }
            }
        }
        listing
    }

    /// The chains that come and go with Services: their names have numbers or slashes in them.
    pub(super) fn changing_chains(&self) -> impl Iterator<Item = &String> {
        let is_changing = |name: &&String| {
            let is_base = name.starts_with(base::MARKER_PREFIX);
            !is_base && name.contains(|letter: char| letter.is_ascii_digit() || letter == '/')
        };
        self.chains.iter().filter(is_changing)
    }

    /// What a key of a set leads to; empty text where it leads to nothing.
    pub(super) fn value(&self, set: &str, key: &str) -> Option<&str> {
        self.elements.get(set)?.get(key).map(String::as_str)
    }
}

fn elements(elements: &Json) -> HashMap<String, String> {
    let element = |element: &Json| match element.as_array().map(Vec::as_slice) {
        Some([key, value]) => (text(key), text(value)),
        _ => (text(element), String::new()),
    };
    elements.as_array().into_iter().flatten().map(element).collect()
}

/// A key or a value as it is written in a script.
fn text(expression: &Json) -> String {
    match expression {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        Json::Object(object) => {
            object.iter().next().map_or_else(String::new, |(kind, inner)| match kind.as_str() {
                "concat" => {
                    let parts = inner.as_array().map(Vec::as_slice).unwrap_or_default();
                    concat(parts)
                }
                "prefix" => format!("{}/{}", text(&inner["addr"]), inner["len"]),
                "goto" | "jump" => format!("{kind} {}", text(&inner["target"])),
                "elem" => text(&inner["val"]),
                verdict => verdict.to_owned(),
            })
        }
        Json::Null | Json::Bool(_) | Json::Array(_) => String::new(),
    }
}

fn concat(parts: &[Json]) -> String {
    let texts = parts.iter().map(text);
    texts.collect::<Vec<_>>().join(" . ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nft_prints() {
        let printed = json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "inet", "name": "kinglet-services", "handle": 1}},
            {"chain": {"name": "services"}}, {"chain": {"name": "to-3"}},
            {"chain": {"name": "base-0123abcd"}}, {"chain": {"name": "sticky-1/tcp-ip/a/b/c/at"}},
            {"map": {"name": "services-ip", "map": "verdict", "elem": [
                [{"concat": ["10.43.0.1", "tcp", 80]}, {"goto": {"target": "internal-3"}}],
                [{"concat": ["10.43.0.2", "udp", 53]}, {"drop": null}],
            ]}},
            {"map": {"name": "endpoints-ip", "elem": [
                [{"concat": ["10.43.0.1", "tcp", 80, 0]}, {"concat": ["10.42.0.5", 8080]}],
            ]}},
            {"set": {"name": "pods-ip", "elem": [{"prefix": {"addr": "10.42.0.0", "len": 16}}, "10.9.0.1"]}},
            {"set": {"name": "sources-ip", "elem": [
                {"concat": ["192.0.2.9", "tcp", 80, {"prefix": {"addr": "203.0.113.0", "len": 24}}]},
            ]}},
            {"set": {"name": "hairpin-ip"}},
            {"set": {"name": "sticky-1/tcp-ip/a/b/c/seen", "elem": [
                {"elem": {"val": "10.42.0.9", "expires": 5}},
            ]}},
        ]});
        let listing = Listing::parse(&printed, "sticky-");
        let expected = [
            ("services-ip", "10.43.0.1 . tcp . 80", "goto internal-3"),
            ("services-ip", "10.43.0.2 . udp . 53", "drop"),
            ("endpoints-ip", "10.43.0.1 . tcp . 80 . 0", "10.42.0.5 . 8080"),
            ("pods-ip", "10.42.0.0/16", ""),
            ("pods-ip", "10.9.0.1", ""),
            ("sources-ip", "192.0.2.9 . tcp . 80 . 203.0.113.0/24", ""),
        ];
        for (set, key, value) in expected {
            assert_eq!(listing.value(set, key), Some(value), "{set} {key}");
        }
        let count: usize = listing.elements.values().map(HashMap::len).sum();
        assert_eq!(count, expected.len());
        assert_eq!(listing.sets.len(), 6);
        let changing: Vec<_> = listing.changing_chains().collect();
        assert_eq!(changing, ["sticky-1/tcp-ip/a/b/c/at", "to-3"]);
    }
}
