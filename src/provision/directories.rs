//! The directories of volumes on this node: made and removed below one root, and nowhere else.
//!
//! Pods write there, and whoever may make pods may try to have links where this looks. So every name
//! is resolved by the kernel below the root (openat2(2)), without links.

use crate::stdx::fault;
use crate::sys::mount;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Whoever a container runs as can use its volume, as users of k3s expect.
const DIRECTORY_MODE: u32 = 0o777;

/// Nobody but root sees which volumes there are; pods do not come this way.
const ROOT_MODE: u32 = 0o700;

/// Volumes that are made for claims have names of this kind, and so have their directories.
const PREFIX: &str = "pvc-";

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Directories {
    root: PathBuf,
}

impl Directories {
    /// # Errors
    /// Where the root is not there and cannot be made.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(ROOT_MODE).create(&root)?;
        Ok(Self { root })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a directory, or leaves the one there is.
    ///
    /// # Errors
    /// As the file system says, and where something else is there.
    pub(super) fn make(&self, name: &str) -> io::Result<()> {
        let root = File::open(&self.root)?;
        match rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => {}
            // It has the mode that its pods have given it.
            Err(rustix::io::Errno::EXIST) => return self.find(name).map(drop),
            Err(errno) => return Err(errno.into()),
        }
        // What mkdirat made was cut by the umask.
        let made = File::from(self.find(name)?);
        made.set_permissions(Permissions::from_mode(DIRECTORY_MODE))?;
        // The volume's object will be durable, and so has this to be.
        fault::point("claim: directory made");
        made.sync_all()?;
        root.sync_all()?;
        fault::point("claim: directory durable");
        Ok(())
    }

    /// Removes a directory with all that is in it. Succeeds where there is none.
    ///
    /// # Errors
    /// As the file system says, and where something is mounted in it: that would be emptied, too.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match self.find(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => drop(found?),
        }
        let path = fs::canonicalize(&self.root)?.join(name);
        let mounted = mount::mounted()?.into_iter().find(|it| it.target.starts_with(&path));
        if let Some(mounted) = mounted {
            let text = format!("something is mounted at {}", mounted.target.display());
            return Err(io::Error::new(ErrorKind::ResourceBusy, text));
        }
        // It follows no links, and keeps to what it has opened.
        fs::remove_dir_all(&path)?;
        fault::point("claim: directory removed");
        Ok(())
    }

    /// Removes directories that nobody knows, where they are empty: others may be somebody's data.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn sweep(&self, volumes: &BTreeSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let volume = name.split('_').next().unwrap_or_default();
            if !name.starts_with(PREFIX) || volumes.contains(volume) {
                continue;
            }
            match fs::remove_dir(entry.path()) {
                Err(error)
                    if [ErrorKind::DirectoryNotEmpty, ErrorKind::NotADirectory]
                        .contains(&error.kind()) => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> io::Result<OwnedFd> {
        let root = File::open(&self.root)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let stay = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(&root, name, flags, Mode::empty(), stay)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_come_and_go_below_the_root() {
        let place = tempfile::tempdir().unwrap();
        let directories = Directories::open(place.path().join("storage")).unwrap();
        let path = |name: &str| place.path().join("storage").join(name);
        directories.make("pvc-1_default_data").unwrap();
        let mode = fs::metadata(path("pvc-1_default_data")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
        fs::write(path("pvc-1_default_data/x"), "kept").unwrap();
        directories.make("pvc-1_default_data").unwrap();
        assert_eq!(fs::read_to_string(path("pvc-1_default_data/x")).unwrap(), "kept");
        directories.remove("pvc-1_default_data").unwrap();
        directories.remove("pvc-1_default_data").unwrap();
        assert!(!path("pvc-1_default_data").exists());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let directories = Directories::open(place.path().join("storage")).unwrap();
        let outside = place.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "").unwrap();
        symlink(&outside, place.path().join("storage/pvc-link")).unwrap();
        for name in ["pvc-link", "../outside", "pvc-link/deeper", ".."] {
            assert!(directories.remove(name).is_err(), "{name}");
            assert!(directories.make(name).is_err(), "{name}");
        }
        // What pods leave in a volume may lead anywhere.
        directories.make("pvc-1").unwrap();
        symlink(&outside, place.path().join("storage/pvc-1/link")).unwrap();
        directories.remove("pvc-1").unwrap();
        assert!(outside.join("x").exists());
    }

    #[test]
    fn only_empty_directories_of_nobody_are_swept() {
        let place = tempfile::tempdir().unwrap();
        let directories = Directories::open(place.path().to_owned()).unwrap();
        for name in ["pvc-1_a_b", "pvc-2_a_b", "pvc-3_a_b", "mine"] {
            directories.make(name).unwrap();
        }
        fs::write(place.path().join("pvc-3_a_b/x"), "").unwrap();
        directories.sweep(&["pvc-1".to_owned()].into()).unwrap();
        let mut left: Vec<_> = fs::read_dir(place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["mine", "pvc-1_a_b", "pvc-3_a_b"]);
    }
}
