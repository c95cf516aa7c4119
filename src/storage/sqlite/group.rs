//! Carries out a group of commits: what the file says about their keys, the plan, and the rows.

use crate::api::Revision;
use crate::storage::hub::Announced;
use crate::storage::seq::Seq;
use crate::storage::sqlite::Shared;
use crate::storage::sqlite::fault::Stop;
use crate::storage::sqlite::history::announced;
use crate::storage::sqlite::plan::{Known, Plan, Refusal, Write, plan};
use crate::storage::sqlite::retention::Replaced;
use crate::storage::sqlite::snapshot::{checksum, to_sql, value_of};
use crate::storage::sqlite::view::Pending;
use crate::storage::{Commit, CommitError, Entry, Key, Op};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use std::collections::HashMap;

/// Coalesced values are written when there would be more bytes of them than this, keys included, even
/// though nothing durable is.
const PENDING_BYTES_MAX: usize = 2 * 1_048_576;

/// How many revisions are reserved on disk at once. A crash skips at most so many, and a store that
/// is only sent heartbeats writes once in half so many.
pub(super) const RESERVED_REVISIONS: u64 = 65_536;

/// What became of a group.
pub(super) struct Done {
    pub outcomes: Vec<Result<Revision, CommitError>>,
    pub events: Vec<Announced>,
    /// The newest revision after it.
    pub revision: Revision,
    /// The rows that it has replaced on disk.
    pub replaced: Replaced,
    pub effect: Effect,
}

/// What a group has changed for readers.
pub(super) enum Effect {
    /// It is on disk, with everything that was pending. `newest` is the newest row.
    Written { newest: Seq, reserved: Revision },
    /// These values wait for the disk now.
    Pending(Vec<(Key, Pending)>),
}

/// Decides `commits` and writes what has to be. After an error nothing has happened.
pub(super) fn carry_out(
    connection: &Connection,
    shared: &Shared,
    reserved: Revision,
    commits: &[Commit],
) -> Result<Done, Stop> {
    let pending = pending_of(shared, commits);
    let transaction = connection.unchecked_transaction()?;
    let known = gather(&transaction, commits, &pending)?;
    let plan = plan(commits, known, shared.view.revision());
    let values = Values { transaction: &transaction, plan: &plan, pending: &pending };
    let outcomes = values.outcomes()?;
    let events = values.events()?;
    let revision = plan.revision;
    if !plan.durable && revision <= reserved && fits(shared, &plan) {
        let effect = Effect::Pending(pending_writes(plan.writes, &events));
        let replaced = Replaced::default();
        return Ok(Done { outcomes, events, revision, replaced, effect });
    }
    let mut replaced = flush(&transaction, shared)?;
    for (write, announced) in plan.writes.iter().zip(&events) {
        insert(&transaction, write, None)?;
        replaced.add(replaced_by(write, announced));
    }
    let reserved = reserve(&transaction, reserved, revision)?;
    transaction.commit()?;
    let newest = plan.writes.last().expect("only a group with writes is written").seq;
    let effect = Effect::Written { newest, reserved };
    Ok(Done { outcomes, events, revision, replaced, effect })
}

/// The pending values of the keys of a group.
fn pending_of(shared: &Shared, commits: &[Commit]) -> HashMap<Key, Pending> {
    let view = shared.view.lock();
    if view.pending.is_empty() {
        return HashMap::new();
    }
    let keys = commits.iter().flat_map(|commit| &commit.ops).map(Op::key);
    keys.filter_map(|key| Some((key.clone(), view.pending.get(key)?.clone()))).collect()
}

