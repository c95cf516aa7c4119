//! Addresses that this node answers on and nothing routes to: on an interface of their own, so that
//! it is clear whose they are and what goes with them.

use super::NetworkError;
use super::link::{self, add_address, closed};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec};
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

/// Has the interface carry exactly these addresses, each alone in its network. It is made where it
/// is missing: a bridge without ports, because not every kernel has dummy interfaces.
///
/// # Errors
/// Where the kernel refuses.
pub async fn hold(interface: &str, addresses: &[IpAddr]) -> Result<(), NetworkError> {
    let failed = || format!("adding addresses to {interface}");
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| because(failed(), error))?;
    tokio::select! {
        done = carry(&handle, interface, addresses) => {
            done.map_err(|error| because(failed(), error))
        }
        () = connection => Err(because(failed(), closed())),
    }
}

/// Removes the interface with its addresses. Succeeds where there is none.
///
/// # Errors
/// Where the kernel refuses.
pub async fn release(interface: &str) -> Result<(), NetworkError> {
    let failed = || format!("removing {interface}");
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| because(failed(), error))?;
    tokio::select! {
        done = link::remove(&handle, interface) => done.map_err(|error| because(failed(), error)),
        () = connection => Err(because(failed(), closed())),
    }
}

async fn carry(
    handle: &Handle,
    interface: &str,
    addresses: &[IpAddr],
) -> Result<(), rtnetlink::Error> {
    let index = ensure(handle, interface).await?;
    give(handle, index, addresses).await
}

/// Has an interface carry exactly these addresses, each alone in its network.
pub(super) async fn give(
    handle: &Handle,
    index: u32,
    addresses: &[IpAddr],
) -> Result<(), rtnetlink::Error> {
    let mut messages = handle.address().get().set_link_index_filter(index).execute();
    let mut stale = Vec::new();
    while let Some(message) = messages.try_next().await? {
        if !address_of(&message).is_some_and(|address| is_wanted(address, addresses)) {
            stale.push(message);
        }
    }
    for message in stale {
        handle.address().del(message).execute().await?;
    }
    for address in addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        add_address(handle, index, *address, bits).await?;
    }
    Ok(())
}

/// The kernel gives every interface a link-local address of IPv6; that may stay.
fn is_wanted(address: IpAddr, wanted: &[IpAddr]) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    is_link_local || wanted.contains(&address)
}

pub(super) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

pub(super) async fn ensure(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    if !link::exists(handle, name).await? {
        handle.link().add(LinkBridge::new(name).up().build()).execute().await?;
    }
    let index = link::index_of(handle, name).await?;
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
    handle.link().set(up).execute().await?;
    Ok(index)
}

pub(super) fn because(
    operation: String,
    source: impl Error + Send + Sync + 'static,
) -> NetworkError {
    NetworkError::Failed { operation, source: Arc::new(source) }
}
