//! The index of the documents of v3, and the hashes of all documents.
//!
//! To know a document's hash it has to be rendered, which takes a millisecond or several. So the
//! hash is kept with what the document is made of: of built-in kinds for good, of defined ones until
//! their definitions are written again. The index is kept as long as the rows are the same.

use super::super::etag::Hash;
use super::super::server::Server;
use super::document::Form;
use super::schemas::{Catalog, Edition};
use super::sources::Sources;
use crate::api::{Revision, Status};
use crate::registry::Rows;
use crate::stdx::blocking;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, SemaphorePermit};

/// So many documents are rendered at a time, each of which takes some megabytes meanwhile. Others
/// wait for their turn.
const RENDERED_AT_ONCE_MAX: usize = 1;

/// By document: as of when the definitions are that it is made of, and its hash.
type Hashes = BTreeMap<String, (Vec<Revision>, Hash)>;

/// See the module.
#[derive(Debug)]
pub(in crate::apiserver) struct Index {
    known: Mutex<Known>,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    /// Of which rows `index` and `second` are.
    rows: Option<Arc<Rows>>,
    index: Option<Arc<str>>,
    hashes: Hashes,
    /// Of the document of v2, as JSON and as protobuf.
    second: [Option<Hash>; 2],
}

impl Default for Index {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Semaphore::new(RENDERED_AT_ONCE_MAX) }
    }
}

impl Known {
    fn is_of(&self, rows: &Arc<Rows>) -> bool {
        self.rows.as_ref().is_some_and(|of| Arc::ptr_eq(of, rows))
    }

    /// Forgets what is not of these rows.
    fn turn_to(&mut self, rows: Arc<Rows>) {
        if !self.is_of(&rows) {
            self.rows = Some(rows);
            self.index = None;
            self.second = [None, None];
        }
    }
}

impl Index {
    /// Waits until it may render.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// The hash of a document of v3, if it is known.
    pub(super) fn hash_of(&self, rows: &Arc<Rows>, name: &str) -> Option<Hash> {
        let known = self.known();
        let is_current = known.is_of(rows) && known.index.is_some();
        known.hashes.get(name).filter(|_| is_current).map(|(_, hash)| hash.clone())
    }

    /// The hash of the document of v2, if it is known.
    pub(super) fn hash_of_second(&self, rows: &Arc<Rows>, form: Form) -> Option<Hash> {
        let known = self.known();
        known.second[place(form)].clone().filter(|_| known.is_of(rows))
    }

    /// Remembers the hash of the document of v2.
    pub(super) fn keep_second(&self, rows: Arc<Rows>, form: Form, hash: Hash) {
        let mut known = self.known();
        known.turn_to(rows);
        known.second[place(form)] = Some(hash);
    }

    fn index(&self, rows: &Arc<Rows>) -> Option<Arc<str>> {
        let known = self.known();
        known.index.clone().filter(|_| known.is_of(rows))
    }

    fn keep(&self, rows: Arc<Rows>, hashes: Hashes) -> Arc<str> {
        let index: Arc<str> = render(&hashes).to_string().into();
        let mut known = self.known();
        known.turn_to(rows);
        known.index = Some(Arc::clone(&index));
        known.hashes = hashes;
        index
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("no panics under this lock")
    }
}

fn place(form: Form) -> usize {
    match form {
        Form::Json => 0,
        Form::Protobuf => 1,
    }
}

/// The index of the documents of these rows.
pub(super) async fn of(server: &Server, rows: Arc<Rows>) -> Result<Arc<str>, Status> {
    let openapi = &server.openapi;
    if let Some(index) = openapi.index(&rows) {
        return Ok(index);
    }
    let _turn = openapi.turn().await;
    // Somebody else may have had it rendered meanwhile.
    if let Some(index) = openapi.index(&rows) {
        return Ok(index);
    }
    let sources = Sources::of(server, Arc::clone(&rows), None).await?;
    let known = std::mem::take(&mut openapi.known().hashes);
    let hashes = blocking(move || hashes(&sources, known)).await;
    Ok(openapi.keep(rows, hashes))
}

/// The hashes of all documents. What is `known` of the same definitions need not be rendered.
fn hashes(sources: &Sources, mut known: Hashes) -> Hashes {
    let mut catalog = None;
    let mut hashes = Hashes::new();
    for (name, subjects) in sources.documents() {
        let revisions = sources.revisions(&subjects);
        let kept = known.remove(&name).filter(|(of, _)| *of == revisions);
        let entry = kept.unwrap_or_else(|| {
            let catalog = catalog.get_or_insert_with(|| Catalog::new(Edition::Third, Form::Json));
            (revisions, Hash::of(&sources.parts(&subjects, catalog).third()))
        });
        hashes.insert(name, entry);
    }
    hashes
}

fn render(hashes: &Hashes) -> Value {
    let entry = |(name, (_, hash)): (&String, &(Vec<Revision>, Hash))| {
        let url = format!("/openapi/v3/{name}?hash={}", hash.as_str());
        (name.clone(), json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = hashes.iter().map(entry).collect();
    json!({"paths": paths})
}
