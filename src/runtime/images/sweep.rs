//! What interrupted work has left behind, some time after a start.

use super::digest::{Algorithm, Digest};
use super::store::{Kept, Store, remove_file_if_there};
use jiff::Timestamp;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// How long what has arrived of an image waits for someone to ask for the image again.
const LEFTOVER_AGE_SECONDS_MAX: i64 = 24 * 60 * 60;

/// Removes what nobody will take up again.
pub(super) fn sweep(store: &Store, now: Timestamp) -> io::Result<()> {
    for path in store.take_abandoned() {
        remove_tree_if_there(&path)?;
    }
    let is_old = |path: &Path| {
        let modified = fs::symlink_metadata(path).map(|facts| facts.mtime()).unwrap_or(i64::MAX);
        modified < now.as_second() - LEFTOVER_AGE_SECONDS_MAX
    };
    for entry in fs::read_dir(store.layout.partials())? {
        let path = entry?.path();
        if is_old(&path) {
            remove_file_if_there(&path)?;
        }
    }
    let mut candidates = Kept::default();
    for algorithm in Algorithm::ALL {
        for entry in fs::read_dir(store.layout.blobs(algorithm))? {
            let path = entry?.path();
            match digest(algorithm, &path) {
                Some(digest) if is_old(&path) => drop(candidates.blobs.insert(digest)),
                Some(_) => {}
                // A temporary file of a write that did not finish.
                None if is_old(&path) => remove_file_if_there(&path)?,
                None => {}
            }
        }
    }
    for entry in fs::read_dir(store.layout.snapshots())? {
        let path = entry?.path();
        // Chain ids are sha256 but for images of one layer, whose id may be of another algorithm.
        let chain_id = Algorithm::ALL.into_iter().find_map(|algorithm| digest(algorithm, &path));
        candidates.layers.extend(chain_id.filter(|_| is_old(&path)));
    }
    store.collect(candidates)
}

fn digest(algorithm: Algorithm, path: &Path) -> Option<Digest> {
    let name = path.file_name()?.to_str()?;
    format!("{}:{name}", algorithm.name()).parse().ok()
}

fn remove_tree_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
