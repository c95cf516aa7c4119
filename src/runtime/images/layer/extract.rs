//! Entry by entry from an archive into a tree.

use super::super::room::Room;
use super::super::tarball::{Entry, Kind, SparseMap, TarReader};
use super::tree::{Looks, Tree};
use super::{ForeignLink, Job, UnpackError, Unsettled};
use rustix::fs as kernel;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Marks a file that is gone (OCI image spec 1.1, "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// In a directory that shows nothing of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Leftovers of a file system of long ago (aufs); nothing to anybody else.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// Longer names cannot be opened on Linux (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;
const COPY_BYTES: usize = 128 * 1024;

#[derive(Debug)]
pub(super) struct Extracted {
    pub(super) size_bytes: u64,
    pub(super) unsettled: Unsettled,
    pub(super) describes_root: bool,
    pub(super) has_opaque_root: bool,
}

struct Extraction<'a, R> {
    archive: TarReader<R>,
    tree: Tree,
    job: &'a Job<'a>,
    buffer: Vec<u8>,
    room: Room,
    size_bytes: u64,
    links: Vec<ForeignLink>,
    /// Of the names in `links`.
    link_bytes: usize,
    has_opaque_root: bool,
}

/// Unpacks a plain archive into the job's directory.
pub(super) fn extract<R: Read>(source: R, job: &Job<'_>) -> Result<Extracted, UnpackError> {
    let tree = Tree::open(job.root, job.marks)
        .map_err(|source| UnpackError::Write { path: job.root.to_path_buf(), source })?;
    let mut extraction = Extraction {
        archive: TarReader::new(source),
        tree,
        job,
        buffer: vec![0; COPY_BYTES],
        room: Room::at(job.root),
        size_bytes: 0,
        links: Vec::new(),
        link_bytes: 0,
        has_opaque_root: false,
    };
    let mut entries = 0;
    while let Some(entry) = extraction.archive.next_entry()? {
        entries += 1;
        if entries > job.limits.entries {
            let max = job.limits.entries;
            return Err(UnpackError::Malformed(format!("it has more than {max} entries")));
        }
        extraction.make(&entry)?;
        extraction.check_memory()?;
    }
    let finished = extraction.tree.finish()?;
    Ok(Extracted {
        size_bytes: extraction.size_bytes,
        unsettled: Unsettled { directories: finished.implied, links: extraction.links },
        describes_root: finished.describes_root,
        has_opaque_root: extraction.has_opaque_root,
    })
}

