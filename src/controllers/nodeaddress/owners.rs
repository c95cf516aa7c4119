//! Which nodes have which address, and what of it has been told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Another node with an address of the one that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Twin {
    pub address: IpAddr,
    pub node: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_address: BTreeMap<IpAddr, BTreeSet<String>>,
    /// By node.
    told: BTreeSet<(String, Twin)>,
}

impl Owners {
    /// The addresses of a node change. Says which nodes share one from now on.
    pub(super) fn change(
        &mut self,
        node: &str,
        (old, new): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
    ) -> BTreeSet<String> {
        for address in old.difference(new) {
            if let Some(nodes) = self.by_address.get_mut(address) {
                nodes.remove(node);
                if nodes.is_empty() {
                    self.by_address.remove(address);
                }
            }
            self.told
                .retain(|(to, twin)| twin.address != *address || (to != node && twin.node != node));
        }
        let mut sharing = BTreeSet::new();
        for address in new.difference(old) {
            let nodes = self.by_address.entry(*address).or_default();
            nodes.insert(node.to_owned());
            if nodes.len() > 1 {
                sharing.extend(nodes.iter().cloned());
            }
        }
        sharing
    }

    /// Those who share an address with this node, and were not told before.
    pub(super) fn untold(&mut self, node: &str, addresses: &BTreeSet<IpAddr>) -> Vec<Twin> {
        let mut untold = Vec::new();
        for address in addresses {
            let others = self.by_address.get(address).into_iter().flatten();
            for other in others.filter(|other| *other != node) {
                let twin = Twin { address: *address, node: other.clone() };
                if self.told.insert((node.to_owned(), twin.clone())) {
                    untold.push(twin);
                }
            }
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn who_shares_an_address_is_told_once_and_anew_when_it_comes_back() {
        let mut owners = Owners::default();
        let mut change = |node: &str, old: &[&str], new: &[&str]| {
            let (old, new) = (addresses(old), addresses(new));
            let sharing = owners.change(node, (&old, &new));
            let told = sharing.iter().flat_map(|name| {
                let of = if name == node { new.clone() } else { addresses(&["192.0.2.1"]) };
                let untold = owners.untold(name, &of);
                let shown =
                    untold.iter().map(|twin| format!("{name}: {} {}", twin.node, twin.address));
                shown.collect::<Vec<_>>()
            });
            told.collect::<Vec<_>>()
        };
        let nothing: [&str; 0] = [];
        assert_eq!(change("a", &[], &["192.0.2.1"]), nothing);
        assert_eq!(change("b", &[], &["192.0.2.2", "fd00::2"]), nothing);
        let both = ["a: b 192.0.2.1", "b: a 192.0.2.1"];
        assert_eq!(change("b", &["192.0.2.2", "fd00::2"], &["192.0.2.1", "fd00::2"]), both);
        assert_eq!(change("b", &["192.0.2.1", "fd00::2"], &["192.0.2.1"]), nothing);
        assert_eq!(change("b", &["192.0.2.1"], &[]), nothing);
        assert_eq!(change("b", &[], &["192.0.2.1"]), both);
    }
}
