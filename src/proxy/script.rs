//! Changes as one transaction for nft, in the one order that holds: a chain is there before anything
//! leads to it, and nothing leads to it any more before it goes.

use super::base::{self, TABLE};
use super::chain::{Counted, Keys, Way, needed_for};
use super::element::Value;
use super::ledger::{Change, Changes};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What nft is told, and what is there when it has done so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) text: String,
    /// Chains that are there then, some of them again.
    pub(super) made: BTreeSet<String>,
    /// Chains that are empty then and can be deleted. Not at once: a kernel before 6.2 still counts
    /// the element that led there (upstream's `staleChains`).
    pub(super) emptied: Vec<String>,
}

/// The table anew, with nothing in it but the base.
pub(super) fn anew() -> String {
    // Deleting what is missing is an error, and adding what is there is not.
    let marker = base::marker();
    format!(
        "add table inet {TABLE}\ndelete table inet {TABLE}\n{}add chain inet {TABLE} {marker}\n",
        base::base()
    )
}

/// All kinds of rules that there are, for nft and the kernel to say whether they know them.
pub(super) fn trial() -> String {
    let counted = [Keys::AddressAndPort, Keys::NodePort]
        .map(|keys| Counted { keys, way: Way::ExternalLocal { count: 1, local: 1 } });
    let chains = counted.into_iter().flat_map(|counted| needed_for(&Value::Goto(counted.into())));
    let mut text = anew();
    for chain in chains {
        text.push_str(&format!("add chain inet {TABLE} {chain}\n"));
        for rule in chain.rules() {
            text.push_str(&format!("add rule inet {TABLE} {chain} {rule}\n"));
        }
    }
    text
}

/// Takes the table away, whether it is there or not.
pub(super) fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Deletes chains that are empty.
pub(super) fn deletion<'a>(chains: impl IntoIterator<Item = &'a String>) -> String {
    chains.into_iter().map(|chain| format!("delete chain inet {TABLE} {chain}\n")).collect()
}

/// `there` are the chains that come and go with Services.
pub(super) fn script(changes: &Changes, there: &BTreeSet<String>) -> Script {
    let mut writing = Writing { script: Script::default(), there };
    writing.counted_chains(changes);
    for set in changes.sets.iter().filter(|set| set.after.is_some()) {
        let definition = set.after.expect("just looked").definition();
        writing.line(format_args!("add set inet {TABLE} {} {{ {definition} }}", set.name));
    }
    writing.chains(changes);
    writing.elements("delete", &leaving(changes));
    for chain in &changes.chains {
        for rule in chain.after.iter().flatten() {
            writing.line(format_args!("add rule inet {TABLE} {} {rule}", chain.name));
        }
    }
    writing.elements("add", &coming(changes));
    let gone = changes.sets.iter().filter(|set| set.after.is_none()).map(|set| &*set.name);
    for set in gone.chain(changes.strays.sets.iter().map(String::as_str)) {
        writing.line(format_args!("delete set inet {TABLE} {set}"));
    }
    writing.script
}

struct Writing<'a> {
    script: Script,
    there: &'a BTreeSet<String>,
}

impl Writing<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.script.text.write_fmt(line).expect("a text takes everything");
        self.script.text.push('\n');
    }

    fn counted_chains(&mut self, changes: &Changes) {
        let after = changes.elements.iter().filter_map(|change| change.after.as_ref());
        let needed: BTreeSet<_> = after.flat_map(needed_for).collect();
        // By what they lead to: the chains that draw come first in their order.
        for counted in needed {
            let name = counted.to_string();
            if self.there.contains(&name) || self.script.made.contains(&name) {
                continue;
            }
            self.line(format_args!("add chain inet {TABLE} {name}"));
            for rule in counted.rules() {
                self.line(format_args!("add rule inet {TABLE} {name} {rule}"));
            }
            self.script.made.insert(name);
        }
    }

    /// Makes or empties the chains of ports with affinity: their rules come later.
    fn chains(&mut self, changes: &Changes) {
        for chain in &changes.chains {
            if chain.after.is_some() {
                self.line(format_args!("add chain inet {TABLE} {}", chain.name));
                self.script.made.insert(chain.name.to_string());
            } else {
                self.script.emptied.push(chain.name.to_string());
            }
        }
        self.script.emptied.extend(changes.strays.chains.iter().cloned());
        let names = changes.chains.iter().map(|chain| &*chain.name);
        for name in names.chain(changes.strays.chains.iter().map(String::as_str)) {
            self.line(format_args!("flush chain inet {TABLE} {name}"));
        }
    }

    fn elements(&mut self, verb: &str, by_set: &BTreeMap<&str, Vec<String>>) {
        for (set, elements) in by_set {
            let elements = elements.join(", ");
            self.line(format_args!("{verb} element inet {TABLE} {set} {{ {elements} }}"));
        }
    }
}

/// Keys of what goes or becomes different.
fn leaving(changes: &Changes) -> BTreeMap<&str, Vec<String>> {
    let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (set, key) in &changes.strays.elements {
        by_set.entry(set).or_default().push(key.clone());
    }
    for Change { name: key, .. } in changes.elements.iter().filter(|change| change.before.is_some())
    {
        by_set.entry(key.set()).or_default().push(key.to_string());
    }
    by_set
}

/// What comes or becomes different, with what it leads to.
fn coming(changes: &Changes) -> BTreeMap<&str, Vec<String>> {
    let mut by_set: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Change { name: key, after, .. } in &changes.elements {
        let Some(value) = after else { continue };
        let value = value.to_string();
        let element = if value.is_empty() { key.to_string() } else { format!("{key} : {value}") };
        by_set.entry(key.set()).or_default().push(element);
    }
    by_set
}
