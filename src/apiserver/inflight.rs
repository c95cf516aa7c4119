//! How many requests may be under way at once.

use super::authz::is_public;
use super::config::{
    LONG_REQUESTS_MAX, PUBLIC_IN_FLIGHT_MAX, READS_IN_FLIGHT_MAX, RETRY_AFTER_SECONDS,
    WRITES_IN_FLIGHT_MAX,
};
use super::request::RequestInfo;
use crate::api::status::{Reason, Status};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the requests that came over the network.
///
/// Callers in this process are not counted: a flood from outside must not stop the cluster's own
/// loops, and those bound themselves.
#[derive(Debug)]
pub(super) struct InFlight {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    long: Arc<Semaphore>,
    public: Arc<Semaphore>,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT_MAX)),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX)),
            long: Arc::new(Semaphore::new(LONG_REQUESTS_MAX)),
            public: Arc::new(Semaphore::new(PUBLIC_IN_FLIGHT_MAX)),
        }
    }

    /// How many requests are under way: those that write, and those that only read.
    pub(super) fn under_way(&self) -> (usize, usize) {
        let reads = READS_IN_FLIGHT_MAX - self.reads.available_permits();
        let public = PUBLIC_IN_FLIGHT_MAX - self.public.available_permits();
        (WRITES_IN_FLIGHT_MAX - self.writes.available_permits(), reads + public)
    }

    /// A place for this request until the permit is dropped.
    ///
    /// # Errors
    /// Too many requests, with the advice to come again.
    pub(super) fn enter(&self, request: &RequestInfo) -> Result<OwnedSemaphorePermit, Status> {
        let places = if request.is_long_running() {
            &self.long
        } else if request.is_mutating() {
            &self.writes
        } else if is_public(request) {
            &self.public
        } else {
            &self.reads
        };
        Arc::clone(places).try_acquire_owned().map_err(|_full| {
            let message = "the server has received too many requests and has asked us to try \
                           again later";
            let mut status = Status::new(Reason::TooManyRequests, message);
            status.details.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
            status
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::query::Query;
    use http::Method;

    fn enter(
        limits: &InFlight,
        method: &Method,
        path: &str,
    ) -> Result<OwnedSemaphorePermit, Status> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        limits.enter(&RequestInfo::parse(method, path, &Query::parse(query)))
    }

    /// Fills one of the limits, and says which of these requests are refused then.
    #[track_caller]
    fn check(method: &Method, path: &str, places: usize, expected: &str) {
        let limits = InFlight::new();
        let held: Vec<_> =
            (0..places).map(|_| enter(&limits, method, path).expect("there is room")).collect();
        let refused = enter(&limits, method, path).expect_err("there is no room");
        assert_eq!(refused.code, 429);
        assert_eq!(refused.details.retry_after_seconds, Some(RETRY_AFTER_SECONDS));
        let others = [
            ("read", Method::GET, "/api/v1/pods"),
            ("version", Method::GET, "/version"),
            ("write", Method::POST, "/api/v1/namespaces/default/pods"),
            ("watch", Method::GET, "/api/v1/pods?watch=true"),
            ("log", Method::GET, "/api/v1/namespaces/default/pods/a/log"),
        ];
        let is_refused =
            |(_, method, path): &&(_, Method, &str)| enter(&limits, method, path).is_err();
        let names: Vec<_> = others.iter().filter(is_refused).map(|(name, ..)| *name).collect();
        assert_eq!(names.join(" "), expected, "{path}");
        drop(held);
        drop(enter(&limits, method, path).expect("there is room again"));
    }

    #[test]
    fn each_kind_of_request_has_a_limit_of_its_own() {
        check(&Method::GET, "/api/v1/pods", READS_IN_FLIGHT_MAX, "read");
        check(&Method::GET, "/healthz", PUBLIC_IN_FLIGHT_MAX, "version");
        let pods = "/api/v1/namespaces/default/pods";
        check(&Method::DELETE, pods, WRITES_IN_FLIGHT_MAX, "write");
        check(&Method::GET, "/api/v1/pods?watch=1", LONG_REQUESTS_MAX, "watch log");
    }
}