fn gather(
    transaction: &Transaction<'_>,
    commits: &[Commit],
    pending: &HashMap<Key, Pending>,
) -> rusqlite::Result<HashMap<Key, Known>> {
    let sql = "SELECT seq, NOT deleted FROM current WHERE key = ?1";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut known = HashMap::new();
    for key in commits.iter().flat_map(|commit| &commit.ops).map(Op::key) {
        if known.contains_key(key) {
            continue;
        }
        let newest = match pending.get(key) {
            Some(pending) => Some(Known { seq: pending.seq, live: true }),
            None => statement
                .query_row([key.as_str().as_bytes()], |row| {
                    Ok(Known { seq: row.get(0)?, live: row.get(1)? })
                })
                .optional()?,
        };
        if let Some(newest) = newest {
            known.insert(key.clone(), newest);
        }
    }
    Ok(known)
}

/// Where the values that a plan refers to are: in the plan, pending, or in the file.
struct Values<'a> {
    transaction: &'a Transaction<'a>,
    plan: &'a Plan,
    pending: &'a HashMap<Key, Pending>,
}

impl Values<'_> {
    fn value(&self, key: &Key, seq: Seq) -> Result<Bytes, Stop> {
        let writes = &self.plan.writes;
        if let Ok(index) = writes.binary_search_by_key(&seq, |write| write.seq) {
            return writes[index].value.clone().ok_or(Stop::Missing(seq));
        }
        if let Some(pending) = self.pending.get(key).filter(|pending| pending.seq == seq) {
            return Ok(pending.value.clone());
        }
        value_of(self.transaction, key, seq)?.ok_or(Stop::Missing(seq))
    }

    fn outcomes(&self) -> Result<Vec<Result<Revision, CommitError>>, Stop> {
        let outcomes = self.plan.outcomes.iter();
        outcomes
            .map(|outcome| match outcome {
                Ok(revision) => Ok(Ok(*revision)),
                Err(refusal) => Ok(Err(self.error(refusal)?)),
            })
            .collect()
    }

    fn error(&self, refusal: &Refusal) -> Result<CommitError, Stop> {
        let (key, current) = match refusal {
            Refusal::Exists { key } => return Ok(CommitError::Exists { key: key.clone() }),
            Refusal::Conflict { key, current: None } => (key.clone(), None),
            Refusal::Conflict { key, current: Some(seq) } => {
                let (value, revision) = (self.value(key, *seq)?, seq.revision());
                (key.clone(), Some(Entry { key: key.clone(), value, revision }))
            }
        };
        Ok(CommitError::Conflict { key, current })
    }

    /// One for each write, in order.
    fn events(&self) -> Result<Vec<Announced>, Stop> {
        let event = |write: &Write| {
            let previous = match write.previous {
                Some(Known { seq, live: true }) => Some(self.value(&write.key, seq)?),
                _ => None,
            };
            Ok(announced(write.seq, write.key.clone(), write.value.clone(), previous))
        };
        self.plan.writes.iter().map(event).collect()
    }
}

/// Whether the values of a plan may wait beside those that wait already.
fn fits(shared: &Shared, plan: &Plan) -> bool {
    let bytes =
        |write: &Write| write.key.as_str().len() + write.value.as_ref().map_or(0, Bytes::len);
    let more: usize = plan.writes.iter().map(bytes).sum();
    more == 0 || shared.view.lock().pending_bytes + more <= PENDING_BYTES_MAX
}

fn pending_writes(writes: Vec<Write>, events: &[Announced]) -> Vec<(Key, Pending)> {
    let pending = |(write, announced): (Write, &Announced)| {
        let base = write.previous.expect("only updates are coalesced").seq;
        let value = write.value.expect("only updates are coalesced");
        let base_bytes = announced.event.previous.as_ref().map_or(0, Bytes::len);
        let since = write.seq.revision();
        (write.key, Pending { seq: write.seq, since, value, base, base_bytes })
    };
    writes.into_iter().zip(events).map(pending).collect()
}

