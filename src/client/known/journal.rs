//! What one watch showed last, in a file that grows by what changes.
//!
//! A line is `+key<TAB>object` or `-key`; the last line of a key counts. Nothing is synced: after a
//! power cut the file may end early, in the middle of a line, and says what was known before that.

use super::worth::{Kept, kept};
use crate::stdx::replace_file;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// The file is written anew when it has so many lines that no longer count, and more of them than
/// of others.
const DEAD_LINES_MIN: usize = 64;

/// See the module.
#[derive(Debug)]
pub(in crate::client) struct Journal {
    path: PathBuf,
    plural: String,
    /// What the file says, by key. `None`: there is no file, and never was.
    marks: Option<HashMap<String, u64>>,
    lines: usize,
    file: Option<File>,
}

impl Journal {
    /// What cannot be read is as good as not there.
    pub(super) fn open(path: PathBuf, plural: String) -> Self {
        let mut journal = Self { path, plural, marks: None, lines: 0, file: None };
        if let Ok(text) = fs::read_to_string(&journal.path) {
            if !text.is_empty() && !text.ends_with('\n') {
                // What comes next is to begin on a line of its own.
                replace_file(&journal.path, whole(&text).as_bytes(), 0o600).ok();
            }
            journal.lines = whole(&text).lines().count();
            let marks = read(&text).into_iter().filter_map(|(key, object)| {
                let object: Value = serde_json::from_str(object).ok()?;
                Some((key.to_owned(), kept(&journal.plural, object).mark))
            });
            journal.marks = Some(marks.collect());
        }
        journal
    }

    /// The objects that the file has; `None` where nothing was ever known.
    pub(in crate::client) fn recall(&self) -> Option<Vec<String>> {
        self.marks.as_ref()?;
        let text = fs::read_to_string(&self.path).ok()?;
        Some(read(&text).into_values().map(str::to_owned).collect())
    }

    /// These are all the objects there are.
    pub(in crate::client) fn listed(&mut self, objects: Vec<(String, Value)>) -> io::Result<()> {
        let mut gone = self.marks.clone().unwrap_or_default();
        let mut lines = String::new();
        for (key, object) in objects {
            gone.remove(&key);
            self.note(&key, object, &mut lines);
        }
        for key in gone.into_keys() {
            self.strike(&key, &mut lines);
        }
        self.marks.get_or_insert_default();
        self.append(&lines)
    }

    pub(in crate::client) fn applied(&mut self, key: &str, object: Value) -> io::Result<()> {
        let mut lines = String::new();
        self.note(key, object, &mut lines);
        self.append(&lines)
    }

    pub(in crate::client) fn deleted(&mut self, key: &str) -> io::Result<()> {
        let mut lines = String::new();
        self.strike(key, &mut lines);
        self.append(&lines)
    }

    fn note(&mut self, key: &str, object: Value, lines: &mut String) {
        let Kept { text, mark } = kept(&self.plural, object);
        let marks = self.marks.get_or_insert_default();
        if marks.insert(key.to_owned(), mark) != Some(mark) {
            lines.push_str(&format!("+{key}\t{text}\n"));
            self.lines += 1;
        }
    }

    fn strike(&mut self, key: &str, lines: &mut String) {
        let known = self.marks.as_mut().and_then(|marks| marks.remove(key));
        if known.is_some() {
            lines.push_str(&format!("-{key}\n"));
            self.lines += 1;
        }
    }

    /// An empty file says something, too: that there is nothing.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        if lines.is_empty() && (self.file.is_some() || self.path.exists()) {
            return Ok(());
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(lines.as_bytes())?;
        }
        let live = self.marks.as_ref().map_or(0, HashMap::len);
        let dead = self.lines.saturating_sub(live);
        if dead > DEAD_LINES_MIN && dead > live { self.compact() } else { Ok(()) }
    }

    fn compact(&mut self) -> io::Result<()> {
        let text = fs::read_to_string(&self.path)?;
        let live = read(&text);
        let lines: String =
            live.iter().map(|(key, object)| format!("+{key}\t{object}\n")).collect();
        replace_file(&self.path, lines.as_bytes(), 0o600)?;
        (self.lines, self.file) = (live.len(), None);
        Ok(())
    }
}

/// All lines that have their end.
fn whole(text: &str) -> &str {
    let end = text.rfind('\n').map_or(0, |last| last + 1);
    &text[..end]
}

/// What counts of a file, by key.
fn read(text: &str) -> BTreeMap<&str, &str> {
    let mut known = BTreeMap::new();
    for line in whole(text).lines() {
        if let Some((key, object)) = line.strip_prefix('+').and_then(|rest| rest.split_once('\t')) {
            known.insert(key, object);
        } else if let Some(key) = line.strip_prefix('-') {
            known.remove(key);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, revision: u64, value: u64) -> (String, Value) {
        let object = json!({
            "metadata": {"name": name, "resourceVersion": revision.to_string()},
            "spec": {"value": value},
        });
        (name.to_owned(), object)
    }

    fn shown(journal: &Journal) -> Option<String> {
        let objects = journal.recall()?;
        let objects = objects.iter().map(|text| {
            let object: Value = serde_json::from_str(text).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            format!("{name}={}", object["spec"]["value"])
        });
        Some(objects.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_was_shown_last_is_known_to_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.known");
        let open = || Journal::open(path.clone(), "services".to_owned());
        assert_eq!(shown(&open()), None);
        let mut journal = open();
        journal.listed(vec![object("a", 1, 1), object("b", 2, 1)]).unwrap();
        let (key, changed) = object("b", 3, 2);
        journal.applied(&key, changed).unwrap();
        journal.deleted("a").unwrap();
        journal.deleted("never").unwrap();
        assert_eq!(shown(&open()).as_deref(), Some("b=2"));
        // What is as it was is not written again, whoever asks.
        let before = fs::read(&path).unwrap();
        let mut next = open();
        next.listed(vec![object("b", 9, 2)]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        next.listed(vec![]).unwrap();
        assert_eq!(shown(&open()).as_deref(), Some(""));
    }

    #[test]
    fn nothing_is_something_to_know() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.known");
        Journal::open(path.clone(), "services".to_owned()).listed(vec![]).unwrap();
        let journal = Journal::open(path, "services".to_owned());
        assert_eq!(shown(&journal).as_deref(), Some(""));
    }

    #[test]
    fn a_torn_end_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.known");
        let mut journal = Journal::open(path.clone(), "services".to_owned());
        journal.listed(vec![object("a", 1, 1), object("b", 1, 1)]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for length in 0..text.len() {
            fs::write(&path, &text[..length]).unwrap();
            let mut journal = Journal::open(path.clone(), "services".to_owned());
            let before = shown(&journal).unwrap();
            assert!(["", "a=1", "a=1 b=1"].contains(&&*before), "{before}");
            let (key, object) = object("c", 1, 1);
            journal.applied(&key, object).unwrap();
            let after = shown(&journal).unwrap();
            assert_eq!(after, format!("{before} c=1").trim_start());
        }
    }

    #[test]
    fn the_file_stays_small() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("services.known");
        let mut journal = Journal::open(path.clone(), "services".to_owned());
        for value in 0..1_000 {
            let (key, object) = object("a", value, value);
            journal.applied(&key, object).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= DEAD_LINES_MIN + 2, "{}", text.lines().count());
        assert_eq!(shown(&journal).as_deref(), Some("a=999"));
    }
}
