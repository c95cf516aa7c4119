//! The pod network between nodes: tells the kernel on which node the pods of each range are.
//!
//! Start at [`start`]; what the kernel is to know is decided in [`plan`](plan::desired). Architecture
//! invariants: what there is, the kernel says, and nothing is remembered beside it (but where peers of
//! WireGuard were said to be, which move by themselves); what an earlier process made stays in use until
//! it is known to be wrong; nothing is ever flooded, and nothing learned but that.

mod kernel;
mod peers;
mod plan;
mod wireguard;

pub use plan::{Backend, Member};

use super::link;
use super::{NetworkError, failed};
use crate::pki::WireGuardKey;
use crate::stdx::{Backoff, Tasks, chain};
use crate::sys::wireguard::PublicKey;
use futures_util::StreamExt as _;
use ipnet::IpNet;
use plan::{Change, Desired, Own, Problem, changes, desired, end_address, end_mac};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The device of the tunnel, and that of WireGuard.
const VXLAN: &str = "kinglet-vx0";
const WIREGUARD: &str = "kinglet-wg0";

/// Where tunnels listen, as flannel's do.
const VXLAN_PORT: u16 = 8472;

/// What was not to be had is tried again, with every change and after this.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

/// Whoever changes something changes more: the kernel is looked at when this has passed.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// What this node's part is.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    pub means: Means,
    /// This node's name.
    pub node: String,
    /// Where other nodes reach this one.
    pub address: IpAddr,
    /// All pods of the cluster.
    pub cluster_cidrs: Vec<IpNet>,
}

/// A [`Backend`] with what it takes of this node.
#[derive(Clone, Debug)]
pub enum Means {
    Vxlan,
    HostGateway,
    WireGuard(WireGuardKey),
}

impl Means {
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self {
            Self::Vxlan => Backend::Vxlan,
            Self::HostGateway => Backend::HostGateway,
            Self::WireGuard(_) => Backend::WireGuard,
        }
    }

    /// By what other nodes know this one's end, where they have to.
    #[must_use]
    pub fn key(&self) -> Option<PublicKey> {
        match self {
            Self::WireGuard(key) => Some(key.public()),
            Self::Vxlan | Self::HostGateway => None,
        }
    }
}

impl Backend {
    /// So many bytes of a packet between nodes are not the pods'.
    #[must_use]
    pub fn overhead(self, address: IpAddr) -> u32 {
        match (self, address) {
            (Self::HostGateway, _) => 0,
            // Ethernet, VXLAN and UDP, and the header of the family.
            (Self::Vxlan, IpAddr::V4(_)) => 50,
            (Self::Vxlan, IpAddr::V6(_)) => 70,
            // WireGuard and UDP, and IPv6 in any case: a peer may come to be heard by it. flannel and
            // wg-quick take as much.
            (Self::WireGuard, _) => 80,
        }
    }
}

/// Keeps the ways to other nodes' pods, as `members` says who there is (`None`: nobody knows yet),
/// until the tasks are stopped. What the kernel has then stays.
///
/// # Errors
/// Where netlink cannot be reached.
pub fn start(
    config: OverlayConfig,
    members: watch::Receiver<Option<Vec<Member>>>,
    tasks: &mut Tasks,
) -> Result<(), NetworkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
    let (connection, handle, _) = new_connection().map_err(failed("opening a netlink socket"))?;
    let (listening, listener, mut messages) =
        new_multicast_connection(&groups).map_err(failed("listening to the kernel"))?;
    let shutdown = tasks.shutdown();
    tasks.spawn("overlay", async move {
        // The socket lives as long as this.
        let _listener = listener;
        let heard = watch::Sender::new(());
        let hears = heard.subscribe();
        let listen = async {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(message) = &message.payload
                    && concerns_us(message)
                {
                    heard.send_replace(());
                }
            }
        };
        let keeper = Keeper { config, handle, told: BTreeSet::new(), endpoints: BTreeMap::new() };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = connection => {}
            () = listening => {}
            () = listen => {}
            () = keeper.keep(members, hears) => {}
        }
    });
    Ok(())
}

/// Takes everything away that [`start`] has made.
///
/// # Errors
/// Where the kernel refuses.
pub async fn remove() -> Result<(), NetworkError> {
    let (connection, handle, _) = new_connection().map_err(failed("opening a netlink socket"))?;
    let removed = async {
        let device = link::find(&handle, VXLAN).await?.map(|device| device.header.index);
        for entry in kernel::found(&handle, device).await?.into_iter().rev() {
            kernel::apply(&handle, device, Change::Remove(entry)).await?;
        }
        link::remove(&handle, VXLAN).await?;
        link::remove(&handle, WIREGUARD).await
    };
    tokio::select! {
        removed = removed => removed.map_err(failed("removing the ways to other nodes")),
        () = connection => Ok(()),
    }
}

/// Whether what was heard of may have changed something of ours.
fn concerns_us(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::DelRoute(route) => kernel::is_ours(route),
        // An interface that comes up again has lost its routes, without a word about them.
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => !is_of_pod(link),
        _ => false,
    }
}

fn is_of_pod(link: &LinkMessage) -> bool {
    link.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::IfName(name) if name.starts_with("veth")),
    )
}

struct Keeper {
    config: OverlayConfig,
    handle: Handle,
    /// The problems that the log has.
    told: BTreeSet<Problem>,
    /// Where the kernel was told that peers are.
    endpoints: BTreeMap<PublicKey, SocketAddr>,
}