/// Writes everything that is pending. Returns what that has replaced.
fn flush(transaction: &Transaction<'_>, shared: &Shared) -> rusqlite::Result<Replaced> {
    let mut pending: Vec<_> = {
        let view = shared.view.lock();
        view.pending.iter().map(|(key, pending)| (key.clone(), pending.clone())).collect()
    };
    pending.sort_unstable_by_key(|(_, pending)| pending.seq);
    let mut replaced = Replaced::default();
    for (key, pending) in pending {
        let previous = Some(Known { seq: pending.base, live: true });
        let left_out = pending.since < pending.seq.revision();
        let write = Write { seq: pending.seq, key, value: Some(pending.value), previous };
        insert(transaction, &write, left_out.then_some(pending.since))?;
        replaced.add(Replaced { rows: 1, bytes: pending.base_bytes as u64 });
    }
    Ok(replaced)
}

fn insert(
    transaction: &Transaction<'_>,
    write: &Write,
    since: Option<Revision>,
) -> rusqlite::Result<()> {
    let (seq, key) = (write.seq.to_sql(), write.key.as_str().as_bytes());
    let previous = write.previous.map(|previous| previous.seq.to_sql());
    let value = write.value.as_deref();
    let sum = checksum(&write.key, value);
    let sql = "INSERT INTO log (seq, key, previous, since, sum, value)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut statement = transaction.prepare_cached(sql)?;
    statement.execute((seq, key, previous, since.map(to_sql), sum, value))?;
    let sql = match write.previous {
        None => "INSERT INTO current (seq, deleted, key) VALUES (?1, ?2, ?3)",
        Some(_) => "UPDATE current SET seq = ?1, deleted = ?2 WHERE key = ?3",
    };
    let mut statement = transaction.prepare_cached(sql)?;
    statement.execute((seq, write.value.is_none(), key))?;
    Ok(())
}

/// The rows that nobody needs any more once this write is in the past.
fn replaced_by(write: &Write, announced: &Announced) -> Replaced {
    let replaced = u64::from(write.previous.is_some_and(|previous| previous.live));
    let deletion = u64::from(write.value.is_none());
    let bytes = announced.event.previous.as_ref().map_or(0, Bytes::len) as u64;
    Replaced { rows: replaced + deletion, bytes }
}

/// Reserves more revisions when half of them are used.
fn reserve(
    transaction: &Transaction<'_>,
    reserved: Revision,
    used: Revision,
) -> rusqlite::Result<Revision> {
    if used.0 + RESERVED_REVISIONS / 2 <= reserved.0 {
        return Ok(reserved);
    }
    let reserved = Revision(used.0 + RESERVED_REVISIONS);
    let sql = "UPDATE meta SET reserved = ?1, clean = 0";
    transaction.prepare_cached(sql)?.execute([to_sql(reserved)])?;
    Ok(reserved)
}

/// Writes what is pending, and takes back the reserved revisions that were not used.
pub(super) fn close(
    connection: &Connection,
    shared: &Shared,
    replaced: Replaced,
) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let flushed = flush(&transaction, shared)?;
    let rows = i64::try_from(replaced.rows + flushed.rows).unwrap_or(i64::MAX);
    let bytes = i64::try_from(replaced.bytes + flushed.bytes).unwrap_or(i64::MAX);
    transaction.execute(
        "UPDATE meta SET reserved = ?1, clean = 1, replaced_rows = ?2, replaced_bytes = ?3",
        (to_sql(shared.view.revision()), rows, bytes),
    )?;
    transaction.commit()
}

/// Moves everything from the write-ahead log into the main file, and empties the log. Fails where a
/// reader is in the way.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    // That it was blocked is no error to SQLite, but a result.
    let blocked =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
    if blocked {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_reader_in_the_way_of_a_checkpoint_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let open = || {
            let connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            connection.pragma_update(None, "journal_mode", "wal").unwrap();
            connection
        };
        let (writer, reader) = (open(), open());
        writer.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
        let transaction = reader.unchecked_transaction().unwrap();
        transaction.query_row("SELECT x FROM t", [], |_row| Ok(())).unwrap();
        writer.execute_batch("INSERT INTO t VALUES (2);").unwrap();
        checkpoint(&writer).unwrap_err();
        drop(transaction);
        checkpoint(&writer).unwrap();
    }
}
