//! Linux namespaces that stay without a process in them: each is pinned by a file it is mounted on.
//!
//! Start at [`make_pinned`]. Namespaces belong to threads: everything here happens on a thread made
//! for it, which ends with its namespaces, so that no thread of a pool ever changes where it is.

use super::mount;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The kinds of namespaces that pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Network,
    Ipc,
    Uts,
}

impl Kind {
    fn flag(self) -> CloneFlags {
        match self {
            Self::Network => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
        }
    }

    /// The name in `/proc/<pid>/ns`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }
}

/// Makes a new namespace of each kind and pins it at its path. `prepare` runs inside all of them
/// before they are pinned.
///
/// # Errors
/// Where the kernel refuses or `prepare` fails; what was pinned by then is unpinned again.
pub fn make_pinned(
    pins: &[(Kind, PathBuf)],
    prepare: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    let made = on_own_thread(|| {
        let flags = pins.iter().fold(CloneFlags::empty(), |flags, (kind, _)| flags | kind.flag());
        unshare(flags)?;
        prepare()?;
        pins.iter().try_for_each(|(kind, path)| pin(*kind, path))
    });
    if made.is_err() {
        for (_, path) in pins {
            // The error that matters is the one above; a pin that was never made cannot be undone.
            unpin(path).ok();
        }
    }
    made
}

/// Pins the calling thread's namespace of that kind.
fn pin(kind: Kind, path: &Path) -> io::Result<()> {
    File::create(path)?;
    mount::bind(Path::new(&format!("/proc/thread-self/ns/{}", kind.name())), path)
}

/// Lets go of a pinned namespace; it ends with the last process in it. Succeeds where it is gone.
///
/// # Errors
/// Where the kernel refuses.
pub fn unpin(path: &Path) -> io::Result<()> {
    mount::unmount_all(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a namespace is pinned at the path.
#[must_use]
pub fn is_pinned(path: &Path) -> bool {
    const NSFS_MAGIC: i64 = 0x6e73_6673;
    #[expect(clippy::useless_conversion, reason = "the field's type depends on the architecture")]
    rustix::fs::statfs(path).is_ok_and(|facts| i64::from(facts.f_type) == NSFS_MAGIC)
}

/// Runs `work` on a thread inside the network namespace at `path`.
///
/// Sockets that `work` opens stay in that namespace wherever they are used afterwards.
///
/// # Errors
/// Where the namespace cannot be entered.
pub fn run_in_network<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    on_own_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

/// Runs `work` on a thread of its own and waits for it.
fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".to_owned());
        match thread.spawn_scoped(scope, work)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Switches the loopback device of the calling thread's network namespace on.
///
/// # Errors
/// Where the kernel refuses.
pub fn loopback_up() -> io::Result<()> {
    const NAME: &[u8] = b"lo";
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    let mut name = [0; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(NAME) {
        *to = libc::c_char::try_from(*from).expect("the name is ASCII");
    }
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::c_short::try_from(flags).expect("IFF_UP and IFF_RUNNING are small"),
        },
    };
    set_interface_flags(&socket, &request)
}

/// `SIOCSIFFLAGS`, one number everywhere; the type that ioctl takes is not the same in glibc and musl.
const SET_INTERFACE_FLAGS: libc::Ioctl = 0x8914;

fn set_interface_flags(socket: &std::net::UdpSocket, request: &libc::ifreq) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is, fully initialised and alive for
    // the call; the descriptor is that of an open socket.
    #[expect(unsafe_code, reason = "ioctl takes a pointer")]
    let result = unsafe {
        libc::ioctl(socket.as_raw_fd(), SET_INTERFACE_FLAGS, std::ptr::from_ref(request))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
