//! How many requests may be under way at once, over the network.
//!
//! Start at [`InFlight::enter`]. Whose turn it is, says [`Fairness`]; what lasts as long as the client
//! likes, and what strangers may ask for, have limits of their own besides.

use super::authz::is_public;
use super::config::{
    LONG_REQUESTS_MAX, PUBLIC_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX, RETRY_AFTER_SECONDS,
};
use super::fairness::{Comer, Entered, Fairness, Seat};
use super::request::{RequestInfo, Verb};
use crate::api::status::{Reason, Status};
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Counts the requests that came over the network.
///
/// Callers in this process are not counted: a flood from outside must not stop the cluster's own
/// loops, and those bound themselves.
#[derive(Debug)]
pub(super) struct InFlight {
    fairness: Arc<Fairness>,
    long: Arc<Semaphore>,
    public: Arc<Semaphore>,
    writes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

/// What has become of a request that wants to be served.
#[derive(Debug)]
pub(super) struct Turn {
    /// `None`: there are too many.
    pub(super) place: Option<Place>,
    /// How it was judged, where that was looked at.
    entered: Option<Entered>,
}

/// A request is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    seat: Option<(Seat, UnderWay)>,
}

/// One more is executed.
#[derive(Debug)]
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn of(counted: &Arc<AtomicUsize>) -> Self {
        counted.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counted))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Place {
    /// What lasts has begun: its seat is for others.
    pub(super) fn leave_seat(&mut self) {
        self.seat = None;
    }
}

impl Turn {
    /// Tells whoever asks how the request was judged.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(entered) = &self.entered {
            entered.tell(headers);
        }
    }

    pub(super) fn waited(&self) -> Duration {
        self.entered.as_ref().map_or(Duration::ZERO, |entered| entered.waited)
    }
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            fairness: Fairness::new(REQUESTS_IN_FLIGHT_MAX),
            long: Arc::new(Semaphore::new(LONG_REQUESTS_MAX)),
            public: Arc::new(Semaphore::new(PUBLIC_IN_FLIGHT_MAX)),
            writes: Arc::default(),
            reads: Arc::default(),
        }
    }

    pub(super) fn fairness(&self) -> Arc<Fairness> {
        Arc::clone(&self.fairness)
    }

    /// How many requests are executed: those that write, and those that only read.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.writes.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed))
    }

    /// A place for this request, when it is its turn.
    pub(super) async fn enter(&self, comer: Comer<'_>) -> Turn {
        let Ok(permit) = self.permit(comer.request) else {
            return Turn { place: None, entered: None };
        };
        let request = comer.request;
        // As upstream has it (apiserver pkg/server/filters/priority-and-fairness.go, v1.35).
        if request.is_long_running() && request.verb != Verb::Watch {
            return Turn { place: Some(Place { _permit: permit, seat: None }), entered: None };
        }
        let mut entered = self.fairness.enter(comer).await;
        let counted = if request.is_mutating() { &self.writes } else { &self.reads };
        let place = entered
            .seat
            .take()
            .map(|seat| Place { _permit: permit, seat: Some((seat, UnderWay::of(counted))) });
        Turn { place, entered: Some(entered) }
    }

    /// Where there is a limit beside that of all requests.
    fn permit(&self, request: &RequestInfo) -> Result<Option<OwnedSemaphorePermit>, Full> {
        let places = if request.is_long_running() {
            &self.long
        } else if is_public(request) {
            &self.public
        } else {
            return Ok(None);
        };
        Arc::clone(places).try_acquire_owned().map(Some).map_err(|_full| Full)
    }
}

/// There is no place of its own for a request.
#[derive(Debug)]
struct Full;

/// Upstream `tooManyRequests` (apiserver pkg/server/filters/maxinflight.go, v1.35), as a `Status`.
pub(super) fn too_many_requests() -> Status {
    let message = "Too many requests, please try again later.";
    let mut status = Status::new(Reason::TooManyRequests, message);
    status.details.retry_after_seconds = Some(RETRY_AFTER_SECONDS);
    status
}

#[cfg(test)]
mod tests {
    use super::super::identity::Identity;
    use super::*;
    use crate::apiserver::query::Query;
    use futures_util::FutureExt as _;
    use http::Method;

    /// The place of a request of somebody, where there is one at once.
    fn enter(limits: &InFlight, method: &Method, path: &str) -> Option<Place> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = &RequestInfo::parse(method, path, &Query::parse(query));
        let identity = &Identity::new("somebody", &["system:authenticated"]);
        let patience = Duration::from_secs(1);
        let comer = Comer { identity, request, bytes: 0, patience };
        limits.enter(comer).now_or_never()?.place
    }

    /// Fills one of the limits, and says which of these requests find no place then.
    #[track_caller]
    fn check(method: &Method, path: &str, places: usize, expected: &str) {
        let limits = InFlight::new();
        let enter_begun = || {
            let mut place = enter(&limits, method, path)?;
            if path.contains("watch") {
                place.leave_seat();
            }
            Some(place)
        };
        let held: Vec<_> = std::iter::from_fn(enter_begun).take(places + 1).collect();
        assert_eq!(held.len(), places, "{path}");
        let others = [
            ("read", Method::GET, "/api/v1/pods"),
            ("version", Method::GET, "/version"),
            ("write", Method::POST, "/api/v1/namespaces/default/pods"),
            ("watch", Method::GET, "/api/v1/pods?watch=true"),
            ("log", Method::GET, "/api/v1/namespaces/default/pods/a/log"),
        ];
        let is_refused =
            |(_, method, path): &&(_, Method, &str)| enter(&limits, method, path).is_none();
        let names: Vec<_> = others.iter().filter(is_refused).map(|(name, ..)| *name).collect();
        assert_eq!(names.join(" "), expected, "{path}");
        drop(held);
        drop(enter(&limits, method, path).expect("there is room again"));
    }

    /// The seats that others do not keep for themselves: of 600, the lower limits of the other levels
    /// (50, 73, 25, 49, 24, 13) are not lent.
    const SEATS: usize = 366;

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_request_has_a_limit_of_its_own() {
        check(&Method::GET, "/api/v1/pods", SEATS, "read version write watch");
        check(&Method::GET, "/healthz", PUBLIC_IN_FLIGHT_MAX, "version");
        check(&Method::GET, "/api/v1/pods?watch=1", LONG_REQUESTS_MAX, "watch log");
    }

    #[test]
    fn those_sent_away_are_told_when_to_come_again() {
        let refused = too_many_requests();
        assert_eq!(refused.code, 429);
        assert_eq!(refused.details.retry_after_seconds, Some(RETRY_AFTER_SECONDS));
    }
}
