//! Interfaces, addresses and routes, over netlink: thin effects.

use super::bandwidth::Bucket;
use super::plan::{self, DefaultRoute, gateway, hardware_address, link_local_address};
use super::shaping;
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};
use rtnetlink::{RouteMessageBuilder, packet_core::ErrorMessage};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Where the way out of the node cannot be told, as on a machine without a network.
const MTU_DEFAULT: u32 = 1500;

/// The pods' end of a veth pair.
const POD_INTERFACE: &str = "eth0";

const LOOPBACK: &str = "lo";

/// The network of addresses that are good on one wire only.
const LINK_LOCAL_BITS: u8 = 64;

type Result<T> = std::result::Result<T, rtnetlink::Error>;

/// Makes the bridge with its addresses, or completes what an earlier process made. Returns its
/// index.
pub(super) async fn ensure_bridge(
    handle: &Handle,
    name: &str,
    ranges: &[IpNet],
    mtu: u32,
) -> Result<u32> {
    let index = match find(handle, name).await? {
        Some(link) => link.header.index,
        None => {
            let bridge = LinkBridge::new(name).mtu(mtu).up();
            let bridge = match ranges.first() {
                Some(range) => bridge.address(hardware_address(gateway(range)).to_vec()),
                None => bridge,
            };
            let bridge = bridge.build();
            handle.link().add(bridge).execute().await?;
            index_of(handle, name).await?
        }
    };
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(mtu).up().build();
    handle.link().set(up).execute().await?;
    for range in ranges {
        add_address(handle, index, gateway(range), range.prefix_len()).await?;
    }
    if ranges.iter().any(|range| range.addr().is_ipv6()) {
        // The node asks for a neighbour with this address where the packet is not its own. The one
        // that the kernel would choose is not good before the first pod has been there for a second
        // or two.
        let hardware = hardware_address(gateway(&ranges[0]));
        add_address(handle, index, link_local_address(hardware).into(), LINK_LOCAL_BITS).await?;
    }
    remove_other_addresses(handle, index, ranges).await?;
    Ok(index)
}

/// A node that was deleted and comes again may have been given other ranges: those before are
/// another node's then, and no longer behind this bridge.
async fn remove_other_addresses(handle: &Handle, index: u32, ranges: &[IpNet]) -> Result<()> {
    let mut addresses = handle.address().get().set_link_index_filter(index).execute();
    let mut others = Vec::new();
    while let Some(message) = addresses.try_next().await? {
        let has = |address: &IpAddr| {
            ranges.iter().any(|range| {
                gateway(range) == *address && range.prefix_len() == message.header.prefix_len
            })
        };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        // Of its own accord an interface has addresses of the link.
        let is_of_link = message.header.scope == AddressScope::Link;
        if !is_of_link && address.is_some_and(|address| !has(&address)) {
            others.push(message);
        }
    }
    for message in others {
        handle.address().del(message).execute().await?;
    }
    Ok(())
}

/// Makes a veth pair: one end here, the other, which is to have `address`, in the namespace behind
/// `namespace`.
pub(super) async fn add_pair(
    handle: &Handle,
    name: &str,
    (namespace, address): (BorrowedFd<'_>, IpAddr),
    mtu: u32,
) -> Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(POD_INTERFACE.to_owned())
        .address(hardware_address(address).to_vec())
        .mtu(mtu)
        .setns_by_fd(namespace.as_raw_fd())
        .build();
    let pair = LinkVeth::new(name, POD_INTERFACE)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(mtu)
        .build();
    handle.link().add(pair).execute().await
}

/// Puts an interface on the bridge, which may send a packet back out of the port it came from: a
/// pod that reaches itself through a port of the node, where br_netfilter translates addresses
/// inside the bridge. Returns the interface's index.
pub(super) async fn join_bridge(handle: &Handle, name: &str, bridge: u32) -> Result<u32> {
    let index = index_of(handle, name).await?;
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).controller(bridge).up().build();
    handle.link().set(up).execute().await?;
    let port = LinkBridgePort::new(index).hairpin(true).build();
    handle.link().set_port(port).execute().await?;
    Ok(index)
}

/// What the pod's end of a veth pair is to have.
#[derive(Clone, Debug)]
pub(super) struct PodEnd {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) gateways: Vec<IpAddr>,
    /// What may leave, where that is limited.
    pub(super) egress: Option<Bucket>,
}

