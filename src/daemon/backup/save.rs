//! Makes a backup: a copy of the store, its sums, the file, the file read back, its name.
//!
//! Whatever this stops at, there is no file that [`list`](super::list) shows: the name comes last.

use super::archive::{self, Source, sum};
use super::directory::Directory;
use super::head::is_sound_path;
use super::head::{FORMAT, Head, MEMBERS_MAX, Member, PATH_DEPTH_MAX, STORE, StoreFacts, Trigger};
use super::plan::SPARE_BYTES;
use crate::pki::AuthorityHash;
use crate::stdx::fault;
use crate::storage::sqlite::{self, Facts, Halt};
use crate::sys::load::disk;
use anyhow::{Context as _, bail};
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What of a server's directory is saved, beside the store. What is not there is left out.
const SAVED: [&str; 3] = ["tls", "cred", "manifests"];

/// A larger file among them is refused.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// And more than this of all of them: they are held in memory.
const FILES_BYTES_MAX: u64 = 64 << 20;

/// Whom the clients of a cluster trust: what tells clusters apart.
const AUTHORITY: &str = "tls/server-ca.crt";

/// What is saved, and where to.
#[derive(Clone, Debug)]
pub struct Saving {
    /// `<data-dir>/server`.
    pub server: PathBuf,
    pub directory: PathBuf,
    pub node: String,
    pub trigger: Trigger,
}

/// A backup that was made.
#[derive(Debug)]
pub struct Saved {
    pub path: PathBuf,
    pub bytes: u64,
    pub head: Head,
}

/// Makes a backup, whether a server runs or not. Takes seconds; reads and writes the disk.
///
/// # Errors
/// Where there is no store, it is damaged, or the backup cannot be written or is not read back as it
/// was written. Nothing is left of it then.
pub fn save(saving: &Saving, now: Timestamp, halt: &Halt) -> anyhow::Result<Saved> {
    let store = saving.server.join(STORE);
    if !store.exists() {
        bail!("{} is not there: --data-dir says where a server keeps its data", store.display());
    }
    let directory = Directory::take(&saving.directory)?;
    let saved = save_in(&directory, saving, now, halt);
    // What made it fail is worth more than what cannot be removed; the next one tries again.
    let swept = directory.sweep();
    let saved = saved?;
    swept?;
    Ok(saved)
}

fn save_in(
    directory: &Directory,
    saving: &Saving,
    now: Timestamp,
    halt: &Halt,
) -> anyhow::Result<Saved> {
    let store = saving.server.join(STORE);
    check_room(&store, &saving.directory)?;
    let copy = directory.copy();
    sqlite::copy(&store, &copy, halt)?;
    fault::point("backup: copied");
    let facts = sqlite::verify(&copy, halt)?;
    let (mut members, mut sources) = small_members(&saving.server)?;
    let cluster = cluster(&members, &sources)?;
    let unreadable = || format!("cannot read {}", copy.display());
    let (bytes, sha256) = sum(File::open(&copy).with_context(unreadable)?, halt)?;
    members.push(Member { path: STORE.to_owned(), mode: 0o600, bytes, sha256 });
    sources.push(Source::File(File::open(&copy).with_context(unreadable)?));
    let head = Head {
        format: FORMAT,
        kinglet: env!("CARGO_PKG_VERSION").to_owned(),
        cluster,
        node: saving.node.clone(),
        taken: now,
        trigger: saving.trigger,
        store: store_facts(facts),
        members,
    };
    let bytes = write_and_read_back(directory, &head, sources, halt)?;
    fault::point("backup: written");
    let path = directory.finish(&saving.node, now)?;
    fault::point("backup: named");
    Ok(Saved { path, bytes, head })
}

fn write_and_read_back(
    directory: &Directory,
    head: &Head,
    sources: Vec<Source>,
    halt: &Halt,
) -> anyhow::Result<u64> {
    let path = directory.unfinished();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    archive::write(&file, head, sources, halt)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let read = archive::read(&path, halt, |_| Ok(std::io::sink()));
    match read {
        Ok(read) if read == *head => Ok(file.metadata()?.len()),
        Ok(_) => bail!("the backup is not read as it was written"),
        Err(error) => Err(error).context("the backup is not read as it was written"),
    }
}

