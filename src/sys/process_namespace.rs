//! A process namespace and the process that holds it: unlike other namespaces it cannot be pinned
//! by a file alone, since it ends with its first process.

use super::mount::{self, Tmpfs};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Uid, fork, pivot_root, setgroups, setresgid, setresuid, setsid,
};
use std::io;
use std::path::Path;

/// Makes a new process namespace whose first process runs `first` and then exits, and returns that
/// process's id in the caller's namespace. For programs of one thread.
///
/// # Errors
/// Where the kernel refuses, and where this process has more than one thread.
pub fn start(first: impl FnOnce()) -> io::Result<u32> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot fork safely"));
    }
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)?;
    // SAFETY: there is no other thread, as was just checked, so the child finds every lock and
    // every allocation in a state that it can go on from.
    #[expect(unsafe_code, reason = "the namespace applies to children only")]
    let forked = unsafe { fork() }?;
    match forked {
        ForkResult::Parent { child } => Ok(child.as_raw().cast_unsigned()),
        ForkResult::Child => {
            first();
            std::process::exit(0);
        }
    }
}

/// Leaves everything behind that the calling process, the first of its namespace, has of the
/// machine: files, session, user, privileges.
///
/// # Errors
/// Where the kernel refuses.
pub fn give_up_everything(user: u32) -> io::Result<()> {
    setsid()?;
    mount::make_private(Path::new("/"))?;
    // An empty file system as the root: whoever sees this process sees nothing through it.
    let root = Path::new("/proc");
    mount::tmpfs(root, Tmpfs { size_bytes: 4_096, mode: 0o555, group: None })?;
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
    rustix::thread::set_no_new_privs(true)?;
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Takes note of every child that has ended, so that none stays a zombie.
///
/// # Errors
/// Where the kernel refuses.
pub fn reap_children() -> io::Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(()),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
