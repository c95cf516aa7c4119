//! Hearing that the clock of the machine was set: by somebody, by NTP when it steps, or because the
//! machine has slept, timerfd_create(2). A clock that is only made a little faster or slower is not
//! set.

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// See the module. Costs nothing until the clock is set.
#[derive(Debug)]
pub struct ClockWatch(AsyncFd<OwnedFd>);

impl ClockWatch {
    /// # Errors
    /// Where the kernel has no more timers to give.
    pub fn open() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
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
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let wanted = Itimerspec { it_interval: Timespec::default(), it_value: never };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &wanted)?;
    Ok(())
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
