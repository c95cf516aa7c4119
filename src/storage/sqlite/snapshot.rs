//! One moment of the store: a read transaction on the file, and the overlay taken before it.

use crate::api::Revision;
use crate::storage::Key;
use crate::storage::seq::Seq;
use crate::storage::sqlite::fault::Stop;
use crate::storage::sqlite::view::{Overlay, Pending};
use bytes::Bytes;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

impl FromSql for Seq {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self::from_sql)
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = std::str::from_utf8(value.as_blob()?).map_err(FromSqlError::other)?;
        Ok(Self::from(text))
    }
}

/// A revision as SQLite holds it.
pub(super) fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision.0).expect("revisions stay below 2^56")
}

pub(super) fn revision_from_sql(value: i64) -> Revision {
    Revision(value.unsigned_abs())
}

/// The CRC-32 of a key and its value. SQLite finds damage to the structure of the file, this finds
/// damage to what we have put there, and rows taken for those of another key.
pub(super) fn checksum(key: &Key, value: Option<&[u8]>) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(key.as_str().as_bytes());
    sum.update(value.unwrap_or_default());
    sum.finalize()
}

/// The value in a row of the log, whose columns begin with `seq, sum, value`. `None`: a deletion.
pub(super) fn value_in(row: &Row<'_>, key: &Key) -> Result<Option<Bytes>, Stop> {
    let value = match row.get_ref(2)? {
        ValueRef::Null => None,
        value => Some(value.as_blob().map_err(rusqlite::Error::from)?),
    };
    if row.get::<_, u32>(1)? != checksum(key, value) {
        return Err(Stop::Altered(row.get(0)?));
    }
    Ok(value.map(Bytes::copy_from_slice))
}

/// The newest row of the log. There always is one after the first write: the newest is never swept.
pub(super) fn newest_row(connection: &Connection) -> rusqlite::Result<Seq> {
    let mut statement = connection.prepare_cached("SELECT max(seq) FROM log")?;
    let newest: Option<Seq> = statement.query_row([], |row| row.get(0))?;
    Ok(newest.unwrap_or(Seq::from_sql(0)))
}

/// The value that a row gave its key: `None` for a deletion, and where the row is not there any
/// more, since only rows that nobody may ask for are removed.
pub(super) fn value_of(
    connection: &Connection,
    key: &Key,
    seq: Seq,
) -> Result<Option<Bytes>, Stop> {
    let mut statement =
        connection.prepare_cached("SELECT seq, sum, value FROM log WHERE seq = ?1")?;
    let mut rows = statement.query([seq.to_sql()])?;
    match rows.next()? {
        Some(row) => value_in(row, key),
        None => Ok(None),
    }
}

/// The first bytes that no key with this prefix has, for `key < ?`.
pub(super) fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // Keys are UTF-8, in which no byte is 0xff.
        Some(last) => *last += 1,
        None => end.push(0xff),
    }
    end
}

/// Where the value of a key at some revision is.
#[derive(Debug)]
pub(super) enum Place {
    /// In this row of the log.
    Row(Seq),
    /// Not on disk yet.
    Pending(Seq, Bytes),
}

/// The newest change of a key that the file knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub seq: Seq,
    pub deleted: bool,
}

#[derive(Debug)]
pub(super) struct Snapshot<'c> {
    pub transaction: Transaction<'c>,
    /// The revision that this shows.
    pub revision: Revision,
    overlay: Overlay,
    /// Whether the file is as old as the overlay.
    overlaid: bool,
}

impl<'c> Snapshot<'c> {
    /// Takes a snapshot of the file. `overlay` has been taken before.
    pub(super) fn take(connection: &'c Connection, overlay: Overlay) -> Result<Self, Stop> {
        let transaction = connection.unchecked_transaction()?;
        let newest = newest_row(&transaction)?;
        let overlaid = newest == overlay.base;
        let revision = if overlaid { overlay.revision } else { newest.revision() };
        Ok(Self { transaction, revision, overlay, overlaid })
    }

