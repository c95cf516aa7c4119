//! The blocks that a range of addresses is divided into, and which of them are free.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of pod addresses, of which each node gets a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRange {
    cidr: IpNet,
    node_prefix: u8,
}

/// A range cannot be divided as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cidr} cannot be divided into blocks of /{node_prefix} for the nodes")]
pub struct BadNodeRange {
    cidr: IpNet,
    node_prefix: u8,
}

impl NodeRange {
    /// # Errors
    /// Where a block would be larger than the range or smaller than an address.
    pub fn new(cidr: IpNet, node_prefix: u8) -> Result<Self, BadNodeRange> {
        if (cidr.prefix_len()..=cidr.max_prefix_len()).contains(&node_prefix) {
            Ok(Self { cidr: cidr.trunc(), node_prefix })
        } else {
            Err(BadNodeRange { cidr, node_prefix })
        }
    }

    fn is_of_one_family(&self, other: &IpNet) -> bool {
        matches!((self.cidr, other), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)))
    }

    /// The addresses in a block are two to the power of this many.
    fn block_bits(&self) -> u32 {
        u32::from(self.cidr.max_prefix_len() - self.node_prefix)
    }

    /// The first block and the last.
    fn blocks_of(&self, cidr: &IpNet) -> (u128, u128) {
        let block = |address| number(address).checked_shr(self.block_bits()).unwrap_or_default();
        (block(cidr.network()), block(cidr.broadcast()))
    }

    fn block(&self, index: u128) -> IpNet {
        let first = index.checked_shl(self.block_bits()).unwrap_or_default();
        let address = match self.cidr {
            IpNet::V4(_) => {
                let bits = u32::try_from(first).expect("blocks are within the range");
                IpAddr::V4(Ipv4Addr::from(bits))
            }
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(first)),
        };
        IpNet::new(address, self.node_prefix).expect("the prefix fits the family")
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The free blocks of a range, in order.
#[derive(Debug)]
pub(super) struct FreeBlocks {
    range: NodeRange,
    /// First and last blocks of what is taken, sorted.
    taken: Vec<(u128, u128)>,
    next: u128,
    last: u128,
}

impl FreeBlocks {
    pub(super) fn of<'a>(range: NodeRange, taken: impl Iterator<Item = &'a IpNet>) -> Self {
        let (next, last) = range.blocks_of(&range.cidr);
        let in_family = taken.filter(|cidr| range.is_of_one_family(cidr));
        let mut taken: Vec<_> = in_family.map(|cidr| range.blocks_of(cidr)).collect();
        // Sorted backwards: what lies behind is taken off the end.
        taken.sort_unstable_by(|a, b| b.cmp(a));
        Self { range, taken, next, last }
    }
}

impl Iterator for FreeBlocks {
    type Item = IpNet;

    fn next(&mut self) -> Option<IpNet> {
        while let Some((first, last)) = self.taken.last()
            && *first <= self.next
        {
            self.next = self.next.max(last.saturating_add(1));
            self.taken.pop();
        }
        if self.next > self.last {
            return None;
        }
        let free = self.range.block(self.next);
        self.next = self.next.saturating_add(1);
        Some(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(range: (&str, u8), taken: &[&str], expected: &[&str]) {
        let range = NodeRange::new(range.0.parse().unwrap(), range.1).unwrap();
        let taken: Vec<IpNet> = taken.iter().map(|cidr| cidr.parse().unwrap()).collect();
        let free: Vec<_> =
            FreeBlocks::of(range, taken.iter()).take(3).map(|cidr| cidr.to_string()).collect();
        assert_eq!(free, expected);
    }

    #[test]
    fn the_lowest_free_blocks_come_first() {
        let cluster = ("10.42.0.0/16", 24);
        check(cluster, &[], &["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
        check(cluster, &["10.42.1.0/24"], &["10.42.0.0/24", "10.42.2.0/24", "10.42.3.0/24"]);
        check(
            cluster,
            &["10.42.0.0/23", "10.42.3.0/24"],
            &["10.42.2.0/24", "10.42.4.0/24", "10.42.5.0/24"],
        );
        // Smaller than a block, larger than the range, elsewhere, twice, of the other family.
        check(cluster, &["10.42.0.128/25"], &["10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"]);
        check(cluster, &["10.0.0.0/8"], &[]);
        check(
            cluster,
            &["10.41.0.0/24", "10.43.0.0/16"],
            &["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"],
        );
        check(
            cluster,
            &["10.42.0.0/24", "10.42.0.0/24", "10.42.0.0/25"],
            &["10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"],
        );
        check(cluster, &["::/0"], &["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24"]);
        check(("10.42.0.0/23", 24), &["10.42.0.0/24"], &["10.42.1.0/24"]);
        check(("10.42.0.5/32", 32), &[], &["10.42.0.5/32"]);
        check(
            ("fd00:42::/48", 64),
            &["fd00:42::/64"],
            &["fd00:42:0:1::/64", "fd00:42:0:2::/64", "fd00:42:0:3::/64"],
        );
        check(("::/0", 128), &[], &["::/128", "::1/128", "::2/128"]);
        check(("0.0.0.0/0", 0), &[], &["0.0.0.0/0"]);
    }

    #[test]
    fn a_range_that_cannot_be_divided_is_refused() {
        for (cidr, node_prefix) in [("10.42.0.0/16", 15), ("10.42.0.0/16", 33), ("fd00::/64", 129)]
        {
            let cidr: IpNet = cidr.parse().unwrap();
            let error = NodeRange::new(cidr, node_prefix).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("{cidr} cannot be divided into blocks of /{node_prefix} for the nodes")
            );
        }
    }
}
