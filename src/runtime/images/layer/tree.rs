//! Makes files below one directory and nowhere else, whatever the names say.
//!
//! Architecture invariant: every system call names a file by a descriptor of its directory and its
//! last component. Directories are reached from the root component by component, symbolic links
//! among them followed by hand and within the root, so that no name, link or order of entries
//! leads out of it.

use super::super::rootfs::Marks;
use super::UnpackError;
use rustix::fs::{self as kernel, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// As the kernel's own limit (`MAXSYMLINKS`).
const SYMLINKS_MAX: u32 = 40;

/// Owner, mode and time of something in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
}

/// A directory that nothing describes.
pub(super) const PLAIN: Looks = Looks { mode: 0o755, uid: 0, gid: 0, modified: (0, 0) };

/// What a finished tree leaves open.
#[derive(Debug)]
pub(super) struct Finished {
    /// Directories that were made only because something is in them.
    pub(super) implied: Vec<PathBuf>,
    pub(super) describes_root: bool,
}

/// Where something is to be made.
#[derive(Clone, Debug)]
pub(super) struct Place {
    parent: Arc<OwnedFd>,
    name: OsString,
    /// Its path within the root, free of symbolic links.
    pub(super) path: PathBuf,
}

/// The directory that a layer is unpacked into.
#[derive(Debug)]
pub(super) struct Tree {
    root: Arc<OwnedFd>,
    marks: Marks,
    /// Only root can give files away; anybody else keeps them.
    is_root: bool,
    /// The directory used last: archives list what belongs together together.
    latest: Option<Parent>,
    /// Directories get their mode and time when everything is in them.
    directories: BTreeMap<PathBuf, Looks>,
    /// Directories that were made only because something is in them.
    implied: BTreeSet<PathBuf>,
    /// Of all names that were ever entered into the two above.
    names_bytes: usize,
}

#[derive(Clone, Debug)]
struct Parent {
    asked_for: PathBuf,
    path: PathBuf,
    descriptor: Arc<OwnedFd>,
}

