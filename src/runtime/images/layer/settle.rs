//! The little of a layer that depends on the layers below it.
//!
//! An overlay shows a directory as its topmost layer has it. A directory that an archive goes
//! through without describing therefore has to look as it does below (containerd does the same:
//! archive/tar.go `mkparent`, v2.1). A hard link cannot reach into another layer: its target is
//! copied up, as overlayfs would.

use super::super::room::Room;
use super::super::rootfs::Marks;
use super::tree::{Looks, PLAIN, Tree, is_whiteout};
use super::{ForeignLink, UnpackError, Unsettled};
use rustix::fs::{self as kernel, AtFlags, CWD};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Attributes are 64 KiB at most on Linux (`XATTR_SIZE_MAX`), and so are all their names together.
const XATTR_BYTES_MAX: usize = 65_536;

/// Read at once of a file that is copied.
const COPY_BYTES: usize = 128 * 1024;

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Completes the layer in `root` with what it takes from `below`, topmost layer first. Returns how
/// many bytes were copied.
pub(in super::super) fn settle(
    root: &Path,
    below: &[PathBuf],
    marks: Marks,
    unsettled: &Unsettled,
) -> Result<u64, UnpackError> {
    if unsettled.is_empty() {
        return Ok(0);
    }
    let mut tree = Tree::open(root, marks)
        .map_err(|source| UnpackError::Write { path: root.to_path_buf(), source })?;
    let mut copier = Copier { below, marks, room: Room::at(root), copies: BTreeMap::new() };
    let mut copied = 0;
    for link in &unsettled.links {
        copied += copier.copy_up(&mut tree, link)?;
    }
    for directory in &unsettled.directories {
        let failed = |error: io::Error| UnpackError::write(directory, error);
        let found = find(below, marks, directory).map_err(failed)?;
        let (looks, xattrs) = match found {
            Some((path, stat)) if is_directory(&stat) => {
                (looks(&stat), read_xattrs(&path).map_err(failed)?)
            }
            _ => (PLAIN, Vec::new()),
        };
        tree.directory(directory, looks, &xattrs)?;
    }
    tree.finish_described()?;
    Ok(copied)
}

/// Copies files of the layers below that links lead to: each once, as what links to it later links to
/// the copy.
struct Copier<'a> {
    below: &'a [PathBuf],
    marks: Marks,
    room: Room,
    /// Where the copy of a file is, by the file.
    copies: BTreeMap<&'a Path, &'a Path>,
}

impl<'a> Copier<'a> {
    /// Returns how many bytes were copied.
    fn copy_up(&mut self, tree: &mut Tree, link: &'a ForeignLink) -> Result<u64, UnpackError> {
        let failed = |error: io::Error| UnpackError::write(&link.path, error);
        let place = tree.place(&link.path)?;
        if tree.exists(&place).map_err(failed)? {
            // A later entry of the same name won.
            return Ok(0);
        }
        let target = self.copies.get(&*link.target).copied().unwrap_or(&link.target);
        let target = tree.place(target)?;
        if tree.hard_link(&place, &target).map_err(failed)? {
            return Ok(0);
        }
        let missing = || {
            UnpackError::Malformed(format!(
                "`{}` is a hard link to `{}`, which is in no layer",
                link.path.display(),
                link.target.display()
            ))
        };
        let found = find(self.below, self.marks, &link.target).map_err(failed)?;
        let (source, stat) = found.ok_or_else(missing)?;
        let kind = kernel::FileType::from_raw_mode(stat.st_mode);
        if kind.is_symlink() {
            let target = std::fs::read_link(&source).map_err(failed)?;
            tree.symlink(&place, target.as_os_str().as_bytes(), looks(&stat)).map_err(failed)?;
            return Ok(0);
        }
        if !kind.is_file() {
            return Err(missing());
        }
        let mut file = tree.file(&place).map_err(failed)?;
        let copied = self.copy(&source, &mut file).map_err(failed)?;
        let xattrs = read_xattrs(&source).map_err(failed)?;
        tree.finish_file(&file, looks(&stat), &xattrs).map_err(failed)?;
        self.copies.insert(&link.target, &link.path);
        Ok(copied)
    }

    fn copy(&mut self, source: &Path, target: &mut File) -> io::Result<u64> {
        let mut source = File::open(source)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut copied = 0;
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.room.take(read as u64)?;
            target.write_all(&buffer[..read])?;
            copied += read as u64;
        }
    }
}

/// What the layers below show at `path`, as an overlay of them would.
fn find(
    below: &[PathBuf],
    marks: Marks,
    path: &Path,
) -> io::Result<Option<(PathBuf, kernel::Stat)>> {
    for layer in below {
        match look(layer, marks, path)? {
            Look::Found(path, stat) => return Ok(Some((path, stat))),
            Look::Hidden => return Ok(None),
            Look::Below => {}
        }
    }
    Ok(None)
}

/// What one layer says about a path.
enum Look {
    Found(PathBuf, kernel::Stat),
    /// It is gone, whatever is further down.
    Hidden,
    /// This layer does not know.
    Below,
}

fn look(layer: &Path, marks: Marks, path: &Path) -> io::Result<Look> {
    let mut here = layer.to_path_buf();
    let mut stat = kernel::statat(CWD, &here, AtFlags::SYMLINK_NOFOLLOW)?;
    for component in path.components() {
        let is_opaque = is_opaque(&here, marks)?;
        here.push(component);
        stat = match kernel::statat(CWD, &here, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => return Ok(Look::Hidden),
            Ok(stat) => stat,
            Err(Errno::NOENT) if is_opaque => return Ok(Look::Hidden),
            Err(Errno::NOENT) => return Ok(Look::Below),
            Err(Errno::NOTDIR) => return Ok(Look::Hidden),
            Err(error) => return Err(error.into()),
        };
        let is_last =
            here.components().count() == layer.components().count() + path.components().count();
        if !is_last && !is_directory(&stat) {
            return Ok(Look::Hidden);
        }
    }
    Ok(Look::Found(here, stat))
}

/// Whether a directory shows nothing of what is below it.
fn is_opaque(directory: &Path, marks: Marks) -> io::Result<bool> {
    let mut value = [0; 1];
    match kernel::lgetxattr(directory, marks.opaque(), &mut value[..]) {
        Ok(length) => Ok(value[..length] == *b"y"),
        Err(Errno::NODATA | Errno::RANGE | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(stat: &kernel::Stat) -> bool {
    kernel::FileType::from_raw_mode(stat.st_mode).is_dir()
}

fn looks(stat: &kernel::Stat) -> Looks {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Looks {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: (stat.st_mtime, nanoseconds),
    }
}

fn read_xattrs(path: &Path) -> io::Result<Xattrs> {
    let mut names = vec![0; XATTR_BYTES_MAX];
    let length = match kernel::llistxattr(path, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        let length = kernel::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        xattrs.push((name.to_vec(), value));
    }
    Ok(xattrs)
}
