//! The volumes that an image declares: a directory of the container's own for each, which begins with
//! what the image has there, and goes with the container.
//!
//! Start at [`make()`]. Where the pod mounts something itself there is none (containerd,
//! internal/cri/server/container_create.go, v2.1). Architecture invariant: the container does not
//! run yet, so that nothing in its root file system changes while it is copied; links in there lead
//! nowhere else.

use super::super::{Mount, MountPropagation, RuntimeError};
use super::failed;
use rustix::fs::{self as kernel, AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::ffi::CStr;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink,
};
use std::path::{Component, Path, PathBuf};

/// An extended attribute is no longer: `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` of the kernel.
const ATTRIBUTE_BYTES_MAX: usize = 65_536;

/// What a container's volumes are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    /// Paths in the container.
    pub(super) declared: &'a [String],
    /// What the pod mounts.
    pub(super) mounts: &'a [Mount],
    pub(super) rootfs: &'a Path,
    /// Where the volumes will be.
    pub(super) directory: &'a Path,
}

/// Makes the volumes. Returns what is to be mounted.
pub(super) fn make(inputs: Inputs<'_>) -> Result<Vec<Mount>, RuntimeError> {
    let mut mounts = Vec::new();
    for (index, path) in wanted(inputs.declared, inputs.mounts).into_iter().enumerate() {
        let host_path = inputs.directory.join(index.to_string());
        make_one(inputs.rootfs, &path, &host_path)?;
        mounts.push(Mount {
            container_path: path.to_string_lossy().into_owned(),
            host_path,
            read_only: false,
            propagation: MountPropagation::Private,
        });
    }
    Ok(mounts)
}

/// The places that nothing else is mounted at.
fn wanted(declared: &[String], mounts: &[Mount]) -> Vec<PathBuf> {
    let taken: Vec<PathBuf> = mounts.iter().map(|mount| clean(&mount.container_path)).collect();
    let mut wanted: Vec<PathBuf> = declared.iter().map(|path| clean(path)).collect();
    wanted.sort();
    wanted.dedup();
    wanted.retain(|path| path != Path::new("/") && !taken.contains(path));
    wanted
}

/// Absolute, without steps back and superfluous slashes.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn make_one(rootfs: &Path, path: &Path, target: &Path) -> Result<(), RuntimeError> {
    const OPERATION: &str = "making a volume of the image";
    let content = content(rootfs, path).map_err(|error| failed(OPERATION, error))?;
    let made = match content {
        None => DirBuilder::new().recursive(true).mode(0o755).create(target),
        Some(content) => {
            // What was opened is in the root file system, whatever its path leads to from outside.
            let source = PathBuf::from(format!("/proc/self/fd/{}", content.as_raw_fd()));
            let found = fs::metadata(&source).map_err(|error| failed(OPERATION, error))?;
            if !found.is_dir() {
                let path = path.display();
                let text = format!("the image has a file at {path}, which it says is a volume");
                return Err(RuntimeError::Invalid(text));
            }
            let parent = target.parent().unwrap_or(target);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .and_then(|()| copy_directory(&source, &found, target))
        }
    };
    made.map_err(|error| failed(OPERATION, error))
}

/// What the image has at a path, as the container will find it.
fn content(rootfs: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    let root = File::open(rootfs)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match kernel::openat2(&root, path, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn copy_directory(source: &Path, found: &Metadata, target: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        copy(&entry.path(), &entry.metadata()?, &target.join(entry.file_name()))?;
    }
    copy_looks(source, found, target)
}

/// `found` is of `source` itself, also where that is a link.
fn copy(source: &Path, found: &Metadata, target: &Path) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_dir() {
        return copy_directory(source, found, target);
    }
    if kind.is_file() {
        fs::copy(source, target)?;
    } else if kind.is_symlink() {
        symlink(fs::read_link(source)?, target)?;
    } else {
        let kind = match kind {
            kind if kind.is_block_device() => kernel::FileType::BlockDevice,
            kind if kind.is_char_device() => kernel::FileType::CharacterDevice,
            kind if kind.is_fifo() => kernel::FileType::Fifo,
            _ => kernel::FileType::Socket,
        };
        kernel::mknodat(CWD, target, kind, Mode::RUSR | Mode::WUSR, found.rdev())?;
    }
    copy_looks(source, found, target)
}