impl Tree {
    pub(super) fn open(root: &Path, marks: Marks) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            root: Arc::new(kernel::open(root, flags, Mode::empty())?),
            marks,
            is_root: rustix::process::geteuid().is_root(),
            latest: None,
            directories: BTreeMap::new(),
            implied: BTreeSet::new(),
            names_bytes: 0,
        })
    }

    /// How much is remembered of directories until the end.
    pub(super) fn names_bytes(&self) -> usize {
        self.names_bytes
    }

    /// Where `path` (relative, without `..`) is, its directories made where they are missing.
    pub(super) fn place(&mut self, path: &Path) -> Result<Place, UnpackError> {
        let Some(name) = path.file_name() else {
            return Err(UnpackError::Malformed("an entry that would replace the root".to_owned()));
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let found = match &self.latest {
            Some(latest) if latest.asked_for == parent => latest.clone(),
            _ => self.reach(parent).map_err(|error| UnpackError::write(path, error))?,
        };
        let place = Place {
            parent: Arc::clone(&found.descriptor),
            name: name.to_owned(),
            path: found.path.join(name),
        };
        self.latest = Some(found);
        Ok(place)
    }

    fn reach(&mut self, asked_for: &Path) -> io::Result<Parent> {
        let parent = |path: PathBuf, descriptor| Parent {
            asked_for: asked_for.to_path_buf(),
            path,
            descriptor,
        };
        if asked_for.as_os_str().is_empty() {
            return Ok(parent(PathBuf::new(), Arc::clone(&self.root)));
        }
        // Nearly always the directory is there and no link is on the way: one call.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        if let Ok(found) = kernel::openat2(&self.root, asked_for, flags, Mode::empty(), resolve) {
            return Ok(parent(asked_for.to_path_buf(), Arc::new(found)));
        }
        let (path, descriptor) = self.walk(asked_for)?;
        Ok(parent(path, descriptor))
    }

    /// Goes down component by component, making what is missing.
    fn walk(&mut self, asked_for: &Path) -> io::Result<(PathBuf, Arc<OwnedFd>)> {
        let mut pending: VecDeque<OsString> = normal_components(asked_for);
        let mut reached = vec![(PathBuf::new(), Arc::clone(&self.root))];
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            let (path, directory) = reached.last().expect("the root is never taken off").clone();
            if name == ".." {
                if reached.len() > 1 {
                    reached.pop();
                }
                continue;
            }
            match open_directory(&directory, &name) {
                Ok(found) => reached.push((path.join(&name), Arc::new(found))),
                Err(Errno::NOENT) => {
                    let made = self.imply(&directory, &path, &name)?;
                    reached.push((path.join(&name), Arc::new(made)));
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let stat = kernel::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                    if is_whiteout(&stat) {
                        kernel::unlinkat(&directory, &name, AtFlags::empty())?;
                        let made = self.imply(&directory, &path, &name)?;
                        set_mark(&made, self.marks.opaque())?;
                        reached.push((path.join(&name), Arc::new(made)));
                        continue;
                    }
                    if !kernel::FileType::from_raw_mode(stat.st_mode).is_symlink() {
                        return Err(Errno::NOTDIR.into());
                    }
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    let target = kernel::readlinkat(&directory, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        reached.truncate(1);
                    }
                    for component in normal_components(&target).into_iter().rev() {
                        pending.push_front(component);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(reached.pop().expect("the root is never taken off"))
    }

    fn imply(&mut self, directory: &OwnedFd, path: &Path, name: &OsStr) -> io::Result<OwnedFd> {
        kernel::mkdirat(directory, name, Mode::RWXU)?;
        self.names_bytes += path.as_os_str().len() + name.len();
        self.implied.insert(path.join(name));
        Ok(open_directory(directory, name)?)
    }

    /// Makes a directory, or takes the one that is there.
    pub(super) fn directory(
        &mut self,
        path: &Path,
        looks: Looks,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), UnpackError> {
        let failed = |error: io::Error| UnpackError::write(path, error);
        let (path_in_root, directory) = if path.file_name().is_none() {
            (PathBuf::new(), Arc::clone(&self.root))
        } else {
            let place = self.place(path)?;
            let directory = self.make_or_take(&place).map_err(failed)?;
            (place.path, Arc::new(directory))
        };
        self.give(&directory, looks).map_err(|error| failed(error.into()))?;
        for (name, value) in xattrs {
            let set =
                || kernel::fsetxattr(&directory, os(name), value, kernel::XattrFlags::empty());
            self.set_xattr(name, set).map_err(failed)?;
        }
        self.implied.remove(&path_in_root);
        let length = path_in_root.as_os_str().len();
        if self.directories.insert(path_in_root, looks).is_none() {
            self.names_bytes += length;
        }
        Ok(())
    }

    fn make_or_take(&mut self, place: &Place) -> io::Result<OwnedFd> {
        match open_directory(&place.parent, &place.name) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
        let hides_below = self.is_whiteout(place)?;
        self.clear(place)?;
        kernel::mkdirat(&place.parent, &place.name, Mode::RWXU)?;
        let directory = open_directory(&place.parent, &place.name)?;
        if hides_below {
            set_mark(&directory, self.marks.opaque())?;
        }
        Ok(directory)
    }

    /// Opens a new file, empty, in place of what is there.
    pub(super) fn file(&mut self, place: &Place) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let create = || kernel::openat(&place.parent, &place.name, flags, Mode::RUSR | Mode::WUSR);
        let file = match create() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                create()?
            }
            other => other?,
        };
        Ok(File::from(file))
    }

    /// Gives a written file its looks. Owner first: the kernel takes setuid bits and capabilities
    /// away when the owner changes.
    pub(super) fn finish_file(
        &self,
        file: &File,
        looks: Looks,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        self.give(file, looks)?;
        kernel::fchmod(file, Mode::from_raw_mode(looks.mode))?;
        for (name, value) in xattrs {
            self.set_xattr(name, || {
                kernel::fsetxattr(file, os(name), value, kernel::XattrFlags::empty())
            })?;
        }
        kernel::futimens(file, &times(looks))?;
        Ok(())
    }

    pub(super) fn symlink(&mut self, place: &Place, target: &[u8], looks: Looks) -> io::Result<()> {
        self.clear(place)?;
        kernel::symlinkat(os(target), &place.parent, &place.name)?;
        self.finish_name(place, looks)
    }

    /// Makes a device, or with [`kernel::FileType::Fifo`] a pipe.
    pub(super) fn node(
        &mut self,
        place: &Place,
        kind: kernel::FileType,
        device: kernel::Dev,
        looks: Looks,
    ) -> io::Result<()> {
        self.clear(place)?;
        let mode = Mode::from_raw_mode(looks.mode);
        kernel::mknodat(&place.parent, &place.name, kind, mode, device)?;
        self.finish_name(place, looks)?;
        // It was made just now and is no link; mknod's own mode passed the umask.
        kernel::chmodat(&place.parent, &place.name, mode, AtFlags::empty())?;
        Ok(())
    }

    fn finish_name(&self, place: &Place, looks: Looks) -> io::Result<()> {
        let (parent, name) = (&place.parent, &place.name);
        if self.is_root {
            let (uid, gid) = ids(looks);
            kernel::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        kernel::utimensat(parent, name, &times(looks), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Extended attributes of what has no descriptor of its own: links, devices, pipes.
    pub(super) fn xattrs_by_name(
        &self,
        place: &Place,
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> io::Result<()> {
        let path = Path::new("/proc/self/fd").join(place.parent.as_raw_fd().to_string());
        let path = path.join(&place.name);
        xattrs.iter().try_for_each(|(name, value)| {
            self.set_xattr(name, || {
                kernel::lsetxattr(&path, os(name), value, kernel::XattrFlags::empty())
            })
        })
    }

    /// Makes `place` another name of `target`. `false` where `target` is not in this tree.
    pub(super) fn hard_link(&mut self, place: &Place, target: &Place) -> io::Result<bool> {
        if place.path == target.path {
            return Ok(true);
        }
        let stat = match kernel::statat(&target.parent, &target.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            other => other?,
        };
        if is_whiteout(&stat) {
            return Ok(false);
        }
        self.clear(place)?;
        let flags = AtFlags::empty();
        kernel::linkat(&target.parent, &target.name, &place.parent, &place.name, flags)?;
        Ok(true)
    }

    /// Hides what the layers below have at `place`. What this layer itself has there stays: a
    /// whiteout is about the layers below only (OCI image spec 1.1, "Whiteouts").
    pub(super) fn whiteout(&mut self, place: &Place) -> io::Result<()> {
        let kind = kernel::FileType::CharacterDevice;
        match kernel::mknodat(&place.parent, &place.name, kind, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => match open_directory(&place.parent, &place.name) {
                Ok(directory) => Ok(set_mark(&directory, self.marks.opaque())?),
                Err(Errno::LOOP | Errno::NOTDIR) => Ok(()),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Hides everything that the layers below have in the directory of `place`.
    pub(super) fn opaque_parent(&self, place: &Place) -> io::Result<()> {
        Ok(set_mark(&place.parent, self.marks.opaque())?)
    }

    /// What this tree has at `place`.
    pub(super) fn exists(&self, place: &Place) -> io::Result<bool> {
        match kernel::statat(&place.parent, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn is_whiteout(&self, place: &Place) -> io::Result<bool> {
        match kernel::statat(&place.parent, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(is_whiteout(&stat)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is at `place`: in a layer's archive the later entry wins.
    fn clear(&mut self, place: &Place) -> io::Result<()> {
        match kernel::unlinkat(&place.parent, &place.name, AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {
                let path = Path::new("/proc/self/fd").join(place.parent.as_raw_fd().to_string());
                std::fs::remove_dir_all(path.join(&place.name))?;
                let gone = |path: &Path| path.starts_with(&place.path);
                self.directories.retain(|path, _| !gone(path));
                self.implied.retain(|path| !gone(path));
            }
            other => other?,
        }
        // What the latest directory was reached through may be what was removed.
        self.latest = None;
        Ok(())
    }

    /// Gives all directories their mode and time, and says which were not described.
    pub(super) fn finish(mut self) -> Result<Finished, UnpackError> {
        let describes_root = self.directories.contains_key(Path::new(""));
        self.directories.entry(PathBuf::new()).or_insert(PLAIN);
        self.finish_described()?;
        Ok(Finished { implied: self.implied.into_iter().collect(), describes_root })
    }

    /// Gives the directories that were described their mode and time.
    pub(super) fn finish_described(&self) -> Result<(), UnpackError> {
        // Backwards, so that a directory without permissions comes after those below it.
        for (path, looks) in self.directories.iter().rev() {
            self.finish_directory(path, *looks)
                .map_err(|error| UnpackError::write(path, error.into()))?;
        }
        Ok(())
    }

    fn finish_directory(&self, path: &Path, looks: Looks) -> rustix::io::Result<()> {
        let mut directory = Arc::clone(&self.root);
        for component in normal_components(path) {
            directory = Arc::new(open_directory(&directory, &component)?);
        }
        kernel::fchmod(&directory, Mode::from_raw_mode(looks.mode))?;
        kernel::futimens(&directory, &times(looks))
    }

    fn give(&self, file: impl std::os::fd::AsFd, looks: Looks) -> rustix::io::Result<()> {
        if !self.is_root {
            return Ok(());
        }
        let (uid, gid) = ids(looks);
        kernel::fchown(file, uid, gid)
    }

    /// Sets an attribute, unless it would be one of overlayfs's own, by which an image could make
    /// it look elsewhere. A file system without attributes is no reason to fail: containerd
    /// (archive/tar_unix.go, v2.1) goes on as well.
    fn set_xattr(
        &self,
        name: &[u8],
        set: impl FnOnce() -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            return Ok(());
        }
        match set() {
            Err(Errno::OPNOTSUPP) => Ok(()),
            Err(Errno::PERM) if !self.is_root => Ok(()),
            other => Ok(other?),
        }
    }
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    kernel::openat(parent, name, flags, Mode::empty())
}

fn set_mark(directory: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    kernel::fsetxattr(directory, name, b"y", kernel::XattrFlags::empty())
}

/// Overlayfs's own mark of something that is gone.
pub(super) fn is_whiteout(stat: &kernel::Stat) -> bool {
    kernel::FileType::from_raw_mode(stat.st_mode) == kernel::FileType::CharacterDevice
        && stat.st_rdev == 0
}

/// The components of a path that lead somewhere, `..` among them.
fn normal_components(path: &Path) -> VecDeque<OsString> {
    let components = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    components.collect()
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn ids(looks: Looks) -> (Option<kernel::Uid>, Option<kernel::Gid>) {
    (Some(kernel::Uid::from_raw(looks.uid)), Some(kernel::Gid::from_raw(looks.gid)))
}

fn times(looks: Looks) -> kernel::Timestamps {
    let time = kernel::Timespec { tv_sec: looks.modified.0, tv_nsec: looks.modified.1.into() };
    kernel::Timestamps { last_access: time, last_modification: time }
}
