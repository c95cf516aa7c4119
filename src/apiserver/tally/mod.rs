//! What the server counts of itself, and `/metrics`, which tells it under upstream's names
//! (apiserver pkg/endpoints/metrics, v1.35).
//!
//! Counting costs a look-up by borrowed words and a few additions; how many different sorts of
//! requests are told apart is bounded, and what strangers make up is told as nothing. What there is
//! to tell of the store and the process is looked up when somebody asks. Start at
//! [`Tally::answered`]; [`render`] makes the text.

mod histogram;
mod render;
mod series;

use self::histogram::Histogram;
use self::render::{Objects, Seen};
use self::series::{OwnedSort, Series, Sort, Sorted, Underway};
use super::request::{RequestInfo, ResourcePath, Verb};
use super::server::{Asked, Server};
use super::{errors, health, keys};
use crate::api::Status;
use crate::registry::{Kind, Rows};
use crate::stdx::http::{Response, full};
use crate::stdx::monotonic;
use crate::storage::ListRequest;
use crate::sys::load;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Instant;

pub(super) const PATH: &str = "/metrics";
pub(super) const HEALTH_PATH: &str = "/metrics/slis";

/// The text format that Prometheus asks for.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// More sorts of requests are told by verb alone.
const SORTS_MAX: usize = 4_096;

/// Upper bounds of upstream's `apiserver_watch_events_sizes`, in bytes.
const EVENT_SIZES: &[f64] =
    &[1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0, 32_768.0, 65_536.0, 131_072.0];

/// Upper bounds of how long the store takes, in seconds: those of upstream's `etcd_request_duration_seconds`.
const STORE_DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
    10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
];

/// Paths that are no resources, by their beginnings: others are told without.
const DOCUMENTS: &[&str] = &[
    "/healthz",
    "/livez",
    "/readyz",
    "/version",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/apis",
    "/api",
    "/.well-known",
    "/cacerts",
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: RwLock<HashMap<OwnedSort, Arc<Series>>>,
    /// By group, version and plural.
    watched: RwLock<HashMap<OwnedSort, Arc<WatchTally>>>,
    pub(super) store: Arc<StoreTally>,
    tls_failures: AtomicU64,
}

/// What is counted of the watches of one kind.
#[derive(Debug)]
pub(super) struct WatchTally {
    sizes: Histogram<{ EVENT_SIZES.len() + 1 }>,
}

impl WatchTally {
    /// An event of so many bytes was written.
    pub(super) fn note(&self, bytes: usize) {
        self.sizes.note(crate::stdx::exposition::count(bytes));
    }
}

/// How long the store took.
#[derive(Debug)]
pub(super) struct StoreTally {
    pub(super) lists: StoreDurations,
    pub(super) commits: StoreDurations,
}

/// How long one operation of the store took.
#[derive(Debug)]
pub(super) struct StoreDurations(Histogram<{ STORE_DURATIONS.len() + 1 }>);

impl StoreDurations {
    /// It has been going on since then, and is over.
    pub(super) fn note(&self, began: Instant) {
        self.0.note((monotonic() - began).as_secs_f64());
    }
}

impl Default for StoreTally {
    fn default() -> Self {
        let none = || StoreDurations(Histogram::by(STORE_DURATIONS));
        Self { lists: none(), commits: none() }
    }
}

impl Tally {
    /// A request that came at `began` has this answer. What may take as long as the client likes
    /// counts as under way for as long as the answer's body.
    pub(super) fn answered(
        &self,
        rows: &Rows,
        asked: &Asked,
        began: Instant,
        response: Response,
    ) -> Response {
        let sort = sort_of(rows, asked);
        let series = self.series(sort);
        series.note_code(response.status().as_u16());
        series.durations.note((monotonic() - began).as_secs_f64());
        if asked.info.is_long_running() {
            if !response.status().is_success() {
                return response;
            }
            let underway = Underway::of(series);
            return response.map(|body| {
                // Goes with the body.
                body.map_frame(move |frame| {
                    let _held = &underway;
                    frame
                })
                .boxed_unsync()
            });
        }
        if matches!(sort.verb, "GET" | "LIST")
            && let Some(bytes) = response.body().size_hint().exact()
        {
            series.sizes.note(crate::stdx::exposition::whole(bytes));
        }
        response
    }

