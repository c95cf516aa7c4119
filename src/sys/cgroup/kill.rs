//! Emptying cgroups and removing them.

use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long killed processes may take to be gone.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often a cgroup is looked at again for processes that were forked while others were killed.
const ROUNDS_MAX: usize = 100;

/// How often the removal of an emptied cgroup is tried: the kernel lets go of it a moment after
/// its last process has ended, without telling anyone.
const REMOVALS_MAX: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// Kills what is in the cgroup at `directory` and below it, and waits until it is gone. Calls
/// `forbid_forks` where one round does not do.
pub(super) fn kill_all(directory: &Path, forbid_forks: impl Fn()) -> io::Result<()> {
    for round in 0..ROUNDS_MAX {
        let mut pids = Vec::new();
        collect_processes(directory, &mut pids)?;
        if pids.is_empty() {
            return Ok(());
        }
        if round == 1 {
            forbid_forks();
        }
        let handles: Vec<OwnedFd> = pids.iter().filter_map(|pid| handle(*pid)).collect();
        // Where the kernel has it (5.14), one write takes all processes at once; the others are
        // killed one by one.
        if fs::write(directory.join("cgroup.kill"), "1").is_err() {
            pids.iter().try_for_each(|pid| signal::kill(*pid))?;
        }
        for handle in &handles {
            wait_for_end(handle)?;
        }
    }
    Err(io::Error::other(format!("processes keep appearing in {}", directory.display())))
}

/// `None` where the process is gone already.
fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn wait_for_end(process: &OwnedFd) -> io::Result<()> {
    let deadline = Timespec::try_from(DEADLINE).map_err(io::Error::other)?;
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    if poll(&mut polled, Some(&deadline))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "a killed process does not end"));
    }
    Ok(())
}

/// Adds the processes of the cgroup at `directory` and below it.
pub(super) fn collect_processes(directory: &Path, pids: &mut Vec<u32>) -> io::Result<()> {
    let listed = match fs::read_to_string(directory.join("cgroup.procs")) {
        Err(error) if is_gone(&error) => return Ok(()),
        // A threaded cgroup of version 2 does not list its processes; the one above it does.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
        listed => listed?,
    };
    pids.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0));
    child_directories(directory)?.iter().try_for_each(|child| collect_processes(child, pids))
}

/// Removes the cgroup at `directory` and those below it.
pub(super) fn remove_tree(directory: &Path) -> io::Result<()> {
    for child in child_directories(directory)? {
        remove_tree(&child)?;
    }
    let mut attempts = 0;
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && attempts < REMOVALS_MAX =>
            {
                attempts += 1;
                std::thread::sleep(REMOVAL_PAUSE);
            }
            Err(error) => {
                let text = format!("removing the cgroup {}: {error}", directory.display());
                return Err(io::Error::new(error.kind(), text));
            }
        }
    }
}

pub(super) fn child_directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children.push(entry.path());
        }
    }
    Ok(children)
}

/// A cgroup that is removed while it is looked at answers `ENODEV` where it has been opened.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
