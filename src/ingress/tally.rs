//! What has become of requests, counted.

use super::access_log::{AccessLog, Entry};
use super::model::BackendId;
use crate::api::ObjectKey;
use crate::stdx::exposition::Durations;
use crate::stdx::monotonic;
use http::StatusCode;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Of more routes than this nothing is counted, until some are forgotten with their Ingress.
const ROUTES_MAX: usize = 4_096;

/// Which requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RouteName {
    /// `None`: what no Ingress asks for.
    pub(super) source: Option<ObjectKey>,
    pub(super) backend: Option<BackendId>,
}

/// What has become of the requests of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) answers: BTreeMap<u16, u64>,
    /// Answers that ended before they were whole.
    pub(super) broken: u64,
    pub(super) durations: Durations,
    pub(super) sent_bytes: u64,
    /// Endpoints that accepted no connection, and requests that had to be sent again.
    pub(super) unreachable: u64,
    pub(super) repeated: u64,
}

/// The counts of one route. Kept as long as somebody counts in it.
#[derive(Debug, Default)]
pub(super) struct Route(Mutex<Counts>);

impl Route {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panics under this lock")
    }

    pub(super) fn unreachable(&self) {
        self.counts().unreachable += 1;
    }

    pub(super) fn repeated(&self) {
        self.counts().repeated += 1;
    }
}

/// All routes.
#[derive(Debug)]
pub(super) struct Tally {
    routes: Mutex<BTreeMap<RouteName, Arc<Route>>>,
    /// Requests that come under no rule.
    pub(super) unknown: Arc<Route>,
    log: Option<AccessLog>,
}

impl Tally {
    pub(super) fn new(log: Option<AccessLog>) -> Self {
        let (routes, unknown) = (Mutex::default(), Arc::default());
        Self { routes, unknown, log }
    }

    /// Where requests of a route are counted. What was counted before a change of the rules stays.
    pub(super) fn route(&self, name: RouteName) -> Arc<Route> {
        let mut routes = self.routes.lock().expect("no panics under this lock");
        let is_full = routes.len() >= ROUTES_MAX;
        match routes.get(&name) {
            Some(route) => Arc::clone(route),
            None if is_full => Arc::clone(&self.unknown),
            None => Arc::clone(routes.entry(name).or_default()),
        }
    }

    /// Forgets the routes that no rule leads to.
    pub(super) fn forget_unused(&self) {
        let mut routes = self.routes.lock().expect("no panics under this lock");
        routes.retain(|_, route| Arc::strong_count(route) > 1);
    }

    /// What was counted, route by route.
    pub(super) fn counts(&self) -> Vec<(RouteName, Counts)> {
        let routes = self.routes.lock().expect("no panics under this lock").clone();
        let unknown = RouteName { source: None, backend: None };
        let known = routes.into_iter();
        std::iter::once((unknown, Arc::clone(&self.unknown)))
            .chain(known)
            .map(|(name, route)| {
                let counts = route.counts().clone();
                (name, counts)
            })
            .collect()
    }

    pub(super) fn log(&self) -> Option<&AccessLog> {
        self.log.as_ref()
    }
}

/// What one request comes to. It is counted when this is dropped.
#[derive(Debug)]
pub(super) struct Record {
    route: Arc<Route>,
    began: Instant,
    status: StatusCode,
    sent_bytes: u64,
    is_broken: bool,
    entry: Option<(AccessLog, Box<Entry>)>,
}

impl Record {
    pub(super) fn new(route: Arc<Route>, began: Instant, status: StatusCode) -> Self {
        Self { route, began, status, sent_bytes: 0, is_broken: false, entry: None }
    }

    /// Has a line written of it, too.
    #[must_use]
    pub(super) fn logged(mut self, entry: Option<(AccessLog, Box<Entry>)>) -> Self {
        self.entry = entry;
        self
    }

    pub(super) fn sends(&mut self, bytes: usize) {
        self.sent_bytes += u64::try_from(bytes).unwrap_or_default();
    }

    pub(super) fn breaks(&mut self) {
        self.is_broken = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = monotonic().duration_since(self.began);
        {
            let mut counts = self.route.counts();
            *counts.answers.entry(self.status.as_u16()).or_default() += 1;
            counts.broken += u64::from(self.is_broken);
            counts.durations.note(took);
            counts.sent_bytes += self.sent_bytes;
        }
        if let Some((log, entry)) = self.entry.take() {
            log.write(&entry.line(self.status, self.sent_bytes, took));
        }
    }
}
