//! Facts of the machine: kernel, memory, processors, names.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What a node says about its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub hostname: String,
    /// `6.1.0-18-amd64`.
    pub kernel_release: String,
    /// `amd64`, `arm64`: Go's names, which image platforms and node labels use.
    pub architecture: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// Stays the same over boots; empty where the machine has none.
    pub machine_id: String,
    pub memory_bytes: u64,
    pub processors: u32,
}

impl HostFacts {
    /// Looks at the machine.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn observe() -> io::Result<Self> {
        let uname = rustix::system::uname();
        Ok(Self {
            hostname: uname.nodename().to_string_lossy().into_owned(),
            kernel_release: uname.release().to_string_lossy().into_owned(),
            architecture: go_architecture(&uname.machine().to_string_lossy()).to_owned(),
            os_image: os_image(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            boot_id: boot_id()?,
            machine_id: machine_id(),
            memory_bytes: memory_bytes(&fs::read_to_string("/proc/meminfo")?),
            processors: processors(&fs::read_to_string("/proc/cpuinfo")?),
        })
    }
}

/// The id of this boot.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Whether the kernel has SELinux switched on.
#[must_use]
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether memory can be written to a disk.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn has_swap() -> io::Result<bool> {
    match fs::read_to_string("/proc/swaps") {
        // A kernel without.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // The first line says what the others are.
        listed => Ok(listed?.lines().count() > 1),
    }
}

/// The lowest `oom_score_adj` that a child of this process may be given; `None` where any is allowed.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn oom_score_floor() -> io::Result<Option<i32>> {
    let capabilities = rustix::thread::capabilities(None)?;
    if capabilities.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        return Ok(None);
    }
    // The kernel's rule is the lowest score this process was ever given by somebody who may lower
    // it; its score now is never below that.
    let score = fs::read_to_string("/proc/self/oom_score_adj")?;
    Ok(score.trim().parse().ok())
}

/// What this process may do, as the kernel's bit mask.
///
/// # Errors
/// Where `/proc` cannot be read.
pub fn effective_capabilities() -> io::Result<u64> {
    Ok(rustix::thread::capabilities(None)?.effective.bits())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Block,
    Character,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// The device nodes below a directory, without those that belong to a container or a terminal.
///
/// # Errors
/// Where the directory cannot be read.
pub fn device_nodes(directory: &Path) -> io::Result<Vec<DeviceNode>> {
    const NOT_SHARED: [&str; 7] = ["console", "fd", "mqueue", "pts", "shm", ".lxc", ".udev"];
    let mut nodes = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if NOT_SHARED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            nodes.extend(device_nodes(&entry.path())?);
        } else if kind.is_block_device() || kind.is_char_device() {
            nodes.push(device_node(entry.path(), &entry.metadata()?));
        }
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(nodes)
}

/// The block device at a path; links on the way there are followed.
///
/// # Errors
/// Where there is none.
pub fn block_device(path: &Path) -> io::Result<DeviceNode> {
    let metadata = fs::metadata(path)?;
    if !metadata.file_type().is_block_device() {
        let text = format!("{} is not a block device", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(device_node(path.to_owned(), &metadata))
}

fn device_node(path: PathBuf, metadata: &fs::Metadata) -> DeviceNode {
    let is_block = metadata.file_type().is_block_device();
    DeviceNode {
        path,
        kind: if is_block { DeviceKind::Block } else { DeviceKind::Character },
        major: rustix::fs::major(metadata.rdev()),
        minor: rustix::fs::minor(metadata.rdev()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    }
}

fn machine_id() -> String {
    let found = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    found.unwrap_or_default().trim().to_owned()
}

fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        "i686" | "i386" => "386",
        other => other,
    }
}

fn os_image(os_release: &str) -> String {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| "Linux".to_owned())
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = kilobytes.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes.unwrap_or(0_u64) * 1_024
}

fn processors(cpuinfo: &str) -> u32 {
    let counted = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u32::try_from(counted).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_understood() {
        assert_eq!(os_image("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(os_image("NAME=Void\n"), "Void");
        assert_eq!(os_image(""), "Linux");
        assert_eq!(memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16_777_216);
        assert_eq!(processors("processor\t: 0\nmodel\t: x\nprocessor\t: 1\n"), 2);
        assert_eq!(go_architecture("x86_64"), "amd64");
    }

    #[test]
    fn this_machine_can_be_observed() {
        let facts = HostFacts::observe().unwrap();
        assert!(facts.memory_bytes > 0 && facts.boot_id.len() == 36, "{facts:?}");
    }
}
