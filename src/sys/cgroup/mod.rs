//! Control groups, version 1 (also "hybrid") and version 2, behind one set of verbs.
//!
//! Start at [`Cgroups::detect`]. What a limit means in the files of each version is in [`limits`],
//! what the files say in [`usage`]; both are pure. Architecture invariant: only cgroups that
//! somebody names are touched, never those above the first one made here, except that version 2
//! needs its controllers enabled on the way down.

mod activity;
mod detect;
mod kill;
mod limits;
mod usage;

pub use activity::{Activity, DeviceActivity, Stall, Stalls};
pub use limits::{HugepageLimit, Limits};
pub use usage::Usage;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place of a cgroup below the root of every hierarchy: `/kubepods/burstable/pod1234`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

/// A text that is not a [`CgroupPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the path of a cgroup: it takes names after slashes, without `.` and `..`")]
pub struct BadCgroupPath(String);

impl FromStr for CgroupPath {
    type Err = BadCgroupPath;

    fn from_str(text: &str) -> Result<Self, BadCgroupPath> {
        let good = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        match text.strip_prefix('/') {
            Some(names) if names.split('/').all(good) => Ok(Self(text.to_owned())),
            _ => Err(BadCgroupPath(text.to_owned())),
        }
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl CgroupPath {
    /// The cgroup of that name below this one.
    ///
    /// # Errors
    /// Where `name` cannot be a name.
    pub fn child(&self, name: &str) -> Result<Self, BadCgroupPath> {
        format!("{}/{name}", self.0).parse()
    }

    fn below(&self, root: &Path) -> PathBuf {
        root.join(self.0.trim_start_matches('/'))
    }
}

/// The cgroup hierarchies of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    layout: Layout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// Version 2 alone.
    Unified { root: PathBuf },
    /// Version 1, with or without a version 2 hierarchy that has no controllers.
    Legacy { hierarchies: Vec<Hierarchy> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    /// `cpu`, `cpuacct`; empty for hierarchies that only name groups.
    controllers: Vec<String>,
    unified: bool,
}

impl Cgroups {
    /// Finds the hierarchies of this machine.
    ///
    /// # Errors
    /// Where none is mounted.
    pub fn detect() -> io::Result<Self> {
        let layout = detect::layout(&super::mount::mounted()?);
        let layout = layout.ok_or_else(|| io::Error::other("no cgroup hierarchy is mounted"))?;
        Ok(Self { layout })
    }

    /// Whether version 2 rules alone.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        matches!(self.layout, Layout::Unified { .. })
    }

    /// Whether there is a version 2 hierarchy beside those of version 1.
    #[must_use]
    pub fn is_hybrid(&self) -> bool {
        match &self.layout {
            Layout::Unified { .. } => false,
            Layout::Legacy { hierarchies } => hierarchies.iter().any(|each| each.unified),
        }
    }

    /// Whether memory and swap together can be limited.
    #[must_use]
    pub fn limits_swap(&self) -> bool {
        match &self.layout {
            // Cgroups have the file where the kernel has swap.
            Layout::Unified { .. } => Path::new("/proc/swaps").exists(),
            Layout::Legacy { hierarchies } => hierarchies
                .iter()
                .any(|each| each.root.join("memory.memsw.limit_in_bytes").exists()),
        }
    }

    /// Makes a cgroup and those above it. Succeeds where it is there.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn create(&self, path: &CgroupPath) -> io::Result<()> {
        match &self.layout {
            Layout::Unified { root } => create_unified(root, path),
            Layout::Legacy { hierarchies } => {
                hierarchies.iter().try_for_each(|hierarchy| create_legacy(hierarchy, path))
            }
        }
    }

    /// Sets limits of a cgroup; what `limits` leaves open stays as it is.
    ///
    /// # Errors
    /// Where the kernel refuses a value; the text names the file.
    pub fn apply(&self, path: &CgroupPath, limits: &Limits) -> io::Result<()> {
        let settings = match &self.layout {
            Layout::Unified { .. } => limits::unified(limits),
            Layout::Legacy { .. } => limits::legacy(limits),
        };
        for setting in settings {
            match self.file(path, setting.controller, &setting.file) {
                Some(file) => write_setting(&file, &setting.value)?,
                // Huge pages are limited to none by default, where the kernel knows them at all.
                None if setting.controller == "hugetlb" => {}
                None => {
                    let text = format!("the {} controller is not available", setting.controller);
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
            }
        }
        Ok(())
    }

    /// Moves a process into a cgroup.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn add_process(&self, path: &CgroupPath, pid: u32) -> io::Result<()> {
        self.process_files(path).iter().try_for_each(|file| fs::write(file, pid.to_string()))
    }

