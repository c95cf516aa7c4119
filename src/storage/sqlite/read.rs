//! Reads one key, or a page of keys in order, now or at an older revision.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::sqlite::fault::Stop;
use crate::storage::sqlite::listing::{FIRST_ENTRIES, Found};
use crate::storage::sqlite::snapshot::{Newest, Place, Snapshot, end_of, value_in, value_of};
use crate::storage::{Entry, Key, ListRequest, Lookup, Page};
use bytes::Bytes;
use rusqlite::OptionalExtension as _;

/// A list of which a part has been read.
#[derive(Debug)]
pub(super) struct Begun {
    pub first: Page,
    pub rest: Found,
}

/// Reads one key.
pub(super) fn get(snapshot: &Snapshot<'_>, key: &Key) -> Result<Lookup, Stop> {
    let sql = "SELECT seq, deleted FROM current WHERE key = ?1";
    let mut statement = snapshot.transaction.prepare_cached(sql)?;
    let newest = statement
        .query_row([key.as_str().as_bytes()], |row| {
            Ok(Newest { seq: row.get(0)?, deleted: row.get(1)? })
        })
        .optional()?;
    let place = newest.and_then(|newest| snapshot.place(key, newest));
    let found = place.map(|place| (key.clone(), place)).into_iter().collect();
    let entry = fetch(snapshot, found)?.pop();
    Ok(Lookup { entry, revision: snapshot.revision })
}

/// Reads a page.
pub(super) fn list(snapshot: &Snapshot<'_>, request: &ListRequest) -> Result<Page, Stop> {
    if let Some(at) = request.at {
        snapshot.check_kept(at)?;
        if at > snapshot.revision {
            return Err(Stop::Future { requested: at, newest: snapshot.revision });
        }
    }
    let (found, remaining) = find(snapshot, request)?;
    let entries = fetch(snapshot, found)?;
    Ok(Page { entries, revision: request.at.unwrap_or(snapshot.revision), remaining })
}

/// Finds what is asked for, and reads the first values of it.
pub(super) fn begin(snapshot: &Snapshot<'_>, request: &ListRequest) -> Result<Begun, Stop> {
    let (mut found, _none_beyond) = find(snapshot, request)?;
    let rest = found.split_off(found.len().min(FIRST_ENTRIES));
    let first =
        Page { entries: fetch(snapshot, found)?, revision: snapshot.revision, remaining: 0 };
    Ok(Begun { first, rest })
}

/// Reads the values of a list that was opened at `revision`.
pub(super) fn values(
    snapshot: &Snapshot<'_>,
    found: Found,
    revision: Revision,
) -> Result<Vec<Entry>, Stop> {
    snapshot.check_kept(revision)?;
    fetch(snapshot, found)
}

/// Finds where the values of a page are, and counts what is beyond it.
fn find(snapshot: &Snapshot<'_>, request: &ListRequest) -> Result<(Found, u64), Stop> {
    // A key that is deleted now may have had a value at an older revision.
    let sql = match request.at {
        None => {
            "SELECT key, seq, deleted FROM current WHERE key >= ?1 AND key < ?2 AND NOT deleted
             ORDER BY key"
        }
        Some(_) => {
            "SELECT key, seq, deleted FROM current WHERE key >= ?1 AND key < ?2 ORDER BY key"
        }
    };
    let mut statement = snapshot.transaction.prepare_cached(sql)?;
    let end = end_of(&request.prefix);
    let mut rows = statement.query((first_key(request), &end))?;
    let limit = request.limit.map_or(usize::MAX, std::num::NonZeroUsize::get);
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: Key = row.get(0)?;
        let newest = Newest { seq: row.get(1)?, deleted: row.get(2)? };
        let Some(place) = place(snapshot, &key, newest, request.at)? else {
            continue;
        };
        if found.len() < limit {
            found.push((key, place));
            continue;
        }
        drop(rows);
        let remaining = count(snapshot, &key, &end, request.at)?;
        return Ok((found, remaining));
    }
    Ok((found, 0))
}

fn place(
    snapshot: &Snapshot<'_>,
    key: &Key,
    newest: Newest,
    at: Option<Revision>,
) -> Result<Option<Place>, Stop> {
    match at {
        None => Ok(snapshot.place(key, newest)),
        Some(at) => snapshot.place_at(key, newest, at),
    }
}

