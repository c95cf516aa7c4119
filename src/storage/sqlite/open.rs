//! Opens the file: one process at a time, ours, undamaged, of a version that we know.
//!
//! The header and the length are always compared, and the table of keys is always gone through. How
//! much else is depends on how the file was left and on its size, so that opening stays quick:
//! [`CHECK_BYTES_MAX`] and [`CHECK_BYTES_MAX_CRASHED`]. SQLite's write-ahead log makes a crash harmless
//! by itself; this is about disks that lie, and files that were copied while in use. What is found only
//! later comes up as an error of the read or write that met it.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::sqlite::fault::is_damage;
use crate::storage::sqlite::group::RESERVED_REVISIONS;
use crate::storage::sqlite::readers::READERS;
use crate::storage::sqlite::retention::Replaced;
use crate::storage::sqlite::schema::{APPLICATION_ID, MIGRATIONS, MigrateError, migrate, version};
use crate::storage::sqlite::snapshot::{newest_row, revision_from_sql, to_sql};
use crate::storage::sqlite::view::Lost;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The largest file, in bytes, that is checked through when it is opened: some 10 milliseconds.
const CHECK_BYTES_MAX: i64 = 8 * 1_048_576;

/// The same for a file that was not closed in good order: some 50 milliseconds.
const CHECK_BYTES_MAX_CRASHED: i64 = 32 * 1_048_576;

/// How long a connection waits for a lock of another one of this process. Only a checkpoint that has
/// to empty the write-ahead log ever waits for readers.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// Page caches, in KiB. The operating system caches the file too.
const WRITER_CACHE_KIB: i64 = 2_048;
const READER_CACHE_KIB: i64 = 512;

/// The write-ahead log goes into the main file when it has so many pages of 4 KiB, and is cut to so
/// many bytes when it starts over.
const CHECKPOINT_PAGES: i64 = 1_000;
const WAL_BYTES_KEPT: i64 = 4 * 1_048_576;

/// The statements that each connection keeps prepared. More than there are.
const STATEMENTS_MAX: usize = 32;

/// Why a store could not be opened. The file is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process; stop that one, or use another data directory")]
    InUse { path: PathBuf },
    #[error("failed to {operation} {path}")]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{path} is damaged ({detail}); restore it from a backup, or move it away together with its \
         -wal file to start with an empty store"
    )]
    Damaged { path: PathBuf, detail: String },
    #[error("{path} is a database of another program; use another data directory")]
    Foreign { path: PathBuf },
    #[error(
        "{path} was written by a newer version (format {found}, this one knows up to {known}); use \
         that version, or restore a backup from before the upgrade"
    )]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("sqlite failed to open {path}")]
    Sqlite {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

/// An open file and what it says about itself.
#[derive(Debug)]
pub(super) struct Opened {
    pub path: PathBuf,
    pub lock: File,
    pub writer: Connection,
    pub readers: Vec<Connection>,
    pub state: State,
}

/// Where the store goes on.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub revision: Revision,
    /// The newest row.
    pub base: Seq,
    pub reserved: Revision,
    pub floor: Revision,
    pub swept: Seq,
    pub replaced: Replaced,
    pub lost: Vec<Lost>,
}

/// Opens the file at `path`, and makes it where there is none. Without a path the store is in memory:
/// in a file that has no name any more when this returns.
pub(super) fn open(path: Option<PathBuf>, unknown: Replaced) -> Result<Opened, OpenError> {
    match path {
        Some(path) => open_file(path, unknown),
        None => {
            let directory = scratch_directory()?;
            let opened = open_file(directory.join("state.db"), unknown);
            fs::remove_dir_all(&directory).map_err(|source| OpenError::File {
                operation: "remove",
                path: directory,
                source,
            })?;
            opened
        }
    }
}

/// A fresh directory in memory, or where the system has no such place, on disk.
fn scratch_directory() -> Result<PathBuf, OpenError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!("kinglet-{}-{count}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|source| OpenError::File { operation: "make", path: path.clone(), source })?;
    Ok(path)
}

fn open_file(path: PathBuf, unknown: Replaced) -> Result<Opened, OpenError> {
    let lock = lock(&path)?;
    check_header(&path)?;
    create(&path)?;
    let named = |error| name(error, &path);
    let mut writer = connect(&path).map_err(named)?;
    check_owner(&writer, &path)?;
    configure_writer(&writer).map_err(named)?;
    migrate(&mut writer, MIGRATIONS).map_err(|error| name_migration(error, &path))?;
    check_structure(&writer, &path)?;
    let state = recover(&writer, unknown).map_err(named)?;
    let readers = (0..READERS).map(|_| connect_reader(&path).map_err(named));
    let readers = readers.collect::<Result<_, _>>()?;
    Ok(Opened { lock, writer, readers, state, path })
}

pub(super) fn name(error: rusqlite::Error, path: &Path) -> OpenError {
    let path = path.to_owned();
    if is_damage(&error) {
        return OpenError::Damaged { path, detail: error.to_string() };
    }
    OpenError::Sqlite { path, source: error }
}

pub(super) fn name_migration(error: MigrateError, path: &Path) -> OpenError {
    match error {
        MigrateError::Newer { found, known } => {
            OpenError::Newer { path: path.to_owned(), found, known }
        }
        MigrateError::Sqlite(error) => name(error, path),
    }
}

/// Takes the lock that keeps a second process out, for as long as the file that is returned is open.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        let path = directory.to_owned();
        made.map_err(|source| OpenError::File { operation: "make", path, source })?;
    }
    let lock_path = beside(path, ".lock");
    let failed = |operation| {
        let path = lock_path.clone();
        move |source| OpenError::File { operation, path, source }
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&lock_path).map_err(failed("open"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock")(source)),
    }
}

