//! A part of a volume, seen by a container without the rest.
//!
//! The container, or another one of the pod, may write to the volume and replace parts of it by
//! links while this looks. So the path is opened by the kernel within the volume (openat2(2) with
//! `RESOLVE_BENEATH`), and what was opened, whatever its path leads to later, is mounted at a place
//! that no container can reach (upstream pkg/volume/util/subpath/subpath_linux.go, v1.35).

use crate::sys::mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

/// Mounts `sub_path` of the volume at `target`, and makes it as a directory first where it is not
/// there. Does nothing where that is mounted already; what is no longer at the path is replaced
/// (upstream `checkSubPathFileEqual`).
///
/// # Errors
/// Where the path leads out of the volume, and as the kernel says.
pub(super) fn bind(volume: &Path, sub_path: &Path, target: &Path) -> io::Result<()> {
    let opened = match open_within(volume, sub_path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_within(volume, sub_path)?;
            open_within(volume, sub_path)?
        }
        opened => opened?,
    };
    let found = File::from(opened.try_clone()?).metadata()?;
    if mount::is_mounted(target)? {
        let known = fs::metadata(target)?;
        if (known.dev(), known.ino()) == (found.dev(), found.ino()) {
            return Ok(());
        }
        mount::unmount_all(target)?;
    }
    prepare_target(target, found.is_dir())?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    mount::bind(&source, target)
}

/// Mounts a tree at `target`, read-only with all that is mounted in it. Does nothing where something
/// is mounted already.
///
/// # Errors
/// `Unsupported` where the kernel is too old, and as it says.
pub(super) fn bind_read_only_tree(source: &Path, target: &Path) -> io::Result<()> {
    if mount::is_mounted(target)? {
        return Ok(());
    }
    prepare_target(target, fs::metadata(source)?.is_dir())?;
    mount::bind_read_only_tree(source, target)
}

fn prepare_target(target: &Path, is_directory: bool) -> io::Result<()> {
    let parent = target.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    // What was mounted there before may have been of the other kind.
    if fs::symlink_metadata(target).is_ok_and(|known| known.is_dir() != is_directory) {
        if is_directory { fs::remove_file(target)? } else { fs::remove_dir(target)? }
    }
    if is_directory {
        return DirBuilder::new().recursive(true).mode(0o750).create(target);
    }
    File::options().append(true).create(true).open(target).map(drop)
}

fn open_within(volume: &Path, sub_path: &Path) -> io::Result<OwnedFd> {
    let root = File::open(volume)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let path = if sub_path.as_os_str().is_empty() { Path::new(".") } else { sub_path };
    Ok(rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), stay)?)
}

/// Makes what is missing of the path, each directory with the volume's own mode.
fn make_within(volume: &Path, sub_path: &Path) -> io::Result<()> {
    // With the bit by which new files belong to the group of their directory.
    let mode = fs::metadata(volume)?.permissions().mode() & 0o2777;
    let mut done = PathBuf::new();
    for part in sub_path.components() {
        let Component::Normal(name) = part else { continue };
        let parent = open_within(volume, &done)?;
        match rustix::fs::mkdirat(parent.as_fd(), name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                done.push(name);
                let made = open_directory(volume, &done)?;
                // What mkdirat made was cut by the umask.
                rustix::fs::fchmod(made.as_fd(), Mode::from_raw_mode(mode))?;
            }
            Err(rustix::io::Errno::EXIST) => done.push(name),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn open_directory(volume: &Path, path: &Path) -> io::Result<OwnedFd> {
    let root = File::open(volume)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), stay)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out_of_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        fs::create_dir_all(volume.join("inside")).unwrap();
        fs::write(directory.path().join("outside"), "").unwrap();
        symlink("inside", volume.join("link")).unwrap();
        symlink("../outside", volume.join("out")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        for (path, expected) in
            [("inside", true), ("link", true), ("out", false), ("absolute", false), ("..", false)]
        {
            assert_eq!(open_within(&volume, Path::new(path)).is_ok(), expected, "{path}");
        }
    }

    #[test]
    fn missing_directories_are_made_inside_and_as_the_volume_is() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        symlink("/tmp", volume.join("absolute")).unwrap();
        make_within(&volume, Path::new("a/b")).unwrap();
        let mode = fs::metadata(volume.join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o2777, 0o777);
        assert!(make_within(&volume, Path::new("absolute/x")).is_err());
    }
}
