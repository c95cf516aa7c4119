//! What backups are called, which of them are kept, and where a restored store goes on.

use super::head::{Head, Trigger};
use jiff::Timestamp;

/// A restored store goes on at least so much later than the one that was saved, as etcd's does
/// (`etcdutl snapshot restore --bump-revision`, with the value that its documentation names).
pub(super) const REVISION_GAP: u64 = 1_000_000_000;

/// And so much later again for each second since. No store gives out so many: so two restores of one
/// backup do not meet, nor does a store that went on for long after it was saved.
pub(super) const REVISIONS_PER_SECOND_MAX: u64 = 100_000;

/// No more is added than this, whatever the clock says: revisions have to stay below 2^56.
const REVISION_RISE_MAX: u64 = 1 << 50;

/// So many bytes stay free beside a backup that is made: the server writes meanwhile.
pub(super) const SPARE_BYTES: u64 = 16 << 20;

const PREFIX: &str = "kinglet-";
const SUFFIX: &str = ".tar.zst";

/// Backups that somebody makes within a second are numbered; more than this are refused.
pub(super) const NUMBER_MAX: u32 = 99;

/// The name of a backup, as the `number`th of its second.
pub(super) fn file_name(node: &str, taken: Timestamp, number: u32) -> String {
    let time = taken.strftime("%Y%m%dT%H%M%SZ");
    match number {
        0 | 1 => format!("{PREFIX}{node}-{time}{SUFFIX}"),
        _ => format!("{PREFIX}{node}-{time}-{number}{SUFFIX}"),
    }
}

/// Whether a file of a directory is called as backups are.
pub(super) fn is_backup_name(name: &str) -> bool {
    name.len() > PREFIX.len() + SUFFIX.len() && name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Of which backups there are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// So many are kept of each server.
    pub keep: usize,
    /// Only those that the server has made by itself count and go.
    pub scheduled_only: bool,
}

/// The names of the backups that go, the oldest first. What cannot be read stays: nobody knows what
/// it is.
pub(super) fn surplus(all: &[(String, Head)], retention: Retention) -> Vec<String> {
    let mut counted: Vec<_> = all
        .iter()
        .filter(|(_, head)| !retention.scheduled_only || head.trigger == Trigger::Schedule)
        .collect();
    counted.sort_by_key(|(name, head)| (head.taken, name));
    let mut going = Vec::new();
    for (index, (name, head)) in counted.iter().enumerate() {
        let is_same = |other: &Head| (&other.cluster, &other.node) == (&head.cluster, &head.node);
        let newer = counted[index + 1..].iter().filter(|(_, other)| is_same(other)).count();
        if newer >= retention.keep {
            going.push(name.clone());
        }
    }
    going
}

/// When a backup was taken, when it is restored, and what may have been given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restoring {
    pub(super) taken: Timestamp,
    pub(super) now: Timestamp,
    /// Through which revision the store could give some out when it was saved.
    pub(super) saved: u64,
    /// The same of the store that is replaced, where that is known.
    pub(super) replaced: Option<u64>,
}

/// The revision after which a restored store goes on: beyond any that the lost one may have given
/// out, so that no revision ever means two things.
pub(super) fn go_on_after(restoring: Restoring) -> u64 {
    let Restoring { taken, now, saved, replaced } = restoring;
    let seconds = now.duration_since(taken).as_secs().max(0).unsigned_abs();
    let rise = seconds.saturating_mul(REVISIONS_PER_SECOND_MAX).saturating_add(REVISION_GAP);
    let by_time = saved.saturating_add(rise.min(REVISION_RISE_MAX));
    let by_store = replaced.map_or(0, |replaced| replaced.saturating_add(REVISION_GAP));
    by_time.max(by_store)
}

#[cfg(test)]
mod tests {
    use super::super::head::STORE;
    use super::super::head::tests::head;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn names_say_whose_and_when() {
        let taken = at("2026-11-22T18:01:02.5Z");
        assert_eq!(file_name("one", taken, 1), "kinglet-one-20261122T180102Z.tar.zst");
        assert_eq!(file_name("one", taken, 2), "kinglet-one-20261122T180102Z-2.tar.zst");
        assert!(is_backup_name(&file_name("one", taken, 3)));
        for other in [".kinglet-save.tar.zst", "kinglet-.tar.zst", "kinglet-a.tar", "a.tar.zst"] {
            assert!(!is_backup_name(other), "{other}");
        }
    }

    fn backups() -> Vec<(String, Head)> {
        let backup = |name: &str, day: u8, change: &dyn Fn(&mut Head)| {
            let mut head = head(&[STORE]);
            head.taken = at(&format!("2026-11-{day:02}T00:00:00Z"));
            head.trigger = Trigger::Schedule;
            change(&mut head);
            (name.to_owned(), head)
        };
        vec![
            backup("new", 9, &|_| {}),
            backup("old", 1, &|_| {}),
            backup("middle", 5, &|_| {}),
            backup("by hand", 2, &|head| head.trigger = Trigger::Command),
            backup("other node", 1, &|head| head.node = "two".to_owned()),
            backup("other cluster", 1, &|head| head.cluster = "d".to_owned()),
        ]
    }

    #[track_caller]
    fn check(keep: usize, scheduled_only: bool, expected: &[&str]) {
        assert_eq!(surplus(&backups(), Retention { keep, scheduled_only }), expected);
    }

    #[test]
    fn the_newest_of_each_server_stay() {
        check(9, true, &[]);
        check(3, true, &[]);
        check(2, true, &["old"]);
        check(1, true, &["old", "middle"]);
        check(0, true, &["old", "other cluster", "other node", "middle", "new"]);
    }

    #[test]
    fn what_was_made_by_hand_goes_by_hand() {
        check(3, false, &["old"]);
        check(2, false, &["old", "by hand"]);
    }

    #[track_caller]
    fn check_next(taken: &str, now: &str, replaced: Option<u64>, expected: u64) {
        let restoring = Restoring { taken: at(taken), now: at(now), saved: 5_000, replaced };
        assert_eq!(go_on_after(restoring), expected);
    }

    #[test]
    fn a_restored_store_goes_on_beyond_the_lost_one() {
        let (taken, day_after) = ("2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z");
        check_next(taken, taken, None, 1_000_005_000);
        check_next(taken, day_after, None, 9_640_005_000);
        check_next(taken, taken, Some(70_000), 1_000_070_000);
        check_next(taken, day_after, Some(70_000), 9_640_005_000);
        // A store that was restored itself is far ahead of what was saved.
        check_next(taken, day_after, Some(9_640_105_000), 10_640_105_000);
        // A clock that was set back does not take anything away.
        check_next(day_after, taken, None, 1_000_005_000);
        check_next("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", None, (1 << 50) + 5_000);
    }
}
