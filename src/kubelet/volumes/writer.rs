//! Files of a volume, replaced all at once.
//!
//! The layout is upstream's (pkg/volume/util/atomic_writer.go, v1.35), because programs watch it:
//! the files are in a directory of their own, `..data` is a link to that directory, and each name
//! is a link through `..data`. An update makes a new directory and moves the one link.

use super::ownership::{self, Access, Kind};
use super::plan::{FileContent, Files};
use crate::stdx::fault;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown, symlink,
};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `directory` hold exactly `files`, which `group` may read where there is one. Changes nothing
/// where it does already, and says so.
///
/// # Errors
/// As the file system says; readers see the old files then, or the new ones.
pub(super) fn write(
    directory: &Path,
    files: &Files,
    group: Option<u32>,
    now: Timestamp,
) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    ownership::give(directory, group, Access::ReadOnly)?;
    let old = fs::read_link(directory.join(DATA)).ok();
    let changed = match &old {
        Some(old) => !holds(&directory.join(old), files, group),
        None => true,
    };
    if changed {
        let name = now.strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
        let target = directory.join(&name);
        if let Err(error) = fill(&target, files, group) {
            // What is half there on a full disk would make it fuller with every try. If it stays, the
            // next update sweeps it away.
            fs::remove_dir_all(&target).ok();
            return Err(error);
        }
        fault::point("volumes: files written");
        remove_if_there(&directory.join(DATA_NEW))?;
        symlink(&name, directory.join(DATA_NEW))?;
        ownership::give(&directory.join(DATA_NEW), group, Access::ReadOnly)?;
        fs::rename(directory.join(DATA_NEW), directory.join(DATA))?;
        fault::point("volumes: files shown");
        link_names(directory, files, group)?;
    }
    sweep(directory, files)?;
    Ok(changed)
}

fn fill(target: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    // Left over from a write that a crash cut short within the same nanosecond: not impossible with
    // a clock that was set back.
    if target.exists() {
        fs::remove_dir_all(target)?;
    }
    make_directory(target, group)?;
    for (path, content) in files {
        for above in directories_above(path) {
            make_directory(&target.join(above), group)?;
        }
        let path = target.join(path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&content.bytes)?;
        // Not through `mode` above: that is cut by the umask.
        file.set_permissions(Permissions::from_mode(content.mode))?;
        if let Some(owner) = content.owner {
            fchown(&file, Some(owner), None)?;
        }
        ownership::give(&path, group, Access::ReadOnly)?;
    }
    Ok(())
}

fn make_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    ownership::give(path, group, Access::ReadOnly)
}

/// `a` and `a/b` for `a/b/c`.
fn directories_above(path: &Path) -> Vec<&Path> {
    let mut above: Vec<_> =
        path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    above
}

/// Whether a directory holds these files and no others.
fn holds(directory: &Path, files: &Files, group: Option<u32>) -> bool {
    let same = |path: &Path, content: &FileContent| -> io::Result<bool> {
        let path = directory.join(path);
        let found = fs::metadata(&path)?;
        let mode = ownership::mode(content.mode, group, Kind::File, Access::ReadOnly);
        Ok(found.permissions().mode() & 0o7777 == mode
            && group.is_none_or(|group| found.gid() == group)
            && content.owner.is_none_or(|owner| found.uid() == owner)
            && fs::read(&path)? == content.bytes)
    };
    let all_there = files.iter().all(|(path, content)| same(path, content).unwrap_or(false));
    all_there && count(directory).is_ok_and(|count| count == files.len())
}

fn count(directory: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(files)
}

/// The first part of each path.
fn names(files: &Files) -> BTreeSet<OsString> {
    let first = |path: &PathBuf| match path.components().next() {
        Some(Component::Normal(name)) => Some(name.to_owned()),
        _ => None,
    };
    files.keys().filter_map(first).collect()
}

fn link_names(directory: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for name in names(files) {
        match symlink(Path::new(DATA).join(&name), directory.join(&name)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        ownership::give(&directory.join(&name), group, Access::ReadOnly)?;
    }
    Ok(())
}

/// Removes links to what is not there any more, and directories that are no longer the one.
fn sweep(directory: &Path, files: &Files) -> io::Result<()> {
    let current = fs::read_link(directory.join(DATA))?;
    let names = names(files);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == DATA || name == *current || names.contains(&name) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => remove_if_there(&entry.path())?,
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str, u32)]) -> Files {
        let file = |(path, text, mode): &(&str, &str, u32)| {
            let bytes = text.as_bytes().to_vec();
            let content = FileContent { bytes, mode: *mode, owner: None };
            (PathBuf::from(path), content)
        };
        pairs.iter().map(file).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn listing(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn names_lead_through_one_link_to_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        let first = files(&[("a", "1", 0o644), ("d/b", "2", 0o400)]);
        assert!(write(&volume, &first, None, at(0)).unwrap());
        assert_eq!(fs::read_to_string(volume.join("d/b")).unwrap(), "2");
        assert_eq!(fs::read_link(volume.join("a")).unwrap(), Path::new("..data/a"));
        let mode = fs::metadata(volume.join("d/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        assert_eq!(listing(&volume), ["..1970_01_01_00_00_00.000000000", "..data", "a", "d"]);
        assert!(!write(&volume, &first, None, at(1)).unwrap());
    }

    #[test]
    fn an_update_moves_the_link_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        write(&volume, &files(&[("a", "1", 0o644), ("b", "2", 0o644)]), None, at(0)).unwrap();
        let second = files(&[("a", "one", 0o644), ("c", "3", 0o644)]);
        assert!(write(&volume, &second, None, at(1)).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "one");
        assert_eq!(listing(&volume), ["..1970_01_01_00_00_01.000000000", "..data", "a", "c"]);
        assert!(write(&volume, &files(&[("a", "one", 0o600)]), None, at(2)).unwrap());
        assert!(write(&volume, &files(&[]), None, at(3)).unwrap());
        assert_eq!(listing(&volume), ["..1970_01_01_00_00_03.000000000", "..data"]);
    }

    #[test]
    fn a_group_may_read_all_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        let wanted = files(&[("a/b/c", "1", 0o400)]);
        let group = Some(rustix::process::getgid().as_raw());
        assert!(write(&volume, &wanted, group, at(0)).unwrap());
        let mode =
            |path: &str| fs::metadata(volume.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["", "a", "a/b", "a/b/c"].map(mode), [0o2755, 0o2755, 0o2755, 0o440]);
        assert!(!write(&volume, &wanted, group, at(1)).unwrap());
        assert!(write(&volume, &wanted, None, at(2)).unwrap());
        assert_eq!(mode("a/b/c"), 0o400);
    }

    #[test]
    fn what_a_crash_left_is_cleaned_up() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("v");
        let wanted = files(&[("a", "1", 0o644)]);
        write(&volume, &wanted, None, at(0)).unwrap();
        symlink("nowhere", volume.join(DATA_NEW)).unwrap();
        fs::create_dir(volume.join("..1969")).unwrap();
        assert!(!write(&volume, &wanted, None, at(1)).unwrap());
        assert_eq!(listing(&volume), ["..1970_01_01_00_00_00.000000000", "..data", "a"]);
    }
}
