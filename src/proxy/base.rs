//! The rules that are the same whatever Services there are.
//!
//! A packet of a connection that is there already meets `ct state new` and nothing else. The first
//! packet of a connection is looked up two or three times, however many Services there are.

use super::element::Family;
use crate::network::Protocol;
use crate::stdx::fnv1a_32;

/// The table with the rules of Services. The pod network has one of its own.
pub(super) const TABLE: &str = "kinglet-services";

/// Everything but elements and counted chains: one command a line.
pub(super) fn base() -> String {
    let mut text = format!("add table inet {TABLE}\n");
    for family in Family::ALL {
        sets(&mut text, family);
    }
    for (chain, hook) in BASE_CHAINS {
        text.push_str(&format!("add chain inet {TABLE} {chain} {{ {hook} policy accept; }}\n"));
    }
    for (chain, _) in CHAINS {
        text.push_str(&format!("add chain inet {TABLE} {chain}\n"));
    }
    for (chain, rules) in JUMPS.iter().chain(CHAINS) {
        for rule in *rules {
            text.push_str(&format!("add rule inet {TABLE} {chain} {rule}\n"));
        }
    }
    text
}

/// How the name of [`marker`] begins.
pub(super) const MARKER_PREFIX: &str = "base-";

/// A chain whose name says which base a table has: where it is there, the base need not be looked at.
pub(super) fn marker() -> String {
    format!("{MARKER_PREFIX}{:08x}", fnv1a_32(base().bytes()))
}

fn sets(text: &mut String, family: Family) {
    let (ip, address) = match family {
        Family::Ipv4 => ("ip", "ipv4_addr"),
        Family::Ipv6 => ("ip6", "ipv6_addr"),
    };
    let frontend = format!("{address} . inet_proto . inet_service");
    let mut add = |kind: &str, name: &str, definition: String| {
        text.push_str(&format!("add {kind} inet {TABLE} {name}-{ip} {{ {definition}; }}\n"));
    };
    add("map", "services", format!("type {frontend} : verdict"));
    add("map", "node-ports", "type inet_proto . inet_service : verdict".to_owned());
    for protocol in Protocol::ALL.map(Protocol::as_str) {
        // The number of an endpoint has no type that could be named.
        let number = format!("{protocol} dport . numgen random mod 1");
        let endpoint = format!("{ip} daddr . {protocol} dport");
        let at_address = format!("typeof {ip} daddr . {number} : {endpoint}");
        add("map", &format!("endpoints-{protocol}"), at_address);
        let at_node = format!("typeof {number} : {endpoint}");
        add("map", &format!("node-port-endpoints-{protocol}"), at_node);
    }
    add("map", "refused", format!("type {frontend} : verdict"));
    add("map", "refused-node-ports", "type inet_proto . inet_service : verdict".to_owned());
    add("set", "cluster-addresses", format!("type {address}"));
    add("set", "hairpin", format!("type {address} . {address}"));
    add("set", "firewalled", format!("type {frontend}"));
    add("set", "sources", format!("type {frontend} . {address}; flags interval"));
    add("set", "pods", format!("type {address}; flags interval"));
    add("set", "service-ranges", format!("type {address}; flags interval"));
}

/// Where the kernel calls us.
const BASE_CHAINS: &[(&str, &str)] = &[
    // Before addresses are translated: what is judged is what the client asked for.
    ("firewall-arriving", "type filter hook prerouting priority -110;"),
    ("firewall-own", "type filter hook output priority -110;"),
    ("arriving", "type nat hook prerouting priority -100;"),
    ("own", "type nat hook output priority -100;"),
    ("refuse-here", "type filter hook input priority 0;"),
    ("refuse-through", "type filter hook forward priority 0;"),
    ("refuse-own", "type filter hook output priority 0;"),
    // Before others who heed the mark, so that it is taken off: the packets of a tunnel inherit it
    // from those that they carry.
    ("leaving", "type nat hook postrouting priority 99;"),
];

const JUMPS: &[(&str, &[&str])] = &[
    ("firewall-arriving", &["ct state new jump firewall"]),
    ("firewall-own", &["ct state new jump firewall"]),
    ("arriving", &["jump services"]),
    ("own", &["jump services"]),
    ("refuse-here", &["ct state new jump refuse-node-ports", "ct state new jump refuse"]),
    (
        "refuse-through",
        &["ct state vmap { new : goto judge-through, invalid : goto judge-invalid }"],
    ),
    ("refuse-own", &["ct state new jump refuse", "ct state new jump refuse-cluster-addresses"]),
    ("leaving", &["jump masquerade-marked"]),
];

const CHAINS: &[(&str, &[&str])] = &[
    (
        "firewall",
        &[
            "ip daddr . meta l4proto . th dport @firewalled-ip \
             ip daddr . meta l4proto . th dport . ip saddr != @sources-ip drop",
            "ip6 daddr . meta l4proto . th dport @firewalled-ip6 \
             ip6 daddr . meta l4proto . th dport . ip6 saddr != @sources-ip6 drop",
        ],
    ),
    (
        "services",
        &[
            "ip daddr . meta l4proto . th dport vmap @services-ip",
            "ip6 daddr . meta l4proto . th dport vmap @services-ip6",
            "fib daddr type local jump node-ports",
        ],
    ),
    (
        "node-ports",
        &[
            "meta nfproto ipv4 meta l4proto . th dport vmap @node-ports-ip",
            // A packet from ::1 leaves by no interface, whatever its source becomes later.
            "meta nfproto ipv6 ip6 daddr != ::1 meta l4proto . th dport vmap @node-ports-ip6",
        ],
    ),
    (
        "refuse",
        &[
            "ip daddr . meta l4proto . th dport vmap @refused-ip",
            "ip6 daddr . meta l4proto . th dport vmap @refused-ip6",
        ],
    ),
    (
        "refuse-node-ports",
        &[
            "meta nfproto ipv4 meta l4proto . th dport vmap @refused-node-ports-ip",
            "meta nfproto ipv6 ip6 daddr != ::1 meta l4proto . th dport vmap @refused-node-ports-ip6",
        ],
    ),
    (
        "refuse-cluster-addresses",
        &[
            "ip daddr @cluster-addresses-ip reject",
            "ip6 daddr @cluster-addresses-ip6 reject",
            // What this node answers itself, as the cluster's DNS, is nobody's Service.
            "ip daddr @service-ranges-ip fib daddr type != local drop",
            "ip6 daddr @service-ranges-ip6 fib daddr type != local drop",
        ],
    ),
    ("judge-through", &["jump refuse", "jump refuse-cluster-addresses"]),
    // What the kernel cannot make out of a connection it does not translate: the client of a Service
    // would hear of a connection to a pod, which it has not, and end it for both (kubernetes#74839).
    ("judge-invalid", &["ip saddr @pods-ip drop", "ip6 saddr @pods-ip6 drop"]),
    ("rejection", &["reject"]),
    ("mark-masquerade", &["meta mark set meta mark or 0x4000"]),
    (
        "masquerade-marked",
        &[
            "ct status dnat ip saddr . ip daddr @hairpin-ip masquerade fully-random",
            "ct status dnat ip6 saddr . ip6 daddr @hairpin-ip6 masquerade fully-random",
            "meta mark and 0x4000 == 0 return",
            "meta mark set meta mark xor 0x4000",
            "masquerade fully-random",
        ],
    ),
];