/// Counts the keys that have a value, from `first` up to `end`. Which keys have a value is never
/// pending, so the file alone can tell.
fn count(
    snapshot: &Snapshot<'_>,
    first: &Key,
    end: &[u8],
    at: Option<Revision>,
) -> Result<u64, Stop> {
    let range = (first.as_str().as_bytes(), end);
    let Some(at) = at else {
        let sql = "SELECT count(*) FROM current WHERE key >= ?1 AND key < ?2 AND NOT deleted";
        let mut statement = snapshot.transaction.prepare_cached(sql)?;
        let count: i64 = statement.query_row(range, |row| row.get(0))?;
        return Ok(count.unsigned_abs());
    };
    let sql = "SELECT key, seq, deleted FROM current WHERE key >= ?1 AND key < ?2";
    let mut statement = snapshot.transaction.prepare_cached(sql)?;
    let mut rows = statement.query(range)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let newest = Newest { seq: row.get(1)?, deleted: row.get(2)? };
        let had_value = match newest.seq.revision() <= at {
            true => !newest.deleted,
            false => snapshot.place_at(&row.get(0)?, newest, at)?.is_some(),
        };
        count += u64::from(had_value);
    }
    Ok(count)
}

/// The smallest key, in bytes, that the page may begin with.
fn first_key(request: &ListRequest) -> Vec<u8> {
    let prefix = request.prefix.as_bytes();
    match &request.after {
        Some(after) if after.as_str().as_bytes() >= prefix => {
            [after.as_str().as_bytes(), b"\0"].concat()
        }
        _ => prefix.to_vec(),
    }
}

/// How many rows that are not wanted are stepped over, rather than seek the next one that is.
const ROWS_SKIPPED_MAX: usize = 4;

/// Gets the values. They are read in the order of the log, so that every page of the file is read
/// once however the keys are scattered over it, and returned in the order of the keys.
fn fetch(snapshot: &Snapshot<'_>, found: Found) -> Result<Vec<Entry>, Stop> {
    let mut wanted: Vec<_> = found
        .iter()
        .enumerate()
        .filter_map(|(index, (_, place))| match place {
            Place::Row(seq) => Some((*seq, index)),
            Place::Pending(..) => None,
        })
        .collect();
    wanted.sort_unstable();
    let mut values = vec![None; found.len()];
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        rest = fetch_run(snapshot, &found, rest, &mut values)?;
    }
    let entry = |((key, place), value): ((Key, Place), Option<Bytes>)| match place {
        Place::Row(seq) => {
            let value = value.expect("every row has been fetched above");
            Entry { key, value, revision: seq.revision() }
        }
        Place::Pending(seq, value) => Entry { key, value, revision: seq.revision() },
    };
    Ok(found.into_iter().zip(values).map(entry).collect())
}

/// Gets the values of the rows in `wanted`, up to the first gap in the log. Each comes with its index
/// in `found` and `values`. Returns the rest.
fn fetch_run<'w>(
    snapshot: &Snapshot<'_>,
    found: &[(Key, Place)],
    wanted: &'w [(Seq, usize)],
    values: &mut [Option<Bytes>],
) -> Result<&'w [(Seq, usize)], Stop> {
    let [(first, _), .., (last, _)] = wanted else {
        for (seq, index) in wanted {
            let value = value_of(&snapshot.transaction, &found[*index].0, *seq)?;
            values[*index] = Some(value.ok_or(Stop::Missing(*seq))?);
        }
        return Ok(&[]);
    };
    let sql = "SELECT seq, sum, value FROM log WHERE seq >= ?1 AND seq <= ?2 ORDER BY seq";
    let mut statement = snapshot.transaction.prepare_cached(sql)?;
    let mut rows = statement.query((first.to_sql(), last.to_sql()))?;
    let mut rest = wanted;
    let mut skipped = 0;
    while let Some(((seq, index), others)) = rest.split_first() {
        let row = rows.next()?.ok_or(Stop::Missing(*seq))?;
        let at: Seq = row.get(0)?;
        if at < *seq {
            skipped += 1;
            if skipped > ROWS_SKIPPED_MAX {
                break;
            }
            continue;
        }
        if at > *seq {
            return Err(Stop::Missing(*seq));
        }
        let value = value_in(row, &found[*index].0)?;
        values[*index] = Some(value.ok_or(Stop::Missing(*seq))?);
        rest = others;
        skipped = 0;
    }
    Ok(rest)
}
