//! What systemd is told of this process, over the socket that it gives its services (sd_notify(3)).
//!
//! Start at [`ServiceManager::of_this_process`].

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever of a unit may tell systemd something has it: `NotifyAccess=` of the unit.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Every process of a unit has it.
const INVOCATION: &str = "INVOCATION_ID";

/// How long, in microseconds, may pass without a sign of life: `WatchdogSec=` of the unit.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// Who is meant by [`WATCHDOG`].
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// A service manager that takes nothing for so long is not told: its own deadlines end a start that
/// it has not heard of.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Who started this process, and may end it.
#[derive(Debug)]
pub enum ServiceManager {
    /// Not systemd, or not as a unit.
    None,
    /// systemd, which does not listen: the unit does not let it.
    Deaf,
    Listening(SocketAddr),
}

impl ServiceManager {
    /// # Errors
    /// Where the socket that the environment names cannot be one.
    pub fn of_this_process() -> io::Result<Self> {
        Self::of(env::var_os(SOCKET).as_deref(), env::var_os(INVOCATION).as_deref())
    }

    fn of(socket: Option<&OsStr>, invocation: Option<&OsStr>) -> io::Result<Self> {
        match (socket.map(OsStr::as_bytes), invocation) {
            (Some([b'@', name @ ..]), _) => {
                SocketAddr::from_abstract_name(name).map(Self::Listening)
            }
            (Some(path), _) => {
                SocketAddr::from_pathname(OsStr::from_bytes(path)).map(Self::Listening)
            }
            (None, Some(_)) => Ok(Self::Deaf),
            (None, None) => Ok(Self::None),
        }
    }

    /// Says that whoever waited for the start need not wait any longer.
    ///
    /// # Errors
    /// Where systemd cannot be told. Who does not listen is no error, here and below.
    pub fn tell_ready(&self, status: &str) -> io::Result<()> {
        self.tell(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")))
    }

    /// Says that this process ends, because it was told to or for reasons of its own.
    ///
    /// # Errors
    /// See [`tell_ready`](Self::tell_ready).
    pub fn tell_stopping(&self) -> io::Result<()> {
        self.tell("STOPPING=1")
    }

    /// Says that this process does what it is for: see [`watchdog_time`].
    ///
    /// # Errors
    /// See [`tell_ready`](Self::tell_ready).
    pub fn tell_alive(&self) -> io::Result<()> {
        self.tell("WATCHDOG=1")
    }

    /// Asks for so much time until this process has ended, where `TimeoutStopSec=` of the unit has less.
    ///
    /// # Errors
    /// See [`tell_ready`](Self::tell_ready).
    pub fn ask_for_time(&self, time: Duration) -> io::Result<()> {
        self.tell(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()))
    }

    fn tell(&self, message: &str) -> io::Result<()> {
        let Self::Listening(address) = self else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_WITHIN))?;
        socket.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

/// How long may pass before the service manager takes this process for dead and ends it; `None` where
/// it does not look.
#[must_use]
pub fn watchdog_time() -> Option<Duration> {
    let read = |name| env::var(name).ok();
    watchdog_of(read(WATCHDOG).as_deref(), read(WATCHDOG_PROCESS).as_deref(), std::process::id())
}

fn watchdog_of(time: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let time = time?.parse().ok().map(Duration::from_micros)?;
    (!time.is_zero()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard at `address` from somebody whose environment names `socket`.
    #[track_caller]
    fn check(address: &SocketAddr, socket: &str) {
        let listener = UnixDatagram::bind_addr(address).unwrap();
        let manager = ServiceManager::of(Some(OsStr::new(socket)), None).unwrap();
        manager.ask_for_time(Duration::from_secs(1)).unwrap();
        manager.tell_ready("node one\nREADY=0").unwrap();
        manager.tell_alive().unwrap();
        manager.tell_stopping().unwrap();
        let mut heard = [0; 64];
        let mut hear = || {
            let length = listener.recv(&mut heard).unwrap();
            String::from_utf8_lossy(&heard[..length]).into_owned()
        };
        assert_eq!(hear(), "EXTEND_TIMEOUT_USEC=1000000");
        assert_eq!(hear(), "READY=1\nSTATUS=node one READY=0");
        assert_eq!(hear(), "WATCHDOG=1");
        assert_eq!(hear(), "STOPPING=1");
    }

    #[test]
    fn who_listens_hears_how_it_is_and_what_time_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        check(&SocketAddr::from_pathname(&path).unwrap(), path.to_str().unwrap());
        let name = format!("kinglet-test-{}", std::process::id());
        check(&SocketAddr::from_abstract_name(&name).unwrap(), &format!("@{name}"));
    }

    #[test]
    fn a_unit_that_cannot_be_told_is_known() {
        let deaf = ServiceManager::of(None, Some(OsStr::new("1"))).unwrap();
        assert!(matches!(deaf, ServiceManager::Deaf), "{deaf:?}");
        deaf.ask_for_time(Duration::from_secs(1)).unwrap();
        let none = ServiceManager::of(None, None).unwrap();
        assert!(matches!(none, ServiceManager::None), "{none:?}");
    }

    #[test]
    fn the_watchdog_is_of_one_process() {
        let check = |time, process, expected: Option<u64>| {
            let actual = watchdog_of(time, process, 7);
            assert_eq!(actual, expected.map(Duration::from_micros), "{time:?} {process:?}");
        };
        check(Some("60000000"), Some("7"), Some(60_000_000));
        check(Some("60000000"), None, Some(60_000_000));
        check(Some("60000000"), Some("8"), None);
        check(Some("60000000"), Some(""), None);
        check(Some("0"), Some("7"), None);
        check(Some("soon"), Some("7"), None);
        check(None, Some("7"), None);
    }
}
