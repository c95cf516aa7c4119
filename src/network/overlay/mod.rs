//! The pod network between nodes: tells the kernel on which node the pods of each range are.
//!
//! Start at [`start`]; what the kernel is to know is decided in [`plan`](plan::desired). Architecture
//! invariants: what there is, the kernel says, and nothing is remembered beside it; what an earlier
//! process made stays in use until it is known to be wrong; nothing is ever flooded or learned.

mod kernel;
mod plan;

pub use plan::{Backend, Member};

use super::link;
use super::{NetworkError, failed};
use crate::stdx::{Backoff, Tasks, chain};
use futures_util::StreamExt as _;
use plan::{Change, Own, Problem, changes, desired, end_address, end_mac};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// The device of the tunnel.
const DEVICE: &str = "kinglet-vx0";

/// Where tunnels listen, as flannel's do.
const PORT: u16 = 8472;

/// What was not to be had is tried again, with every change and after this.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(10) };

/// Whoever changes something changes more: the kernel is looked at when this has passed.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// What this node's part is.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    pub backend: Backend,
    /// This node's name.
    pub node: String,
    /// Where other nodes reach this one.
    pub address: IpAddr,
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
        let keeper = Keeper { config, handle, told: BTreeSet::new() };
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
        let device = link::find(&handle, DEVICE).await?.map(|device| device.header.index);
        for entry in kernel::found(&handle, device).await?.into_iter().rev() {
            kernel::apply(&handle, device, Change::Remove(entry)).await?;
        }
        link::remove(&handle, DEVICE).await
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
        let (name, address) = (self.config.node.clone(), self.config.address);
        let wanted = desired(self.config.backend, &Own { name, address, networks }, members);
        self.tell(wanted.problems);
        let device = match self.config.backend {
            // A node that is alone needs none, and keeps the one that it has.
            Backend::Vxlan if wanted.entries.is_empty() => {
                let device = link::find(&self.handle, DEVICE).await.map_err(doing())?;
                device.map(|device| device.header.index)
            }
            Backend::Vxlan => Some(self.ensure_device(own).await?),
            Backend::HostGateway => {
                link::remove(&self.handle, DEVICE).await.map_err(doing())?;
                None
            }
        };
        let found = kernel::found(&self.handle, device).await.map_err(doing())?;
        for change in changes(&wanted.entries, &found) {
            debug!(?change, "other nodes");
            kernel::apply(&self.handle, device, change)
                .await
                .map_err(failed(format!("{change:?}")))?;
        }
        Ok(())
    }

    async fn ensure_device(&self, own: &Member) -> Result<u32, NetworkError> {
        let doing = || failed(format!("making {DEVICE}"));
        let local = self.config.address;
        let underlay = kernel::underlay(&self.handle, local).await.map_err(doing())?;
        let underlay = underlay.ok_or_else(|| {
            let text = format!("no interface of this machine has the address {local}");
            let source = std::io::Error::new(std::io::ErrorKind::AddrNotAvailable, text);
            failed(format!("making {DEVICE}"))(source)
        })?;
        let addresses: Vec<_> = own.ranges.iter().map(end_address).collect();
        let device = kernel::Device {
            name: DEVICE,
            local,
            underlay: underlay.index,
            port: PORT,
            mac: end_mac(&own.ranges),
            mtu: underlay.mtu.saturating_sub(self.config.backend.overhead(local)),
            addresses: &addresses,
        };
        kernel::ensure_device(&self.handle, &device).await.map_err(doing())
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