/// `path` with `suffix` behind its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The parts of SQLite's file header that are compared with the file itself
/// (<https://www.sqlite.org/fileformat2.html>, 1.3).
const HEADER_BYTES: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Refuses a file that is not a database, or that has been cut off.
pub(super) fn check_header(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { operation: "read", path: path.to_owned(), source };
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    if length == 0 {
        return Ok(());
    }
    let mut header = Vec::new();
    file.take(HEADER_BYTES as u64).read_to_end(&mut header).map_err(failed)?;
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(damaged("it does not begin as a database does".into()));
    }
    // What the header lacks can be in the write-ahead log.
    let log_bytes = fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len());
    let expected = header_length(&header);
    if log_bytes == 0 && length < expected {
        return Err(damaged(format!("{length} bytes long, and should have {expected}")));
    }
    Ok(())
}

/// How long the header says that the file is.
fn header_length(header: &[u8]) -> u64 {
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    page_size * u64::from(pages)
}

/// Makes the file, readable by its owner only, where there is none. SQLite gives the files beside it
/// the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::File { operation: "create", path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_file) => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = File::open(directory.unwrap_or(Path::new("."))).map_err(failed)?;
            directory.sync_all().map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Cheap, and finds damage where it is met.
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    // Opens the write-ahead log now, while the file has a name.
    newest_row(&connection)?;
    Ok(connection)
}

/// Refuses a database that somebody else has made, or a later version.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let look = || {
        let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok(id == APPLICATION_ID || tables == 0)
    };
    if !look().map_err(|error| name(error, path))? {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    version(connection, MIGRATIONS).map_err(|error| name_migration(error, path))?;
    Ok(())
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages == 0 {
        // Decided before the first page is written.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // An acknowledged write survives a power cut: one sync for each group.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    Ok(())
}

/// Checks the file through, as far as its size allows.
fn check_structure(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let look = || {
        let clean: bool = connection.query_row("SELECT clean FROM meta", [], |row| row.get(0))?;
        let bytes_max = if clean { CHECK_BYTES_MAX } else { CHECK_BYTES_MAX_CRASHED };
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let check = match pages.saturating_mul(size) <= bytes_max {
            true => "PRAGMA quick_check(1)",
            false => "PRAGMA quick_check(current)",
        };
        connection.query_row(check, [], |row| row.get::<_, String>(0))
    };
    let result = look().map_err(|error| name(error, path))?;
    match result.as_str() {
        "ok" => Ok(()),
        _ => Err(OpenError::Damaged { path: path.to_owned(), detail: result }),
    }
}

/// Finds out where the store goes on. After a crash, revisions that may have been announced and are
/// not in the log count as used, and as lost. `unknown` is what is taken to wait for removal then.
fn recover(connection: &Connection, unknown: Replaced) -> rusqlite::Result<State> {
    let transaction = connection.unchecked_transaction()?;
    let base = newest_row(&transaction)?;
    let (mut state, clean) = transaction.query_row(
        "SELECT reserved, floor, swept, replaced_rows, replaced_bytes, clean FROM meta",
        [],
        |row| {
            let reserved = revision_from_sql(row.get(0)?);
            let counter = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            let replaced = Replaced { rows: counter(3)?, bytes: counter(4)? };
            let state = State {
                revision: reserved.max(base.revision()),
                base,
                reserved,
                floor: revision_from_sql(row.get(1)?),
                swept: row.get(2)?,
                replaced,
                lost: Vec::new(),
            };
            Ok((state, row.get::<_, bool>(5)?))
        },
    )?;
    if !clean {
        state.replaced = unknown;
        let lost = Lost { first: Revision(base.revision().0 + 1), last: state.reserved };
        // A number of its own, so that nothing that was ever announced is taken for the present.
        state.revision = Revision(state.revision.0 + 1);
        state.reserved = Revision(state.revision.0 + RESERVED_REVISIONS);
        transaction.execute("UPDATE meta SET reserved = ?1", [to_sql(state.reserved)])?;
        let sql = "INSERT OR REPLACE INTO lost (first, last) VALUES (?1, ?2)";
        transaction.execute(sql, [to_sql(lost.first), to_sql(lost.last)])?;
    }
    state.lost = lost(&transaction)?;
    transaction.commit()?;
    Ok(state)
}

fn lost(connection: &Connection) -> rusqlite::Result<Vec<Lost>> {
    let mut statement = connection.prepare("SELECT first, last FROM lost ORDER BY first")?;
    let rows = statement.query_map([], |row| {
        let (first, last) = (revision_from_sql(row.get(0)?), revision_from_sql(row.get(1)?));
        Ok(Lost { first, last })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_synced_and_pages_can_be_given_back() {
        let opened = open(None, Replaced::default()).unwrap();
        let value = |name: &str| {
            opened.writer.pragma_query_value(None, name, |row| {
                row.get::<_, i64>(0).map(|n| n.to_string()).or_else(|_text| row.get(0))
            })
        };
        for (name, expected) in [
            ("synchronous", "2"),
            ("journal_mode", "wal"),
            ("auto_vacuum", "2"),
            ("page_size", "4096"),
            ("wal_autocheckpoint", "1000"),
        ] {
            assert_eq!(value(name).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn nothing_is_left_of_a_store_in_memory() {
        let opened = open(None, Replaced::default()).unwrap();
        assert!(!opened.path.exists() && !opened.path.parent().unwrap().exists());
    }
}
