//! The policies' nftables rules: pure, from the model to commands.
//!
//! Start at [`whole()`]. Judged is the connection and not the packet: the client is who began it, the
//! server who it was sent to in the end, after Services and host ports. So both directions of a
//! connection are judged alike, addresses that the node translates do not matter, and a policy holds
//! for connections that were there before it. Two base chains ask one after the other: what one of
//! them accepts, the other still sees.
//!
//! Deliberately absent: traffic of the node itself. It is not forwarded, and always allowed.

use super::model::{Allowed, Family, Members, Model, PortMatch, SetName, Verdict};
use super::policy::Direction;
use crate::sys::nft::{
    self, Batch, Expr, Hook, SetKind, Stmt, Target, Type, accept, any_of, concat, decide_by, drop,
    equals, in_state, jump_to, members, meta, numbers, original, payload, prefix, reply, text,
};
use nftables::expr::MetaKey;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The table with the rules of the policies. Services and the pod network have their own.
pub(super) const TABLE: &str = "kinglet-policies";

/// Everything anew, in the place of what is there.
pub(super) fn whole(model: &Model) -> Batch {
    let mut batch = Batch::new(TABLE);
    batch.delete_table();
    if model.is_empty() {
        return batch;
    }
    batch.add_table();
    for family in Family::ALL {
        let address = type_of(family);
        batch.add_set(isolated(family), &[address], SetKind::Values);
        batch.add_set(own(family), &[address, address], SetKind::Values);
        for direction in Direction::BOTH {
            batch.add_map_of(pods(direction, family), address);
        }
    }
    for direction in [Direction::Egress, Direction::Ingress] {
        batch.add_base_chain(direction.as_str(), Hook::FILTER_FORWARD);
        if direction == Direction::Egress {
            what_is_no_connection(&mut batch);
        }
        ask(&mut batch, direction, model);
    }
    change(&mut batch, &Model::default(), model);
    batch
}

/// What differs between two models, one of which the kernel has. Where one of them is nothing, that
/// is everything.
pub(super) fn changes(old: &Model, new: &Model) -> Batch {
    if old.is_empty() != new.is_empty() || old.ranges != new.ranges {
        return whole(new);
    }
    let mut batch = Batch::new(TABLE);
    change(&mut batch, old, new);
    batch
}

/// What nothing refers to any more once [`changes`] has been applied. Kernels before 6.2 do not see
/// that within one transaction (as upstream's kube-proxy found).
pub(super) fn leftovers(old: &Model, new: &Model) -> Batch {
    let mut batch = Batch::new(TABLE);
    if old.is_empty() || new.is_empty() || old.ranges != new.ranges {
        return batch;
    }
    // Chains of pods refer to those of policies.
    let gone = old.isolations.keys().filter(|name| !new.isolations.contains_key(*name));
    gone.for_each(|name| batch.delete_chain(name));
    let gone = old.policies.keys().filter(|name| !new.policies.contains_key(*name));
    gone.for_each(|name| batch.delete_chain(name));
    let gone = old.sets.keys().filter(|name| !new.sets.contains_key(name));
    gone.for_each(|set| batch.delete_set(&set.name));
    batch
}

/// Packets that connection tracking makes no sense of have no client and no server.
fn what_is_no_connection(batch: &mut Batch) {
    let chain = Direction::Egress.as_str();
    for family in Family::ALL {
        for side in ["saddr", "daddr"] {
            let lost = in_state(&["invalid", "untracked"]);
            let address = payload(family.as_str(), side);
            let is_pod = equals(address, members(isolated(family)));
            batch.add_rule(chain, vec![lost, is_pod, drop()]);
        }
    }
}

fn ask(batch: &mut Batch, direction: Direction, model: &Model) {
    let chain = direction.as_str();
    // Errors about connections that are there, such as packets that are too large.
    let icmp = equals(meta(MetaKey::L4proto), any_of(&["icmp", "ipv6-icmp"]));
    batch.add_rule(chain, vec![in_state(&["related"]), icmp, accept()]);
    for family in Family::ALL {
        // Nobody is kept from itself, through a Service or a port of the node.
        let ends = concat(vec![client(family), server(family)]);
        batch.add_rule(chain, vec![equals(ends, members(own(family))), accept()]);
    }
    for family in Family::ALL {
        let pod = pod(direction, family);
        batch.add_rule(chain, vec![decide_by(pod, pods(direction, family))]);
    }
    // Of a pod that is not known yet, nothing is known to be allowed.
    for range in &model.ranges {
        let pod = pod(direction, Family::of(range.addr()));
        batch.add_rule(chain, vec![equals(pod, prefix(*range)), drop()]);
    }
}

/// The commands in the one order that holds: what is referred to is there before.
fn change(batch: &mut Batch, old: &Model, new: &Model) {
    for (set, members) in &new.sets {
        change_set(batch, set, old.sets.get(set), members);
    }
    for (chain, lines) in &new.policies {
        if old.policies.get(chain) != Some(lines) {
            make_empty(batch, chain);
            lines.iter().for_each(|line| batch.add_rule(chain, allow(line)));
        }
    }
    for (chain, policies) in &new.isolations {
        if !old.isolations.contains_key(chain) {
            make_empty(batch, chain);
            policies.iter().for_each(|policy| batch.add_rule(chain, vec![jump_to(policy)]));
            batch.add_rule(chain, vec![drop()]);
        }
    }
    change_verdicts(batch, old, new);
    change_isolated(batch, &old.isolated(), &new.isolated());
    let gone = old.isolations.keys().filter(|chain| !new.isolations.contains_key(*chain));
    gone.for_each(|chain| batch.flush_chain(chain));
    let gone = old.policies.keys().filter(|chain| !new.policies.contains_key(*chain));
    gone.for_each(|chain| batch.flush_chain(chain));
}

