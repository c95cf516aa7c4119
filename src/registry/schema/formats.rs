//! Formats of strings: times and base64.
//!
//! As strict as Go's `time.Parse` and `encoding/base64` are for upstream; the texts are theirs.

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// How many digits a fraction of a second may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fraction {
    Optional,
    SixDigits,
}

/// RFC 3339, as `metav1.Time` reads it.
pub(super) fn check_time(text: &str) -> Result<(), String> {
    match rest_of_time(text.as_bytes(), Fraction::Optional) {
        Ok(()) => Ok(()),
        Err(problem) => Err(problem.describe(text, TIME_LAYOUT)),
    }
}

/// RFC 3339 with six digits of fraction, as `metav1.MicroTime` reads it.
pub(super) fn check_micro_time(text: &str) -> Result<(), String> {
    match rest_of_time(text.as_bytes(), Fraction::SixDigits) {
        Ok(()) => Ok(()),
        Err(problem) => Err(problem.describe(text, MICRO_TIME_LAYOUT)),
    }
}

enum BadTime {
    /// The text from this byte is not the named part of the layout.
    NoMatch {
        at: usize,
        part: &'static str,
    },
    OutOfRange {
        part: &'static str,
    },
    Extra {
        at: usize,
    },
}

impl BadTime {
    fn describe(&self, text: &str, layout: &str) -> String {
        match self {
            Self::NoMatch { at, part } => {
                let rest = text.get(*at..).unwrap_or(text);
                format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
            }
            Self::OutOfRange { part } => {
                format!("parsing time {text:?}: {part} out of range")
            }
            Self::Extra { at } => {
                let rest = text.get(*at..).unwrap_or(text);
                format!("parsing time {text:?}: extra text: {rest:?}")
            }
        }
    }
}

/// Reads fixed parts of a time from the front.
struct TimeReader<'a> {
    text: &'a [u8],
    at: usize,
}

impl TimeReader<'_> {
    fn number(&mut self, digits: usize, part: &'static str) -> Result<u32, BadTime> {
        let found = self.text.get(self.at..self.at + digits).unwrap_or_default();
        if found.is_empty() || !found.iter().all(u8::is_ascii_digit) {
            return Err(BadTime::NoMatch { at: self.at, part });
        }
        self.at += digits;
        Ok(found.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    }

    fn literal(&mut self, byte: u8, part: &'static str) -> Result<(), BadTime> {
        if self.text.get(self.at) != Some(&byte) {
            return Err(BadTime::NoMatch { at: self.at, part });
        }
        self.at += 1;
        Ok(())
    }

    fn fraction(&mut self, wanted: Fraction) -> Result<(), BadTime> {
        let digits = match &self.text[self.at.min(self.text.len())..] {
            [b'.' | b',', digits @ ..] => {
                digits.iter().take_while(|digit| digit.is_ascii_digit()).count()
            }
            _ => 0,
        };
        match wanted {
            Fraction::SixDigits if digits != 6 => {
                return Err(BadTime::NoMatch { at: self.at, part: ".000000" });
            }
            Fraction::Optional if digits == 0 => {}
            _ => self.at += 1 + digits,
        }
        Ok(())
    }

    fn zone(&mut self) -> Result<(), BadTime> {
        let part = "Z07:00";
        match self.text.get(self.at) {
            Some(b'Z') => self.at += 1,
            Some(b'+' | b'-') => {
                let start = self.at;
                let reread = |_| BadTime::NoMatch { at: start, part };
                self.at += 1;
                let hours = self.number(2, part).map_err(reread)?;
                self.literal(b':', part).map_err(reread)?;
                let minutes = self.number(2, part).map_err(reread)?;
                if hours > 24 || minutes > 60 {
                    return Err(BadTime::OutOfRange { part: "time zone offset" });
                }
            }
            _ => return Err(BadTime::NoMatch { at: self.at, part }),
        }
        Ok(())
    }
}

