//! The schedules of CronJobs.
//!
//! Accepts exactly what upstream accepts, with the same words for what it does not: `ParseStandard`
//! of robfig/cron v3 (vendored by Kubernetes v1.35). That includes its oddities: an empty list of
//! ranges is a field that never matches, and what follows `*-` is not looked at.

mod next;

use super::duration::{self, BadDuration};
use std::str::FromStr;
use std::time::Duration;

/// When something is due, by the clock of some time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the start of each minute that matches all fields.
    Fields(Fields),
    /// Again and again after so long: at least a second, and in whole seconds.
    Every(Duration),
}

/// The values that match, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    pub minutes: u64,
    pub hours: u64,
    pub days_of_month: u64,
    pub months: u64,
    /// Sunday is 0.
    pub days_of_week: u64,
    /// Days must match both fields of days where one of them is a `*`; else one of them is enough.
    pub any_day_of_month: bool,
    pub any_day_of_week: bool,
}

/// A schedule with the time zone that older manifests put in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonedSchedule {
    /// The name behind `TZ=` or `CRON_TZ=`. Whether there is such a zone is not known here.
    pub zone: Option<String>,
    pub schedule: Schedule,
}

/// What is wrong with a schedule. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error("empty spec string")]
    Empty,
    #[error("provided bad location {zone}: there is no schedule behind it")]
    ZoneOnly { zone: String },
    #[error("expected exactly 5 fields, found {count}: [{fields}]")]
    Count { count: usize, fields: String },
    #[error("unrecognized descriptor: {text}")]
    Descriptor { text: String },
    #[error("failed to parse duration {text}: {problem}")]
    Every { text: String, problem: BadDuration },
    #[error("too many hyphens: {text}")]
    Hyphens { text: String },
    #[error("too many slashes: {text}")]
    Slashes { text: String },
    #[error("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {problem}")]
    Number { text: String, problem: &'static str },
    #[error("negative number ({number}) not allowed: {text}")]
    Negative { number: i64, text: String },
    #[error("beginning of range ({start}) below minimum ({least}): {text}")]
    Below { start: u64, least: u64, text: String },
    #[error("end of range ({end}) above maximum ({most}): {text}")]
    Above { end: u64, most: u64, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: u64, end: u64, text: String },
    #[error("step of range should be a positive number: {text}")]
    Step { text: String },
}

/// What one field may hold.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: u64,
    most: u64,
    /// Names of the values from the least on.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { least: 0, most: 59, names: &[] };
const HOURS: Bounds = Bounds { least: 0, most: 23, names: &[] };
const DAYS_OF_MONTH: Bounds = Bounds { least: 1, most: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const DAYS_OF_WEEK: Bounds =
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The shortest time between two runs.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// The values of a field, and whether it is a `*` without a step.
struct Matches {
    bits: u64,
    is_any: bool,
}

impl FromStr for ZonedSchedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let after = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| text.strip_prefix(prefix));
        let Some(after) = after else {
            return Ok(Self { zone: None, schedule: text.parse()? });
        };
        let (zone, rest) = after
            .split_once(' ')
            .ok_or_else(|| BadSchedule::ZoneOnly { zone: after.to_owned() })?;
        Ok(Self { zone: Some(zone.to_owned()), schedule: parse(rest.trim())? })
    }
}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        if text.is_empty() {
            return Err(BadSchedule::Empty);
        }
        parse(text)
    }
}

fn parse(text: &str) -> Result<Schedule, BadSchedule> {
    if text.starts_with('@') {
        return parse_descriptor(text);
    }
    let fields: Vec<_> = text.split_whitespace().collect();
    let [minutes, hours, days_of_month, months, days_of_week] = fields[..] else {
        return Err(BadSchedule::Count { count: fields.len(), fields: fields.join(" ") });
    };
    let minutes = parse_field(minutes, MINUTES)?;
    let hours = parse_field(hours, HOURS)?;
    let days_of_month = parse_field(days_of_month, DAYS_OF_MONTH)?;
    let months = parse_field(months, MONTHS)?;
    let days_of_week = parse_field(days_of_week, DAYS_OF_WEEK)?;
    Ok(Schedule::Fields(Fields {
        minutes: minutes.bits,
        hours: hours.bits,
        days_of_month: days_of_month.bits,
        months: months.bits,
        days_of_week: days_of_week.bits,
        any_day_of_month: days_of_month.is_any,
        any_day_of_week: days_of_week.is_any,
    }))
}

fn parse_descriptor(text: &str) -> Result<Schedule, BadSchedule> {
    match text {
        "@yearly" | "@annually" => parse("0 0 1 1 *"),
        "@monthly" => parse("0 0 1 * *"),
        "@weekly" => parse("0 0 * * 0"),
        "@daily" | "@midnight" => parse("0 0 * * *"),
        "@hourly" => parse("0 * * * *"),
        _ => {
            let every = text
                .strip_prefix("@every ")
                .ok_or_else(|| BadSchedule::Descriptor { text: text.to_owned() })?;
            let parsed = duration::parse(every)
                .map_err(|problem| BadSchedule::Every { text: every.to_owned(), problem })?;
            let seconds = Duration::from_secs(parsed.unsigned_abs().as_secs());
            let is_past = parsed.is_negative();
            Ok(Schedule::Every(if is_past { EVERY_MIN } else { seconds.max(EVERY_MIN) }))
        }
    }
}

