//! The file of a log: appended to, rotated by size, opened anew on demand.

use super::LoggerSettings;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// As containerd and the kubelet have it: the log's group may read it.
const MODE: u32 = 0o640;

/// How many logs may be rotated away within one second before one replaces another.
const ROTATIONS_PER_SECOND_MAX: u32 = 1_000;

#[derive(Debug)]
pub(super) struct LogFile {
    settings: LoggerSettings,
    /// `None` where it could not be opened: tried again with every write.
    file: Option<File>,
    size_bytes: u64,
}

impl LogFile {
    pub(super) fn new(settings: LoggerSettings) -> Self {
        let mut log = Self { settings, file: None, size_bytes: 0 };
        log.reopen();
        log
    }

    /// Opens the file that has the log's name now.
    pub(super) fn reopen(&mut self) {
        // A log that cannot be opened is no reason to stop the container: its output is dropped
        // until it can.
        self.file = open(&self.settings.log_path).ok();
        let size = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.size_bytes = size.map_or(0, |metadata| metadata.len());
    }

    /// Appends whole records. What cannot be written, as on a full disk, is dropped.
    pub(super) fn append(&mut self, records: &[u8], now: Timestamp) {
        if records.is_empty() {
            return;
        }
        let length = records.len() as u64;
        if self.size_bytes > 0 && self.size_bytes + length > self.settings.bytes_max {
            // A log that cannot be rotated grows: better than one that is lost.
            rotate(&self.settings, now).ok();
            self.reopen();
        }
        if self.file.is_none() {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return };
        match file.write_all(records) {
            Ok(()) => self.size_bytes += length,
            // A part may have been written, which the next record would be taken for the rest of.
            // Where it cannot be cut off, readers skip the line.
            Err(_) => drop(file.set_len(self.size_bytes)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// Gives the log another name and removes the oldest of those that have one. The names are those
/// that the kubelet's own rotation gives (`0.log.20060102-150405`), which log collectors know.
fn rotate(settings: &LoggerSettings, now: Timestamp) -> io::Result<()> {
    let stem = format!("{}.{}", settings.log_path.display(), now.strftime("%Y%m%d-%H%M%S"));
    let later = (1..ROTATIONS_PER_SECOND_MAX).map(|count| format!("{stem}.{count:03}"));
    let mut names = std::iter::once(stem.clone()).chain(later).map(PathBuf::from);
    let free = names.find(|name| !name.exists()).unwrap_or(PathBuf::from(stem));
    fs::rename(&settings.log_path, free)?;
    let mut rotated = rotated_logs(&settings.log_path)?;
    rotated.sort();
    let kept = settings.files_max.saturating_sub(1);
    let surplus = rotated.len().saturating_sub(kept);
    rotated.iter().take(surplus).try_for_each(fs::remove_file)
}

fn rotated_logs(log_path: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = log_path.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{}.", log_path.file_name().unwrap_or_default().to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn log_in(directory: &Path) -> LogFile {
        LogFile::new(LoggerSettings {
            log_path: directory.join("pod/0.log"),
            bytes_max: 10,
            files_max: 3,
            pid_path: directory.join("pid"),
            directory: directory.to_owned(),
            pipes: None,
        })
    }

    fn contents(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(directory.join("pod"))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn a_full_log_is_rotated_and_the_oldest_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log_in(directory.path());
        log.append(b"1234567\n", at(0));
        log.append(b"a\n", at(0));
        assert_eq!(contents(directory.path()), pairs(&[("0.log", "1234567\na\n")]));
        for (text, second) in [("b\n", 1), ("1234567\n", 1), ("c\n", 1), ("1234567\n", 1)] {
            log.append(text.as_bytes(), at(second));
        }
        log.append(b"d\n", at(2));
        log.append(b"1234567890\n", at(3));
        let expected = pairs(&[
            ("0.log", "1234567890\n"),
            ("0.log.20260101-000002", "c\n1234567\n"),
            ("0.log.20260101-000003", "d\n"),
        ]);
        let actual = contents(directory.path());
        assert_eq!(actual, expected, "{actual:?}");
    }

    #[test]
    fn a_renamed_log_is_begun_anew_on_demand() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log_in(directory.path());
        log.append(b"a\n", at(0));
        fs::rename(directory.path().join("pod/0.log"), directory.path().join("pod/old")).unwrap();
        log.append(b"b\n", at(0));
        log.reopen();
        log.append(b"c\n", at(0));
        assert_eq!(contents(directory.path()), pairs(&[("0.log", "c\n"), ("old", "a\nb\n")]));
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pod"), "in the way").unwrap();
        let mut log = log_in(directory.path());
        log.append(b"a\n", at(0));
        fs::remove_file(directory.path().join("pod")).unwrap();
        log.append(b"b\n", at(0));
        assert_eq!(contents(directory.path()), pairs(&[("0.log", "b\n")]));
    }
}
