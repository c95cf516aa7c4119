//! Processes that are no children of this one: found by where they work, and watched.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
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

    /// Whether the process has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let mut polled = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        // The descriptor is readable from the end of the process on.
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready == 0)
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

/// What the kernel adds to the path of a directory that has been removed.
const DELETED: &[u8] = b" (deleted)";

/// The processes whose working directory is `directory`, as this process sees it, also where it has
/// been removed since.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn processes_at(directory: &Path) -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && is_at(pid, directory)
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Whether the process that has this id now works in `directory`. A process that is gone, or that
/// may not be looked at, does not.
#[must_use]
pub fn is_at(pid: u32, directory: &Path) -> bool {
    let Ok(found) = fs::read_link(format!("/proc/{pid}/cwd")) else {
        return false;
    };
    found == directory || without_deleted(&found).is_some_and(|path| path == directory)
}

fn without_deleted(path: &Path) -> Option<PathBuf> {
    let path = path.as_os_str().as_bytes().strip_suffix(DELETED)?;
    Some(OsString::from_vec(path.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::Program;
    use crate::sys::signal;
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let started = Program::new("/bin/sh").args(["-c", "sleep 60 >&- 2>&- & echo $!"]);
        let pid = String::from_utf8(started.run().await.unwrap().stdout).unwrap();
        let watch = ProcessWatch::open(pid.trim().parse().unwrap()).unwrap();
        let soon = tokio::time::timeout(Duration::from_millis(10), watch.ended());
        assert!(soon.await.is_err() && watch.is_running());
        watch.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(10), watch.ended()).await.unwrap();
        assert!(!watch.is_running());
    }

    #[tokio::test]
    async fn processes_are_found_by_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(directory.path()).unwrap().join("place");
        fs::create_dir(&place).unwrap();
        let started = Program::new("/bin/sh")
            .args(["-c", "sleep 60 >&- 2>&- & echo $!"])
            .directory(&place)
            .run()
            .await;
        let pid: u32 = String::from_utf8(started.unwrap().stdout).unwrap().trim().parse().unwrap();
        assert_eq!(processes_at(&place).unwrap(), [pid]);
        assert!(processes_at(place.parent().unwrap()).unwrap().is_empty());
        fs::remove_dir(&place).unwrap();
        assert_eq!(processes_at(&place).unwrap(), [pid]);
        signal::kill(pid).unwrap();
    }
}
