//! When packets pass: an interface that is set up carries frames a moment later, takes what is sent to
//! many a moment later, and an address of IPv6 hears that it is asked for a moment later, when the
//! kernel has got round to it. A question for a neighbour that is lost so is asked again after a second,
//! and whoever sent the first packet to a new pod has waited for as long.

use super::link::closed;
use super::local_addresses::address_of;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, State};
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;
use tracing::debug;

/// What is lost after so long is asked for again anyway; the pod need not wait longer.
const DEADLINE: Duration = Duration::from_secs(1);

/// What [`until_ready`] listens to.
pub(super) const CHANGES_INSIDE: [MulticastGroup; 2] =
    [MulticastGroup::Link, MulticastGroup::Ipv6Ifaddr];

/// Waits until packets pass these interfaces.
pub(super) async fn until_passing(handle: &Handle, interfaces: &[u32]) -> io::Result<()> {
    // Looking is enough for newer kernels (6.9), which then do at once what they have put off.
    if pass(handle, interfaces).await.map_err(io::Error::other)? {
        return Ok(());
    }
    let (connection, handle, mut changes) = new_multicast_connection(&[MulticastGroup::Link])?;
    let passing = async {
        while !pass(&handle, interfaces).await.map_err(io::Error::other)? {
            changes.next().await.ok_or_else(closed)?;
        }
        Ok(())
    };
    let passing = async {
        tokio::select! {
            done = passing => done,
            () = connection => Err(closed()),
        }
    };
    timeout(DEADLINE, passing).await.unwrap_or_else(|_elapsed| {
        debug!(?interfaces, "packets do not pass yet");
        Ok(())
    })
}

/// Waits until the interface of a pod takes what comes and its addresses are good. `heard` is of
/// [`CHANGES_INSIDE`], and begins before anything is changed.
pub(super) async fn until_ready<S>(
    handle: &Handle,
    heard: &mut (impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, S)> + Unpin),
    interface: u32,
    addresses: &[IpAddr],
) -> io::Result<()> {
    let mut awaited: BTreeSet<_> = addresses.iter().filter(|it| it.is_ipv6()).copied().collect();
    let ready = async {
        while !awaited.is_empty() || !pass(handle, &[interface]).await.map_err(io::Error::other)? {
            let (message, _) = heard.next().await.ok_or_else(closed)?;
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) =
                message.payload
                && let Some(address) = address_of(&message)
            {
                awaited.remove(&address);
            }
        }
        Ok(())
    };
    timeout(DEADLINE, ready).await.unwrap_or_else(|_elapsed| {
        debug!(?addresses, "packets to these do not arrive yet");
        Ok(())
    })
}

async fn pass(handle: &Handle, interfaces: &[u32]) -> Result<bool, rtnetlink::Error> {
    for interface in interfaces {
        let mut links = handle.link().get().match_index(*interface).execute();
        let attributes = links.try_next().await?.into_iter().flat_map(|link| link.attributes);
        let mut states = attributes.filter_map(|attribute| match attribute {
            LinkAttribute::OperState(state) => Some(state),
            _ => None,
        });
        if !states.any(|state| matches!(state, State::Up | State::Unknown)) {
            return Ok(false);
        }
    }
    Ok(true)
}