/// Ranges between commas; empty ones do not count.
fn parse_field(text: &str, bounds: Bounds) -> Result<Matches, BadSchedule> {
    let mut all = Matches { bits: 0, is_any: false };
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let matches = parse_range(range, bounds)?;
        all.bits |= matches.bits;
        all.is_any |= matches.is_any;
    }
    Ok(all)
}

/// `5`, `1-5`, `*`, `?`, each with an optional `/step`.
fn parse_range(text: &str, bounds: Bounds) -> Result<Matches, BadSchedule> {
    let own = || text.to_owned();
    let parts: Vec<_> = text.split('/').collect();
    let ends: Vec<_> = parts[0].split('-').collect();
    let is_any = matches!(ends[0], "*" | "?");
    let (start, mut end) = if is_any {
        (bounds.least, bounds.most)
    } else {
        let start = parse_value(ends[0], bounds)?;
        match ends[..] {
            [_] => (start, start),
            [_, end] => (start, parse_value(end, bounds)?),
            _ => return Err(BadSchedule::Hyphens { text: own() }),
        }
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => {
            let step = parse_number(step)?;
            if ends.len() == 1 {
                end = bounds.most;
            }
            step
        }
        _ => return Err(BadSchedule::Slashes { text: own() }),
    };
    if start < bounds.least {
        return Err(BadSchedule::Below { start, least: bounds.least, text: own() });
    }
    if end > bounds.most {
        return Err(BadSchedule::Above { end, most: bounds.most, text: own() });
    }
    if start > end {
        return Err(BadSchedule::Backwards { start, end, text: own() });
    }
    if step == 0 {
        return Err(BadSchedule::Step { text: own() });
    }
    let matching = (start..=end).filter(|value| (value - start) % step == 0);
    Ok(Matches {
        bits: matching.fold(0, |bits, value| bits | 1 << value),
        is_any: is_any && step == 1,
    })
}

fn parse_value(text: &str, bounds: Bounds) -> Result<u64, BadSchedule> {
    let names = (bounds.least..).zip(bounds.names);
    let named = names.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
    named.map_or_else(|| parse_number(text), |(value, _)| Ok(value))
}

/// As Go's `strconv.Atoi`: a sign is allowed.
fn parse_number(text: &str) -> Result<u64, BadSchedule> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let problem = if is_number { "value out of range" } else { "invalid syntax" };
    let number: i64 =
        text.parse().map_err(|_| BadSchedule::Number { text: text.to_owned(), problem })?;
    u64::try_from(number).map_err(|_| BadSchedule::Negative { number, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        match text.parse() {
            Ok(Schedule::Fields(fields)) => fields,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn bits(values: impl IntoIterator<Item = u64>) -> u64 {
        values.into_iter().fold(0, |bits, value| bits | 1 << value)
    }

    #[test]
    fn fields_are_sets_of_values() {
        for (text, expected) in [
            ("5", bits([5])),
            ("1,3,,5", bits([1, 3, 5])),
            ("10-12", bits(10..=12)),
            ("*/20", bits([0, 20, 40])),
            ("50/4", bits([50, 54, 58])),
            ("1-9/4", bits([1, 5, 9])),
            ("+7", bits([7])),
            ("*-x", bits(0..=59)),
            (",", 0),
            ("?", bits(0..=59)),
        ] {
            assert_eq!(fields(&format!("{text} * * * *")).minutes, expected, "{text}");
        }
        let named = fields("0 0 * JAN,mar-Apr sun-TUE");
        assert_eq!(named.months, bits([1, 3, 4]));
        assert_eq!(named.days_of_week, bits([0, 1, 2]));
        assert!(named.any_day_of_month && !named.any_day_of_week);
        assert!(!fields("0 0 */2 * *").any_day_of_month, "every second day is not any day");
    }

    #[test]
    fn descriptors_stand_for_fields() {
        assert_eq!(fields("@yearly"), fields("0 0 1 1 *"));
        assert_eq!(fields("@hourly"), fields("0 * * * *"));
        for (text, seconds) in
            [("@every 1h30m", 5_400), ("@every 1.5s", 1), ("@every 10ms", 1), ("@every -5s", 1)]
        {
            let expected = Schedule::Every(Duration::from_secs(seconds));
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn zones_come_first() {
        let zoned: ZonedSchedule = "CRON_TZ=Europe/Berlin  @daily".parse().unwrap();
        assert_eq!(zoned.zone.as_deref(), Some("Europe/Berlin"));
        assert_eq!(zoned.schedule, Schedule::Fields(fields("@daily")));
        assert!("TZ=UTC".parse::<ZonedSchedule>().is_err());
    }

    #[test]
    fn refuses_with_upstreams_words() {
        for (text, expected) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("0 * * * * *", "expected exactly 5 fields, found 6: [0 * * * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "99999999999999999999 * * * *",
                "failed to parse int from 99999999999999999999: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            ("@never", "unrecognized descriptor: @never"),
            ("@every x", "failed to parse duration x: time: invalid duration \"x\""),
        ] {
            let error = text.parse::<Schedule>().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }
}
