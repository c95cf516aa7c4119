//! How much of the disk a pod's volumes take: for limits and for the order of eviction.

use super::Volumes;
use rustix::fs::{Dir, FileType, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Blocks are counted in this size, whatever the file system's own is: stat(2).
const BLOCK_BYTES: u64 = 512;

/// What a volume holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    /// Files and directories, itself among them.
    pub inodes: u64,
}

impl Volumes {
    /// What each emptyDir of a pod holds, by its name, whether it is on disk or in memory. Waits for
    /// the disk.
    ///
    /// # Errors
    /// As the file system says.
    pub fn usage(&self, uid: &str) -> io::Result<BTreeMap<String, Usage>> {
        let mut all = BTreeMap::new();
        let directory = self.pod_dir(uid).join("volumes/kubernetes.io~empty-dir");
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(all),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // One that is being made.
            if !name.starts_with("..") {
                all.insert(name, measure(&entry.path())?);
            }
        }
        Ok(all)
    }
}

/// What a directory holds, without what is mounted in it. A file with several names counts once.
///
/// # Errors
/// As the file system says.
pub fn measure(path: &Path) -> io::Result<Usage> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty())?;
    let found = File::from(root.try_clone()?).metadata()?;
    let device = found.dev();
    let mut usage = Usage { bytes: found.blocks() * BLOCK_BYTES, inodes: 1 };
    let mut seen = BTreeSet::new();
    let mut waiting = vec![root];
    while let Some(directory) = waiting.pop() {
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let stat = rustix::fs::statat(
                &directory,
                name,
                rustix::fs::AtFlags::SYMLINK_NOFOLLOW | rustix::fs::AtFlags::NO_AUTOMOUNT,
            );
            let stat = match stat {
                // Removed meanwhile.
                Err(rustix::io::Errno::NOENT) => continue,
                stat => stat?,
            };
            if stat.st_dev != device || (stat.st_nlink > 1 && !seen.insert(stat.st_ino)) {
                continue;
            }
            usage.inodes += 1;
            usage.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * BLOCK_BYTES;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                    Ok(below) => waiting.push(below),
                    // Removed meanwhile, or something else by now.
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_written_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let volumes = Volumes {
            pods_dir: directory.path().to_owned(),
            memory_dir: directory.path().join("memory"),
        };
        let volume = directory.path().join("u1/volumes/kubernetes.io~empty-dir/data");
        fs::create_dir_all(volume.join("below")).unwrap();
        let empty = volumes.usage("u1").unwrap()["data"];
        fs::write(volume.join("below/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(volume.join("below/file"), volume.join("again")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("link")).unwrap();
        let full = volumes.usage("u1").unwrap()["data"];
        assert_eq!(full.inodes - empty.inodes, 2);
        let grown = full.bytes - empty.bytes;
        assert!(((1 << 20)..(1 << 20) + (1 << 16)).contains(&grown), "{grown}");
        assert!(volumes.usage("none").unwrap().is_empty());
    }
}