impl<R: Read> Extraction<'_, R> {
    fn make(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let path = clean(&entry.path)?;
        self.room.take_entry().map_err(|error| UnpackError::write(&path, error))?;
        let Some(name) = path.file_name().map(OsStr::as_bytes) else {
            return match entry.kind {
                Kind::Directory => self.tree.directory(&path, looks(entry), &entry.xattrs),
                _ => Err(UnpackError::Malformed("an entry that would replace the root".to_owned())),
            };
        };
        if name.starts_with(WHITEOUT_PREFIX) {
            return self.whiteout(&path, name);
        }
        match &entry.kind {
            Kind::Directory => self.tree.directory(&path, looks(entry), &entry.xattrs),
            Kind::File => self.file(&path, entry, None),
            Kind::SparseFile(map) => self.file(&path, entry, Some(map)),
            Kind::HardLink(target) => self.hard_link(&path, target),
            Kind::Symlink(target) => self.symlink(&path, target, entry),
            Kind::CharacterDevice { major, minor } => {
                let device = kernel::makedev(*major, *minor);
                self.node(&path, kernel::FileType::CharacterDevice, device, entry)
            }
            Kind::BlockDevice { major, minor } => {
                let device = kernel::makedev(*major, *minor);
                self.node(&path, kernel::FileType::BlockDevice, device, entry)
            }
            Kind::Fifo => self.node(&path, kernel::FileType::Fifo, 0, entry),
        }
    }

    /// What a layer has remembered until its end is bounded, whatever it is made of.
    fn check_memory(&self) -> Result<(), UnpackError> {
        let max = self.job.limits.names_bytes;
        if self.link_bytes + self.tree.names_bytes() <= max {
            return Ok(());
        }
        let why = format!("the names of its directories and links have more than {max} bytes");
        Err(UnpackError::Malformed(why))
    }

    fn whiteout(&mut self, path: &Path, name: &[u8]) -> Result<(), UnpackError> {
        if name == OPAQUE {
            let place = self.tree.place(path)?;
            if place.path.components().count() == 1 {
                // Overlayfs heeds no mark on the root of a layer: those below are left out instead.
                self.has_opaque_root = true;
                return Ok(());
            }
            let result = self.tree.opaque_parent(&place);
            return result.map_err(|error| UnpackError::write(path, error));
        }
        if name.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT_PREFIX.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Malformed(format!("`{}` hides nothing", path.display())));
        }
        let place = self.tree.place(&path.with_file_name(OsStr::from_bytes(hidden)))?;
        let result = self.tree.whiteout(&place);
        result.map_err(|error| UnpackError::write(path, error))
    }

    fn file(
        &mut self,
        path: &Path,
        entry: &Entry,
        map: Option<&SparseMap>,
    ) -> Result<(), UnpackError> {
        self.size_bytes = self.size_bytes.saturating_add(entry.stored);
        if self.size_bytes > self.job.limits.bytes {
            let max = self.job.limits.bytes;
            return Err(UnpackError::Malformed(format!("it unpacks to more than {max} bytes")));
        }
        let failed = |error: io::Error| UnpackError::write(path, error);
        let place = self.tree.place(path)?;
        let mut file = self.tree.file(&place).map_err(failed)?;
        match map {
            None => self.copy(path, &mut file, entry.stored)?,
            Some(map) => {
                for segment in &map.segments {
                    file.seek(SeekFrom::Start(segment.offset)).map_err(failed)?;
                    self.copy(path, &mut file, segment.length)?;
                }
                file.set_len(map.size).map_err(failed)?;
            }
        }
        self.tree.finish_file(&file, looks(entry), &entry.xattrs).map_err(failed)
    }

    /// Copies bytes of the current entry. Tells a failing source from a failing disk.
    fn copy(&mut self, path: &Path, file: &mut File, bytes: u64) -> Result<(), UnpackError> {
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let read = match self.archive.read(&mut self.buffer[..wanted]) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.archive.read_failed(error).into()),
            };
            self.room
                .take(read as u64)
                .and_then(|()| file.write_all(&self.buffer[..read]))
                .map_err(|error| UnpackError::write(path, error))?;
            left -= read as u64;
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &Path, target: &[u8]) -> Result<(), UnpackError> {
        let target = clean(target)?;
        if target.as_os_str().is_empty() {
            let path = path.display();
            return Err(UnpackError::Malformed(format!("`{path}` is a hard link to the root")));
        }
        let failed = |error: io::Error| UnpackError::write(path, error);
        let target_place = self.tree.place(&target)?;
        let place = self.tree.place(path)?;
        if !self.tree.hard_link(&place, &target_place).map_err(failed)? {
            let link = ForeignLink { path: place.path, target: target_place.path };
            self.link_bytes += link.path.as_os_str().len() + link.target.as_os_str().len();
            self.links.push(link);
        }
        Ok(())
    }

    fn symlink(&mut self, path: &Path, target: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        if target.is_empty() || target.contains(&0) {
            let path = path.display();
            return Err(UnpackError::Malformed(format!("symbolic link `{path}` leads nowhere")));
        }
        let failed = |error: io::Error| UnpackError::write(path, error);
        let place = self.tree.place(path)?;
        self.tree.symlink(&place, target, looks(entry)).map_err(failed)?;
        self.tree.xattrs_by_name(&place, &entry.xattrs).map_err(failed)
    }

    fn node(
        &mut self,
        path: &Path,
        kind: kernel::FileType,
        device: kernel::Dev,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let failed = |error: io::Error| UnpackError::write(path, error);
        let place = self.tree.place(path)?;
        self.tree.node(&place, kind, device, looks(entry)).map_err(failed)?;
        self.tree.xattrs_by_name(&place, &entry.xattrs).map_err(failed)
    }
}

fn looks(entry: &Entry) -> Looks {
    Looks { mode: entry.mode, uid: entry.uid, gid: entry.gid, modified: entry.modified }
}

/// The path below the root that a name in an archive stands for.
///
/// # Errors
/// Where it leads out of the root.
fn clean(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if name.contains(&0) || name.len() > PATH_BYTES_MAX {
        return Err(UnpackError::Malformed("a name that no file can have".to_owned()));
    }
    let mut path = PathBuf::new();
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if !path.pop() => {
                return Err(UnpackError::Malformed(format!("`{}` leads out of it", shown())));
            }
            b".." => {}
            name => path.push(OsStr::from_bytes(name)),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("/a", Some("a")),
            ("./", Some("")),
            ("a/../b/./c//", Some("b/c")),
            ("..", None),
            ("a/../../b", None),
            ("/../b", None),
        ] {
            let found = clean(name.as_bytes()).ok();
            assert_eq!(found, expected.map(PathBuf::from), "{name}");
        }
        assert!(clean(b"a\0b").is_err());
        assert!(clean(&[b'a'; 5000]).is_err());
    }
}
