//! Going on in the background: a program that returns to whoever started it and stays.

use nix::unistd::{ForkResult, fork, setsid};
use std::fs::File;
use std::io;

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was started, and is waited for.
    Starter,
    /// The one that stays: in a session of its own, with nothing of the starter's input and outputs.
    Background,
}

/// Makes two processes of this one. For programs of one thread.
///
/// # Errors
/// Where the kernel refuses, and where this process has more than one thread.
pub fn split() -> io::Result<Side> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot fork safely"));
    }
    // SAFETY: there is no other thread, as was just checked, so the child finds every lock and
    // every allocation in a state that it can go on from.
    #[expect(unsafe_code, reason = "one process becomes two")]
    let forked = unsafe { fork() }?;
    if let ForkResult::Parent { .. } = forked {
        return Ok(Side::Starter);
    }
    setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(Side::Background)
}
