//! Shims that nobody has a connection to: those that a crash left before they were written down, and
//! those that do not answer any more.
//!
//! A shim works in a directory that only the shim of one sandbox has: that is how it is found,
//! whatever program it is and whatever has been written down of it.

use super::super::RuntimeError;
use super::super::shim::{Shim, ShimAddress, launch};
use super::layout::SandboxFiles;
use super::sandbox::end_shim;
use super::{failed, records};
use crate::stdx::{Backoff, blocking, chain};
use crate::sys::process_watch::{ProcessWatch, is_at, processes_at};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What passes before a shim that lives and does not answer is asked again: a machine that has just
/// started has much to do.
const ASK_AGAIN: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// A shim that has not answered so often will not.
const ASKED_MAX: u32 = 8;

/// How often a directory is looked at again for shims that were being started.
const ROUNDS_MAX: u32 = 20;

/// How long a killed shim may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// The address of a sandbox's shim, where it is known.
fn address(files: &SandboxFiles) -> Option<ShimAddress> {
    let recorded = records::read(&files.shim_address()).unwrap_or_default();
    recorded.or_else(|| launch::left_address(&files.shim()))
}

/// Connects to the shim of a sandbox, for as long as there is one.
pub(super) async fn find_shim(files: &SandboxFiles) -> Option<Shim> {
    let address = address(files)?;
    let mut failures = 0;
    loop {
        let error = match Shim::connect(&address).await {
            Ok(shim) => return Some(shim),
            Err(error) => error,
        };
        failures += 1;
        let directory = real(files.shim());
        let lives = blocking(move || processes_at(&directory)).await;
        if failures == ASKED_MAX || lives.is_ok_and(|processes| processes.is_empty()) {
            tracing::warn!(error = chain(&error), "the shim of a sandbox is gone");
            return None;
        }
        tokio::time::sleep(ASK_AGAIN.delay(failures)).await;
    }
}

/// Ends whatever shim works for a sandbox whose shim nobody is connected to.
pub(super) async fn end_strays(files: &SandboxFiles) -> Result<(), RuntimeError> {
    let address = address(files);
    if let Some(address) = &address
        && let Ok(shim) = Shim::connect(address).await
    {
        end_shim(&shim).await;
    }
    kill_at(&real(files.shim())).await.map_err(|error| failed("ending a shim", error))?;
    if let Some(socket) = address.as_ref().and_then(|it| it.socket.strip_prefix("unix://")) {
        // A shim that ended by itself has removed it.
        fs::remove_file(socket).ok();
    }
    Ok(())
}

/// The kernel knows a directory by its path without links.
fn real(directory: PathBuf) -> PathBuf {
    fs::canonicalize(&directory).unwrap_or(directory)
}

/// Ends every process that works in `directory`.
async fn kill_at(directory: &Path) -> io::Result<()> {
    for _round in 0..ROUNDS_MAX {
        let place = directory.to_owned();
        let pids = blocking(move || processes_at(&place)).await?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            // Between the two looks the process is held: it is that one and no other that is killed.
            if let Ok(process) = ProcessWatch::open(pid)
                && is_at(pid, directory)
            {
                tracing::warn!(pid, "ending a shim that nobody is connected to");
                process.kill()?;
                let ended = tokio::time::timeout(KILL_DEADLINE, process.ended()).await;
                ended.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?;
            }
        }
    }
    let text = format!("processes keep appearing in {}", directory.display());
    Err(io::Error::other(text))
}