fn make_empty(batch: &mut Batch, chain: &str) {
    batch.add_chain(chain);
    batch.flush_chain(chain);
}

fn change_set(batch: &mut Batch, set: &SetName, old: Option<&Members>, new: &Members) {
    let kind = match new {
        Members::Pods(_) => SetKind::Values,
        Members::Ranges(_) => SetKind::Ranges,
    };
    if old.is_none() {
        batch.add_set(&set.name, &[type_of(set.family)], kind);
    }
    match (old, new) {
        (Some(Members::Pods(old)), Members::Pods(new)) => {
            batch.delete_elements(&set.name, old.difference(new).map(address).collect());
            batch.add_elements(&set.name, new.difference(old).map(address).collect());
        }
        (_, Members::Pods(new)) => {
            batch.add_elements(&set.name, new.iter().map(address).collect());
        }
        (Some(old), new) if old == new => {}
        (old, Members::Ranges(new)) => {
            if old.is_some() {
                batch.flush_set(&set.name);
            }
            batch.add_elements(&set.name, new.iter().copied().map(prefix).collect());
        }
    }
}

fn change_verdicts(batch: &mut Batch, old: &Model, new: &Model) {
    for direction in Direction::BOTH {
        for family in Family::ALL {
            let is_here =
                |key: &&(Direction, IpAddr)| key.0 == direction && Family::of(key.1) == family;
            let map = pods(direction, family);
            let stale = old.verdicts.keys().filter(is_here);
            let stale = stale.filter(|key| old.verdicts.get(key) != new.verdicts.get(key));
            batch.delete_elements(map, stale.map(|(_, pod)| address(pod)).collect());
            let fresh = new.verdicts.keys().filter(is_here);
            let fresh = fresh.filter(|key| old.verdicts.get(key) != new.verdicts.get(key));
            let fresh: Vec<_> =
                fresh.map(|key| (address(&key.1), target(&new.verdicts[key]))).collect();
            batch.add_verdicts(map, &fresh);
        }
    }
}

fn target(verdict: &Verdict) -> Target {
    match verdict {
        Verdict::Accept => Target::Accept,
        Verdict::Isolate(chain) => Target::Goto(chain.clone()),
    }
}

fn change_isolated(batch: &mut Batch, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
    for family in Family::ALL {
        let of_family = |pod: &&IpAddr| Family::of(**pod) == family;
        let gone: Vec<_> = old.difference(new).filter(of_family).collect();
        let come: Vec<_> = new.difference(old).filter(of_family).collect();
        let both = |pod: &&IpAddr| concat(vec![address(pod), address(pod)]);
        batch.delete_elements(isolated(family), gone.iter().map(|pod| address(pod)).collect());
        batch.delete_elements(own(family), gone.iter().map(both).collect());
        batch.add_elements(isolated(family), come.iter().map(|pod| address(pod)).collect());
        batch.add_elements(own(family), come.iter().map(both).collect());
    }
}

/// Accepts what a line of a policy allows.
fn allow(line: &Allowed) -> Vec<Stmt> {
    let mut rule = Vec::new();
    if let Some(set) = &line.client {
        rule.push(equals(client(set.family), members(&set.name)));
    }
    if let Some(set) = &line.server {
        rule.push(equals(server(set.family), members(&set.name)));
    }
    if let Some(PortMatch { protocol, numbers: range }) = line.port {
        rule.push(equals(meta(MetaKey::L4proto), text(protocol.as_str())));
        // The port of the server. nft knows what it is by the protocol before it.
        let all = |range: &(u16, u16)| *range == (0, u16::MAX);
        if let Some((first, last)) = range.filter(|range| !all(range)) {
            rule.push(equals(reply("proto-src"), numbers(first, last)));
        }
    }
    rule.push(accept());
    rule
}

fn client(family: Family) -> Expr {
    original(match family {
        Family::Ipv4 => "ip saddr",
        Family::Ipv6 => "ip6 saddr",
    })
}

fn server(family: Family) -> Expr {
    reply(match family {
        Family::Ipv4 => "ip saddr",
        Family::Ipv6 => "ip6 saddr",
    })
}

/// The end of a connection that policies for the direction are about.
fn pod(direction: Direction, family: Family) -> Expr {
    match direction {
        Direction::Ingress => server(family),
        Direction::Egress => client(family),
    }
}

fn address(address: &IpAddr) -> Expr {
    text(address.to_string())
}

fn type_of(family: Family) -> Type {
    match family {
        Family::Ipv4 => nft::Type::Ipv4Addr,
        Family::Ipv6 => nft::Type::Ipv6Addr,
    }
}

fn isolated(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "isolated-ip",
        Family::Ipv6 => "isolated-ip6",
    }
}

/// Each isolated pod, with itself.
fn own(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "own-ip",
        Family::Ipv6 => "own-ip6",
    }
}

/// What becomes of connections of each pod of this node.
fn pods(direction: Direction, family: Family) -> &'static str {
    match (direction, family) {
        (Direction::Ingress, Family::Ipv4) => "ingress-ip",
        (Direction::Ingress, Family::Ipv6) => "ingress-ip6",
        (Direction::Egress, Family::Ipv4) => "egress-ip",
        (Direction::Egress, Family::Ipv6) => "egress-ip6",
    }
}
