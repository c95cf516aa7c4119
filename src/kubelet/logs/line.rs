//! Lines of container logs in the CRI's format, and what a reader of them is shown. Pure.
//!
//! `2026-01-02T03:04:05.000000006Z stdout F text`: a time, a stream, `F` for a full line or `P` for
//! the part of one, and the text. Upstream pkg/kubelet/kuberuntime/logs (cri-client, v1.35).

use jiff::{SignedDuration, Timestamp};

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub at: Timestamp,
    /// The text goes on in the next line.
    pub partial: bool,
    pub text: &'a [u8],
}

/// Reads one line, given without its newline. `None` for what is no line of a log, such as the
/// remains of one that a power cut left.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let at = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let _stream = parts.next().filter(|stream| matches!(*stream, b"stdout" | b"stderr"))?;
    // Tags may come to have more parts, set apart by colons; the first says what this is about.
    let partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Line { at, partial, text: parts.next().unwrap_or_default() })
}

/// What of a log is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The last so many lines of the file.
    pub tail: Option<u64>,
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// No more bytes than this.
    pub limit_bytes: Option<u64>,
    pub timestamps: bool,
}

/// Turns lines into what is shown, one after another.
#[derive(Clone, Debug)]
pub struct Printer {
    selection: Selection,
    begins_line: bool,
    printed_bytes: u64,
}

impl Printer {
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self { selection, begins_line: true, printed_bytes: 0 }
    }

    /// Whether nothing more will be shown.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.selection.limit_bytes.is_some_and(|limit| self.printed_bytes >= limit)
    }

    /// Appends what is shown of a line to `out`.
    pub fn print(&mut self, line: Line<'_>, out: &mut Vec<u8>) {
        let before = out.len();
        let is_shown = self.selection.since.is_none_or(|since| line.at >= since);
        if is_shown && !self.is_full() {
            if self.selection.timestamps && self.begins_line {
                out.extend_from_slice(fixed(line.at).as_bytes());
            }
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
            if let Some(limit) = self.selection.limit_bytes {
                let left = usize::try_from(limit - self.printed_bytes).unwrap_or(usize::MAX);
                out.truncate(before.saturating_add(left));
            }
            self.printed_bytes += u64::try_from(out.len() - before).unwrap_or(u64::MAX);
        }
        self.begins_line = !line.partial;
    }
}

/// With nine digits after the second, as upstream shows it, and a space.
fn fixed(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string()
}

/// The moment so many seconds before `now`.
#[must_use]
pub fn seconds_before(now: Timestamp, seconds: i64) -> Timestamp {
    now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-02T03:04:05.1Z stdout F one\n\
        2026-01-02T03:04:06.123456789Z stderr P tw\n\
        2026-01-02T03:04:07Z stderr F o\n\
        broken\n\
        2026-01-02T03:04:08Z stdout F \n\
        2026-01-02T03:04:09Z stdout F four 4\n";

    fn shown(selection: Selection) -> String {
        let mut printer = Printer::new(selection);
        let mut out = Vec::new();
        for line in LOG.as_bytes().split(|byte| *byte == b'\n').filter_map(parse) {
            printer.print(line, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_put_together() {
        assert_eq!(shown(Selection::default()), "one\ntwo\n\nfour 4\n");
    }

    #[test]
    fn times_stand_before_whole_lines() {
        let text = shown(Selection { timestamps: true, ..Selection::default() });
        assert_eq!(
            text,
            "2026-01-02T03:04:05.100000000Z one\n2026-01-02T03:04:06.123456789Z two\n\
             2026-01-02T03:04:08.000000000Z \n2026-01-02T03:04:09.000000000Z four 4\n"
        );
    }

    #[test]
    fn what_is_older_or_too_much_is_left_out() {
        let since = Some("2026-01-02T03:04:08Z".parse().unwrap());
        assert_eq!(shown(Selection { since, ..Selection::default() }), "\nfour 4\n");
        for (limit, expected) in
            [(0, ""), (2, "on"), (4, "one\n"), (6, "one\ntw"), (99, "one\ntwo\n\nfour 4\n")]
        {
            let limit_bytes = Some(limit);
            assert_eq!(shown(Selection { limit_bytes, ..Selection::default() }), expected);
        }
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        for line in [
            "",
            "x",
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05Z stdin F x",
            "2026-01-02T03:04:05Z stdout X x",
            "yesterday stdout F x",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
        let line = parse(b"2026-01-02T03:04:05Z stdout F:x a b").unwrap();
        assert_eq!(line.text, b"a b");
    }
}
