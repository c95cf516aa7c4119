//! What is known of the files while the server runs: which have been applied, and which are to be
//! tried again, and when. Pure.

use super::files::Found;
use super::manifest::Wanted;
use super::object::{ObjectId, ServedKinds};
use super::outcome::{Outcomes, Problem};
use super::plan::FileView;
use crate::stdx::Backoff;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// As long as upstream's controllers wait at the longest.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(1_000) };

/// What has to come before it is worth trying again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Waits {
    /// By version and name.
    kinds: BTreeSet<(String, String)>,
    namespaces: BTreeSet<String>,
}

impl Waits {
    fn of(outcomes: &Outcomes) -> Self {
        let mut waits = Self::default();
        for outcome in &outcomes.applied {
            match &outcome.problem {
                Some(Problem::NoKind) => {
                    let ObjectId { api_version, kind, .. } = outcome.id.clone();
                    waits.kinds.insert((api_version, kind));
                }
                Some(Problem::NoNamespace { namespace, .. }) => {
                    waits.namespaces.insert(namespace.clone());
                }
                Some(Problem::Disputed { .. } | Problem::Failed { .. }) | None => {}
            }
        }
        waits
    }
}

#[derive(Debug)]
struct File {
    checksum: String,
    view: FileView,
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` where the file is gone and something is left of it.
    file: Option<File>,
    is_due: bool,
    waits: Waits,
    failures: u32,
    retry_at: Option<Instant>,
}

/// See the module. By the path of the file.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<String, Entry>);

/// What has come of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended<'a> {
    Well,
    With(&'a Outcomes),
    /// Not even its AddOn could be written.
    Badly,
}

impl Memory {
    /// The checksums of files that need not be read again where they are the same.
    pub(super) fn known(&self, has_addon: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
        let known = self.0.iter().filter(|(source, entry)| !entry.is_due && has_addon(source));
        let checksum = |(source, entry): (&String, &Entry)| {
            Some((source.clone(), entry.file.as_ref()?.checksum.clone()))
        };
        known.filter_map(checksum).collect()
    }

    /// Takes in what there is now. Returns what is known of each file, and the objects of those that
    /// were read.
    pub(super) fn take(
        &mut self,
        found: BTreeMap<String, Found>,
    ) -> (BTreeMap<String, FileView>, BTreeMap<String, Vec<Wanted>>) {
        self.0.retain(|source, entry| found.contains_key(source) || entry.failures > 0);
        for (_, entry) in self.0.iter_mut().filter(|(source, _)| !found.contains_key(*source)) {
            entry.file = None;
        }
        let (mut views, mut read) = (BTreeMap::new(), BTreeMap::new());
        for (source, found) in found {
            let view = match found {
                Found::Kept => FileView::Kept,
                Found::Same => self.view(&source),
                Found::Broken { checksum, message } => {
                    self.note(&source, File { checksum, view: FileView::Broken { message } })
                }
                Found::Objects { checksum, wanted } => {
                    let ids = wanted.iter().map(|wanted| wanted.id.clone()).collect();
                    read.insert(source.clone(), wanted);
                    let view = FileView::Objects { checksum: checksum.clone(), ids };
                    self.note(&source, File { checksum, view })
                }
            };
            views.insert(source, view);
        }
        (views, read)
    }

    fn view(&self, source: &str) -> FileView {
        let file = self.0.get(source).and_then(|entry| entry.file.as_ref());
        file.map_or(FileView::Kept, |file| file.view.clone())
    }

    fn note(&mut self, source: &str, file: File) -> FileView {
        let view = file.view.clone();
        let entry = self.0.entry(source.to_owned()).or_default();
        let is_same = entry.file.as_ref().is_some_and(|known| known.checksum == file.checksum);
        if !is_same {
            *entry = Entry { is_due: true, ..Entry::default() };
        }
        entry.file = Some(file);
        view
    }

    /// Those to be applied although their AddOns know them.
    pub(super) fn due(&self) -> BTreeSet<String> {
        let due = self.0.iter().filter(|(_, entry)| entry.is_due);
        due.map(|(source, _)| source.clone()).collect()
    }

    pub(super) fn end(&mut self, source: &str, ended: Ended<'_>, now: Instant) {
        let entry = self.0.entry(source.to_owned()).or_default();
        let has_failed = match ended {
            Ended::Well => false,
            Ended::With(outcomes) => outcomes.is_to_be_tried_again(),
            Ended::Badly => true,
        };
        // Whose an object is may be another with every change of another file.
        entry.is_due = matches!(ended, Ended::With(outcomes) if outcomes.has_disputes());
        entry.waits = match ended {
            Ended::With(outcomes) => Waits::of(outcomes),
            Ended::Well | Ended::Badly => Waits::default(),
        };
        entry.failures = if has_failed { entry.failures.saturating_add(1) } else { 0 };
        entry.retry_at = has_failed.then(|| now + BACKOFF.delay(entry.failures));
        if entry.file.is_none() && !has_failed {
            self.0.remove(source);
        }
    }

    /// When something is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.0.values().filter_map(|entry| entry.retry_at).min()
    }

    /// Has files be tried again whose time has come.
    pub(super) fn rouse_late(&mut self, now: Instant) {
        for entry in self.0.values_mut().filter(|entry| entry.retry_at.is_some_and(|at| at <= now))
        {
            entry.retry_at = None;
            entry.is_due = true;
        }
    }

    /// Has files be tried again that wait for a kind that is there now. Says whether there are any.
    pub(super) fn rouse_by_kinds(&mut self, kinds: &ServedKinds) -> bool {
        self.rouse(|waits| {
            let mut missing = waits.kinds.iter();
            missing.any(|(api_version, kind)| kinds.find(api_version, kind).is_some())
        })
    }

    /// The same of namespaces.
    pub(super) fn rouse_by_namespaces(&mut self, is_there: impl Fn(&str) -> bool) -> bool {
        self.rouse(|waits| waits.namespaces.iter().any(|namespace| is_there(namespace)))
    }

    fn rouse(&mut self, is_over: impl Fn(&Waits) -> bool) -> bool {
        let mut any = false;
        for entry in self.0.values_mut().filter(|entry| is_over(&entry.waits)) {
            entry.is_due = true;
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::tests::{id, with_kites};
    use super::super::outcome::Outcome;
    use super::*;
    use serde_json::Value;

    fn found(checksum: &str) -> Found {
        let wanted = vec![Wanted { id: id("v1 Pod a"), document: Value::Null }];
        Found::Objects { checksum: checksum.to_owned(), wanted }
    }

    fn of(problem: Problem) -> Outcomes {
        let id = id("example.com/v1 Kite x/a");
        Outcomes { applied: vec![Outcome { id, problem: Some(problem) }], left: Vec::new() }
    }

    fn take(memory: &mut Memory, found: Found) -> FileView {
        memory.take([("a.yaml".to_owned(), found)].into()).0["a.yaml"].clone()
    }

    #[test]
    fn a_file_is_due_when_it_is_new_and_when_it_has_changed() {
        let (mut memory, now) = (Memory::default(), crate::stdx::monotonic());
        let first = take(&mut memory, found("1"));
        assert!(memory.due().contains("a.yaml"));
        assert!(memory.known(|_| true).is_empty(), "it has to be read for that");
        memory.end("a.yaml", Ended::Well, now);
        assert!(memory.due().is_empty());
        assert_eq!(memory.known(|_| true)["a.yaml"], "1");
        assert!(memory.known(|_| false).is_empty(), "without an AddOn it is read");
        assert_eq!(take(&mut memory, Found::Same), first);
        assert_eq!(take(&mut memory, Found::Kept), FileView::Kept);
        assert_eq!(take(&mut memory, found("1")), first);
        assert!(memory.due().is_empty());
        take(&mut memory, found("2"));
        assert!(memory.due().contains("a.yaml"));
        memory.take(BTreeMap::new());
        assert!(memory.0.is_empty());
    }

    #[test]
    fn failures_are_tried_again_ever_later() {
        let (mut memory, now) = (Memory::default(), crate::stdx::monotonic());
        take(&mut memory, found("1"));
        let failed = of(Problem::Failed { message: "no".to_owned() });
        for seconds in [1, 2, 4] {
            memory.end("a.yaml", Ended::With(&failed), now);
            assert_eq!(memory.next_retry(), Some(now + Duration::from_secs(seconds)));
        }
        memory.rouse_late(now);
        assert!(memory.due().is_empty());
        memory.rouse_late(now + Duration::from_secs(4));
        assert!(memory.due().contains("a.yaml"));
        memory.end("a.yaml", Ended::Badly, now);
        take(&mut memory, found("2"));
        memory.end("a.yaml", Ended::Badly, now);
        let first = Some(now + Duration::from_secs(1));
        assert_eq!(memory.next_retry(), first, "another text begins anew");
        memory.end("a.yaml", Ended::Well, now);
        assert_eq!(memory.next_retry(), None);
    }

    #[test]
    fn what_is_left_of_a_file_is_tried_again_too() {
        let (mut memory, now) = (Memory::default(), crate::stdx::monotonic());
        memory.end("gone.yaml", Ended::Badly, now);
        memory.take(BTreeMap::new());
        assert!(memory.next_retry().is_some());
        memory.end("gone.yaml", Ended::Well, now);
        assert!(memory.0.is_empty());
    }

    #[test]
    fn a_kind_or_namespace_that_comes_is_what_was_waited_for() {
        let (mut memory, now) = (Memory::default(), crate::stdx::monotonic());
        take(&mut memory, found("1"));
        memory.end("a.yaml", Ended::With(&of(Problem::NoKind)), now);
        assert_eq!(memory.next_retry(), None, "time brings no kinds");
        assert!(!memory.rouse_by_kinds(&ServedKinds::default()));
        assert!(memory.rouse_by_kinds(&with_kites()) && !memory.due().is_empty());
        let (namespace, message) = ("x".to_owned(), String::new());
        memory.end("a.yaml", Ended::With(&of(Problem::NoNamespace { namespace, message })), now);
        assert!(!memory.rouse_by_namespaces(|name| name == "y"));
        assert!(memory.rouse_by_namespaces(|name| name == "x"));
    }
}
