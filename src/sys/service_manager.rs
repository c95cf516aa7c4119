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

    /// Asks for so much time until this process has ended, where `TimeoutStopSec=` of the unit has less.
    ///
    /// # Errors
    /// Where systemd cannot be told. Who does not listen is no error.
    pub fn ask_for_time(&self, time: Duration) -> io::Result<()> {
        let Self::Listening(address) = self else { return Ok(()) };
        let message = format!("EXTEND_TIMEOUT_USEC={}", time.as_micros());
        UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard at `address` when somebody whose environment names `socket` asks for a second.
    #[track_caller]
    fn check(address: &SocketAddr, socket: &str) {
        let listener = UnixDatagram::bind_addr(address).unwrap();
        let manager = ServiceManager::of(Some(OsStr::new(socket)), None).unwrap();
        manager.ask_for_time(Duration::from_secs(1)).unwrap();
        let mut heard = [0; 64];
        let length = listener.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"EXTEND_TIMEOUT_USEC=1000000");
    }

    #[test]
    fn who_listens_hears_what_time_is_wanted() {
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
}
