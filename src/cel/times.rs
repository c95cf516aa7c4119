//! Points in time and spans of it: how they are written, reckoned with and looked at.
//!
//! Follows cel-go common/types/timestamp.go and duration.go, v0.26, and Go's `time`. A timestamp is
//! always shown in UTC, also where it was written with an offset.

use super::value::{Fault, Outcome, Value};
use crate::api::duration;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

/// The year 1.
const SECONDS_MIN: i64 = -62_135_596_800;
/// The last second of the year 9999.
const SECONDS_MAX: i64 = 253_402_300_799;

pub(super) fn overflow() -> Fault {
    Fault::new("timestamp overflow")
}

fn duration_overflow() -> Fault {
    Fault::new("duration overflow")
}

pub(super) fn checked(time: Timestamp) -> Result<Timestamp, Fault> {
    if (SECONDS_MIN..=SECONDS_MAX).contains(&time.as_second()) { Ok(time) } else { Err(overflow()) }
}

pub(super) fn of_seconds(seconds: i64) -> Result<Timestamp, Fault> {
    checked(Timestamp::from_second(seconds).map_err(|_| overflow())?)
}

/// RFC 3339, strictly: `2006-01-02T15:04:05.5+07:00`.
pub(super) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let number = |at: usize, length: usize| -> Option<i16> {
        let digits = text.get(at..at + length)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let is = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let small = |at| number(at, 2).and_then(|n| i8::try_from(n).ok());
    let mut rest = text.get(19..)?;
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.find(|c: char| !c.is_ascii_digit())?;
        let kept = &fraction[..length.min(9)];
        nanoseconds = format!("{kept:0<9}").parse().ok().filter(|_| length > 0)?;
        rest = &fraction[length..];
    }
    let date = (number(0, 4)?, small(5)?, small(8)?);
    let time = (small(11)?, small(14)?, small(17)?);
    let civil = DateTime::new(date.0, date.1, date.2, time.0, time.1, time.2, nanoseconds).ok()?;
    offset(rest)?.to_timestamp(civil).ok()
}

fn offset(text: &str) -> Option<Offset> {
    if text == "Z" {
        return Some(Offset::UTC);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let two = |part: &str| {
        let is_two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        is_two.then(|| part.parse::<i32>().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes).filter(|m| *m < 60)?);
    Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).ok()
}

/// A day, at its beginning in UTC.
pub(super) fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    parse_timestamp(&format!("{text}T00:00:00Z"))
}

/// As Go's `time.ParseDuration`, and in words as OpenAPI's format has it: `3 days`.
pub(super) fn parse_duration(text: &str) -> Result<i64, String> {
    match duration::parse(text) {
        Ok(found) => i64::try_from(found.as_nanos()).map_err(|_| "too long".to_owned()),
        Err(problem) => in_words(text).ok_or_else(|| problem.to_string()),
    }
}

fn in_words(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let amount: i64 = rest[..digits].parse().ok()?;
        let after = rest[digits..].trim_start();
        let length = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        total = total.checked_add(amount.checked_mul(unit(&after[..length])?)?)?;
        rest = after[length..].trim_start();
    }
    Some(total)
}

fn unit(word: &str) -> Option<i64> {
    const SECOND: i64 = 1_000_000_000;
    Some(match word.to_ascii_lowercase().as_str() {
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "wk" | "week" | "weeks" => 7 * 86_400 * SECOND,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        _ => return None,
    })
}

pub(super) fn show_timestamp(time: Timestamp) -> String {
    time.to_string()
}

/// In seconds, as Go's `FormatFloat` with the fewest digits.
pub(super) fn show_duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let amount = nanoseconds.unsigned_abs();
    let (seconds, rest) = (amount / 1_000_000_000, amount % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

pub(super) fn add<'a>(one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    match (one, two) {
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_add(*two).map(Value::Duration).ok_or_else(duration_overflow)
        }
        (Value::Timestamp(time), Value::Duration(span))
        | (Value::Duration(span), Value::Timestamp(time)) => moved(*time, i128::from(*span)),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

