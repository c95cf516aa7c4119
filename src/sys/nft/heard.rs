//! Hearing what others do to a table: `nft flush ruleset` takes everybody's.
//!
//! The kernel tells of every change to everybody who listens (`nft monitor` does so too). Start at
//! [`Others::changed`].

use super::super::netlink::{self, Message, PROTOCOL_HEADER_BYTES, split_message};
use super::author::OwnChanges;
use crate::stdx::monotonic;
use futures_util::FutureExt as _;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use socket2::{SockFilter, SockRef};
use std::fmt;
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;

/// `enum nf_tables_msg_types`, linux/netfilter/nf_tables.h.
const NEW_ELEMENTS: u16 = 12;
const NEW_GENERATION: u16 = 15;

/// `NFPROTO_INET`, linux/netfilter.h: the family of all our tables.
const INET: u8 = 1;

/// The attribute that names the table, in messages about everything that is in one:
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE` and so on.
const TABLE: u16 = 1;

/// What the kernel keeps for us until it is read. Where that is too little, changes are lost
/// ([`Heard::TooMuch`]). A thousand Services that go at once are about a tenth of it.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// Between two times that somebody's changes are told of, so that whoever changes a table again and
/// again does not have it written as often.
const REST: Duration = Duration::from_millis(250);

/// What others did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// Somebody has changed the table, or something in it.
    Changed,
    /// There were more changes than the kernel could tell of: this table's may be among them.
    TooMuch,
}

/// Changes that others make to a table. Costs nothing while no rules change.
///
/// Not heard of are elements that are added to what is there, and nothing else: the kernel is told
/// not to tell, because our own are many, and a Service is not taken from anybody so.
pub struct Others {
    socket: TokioSocket,
    table: &'static str,
    own: Arc<OwnChanges>,
    /// Somebody's transaction that is not over yet has touched the table.
    is_touched: bool,
    told: Option<Instant>,
}

impl Others {
    pub(super) fn listen(table: &'static str, own: Arc<OwnChanges>) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        enlarge_buffer(&socket);
        SockRef::from(&*socket.socket_mut()).attach_filter(&all_but(NEW_ELEMENTS))?;
        socket.socket_mut().bind(&SocketAddr::new(0, 1 << (GROUP - 1)))?;
        Ok(Self { socket, table, own, is_touched: false, told: None })
    }

    /// Returns when somebody else's transaction has changed the table. What was changed before this
    /// returns is told of once. Nothing is lost where this is dropped.
    ///
    /// # Errors
    /// Where the kernel does not say any more.
    pub async fn changed(&mut self) -> io::Result<Heard> {
        if let Some(told) = self.told {
            tokio::time::sleep_until((told + REST).into()).await;
        }
        loop {
            let mut heard = self.receive().await?;
            while heard.is_some()
                && let Some(more) = self.receive().now_or_never()
            {
                heard = heard.max(more?);
            }
            if let Some(heard) = heard {
                self.told = Some(monotonic());
                return Ok(heard);
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Option<Heard>> {
        match self.socket.recv_from_full().await {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(Heard::TooMuch)),
            Err(error) => Err(error),
            Ok((messages, _)) => {
                let is_changed = read(&messages, self.table, &self.own, &mut self.is_touched);
                Ok(is_changed.then_some(Heard::Changed))
            }
        }
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Others").field("table", &self.table).finish_non_exhaustive()
    }
}

/// Whether a transaction of somebody else that has changed the table ends in these messages.
/// `is_touched` is known from the messages before.
fn read(mut messages: &[u8], table: &str, own: &OwnChanges, is_touched: &mut bool) -> bool {
    let mut is_changed = false;
    while let Some((Message { kind, socket, body }, rest)) = split_message(messages) {
        messages = rest;
        if kind >> 8 != SUBSYSTEM {
            continue;
        }
        if kind & 0xff == NEW_GENERATION {
            own.over(socket);
            is_changed |= std::mem::take(is_touched);
        } else if !own.has(socket) && is_about(body, table) {
            *is_touched = true;
            // The kernel itself makes no transactions.
            is_changed |= socket == 0;
        }
    }
    is_changed
}

fn is_about(body: &[u8], table: &str) -> bool {
    let attributes = body.get(PROTOCOL_HEADER_BYTES..).unwrap_or_default();
    let name = netlink::find(attributes, TABLE);
    let is_it = |name: &[u8]| name.strip_suffix(&[0]) == Some(table.as_bytes());
    body.first() == Some(&INET) && name.is_some_and(is_it)
}

/// A filter for the kernel: datagrams that begin with a message of this kind are not for us. A
/// datagram has several messages of one transaction.
fn all_but(kind: u16) -> [SockFilter; 4] {
    #[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
    const fn code(parts: u32) -> u16 {
        parts as u16
    }
    const LOAD_HALF: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    const JUMP_IF_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);
    // Filters read numbers as networks do, which netlink does not write them as.
    let kind = u16::from_be_bytes((SUBSYSTEM << 8 | kind).to_ne_bytes());
    [
        SockFilter::new(LOAD_HALF, 0, 0, 4),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, kind.into()),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// Beyond what the machine allows to everybody. Where that is refused, less is kept.
fn enlarge_buffer(socket: &TokioSocket) {
    let length = libc::socklen_t::try_from(size_of_val(&BUFFER_BYTES)).expect("four");
    // SAFETY: the descriptor is open as long as `socket` is, and the pointer is to a number of the
    // length that is given with it.
    #[expect(unsafe_code, reason = "no crate that is here wraps this option")]
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            std::ptr::from_ref(&BUFFER_BYTES).cast(),
            length,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;
    const OTHERS: u32 = 8;
    const DELETE_RULE: u16 = 8;

    fn message(kind: u16, socket: u32, table: Option<&str>) -> Vec<u8> {
        // An attribute of another kind first.
        let named = |table: &str| {
            [
                netlink::attribute(2, &[0; 4]),
                netlink::attribute(TABLE, format!("{table}\0").as_bytes()),
            ]
        };
        let attributes = table.map(named).unwrap_or_default().concat();
        let kind = SUBSYSTEM << 8 | kind;
        let mut message = netlink::message(kind, 0, [INET, 0, 0, 0], &attributes);
        message[12..16].copy_from_slice(&socket.to_ne_bytes());
        message
    }

    fn own_changes() -> OwnChanges {
        let own = OwnChanges::default();
        own.begun(OWN);
        own
    }

    #[track_caller]
    fn check(messages: &[(u16, u32, Option<&str>)], expected: bool) {
        let bytes =
            messages.iter().flat_map(|(kind, socket, table)| message(*kind, *socket, *table));
        let bytes: Vec<_> = bytes.collect();
        assert_eq!(read(&bytes, "ours", &own_changes(), &mut false), expected, "{messages:?}");
    }

    #[test]
    fn what_others_do_to_the_table_is_heard_when_it_is_done() {
        let rule = |socket| (DELETE_RULE, socket, Some("ours"));
        let end = |socket| (NEW_GENERATION, socket, None);
        check(&[rule(OTHERS), end(OTHERS)], true);
        check(&[rule(OTHERS)], false);
        check(&[rule(OWN), end(OWN)], false);
        check(&[rule(OWN), rule(OWN), end(OWN), rule(OTHERS), end(OTHERS)], true);
        // The number is another's by now.
        check(&[rule(OWN), end(OWN), rule(OWN), end(OWN)], true);
        check(&[(DELETE_RULE, OTHERS, Some("another")), end(OTHERS)], false);
        check(&[rule(0)], true);
        check(&[], false);
    }

    #[test]
    fn a_transaction_may_come_in_parts() {
        let own = own_changes();
        let mut is_touched = false;
        let parts = [(DELETE_RULE, Some("ours"), false), (NEW_GENERATION, None, true)];
        for (kind, table, expected) in parts {
            let part = message(kind, OTHERS, table);
            assert_eq!(read(&part, "ours", &own, &mut is_touched), expected);
        }
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let whole = message(DELETE_RULE, 0, Some("ours"));
        for end in 0..whole.len() {
            assert!(!read(&whole[..end], "ours", &own_changes(), &mut false));
        }
    }
}
