//! Answers `/metrics` and `/metrics/slis`: reads what was counted, and looks up what else there is to
//! tell.

use super::super::server::Server;
use super::super::{errors, health, keys};
use super::render::{self, Objects, Requests, Seen, Watched};
use super::sort::{Sort, Sorted as _};
use super::{POISONED, Tally};
use crate::api::Status;
use crate::registry::Rows;
use crate::stdx::http::{Response, full};
use crate::storage::ListRequest;
use crate::sys::load;
use http::header::{CONTENT_TYPE, HeaderValue};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

const PATH: &str = "/metrics";
const HEALTH_PATH: &str = "/metrics/slis";

/// The text format that Prometheus asks for.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers if it is one of those paths.
pub(in super::super) async fn answer(
    server: &Server,
    path: &str,
) -> Option<Result<Response, Status>> {
    let text = match path {
        PATH => match everything(server).await {
            Ok(seen) => render::text(&seen),
            Err(status) => return Some(Err(status)),
        },
        HEALTH_PATH => render::health(&health::checks(server)),
        _ => return None,
    };
    let mut response = Response::new(full(text));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    Some(Ok(response))
}

/// All there is to tell now.
async fn everything(server: &Server) -> Result<Seen, Status> {
    let rows = server.rows().await?;
    let objects = objects(server, &rows).await?;
    let tally = &server.tally;
    Ok(Seen {
        requests: requests(tally, &rows),
        watched: watched(tally),
        objects,
        in_flight: server.in_flight.under_way(),
        fairness: server.in_flight.fairness().seen(),
        authentication: tally.authentication.read(),
        authorization: tally.authorization.read(),
        admission: tally.admission.read(),
        store: tally.store.read(),
        store_revision: server.store.revision().0,
        tls_failures: tally.tls_failures.load(Ordering::Relaxed),
        checks: health::checks(server),
        process: load::own().unwrap_or_default(),
    })
}

fn requests(tally: &Tally, rows: &Rows) -> Vec<Requests> {
    let requests = tally.requests.read().expect(POISONED);
    requests
        .iter()
        .map(|(sort, series)| Requests {
            sort: sort.clone(),
            codes: texts(series.codes()),
            cut: texts(series.cut()),
            durations: series.durations.read(),
            levels: series.levels.read(),
            sizes: series.sizes.read(),
            underway: series.underway(),
            is_deprecated: is_deprecated(rows, sort.sort()),
        })
        .collect()
}

fn texts(codes: Vec<(u16, u64)>) -> Vec<(String, u64)> {
    codes.into_iter().map(|(code, count)| (code.to_string(), count)).collect()
}

fn watched(tally: &Tally) -> Vec<Watched> {
    let watched = tally.watched.read().expect(POISONED);
    let read = watched.iter();
    read.map(|(sort, watch)| Watched { sort: sort.clone(), sizes: watch.sizes.read() }).collect()
}

fn is_deprecated(rows: &Rows, sort: Sort<'_>) -> bool {
    let kind = rows.find(sort.group, sort.version, sort.resource);
    kind.is_some_and(|kind| kind.deprecation().is_some())
}

/// How many objects there are of each kind.
async fn objects(server: &Server, rows: &Rows) -> Result<Vec<Objects>, Status> {
    let mut counted = Vec::new();
    let mut known = BTreeSet::new();
    for kind in rows.iter().filter(|kind| kind.view.is_none() && kind.facts.is_stored()) {
        // A defined kind has a row for each of its versions.
        let (group, resource) = (kind.facts.group.to_string(), kind.facts.plural.to_string());
        if !known.insert((group.clone(), resource.clone())) {
            continue;
        }
        let request = ListRequest {
            prefix: keys::prefix(&kind, None),
            after: None,
            limit: Some(NonZeroUsize::MIN),
            at: None,
        };
        let page = server.store.list(request).await.map_err(|error| errors::of_read(&error))?;
        let first = u64::try_from(page.entries.len()).unwrap_or(u64::MAX);
        counted.push(Objects { group, resource, count: first + page.remaining });
    }
    Ok(counted)
}
