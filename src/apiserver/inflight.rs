//! How many requests may be under way at once.

use super::config::{
    LONG_REQUESTS_MAX, READS_IN_FLIGHT_MAX, RETRY_AFTER_SECONDS, WRITES_IN_FLIGHT_MAX,
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
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT_MAX)),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT_MAX)),
            long: Arc::new(Semaphore::new(LONG_REQUESTS_MAX)),
        }
    }

    /// A place for this request until the permit is dropped.
    ///
    /// # Errors
    /// Too many requests, with the advice to come again.
    pub(super) fn enter(&self, request: &RequestInfo) -> Result<OwnedSemaphorePermit, Status> {
        let places = if request.is_long_running() {
            &self.long
        } else if request.resource.is_some() && request.verb.is_mutating() {
            &self.writes
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
