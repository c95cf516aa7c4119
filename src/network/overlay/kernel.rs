//! The tunnel's device and the entries of other nodes, over netlink: thin effects.

use super::super::link::{add_address, find, has_code};
use super::plan::{Change, Entry, Mac};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who has made a route: by this, ours are known again. Nobody else's in iproute2's rt_protos.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(75);

/// All of ours are one network.
const VNI: u32 = 1;

type Result<T> = std::result::Result<T, rtnetlink::Error>;

/// What the device is to be.
#[derive(Clone, Debug)]
pub(super) struct Device<'a> {
    pub(super) name: &'a str,
    /// This node's address, by which others send to it.
    pub(super) local: IpAddr,
    /// The interface that has it.
    pub(super) underlay: u32,
    pub(super) port: u16,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    pub(super) addresses: &'a [IpAddr],
}

/// An interface of this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Underlay {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

/// The interface that has an address.
pub(super) async fn underlay(handle: &Handle, address: IpAddr) -> Result<Option<Underlay>> {
    let mut addresses = handle.address().get().set_address_filter(address).execute();
    let Some(found) = addresses.try_next().await? else { return Ok(None) };
    let index = found.header.index;
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await?;
    let mtu = link.iter().flat_map(|link| &link.attributes).find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    Ok(mtu.map(|mtu| Underlay { index, mtu }))
}

/// The networks that this node is on.
pub(super) async fn networks(handle: &Handle) -> Result<Vec<IpNet>> {
    let mut addresses = handle.address().get().execute();
    let mut networks = Vec::new();
    while let Some(message) = addresses.try_next().await? {
        let bits = message.header.prefix_len;
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        let network = address.and_then(|address| IpNet::new(address, bits).ok());
        networks.extend(network.map(|network| network.trunc()));
    }
    Ok(networks)
}

/// Makes the device, or completes what an earlier process made. One that cannot be completed is made
/// anew. Returns its index.
pub(super) async fn ensure_device(handle: &Handle, device: &Device<'_>) -> Result<u32> {
    if let Some(link) = find(handle, device.name).await?
        && !is_as_wanted(&link, device)
    {
        handle.link().del(link.header.index).execute().await?;
    }
    let index = match find(handle, device.name).await? {
        Some(link) => link.header.index,
        None => {
            let builder = LinkVxlan::new(device.name, VNI)
                .dev(device.underlay)
                .port(device.port)
                .learning(false)
                .address(device.mac.0.to_vec());
            let builder = match device.local {
                IpAddr::V4(address) => builder.local(address),
                IpAddr::V6(address) => builder.local6(address),
            };
            handle.link().add(builder.build()).execute().await?;
            let made = find(handle, device.name).await?;
            made.ok_or(rtnetlink::Error::RequestFailed)?.header.index
        }
    };
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(device.mtu).up().build();
    handle.link().set(up).execute().await?;
    for address in device.addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        add_address(handle, index, *address, bits).await?;
    }
    Ok(index)
}

/// Whether a device has what can only be given to a new one.
fn is_as_wanted(link: &LinkMessage, device: &Device<'_>) -> bool {
    let mac = LinkAttribute::Address(device.mac.0.to_vec());
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(facts)) => Some(facts),
            _ => None,
        }),
        _ => None,
    });
    let local = match device.local {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    };
    let wanted = [
        InfoVxlan::Id(VNI),
        InfoVxlan::Port(device.port),
        InfoVxlan::Link(device.underlay),
        InfoVxlan::Learning(false),
        local,
    ];
    link.attributes.contains(&mac)
        && infos.is_some_and(|facts| wanted.iter().all(|fact| facts.contains(fact)))
}

/// What the kernel has of ours. `device` is the tunnel's, where there is one.
pub(super) async fn found(handle: &Handle, device: Option<u32>) -> Result<BTreeSet<Entry>> {
    let mut found = BTreeSet::new();
    if let Some(device) = device {
        for family in [AddressFamily::Bridge, AddressFamily::Inet, AddressFamily::Inet6] {
            let mut entries = handle.neighbours().get().set_address_family(family).execute();
            while let Some(message) = entries.try_next().await? {
                if message.header.ifindex == device {
                    found.extend(entry_of_neighbour(&message));
                }
            }
        }
    }
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    for filter in [v4, v6] {
        let mut routes = handle.route().get(filter).execute();
        while let Some(message) = routes.try_next().await? {
            if is_ours(&message) {
                found.extend(entry_of_route(&message));
            }
        }
    }
    Ok(found)
}

/// Whether this process, or one before it, has made the route.
pub(super) fn is_ours(route: &RouteMessage) -> bool {
    route.header.protocol == PROTOCOL && route.header.table == RouteHeader::RT_TABLE_MAIN
}