    /// The files that a process writes to when it moves itself into a cgroup, one of each hierarchy.
    #[must_use]
    pub fn process_files(&self, path: &CgroupPath) -> Vec<PathBuf> {
        let directories = self.directories(path);
        directories.iter().map(|directory| directory.join("cgroup.procs")).collect()
    }

    /// The processes in a cgroup and below it.
    ///
    /// # Errors
    /// Where the kernel refuses; a cgroup that is not there has none.
    pub fn processes(&self, path: &CgroupPath) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        if let Some(directory) = self.directories(path).first() {
            kill::collect_processes(directory, &mut pids)?;
        }
        Ok(pids)
    }

    /// Ends every process in a cgroup and below it with SIGKILL and waits until they are gone.
    ///
    /// # Errors
    /// Where some are still there after [`kill::DEADLINE`]: a process stuck in the kernel.
    pub fn kill(&self, path: &CgroupPath) -> io::Result<()> {
        let directories = self.directories(path);
        let Some(directory) = directories.first() else {
            return Ok(());
        };
        kill::kill_all(directory, || {
            if let Some(pids_max) = self.file(path, "pids", "pids.max") {
                // Nothing may fork its way out of being killed. Not from the beginning: a process
                // that cannot fork ends with an error of its own before it is its turn. Where the
                // limit cannot be set, the rounds of killing must do.
                fs::write(pids_max, "0").ok();
            }
        })
    }

    /// Removes a cgroup and those below it. Succeeds where it is gone.
    ///
    /// # Errors
    /// Where there are processes in it.
    pub fn remove(&self, path: &CgroupPath) -> io::Result<()> {
        self.directories(path).iter().try_for_each(|directory| kill::remove_tree(directory))
    }

    /// The names of the cgroups directly below one.
    ///
    /// # Errors
    /// Where the kernel refuses; a cgroup that is not there has none.
    pub fn children(&self, path: &CgroupPath) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for directory in self.directories(path) {
            for child in kill::child_directories(&directory)? {
                let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// How many processes the kernel has ended in a cgroup for want of memory. Zero where it is gone.
    #[must_use]
    pub fn oom_kills(&self, path: &CgroupPath) -> u64 {
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        usage::field(&self.read(path, "memory", file).unwrap_or_default(), "oom_kill").unwrap_or(0)
    }

    /// What a cgroup uses.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn usage(&self, path: &CgroupPath) -> io::Result<Usage> {
        if self.is_unified() {
            return Ok(usage::unified(usage::UnifiedFiles {
                cpu_stat: &self.read(path, "cpu", "cpu.stat")?,
                memory_current: &self.read(path, "memory", "memory.current")?,
                memory_stat: &self.read(path, "memory", "memory.stat")?,
                pids_current: &self.read(path, "pids", "pids.current").unwrap_or_default(),
            }));
        }
        Ok(usage::legacy(usage::LegacyFiles {
            cpuacct_usage: &self.read(path, "cpuacct", "cpuacct.usage")?,
            memory_usage: &self.read(path, "memory", "memory.usage_in_bytes")?,
            memory_stat: &self.read(path, "memory", "memory.stat")?,
            pids_current: &self.read(path, "pids", "pids.current").unwrap_or_default(),
        }))
    }

    /// What the processes of a cgroup have done. What a kernel does not tell is nothing.
    pub fn activity(&self, path: &CgroupPath) -> Activity {
        let read = |controller, file| self.read(path, controller, file).unwrap_or_default();
        let activity = if self.is_unified() {
            activity::unified(activity::UnifiedFiles {
                cpu_stat: &read("cpu", "cpu.stat"),
                memory_stat: &read("memory", "memory.stat"),
                memory_peak: &read("memory", "memory.peak"),
                swap_current: &read("memory", "memory.swap.current"),
                io_stat: &read("io", "io.stat"),
                cpu_pressure: &read("cpu", "cpu.pressure"),
                memory_pressure: &read("memory", "memory.pressure"),
                io_pressure: &read("io", "io.pressure"),
            })
        } else {
            activity::legacy(activity::LegacyFiles {
                cpuacct_stat: &read("cpuacct", "cpuacct.stat"),
                cpu_stat: &read("cpu", "cpu.stat"),
                memory_stat: &read("memory", "memory.stat"),
                memory_max_usage: &read("memory", "memory.max_usage_in_bytes"),
                io_service_bytes: &read("blkio", "blkio.throttle.io_service_bytes"),
                io_serviced: &read("blkio", "blkio.throttle.io_serviced"),
            })
        };
        Activity { oom_kills: self.oom_kills(path), ..activity }
    }

    fn read(&self, path: &CgroupPath, controller: &str, file: &str) -> io::Result<String> {
        let file = self.file(path, controller, file).ok_or(io::ErrorKind::Unsupported)?;
        fs::read_to_string(file)
    }

    /// A file of a cgroup, where its controller is there.
    fn file(&self, path: &CgroupPath, controller: &str, file: &str) -> Option<PathBuf> {
        match &self.layout {
            Layout::Unified { root } => {
                let file = path.below(root).join(file);
                file.exists().then_some(file)
            }
            Layout::Legacy { hierarchies } => {
                let hierarchy = hierarchies
                    .iter()
                    .find(|each| each.controllers.iter().any(|name| name == controller))?;
                Some(path.below(&hierarchy.root).join(file))
            }
        }
    }

    /// A cgroup's directories that exist, those with controllers first.
    fn directories(&self, path: &CgroupPath) -> Vec<PathBuf> {
        let directories: Vec<PathBuf> = match &self.layout {
            Layout::Unified { root } => vec![path.below(root)],
            Layout::Legacy { hierarchies } => {
                hierarchies.iter().map(|hierarchy| path.below(&hierarchy.root)).collect()
            }
        };
        directories.into_iter().filter(|directory| directory.is_dir()).collect()
    }
}

