//! Reads events out of the log, for watches that begin in the past.

use crate::api::Revision;
use crate::storage::hub::Announced;
use crate::storage::seq::Seq;
use crate::storage::sqlite::fault::Stop;
use crate::storage::sqlite::snapshot::{
    Snapshot, check_not_left_out, end_of, revision_from_sql, value_in, value_of,
};
use crate::storage::{Event, Key};
use bytes::Bytes;
use rusqlite::Row;
use std::sync::Arc;

/// The most events in one [`Chunk`], and the most bytes of values in it, unless it is one event. A
/// slow watch holds one chunk.
const CHUNK_EVENTS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// A watch that was live, fell behind, and is then more revisions behind than this, is cut off.
const LAG_REVISIONS_MAX: u64 = 65_536;

/// Which events are wanted.
#[derive(Clone, Debug)]
pub(super) struct HistoryRequest {
    pub prefix: String,
    /// After this place.
    pub after: Seq,
    /// The revision at which the reader knew all keys exactly. Of coalesced changes that began at or
    /// before it, it must get every one, or it could not follow.
    pub known: Revision,
    /// Whether the watch was live before.
    pub fell_behind: bool,
}

/// Some events in order.
#[derive(Debug)]
pub(super) struct Chunk {
    pub events: Vec<Announced>,
    /// These are all events through this revision, the newest when the log was read. `None` when
    /// there are more.
    pub complete: Option<Revision>,
}

/// Reads the next events after `request.after`.
pub(super) fn read(snapshot: &Snapshot<'_>, request: &HistoryRequest) -> Result<Chunk, Stop> {
    check_reachable(snapshot, request)?;
    let sql = "SELECT seq, sum, value, key, since, previous FROM log
               WHERE seq > ?1 AND key >= ?2 AND key < ?3 ORDER BY seq";
    let mut statement = snapshot.transaction.prepare_cached(sql)?;
    let prefix = request.prefix.as_bytes();
    let end = end_of(&request.prefix);
    let mut rows = statement.query((request.after.to_sql(), prefix, end))?;
    let mut events = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if events.len() == CHUNK_EVENTS_MAX || bytes >= CHUNK_BYTES_MAX {
            return Ok(Chunk { events, complete: None });
        }
        let announced = event(snapshot, row, request.known)?;
        bytes += value_bytes(&announced.event);
        events.push(announced);
    }
    events.extend(pending(snapshot, request)?);
    Ok(Chunk { events, complete: Some(snapshot.revision) })
}

fn check_reachable(snapshot: &Snapshot<'_>, request: &HistoryRequest) -> Result<(), Stop> {
    let from = request.after.complete_through();
    snapshot.check_kept(from)?;
    let behind = snapshot.revision.0.saturating_sub(from.0);
    if request.fell_behind && behind > LAG_REVISIONS_MAX {
        let backlog_max = usize::try_from(LAG_REVISIONS_MAX).unwrap_or(usize::MAX);
        return Err(Stop::Lagging { backlog_max });
    }
    Ok(())
}

fn event(snapshot: &Snapshot<'_>, row: &Row<'_>, known: Revision) -> Result<Announced, Stop> {
    let seq: Seq = row.get(0)?;
    let since = row.get::<_, Option<i64>>(4)?.map(revision_from_sql);
    check_not_left_out(since, seq, known)?;
    let key = row.get(3)?;
    let previous = match row.get(5)? {
        Some(previous) => value_of(&snapshot.transaction, &key, previous)?,
        None => None,
    };
    let value = value_in(row, &key)?;
    Ok(announced(seq, key, value, previous))
}

/// The changes that are announced and not on disk. They are after everything that is.
fn pending(snapshot: &Snapshot<'_>, request: &HistoryRequest) -> Result<Vec<Announced>, Stop> {
    let mut events = Vec::new();
    for (key, pending) in snapshot.pending().filter(|(_, pending)| pending.seq > request.after) {
        check_not_left_out(Some(pending.since), pending.seq, request.known)?;
        let previous = value_of(&snapshot.transaction, key, pending.base)?;
        let value = Some(pending.value.clone());
        events.push(announced(pending.seq, key.clone(), value, previous));
    }
    events.sort_unstable_by_key(|announced| announced.seq);
    Ok(events)
}

pub(super) fn announced(
    seq: Seq,
    key: Key,
    value: Option<Bytes>,
    previous: Option<Bytes>,
) -> Announced {
    let event = Event { key, revision: seq.revision(), value, previous };
    Announced { seq, event: Arc::new(event) }
}

fn value_bytes(event: &Event) -> usize {
    [&event.value, &event.previous].into_iter().flatten().map(Bytes::len).sum()
}
