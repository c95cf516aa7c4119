//! What can go wrong with the file while it is used, and what callers are told.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::sqlite::open::beside;
use crate::storage::{CommitError, ReadError, WatchError};
use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// Why the file cannot be used, as the source of `Unavailable` errors.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(
        "{path} is damaged ({detail}); stop kinglet and restore the file from a backup, or move it \
         away together with its -wal file to start with an empty store"
    )]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} cannot be used")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("{path} is closed")]
    Closed { path: PathBuf },
}

/// Why reading or writing inside the store stopped, before it is told to a caller.
#[derive(Debug)]
pub(super) enum Stop {
    Compacted {
        requested: Revision,
        oldest: Revision,
    },
    Future {
        requested: Revision,
        newest: Revision,
    },
    Lagging {
        backlog_max: usize,
    },
    Sqlite(rusqlite::Error),
    /// A row that another row refers to is not there.
    Missing(Seq),
    /// A row is not as it was written.
    Altered(Seq),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Stop {
    pub(super) fn into_read_error(self, path: &Path) -> ReadError {
        match self {
            Self::Compacted { requested, oldest } => ReadError::Compacted { requested, oldest },
            Self::Future { requested, newest } => ReadError::Future { requested, newest },
            other => ReadError::Unavailable(Arc::new(other.into_fault(path))),
        }
    }

    pub(super) fn into_watch_error(self, path: &Path) -> WatchError {
        match self {
            Self::Compacted { requested, oldest } => WatchError::Compacted { requested, oldest },
            Self::Lagging { backlog_max } => WatchError::Lagging { backlog_max },
            other => WatchError::Unavailable(Arc::new(other.into_fault(path))),
        }
    }

    pub(super) fn into_commit_error(self, path: &Path) -> CommitError {
        match self {
            Self::Sqlite(error) if is_full(&error, path) => CommitError::Full,
            other => CommitError::Unavailable(Arc::new(other.into_fault(path))),
        }
    }

    fn into_fault(self, path: &Path) -> Fault {
        let path = path.to_owned();
        match self {
            Self::Sqlite(source) if is_damage(&source) => {
                Fault::Damaged { path, detail: source.to_string() }
            }
            Self::Sqlite(source) => Fault::Sqlite { path, source },
            Self::Missing(seq) => {
                let detail = format!("row {} of the log is missing", seq.to_sql());
                Fault::Damaged { path, detail }
            }
            Self::Altered(seq) => {
                let detail = format!("row {} of the log is not as it was written", seq.to_sql());
                Fault::Damaged { path, detail }
            }
            Self::Compacted { .. } | Self::Future { .. } | Self::Lagging { .. } => {
                let detail = format!("unexpected: {self:?}");
                Fault::Damaged { path, detail }
            }
        }
    }
}

/// Whether the file itself is wrong, not the way to it.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        // Our own rows, not as we write them.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::QueryReturnedNoRows => true,
        _ => false,
    }
}

/// SQLite says "full" only for ENOSPC from a plain write. A full disk can also show when the shared
/// memory file grows or at a sync, and a quota as another error: then a small write of our own tells.
fn is_full(error: &rusqlite::Error, path: &Path) -> bool {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return false;
    };
    match failure.code {
        ErrorCode::DiskFull => true,
        ErrorCode::SystemIoFailure => !has_room(path),
        _ => false,
    }
}

/// As much as a file of the store grows at once at most, in bytes.
const ROOM_BYTES: usize = 64 * 1024;

fn has_room(path: &Path) -> bool {
    let probe = beside(path, ".probe");
    let written = fs::write(&probe, vec![0; ROOM_BYTES]);
    // Where it cannot be removed it has not been made.
    fs::remove_file(&probe).ok();
    let Err(error) = written else {
        return true;
    };
    !matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
