//! Watching a process that is no child of this one.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, held by a descriptor: whatever becomes of its id, this means that process.
#[derive(Debug)]
pub struct ProcessWatch(AsyncFd<OwnedFd>);

impl ProcessWatch {
    /// Watches the process that has this id now.
    ///
    /// # Errors
    /// Where there is none.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let process = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: the descriptor was just opened and is owned by the `AsyncFd` from here on, which
        // gives it away to nobody who could close or replace it.
        #[expect(unsafe_code, reason = "the reactor relies on the descriptor staying open")]
        let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Returns when the process has ended.
    pub async fn ended(&self) {
        if self.0.readable().await.is_err() {
            // The reactor is gone: this process is ending, and nobody looks any more.
            std::future::pending::<()>().await;
        }
    }

    /// Ends the process with SIGKILL. One that has ended is no error.
    ///
    /// # Errors
    /// Where it may not be signalled.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.0.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Program;
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let started = Program::new("/bin/sh").args(["-c", "sleep 60 >&- 2>&- & echo $!"]);
        let pid = String::from_utf8(started.run().await.unwrap().stdout).unwrap();
        let watch = ProcessWatch::open(pid.trim().parse().unwrap()).unwrap();
        let soon = tokio::time::timeout(Duration::from_millis(10), watch.ended());
        assert!(soon.await.is_err(), "it runs");
        watch.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.ended()).await.unwrap();
    }
}
