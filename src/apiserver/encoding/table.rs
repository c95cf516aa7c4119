//! Objects as rows of a `Table`, which is what `kubectl get` prints.

use super::accept::{Include, TableForm, TableVersion};
use super::lists::ListHead;
use super::{partial, splice};
use crate::api::{Revision, Status};
use crate::registry::{Column, Kind};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::io::Write as _;

/// Renders a table row by row.
pub(crate) struct TableWriter<'a> {
    kind: &'a Kind,
    columns: &'a [Column],
    form: TableForm,
    now: Timestamp,
    rows: Vec<u8>,
    with_columns: bool,
}

#[derive(Serialize)]
struct ColumnDefinition<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    format: &'a str,
    description: &'a str,
    priority: i32,
}

impl<'a> TableWriter<'a> {
    pub(crate) fn new(kind: &'a Kind, form: TableForm, now: Timestamp) -> Self {
        Self { kind, columns: &kind.columns, form, now, rows: Vec::new(), with_columns: true }
    }

    /// For rows that are not the kind's own, but of a part of its objects.
    pub(crate) fn of_part(mut self, columns: &'a [Column]) -> Self {
        self.columns = columns;
        self
    }

    /// The columns were told before: on a watch, only the first table has them.
    pub(crate) fn without_columns(mut self) -> Self {
        self.with_columns = false;
        self
    }

    /// Adds the row of a stored object.
    pub(crate) fn push(&mut self, stored: &[u8], revision: Revision) -> Result<(), Status> {
        let object = self.kind.decode_stored(stored).map_err(Status::internal)?;
        let cells = object.row(self.now);
        self.push_row(&cells, Some((stored, revision)))
    }

    /// Adds a row. What it is of has the revision put in, where one is given.
    pub(crate) fn push_row(
        &mut self,
        cells: &[Value],
        object: Option<(&[u8], Revision)>,
    ) -> Result<(), Status> {
        let out = &mut self.rows;
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"cells\":");
        serde_json::to_writer(&mut *out, cells).expect("values serialize");
        out.extend_from_slice(b",\"object\":");
        match (self.form.include, object) {
            (Include::None, _) | (_, None) => out.extend_from_slice(b"null"),
            (Include::Metadata, Some((stored, revision))) => {
                partial::push(out, stored, revision, self.form.version)?;
            }
            (Include::Object, Some((stored, revision))) => {
                splice::push_with_revision(out, stored, revision);
            }
        }
        out.push(b'}');
        Ok(())
    }

    /// The whole table, of one object.
    pub(crate) fn finish_at(self, revision: Revision) -> Vec<u8> {
        self.finish(&ListHead::of(revision))
    }

    /// The whole table.
    pub(crate) fn finish(self, head: &ListHead) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() + 1024);
        let version = self.form.version.api_version();
        write!(out, "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":")
            .expect("writing to a Vec succeeds");
        head.push(&mut out);
        out.extend_from_slice(b",\"columnDefinitions\":");
        if self.with_columns {
            push_columns(&mut out, self.columns);
        } else {
            out.extend_from_slice(b"null");
        }
        out.extend_from_slice(b",\"rows\":[");
        out.extend_from_slice(&self.rows);
        out.extend_from_slice(b"]}");
        out
    }
}

/// A table without rows that carries a bookmark's revision.
pub(crate) fn bookmark_table(version: TableVersion, metadata: &str) -> String {
    let version = version.api_version();
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\
         \"columnDefinitions\":null,\"rows\":[{{\"cells\":null,\"object\":{{\"kind\":\
         \"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}}}]}}"
    )
}

fn push_columns(out: &mut Vec<u8>, columns: &[Column]) {
    let columns: Vec<_> = columns
        .iter()
        .map(|column| ColumnDefinition {
            name: &column.name,
            kind: &column.kind,
            format: &column.format,
            description: &column.description,
            priority: column.priority,
        })
        .collect();
    serde_json::to_writer(out, &columns).expect("strings and numbers serialize");
}
