//! Whose a volume is where the pod names an `fsGroup`: the group's as well as root's, with new files
//! in it the group's, too.
//!
//! Upstream `changeFilePermission` (pkg/volume/volume_linux.go, v1.35).

use super::plan::GroupPolicy;
use rustix::fs::{AtFlags, Dir, Gid, Mode, OFlags};
use std::ffi::{CStr, CString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

/// What the group may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    Writable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// What is in a directory belongs to the directory's group.
const SET_GROUP: u32 = 0o2000;

/// The mode of what has `mode` without a group.
pub(super) fn mode(mode: u32, group: Option<u32>, kind: Kind, access: Access) -> u32 {
    if group.is_none() {
        return mode;
    }
    let content = match access {
        Access::ReadOnly => 0o440,
        Access::Writable => 0o660,
    };
    let entry = match kind {
        Kind::File => 0,
        Kind::Directory => SET_GROUP | 0o110,
    };
    mode | content | entry
}

/// Gives one file, directory or link to the group, where there is one.
///
/// # Errors
/// As the file system says.
pub(super) fn give(path: &Path, group: Option<u32>, access: Access) -> io::Result<()> {
    if group.is_none() {
        return Ok(());
    }
    let found = fs::symlink_metadata(path)?;
    lchown(path, None, group)?;
    // A link has no mode of its own.
    if found.is_symlink() {
        return Ok(());
    }
    let kind = if found.is_dir() { Kind::Directory } else { Kind::File };
    let wanted = mode(found.permissions().mode() & 0o7777, group, kind, access);
    fs::set_permissions(path, Permissions::from_mode(wanted))
}

/// Gives a volume that outlives its pods to the group, with all that is in it (upstream
/// `SetVolumeOwnership`). Other pods may write there meanwhile: each file is opened without following
/// links, and what was opened is changed.
///
/// # Errors
/// As the file system says.
pub(super) fn give_all(root: &Path, group: u32, policy: GroupPolicy) -> io::Result<()> {
    let found = fs::metadata(root)?;
    let known = found.permissions().mode() & 0o7777;
    let is_given = found.gid() == group
        && mode(known, Some(group), Kind::Directory, Access::Writable) == known;
    if is_given && policy == GroupPolicy::OnRootMismatch {
        return Ok(());
    }
    let path = CString::new(root.as_os_str().as_bytes())?;
    let root = rustix::fs::open(&*path, DIRECTORY, Mode::empty())?;
    // Directories that are still to be looked through, instead of a stack of calls: how deep they
    // are is for the pods to say.
    let mut waiting = vec![root];
    while let Some(directory) = waiting.pop() {
        for entry in Dir::read_from(&directory)? {
            let name = entry?.file_name().to_owned();
            if [c".", c".."].contains(&&*name) {
                continue;
            }
            waiting.extend(give_entry(&directory, &name, group)?);
        }
        // After what is in it, so that an interrupted walk is not taken for a whole one.
        give_opened(&directory, group)?;
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Gives a file or link to the group; returns a directory.
fn give_entry(parent: &OwnedFd, name: &CStr, group: u32) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // Somebody has removed it meanwhile.
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    if File::from(opened.try_clone()?).metadata()?.is_dir() {
        return Ok(Some(rustix::fs::openat(&opened, c".", DIRECTORY, Mode::empty())?));
    }
    give_opened(&opened, group)?;
    Ok(None)
}

fn give_opened(opened: &OwnedFd, group: u32) -> io::Result<()> {
    let found = File::from(opened.try_clone()?).metadata()?;
    let to = Some(Gid::from_raw(group));
    rustix::fs::chownat(opened.as_fd(), c"", None, to, AtFlags::EMPTY_PATH)?;
    if found.is_symlink() {
        return Ok(());
    }
    let kind = if found.is_dir() { Kind::Directory } else { Kind::File };
    let known = found.permissions().mode() & 0o7777;
    let wanted = mode(known, Some(group), kind, Access::Writable);
    if wanted == known {
        return Ok(());
    }
    // Of something that was only located, the mode is changed by way of its link in /proc.
    let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    fs::set_permissions(path, Permissions::from_mode(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_may_read_and_where_there_is_something_to_write_write() {
        for (given, group, kind, access, expected) in [
            (0o777, None, Kind::Directory, Access::Writable, 0o777),
            (0o400, None, Kind::File, Access::ReadOnly, 0o400),
            (0o777, Some(1), Kind::Directory, Access::Writable, 0o2777),
            (0o700, Some(1), Kind::Directory, Access::Writable, 0o2770),
            (0o600, Some(1), Kind::File, Access::Writable, 0o660),
            (0o755, Some(1), Kind::Directory, Access::ReadOnly, 0o2755),
            (0o400, Some(1), Kind::File, Access::ReadOnly, 0o440),
        ] {
            assert_eq!(mode(given, group, kind, access), expected, "{given:o} {kind:?} {access:?}");
        }
    }

    #[test]
    fn all_of_a_volume_is_given_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (root, outside) = (directory.path().join("v"), directory.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "").unwrap();
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        set(&root.join("a/b/c"), 0o600).unwrap();
        set(&outside, 0o600).unwrap();
        set(&root, 0o700).unwrap();
        let group = rustix::process::getgid().as_raw();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        give_all(&root, group, GroupPolicy::OnRootMismatch).unwrap();
        assert_eq!(mode(&root), 0o2770);
        assert_eq!(mode(&root.join("a/b/c")), 0o660);
        assert_eq!(mode(&root.join("a/b")) & 0o2070, 0o2070);
        assert_eq!(mode(&outside), 0o600);
        set(&root.join("a/b/c"), 0o600).unwrap();
        give_all(&root, group, GroupPolicy::OnRootMismatch).unwrap();
        assert_eq!(mode(&root.join("a/b/c")), 0o600, "the root says that it is done");
        give_all(&root, group, GroupPolicy::Always).unwrap();
        assert_eq!(mode(&root.join("a/b/c")), 0o660);
    }
}
