//! The tables, and how a file of an older version becomes one of this version.
//!
//! `log` has one row per change, in the order of the changes, and holds every value once: the row of
//! a live key stays for as long as the key has that value. `current` says for each key which row of
//! the log that is. So a write appends to the log and touches one small row; a new value never moves
//! an old one.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours (`PRAGMA application_id`): "kgl1".
pub(super) const APPLICATION_ID: i32 = 0x6b67_6c31;

/// Every version of the tables. Step `n` makes version `n + 1` of version `n`; a step that has been
/// released is never changed.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE log (
        -- Revision and index of the operation (storage::seq).
        seq INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        -- The row that this one replaced. It may be gone: then there was no value before.
        previous INTEGER,
        -- The revision of the first of several coalesced changes of which only this, the last,
        -- reached the disk. NULL where nothing was left out.
        since INTEGER,
        -- Checksum of key and value (snapshot::checksum).
        sum INTEGER NOT NULL,
        -- NULL: deleted.
        value BLOB
    );
    CREATE TABLE current (
        key BLOB PRIMARY KEY,
        seq INTEGER NOT NULL,
        -- A deleted key stays until its deletion is compacted, so that old revisions can be listed.
        deleted INTEGER NOT NULL
    ) WITHOUT ROWID;
    -- Revisions that a crash may have taken back: coalesced changes were announced under them.
    CREATE TABLE lost (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL
    );
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        -- No revision through this one may be given out again.
        reserved INTEGER NOT NULL,
        -- Whether the store was closed in good order and not written since.
        clean INTEGER NOT NULL,
        -- The oldest revision that can be read.
        floor INTEGER NOT NULL,
        -- Through which change of the log the replaced rows have been removed.
        swept INTEGER NOT NULL,
        -- Replaced rows that wait to be removed, and their bytes. Exact while clean.
        replaced_rows INTEGER NOT NULL,
        replaced_bytes INTEGER NOT NULL
    );
    -- Revision 0 means 'any' to clients, so an empty store is at 1.
    INSERT INTO meta VALUES (0, 1, 1, 0, 0, 0, 0);
"];

/// Why a file could not be brought to the version of this program.
#[derive(Debug)]
pub(super) enum MigrateError {
    /// Made by a later version of this program.
    Newer {
        found: usize,
        known: usize,
    },
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrateError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// How many of `steps` the file has had.
pub(super) fn version(connection: &Connection, steps: &[&str]) -> Result<usize, MigrateError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = steps.len();
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    if found > known { Err(MigrateError::Newer { found, known }) } else { Ok(found) }
}

/// Runs the steps that the file has not had yet, all in one transaction.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), MigrateError> {
    let found = version(connection, steps)?;
    let known = steps.len();
    if found == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in &steps[found..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX))?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: &[&str] = &[""; 9];

    #[test]
    fn an_older_file_gets_the_steps_it_lacks() {
        let first = "CREATE TABLE a (x); INSERT INTO a VALUES (1)";
        let second = "ALTER TABLE a ADD COLUMN y DEFAULT 2";
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &[first]).unwrap();
        migrate(&mut connection, &[first, second]).unwrap();
        migrate(&mut connection, &[first, second]).unwrap();
        let row: (i64, i64) = connection
            .query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((row, version(&connection, MANY).unwrap()), ((1, 2), 2));
    }

    #[test]
    fn a_failed_step_leaves_the_file_as_it_was() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE a (x)"];
        assert!(matches!(migrate(&mut connection, &steps), Err(MigrateError::Sqlite(_))));
        assert_eq!(version(&connection, MANY).unwrap(), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 7).unwrap();
        let error = migrate(&mut connection, MIGRATIONS).unwrap_err();
        assert!(matches!(error, MigrateError::Newer { found: 7, known: 1 }));
    }
}
