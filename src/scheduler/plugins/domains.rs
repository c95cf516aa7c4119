//! Sums over the domains that labels of nodes divide a cluster into.

use crate::scheduler::node::NodeFacts;
use std::collections::HashMap;

/// A number for each domain: a label of nodes, with its value. Those of zero are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Domains(HashMap<Box<str>, HashMap<Box<str>, i64>>);

impl Domains {
    /// Adds to the domain that the node is in by this label, if it has the label.
    pub(super) fn add(&mut self, key: &str, node: &NodeFacts, by: i64) {
        let Some(value) = node.label(key) else { return };
        if let Some(values) = self.0.get_mut(key)
            && let Some(sum) = values.get_mut(value)
        {
            *sum += by;
            if *sum == 0 {
                values.remove(value);
                if values.is_empty() {
                    self.0.remove(key);
                }
            }
        } else if by != 0 {
            self.0.entry(key.into()).or_default().insert(value.into(), by);
        }
    }

    pub(super) fn get(&self, key: &str, value: &str) -> i64 {
        self.0.get(key).and_then(|values| values.get(value)).copied().unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of the domain that the node is in by this label.
    pub(super) fn of(&self, key: &str, node: &NodeFacts) -> i64 {
        node.label(key).map_or(0, |value| self.get(key, value))
    }

    /// The numbers of all the domains that the node is in.
    pub(super) fn all_of<'a>(&'a self, node: &'a NodeFacts) -> impl Iterator<Item = i64> {
        let sums = self.0.iter().filter_map(|(key, values)| values.get(node.label(key)?));
        sums.copied()
    }
}
