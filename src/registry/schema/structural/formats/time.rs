//! Formats of dates, times and durations (kube-openapi pkg/validation/strfmt).

/// Units that anything may follow, where Go's own reading of a duration fails: `5 minutes`.
const UNIT_PREFIXES: &[&str] = &["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
const UNITS: &[&str] = &["ns", "us", "\u{b5}s", "ms", "s", "m", "h", "hr", "d", "w", "wk"];

/// `2006-01-02`.
pub(super) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_formed = bytes.len() == 10
        && bytes.iter().enumerate().all(|(place, byte)| match place {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    let number = |at: std::ops::Range<usize>| text[at].parse::<i8>().unwrap_or_default();
    let year = || text[..4].parse::<i16>().unwrap_or_default();
    is_formed && jiff::civil::Date::new(year(), number(5..7), number(8..10)).is_ok()
}

/// `2014-12-15T19:30:20.000Z` (upstream `IsDateTime`).
pub(super) fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && is_time(time)
}

fn is_time(text: &str) -> bool {
    let Some((clock, rest)) = text.split_at_checked(8) else { return false };
    let bytes = clock.as_bytes();
    let is_formed = bytes.iter().enumerate().all(|(place, byte)| match place {
        2 | 5 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    is_formed
        && clock[..2] <= *"23"
        && clock[3..5] <= *"59"
        && clock[6..] <= *"59"
        && is_zone(without_fraction(rest))
}

/// Any letter and digits behind it, as upstream's expression has it.
fn without_fraction(text: &str) -> &str {
    let mut letters = text.chars();
    letters.next();
    let rest = letters.as_str().trim_start_matches(|letter: char| letter.is_ascii_digit());
    let has_fraction = rest.len() < letters.as_str().len() && is_zone(rest);
    if has_fraction { rest } else { text }
}

fn is_zone(text: &str) -> bool {
    match text.as_bytes() {
        b"z" => true,
        [b'+' | b'-', hours @ .., b':', last, least] if hours.len() == 2 => {
            hours.iter().chain([last, least]).all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

pub(super) fn is_duration(text: &str) -> bool {
    crate::api::duration::parse(text).is_ok() || is_loose_duration(text)
}

/// Numbers with units of Scala's durations anywhere in the text (upstream `ParseDuration`).
fn is_loose_duration(text: &str) -> bool {
    let mut rest = text;
    let mut found = false;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        rest = &rest[start..];
        let behind = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let digits = &rest[..rest.len() - behind.len()];
        let behind = behind.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
        let is_of_unit = |letter: char| letter.is_ascii_alphabetic() || letter == '\u{b5}';
        let end = behind.find(|letter| !is_of_unit(letter)).unwrap_or(behind.len());
        let unit = behind[..end].to_lowercase();
        rest = &behind[end..];
        if unit.is_empty() {
            continue;
        }
        if digits.parse::<i64>().is_err() {
            return false;
        }
        found |= UNITS.contains(&unit.as_str())
            || UNIT_PREFIXES.iter().any(|prefix| unit.starts_with(prefix));
    }
    found
}
