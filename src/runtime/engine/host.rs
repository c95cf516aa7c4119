//! What specifications need to know of the machine, and what of a root file system.

use super::super::config::DeviceMapping;
use super::super::spec::{HostTraits, UserFiles, capabilities_held};
use crate::sys::cgroup::Cgroups;
use crate::sys::host::{self, DeviceKind, DeviceNode, HostFacts};
use crate::sys::open_files;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A user database larger than this is refused: no image needs one.
const USER_FILE_BYTES_MAX: u64 = 4 << 20;

/// The machine without its devices.
pub(super) fn observe(cgroups: &Cgroups) -> io::Result<HostTraits> {
    let facts = HostFacts::observe()?;
    let oom_score_floor = host::oom_score_floor()?;
    if let Some(floor) = oom_score_floor {
        tracing::info!(floor, "containers cannot be given a lower oom_score_adj on this machine");
    }
    let throttle = |number| format!("/sys/devices/system/cpu/cpu{number}/thermal_throttle");
    Ok(HostTraits {
        hostname: facts.hostname,
        cgroups_unified: cgroups.is_unified(),
        swap_limits: cgroups.limits_swap(),
        oom_score_floor,
        open_files: Some(open_files::inherited()),
        masked_paths: (0..facts.processors)
            .map(throttle)
            .filter(|path| Path::new(path).exists())
            .collect(),
        capabilities: capabilities_held(host::effective_capabilities()?),
        devices: Vec::new(),
        volume_devices: Vec::new(),
    })
}

/// The device nodes of the machine, for privileged containers.
pub(super) fn devices() -> io::Result<Vec<LinuxDevice>> {
    let nodes = host::device_nodes(Path::new("/dev"))?;
    Ok(nodes.into_iter().map(device).collect())
}

/// The devices that are volumes of a container, and which of them can only be read.
pub(super) fn volume_devices(wanted: &[DeviceMapping]) -> io::Result<Vec<(LinuxDevice, bool)>> {
    let found = wanted.iter().map(|wanted| {
        let node = host::block_device(&wanted.host_path)?;
        let mut device = device(node);
        device.set_path(PathBuf::from(&wanted.container_path));
        Ok((device, wanted.read_only))
    });
    found.collect()
}

fn device(node: DeviceNode) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device.set_path(node.path);
    device.set_typ(match node.kind {
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Character => LinuxDeviceType::C,
    });
    device.set_major(i64::from(node.major));
    device.set_minor(i64::from(node.minor));
    device.set_file_mode(Some(node.mode));
    device.set_uid(Some(node.uid));
    device.set_gid(Some(node.gid));
    device
}

/// Reads the users and groups of a root file system; what is not there is empty.
pub(super) fn user_files(rootfs: &Path) -> io::Result<UserFiles> {
    Ok(UserFiles {
        passwd: read_inside(rootfs, "etc/passwd")?,
        group: read_inside(rootfs, "etc/group")?,
    })
}

/// Reads a file as a process inside `rootfs` would find it: links lead nowhere else.
fn read_inside(rootfs: &Path, path: &str) -> io::Result<String> {
    let root = File::open(rootfs)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(errno.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > USER_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("/{path} of the image is not a file of users")));
    }
    let mut bytes = Vec::new();
    file.take(USER_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_found_as_from_inside() {
        let outside = tempfile::tempdir().unwrap();
        let rootfs = outside.path().join("rootfs");
        fs::create_dir_all(rootfs.join("etc")).unwrap();
        fs::create_dir_all(rootfs.join("usr")).unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        fs::write(rootfs.join("usr/passwd"), "root:x:0:0").unwrap();
        symlink("/usr/passwd", rootfs.join("etc/passwd")).unwrap();
        symlink("../../secret", rootfs.join("etc/group")).unwrap();
        let files = user_files(&rootfs).unwrap();
        assert_eq!(files, UserFiles { passwd: "root:x:0:0".to_owned(), group: String::new() });
        fs::remove_file(rootfs.join("etc/group")).unwrap();
        fs::create_dir(rootfs.join("etc/group")).unwrap();
        assert!(user_files(&rootfs).is_err(), "a directory is not a file of users");
    }
}
