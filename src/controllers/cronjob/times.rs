//! Which of a schedule's times is to be acted on now, and when the next one comes.
//!
//! Follows upstream `mostRecentScheduleTime` and its callers (pkg/controller/cronjob/utils.go,
//! v1.35).

use crate::api::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Users are warned when more times than this were missed.
const MISSED_TIMES_MAX: i64 = 100;

/// What a schedule is counted from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// When the CronJob was made, or the time that was acted on last.
    pub(super) last: Timestamp,
    /// How much too late a job may still be made.
    pub(super) deadline: Option<SignedDuration>,
    pub(super) now: Timestamp,
}

/// A schedule in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    pub schedule: Schedule,
    pub zone: TimeZone,
}

/// Times that have come since the last one that was acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// The last of them.
    pub(super) latest: Option<Timestamp>,
    /// There were more than anybody would want to make up for.
    pub(super) many_missed: bool,
    some_missed: bool,
}

/// A schedule that is due too often, or never. The text is upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct NeverDue;

impl Calendar {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, &self.zone)
    }

    /// The time to act on now.
    pub(super) fn due(&self, since: Since) -> Result<Due, NeverDue> {
        let earliest = since.deadline.and_then(|deadline| since.now.checked_sub(deadline).ok());
        self.most_recent(earliest.map_or(since.last, |at| at.max(since.last)), since.now)
    }

    /// When there is something to act on after that.
    pub(super) fn next_after(&self, since: Since) -> Option<Timestamp> {
        let from = match self.most_recent(since.last, since.now) {
            Ok(Due { latest: Some(latest), .. }) => latest,
            Ok(Due { some_missed: false, .. }) => since.last,
            Ok(_) | Err(NeverDue) => since.now,
        };
        self.next(from)
    }

    fn most_recent(&self, earliest: Timestamp, now: Timestamp) -> Result<Due, NeverDue> {
        let first = self.next(earliest).ok_or(NeverDue)?;
        if now < first {
            return Ok(Due::default());
        }
        let second = self.next(first).ok_or(NeverDue)?;
        if now < second {
            return Ok(Due { latest: Some(first), ..Due::default() });
        }
        let pause = second.duration_since(first).as_secs();
        if pause < 1 {
            return Err(NeverDue);
        }
        // A guess at how many fit in between, from which the last is found: counting them one by
        // one could take for ever when a clock was set.
        let missed = now.duration_since(first).as_secs() / pause + 1;
        let guess = SignedDuration::from_secs((missed - 2) * pause);
        let mut latest = None;
        let mut at = first.checked_add(guess).ok().and_then(|at| self.next(at));
        while let Some(time) = at.filter(|time| *time <= now) {
            latest = Some(time);
            at = self.next(time);
        }
        Ok(Due { latest, many_missed: missed > MISSED_TIMES_MAX, some_missed: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time that is due, whether many were missed, and the next.
    #[track_caller]
    fn check(schedule: &str, times: (&str, &str), deadline: Option<i64>, expected: &str) {
        let (last, now) = (times.0.parse().unwrap(), times.1.parse().unwrap());
        let calendar = Calendar { schedule: schedule.parse().unwrap(), zone: TimeZone::UTC };
        let since = Since { last, deadline: deadline.map(SignedDuration::from_secs), now };
        let due = match calendar.due(since) {
            Ok(due) => {
                let many = if due.many_missed { " many" } else { "" };
                due.latest.map_or("none".to_owned(), |at| format!("{at}{many}"))
            }
            Err(error) => error.to_string(),
        };
        let next = calendar.next_after(since).map(|at| at.to_string());
        assert_eq!(format!("{due}, then {}", next.unwrap_or_default()), expected);
    }

    #[test]
    fn the_latest_time_is_acted_on() {
        let last = "2026-11-20T10:00:00Z";
        check("0 * * * *", (last, "2026-11-20T10:30:00Z"), None, "none, then 2026-11-20T11:00:00Z");
        check(
            "0 * * * *",
            (last, "2026-11-20T11:00:00Z"),
            None,
            "2026-11-20T11:00:00Z, then 2026-11-20T12:00:00Z",
        );
        check(
            "0 * * * *",
            (last, "2026-11-20T19:59:00Z"),
            None,
            "2026-11-20T19:00:00Z, then 2026-11-20T20:00:00Z",
        );
        check(
            "* * * * *",
            (last, "2026-11-20T12:00:30Z"),
            None,
            "2026-11-20T12:00:00Z many, then 2026-11-20T12:01:00Z",
        );
        check(
            "30 6-16/4 * * 1-5",
            (last, "2026-11-23T09:00:00Z"),
            None,
            "2026-11-23T06:30:00Z, then 2026-11-23T10:30:00Z",
        );
        check(
            "@every 1h",
            (last, "2026-11-20T13:20:00Z"),
            None,
            "2026-11-20T13:00:00Z, then 2026-11-20T14:00:00Z",
        );
    }

    #[test]
    fn a_deadline_limits_how_far_to_look_back() {
        let last = "2026-11-20T10:00:00Z";
        check(
            "* * * * *",
            (last, "2026-11-20T13:00:30Z"),
            Some(200),
            "2026-11-20T13:00:00Z, then 2026-11-20T13:01:00Z",
        );
        check(
            "0 * * * *",
            (last, "2026-11-20T11:30:00Z"),
            Some(60),
            "none, then 2026-11-20T12:00:00Z",
        );
    }

    #[test]
    fn what_is_never_due() {
        check(
            "59 23 31 2 *",
            ("2026-11-20T10:00:00Z", "2026-11-20T10:30:00Z"),
            None,
            "time difference between two schedules is less than 1 second, then ",
        );
    }
}