impl Keeper {
    async fn keep(
        mut self,
        mut members: watch::Receiver<Option<Vec<Member>>>,
        mut heard: watch::Receiver<()>,
    ) {
        let mut failures = 0;
        loop {
            heard.mark_unchanged();
            let known = members.borrow_and_update().clone();
            let retry = match self.look(known.as_deref()).await {
                Ok(()) => {
                    failures = 0;
                    None
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(error = chain(&error), "other nodes' pods may be out of reach");
                    }
                    Some(RETRY.delay(failures))
                }
            };
            let wait = async {
                match retry {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                changed = members.changed() => {
                    if changed.is_err() {
                        // Nobody will say anything any more: what is there stays.
                        return std::future::pending::<()>().await;
                    }
                }
                Ok(()) = heard.changed() => tokio::time::sleep(SETTLE_TIME).await,
            }
        }
    }

    /// Makes the kernel know what it should, once.
    async fn look(&mut self, members: Option<&[Member]>) -> Result<(), NetworkError> {
        let Some(members) = members else { return Ok(()) };
        let doing = || failed("telling the kernel of other nodes");
        let own = members.iter().find(|member| member.name == self.config.node);
        let Some(own) = own.filter(|own| !own.ranges.is_empty()) else { return Ok(()) };
        let networks = kernel::networks(&self.handle).await.map_err(doing())?;
        let OverlayConfig { means, node, address, cluster_cidrs } = &self.config;
        let (key, cluster_cidrs) = (means.key(), cluster_cidrs.clone());
        let this = Own { name: node.clone(), address: *address, networks, key, cluster_cidrs };
        let wanted = desired(means.backend(), &this, members);
        self.tell(wanted.problems.clone());
        let device = self.ensure_device(own, &wanted).await?;
        let found = kernel::found(&self.handle, device).await.map_err(doing())?;
        for change in changes(&wanted.entries, &found) {
            debug!(?change, "other nodes");
            kernel::apply(&self.handle, device, change)
                .await
                .map_err(failed(format!("{change:?}")))?;
        }
        Ok(())
    }

    /// Has the device that the backend takes, and no other. Returns its index.
    async fn ensure_device(
        &mut self,
        own: &Member,
        wanted: &Desired,
    ) -> Result<Option<u32>, NetworkError> {
        let (device, others): (_, &[_]) = match self.config.means {
            Means::Vxlan => (Some(VXLAN), &[WIREGUARD]),
            Means::WireGuard(_) => (Some(WIREGUARD), &[VXLAN]),
            Means::HostGateway => (None, &[VXLAN, WIREGUARD]),
        };
        for other in others {
            let removed = link::remove(&self.handle, other).await;
            removed.map_err(failed(format!("removing {other}")))?;
        }
        let Some(device) = device else { return Ok(None) };
        let there = link::find(&self.handle, device).await;
        let there = there.map_err(failed(format!("looking for {device}")))?;
        let there = there.map(|there| there.header.index);
        let addresses: Vec<_> = own.ranges.iter().map(end_address).collect();
        match self.config.means.clone() {
            // A node that is alone needs none, and keeps the one that it has, without peers.
            _ if wanted.entries.is_empty() && there.is_none() => Ok(None),
            Means::WireGuard(key) => {
                self.ensure_wireguard(&key, &addresses, wanted).await.map(Some)
            }
            _ if wanted.entries.is_empty() => Ok(there),
            _ => self.ensure_vxlan(own, &addresses).await.map(Some),
        }
    }

    async fn ensure_vxlan(&self, own: &Member, ends: &[IpAddr]) -> Result<u32, NetworkError> {
        let underlay = self.underlay(VXLAN).await?;
        let device = kernel::Device {
            name: VXLAN,
            local: self.config.address,
            underlay: underlay.index,
            port: VXLAN_PORT,
            mac: end_mac(&own.ranges),
            mtu: self.mtu(underlay),
            addresses: ends,
        };
        let made = kernel::ensure_device(&self.handle, &device).await;
        made.map_err(failed(format!("making {VXLAN}")))
    }

    async fn ensure_wireguard(
        &mut self,
        key: &WireGuardKey,
        addresses: &[IpAddr],
        wanted: &Desired,
    ) -> Result<u32, NetworkError> {
        let underlay = self.underlay(WIREGUARD).await?;
        let device = wireguard::Device {
            name: WIREGUARD,
            key,
            mtu: self.mtu(underlay),
            addresses,
            peers: &wanted.peers,
            told: &self.endpoints,
        };
        let made = wireguard::ensure_device(&self.handle, &device).await;
        let index = made.map_err(failed(format!("making {WIREGUARD}")))?;
        let peers = wanted.peers.iter();
        self.endpoints = peers.map(|(key, peer)| (*key, peer.endpoint)).collect();
        Ok(index)
    }

    /// The interface by which other nodes reach this one.
    async fn underlay(&self, device: &str) -> Result<kernel::Underlay, NetworkError> {
        let doing = || failed(format!("making {device}"));
        let local = self.config.address;
        let underlay = kernel::underlay(&self.handle, local).await.map_err(doing())?;
        underlay.ok_or_else(|| {
            let text = format!("no interface of this machine has the address {local}");
            let source = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, text);
            failed(format!("making {device}"))(source)
        })
    }

    fn mtu(&self, underlay: kernel::Underlay) -> u32 {
        underlay.mtu.saturating_sub(self.config.means.backend().overhead(self.config.address))
    }

    /// Each problem is told when it comes, and that it is over when it is.
    fn tell(&mut self, problems: BTreeSet<Problem>) {
        for problem in problems.difference(&self.told) {
            warn!("{problem}");
        }
        for problem in self.told.difference(&problems) {
            info!("no longer so: {problem}");
        }
        self.told = problems;
    }
}
