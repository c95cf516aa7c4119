//! The place of one change in the history: its revision, and which operation of the commit it was.

use crate::api::Revision;
use crate::storage::COMMIT_OPS_MAX;

/// How many bits of a [`Seq`] say which operation of its commit a change was.
const INDEX_BITS: u32 = 7;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

const _: () = assert!(COMMIT_OPS_MAX == 1 << INDEX_BITS, "every operation needs an index");

/// Orders all changes ever made; two changes of one commit share the revision and differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seq(u64);

impl Seq {
    /// The change made by the operation at `index` of the commit that got `revision`.
    pub(crate) fn new(revision: Revision, index: usize) -> Self {
        debug_assert!(index < COMMIT_OPS_MAX);
        Self(revision.0 << INDEX_BITS | index as u64)
    }

    /// At or after every change of `revision`, before those of the next.
    pub(crate) fn end_of(revision: Revision) -> Self {
        Self(revision.0 << INDEX_BITS | INDEX_MASK)
    }

    pub(crate) fn revision(self) -> Revision {
        Revision(self.0 >> INDEX_BITS)
    }

    /// The newest revision of which a reader has seen everything that is at or before this place.
    pub(crate) fn complete_through(self) -> Revision {
        let whole = self.0 & INDEX_MASK == INDEX_MASK;
        Revision(self.revision().0.saturating_sub(u64::from(!whole)))
    }

    /// As SQLite holds it. Revisions would have to pass 2^56 to overflow.
    pub(crate) fn to_sql(self) -> i64 {
        i64::try_from(self.0).expect("revisions stay below 2^56")
    }

    pub(crate) fn from_sql(value: i64) -> Self {
        Self(value.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_ordered_by_revision_and_then_by_operation() {
        let places = [
            Seq::end_of(Revision(6)),
            Seq::new(Revision(7), 0),
            Seq::new(Revision(7), 127),
            Seq::new(Revision(8), 0),
        ];
        assert!(places.is_sorted());
        assert_eq!(places.map(|seq| seq.revision().0), [6, 7, 7, 8]);
        assert_eq!(places.map(|seq| seq.complete_through().0), [6, 6, 7, 7]);
        assert_eq!(places.map(|seq| Seq::from_sql(seq.to_sql())), places);
    }
}