/// Gives the pod's end its addresses and the way to everything else. `handle` is inside. Returns the
/// interface's index.
pub(super) async fn configure_pod(handle: &Handle, end: &PodEnd) -> Result<u32> {
    let loopback = index_of(handle, LOOPBACK).await?;
    set_up(handle, loopback).await?;
    let index = index_of(handle, POD_INTERFACE).await?;
    if let Some(bucket) = end.egress {
        shaping::limit(handle, index, bucket).await?;
    }
    for address in &end.addresses {
        // A host route only: the way to every other pod leads through the gateway.
        let bits = if address.is_ipv4() { 32 } else { 128 };
        add_address(handle, index, *address, bits).await?;
    }
    set_up(handle, index).await?;
    for gateway in &end.gateways {
        add_default_route(handle, index, *gateway).await?;
    }
    Ok(index)
}

/// Adds an address that is good at once: nobody else on the bridge can have it, so the kernel need
/// not ask around for a second first.
pub(super) async fn add_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    bits: u8,
) -> Result<()> {
    let mut add = handle.address().add(index, address, bits).replace();
    add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    add.execute().await
}

async fn add_default_route(handle: &Handle, index: u32, gateway: IpAddr) -> Result<()> {
    let (direct, default) = match gateway {
        IpAddr::V4(gateway) => (
            RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(gateway, 32)
                .scope(RouteScope::Link)
                .output_interface(index)
                .build(),
            RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).output_interface(index).build(),
        ),
        IpAddr::V6(gateway) => (
            RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(gateway, 128)
                .output_interface(index)
                .build(),
            RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).output_interface(index).build(),
        ),
    };
    handle.route().add(direct).replace().execute().await?;
    handle.route().add(default).replace().execute().await
}

async fn set_up(handle: &Handle, index: u32) -> Result<()> {
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    handle.link().set(up).execute().await
}

/// Removes an interface, and with a veth its other end. Succeeds where it is gone already.
pub(super) async fn remove(handle: &Handle, name: &str) -> Result<()> {
    match find(handle, name).await? {
        Some(link) => unless_gone(handle.link().del(link.header.index).execute().await),
        None => Ok(()),
    }
}

/// What fits out of the node in one piece.
pub(super) async fn uplink_mtu(handle: &Handle) -> Result<u32> {
    let mut defaults =
        default_routes(handle, RouteMessageBuilder::<Ipv4Addr>::new().build()).await?;
    defaults.extend(default_routes(handle, RouteMessageBuilder::<Ipv6Addr>::new().build()).await?);
    let mut mtus = BTreeMap::new();
    for route in &defaults {
        let mut links = handle.link().get().match_index(route.interface).execute();
        let link = links.try_next().await?;
        let attributes = link.iter().flat_map(|link| &link.attributes);
        mtus.extend(attributes.filter_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some((route.interface, *mtu)),
            _ => None,
        }));
    }
    Ok(plan::uplink_mtu(&defaults, &mtus).unwrap_or(MTU_DEFAULT))
}

/// The routes of the filter's family that lead everywhere.
async fn default_routes(handle: &Handle, filter: RouteMessage) -> Result<Vec<DefaultRoute>> {
    let mut routes = handle.route().get(filter).execute();
    let mut defaults = Vec::new();
    while let Some(route) = routes.try_next().await? {
        let is_usual = route.header.kind == RouteType::Unicast
            && route.header.table == RouteHeader::RT_TABLE_MAIN;
        if route.header.destination_prefix_length != 0 || !is_usual {
            continue;
        }
        let (mut interface, mut metric) = (None, 0);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Priority(priority) => metric = *priority,
                _ => {}
            }
        }
        let is_ipv4 = route.header.address_family == AddressFamily::Inet;
        defaults.extend(interface.map(|interface| DefaultRoute { interface, metric, is_ipv4 }));
    }
    Ok(defaults)
}

pub(super) async fn exists(handle: &Handle, name: &str) -> Result<bool> {
    Ok(find(handle, name).await?.is_some())
}

pub(super) async fn index_of(handle: &Handle, name: &str) -> Result<u32> {
    match find(handle, name).await? {
        Some(link) => Ok(link.header.index),
        None => Err(rtnetlink::Error::RequestFailed),
    }
}

pub(super) async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link),
        Err(error) if has_code(&error, libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn unless_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if has_code(&error, libc::ENODEV) => Ok(()),
        other => other,
    }
}

pub(super) fn has_code(error: &rtnetlink::Error, errno: i32) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(ErrorMessage { code: Some(code), .. }) => {
            code.get() == -errno
        }
        _ => false,
    }
}

/// Nothing is heard of the kernel any more.
pub(super) fn closed() -> io::Error {
    io::Error::other("the netlink socket closed")
}
