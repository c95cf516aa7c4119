//! Whoever keeps a table: has nft change it, and hears when others do.
//!
//! The kernel says of every change which socket it came through. nft's has the number of its process
//! (`netlink_autobind`, net/netlink/af_netlink.c), which an [`Author`] writes down before nft has been
//! given anything to do. Where nft did not get that number, its change is taken for another's: what
//! is there is then written once more than needed.

use super::super::process::{ProcessError, Program};
use super::Batch;
use super::heard::Others;
use serde_json::json;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A transaction that takes longer than this is given up; the kernel then has none of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Transactions that were not heard of yet. The oldest is forgotten where there are more: nobody
/// listens, or the kernel had nothing to tell.
const UNHEARD_MAX: usize = 64;

/// nft 1.0.6 reads scripts from its standard input itself, and names the line where it refuses one;
/// for JSON it opens /dev/stdin instead, which udev or systemd make: not every machine has it.
const STDIN: &str = "/proc/self/fd/0";

/// See the module. Clones are the same author.
#[derive(Clone, Debug, Default)]
pub struct Author {
    own: Arc<OwnChanges>,
}

impl Author {
    /// Runs a script as one transaction.
    ///
    /// # Errors
    /// Where nft is missing ([`ProcessError::Start`]) or refuses; nothing has changed then.
    pub async fn run(&self, script: String) -> Result<(), ProcessError> {
        if script.is_empty() {
            return Ok(());
        }
        self.hand(Program::new("nft").args(["-f", "-"]).input(script)).await
    }

    /// Applies a batch in one transaction.
    ///
    /// # Errors
    /// As [`Author::run`].
    pub async fn apply(&self, batch: &Batch) -> Result<(), ProcessError> {
        if batch.is_empty() {
            return Ok(());
        }
        let json = json!({ "nftables": batch.commands }).to_string();
        self.hand(Program::new("nft").args(["-j", "-f", STDIN]).input(json)).await
    }

    /// Listens from now on to what others do to a table of the family `inet`. An author listens once.
    ///
    /// # Errors
    /// Where the kernel has no nftables, or no socket to give.
    pub fn others(&self, table: &'static str) -> io::Result<Others> {
        Others::listen(table, Arc::clone(&self.own))
    }

    async fn hand(&self, nft: Program) -> Result<(), ProcessError> {
        let running = nft.deadline(DEADLINE).start()?;
        let id = running.id();
        if let Some(id) = id {
            self.own.begun(id);
        }
        let result = running.finish_checked().await;
        if let (Err(_), Some(id)) = (&result, id) {
            self.own.over(id);
        }
        result.map(|_finished| ())
    }
}

/// The sockets of changes that this author has made and not heard of yet.
#[derive(Debug, Default)]
pub(super) struct OwnChanges(Mutex<VecDeque<u32>>);

impl OwnChanges {
    pub(super) fn begun(&self, socket: u32) {
        let mut sockets = self.lock();
        sockets.truncate(UNHEARD_MAX - 1);
        sockets.push_front(socket);
    }

    pub(super) fn over(&self, socket: u32) {
        self.lock().retain(|known| *known != socket);
    }

    pub(super) fn has(&self, socket: u32) -> bool {
        self.lock().contains(&socket)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u32>> {
        self.0.lock().expect("no panics under this lock")
    }
}
