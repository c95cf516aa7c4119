//! The pod network's nftables rules: pure, from a model to a batch of commands.
//!
//! Start at [`base()`]. The base is written once; host ports come and go by element and chain, so
//! that a change costs the same however many there are.

use super::records::Record;
use super::{HostPort, Protocol};
use crate::sys::nft::{
    self, Batch, Expr, Family, Hook, Type, differs, equals, jump, look_up, meta, number, payload,
    prefix, text,
};
use ipnet::IpNet;
use nftables::expr::MetaKey;
use std::net::IpAddr;

/// The table with the rules of the pod network. The service proxy has one of its own.
pub(super) const TABLE: &str = "kinglet-network";

/// Marks packets whose source has to become the node's on the way out. Upstream's kube-proxy and
/// kubelet use the same bit (`--iptables-masquerade-bit` 14).
const MASQUERADE_MARK: u32 = 0x4000;

const HOST_PORTS: &str = "host-ports";
const HOST_PORTS_AT: [(&str, &[Type]); 2] = [
    ("host-ports-ip", &[Type::Ipv4Addr, Type::InetProto, Type::InetService]),
    ("host-ports-ip6", &[Type::Ipv6Addr, Type::InetProto, Type::InetService]),
];

/// What the base rules depend on.
#[derive(Clone, Debug)]
pub(super) struct Model<'a> {
    pub(super) bridge: &'a str,
    /// This node's pods.
    pub(super) pod_cidrs: &'a [IpNet],
    /// All pods of the cluster: packets to these keep their source.
    pub(super) cluster_cidrs: &'a [IpNet],
}

/// Everything but the host ports. Replaces what an earlier process left, host ports included.
pub(super) fn base(model: &Model<'_>) -> Batch {
    let mut batch = Batch::new(TABLE);
    batch.delete_table();
    batch.add_table();
    host_port_dispatch(&mut batch);
    batch.add_base_chain("postrouting", Hook::NAT_POSTROUTING);
    masquerade(&mut batch, model);
    batch.add_base_chain("output", Hook::FILTER_OUTPUT);
    drop_redirects(&mut batch, model.bridge);
    batch.add_base_chain("input", Hook::FILTER_INPUT);
    keep_from_loopback(&mut batch, model.bridge);
    batch
}

fn host_port_dispatch(batch: &mut Batch) {
    batch.add_verdict_map(HOST_PORTS, &[Type::InetProto, Type::InetService]);
    for (map, keys) in HOST_PORTS_AT {
        batch.add_verdict_map(map, keys);
    }
    batch.add_chain("dispatch");
    for (family, (map, _)) in ["ip", "ip6"].into_iter().zip(HOST_PORTS_AT) {
        let key = vec![payload(family, "daddr"), meta(MetaKey::L4proto), payload("th", "dport")];
        batch.add_rule("dispatch", vec![look_up(key, map)]);
    }
    let key = vec![meta(MetaKey::L4proto), payload("th", "dport")];
    batch.add_rule("dispatch", vec![look_up(key, HOST_PORTS)]);
    for (chain, hook) in [("prerouting", Hook::NAT_PREROUTING), ("local", Hook::NAT_OUTPUT)] {
        batch.add_base_chain(chain, hook);
        batch.add_rule(
            chain,
            vec![equals(nft::destination_type(), text("local")), jump("dispatch")],
        );
    }
}

fn masquerade(batch: &mut Batch, model: &Model<'_>) {
    // A mark asks for it: a pod that reaches itself through one of the node's ports.
    let marked = nft::has_mark(MASQUERADE_MARK);
    batch.add_rule("postrouting", vec![marked, nft::masquerade()]);
    // Out of the cluster only the node's address has a way back.
    for pods in model.pod_cidrs {
        let family = Family::of(pods.addr()).as_str();
        let mut rule = vec![equals(payload(family, "saddr"), prefix(*pods))];
        let same_family = |range: &&IpNet| Family::of(range.addr()).as_str() == family;
        for range in model.cluster_cidrs.iter().filter(same_family) {
            rule.push(differs(payload(family, "daddr"), prefix(*range)));
        }
        rule.push(differs(meta(MetaKey::Oifname), text(model.bridge)));
        rule.push(nft::masquerade());
        batch.add_rule("postrouting", rule);
    }
    // From the node's loopback to a host port: a pod could not answer to 127.0.0.1.
    batch.add_rule(
        "postrouting",
        vec![
            equals(payload("ip", "saddr"), prefix(loopback())),
            equals(meta(MetaKey::Oifname), text(model.bridge)),
            nft::masquerade(),
        ],
    );
}

