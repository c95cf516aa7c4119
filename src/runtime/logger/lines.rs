//! A container's output as lines in the format of the CRI. Pure.
//!
//! `2026-01-01T00:00:00.000000000Z stdout F text`: upstream docs/design (CRI logging) and
//! pkg/kubelet/kuberuntime/logs. A line that is too long is cut into records tagged `P`, up to the
//! last one, which is tagged `F`. What ends without a newline is tagged `P`, as by containerd: who
//! reads it sees that there was none.

use jiff::Timestamp;
use std::io::Write as _;

/// The most content that one record has, as containerd has it.
const CONTENT_BYTES_MAX: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The record ends its line.
    Full,
    /// The line goes on in the next record of its stream, if there is one.
    Partial,
}

/// Cuts a stream of bytes into records.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come yet, at most [`CONTENT_BYTES_MAX`].
    begun: Vec<u8>,
}

impl Lines {
    /// Takes what came and calls `record` for everything that is complete now.
    pub(super) fn push(&mut self, bytes: &[u8], mut record: impl FnMut(Tag, &[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (mut content, is_ended) = match piece.split_last() {
                Some((b'\n', content)) => (content, true),
                _ => (piece, false),
            };
            while self.begun.len() + content.len() > CONTENT_BYTES_MAX {
                let (fits, rest) = content.split_at(CONTENT_BYTES_MAX - self.begun.len());
                self.begun.extend_from_slice(fits);
                record(Tag::Partial, &self.begun);
                self.begun.clear();
                content = rest;
            }
            match (is_ended, self.begun.is_empty()) {
                (true, true) => record(Tag::Full, content),
                (true, false) => {
                    self.begun.extend_from_slice(content);
                    record(Tag::Full, &self.begun);
                    self.begun.clear();
                }
                (false, _) => self.begun.extend_from_slice(content),
            }
        }
    }

    /// Takes the end of the stream.
    pub(super) fn finish(&mut self, mut record: impl FnMut(Tag, &[u8])) {
        if !self.begun.is_empty() {
            record(Tag::Partial, &self.begun);
            self.begun.clear();
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) now: Timestamp,
    pub(super) stream: Stream,
    pub(super) tag: Tag,
    pub(super) content: &'a [u8],
}

/// Appends a record as the log file has it.
pub(super) fn encode(into: &mut Vec<u8>, record: Record<'_>) {
    let stream = match record.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    let tag = match record.tag {
        Tag::Full => 'F',
        Tag::Partial => 'P',
    };
    write!(into, "{:.9} {stream} {tag} ", record.now).expect("a Vec takes every write");
    into.extend_from_slice(record.content);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], expected: &[&str]) {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut record = |tag, content: &[u8]| {
            let text = String::from_utf8_lossy(content);
            let shown =
                if text.len() > 20 { format!("{} bytes", text.len()) } else { text.into_owned() };
            seen.push(format!("{tag:?} {shown}"));
        };
        for chunk in chunks {
            lines.push(chunk.as_bytes(), &mut record);
        }
        lines.finish(&mut record);
        assert_eq!(seen, expected);
    }

    #[test]
    fn lines_arrive_in_any_pieces() {
        check(&[], &[]);
        check(&["a\nb\n"], &["Full a", "Full b"]);
        check(&["a", "b", "\n\nc"], &["Full ab", "Full ", "Partial c"]);
        check(&["\n"], &["Full "]);
        check(&["no newline at the end"], &["Partial 21 bytes"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let exact = "x".repeat(CONTENT_BYTES_MAX);
        check(&[&exact, "\n"], &["Full 16384 bytes"]);
        check(&[&exact, "y\n"], &["Partial 16384 bytes", "Full y"]);
        let double = exact.repeat(2) + "z\n";
        check(&["ab", &double], &["Partial 16384 bytes", "Partial 16384 bytes", "Full xxz"]);
    }

    #[test]
    fn records_look_as_the_cri_has_them() {
        let mut text = Vec::new();
        let now = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let record = Record { now, stream: Stream::Stdout, tag: Tag::Full, content: b"text" };
        encode(&mut text, record);
        encode(&mut text, Record { stream: Stream::Stderr, tag: Tag::Partial, ..record });
        let expected = "2026-01-01T00:00:00.500000000Z stdout F text\n\
                        2026-01-01T00:00:00.500000000Z stderr P text\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
