//! Mounts a directory of an NFS server, with the kernel's own client: no helper has to be installed.
//!
//! Start at [`mount_share`]. Upstream pkg/volume/nfs (v1.35) runs mount.nfs, which finds out by itself
//! which version the server speaks; here the versions are tried from the newest on.

use super::plan::NfsShare;
use crate::sys::mount::{self, NetworkMount};
use crate::sys::mounter;
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Handle;

/// Where servers listen (RFC 7530), unless `port=` says otherwise.
const PORT: u16 = 2049;

/// A server that does not take a connection in this time is away: the kernel would wait for minutes,
/// and nothing could be done about the pod meanwhile.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A server that takes connections and does not say in this time what becomes of the mount hangs.
const MOUNT_WITHIN: Duration = Duration::from_secs(20);

/// What the kernel is told for each version. Version 3 asks other programs of the server for locks,
/// which needs one on this side that is not here.
const VERSIONS: &[&str] = &["vers=4.2", "vers=4.1", "vers=4.0", "vers=3,nolock"];

/// Options that choose the version.
const VERSION_OPTIONS: &[&str] = &["vers=", "nfsvers=", "v3", "v4"];

#[derive(Debug, thiserror::Error)]
pub(super) enum NfsError {
    #[error("mount failed: cannot find the NFS server {server:?}")]
    Unknown {
        server: String,
        #[source]
        source: io::Error,
    },
    #[error("mount failed: the NFS server {server:?} does not answer at port {port}")]
    Away {
        server: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("mount failed: the NFS server {server:?} takes connections and does not answer")]
    Silent { server: String },
    #[error(
        "mount failed: this node's kernel has no NFS client (the module nfs is neither built in nor loadable)"
    )]
    NoClient,
    #[error("mount failed: {server}:{path}")]
    Refused {
        server: String,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("mount failed")]
    Place(#[from] io::Error),
}

/// Mounts the share at `target`, where it is not mounted already. Waits for the server, but not for
/// long: for threads that may.
pub(super) fn mount_share(
    share: &NfsShare,
    target: &Path,
    read_only: bool,
) -> Result<(), NfsError> {
    // Nothing looks at what is mounted: where its server is dead, that would not come back.
    if mount::is_mounted(target)? {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o750).create(target)?;
    let address = reach(&share.server, port(&share.options))?;
    let runtime = Handle::current();
    let mut last = None;
    for options in options(&share.options, address) {
        let wanted = NetworkMount {
            source: source(&share.server, &share.path),
            file_system: "nfs".to_owned(),
            options,
            read_only,
        };
        match runtime.block_on(mounter::mount(target, &wanted, MOUNT_WITHIN)) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                return Err(NfsError::Silent { server: share.server.clone() });
            }
            // The kernel loads the module by itself where it may.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                return Err(NfsError::NoClient);
            }
            Err(error) => last = Some(error),
        }
        // Anything else is an answer, and would be the same for another version.
        let code = last.as_ref().and_then(io::Error::raw_os_error);
        if ![libc::EPROTONOSUPPORT, libc::EPROTO, libc::EINVAL].map(Some).contains(&code) {
            break;
        }
    }
    let source = last.unwrap_or_else(|| ErrorKind::Unsupported.into());
    Err(NfsError::Refused { server: share.server.clone(), path: share.path.clone(), source })
}

/// The first of the server's addresses that takes a connection.
fn reach(server: &str, port: u16) -> Result<IpAddr, NfsError> {
    let named = || server.to_owned();
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, port).to_socket_addrs();
    let addresses = found.map_err(|source| NfsError::Unknown { server: named(), source })?;
    let nowhere = io::Error::from(ErrorKind::AddrNotAvailable);
    let mut last = NfsError::Unknown { server: named(), source: nowhere };
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(_connection) => return Ok(SocketAddr::ip(&address)),
            Err(source) => last = NfsError::Away { server: named(), port, source },
        }
    }
    Err(last)
}

fn source(server: &str, path: &str) -> String {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    match bare.contains(':') {
        true => format!("[{bare}]:{path}"),
        false => format!("{bare}:{path}"),
    }
}

fn port(given: &[String]) -> u16 {
    let mut named = given.iter().flat_map(|option| option.split(','));
    named.find_map(|option| option.strip_prefix("port=")?.parse().ok()).unwrap_or(PORT)
}

/// What the kernel is told, one way after the other. Pure.
fn options(given: &[String], address: IpAddr) -> Vec<String> {
    let given: Vec<&str> = given.iter().flat_map(|option| option.split(',')).collect();
    let names_version =
        given.iter().any(|option| VERSION_OPTIONS.iter().any(|name| option.starts_with(name)));
    let mut common = vec![format!("addr={address}")];
    common.extend(given.iter().map(|option| (*option).to_owned()));
    let common = common.join(",");
    if names_version {
        return vec![common];
    }
    VERSIONS.iter().map(|version| format!("{version},{common}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_tried_unless_one_is_named() {
        let address = IpAddr::from([192, 0, 2, 9]);
        let none = options(&[], address);
        assert_eq!((none.len(), &*none[0]), (4, "vers=4.2,addr=192.0.2.9"));
        let named = options(&["hard,nfsvers=4.1".to_owned(), "noatime".to_owned()], address);
        assert_eq!(named, ["addr=192.0.2.9,hard,nfsvers=4.1,noatime"]);
    }

    #[test]
    fn sources_are_as_the_kernel_reads_them() {
        assert_eq!(source("nas", "/data"), "nas:/data");
        assert_eq!(source("fd00::9", "/data"), "[fd00::9]:/data");
        assert_eq!(source("[fd00::9]", "/data"), "[fd00::9]:/data");
    }

    #[test]
    fn a_server_that_is_away_is_told() {
        // Nobody listens there.
        let error = reach("127.0.0.254", PORT).unwrap_err().to_string();
        assert!(error.contains("does not answer at port 2049"), "{error}");
    }

    #[test]
    fn a_port_may_be_named() {
        let check = |given: &str, expected| assert_eq!(port(&[given.to_owned()]), expected);
        check("hard,port=2050", 2050);
        check("mountport=1", PORT);
        check("", PORT);
    }
}
