//! What pods have on a host while they run, and must not have left when they are gone.

use super::machine::{Machine, deadline};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Traces of the pods of one data directory on this host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traces {
    pub processes: BTreeSet<String>,
    pub mounts: BTreeSet<String>,
    pub cgroups: BTreeSet<String>,
}

impl Traces {
    /// Everything whose name, command line or cgroup has one of `marks` in it.
    pub fn of(marks: &[&str]) -> Self {
        Self::among(marks, &fs::read_to_string("/proc/self/mountinfo").unwrap())
    }

    /// As [`of`](Self::of), where the mounts are those of `table`.
    fn among(marks: &[&str], table: &str) -> Self {
        let marked = |text: &str| marks.iter().any(|mark| text.contains(mark));
        Self {
            processes: processes().into_iter().filter(|line| marked(line)).collect(),
            mounts: table.lines().filter(|line| marked(line)).map(str::to_owned).collect(),
            cgroups: cgroups(Path::new("/sys/fs/cgroup"), &marked),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the pods of a machine have while its server runs, whose own places are left out.
pub fn of_pods(machine: &Machine) -> Traces {
    let data = machine.path("data");
    let layout = kinglet::daemon::Layout::of(&data);
    let (containers, run) = (data.join("agent"), layout.run());
    let marks = [containers.to_str().unwrap(), run.to_str().unwrap(), &layout.id()];
    let mut traces = Traces::among(&marks, &machine.mount_table());
    let server = format!("{} ", machine.server_pid());
    traces.processes.retain(|line| !line.starts_with(&server));
    traces.cgroups.retain(|path| path.contains("/pod"));
    for own in [run.clone(), run.join("volumes"), containers.clone()] {
        let own = format!(" {} ", own.display());
        traces.mounts.retain(|line| !line.contains(&own));
    }
    traces
}

/// Waits until there are no traces; says which there are where some stay.
pub fn vanish(machine: &Machine, look: impl Fn() -> Traces) {
    let end = kinglet::stdx::monotonic() + deadline() / 2;
    let last = RefCell::new(Traces::default());
    machine.eventually("nothing is left", || {
        last.replace(look());
        last.borrow().is_empty() || kinglet::stdx::monotonic() > end
    });
    assert_eq!(last.into_inner(), Traces::default());
}

fn processes() -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let pids = pids.filter(|name| name.parse::<u32>().is_ok() && *name != own);
    pids.filter_map(|pid| {
        // Processes end while they are looked at. What a container runs does not say whose it is,
        // but its cgroup does.
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Some(format!("{pid} {} {}", line.replace('\0', " "), cgroup.replace('\n', " ")))
    })
    .collect()
}

fn cgroups(directory: &Path, marked: &impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            if marked(&path.to_string_lossy()) {
                found.insert(path.to_string_lossy().into_owned());
            }
            found.extend(cgroups(&path, marked));
        }
    }
    found
}
