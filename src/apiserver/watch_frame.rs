//! The lines of a watch.

use super::encoding::{self, Form, TableWriter, bookmark_table};
use crate::api::{Revision, Status};
use crate::registry::Kind;
use crate::stdx::Clock;
use bytes::Bytes;
use std::io::Write as _;

/// Writes events as lines of JSON into one buffer.
#[derive(Debug)]
pub(super) struct FrameWriter {
    kind: &'static Kind,
    form: Form,
    clock: Clock,
    out: Vec<u8>,
    /// A table says what its columns are only once.
    columns_told: bool,
}

impl FrameWriter {
    pub(super) fn new(kind: &'static Kind, form: Form, clock: Clock) -> Self {
        Self { kind, form, clock, out: Vec::new(), columns_told: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// What has been written since this was last asked.
    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.out))
    }

    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) fn event(&mut self, name: &str, stored: &[u8], revision: Revision) {
        write!(self.out, "{{\"type\":\"{name}\",\"object\":").expect("writing to a Vec succeeds");
        match self.form {
            Form::Object => encoding::splice::push_with_revision(&mut self.out, stored, revision),
            form => match self.render(stored, revision, form) {
                Ok(object) => self.out.extend_from_slice(&object),
                Err(status) => self.out.extend_from_slice(&status.to_json()),
            },
        }
        self.out.extend_from_slice(b"}\n");
    }

    fn render(&mut self, stored: &[u8], revision: Revision, form: Form) -> Result<Vec<u8>, Status> {
        let now = self.clock.now();
        let Form::Table(table) = form else {
            return encoding::render(self.kind, stored, revision, &form, now);
        };
        let mut writer = TableWriter::new(self.kind, table, now);
        if std::mem::replace(&mut self.columns_told, true) {
            writer = writer.without_columns();
        }
        writer.push(stored, revision)?;
        Ok(writer.finish_at(revision))
    }

    /// The client has seen everything through this revision.
    pub(super) fn bookmark(&mut self, revision: Revision) {
        self.write_bookmark(&format!("{{\"resourceVersion\":\"{revision}\"}}"));
    }

    /// The client has seen everything that was there at this revision (KEP-3157).
    pub(super) fn state_end(&mut self, revision: Revision) {
        self.write_bookmark(&format!(
            "{{\"resourceVersion\":\"{revision}\",\
             \"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}"
        ));
    }

    fn write_bookmark(&mut self, metadata: &str) {
        let object = match self.form {
            Form::Table(table) => bookmark_table(table.version, metadata),
            Form::Partial(version) => format!(
                "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{}\",\"metadata\":{metadata}}}",
                version.api_version()
            ),
            Form::Object => {
                let (kind, version) = (&self.kind.facts.kind, self.kind.facts.api_version());
                format!(
                    "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata}}}"
                )
            }
        };
        writeln!(self.out, "{{\"type\":\"BOOKMARK\",\"object\":{object}}}")
            .expect("writing to a Vec succeeds");
    }

    /// The watch cannot go on.
    pub(super) fn error(&mut self, status: &Status) {
        self.out.extend_from_slice(b"{\"type\":\"ERROR\",\"object\":");
        self.out.extend_from_slice(&status.to_json());
        self.out.extend_from_slice(b"}\n");
    }
}