fn create_legacy(hierarchy: &Hierarchy, path: &CgroupPath) -> io::Result<()> {
    let directory = path.below(&hierarchy.root);
    if directory.is_dir() {
        return Ok(());
    }
    if !hierarchy.controllers.iter().any(|name| name == "cpuset") {
        return fs::create_dir_all(&directory);
    }
    // A new cpuset has no processors and takes no process: it is given its parent's.
    for (parent, child) in steps(&hierarchy.root, path) {
        create_directory(&child)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let current = fs::read_to_string(child.join(file))?;
            if current.trim().is_empty() {
                write_setting(&child.join(file), fs::read_to_string(parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

/// What pods need; the others that the kernel has are enabled too where they can be.
const CONTROLLERS_NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
const CONTROLLERS_WANTED: [&str; 4] = ["cpuset", "io", "hugetlb", "rdma"];

fn create_unified(root: &Path, path: &CgroupPath) -> io::Result<()> {
    for (parent, child) in steps(root, path) {
        let available = fs::read_to_string(parent.join("cgroup.controllers"))?;
        let enabled = fs::read_to_string(parent.join("cgroup.subtree_control"))?;
        let has = |list: &str, name: &str| list.split_whitespace().any(|each| each == name);
        for name in CONTROLLERS_NEEDED.into_iter().chain(CONTROLLERS_WANTED) {
            if has(&enabled, name) {
                continue;
            }
            let written =
                write_setting(&parent.join("cgroup.subtree_control"), &format!("+{name}"));
            if CONTROLLERS_NEEDED.contains(&name) && has(&available, name) {
                written?;
            }
        }
        create_directory(&child)?;
    }
    Ok(())
}

/// Each cgroup on the way down to `path`, with the one above it.
fn steps(root: &Path, path: &CgroupPath) -> Vec<(PathBuf, PathBuf)> {
    let names = path.0.trim_start_matches('/').split('/');
    let mut parent = root.to_owned();
    let mut steps = Vec::new();
    for name in names {
        let child = parent.join(name);
        steps.push((parent, child.clone()));
        parent = child;
    }
    steps
}

fn create_directory(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes a value; the error says which and where.
fn write_setting(file: &Path, value: &str) -> io::Result<()> {
    fs::write(file, value).map_err(|error| {
        io::Error::new(error.kind(), format!("writing `{value}` to {}: {error}", file.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_checked() {
        for (text, good) in [
            ("/kubepods/pod1", true),
            ("/a", true),
            ("a", false),
            ("/", false),
            ("", false),
            ("/a/../b", false),
            ("/a//b", false),
            ("/a/", false),
        ] {
            assert_eq!(text.parse::<CgroupPath>().is_ok(), good, "{text:?}");
        }
        let pod: CgroupPath = "/pods/a".parse().unwrap();
        assert_eq!(pod.child("c").unwrap().to_string(), "/pods/a/c");
        assert!(pod.child("../c").is_err());
    }

    #[test]
    fn steps_go_down_one_by_one() {
        let path = "/a/b".parse().unwrap();
        let pair = |parent: &str, child: &str| (PathBuf::from(parent), PathBuf::from(child));
        assert_eq!(
            steps(Path::new("/cg"), &path),
            [pair("/cg", "/cg/a"), pair("/cg/a", "/cg/a/b")]
        );
    }
}
