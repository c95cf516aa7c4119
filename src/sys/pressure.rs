//! Waking up when the machine runs short of memory: pressure stall information, psi(7).

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells when some tasks have waited 150 ms of one second for memory.
const TRIGGER: &[u8] = b"some 150000 1000000\0";

/// See the module.
#[derive(Debug)]
pub struct MemoryPressure(AsyncFd<OwnedFd>);

impl MemoryPressure {
    /// `None` where the kernel does not measure it, or does not let this process be told.
    #[must_use]
    pub fn open() -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open("/proc/pressure/memory", flags, Mode::empty()).ok()?;
        rustix::io::write(&file, TRIGGER).ok()?;
        // SAFETY: the descriptor was just opened and is owned by the `AsyncFd` from here on, which
        // gives it away to nobody who could close or replace it.
        #[expect(unsafe_code, reason = "the reactor relies on the descriptor staying open")]
        let watched = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) };
        Some(Self(watched.ok()?))
    }

    /// Returns when memory has become short.
    ///
    /// # Errors
    /// Where the kernel takes the trigger away.
    pub async fn felt(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}