/// Pods reach each other through the node. The kernel would tell them of the short way across the
/// bridge, and they would take it, past address translation and policies.
fn drop_redirects(batch: &mut Batch, bridge: &str) {
    let out = || equals(meta(MetaKey::Oifname), text(bridge));
    let redirect = equals(payload("icmp", "type"), text("redirect"));
    batch.add_rule("output", vec![out(), redirect, nft::drop()]);
    let redirect = equals(payload("icmpv6", "type"), text("nd-redirect"));
    batch.add_rule("output", vec![out(), redirect, nft::drop()]);
}

/// Host ports on 127.0.0.1 need the kernel to route that address to the bridge, and it would take it
/// from there as well: pods would reach what listens for nobody but the node (CVE-2020-8558).
fn keep_from_loopback(batch: &mut Batch, bridge: &str) {
    let begun = nft::in_state(&["new", "invalid", "untracked"]);
    let from_pods = equals(meta(MetaKey::Iifname), text(bridge));
    let to_loopback = equals(payload("ip", "daddr"), prefix(loopback()));
    batch.add_rule("input", vec![from_pods, to_loopback, begun, nft::drop()]);
}

fn loopback() -> IpNet {
    IpNet::from(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8))
}

/// Opens the host ports of a record.
pub(super) fn open_ports(batch: &mut Batch, record: &Record) {
    for (port, address) in targets(record) {
        let chain = chain_name(port, address);
        batch.add_chain(&chain);
        batch.flush_chain(&chain);
        let family = Family::of(address).as_str();
        let own = equals(payload(family, "saddr"), text(address.to_string()));
        batch.add_rule(&chain, vec![own, nft::set_mark(MASQUERADE_MARK)]);
        let protocol = equals(meta(MetaKey::L4proto), text(port.protocol.as_str()));
        let matching = vec![
            equals(meta(MetaKey::Nfproto), text(nfproto(address))),
            protocol,
            nft::dnat(address, port.container_port),
        ];
        batch.add_rule(&chain, matching);
        let (map, key) = element(port);
        batch.add_goto(map, key, &chain);
    }
}

/// Closes the host ports of a record that [`open_ports`] opened.
pub(super) fn close_ports(batch: &mut Batch, record: &Record) {
    for (port, address) in targets(record) {
        let (map, key) = element(port);
        batch.delete_key(map, key);
        let chain = chain_name(port, address);
        batch.flush_chain(&chain);
        batch.delete_chain(&chain);
    }
}

/// Each host port with the address it leads to: the first of its family, IPv4 where both will do.
fn targets(record: &Record) -> impl Iterator<Item = (&HostPort, IpAddr)> {
    record.attachment.host_ports.iter().filter_map(|port| {
        let fits = |address: &&IpAddr| {
            port.host_address.is_none_or(|host| host.is_ipv4() == address.is_ipv4())
        };
        Some((port, *record.addresses.iter().find(fits)?))
    })
}

fn element(port: &HostPort) -> (&'static str, Vec<Expr>) {
    let protocol = text(port.protocol.as_str());
    let number = number(u32::from(port.host_port));
    match port.host_address {
        None => (HOST_PORTS, vec![protocol, number]),
        Some(address) => {
            let map = HOST_PORTS_AT[usize::from(address.is_ipv6())].0;
            (map, vec![text(address.to_string()), protocol, number])
        }
    }
}

fn nfproto(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

fn chain_name(port: &HostPort, address: IpAddr) -> String {
    let HostPort { protocol, host_address, host_port, .. } = port;
    let place = host_address.map_or(String::new(), |address| format!("-{address}"));
    let place = place.replace([':', '.'], "_");
    let family = Family::of(address).as_str();
    format!("host-{}-{host_port}{place}-{family}", Protocol::as_str(*protocol))
}