fn entry_of_neighbour(message: &NeighbourMessage) -> Option<Entry> {
    // What the kernel looks for by itself, for multicast and the like, is not ours to take away.
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let end = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) => {
            <[u8; 6]>::try_from(octets.as_slice()).ok().map(Mac)
        }
        _ => None,
    })?;
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
            Some(IpAddr::V4(*address))
        }
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
            Some(IpAddr::V6(*address))
        }
        // In the table of a bridge the family is not that of the address.
        NeighbourAttribute::Destination(NeighbourAddress::Other(octets)) => address_of(octets),
        _ => None,
    })?;
    Some(match message.header.family {
        AddressFamily::Bridge => Entry::Forward { end, node: address },
        _ => Entry::Neighbour { address, end },
    })
}

fn address_of(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn entry_of_route(message: &RouteMessage) -> Option<Entry> {
    let (mut destination, mut via) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip_of(address),
            RouteAttribute::Gateway(address) => via = ip_of(address),
            _ => {}
        }
    }
    let range = IpNet::new(destination?, message.header.destination_prefix_length).ok()?;
    Some(match via {
        Some(via) => Entry::Route { range, via },
        None => Entry::Through { range },
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Carries out one change. What is gone already need not be removed.
pub(super) async fn apply(handle: &Handle, device: Option<u32>, change: Change) -> Result<()> {
    match change {
        Change::Add(Entry::Route { range, via }) => {
            handle.route().add(route(device, range, via)).replace().execute().await
        }
        Change::Remove(Entry::Route { range, via }) => {
            // By what it is alone: the device may be another by now.
            unless_gone(handle.route().del(route(None, range, via)).execute().await)
        }
        Change::Add(Entry::Through { range }) => {
            handle.route().add(through(device, range)).replace().execute().await
        }
        Change::Remove(Entry::Through { range }) => {
            unless_gone(handle.route().del(through(None, range)).execute().await)
        }
        Change::Add(entry) => {
            let Some(message) = neighbour(device, entry) else { return Ok(()) };
            let mut request = handle.neighbours().add(0, IpAddr::from([0; 4])).replace();
            *request.message_mut() = message;
            request.execute().await
        }
        Change::Remove(entry) => {
            let Some(message) = neighbour(device, entry) else { return Ok(()) };
            unless_gone(handle.neighbours().del(message).execute().await)
        }
    }
}

fn neighbour(device: Option<u32>, entry: Entry) -> Option<NeighbourMessage> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = device?;
    message.header.state = NeighbourState::Permanent;
    let (end, address) = match entry {
        Entry::Forward { end, node } => {
            message.header.family = AddressFamily::Bridge;
            message.header.flags = NeighbourFlags::Own;
            (end, node)
        }
        Entry::Neighbour { address, end } => {
            message.header.family =
                if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            (end, address)
        }
        Entry::Route { .. } | Entry::Through { .. } => return None,
    };
    let address = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(address));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(end.0.to_vec()));
    Some(message)
}

/// With a device, the way leads into it whether or not the address seems to be there.
fn route(device: Option<u32>, range: IpNet, via: IpAddr) -> RouteMessage {
    match (range, via) {
        (IpNet::V4(range), IpAddr::V4(via)) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(range.network(), range.prefix_len())
                .gateway(via)
                .protocol(PROTOCOL);
            match device {
                Some(device) => route.output_interface(device).onlink().build(),
                None => route.build(),
            }
        }
        (range, via) => {
            let (IpAddr::V6(network), IpAddr::V6(via)) = (range.network(), via) else {
                unreachable!("plan keeps families apart")
            };
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network, range.prefix_len())
                .gateway(via)
                .protocol(PROTOCOL);
            match device {
                Some(device) => route.output_interface(device).onlink().build(),
                None => route.build(),
            }
        }
    }
}

/// Without an address of whom to give it to next.
fn through(device: Option<u32>, range: IpNet) -> RouteMessage {
    match range {
        IpNet::V4(range) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(range.network(), range.prefix_len())
                .scope(RouteScope::Link)
                .protocol(PROTOCOL);
            match device {
                Some(device) => route.output_interface(device).build(),
                None => route.build(),
            }
        }
        IpNet::V6(range) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(range.network(), range.prefix_len())
                .protocol(PROTOCOL);
            match device {
                Some(device) => route.output_interface(device).build(),
                None => route.build(),
            }
        }
    }
}

fn unless_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if has_code(&error, libc::ENOENT) || has_code(&error, libc::ESRCH) => Ok(()),
        other => other,
    }
}