fn store_facts(facts: Facts) -> StoreFacts {
    let Facts { schema, revision, reserved, keys } = facts;
    StoreFacts { schema, revision: revision.0, reserved: reserved.0, objects: keys }
}

/// The copy of the store is as large as the store.
fn check_room(store: &Path, directory: &Path) -> anyhow::Result<()> {
    let wal = store.with_extension("db-wal");
    let bytes = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let needed = bytes(store) + bytes(&wal);
    let load = disk(directory)
        .with_context(|| format!("cannot ask how full {} is", directory.display()))?;
    let free = load.available_bytes;
    if free < needed.saturating_add(SPARE_BYTES) {
        bail!(
            "{} has {} MiB free, and a backup needs {} MiB for a while, which is a copy of the \
             store: free some, or choose another directory with --backup-dir",
            directory.display(),
            free >> 20,
            (needed + SPARE_BYTES) >> 20
        );
    }
    Ok(())
}

/// All files but the store, with their contents.
fn small_members(server: &Path) -> anyhow::Result<(Vec<Member>, Vec<Source>)> {
    let mut paths = Vec::new();
    for name in SAVED {
        find(server, name, &mut paths)?;
    }
    paths.sort();
    let (mut members, mut sources, mut all) = (Vec::new(), Vec::new(), 0);
    for path in paths {
        let place = server.join(&path);
        let (mode, contents) = match read(&place) {
            Ok(read) => read,
            // A certificate is being made anew: whoever starts without it makes it, too.
            Err(error) if is_not_found(&error) => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot save {}", place.display()));
            }
        };
        all += contents.len() as u64;
        if all > FILES_BYTES_MAX {
            bail!("{} has more than {} MiB to save", server.display(), FILES_BYTES_MAX >> 20);
        }
        let (bytes, sha256) = sum(contents.as_slice(), &Halt::default())?;
        members.push(Member { path, mode, bytes, sha256 });
        sources.push(Source::Bytes(contents));
    }
    Ok((members, sources))
}

/// Adds the files below `path`. What is being written (`.NAME...`) is somebody's unfinished work.
fn find(server: &Path, path: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    let place = server.join(path);
    let unreadable = || format!("cannot read {}", place.display());
    let metadata = match fs::metadata(&place) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(unreadable),
    };
    if metadata.is_file() {
        found.push(path.to_owned());
        if !is_sound_path(path) {
            bail!("{} cannot be saved: its path is too long", place.display());
        }
        if found.len() >= MEMBERS_MAX {
            bail!("{} has more than {MEMBERS_MAX} files to save", server.display());
        }
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    if path.split('/').count() >= PATH_DEPTH_MAX {
        bail!("{} is more than {PATH_DEPTH_MAX} directories deep", place.display());
    }
    for entry in fs::read_dir(&place).with_context(unreadable)? {
        let name = entry.with_context(unreadable)?.file_name();
        let Some(name) = name.to_str() else {
            bail!("{} cannot be saved: its name is not UTF-8", place.join(name).display());
        };
        if !name.starts_with('.') {
            find(server, &format!("{path}/{name}"), found)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<(u32, Vec<u8>)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut contents = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > FILE_BYTES_MAX {
        bail!("it has more than {} MiB", FILE_BYTES_MAX >> 20);
    }
    Ok((mode, contents))
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn cluster(members: &[Member], sources: &[Source]) -> anyhow::Result<String> {
    let mut all = members.iter().zip(sources);
    let authority = all.find(|(member, _)| member.path == AUTHORITY);
    match authority {
        Some((_, Source::Bytes(pem))) => {
            let pem =
                std::str::from_utf8(pem).with_context(|| format!("{AUTHORITY} is damaged"))?;
            Ok(AuthorityHash::of_pem(pem).to_string())
        }
        _ => bail!("{AUTHORITY} is not there: no server has been started here yet"),
    }
}
