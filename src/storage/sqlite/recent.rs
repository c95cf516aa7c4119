//! What was read or written lately, so that reading it again takes no thread and no file.
//!
//! Most of what the API server reads, it reads again and again: the namespace of what is created,
//! its limits and quotas, the pod that is changed a moment after it was made. Start at
//! [`Recent::value`] and [`Recent::page`]. Architecture invariant: this is a part of the view, under
//! its lock, and is told of every change with it; whatever it answers is so at the view's revision.

use crate::api::Revision;
use crate::storage::{Entry, Event, Key, ListRequest};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// What is remembered at most, in bytes; beyond, what was not asked for the longest goes.
const BYTES_MAX: usize = 2 * 1_048_576;

/// Larger values, and lists that are larger in all, are read from the file each time.
const ITEM_BYTES_MAX: usize = 32 * 1_024;

/// What remembering costs beside key and value, about.
const OVERHEAD_BYTES: usize = 128;

/// Two generations: what the old one has is asked for again, or goes with it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: Generation,
    old: Generation,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Generation {
    /// `None`: the key has no value.
    values: HashMap<Key, Option<Value>>,
    /// Everything below a prefix.
    pages: HashMap<Box<str>, Arc<[Entry]>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Value {
    revision: Revision,
    bytes: Bytes,
}

impl Recent {
    /// The value of a key, or that it has none; nothing where that is not remembered.
    pub(super) fn value(&mut self, key: &Key) -> Option<Option<Entry>> {
        let known = match self.young.values.get(key) {
            Some(known) => known.clone(),
            None => {
                let known = self.old.values.remove(key)?;
                self.add_value(key.clone(), known.clone());
                known
            }
        };
        Some(known.map(|value| Entry {
            key: key.clone(),
            value: value.bytes,
            revision: value.revision,
        }))
    }

    /// What is read again whole: everything below a prefix, where that is within the limit.
    pub(super) fn page(&mut self, request: &ListRequest) -> Option<Vec<Entry>> {
        if !is_whole(request) {
            return None;
        }
        let prefix = request.prefix.as_str();
        if !self.young.pages.contains_key(prefix) {
            let page = self.old.pages.remove(prefix)?;
            self.add_page(prefix, page);
        }
        let page = self.young.pages.get(prefix)?;
        let fits = request.limit.is_none_or(|limit| page.len() <= limit.get());
        fits.then(|| page.to_vec())
    }

    /// Remembers what was read, which is so now.
    pub(super) fn read(&mut self, key: &Key, entry: Option<&Entry>) {
        let value =
            entry.map(|entry| Value { revision: entry.revision, bytes: entry.value.clone() });
        self.add_value(key.clone(), value);
    }

    /// Remembers what was listed, which is everything there is below the prefix now.
    pub(super) fn listed(&mut self, request: &ListRequest, entries: &[Entry]) {
        let bytes: usize = entries.iter().map(|entry| size(&entry.key, entry.value.len())).sum();
        if is_whole(request) && bytes <= ITEM_BYTES_MAX {
            self.add_page(&request.prefix, entries.into());
        }
    }

    /// Takes in what has changed.
    pub(super) fn changed(&mut self, event: &Event) {
        let key = &event.key;
        for generation in [&mut self.young, &mut self.old] {
            generation.forget_pages_of(key);
            generation.forget_value(key);
        }
        let value = event.value.clone().map(|bytes| Value { revision: event.revision, bytes });
        self.add_value(key.clone(), value);
    }

    /// Forgets everything, and remembers nothing any more.
    pub(super) fn close(&mut self) {
        *self = Self { is_closed: true, ..Self::default() };
    }

    fn add_value(&mut self, key: Key, value: Option<Value>) {
        let bytes = size(&key, value.as_ref().map_or(0, |value| value.bytes.len()));
        if self.is_closed || bytes > ITEM_BYTES_MAX {
            return;
        }
        self.make_room(bytes);
        self.young.forget_value(&key);
        self.young.bytes += bytes;
        self.young.values.insert(key, value);
    }

    fn add_page(&mut self, prefix: &str, page: Arc<[Entry]>) {
        if self.is_closed {
            return;
        }
        let bytes = page_size(prefix, &page);
        self.make_room(bytes);
        self.young.forget_page(prefix);
        self.young.bytes += bytes;
        self.young.pages.insert(prefix.into(), page);
    }

    fn make_room(&mut self, bytes: usize) {
        if self.young.bytes + bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

impl Generation {
    fn forget_value(&mut self, key: &Key) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= size(key, value.map_or(0, |value| value.bytes.len()));
        }
    }

    fn forget_page(&mut self, prefix: &str) {
        if let Some(page) = self.pages.remove(prefix) {
            self.bytes -= page_size(prefix, &page);
        }
    }

    /// Prefixes end with a slash, so the key says which it is below.
    fn forget_pages_of(&mut self, key: &Key) {
        if self.pages.is_empty() {
            return;
        }
        let key = key.as_str();
        for (at, _) in key.match_indices('/') {
            self.forget_page(&key[..=at]);
        }
    }
}

/// Whether all there is now below a directory of keys is asked for.
fn is_whole(request: &ListRequest) -> bool {
    request.at.is_none() && request.after.is_none() && request.prefix.ends_with('/')
}

fn size(key: &Key, value_bytes: usize) -> usize {
    key.as_str().len() + value_bytes + OVERHEAD_BYTES
}

fn page_size(prefix: &str, page: &[Entry]) -> usize {
    let entries = page.iter().map(|entry| size(&entry.key, entry.value.len()));
    prefix.len() + OVERHEAD_BYTES + entries.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str, revision: u64) -> Entry {
        let value = Bytes::copy_from_slice(value.as_bytes());
        Entry { key: Key::from(key), value, revision: Revision(revision) }
    }

    fn changed(recent: &mut Recent, key: &str, value: Option<&str>, revision: u64) {
        let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
        let (key, revision) = (Key::from(key), Revision(revision));
        recent.changed(&Event { key, revision, value, previous: None });
    }

    fn all(prefix: &str) -> ListRequest {
        ListRequest { prefix: prefix.to_owned(), after: None, limit: None, at: None }
    }

    fn shown(entry: &Entry) -> String {
        let value = String::from_utf8(entry.value.to_vec()).unwrap();
        format!("{}={value}@{}", entry.key.as_str(), entry.revision)
    }

    #[track_caller]
    fn check(recent: &mut Recent, key: &str, expected: &str) {
        let found = match recent.value(&Key::from(key)) {
            None => "?".to_owned(),
            Some(None) => "nothing".to_owned(),
            Some(Some(entry)) => shown(&entry),
        };
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_page(recent: &mut Recent, request: &ListRequest, expected: &str) {
        let found = recent.page(request);
        let found = found.map(|page| page.iter().map(shown).collect::<Vec<_>>().join(" "));
        assert_eq!(found.as_deref().unwrap_or("?"), expected);
    }

    #[test]
    fn values_are_as_they_were_last_read_or_written() {
        let mut recent = Recent::default();
        check(&mut recent, "/a/1", "?");
        recent.read(&Key::from("/a/1"), Some(&entry("/a/1", "x", 3)));
        recent.read(&Key::from("/a/2"), None);
        check(&mut recent, "/a/1", "/a/1=x@3");
        check(&mut recent, "/a/2", "nothing");
        changed(&mut recent, "/a/1", None, 4);
        changed(&mut recent, "/a/2", Some("y"), 5);
        check(&mut recent, "/a/1", "nothing");
        check(&mut recent, "/a/2", "/a/2=y@5");
    }

    #[test]
    fn a_list_is_remembered_until_something_below_it_changes() {
        let mut recent = Recent::default();
        let entries = [entry("/a/1", "x", 3), entry("/a/2", "y", 4)];
        recent.listed(&all("/a/"), &entries);
        recent.listed(&all("/"), &entries);
        recent.listed(&all("/b/"), &[]);
        check_page(&mut recent, &all("/a/"), "/a/1=x@3 /a/2=y@4");
        check_page(&mut recent, &all("/b/"), "");
        let limited =
            |limit| ListRequest { limit: std::num::NonZeroUsize::new(limit), ..all("/a/") };
        check_page(&mut recent, &limited(2), "/a/1=x@3 /a/2=y@4");
        check_page(&mut recent, &limited(1), "?");
        let later = ListRequest { after: Some(Key::from("/a/1")), ..all("/a/") };
        check_page(&mut recent, &later, "?");
        check_page(&mut recent, &ListRequest { at: Some(Revision(3)), ..all("/a/") }, "?");
        // Not one of directories: keys do not say that they are below it.
        recent.listed(&all("/a"), &entries);
        check_page(&mut recent, &all("/a"), "?");
        changed(&mut recent, "/a/3", Some("z"), 5);
        check_page(&mut recent, &all("/a/"), "?");
        check_page(&mut recent, &all("/"), "?");
        check_page(&mut recent, &all("/b/"), "");
    }

    #[test]
    fn what_nobody_asks_for_goes() {
        let mut recent = Recent::default();
        let value = "x".repeat(ITEM_BYTES_MAX / 2);
        recent.read(&Key::from("/kept"), None);
        recent.read(&Key::from("/left"), None);
        for number in 0..4 * BYTES_MAX / value.len() {
            changed(&mut recent, &format!("/{number}"), Some(&value), 1);
            check(&mut recent, "/kept", "nothing");
            assert!(recent.young.bytes + recent.old.bytes <= BYTES_MAX);
        }
        check(&mut recent, "/left", "?");
        changed(&mut recent, "/large", Some(&"x".repeat(ITEM_BYTES_MAX)), 1);
        check(&mut recent, "/large", "?");
        recent.close();
        recent.read(&Key::from("/kept"), None);
        check(&mut recent, "/kept", "?");
    }
}
