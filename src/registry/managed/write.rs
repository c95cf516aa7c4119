//! What a create, update or patch makes of `metadata.managedFields` (apimachinery
//! pkg/util/managedfields/internal: fieldmanager.go, skipnonapplied.go, managedfieldsupdater.go,
//! v1.35).

use super::document::Node;
use super::entries::{self, Entry, Operation, Owner};
use super::place::fill;
use super::updater::{Failure, Frame, add, cap_updaters};
use jiff::Timestamp;
use std::borrow::Cow;

/// Who writes, to which part of an object, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Empty where nothing is known of who writes.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
}

/// What is known of the managers before a write, as JSON lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// What is stored.
    pub stored: Option<&'a str>,
    /// What the client sends along. Absent is not empty: an empty list resets.
    pub submitted: Option<&'a str>,
}

/// Who is told where nothing is known.
const UNKNOWN: &str = "unknown";

impl<'a> Writer<'a> {
    pub(super) fn owner(&self, operation: Operation, version: &'a str) -> Owner<'a> {
        let manager = if self.manager.is_empty() { UNKNOWN } else { self.manager };
        Owner {
            manager: Cow::Borrowed(manager),
            operation,
            version: Cow::Borrowed(version),
            subresource: Cow::Borrowed(self.subresource),
        }
    }
}

impl<'a> Known<'a> {
    /// From what a write goes on (upstream `decodeLiveOrNew`): a client may write managers itself,
    /// but not by a subresource, and what it sends is forgotten where it cannot be read.
    fn entries(&self, writer: &Writer<'_>) -> Vec<Entry<'a>> {
        let submitted = self.submitted.filter(|_| writer.subresource.is_empty());
        if submitted.is_some_and(entries::is_reset) {
            return Vec::new();
        }
        let read = |json: Option<&'a str>| json.and_then(|json| entries::parse(json).ok());
        read(submitted)
            .filter(|entries| !entries.is_empty())
            .or_else(|| read(self.stored))
            .unwrap_or_default()
    }
}

/// The managers of an object after it was written: the JSON of its `managedFields`. `live` is what
/// it was before, and `None` where it is new. Both documents are complete, with their defaults.
///
/// `None`: nobody is known, and an object that is not new begins to have managers when it is
/// applied to.
///
/// # Errors
/// Where elements of a list cannot be told apart. Upstream forgets the managers then.
pub fn after_write<'a>(
    frame: &Frame<'a>,
    (live, new): (Option<&'a [u8]>, &'a [u8]),
    known: Known<'a>,
    writer: &Writer<'a>,
) -> Result<Option<String>, String> {
    if live == Some(new) && known.submitted.is_none() {
        return Ok(known.stored.map(str::to_owned));
    }
    let mut entries = known.entries(writer);
    if entries.is_empty() && live.is_some() {
        return Ok(None);
    }
    let live = live.map_or_else(|| Ok(Node::Map(Vec::new())), Node::parse);
    let mut live = live.map_err(|error| error.to_string())?;
    let mut new = Node::parse(new).map_err(|error| error.to_string())?;
    fill(frame.place, &mut live);
    fill(frame.place, &mut new);
    note(frame, (&live, &new), &mut entries, writer).map_err(|failure| match failure {
        Failure::Broken(why) => why,
        Failure::Conflicts(conflicts) => conflicts.to_string(),
    })?;
    cap_updaters(&mut entries);
    Ok(entries::write(entries))
}

/// Gives the writer what changes.
pub(super) fn note<'a>(
    frame: &Frame<'a>,
    (live, new): (&Node<'a>, &Node<'a>),
    entries: &mut Vec<Entry<'a>>,
    writer: &Writer<'a>,
) -> Result<(), Failure<'a>> {
    let fields = frame.update(live, new, entries)?;
    if !fields.is_empty() {
        let owner = writer.owner(Operation::Update, frame.version);
        add(entries, Entry { owner, time: Some(writer.now), fields });
    }
    Ok(())
}
