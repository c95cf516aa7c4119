//! When a schedule is due next, by the clock of a time zone.
//!
//! Means the same as `SpecSchedule.Next` and `ConstantDelaySchedule.Next` of robfig/cron v3
//! (vendored by Kubernetes v1.35): what is due in an hour that a change of the clock leaves out is
//! left out, and what is due in an hour that comes twice is due twice.

use super::{Fields, Schedule};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// A schedule that is not due in so many years never is.
const YEARS_MAX: i16 = 5;

impl Schedule {
    /// The first time after `after` at which the schedule is due. `None` where it never is.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(pause) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(*pause).ok()
            }
            Self::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60) + 1;
        let mut candidate = Timestamp::from_second(minute * 60).ok()?.to_zoned(zone.clone());
        // Zones whose distance from UTC is not of whole minutes are of the past.
        if candidate.second() != 0 {
            candidate = later(&candidate, 60 - i64::from(candidate.second()))?;
        }
        let last_year = candidate.year() + YEARS_MAX;
        while candidate.year() <= last_year {
            let at = candidate.datetime();
            candidate = if !has(self.months, at.month()) {
                candidate.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?
            } else if !self.matches_day(at) {
                candidate.tomorrow().ok()?.start_of_day().ok()?
            } else if !has(self.hours, at.hour()) {
                later(&candidate, 60 * (60 - i64::from(at.minute())))?
            } else if !has(self.minutes, at.minute()) {
                later(&candidate, 60)?
            } else {
                return Some(candidate.timestamp());
            };
        }
        None
    }

    /// Both days must match where one of them may be any, else one of them.
    fn matches_day(&self, at: DateTime) -> bool {
        let of_month = has(self.days_of_month, at.day());
        let of_week = has(self.days_of_week, at.weekday().to_sunday_zero_offset());
        if self.any_day_of_month || self.any_day_of_week {
            of_month && of_week
        } else {
            of_month || of_week
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

/// So many seconds later as time goes by, whatever clocks do.
fn later(at: &Zoned, seconds: i64) -> Option<Zoned> {
    at.checked_add(SignedDuration::from_secs(seconds)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The next three times after one, all as clocks in the zone show them.
    #[track_caller]
    fn check(schedule: &str, zone: &str, after: &str, expected: [&str; 3]) {
        let schedule: Schedule = schedule.parse().unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let next = expected.map(|_| {
            at = schedule.next(at, &zone).unwrap();
            at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S%:z").to_string()
        });
        assert_eq!(next, expected, "{schedule:?}");
    }

    #[test]
    fn the_next_minute_that_matches() {
        let after = "2026-11-20T12:07:30Z";
        check(
            "*/5 * * * *",
            "UTC",
            after,
            [
                "Fri 2026-11-20 12:10:00+00:00",
                "Fri 2026-11-20 12:15:00+00:00",
                "Fri 2026-11-20 12:20:00+00:00",
            ],
        );
        check(
            "7 12 * * *",
            "UTC",
            "2026-11-20T12:07:00Z",
            [
                "Sat 2026-11-21 12:07:00+00:00",
                "Sun 2026-11-22 12:07:00+00:00",
                "Mon 2026-11-23 12:07:00+00:00",
            ],
        );
        check(
            "30 6-16/4 * * 1-5",
            "UTC",
            after,
            [
                "Fri 2026-11-20 14:30:00+00:00",
                "Mon 2026-11-23 06:30:00+00:00",
                "Mon 2026-11-23 10:30:00+00:00",
            ],
        );
        check(
            "0 0 29 2 *",
            "UTC",
            after,
            [
                "Tue 2028-02-29 00:00:00+00:00",
                "Sun 2032-02-29 00:00:00+00:00",
                "Fri 2036-02-29 00:00:00+00:00",
            ],
        );
        check(
            "0 0 13 * 5",
            "UTC",
            after,
            [
                "Fri 2026-11-27 00:00:00+00:00",
                "Fri 2026-12-04 00:00:00+00:00",
                "Fri 2026-12-11 00:00:00+00:00",
            ],
        );
        check(
            "@every 90s",
            "UTC",
            after,
            [
                "Fri 2026-11-20 12:09:00+00:00",
                "Fri 2026-11-20 12:10:30+00:00",
                "Fri 2026-11-20 12:12:00+00:00",
            ],
        );
    }

    #[test]
    fn clocks_that_are_changed_leave_hours_out_and_repeat_them() {
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            [
                "Sat 2026-03-28 02:30:00+01:00",
                "Mon 2026-03-30 02:30:00+02:00",
                "Tue 2026-03-31 02:30:00+02:00",
            ],
        );
        check(
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            [
                "Sun 2026-10-25 02:30:00+02:00",
                "Sun 2026-10-25 02:30:00+01:00",
                "Mon 2026-10-26 02:30:00+01:00",
            ],
        );
        check(
            "0 * * * *",
            "Europe/Berlin",
            "2026-03-29T00:30:00Z",
            [
                "Sun 2026-03-29 03:00:00+02:00",
                "Sun 2026-03-29 04:00:00+02:00",
                "Sun 2026-03-29 05:00:00+02:00",
            ],
        );
        check(
            "0 9 * * *",
            "Asia/Kathmandu",
            "2026-03-29T00:30:00Z",
            [
                "Sun 2026-03-29 09:00:00+05:45",
                "Mon 2026-03-30 09:00:00+05:45",
                "Tue 2026-03-31 09:00:00+05:45",
            ],
        );
    }

    #[test]
    fn some_schedules_are_never_due() {
        let schedule: Schedule = "59 23 31 2 *".parse().unwrap();
        assert_eq!(schedule.next("2026-11-20T12:00:00Z".parse().unwrap(), &TimeZone::UTC), None);
    }

    /// A field of a schedule, often one of a few values, with steps and ranges.
    fn field(least: u8, most: u8) -> impl Strategy<Value = String> {
        let range = (least..=most, least..=most, 1_u8..9)
            .prop_map(|(one, other, step)| format!("{}-{}/{step}", one.min(other), one.max(other)));
        let value = (least..=most).prop_map(|value| value.to_string());
        let step = (1_u8..30).prop_map(|step| format!("*/{step}"));
        let list = (value.clone(), range.clone()).prop_map(|(one, other)| format!("{one},{other}"));
        prop_oneof![Just("*".to_owned()), Just("*".to_owned()), value, range, step, list]
    }

    proptest! {
        #[test]
        fn the_next_time_matches_and_none_before_it_does(
            minute in field(0, 59),
            hour in field(0, 23),
            day in field(1, 31),
            month in field(1, 12),
            weekday in field(0, 6),
            after in 1_700_000_000_i64..1_900_000_000,
        ) {
            let text = format!("{minute} {hour} {day} {month} {weekday}");
            let schedule: Schedule = text.parse().unwrap();
            let Schedule::Fields(fields) = &schedule else { panic!("{schedule:?}") };
            let after = Timestamp::from_second(after).unwrap();
            let matches = |at: Timestamp| {
                let at = at.to_zoned(TimeZone::UTC).datetime();
                has(fields.months, at.month())
                    && fields.matches_day(at)
                    && has(fields.hours, at.hour())
                    && has(fields.minutes, at.minute())
            };
            let next = schedule.next(after, &TimeZone::UTC);
            if let Some(next) = next {
                prop_assert!(next > after && matches(next), "{} {}", text, next);
            }
            // The days before it, minute by minute, as far as that takes no time.
            let first = after.as_second().div_euclid(60) + 1;
            let end = next.map_or(i64::MAX, |next| next.as_second() / 60).min(first + 3_000);
            for minute in first..end {
                let at = Timestamp::from_second(minute * 60).unwrap();
                prop_assert!(!matches(at), "{} {}", text, at);
            }
        }

        #[test]
        fn any_schedule_in_any_zone_goes_forward(
            text in "[0-9*/,-]{1,5} [0-9*/,-]{1,4} [0-9*/]{1,3} [0-9*]{1,2} [0-9A-Z*]{1,3}",
            zone in prop::sample::select(vec!["Europe/Berlin", "America/St_Johns", "Asia/Kolkata"]),
            after in 1_700_000_000_i64..1_900_000_000,
        ) {
            let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
            let (zone, mut last) = (TimeZone::get(zone).unwrap(), Timestamp::from_second(after).unwrap());
            for _ in 0..5 {
                let Some(next) = schedule.next(last, &zone) else { break };
                prop_assert!(next > last, "{}", text);
                last = next;
            }
        }
    }
}
