//! Removes what nobody may ask for any more, a bounded number of rows at a time, and gives free pages
//! back to the file system.
//!
//! A row is removed when the change that replaced it is at or before the floor. A deletion is removed,
//! and its key with it, when it is at or before the floor itself.

use crate::api::Revision;
use crate::storage::seq::Seq;
use crate::storage::sqlite::snapshot::{newest_row, to_sql};
use rusqlite::{Connection, Transaction};

/// The most rows that one step removes, and the most that it looks at: a step holds the writer for a
/// few milliseconds.
const STEP_REMOVED_MAX: usize = 256;
const STEP_SEEN_MAX: usize = 4_096;

/// The most pages that one step moves to make the file smaller.
const STEP_PAGES_MAX: u32 = 128;

/// Free pages that stay in the file, as a fraction of it and at least: the next writes use them.
const FREE_PAGES_FRACTION: u32 = 8;
const FREE_PAGES_MIN: u32 = 256;

/// A change in the log that has replaced something.
struct Replacer {
    seq: Seq,
    key: Vec<u8>,
    previous: Option<Seq>,
    deletion: bool,
}

/// Removes rows that changes after `swept` and through `floor` have replaced. Returns through which
/// change that has been done, or `None` when there is nothing left to do.
pub(super) fn step(
    transaction: &Transaction<'_>,
    swept: Seq,
    floor: Revision,
) -> rusqlite::Result<Option<Seq>> {
    let Some((replacers, reached)) = next_replacers(transaction, swept, floor)? else {
        return Ok(None);
    };
    let mut remove = transaction.prepare_cached("DELETE FROM log WHERE seq = ?1")?;
    let mut forget =
        transaction.prepare_cached("DELETE FROM current WHERE key = ?1 AND seq = ?2")?;
    for replacer in replacers {
        if let Some(previous) = replacer.previous {
            remove.execute([previous.to_sql()])?;
        }
        if replacer.deletion {
            remove.execute([replacer.seq.to_sql()])?;
            forget.execute((replacer.key, replacer.seq.to_sql()))?;
        }
    }
    let mut record = transaction.prepare_cached("UPDATE meta SET swept = ?1")?;
    record.execute([reached.to_sql()])?;
    record_floor(transaction, floor)?;
    Ok(Some(reached))
}

/// Notes which revisions cannot be read any more.
pub(super) fn record_floor(transaction: &Transaction<'_>, floor: Revision) -> rusqlite::Result<()> {
    let floor = to_sql(floor);
    transaction.execute("UPDATE meta SET floor = ?1 WHERE floor < ?1", [floor])?;
    transaction.execute("DELETE FROM lost WHERE last < ?1", [floor])?;
    Ok(())
}

/// The next changes that replaced something, and through where these are all of them.
fn next_replacers(
    transaction: &Transaction<'_>,
    swept: Seq,
    floor: Revision,
) -> rusqlite::Result<Option<(Vec<Replacer>, Seq)>> {
    // The newest row stays even when it is a deletion: it says how far the log goes.
    let newest = newest_row(transaction)?;
    let sql = "SELECT seq, key, previous, value IS NULL FROM log
               WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query((swept.to_sql(), Seq::end_of(floor).to_sql()))?;
    let mut replacers = Vec::new();
    let mut reached = swept;
    let mut seen = 0;
    while let Some(row) = rows.next()? {
        let (seq, deletion) = (row.get(0)?, row.get(3)?);
        let last = deletion && seq == newest;
        if last || replacers.len() == STEP_REMOVED_MAX || seen == STEP_SEEN_MAX {
            break;
        }
        let previous: Option<Seq> = row.get(2)?;
        if deletion || previous.is_some() {
            replacers.push(Replacer { seq, key: row.get(1)?, previous, deletion });
        }
        reached = seq;
        seen += 1;
    }
    Ok((seen > 0).then_some((replacers, reached)))
}

/// Makes the file a little smaller where it has many free pages. Returns whether there is more to do.
pub(super) fn shrink(connection: &Connection) -> rusqlite::Result<bool> {
    let pages = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let surplus = surplus_pages(pages("freelist_count")?, pages("page_count")?);
    if surplus == 0 {
        return Ok(false);
    }
    let step = surplus.min(STEP_PAGES_MAX);
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(surplus > step)
}

fn surplus_pages(free: u32, total: u32) -> u32 {
    let kept = FREE_PAGES_MIN.max(total / FREE_PAGES_FRACTION);
    free.saturating_sub(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_free_pages_stay_for_the_next_writes() {
        for (free, total, surplus) in
            [(0, 10, 0), (256, 300, 0), (300, 400, 44), (1_000, 8_000, 0), (1_001, 8_000, 1)]
        {
            assert_eq!(surplus_pages(free, total), surplus, "{free} of {total}");
        }
    }
}
