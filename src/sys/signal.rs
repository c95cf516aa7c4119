//! Signals by their names and numbers, and sending them.

use nix::sys::signal::{SigSet, Signal as Catchable};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The number of the last signal that Linux knows.
const NUMBER_MAX: u32 = 64;

/// glibc's first real-time signal: what `SIGRTMIN` means to the programs in containers.
const REAL_TIME_FIRST: u32 = 34;

/// The names of signals 1 to 31, in their order, as all architectures but MIPS and PA-RISC have them.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal named as images and pods name it: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
#[must_use]
pub fn parse(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=NUMBER_MAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(offset.strip_prefix('+'), offset, |n| REAL_TIME_FIRST.checked_add(n));
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(offset.strip_prefix('-'), offset, |n| NUMBER_MAX.checked_sub(n));
    }
    let position = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(position + 1).ok()
}

fn real_time(
    digits: Option<&str>,
    offset: &str,
    number: impl Fn(u32) -> Option<u32>,
) -> Option<u32> {
    let distance = if offset.is_empty() { 0 } else { digits?.parse().ok()? };
    number(distance).filter(|number| (REAL_TIME_FIRST..=NUMBER_MAX).contains(number))
}

/// Sends SIGKILL to a process. One that is gone already is no error.
///
/// # Errors
/// Where the process may not be signalled.
pub fn kill(pid: u32) -> io::Result<()> {
    send(pid, Signal::KILL)
}

/// Sends SIGHUP to a process. One that is gone already is no error.
///
/// # Errors
/// Where the process may not be signalled.
pub fn hang_up(pid: u32) -> io::Result<()> {
    send(pid, Signal::HUP)
}

fn send(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Signals read from a descriptor instead of interrupting: for programs of one thread.
#[derive(Debug)]
pub struct SignalQueue(SignalFd);

/// A signal that a [`SignalQueue`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    Terminate,
    HangUp,
    ChildEnded,
}

impl SignalQueue {
    /// Queues these signals for the calling thread, which should be the only one.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Catchable::SIGTERM, Catchable::SIGINT, Catchable::SIGHUP, Catchable::SIGCHLD]
        {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal that has come, where one has.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn next(&self) -> io::Result<Option<Queued>> {
        let Some(received) = self.0.read_signal()? else {
            return Ok(None);
        };
        let is = |signal: Catchable| received.ssi_signo == (signal as libc::c_int).cast_unsigned();
        Ok(Some(if is(Catchable::SIGHUP) {
            Queued::HangUp
        } else if is(Catchable::SIGCHLD) {
            Queued::ChildEnded
        } else {
            Queued::Terminate
        }))
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGQUIT", Some(3)),
            ("SIGSYS", Some(31)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN3", None),
            ("0", None),
            ("65", None),
            ("", None),
            ("SIGNAL", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