    /// A connection came to nothing before it was one.
    pub(super) fn tls_failed(&self) {
        self.tls_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// What is counted of watches of this kind.
    pub(super) fn watch(&self, kind: &Kind) -> Arc<WatchTally> {
        let facts = &kind.facts;
        let sort = Sort {
            verb: "WATCH",
            dry_run: "",
            scope: "",
            group: &facts.group,
            version: &facts.version,
            resource: &facts.plural,
            subresource: "",
        };
        let none = || WatchTally { sizes: Histogram::by(EVENT_SIZES) };
        entry(&self.watched, sort, none)
    }

    fn series(&self, sort: Sort<'_>) -> Arc<Series> {
        entry(&self.requests, sort, Series::new)
    }
}

/// What is counted of this sort; of a coarser one where there are too many.
fn entry<T>(
    all: &RwLock<HashMap<OwnedSort, Arc<T>>>,
    sort: Sort<'_>,
    none: impl Fn() -> T,
) -> Arc<T> {
    const POISONED: &str = "no panics under this lock";
    if let Some(known) = all.read().expect(POISONED).get(&sort as &dyn Sorted) {
        return Arc::clone(known);
    }
    let mut all = all.write().expect(POISONED);
    let sort = if all.len() < SORTS_MAX { sort } else { sort.coarse() };
    Arc::clone(all.entry(sort.into()).or_insert_with(|| Arc::new(none())))
}

/// The sort of a request: only of what is served are the words told.
fn sort_of<'a>(rows: &Rows, asked: &'a Asked) -> Sort<'a> {
    let info = &asked.info;
    let dry_run = if asked.query.get("dryRun").is_some() { "All" } else { "" };
    let none = Sort {
        verb: verb_of(asked),
        dry_run,
        scope: "",
        group: "",
        version: "",
        resource: "",
        subresource: "",
    };
    let Some(path) = &info.resource else {
        let known = DOCUMENTS.iter().find(|document| info.path.starts_with(**document));
        return Sort { subresource: known.copied().unwrap_or_default(), ..none };
    };
    if !is_served(rows, path) {
        return none;
    }
    Sort {
        scope: scope_of(path),
        group: &path.group,
        version: &path.version,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        ..none
    }
}

fn is_served(rows: &Rows, path: &ResourcePath) -> bool {
    let Some(kind) = rows.find(&path.group, &path.version, &path.resource) else { return false };
    path.subresource.as_deref().is_none_or(|name| kind.facts.subresource(name).is_some())
}

/// Upstream `CleanScope`.
fn scope_of(path: &ResourcePath) -> &'static str {
    match (&path.name, &path.namespace) {
        (Some(_), _) => "resource",
        (None, Some(_)) => "namespace",
        (None, None) => "cluster",
    }
}

/// Upstream `cleanVerb`.
fn verb_of(asked: &Asked) -> &'static str {
    let RequestInfo { verb, resource, .. } = &asked.info;
    let part = resource.as_ref().and_then(|path| path.subresource.as_deref());
    if matches!(part, Some("exec" | "attach" | "portforward" | "proxy" | "log")) {
        return "CONNECT";
    }
    let is_apply = |value: &HeaderValue| value.as_bytes().starts_with(b"application/apply-patch");
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch if asked.headers.get(CONTENT_TYPE).is_some_and(is_apply) => "APPLY",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Other if asked.method == http::Method::GET => "GET",
        Verb::Other => "other",
    }
}

/// Answers `/metrics` and `/metrics/slis`.
pub(super) async fn answer(server: &Server, path: &str) -> Option<Result<Response, Status>> {
    let text = match path {
        PATH => match objects(server).await {
            Ok(objects) => render::text(&Seen::of(server, objects)),
            Err(status) => return Some(Err(status)),
        },
        HEALTH_PATH => render::health(&health::checks(server)),
        _ => return None,
    };
    let mut response = Response::new(full(text));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    Some(Ok(response))
}

/// How many objects there are of each kind.
async fn objects(server: &Server) -> Result<Vec<Objects>, Status> {
    let rows = server.rows.now();
    let mut counted = Vec::new();
    for kind in rows.iter().filter(|kind| kind.view.is_none() && kind.facts.is_stored()) {
        let request = ListRequest {
            prefix: keys::prefix(&kind, None),
            after: None,
            limit: Some(NonZeroUsize::MIN),
            at: None,
        };
        let page = server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        let first = u64::try_from(page.entries.len()).unwrap_or(u64::MAX);
        counted.push(Objects {
            group: kind.facts.group.to_string(),
            resource: kind.facts.plural.to_string(),
            count: first + page.remaining,
        });
    }
    Ok(counted)
}

impl Seen {
    /// All there is to tell now.
    fn of(server: &Server, objects: Vec<Objects>) -> Self {
        const POISONED: &str = "no panics under this lock";
        let tally = &server.tally;
        let requests = tally.requests.read().expect(POISONED);
        let watched = tally.watched.read().expect(POISONED);
        Self {
            requests: requests
                .iter()
                .map(|(sort, series)| render::Requests::of(sort, series))
                .collect(),
            watched: watched
                .iter()
                .map(|(sort, watch)| render::Watched::of(sort, watch.sizes.read()))
                .collect(),
            objects,
            in_flight: server.in_flight.under_way(),
            store: vec![
                ("commit", tally.store.commits.0.read()),
                ("list", tally.store.lists.0.read()),
            ],
            store_revision: server.store.revision().0,
            tls_failures: tally.tls_failures.load(Ordering::Relaxed),
            checks: health::checks(server),
            process: load::own().unwrap_or_default(),
        }
    }
}
