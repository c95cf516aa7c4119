//! Interfaces and addresses that somebody takes away: `ip link delete kinglet0`.
//!
//! Start at [`Losses::next`]. What is heard says only where to look: the kernel says what is there.

use super::link::closed;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

const GROUPS: [MulticastGroup; 3] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];

/// Whoever takes one interface away takes more: all that comes before this has passed is one loss. So
/// a pod that takes its own away again and again does not have it made as often.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// What may have been taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// The bridge, or something that it had.
    pub(super) of_bridge: bool,
    pub(super) interfaces: BTreeSet<String>,
    /// There was more than the kernel could tell of.
    pub(super) is_unknown: bool,
}

impl Loss {
    fn note(&mut self, message: &NetlinkPayload<RouteNetlinkMessage>, here: &impl Here) {
        let message = match message {
            NetlinkPayload::InnerMessage(message) => message,
            NetlinkPayload::Overrun(_) => {
                (self.of_bridge, self.is_unknown) = (true, true);
                return;
            }
            _ => return,
        };
        match message {
            RouteNetlinkMessage::DelLink(link) => match name_of(link) {
                Some(name) if here.is_bridge(name) => self.of_bridge = true,
                Some(name) if here.is_of_pod(name) => {
                    self.interfaces.insert(name.to_owned());
                }
                _ => {}
            },
            RouteNetlinkMessage::NewLink(link) => {
                let is_down = !link.header.flags.contains(LinkFlags::Up);
                self.of_bridge |= is_down && name_of(link).is_some_and(|name| here.is_bridge(name));
            }
            RouteNetlinkMessage::DelAddress(address) => {
                self.of_bridge |= here.is_bridge_index(address.header.index);
            }
            _ => {}
        }
    }
}

/// What is ours.
pub(super) trait Here {
    fn is_bridge(&self, interface: &str) -> bool;
    fn is_bridge_index(&self, index: u32) -> bool;
    fn is_of_pod(&self, interface: &str) -> bool;
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// See the module.
pub(super) struct Losses(BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>);

impl Losses {
    /// Listens as long as the future that is returned beside is polled.
    pub(super) fn listen() -> io::Result<(impl Future<Output = ()> + Send, Self)> {
        let (connection, handle, messages) = new_multicast_connection(&GROUPS)?;
        let listening = async move {
            // The socket lives as long as this.
            let _handle = handle;
            connection.await;
        };
        Ok((listening, Self(messages.map(|(message, _)| message.payload).boxed())))
    }

    /// Returns when something of `here` may have been taken away; it is added to `loss`, also where
    /// this is dropped.
    pub(super) async fn next(&mut self, loss: &mut Loss, here: &impl Here) -> io::Result<()> {
        let before = loss.clone();
        while *loss == before {
            loss.note(&self.0.next().await.ok_or_else(closed)?, here);
        }
        let settling = async {
            while let Some(message) = self.0.next().await {
                loss.note(&message, here);
            }
        };
        // That the time is over is what it is for.
        tokio::time::timeout(SETTLE_TIME, settling).await.ok();
        Ok(())
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Losses").finish_non_exhaustive()
    }
}
