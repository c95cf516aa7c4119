//! Lists of stored objects, rendered piece by piece while they are sent.

use super::super::config::ENTRIES_PER_TURN;
use super::accept::Form;
use super::indent::Indenter;
use super::table::TableWriter;
use super::{partial, splice};
use crate::api::{Revision, Status};
use crate::registry::Kind;
use crate::storage::Entry;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use std::io::Write as _;

/// A piece of a list is sent when it is about this large.
const PIECE_BYTES: usize = super::super::config::BODY_PIECE_BYTES;

/// Lets others on this thread have a turn, every so many entries of work.
pub(crate) async fn take_turns(index: usize) {
    if index % ENTRIES_PER_TURN == ENTRIES_PER_TURN - 1 {
        tokio::task::yield_now().await;
    }
}

/// The metadata of a list.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListHead {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    pub(crate) continue_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remaining_item_count: Option<u64>,
}

impl ListHead {
    pub(super) fn of(revision: Revision) -> Self {
        let is_stored = revision != Revision::default();
        let resource_version = if is_stored { revision.to_string() } else { String::new() };
        Self { resource_version, ..Self::default() }
    }

    pub(super) fn push(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("strings and numbers serialize");
    }
}

/// A list on its way out: an iterator over the pieces of its JSON text.
pub(crate) struct ListBody {
    entries: std::vec::IntoIter<Entry>,
    form: Form,
    /// How an object is written as one of the list.
    push: fn(&mut Vec<u8>, &[u8], Revision),
    pending: Option<Vec<u8>>,
    is_first: bool,
    /// Whether the list ends with these entries.
    is_last: bool,
    indenter: Option<Indenter>,
}

impl ListBody {
    /// A list of `entries` in the form of objects or of their metadata.
    ///
    /// # Errors
    /// As [`super::render`]; a table is rendered before anything of it is sent, and has one piece.
    pub(crate) async fn new(
        kind: &Kind,
        entries: Vec<Entry>,
        head: &ListHead,
        form: Form,
        now: Timestamp,
    ) -> Result<Self, Status> {
        let mut opening = Vec::new();
        // Nothing of a custom resource is left out (upstream `UnstructuredList`).
        let push = match kind.custom_version() {
            Some(_) => splice::push_with_revision,
            None => splice::push_item,
        };
        match form {
            Form::Table(table) => {
                let mut writer = TableWriter::new(kind, table, now);
                for (index, entry) in entries.iter().enumerate() {
                    take_turns(index).await;
                    writer.push(&entry.value, entry.revision)?;
                }
                opening = writer.finish(head);
                let entries = Vec::new().into_iter();
                return Ok(Self::of(entries, form, push, opening));
            }
            Form::Object => {
                let (list, version) = (&kind.facts.kind, kind.facts.api_version());
                write!(opening, "{{\"kind\":\"{list}List\",\"apiVersion\":\"{version}\"")
            }
            Form::Partial(version) => {
                let version = version.api_version();
                write!(
                    opening,
                    "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"{version}\""
                )
            }
        }
        .expect("writing to a Vec succeeds");
        opening.extend_from_slice(b",\"metadata\":");
        head.push(&mut opening);
        opening.extend_from_slice(b",\"items\":[");
        let entries = entries.into_iter();
        Ok(Self::of(entries, form, push, opening))
    }

    fn of(
        entries: std::vec::IntoIter<Entry>,
        form: Form,
        push: fn(&mut Vec<u8>, &[u8], Revision),
        opening: Vec<u8>,
    ) -> Self {
        let pending = Some(opening);
        Self { entries, form, push, pending, is_first: true, is_last: true, indenter: None }
    }

    /// On many lines, for people.
    pub(crate) fn indented(self) -> Self {
        Self { indenter: Some(Indenter::default()), ..self }
    }

    /// There are more entries, which [`go_on`](Self::go_on) adds where pieces end before the list is
    /// finished. Not for tables.
    pub(crate) fn unfinished(self) -> Self {
        Self { is_last: false, ..self }
    }

    /// Goes on with more entries, when all are written that were there before.
    pub(crate) fn go_on(&mut self, entries: Vec<Entry>, is_last: bool) {
        debug_assert!(self.entries.as_slice().is_empty(), "all entries before these are written");
        self.entries = entries.into_iter();
        self.is_last = is_last;
    }

    /// Nothing comes any more, though the list has no end.
    pub(crate) fn abandon(&mut self) {
        self.pending = None;
    }

    /// Whether the last piece has been handed out.
    pub(crate) fn is_finished(&self) -> bool {
        self.pending.is_none()
    }
}

impl Iterator for ListBody {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let piece = self.next_compact()?;
        let Some(indenter) = &mut self.indenter else { return Some(Bytes::from(piece)) };
        let mut indented = Vec::new();
        indenter.push(&piece, &mut indented);
        if self.is_finished() {
            indented.push(b'\n');
        }
        Some(Bytes::from(indented))
    }
}

impl ListBody {
    fn next_compact(&mut self) -> Option<Vec<u8>> {
        let mut piece = self.pending.take()?;
        if let Form::Table(_) = self.form {
            return Some(piece);
        }
        for entry in self.entries.by_ref() {
            if !std::mem::take(&mut self.is_first) {
                piece.push(b',');
            }
            match self.form {
                Form::Partial(version) => {
                    let written = partial::push(&mut piece, &entry.value, entry.revision, version);
                    // Only what is not an object of ours has no metadata, and that is not listed.
                    written.unwrap_or_else(|_| piece.extend_from_slice(b"null"));
                }
                _ => (self.push)(&mut piece, &entry.value, entry.revision),
            }
            if piece.len() >= PIECE_BYTES {
                self.pending = Some(Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4));
                return Some(piece);
            }
        }
        if !self.is_last {
            self.pending = Some(piece);
            return None;
        }
        piece.extend_from_slice(b"]}");
        Some(piece)
    }
}
