//! A copy of a store in a file of its own, also while the store is used, and what is done to such a
//! copy before it becomes a store.
//!
//! Start at [`copy`]. It reads as any reader does, in one transaction on a connection of its own: the
//! writer never waits for it, and it has every write that was acknowledged before it began. What
//! waits in memory (coalesced writes) is not in it, as after a crash.
//!
//! Architecture invariant: a store's file is opened by way of SQLite alone. Whoever opens and closes
//! it otherwise takes away every lock that this process has on it.

use crate::api::Revision;
use crate::storage::Key;
use crate::storage::sqlite::open::{self, OpenError, check_owner, name, name_migration};
use crate::storage::sqlite::schema::{APPLICATION_ID, MIGRATIONS, migrate, version};
use crate::storage::sqlite::snapshot::{checksum, newest_row, revision_from_sql, to_sql};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle, OpenFlags};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a copy waits where somebody is just opening or closing the store.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The page cache of a copy, in KiB: it sees each page once.
const CACHE_KIB: i64 = 1_024;

/// What a store says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version of its tables.
    pub schema: usize,
    /// The revision of its newest change.
    pub revision: Revision,
    /// No revision after this one has been given out.
    pub reserved: Revision,
    /// The keys that have a value.
    pub keys: u64,
}

/// The newest version of the tables that this program reads.
pub const SCHEMA: usize = MIGRATIONS.len();

/// Ends from elsewhere what is done here.
#[derive(Default)]
pub struct Halt {
    is_asked: AtomicBool,
    running: Mutex<Option<InterruptHandle>>,
}

impl Halt {
    /// Whoever is at work ends soon, with an error.
    pub fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            running.interrupt();
        }
    }

    /// # Errors
    /// Where the work is to end.
    pub fn check(&self) -> io::Result<()> {
        match self.is_asked.load(Ordering::Acquire) {
            true => Err(io::Error::new(io::ErrorKind::Interrupted, "told to end")),
            false => Ok(()),
        }
    }

    fn watch(&self, connection: &Connection) {
        let handle = Some(connection.get_interrupt_handle());
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }
}

impl fmt::Debug for Halt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Halt").field(&self.is_asked).finish()
    }
}

/// Copies the store at `from`, which may be in use, to the new file `to`.
///
/// # Errors
/// Where there is no store, it is not one of ours or damaged, or `to` cannot be written. What has been
/// written of `to` stays then.
pub fn copy(from: &Path, to: &Path, halt: &Halt) -> Result<Facts, OpenError> {
    let failed = |operation| {
        let path = to.to_owned();
        move |source| OpenError::File { operation, path, source }
    };
    let source = connect(from)?;
    check_is_ours(&source, from)?;
    halt.watch(&source);
    halt.check().map_err(failed("write"))?;
    // SQLite takes a file that is empty, and leaves its mode as it is.
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    drop(new.map_err(failed("create"))?);
    let text = to.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"));
    let text = text.map_err(failed("write"))?;
    source.execute("VACUUM INTO ?1", [text]).map_err(|error| name(error, from))?;
    facts(to)
}

/// Reads all of a store that nobody uses: its structure, and whether each value is as it was written.
///
/// # Errors
/// Where it is damaged, not one of ours, or of a later version.
pub fn verify(path: &Path, halt: &Halt) -> Result<Facts, OpenError> {
    open::check_header(path)?;
    let connection = connect(path)?;
    check_is_ours(&connection, path)?;
    halt.watch(&connection);
    let damaged = |detail| OpenError::Damaged { path: path.to_owned(), detail };
    let named = |error| name(error, path);
    let result: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(named)?;
    if result != "ok" {
        return Err(damaged(result));
    }
    let altered = first_altered(&connection).map_err(named)?;
    match altered {
        Some(row) => Err(damaged(format!("row {row} of the log is not as it was written"))),
        None => facts_of(&connection, path),
    }
}

/// The first row of the log whose sum is not that of its contents.
fn first_altered(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare("SELECT seq, key, sum, value FROM log")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, sum): (Key, u32) = (row.get(1)?, row.get(2)?);
        let value = row.get_ref(3)?.as_blob_or_null()?;
        if checksum(&key, value) != sum {
            return row.get(0).map(Some);
        }
    }
    Ok(None)
}

/// What the store at `path` says about itself, whether it is in use or not.
///
/// # Errors
/// Where there is none, or it cannot be read.
pub fn facts(path: &Path) -> Result<Facts, OpenError> {
    let connection = connect(path)?;
    check_is_ours(&connection, path)?;
    facts_of(&connection, path)
}

fn facts_of(connection: &Connection, path: &Path) -> Result<Facts, OpenError> {
    let schema = version(connection, MIGRATIONS).map_err(|error| name_migration(error, path))?;
    let look = || {
        let base = newest_row(connection)?.revision();
        let reserved: i64 =
            connection.query_row("SELECT reserved FROM meta", [], |row| row.get(0))?;
        let sql = "SELECT count(*) FROM current WHERE NOT deleted";
        let keys: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        let reserved = revision_from_sql(reserved).max(base);
        Ok(Facts { schema, revision: base, reserved, keys: keys.unsigned_abs() })
    };
    look().map_err(|error| name(error, path))
}

/// Has a store that nobody uses go on after `last`: every revision through that one is as compacted,
/// so that whoever knows one of them lists again, and none of them is given out.
///
/// # Errors
/// Where it cannot be written. It is as it was then.
pub fn go_on_after(path: &Path, last: Revision) -> Result<(), OpenError> {
    let named = |error| name(error, path);
    let mut connection = connect_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(named)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(named)?;
    migrate(&mut connection, MIGRATIONS).map_err(|error| name_migration(error, path))?;
    let write = || {
        let transaction = connection.unchecked_transaction()?;
        let sql = "UPDATE meta SET reserved = max(reserved, ?1), floor = max(reserved, ?1)";
        transaction.execute(sql, [to_sql(last)])?;
        transaction.execute("DELETE FROM lost", [])?;
        transaction.commit()
    };
    write().map_err(named)
}

/// Keeps every server away from the store at `path` for as long as this is held.
#[derive(Debug)]
pub struct Held {
    _lock: File,
}

/// # Errors
/// Where a server uses the store.
pub fn hold(path: &Path) -> Result<Held, OpenError> {
    Ok(Held { _lock: open::lock(path)? })
}

/// A connection that changes nothing, also not when it is closed.
fn connect(path: &Path) -> Result<Connection, OpenError> {
    connect_with(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|error| name(error, path))
}

fn connect_with(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}

/// An empty file may become a store, but is none.
fn check_is_ours(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    check_owner(connection, path)?;
    let id: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| name(error, path))?;
    match id == APPLICATION_ID {
        true => Ok(()),
        false => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}