/// Owner, attributes, mode and times, in an order in which none takes another away.
fn copy_looks(source: &Path, found: &Metadata, target: &Path) -> io::Result<()> {
    lchown(target, Some(found.uid()), Some(found.gid()))?;
    if !found.is_symlink() {
        copy_attributes(source, target)?;
        fs::set_permissions(target, Permissions::from_mode(found.mode() & 0o7777))?;
    }
    let at = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: at(found.atime(), found.atime_nsec()),
        last_modification: at(found.mtime(), found.mtime_nsec()),
    };
    Ok(kernel::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_attributes(source: &Path, target: &Path) -> io::Result<()> {
    let mut names = vec![0_u8; ATTRIBUTE_BYTES_MAX];
    let length = match kernel::listxattr(source, &mut names) {
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        listed => listed?,
    };
    if length == 0 {
        return Ok(());
    }
    let mut value = vec![0_u8; ATTRIBUTE_BYTES_MAX];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let length = kernel::getxattr(source, name, &mut value)?;
        match kernel::setxattr(target, name, &value[..length], kernel::XattrFlags::empty()) {
            // The data directory may be on a file system that has none of that kind.
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(container_path: &str) -> Mount {
        Mount {
            container_path: container_path.to_owned(),
            host_path: "/v".into(),
            read_only: false,
            propagation: MountPropagation::Private,
        }
    }

    #[test]
    fn places_that_the_pod_mounts_are_left_out() {
        let declared = ["/data/", "cache", "/logs/../logs", "/", "/data"].map(str::to_owned);
        let wanted = wanted(&declared, &[mount("/logs/"), mount("/data/sub")]);
        assert_eq!(wanted, ["/cache", "/data"].map(PathBuf::from));
    }

    #[test]
    fn volumes_begin_with_what_the_image_has() {
        let place = tempfile::tempdir().unwrap();
        let (rootfs, directory) = (place.path().join("rootfs"), place.path().join("volumes"));
        fs::create_dir_all(rootfs.join("real/deep")).unwrap();
        fs::write(place.path().join("secret"), "the node's own").unwrap();
        fs::write(rootfs.join("real/deep/file"), "text").unwrap();
        fs::set_permissions(rootfs.join("real/deep/file"), Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(rootfs.join("real"), Permissions::from_mode(0o1770)).unwrap();
        symlink("/nowhere", rootfs.join("real/link")).unwrap();
        // Within the root file system; from outside it would lead out of it.
        symlink("/real", rootfs.join("data")).unwrap();
        fs::write(rootfs.join("file"), "").unwrap();
        let declared = ["/data", "/none"].map(str::to_owned);
        let inputs =
            Inputs { declared: &declared, mounts: &[], rootfs: &rootfs, directory: &directory };
        let mounts = make(inputs).unwrap();
        let [data, none] = &mounts[..] else { panic!("{mounts:?}") };
        assert_eq!(
            (data.container_path.as_str(), none.container_path.as_str()),
            ("/data", "/none")
        );
        let mode = |path: &str| {
            let found = fs::symlink_metadata(data.host_path.join(path)).unwrap();
            (found.mode() & 0o7777, found.mtime())
        };
        let original = |path: &str| {
            let found = fs::symlink_metadata(rootfs.join("real").join(path)).unwrap();
            (found.mode() & 0o7777, found.mtime())
        };
        for path in ["", "deep", "deep/file", "link"] {
            assert_eq!(mode(path), original(path), "{path}");
        }
        assert_eq!(fs::read(data.host_path.join("deep/file")).unwrap(), b"text");
        assert_eq!(fs::read_link(data.host_path.join("link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::read_dir(&none.host_path).unwrap().count(), 0);
        let file = ["/file".to_owned()];
        assert!(make(Inputs { declared: &file, ..inputs }).is_err());
    }
}
