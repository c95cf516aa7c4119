//! Routes to addresses that are nowhere, as those of Services: a node's own packets are routed before
//! rules translate them, and without a route they are refused at once.
//!
//! A default route does, whatever it leads to. Where there is none, as in a house without a way out or
//! while a cable is unplugged, these do.

use super::NetworkError;
use super::link::closed;
use super::local_addresses::{because, ensure};
use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Has exactly these ranges lead to the interface, which is made where it is missing and leads nowhere.
/// [`release`](super::local_addresses::release) takes it away, and the routes with it.
///
/// # Errors
/// Where the kernel refuses one; the others are there then.
pub async fn lead(interface: &str, ranges: &[IpNet]) -> Result<(), NetworkError> {
    let failed = || format!("adding routes to {interface}");
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| because(failed(), error))?;
    tokio::select! {
        done = bring_about(&handle, interface, ranges) => {
            done.map_err(|error| because(failed(), error))
        }
        () = connection => Err(because(failed(), closed())),
    }
}

async fn bring_about(
    handle: &Handle,
    interface: &str,
    ranges: &[IpNet],
) -> Result<(), rtnetlink::Error> {
    let index = ensure(handle, interface).await?;
    let wanted: BTreeSet<_> = ranges.iter().map(IpNet::trunc).collect();
    let found = found(handle, index).await?;
    let mut done = Ok(());
    for (_, stray) in found.iter().filter(|(range, _)| !wanted.contains(*range)) {
        done = done.and(handle.route().del(stray.clone()).execute().await);
    }
    // Where a machine has no IPv6, a range of that family keeps no other from its route.
    for range in wanted.iter().filter(|range| !found.contains_key(*range)) {
        done = done.and(handle.route().add(route(index, *range)).replace().execute().await);
    }
    done
}

/// The routes that lead to the interface, but for the kernel's own.
async fn found(
    handle: &Handle,
    index: u32,
) -> Result<BTreeMap<IpNet, RouteMessage>, rtnetlink::Error> {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut found = BTreeMap::new();
    for filter in [v4, v6] {
        let mut routes = handle.route().get(filter).execute();
        while let Some(route) = routes.try_next().await? {
            found.extend(range_of(&route, index).map(|range| (range, route)));
        }
    }
    Ok(found)
}

fn range_of(route: &RouteMessage, index: u32) -> Option<IpNet> {
    let leads_there = route.attributes.contains(&RouteAttribute::Oif(index));
    if !leads_there || route.header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

fn route(index: u32, range: IpNet) -> RouteMessage {
    match range {
        IpNet::V4(range) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .scope(RouteScope::Link)
            .output_interface(index)
            .build(),
        IpNet::V6(range) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(index)
            .build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_known_again_by_its_interface() {
        for range in ["10.43.0.0/16", "fd43::/112"] {
            let range: IpNet = range.parse().unwrap();
            let route = route(7, range);
            assert_eq!(range_of(&route, 7), Some(range));
            assert_eq!(range_of(&route, 8), None);
            let mut kernels = route;
            kernels.header.protocol = RouteProtocol::Kernel;
            assert_eq!(range_of(&kernels, 7), None);
        }
    }
}
