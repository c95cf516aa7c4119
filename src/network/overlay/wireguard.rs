//! The WireGuard device of this node and its peers: thin effects.

use super::super::link::find;
use super::super::local_addresses;
use super::peers::{self, Change, PORT, Wanted};
use crate::pki::WireGuardKey;
use crate::stdx::blocking;
use crate::sys::wireguard::{Control, PublicKey, UnusableWireGuard};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkWireguard};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tracing::debug;

/// Why the device is not as it is to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceError {
    #[error("netlink refused")]
    Netlink(#[from] rtnetlink::Error),
    #[error(transparent)]
    Unusable(#[from] UnusableWireGuard),
    #[error("the kernel does not say which peers there are")]
    Look(#[source] io::Error),
    #[error("the kernel does not take the key, or UDP port {PORT}")]
    Identify(#[source] io::Error),
    #[error("the kernel refused: {change}")]
    Change {
        change: Change,
        #[source]
        source: io::Error,
    },
    #[error("UDP port {PORT} is taken: `ss -lunp sport = :{PORT}` says by whom")]
    PortTaken,
}

/// What the device is to be.
#[derive(Clone, Debug)]
pub(super) struct Device<'a> {
    pub(super) name: &'a str,
    pub(super) key: &'a WireGuardKey,
    pub(super) mtu: u32,
    pub(super) addresses: &'a [IpAddr],
    pub(super) peers: &'a BTreeMap<PublicKey, Wanted>,
    /// Where peers were said to be before.
    pub(super) told: &'a BTreeMap<PublicKey, SocketAddr>,
}

/// Makes the device, or completes what an earlier process made. What has its name and is something
/// else is replaced. Returns its index.
pub(super) async fn ensure_device(
    handle: &Handle,
    device: &Device<'_>,
) -> Result<u32, DeviceError> {
    if let Some(link) = find(handle, device.name).await?
        && !is_wireguard(&link)
    {
        handle.link().del(link.header.index).execute().await?;
    }
    let index = match find(handle, device.name).await? {
        Some(link) => link.header.index,
        None => {
            handle.link().add(LinkWireguard::new(device.name).build()).execute().await?;
            let made = find(handle, device.name).await?;
            made.ok_or(rtnetlink::Error::RequestFailed)?.header.index
        }
    };
    let (key, peers) = (device.key.clone(), device.peers.clone());
    let told = device.told.clone();
    // Before anything can be sent: the first packet is for a peer.
    blocking(move || bring_about(index, &key, &peers, &told)).await?;
    let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(device.mtu).up().build();
    handle.link().set(up).execute().await.map_err(|error| match is_taken(&error) {
        true => DeviceError::PortTaken,
        false => error.into(),
    })?;
    local_addresses::give(handle, index, device.addresses).await?;
    Ok(index)
}

fn is_taken(error: &rtnetlink::Error) -> bool {
    super::super::link::has_code(error, libc::EADDRINUSE)
}

fn is_wireguard(link: &LinkMessage) -> bool {
    let kind = LinkInfo::Kind(InfoKind::Wireguard);
    link.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&kind)),
    )
}

fn bring_about(
    index: u32,
    key: &WireGuardKey,
    wanted: &BTreeMap<PublicKey, Wanted>,
    told: &BTreeMap<PublicKey, SocketAddr>,
) -> Result<(), DeviceError> {
    let control = Control::open()?;
    let found = control.device(index).map_err(DeviceError::Look)?;
    if found.key != Some(key.public()) || found.port != PORT {
        control.identify(index, key.private(), PORT).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => DeviceError::PortTaken,
            _ => DeviceError::Identify(error),
        })?;
    }
    for change in peers::changes(wanted, &found.peers, told) {
        debug!(%change, "other nodes");
        let done = match &change {
            Change::Remove(key) => control.remove_peer(index, *key),
            Change::Set(key, peer) => control.set_peer(index, *key, peer),
        };
        done.map_err(|source| DeviceError::Change { change, source })?;
    }
    Ok(())
}
