//! Hearing that a table has been removed, by whomever: `nft flush ruleset` takes everybody's.
//!
//! The kernel tells of every change to everybody who listens (`nft monitor` does so too).

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use std::collections::BTreeSet;
use std::fmt;
use std::io;

/// `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h.
const GROUP: u32 = 7;

/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;

/// `enum nf_tables_msg_types`, linux/netfilter/nf_tables.h.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_GENERATION: u16 = 15;

/// `NFTA_TABLE_NAME`
const TABLE_NAME: u16 = 1;

/// `struct nlmsghdr` and, after it, `struct nfgenmsg`, in bytes.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// See the module. Costs nothing while no rules change.
pub struct RemovedTables {
    socket: TokioSocket,
    transaction: Transaction,
}

impl RemovedTables {
    /// # Errors
    /// Where the kernel has no nftables, or no socket to give.
    pub fn watch() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 1 << (GROUP - 1)))?;
        Ok(Self { socket, transaction: Transaction::default() })
    }

    /// Returns when the table of that name has been removed and not been made again by the same
    /// transaction. Also where so much changed that the kernel could not tell.
    ///
    /// # Errors
    /// Where the kernel does not say any more.
    pub async fn removed(&mut self, table: &str) -> io::Result<()> {
        loop {
            let (messages, _) = match self.socket.recv_from_full().await {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                received => received?,
            };
            if self.transaction.read(&messages).contains(table) {
                return Ok(());
            }
        }
    }
}

impl fmt::Debug for RemovedTables {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RemovedTables").finish_non_exhaustive()
    }
}

/// The tables that the transaction whose messages are coming in has removed so far.
#[derive(Debug, Default)]
struct Transaction(BTreeSet<String>);

impl Transaction {
    /// Reads messages, and returns what the transactions that end in them have removed.
    fn read(&mut self, mut messages: &[u8]) -> BTreeSet<String> {
        let mut removed = BTreeSet::new();
        while let Some((message, rest)) = next_message(messages) {
            messages = rest;
            let kind = u16::from_ne_bytes([message[4], message[5]]);
            let body = message.get(HEADER + FAMILY_HEADER..).unwrap_or_default();
            match (kind >> 8 == SUBSYSTEM).then_some(kind & 0xff) {
                Some(NEW_TABLE) => {
                    table_name(body).map(|name| self.0.remove(name));
                }
                Some(DELETE_TABLE) => {
                    table_name(body).map(|name| self.0.insert(name.to_owned()));
                }
                Some(NEW_GENERATION) => removed.append(&mut self.0),
                _ => {}
            }
        }
        removed
    }
}

/// The first message of a buffer, and what is behind it.
fn next_message(buffer: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = buffer.get(..4)?.try_into().map(u32::from_ne_bytes).ok()?;
    let length = usize::try_from(length).ok().filter(|length| *length >= HEADER)?;
    let message = buffer.get(..length)?;
    Some((message, buffer.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn table_name(mut attributes: &[u8]) -> Option<&str> {
    loop {
        let header = attributes.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]);
        if kind == TABLE_NAME {
            let name = attributes.get(4..length)?;
            return std::str::from_utf8(name.strip_suffix(&[0]).unwrap_or(name)).ok();
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, table: Option<&str>) -> Vec<u8> {
        let mut body = vec![1, 0, 0, 0];
        if let Some(table) = table {
            // An attribute of another kind first.
            body.extend([8, 0, 2, 0, 0, 0, 0, 0]);
            let length = u16::try_from(table.len() + 5).unwrap();
            body.extend(length.to_ne_bytes());
            body.extend(TABLE_NAME.to_ne_bytes());
            body.extend(table.as_bytes());
            body.push(0);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(HEADER + body.len()).unwrap();
        let mut message = length.to_ne_bytes().to_vec();
        message.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        message.resize(HEADER, 0);
        message.extend(body);
        message
    }

    #[track_caller]
    fn check(messages: &[(u16, Option<&str>)], expected: &[&str]) {
        let bytes = messages.iter().flat_map(|(kind, table)| message(*kind, *table));
        let removed = Transaction::default().read(&bytes.collect::<Vec<_>>());
        assert_eq!(removed.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tables_that_are_made_again_were_not_removed() {
        let end = (NEW_GENERATION, None);
        check(&[(DELETE_TABLE, Some("ours")), end], &["ours"]);
        check(&[(DELETE_TABLE, Some("ours")), (NEW_TABLE, Some("ours")), end], &[]);
        check(&[(NEW_TABLE, Some("ours")), (DELETE_TABLE, Some("ours")), end], &["ours"]);
        check(&[(DELETE_TABLE, Some("a")), (DELETE_TABLE, Some("ours")), end], &["a", "ours"]);
        check(&[(DELETE_TABLE, Some("ours"))], &[]);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let whole = message(DELETE_TABLE, Some("ours"));
        for end in 0..whole.len() {
            assert!(Transaction::default().read(&whole[..end]).is_empty());
        }
    }
}