fn rest_of_time(text: &[u8], fraction: Fraction) -> Result<(), BadTime> {
    let mut reader = TimeReader { text, at: 0 };
    let year = reader.number(4, "2006")?;
    reader.literal(b'-', "-")?;
    let month = reader.number(2, "01")?;
    reader.literal(b'-', "-")?;
    let day = reader.number(2, "02")?;
    reader.literal(b'T', "T")?;
    let hour = reader.number(2, "15")?;
    reader.literal(b':', ":")?;
    let minute = reader.number(2, "04")?;
    reader.literal(b':', ":")?;
    let second = reader.number(2, "05")?;
    reader.fraction(fraction)?;
    reader.zone()?;
    if reader.at < text.len() {
        return Err(BadTime::Extra { at: reader.at });
    }
    let in_range = [
        ("month", (1..=12).contains(&month)),
        ("day", (1..=days_of(year, month)).contains(&day)),
        ("hour", hour < 24),
        ("minute", minute < 60),
        ("second", second < 60),
    ];
    match in_range.into_iter().find(|(_, is_in)| !is_in) {
        Some((part, _)) => Err(BadTime::OutOfRange { part }),
        None => Ok(()),
    }
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Padded base64 of the standard alphabet; line breaks are skipped, as Go does.
pub(super) fn check_base64(text: &str) -> Result<(), String> {
    let is_break = |byte: u8| matches!(byte, b'\r' | b'\n');
    let bad = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let mut letters = 0_usize;
    let mut padding = 0_usize;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| !is_break(*byte)) {
        match byte {
            b'=' if letters % 4 >= 2 && letters % 4 + padding < 4 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => letters += 1,
            _ => return bad(at),
        }
    }
    if (letters + padding).is_multiple_of(4) { Ok(()) } else { bad(text.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(result: Result<(), String>, expected: &str) {
        assert_eq!(result.err().unwrap_or_default(), expected);
    }

    #[test]
    fn times_are_rfc_3339() {
        check(check_time("2026-02-28T23:59:59Z"), "");
        check(check_time("2024-02-29T00:00:00+05:30"), "");
        check(check_time("2024-02-29T00:00:00.123456789-11:00"), "");
        check(
            check_time("yesterday"),
            r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
        );
        check(
            check_time("2026-02-28 23:59:59Z"),
            r#"parsing time "2026-02-28 23:59:59Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 23:59:59Z" as "T""#,
        );
        check(
            check_time("2026-02-28T23:59:59"),
            r#"parsing time "2026-02-28T23:59:59" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
        );
        check(
            check_time("2026-02-29T00:00:00Z"),
            r#"parsing time "2026-02-29T00:00:00Z": day out of range"#,
        );
        check(
            check_time("2026-01-01T00:00:00Zulu"),
            r#"parsing time "2026-01-01T00:00:00Zulu": extra text: "ulu""#,
        );
    }

    #[test]
    fn micro_times_have_six_digits() {
        check(check_micro_time("2026-02-28T23:59:59.000001Z"), "");
        check(
            check_micro_time("2026-02-28T23:59:59Z"),
            r#"parsing time "2026-02-28T23:59:59Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
        );
        assert!(check_micro_time("2026-02-28T23:59:59.001Z").is_err());
    }

    #[test]
    fn base64_is_padded_and_standard() {
        for good in ["", "aGk=", "aGVsbG8K", "aA==", "aGVs\nbG8K\n", "a+/="] {
            check(check_base64(good), "");
        }
        check(check_base64("a"), "illegal base64 data at input byte 1");
        check(check_base64("aGk"), "illegal base64 data at input byte 3");
        check(check_base64("aG-_"), "illegal base64 data at input byte 2");
        check(check_base64("aGk=aGk="), "illegal base64 data at input byte 4");
        check(check_base64("a==="), "illegal base64 data at input byte 1");
        check(check_base64("aGk=="), "illegal base64 data at input byte 4");
    }
}
