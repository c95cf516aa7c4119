//! Hearing that the clock of the machine was set: by somebody, by NTP when it steps, or because the
//! machine has slept, timerfd_create(2). A clock that is only made a little faster or slower is not
//! set.

use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// See the module. Costs nothing until the clock is set.
#[derive(Debug)]
pub struct ClockWatch(AsyncFd<OwnedFd>);

impl ClockWatch {
    /// # Errors
    /// Where the kernel has no more timers to give.
    pub fn open() -> io::Result<Self> {
        // SAFETY: the call takes two numbers.
        #[expect(unsafe_code, reason = "no crate here has this call")]
        let made = unsafe {
            libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else knows of it.
        #[expect(unsafe_code, reason = "a number becomes a descriptor that is owned")]
        let timer = unsafe { OwnedFd::from_raw_fd(made) };
        arm(&timer)?;
        // SAFETY: the descriptor was just made and is owned by the `AsyncFd` from here on, which
        // gives it away to nobody who could close or replace it.
        #[expect(unsafe_code, reason = "the reactor relies on the descriptor staying open")]
        let watched = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Returns when the clock was set since the last time, or since this was opened.
    ///
    /// # Errors
    /// Where the kernel does not say any more.
    pub async fn was_set(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::io::read(self.0.get_ref(), &mut [0_u8; 8]) {
                Err(Errno::CANCELED) => return Ok(()),
                Err(Errno::AGAIN) => ready.clear_ready(),
                // The end of time: there is another.
                Ok(_) => arm(self.0.get_ref())?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Waits for a moment that never comes, unless the clock is set.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = libc::timespec { tv_sec: libc::time_t::MAX, tv_nsec: 0 };
    let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let wanted = libc::itimerspec { it_interval: once, it_value: never };
    let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
    // SAFETY: the descriptor is a timer, `wanted` lives until the call returns, and what was set
    // before is not asked for.
    #[expect(unsafe_code, reason = "no crate here has this call")]
    let answer = unsafe {
        libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const wanted, ptr::null_mut())
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// That it is heard cannot be tried here: the clock is the whole machine's.
    #[tokio::test]
    async fn nothing_is_heard_while_nobody_sets_the_clock() {
        let watch = ClockWatch::open().unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(50), watch.was_set()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}
