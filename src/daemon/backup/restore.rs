//! Makes a server of a backup: unpacked and checked beside what there is, and put in its place in one
//! step.
//!
//! Start at [`restore()`]. Whatever this stops at, `server` is what it was or what was saved. What
//! belongs to one node (`agent/`, its addresses, certificates for these) a server makes when it starts.

use super::archive;
use super::head::{Head, Member, STORE};
use super::plan::{self, SPARE_BYTES};
use crate::api::Revision;
use crate::stdx::{chain, fault};
use crate::storage::sqlite::{self, Halt, SCHEMA};
use crate::sys::load::disk;
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tracing::warn;

const SERVER: &str = "server";
const RESTORING: &str = "server.restoring";
const BACKUPS: &str = "backups";

/// More directories are not kept beside.
const KEPT_MAX: u32 = 99;

/// Revisions have to stay below this: see the store.
const REVISION_MAX: u64 = 1 << 55;

/// What becomes of a store that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    KeepBeside,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    pub head: Head,
    /// Where that is which was in its place.
    pub kept: Option<PathBuf>,
    /// The revision that the store goes on after.
    pub last: u64,
}

/// Makes the server of `data_dir` what it was when the backup `file` was made.
///
/// # Errors
/// Where a server runs on `data_dir`, the file is no sound backup, or a store is there that is not to be
/// replaced. Nothing has changed then.
pub fn restore(
    file: &Path,
    data_dir: &Path,
    existing: Existing,
    now: Timestamp,
) -> anyhow::Result<Restored> {
    let unusable = || format!("{} cannot be restored", file.display());
    let head = archive::read_head(file).with_context(unusable)?;
    head.check_store(SCHEMA).with_context(unusable)?;
    let server = data_dir.join(SERVER);
    let store = server.join(STORE);
    let has_store = fs::symlink_metadata(&store).is_ok();
    // Until the end: nobody starts a server on what is about to be replaced.
    let _held = match has_store {
        true => Some(sqlite::hold(&store)?),
        false => None,
    };
    if has_store && existing == Existing::Refuse {
        bail!(
            "{} is there already: --force replaces it, and keeps {} beside",
            store.display(),
            server.display()
        );
    }
    // One that is damaged is why somebody restores.
    let replaced = sqlite::facts(&store).ok().map(|facts| facts.reserved.0);
    fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    check_room(&head, data_dir)?;
    let restoring = data_dir.join(RESTORING);
    discard(&restoring)?;
    let unpacked = unpack(file, &head, &restoring).with_context(unusable).and_then(|saved| {
        let taken = head.taken;
        let last = plan::go_on_after(plan::Restoring { taken, now, saved, replaced });
        prepare(&restoring, last)?;
        Ok(last)
    });
    let last = match unpacked {
        Ok(last) => last,
        Err(error) => {
            // What made it fail is worth more; the next one tries again.
            discard(&restoring).ok();
            return Err(error);
        }
    };
    fault::point("restore: unpacked");
    let kept = put_in_place(&restoring, &server, now)?;
    fault::point("restore: in place");
    let kept = kept.filter(|kept| !bring_backups(kept, &server));
    Ok(Restored { head, kept, last })
}

fn check_room(head: &Head, data_dir: &Path) -> anyhow::Result<()> {
    let load =
        disk(data_dir).with_context(|| format!("cannot ask how full {} is", data_dir.display()))?;
    let free = load.available_bytes;
    let needed = head.bytes().saturating_add(SPARE_BYTES);
    if free < needed {
        let (free, needed) = (free >> 20, needed >> 20);
        bail!("{} has {free} MiB free, and {needed} MiB are needed", data_dir.display());
    }
    Ok(())
}

/// Removes what an interrupted restoring has left.
fn discard(restoring: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(restoring) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", restoring.display()))
        }
        _ => Ok(()),
    }
}

