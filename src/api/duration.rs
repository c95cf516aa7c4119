//! Durations as Go writes them: `1h30m`, `-1.5s`, `300ms`.
//!
//! Follows `time.ParseDuration` of Go 1.25.

use jiff::SignedDuration;

/// What is wrong with a duration. The texts are Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    #[error("time: invalid duration {text:?}")]
    Invalid { text: String },
    #[error("time: missing unit in duration {text:?}")]
    NoUnit { text: String },
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    BadUnit { unit: String, text: String },
}

/// Fractions below a nanosecond are dropped; what does not fit into 63 bits of nanoseconds is
/// invalid.
pub fn parse(text: &str) -> Result<SignedDuration, BadDuration> {
    let invalid = || BadDuration::Invalid { text: text.to_owned() };
    let (is_negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = split(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = split(after, |c| c != '.' && !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(BadDuration::NoUnit { text: text.to_owned() });
        }
        let scale = nanoseconds_of(unit)
            .ok_or_else(|| BadDuration::BadUnit { unit: unit.to_owned(), text: text.to_owned() })?;
        nanoseconds += amount(whole, fraction, scale).ok_or_else(invalid)?;
        rest = after;
    }
    let signed = i128::try_from(nanoseconds).map_err(|_| invalid())?;
    let signed = i64::try_from(if is_negative { -signed } else { signed });
    Ok(SignedDuration::from_nanos(signed.map_err(|_| invalid())?))
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn nanoseconds_of(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `None`: it does not fit.
fn amount(whole: &str, fraction: &str, scale: u128) -> Option<u128> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than the unit has nanoseconds cannot matter.
    let digits = &fraction[..fraction.len().min(18)];
    let part: u128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let part = part * scale / 10_u128.pow(u32::try_from(digits.len()).ok()?);
    Some(u128::from(whole) * scale + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-1.5s", -1_500_000_000),
            (".5m", 30_000_000_000),
            ("1.s", 1_000_000_000),
            ("10us2µs3μs", 15_000),
            ("0.0000000009s", 0),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(SignedDuration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn refuses_with_gos_words() {
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("5", "time: missing unit in duration \"5\""),
            (".s", "time: invalid duration \".s\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999s", "time: invalid duration \"99999999999999999999s\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
