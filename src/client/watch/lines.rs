//! Cuts the body of a watch into its lines.

use bytes::{Buf as _, Bytes, BytesMut};

/// A line of a watch is one object and a little more, and an object is at most 1.5 MiB as it is
/// stored. A watch with a longer line is broken off.
pub(super) const LINE_BYTES_MAX: usize = 8 << 20;

/// A line grew over [`LINE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the watch is longer than {LINE_BYTES_MAX} bytes")]
pub(super) struct LineTooLong;

/// The pieces of a body as they arrive, and what is left of them once whole lines are taken.
///
/// A piece that holds whole lines, as pieces do in-process, is not copied.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not arrived.
    partial: BytesMut,
    /// What has arrived after it.
    rest: Bytes,
}

impl Lines {
    /// Adds a piece. All lines of the piece before have been taken.
    pub(super) fn push(&mut self, piece: Bytes) {
        debug_assert!(self.rest.is_empty(), "all lines are taken before the next piece");
        self.rest = piece;
    }

    /// The next whole line without its end; empty lines are left out.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let mut line = self.rest.split_to(end);
            self.rest.advance(1);
            if !self.partial.is_empty() {
                self.extend_partial(&line)?;
                line = std::mem::take(&mut self.partial).freeze();
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
        let rest = std::mem::take(&mut self.rest);
        self.extend_partial(&rest)?;
        Ok(None)
    }

    fn extend_partial(&mut self, bytes: &Bytes) -> Result<(), LineTooLong> {
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&'static str], expected: &[&str]) {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(Bytes::from_static(piece.as_bytes()));
            while let Some(line) = lines.next().unwrap() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_are_found_however_they_are_cut() {
        check(&[], &[]);
        check(&["a\n"], &["a"]);
        check(&["a\nb\n"], &["a", "b"]);
        check(&["a", "b\n"], &["ab"]);
        check(&["a", "b", "", "c\nd\ne", "f\n", "g"], &["abc", "d", "ef"]);
        check(&["a", "\n", "\n\n", "b\n"], &["a", "b"]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut lines = Lines::default();
        for _ in 0..8 {
            lines.push(Bytes::from(vec![b'x'; 1 << 20]));
            assert_eq!(lines.next(), Ok(None));
        }
        lines.push(Bytes::from_static(b"x"));
        assert_eq!(lines.next(), Err(LineTooLong));
    }
}