    /// The coalesced values that this snapshot has beside the file.
    pub(super) fn pending(&self) -> impl Iterator<Item = (&Key, &Pending)> {
        self.overlay.pending.iter().filter(|_| self.overlaid)
    }

    fn pending_of(&self, key: &Key) -> Option<&Pending> {
        self.overlay.pending.get(key).filter(|_| self.overlaid)
    }

    /// Refuses a revision of which rows may have been removed when this snapshot was taken.
    pub(super) fn check_kept(&self, requested: Revision) -> Result<(), Stop> {
        let mut statement = self.transaction.prepare_cached("SELECT floor FROM meta")?;
        let swept = revision_from_sql(statement.query_row([], |row| row.get(0))?);
        let oldest = self.overlay.floor.max(swept);
        if requested < oldest { Err(Stop::Compacted { requested, oldest }) } else { Ok(()) }
    }

    /// Where the present value of a key is, if it has one.
    pub(super) fn place(&self, key: &Key, newest: Newest) -> Option<Place> {
        match self.pending_of(key) {
            Some(pending) => Some(Place::Pending(pending.seq, pending.value.clone())),
            None => (!newest.deleted).then_some(Place::Row(newest.seq)),
        }
    }

    /// Where the value that a key had at the revision `at` is, if it had one.
    pub(super) fn place_at(
        &self,
        key: &Key,
        newest: Newest,
        at: Revision,
    ) -> Result<Option<Place>, Stop> {
        if let Some(pending) = self.pending_of(key) {
            if pending.seq.revision() <= at {
                return Ok(self.place(key, newest));
            }
            check_not_left_out(Some(pending.since), pending.seq, at)?;
        }
        let mut row = newest;
        while row.seq.revision() > at {
            match self.replaced_by(row.seq, at)? {
                Some(older) => row = older,
                None => return Ok(None),
            }
        }
        Ok((!row.deleted).then_some(Place::Row(row.seq)))
    }

    /// The change before the one at `seq`, which is after `at`.
    fn replaced_by(&self, seq: Seq, at: Revision) -> Result<Option<Newest>, Stop> {
        let sql = "SELECT newer.since, older.seq, older.value IS NULL FROM log AS newer
                   LEFT JOIN log AS older ON older.seq = newer.previous WHERE newer.seq = ?1";
        let mut statement = self.transaction.prepare_cached(sql)?;
        let found = statement.query_row([seq.to_sql()], |row| {
            let since = row.get::<_, Option<i64>>(0)?.map(revision_from_sql);
            let older: Option<Seq> = row.get(1)?;
            Ok((since, older, row.get(2)?))
        });
        let (since, older, deleted) = found.optional()?.ok_or(Stop::Missing(seq))?;
        check_not_left_out(since, seq, at)?;
        Ok(older.map(|seq| Newest { seq, deleted }))
    }
}

/// Refuses `at` where the change that was the newest of its key at that revision has been forgotten,
/// because only the last of several coalesced ones was kept.
pub(super) fn check_not_left_out(
    since: Option<Revision>,
    kept: Seq,
    at: Revision,
) -> Result<(), Stop> {
    match since {
        Some(since) if since <= at && at < kept.revision() => {
            Err(Stop::Compacted { requested: at, oldest: kept.revision() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_after_all_its_keys_and_before_all_others() {
        for (prefix, inside, outside) in [
            ("/core/pods/", "/core/pods/\u{10ffff}", "/core/pods0"),
            ("", "\u{10ffff}", ""),
            ("é", "é\u{10ffff}", "ê"),
        ] {
            let end = end_of(prefix);
            assert!(inside.as_bytes() < end.as_slice(), "{inside}");
            assert!(outside.is_empty() || outside.as_bytes() >= end.as_slice(), "{outside}");
        }
    }
}