pub(super) fn subtract<'a>(one: &Value<'_>, two: &Value<'_>) -> Outcome<'a> {
    match (one, two) {
        (Value::Duration(one), Value::Duration(two)) => {
            one.checked_sub(*two).map(Value::Duration).ok_or_else(duration_overflow)
        }
        (Value::Timestamp(time), Value::Duration(span)) => moved(*time, -i128::from(*span)),
        (Value::Timestamp(one), Value::Timestamp(two)) => {
            let span = one.as_nanosecond() - two.as_nanosecond();
            i64::try_from(span).map(Value::Duration).map_err(|_| duration_overflow())
        }
        _ => Err(Fault::NO_OVERLOAD),
    }
}

fn moved<'a>(time: Timestamp, nanoseconds: i128) -> Outcome<'a> {
    let moved = time.as_nanosecond().checked_add(nanoseconds).ok_or_else(overflow)?;
    let moved = Timestamp::from_nanosecond(moved).map_err(|_| overflow())?;
    checked(moved).map(Value::Timestamp)
}

/// `getHours()` and its like, for timestamps with and without a time zone, and for durations.
pub(super) fn part<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let (time, zone) = match args {
        [Value::Duration(nanoseconds)] => return span_part(function, *nanoseconds),
        [Value::Timestamp(time)] => (*time, TimeZone::UTC),
        [Value::Timestamp(time), Value::Text(name)] => (*time, zone(name)?),
        _ => return Err(Fault::NO_OVERLOAD),
    };
    let local: Zoned = time.to_zoned(zone);
    let found = match function {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        "getMilliseconds" => i64::from(local.subsec_nanosecond()) / 1_000_000,
        _ => return Err(Fault::NO_OVERLOAD),
    };
    Ok(Value::Int(found))
}

fn span_part<'a>(function: &str, nanoseconds: i64) -> Outcome<'a> {
    let span = SignedDuration::from_nanos(nanoseconds);
    Ok(Value::Int(match function {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        // The part below a second; as upstream has it, all milliseconds.
        "getMilliseconds" => nanoseconds / 1_000_000,
        _ => return Err(Fault::NO_OVERLOAD),
    }))
}

/// `Europe/Berlin`, `UTC`, `+02:00` or `-2:30`.
fn zone(name: &str) -> Result<TimeZone, Fault> {
    let Some((hours, minutes)) = name.split_once(':') else {
        return match name {
            "" | "UTC" | "Local" => Ok(TimeZone::UTC),
            name => {
                TimeZone::get(name).map_err(|_| Fault::new(format!("unknown time zone {name}")))
            }
        };
    };
    let bad = || Fault::new(format!("unknown time zone {name}"));
    let (sign, digits) = match hours.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, hours.strip_prefix('+').unwrap_or(hours)),
    };
    let hours: i32 = digits.parse().ok().filter(|h| *h < 24).ok_or_else(bad)?;
    let minutes: i32 = minutes.parse().ok().filter(|m| (0..60).contains(m)).ok_or_else(bad)?;
    let offset = Offset::from_seconds(sign * (hours * 3_600 + minutes * 60)).map_err(|_| bad())?;
    Ok(TimeZone::fixed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_strictly() {
        for (text, expected) in [
            ("2023-01-02T03:04:05Z", Some("2023-01-02T03:04:05Z")),
            ("2023-01-02T03:04:05.123+02:00", Some("2023-01-02T01:04:05.123Z")),
            ("2023-01-02T03:04:05", None),
            ("2023-01-02 03:04:05Z", None),
            ("2023-02-30T03:04:05Z", None),
            ("2023-01-02T03:04:05.Z", None),
            ("2023-01-02T03:04:05+0200", None),
            ("é", None),
        ] {
            assert_eq!(parse_timestamp(text).map(show_timestamp).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        for (text, expected) in [("1h", "3600s"), ("-1.5s", "-1.5s"), ("2 days", "172800s")] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), expected);
        }
        assert!(parse_duration("1 fortnight").is_err());
    }
}
