//! Descriptors that another program left open for this one: a protocol by number.

use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes the descriptor of that number over. Each can be taken once, before anything else is
/// opened: later, the number may belong to something of this process's own.
///
/// # Errors
/// `NotFound` where it is not open or has been taken.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let Some(bit) = u32::try_from(number).ok().and_then(|number| 1_u64.checked_shl(number)) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 || !is_open(number) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the descriptor is open, as was just seen, and nobody else owns it: it came from the
    // program that started this one, callers take descriptors before they open any of their own
    // (the contract above), and none is given out twice.
    #[expect(unsafe_code, reason = "a number becomes an owned descriptor")]
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

fn is_open(number: RawFd) -> bool {
    std::path::Path::new(&format!("/proc/self/fd/{number}")).symlink_metadata().is_ok()
}
