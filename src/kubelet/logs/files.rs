//! The files of one container's log: the one that is written, and those that were rotated away.

use super::line::parse;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How much is read at once on the way back through a file.
const BLOCK_BYTES: usize = 64 << 10;

/// The files of a log, the oldest first: `0.log.20060102-150405`, ..., `0.log`.
///
/// # Errors
/// As the file system says; a log that is not there has no files.
pub(super) fn of(log: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = log.parent().unwrap_or(Path::new("/"));
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{name}.");
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut rotated = Vec::new();
    let mut current = None;
    for entry in entries {
        let entry = entry?;
        let found = entry.file_name().to_string_lossy().into_owned();
        if found == name {
            current = Some(entry.path());
        } else if found.starts_with(&prefix) {
            rotated.push(entry.path());
        }
    }
    rotated.sort();
    rotated.extend(current);
    Ok(rotated)
}

/// Where in which file the last `lines` lines begin.
///
/// # Errors
/// As the file system says.
pub(super) fn start_of_tail(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut left = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let (start, found) = tail_of(&mut File::open(path)?, left)?;
        left -= found.min(left);
        if left == 0 {
            return Ok((index, start));
        }
    }
    Ok((0, 0))
}

/// Where the last `lines` lines of a file begin, and how many there are from there on.
fn tail_of(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let mut found = 0;
    let mut end = length;
    let mut block = vec![0; BLOCK_BYTES];
    while end > 0 {
        let size = end.min(BLOCK_BYTES as u64);
        let start = end - size;
        file.seek(SeekFrom::Start(start))?;
        let block = &mut block[..usize::try_from(size).expect("at most a block")];
        file.read_exact(block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            let position = start + at as u64;
            // The newline at the very end ends a line and begins none.
            if *byte != b'\n' || position + 1 == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((position + 1, found));
            }
        }
        end = start;
    }
    Ok((0, found + u64::from(length > 0)))
}

/// The end of a log as text without its times: at most so many lines and bytes, whole characters.
///
/// # Errors
/// As the file system says.
pub(in crate::kubelet) fn last_text(
    log: &Path,
    lines: u64,
    bytes_max: usize,
) -> io::Result<String> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    // Each line has at most this much besides its text.
    let overhead = lines.saturating_mul(64);
    let (tail, _) = tail_of(&mut file, lines)?;
    let length = file.metadata()?.len();
    let enough = overhead.saturating_add(bytes_max as u64);
    file.seek(SeekFrom::Start(tail.max(length.saturating_sub(enough))))?;
    let mut raw = Vec::new();
    file.take(enough).read_to_end(&mut raw)?;
    let mut text = Vec::new();
    for line in raw.split(|byte| *byte == b'\n').filter_map(parse) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let text = String::from_utf8_lossy(&text);
    let from = text.ceil_char_boundary(text.len().saturating_sub(bytes_max));
    Ok(text[from..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(range: std::ops::Range<u32>) -> String {
        range.map(|n| format!("2026-01-02T03:04:05Z stdout F line {n}\n")).collect()
    }

    fn log(directory: &Path) -> PathBuf {
        fs::write(directory.join("0.log.20260101-000000"), numbered(0..10)).unwrap();
        fs::write(directory.join("0.log.20260101-000000.001"), numbered(10..20)).unwrap();
        fs::write(directory.join("0.log"), numbered(20..5_000)).unwrap();
        fs::write(directory.join("10.log"), numbered(0..1)).unwrap();
        directory.join("0.log")
    }

    #[test]
    fn rotated_files_come_before_the_current_one() {
        let directory = tempfile::tempdir().unwrap();
        let files = of(&log(directory.path())).unwrap();
        let names: Vec<_> =
            files.iter().map(|it| it.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["0.log.20260101-000000", "0.log.20260101-000000.001", "0.log"]);
        assert!(of(&directory.path().join("no/0.log")).unwrap().is_empty());
    }

    #[test]
    fn the_tail_may_begin_in_an_older_file() {
        let directory = tempfile::tempdir().unwrap();
        let files = of(&log(directory.path())).unwrap();
        let first_line = |lines| {
            let (index, start) = start_of_tail(&files, lines).unwrap();
            let text = fs::read_to_string(&files[index]).unwrap();
            let rest = &text[usize::try_from(start).unwrap()..];
            rest.lines().next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap()
        };
        for (lines, expected) in
            [(1, 4_999), (10, 4_990), (4_980, 20), (4_981, 19), (4_991, 9), (5_000, 0), (9_999, 0)]
        {
            assert_eq!(first_line(lines), expected, "{lines} lines");
        }
    }

    #[test]
    fn the_last_words_are_bounded_in_lines_and_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path());
        assert_eq!(last_text(&log, 2, 2_048).unwrap(), "line 4998\nline 4999\n");
        assert_eq!(last_text(&log, 80, 6).unwrap(), " 4999\n");
        assert_eq!(last_text(&directory.path().join("none"), 80, 6).unwrap(), "");
    }
}
