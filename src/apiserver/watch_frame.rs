//! The events of a watch, as lines of JSON or as frames of protobuf.

use super::encoding::{self, Accepted, Form, Language, TableWriter, bookmark_table};
use crate::api::{Revision, Status};
use crate::registry::KindRef;
use crate::registry::schema::protobuf::TypeMeta;
use crate::registry::schema::types;
use crate::stdx::Clock;
use bytes::Bytes;
use std::io::Write as _;

/// Writes events into one buffer.
#[derive(Debug)]
pub(super) struct FrameWriter {
    kind: KindRef,
    language: Language,
    form: Form,
    clock: Clock,
    out: Vec<u8>,
    /// A table says what its columns are only once.
    columns_told: bool,
}

impl FrameWriter {
    pub(super) fn new(kind: KindRef, accepted: Accepted, clock: Clock) -> Self {
        let Accepted { language, form, .. } = accepted;
        Self { kind, language, form, clock, out: Vec::new(), columns_told: false }
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
        if self.language == Language::Protobuf {
            return match self.render(stored, revision, self.form) {
                Ok(object) => self.push_frame(name, &object),
                Err(status) => self.error(&status),
            };
        }
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

    /// An event with an object of the watch's form, which is here as JSON.
    fn push_frame(&mut self, name: &str, json: &[u8]) {
        let shown = encoding::shown_as(&self.kind, self.form);
        let shown = shown.as_ref().map(|(of, type_meta)| (*of, type_meta));
        encoding::push_watch_frame(&mut self.out, name, shown, json);
    }

    fn render(&mut self, stored: &[u8], revision: Revision, form: Form) -> Result<Vec<u8>, Status> {
        let now = self.clock.now();
        let Form::Table(table) = form else {
            return encoding::render(&self.kind, stored, revision, &form, now);
        };
        let mut writer = TableWriter::new(&self.kind, table, now);
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
        match self.language {
            Language::Json | Language::Yaml => {
                writeln!(self.out, "{{\"type\":\"BOOKMARK\",\"object\":{object}}}")
                    .expect("writing to a Vec succeeds");
            }
            Language::Protobuf => self.push_frame("BOOKMARK", object.as_bytes()),
        }
    }

    /// The watch cannot go on.
    pub(super) fn error(&mut self, status: &Status) {
        let json = status.to_json();
        if self.language == Language::Protobuf {
            let type_meta = TypeMeta::of(types::STATUS);
            let (out, of) = (&mut self.out, Some((types::STATUS, &type_meta)));
            return encoding::push_watch_frame(out, "ERROR", of, &json);
        }
        self.out.extend_from_slice(b"{\"type\":\"ERROR\",\"object\":");
        self.out.extend_from_slice(&json);
        self.out.extend_from_slice(b"}\n");
    }
}