/// Writes all members below `to`. Returns through which revision the store could have given some out.
fn unpack(file: &Path, head: &Head, to: &Path) -> anyhow::Result<u64> {
    make_directory(to)?;
    let halt = Halt::default();
    let read = archive::read(file, &halt, |member| create(to, member))?;
    if read != *head {
        bail!("somebody has changed it meanwhile");
    }
    let facts = sqlite::verify(&to.join(STORE), &halt)?;
    Ok(facts.reserved.0)
}

fn create(to: &Path, member: &Member) -> io::Result<File> {
    let path = to.join(&member.path);
    let directory = path.parent().expect("members are in directories");
    make_directory(directory)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(member.mode))?;
    Ok(file)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Has the store go on where it has to, and everything on the disk.
fn prepare(restoring: &Path, last: u64) -> anyhow::Result<()> {
    if last >= REVISION_MAX {
        bail!("the store has given out so many revisions that none are left");
    }
    sqlite::go_on_after(&restoring.join(STORE), Revision(last))?;
    sync_all(restoring).with_context(|| format!("cannot write {}", restoring.display()))
}

/// The files below a directory, the directories that they are in, and itself.
fn sync_all(directory: &Path) -> io::Result<()> {
    let mut pending = vec![directory.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => pending.push(entry.path()),
                false => File::open(entry.path())?.sync_all()?,
            }
        }
        seen.insert(path);
    }
    seen.iter().rev().try_for_each(|path| File::open(path)?.sync_all())
}

/// Makes `restoring` the server's directory. Returns where that is which was in its place.
fn put_in_place(
    restoring: &Path,
    server: &Path,
    now: Timestamp,
) -> anyhow::Result<Option<PathBuf>> {
    let failed = || format!("cannot put {} in its place", server.display());
    let data_dir = server.parent().expect("it is in the data directory");
    let sync = || File::open(data_dir).and_then(|directory| directory.sync_all());
    if fs::symlink_metadata(server).is_err() {
        fs::rename(restoring, server).and_then(|()| sync()).with_context(failed)?;
        return Ok(None);
    }
    let beside = free_name(data_dir, now)?;
    // First under the name that the other one will have: so that, whatever happens, nothing is called
    // as an interrupted restoring but that.
    fs::rename(restoring, &beside).with_context(failed)?;
    let swapped = renameat_with(CWD, &beside, CWD, server, RenameFlags::EXCHANGE);
    let swapped = match swapped {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            swap_in_steps(restoring, server, &beside)
        }
        other => other.map_err(io::Error::from),
    };
    if let Err(error) = swapped {
        // As above: what is wrong with the directory comes up again.
        fs::remove_dir_all(&beside).ok();
        return Err(error).with_context(failed);
    }
    sync().with_context(failed)?;
    Ok(Some(beside))
}

/// For file systems that cannot exchange two names.
fn swap_in_steps(restoring: &Path, server: &Path, beside: &Path) -> io::Result<()> {
    fs::rename(beside, restoring)?;
    fs::rename(server, beside)?;
    fs::rename(restoring, server)
}

fn free_name(data_dir: &Path, now: Timestamp) -> anyhow::Result<PathBuf> {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let names = (1..=KEPT_MAX).map(|number| match number {
        1 => format!("{SERVER}.before-restore-{time}"),
        _ => format!("{SERVER}.before-restore-{time}-{number}"),
    });
    let mut paths = names.map(|name| data_dir.join(name));
    let free = paths.find(|path| fs::symlink_metadata(path).is_err());
    free.with_context(|| format!("remove some of {}/{SERVER}.before-restore-*", data_dir.display()))
}

/// Backups that were in the directory stay where they were. Returns whether nothing else was there.
fn bring_backups(kept: &Path, server: &Path) -> bool {
    let (from, to) = (kept.join(BACKUPS), server.join(BACKUPS));
    if fs::symlink_metadata(&from).is_ok()
        && let Err(error) = fs::rename(&from, &to)
    {
        let from = from.display();
        warn!(error = chain(&error), "the backups stay in {from}");
    }
    fs::remove_dir(kept).is_ok()
}
