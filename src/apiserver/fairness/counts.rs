//! What is counted of the requests of each flow schema, told at `/metrics` under upstream's names
//! (apiserver pkg/util/flowcontrol/metrics, v1.35).

use super::super::tally::Histogram;
use super::seats::{LevelSeen, Refusal};
use crate::stdx::exposition::{
    Durations, Exposition, Family, Labels, count, counter, gauge, whole,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of upstream's `apiserver_flowcontrol_request_wait_duration_seconds`, in seconds.
const WAITS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

const REFUSALS: [(Refusal, &str); 4] = [
    (Refusal::ConcurrencyLimit, "concurrency-limit"),
    (Refusal::QueueFull, "queue-full"),
    (Refusal::TimeOut, "time-out"),
    (Refusal::Cancelled, "cancelled"),
];

/// Of the requests of one flow schema in one priority level.
#[derive(Debug)]
pub(super) struct FlowCounts {
    pub(super) schema: Arc<str>,
    pub(super) level: Arc<str>,
    waiting: AtomicU64,
    executing: AtomicU64,
    dispatched: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    served_after: Histogram<{ WAITS.len() + 1 }>,
    refused_after: Histogram<{ WAITS.len() + 1 }>,
}

impl FlowCounts {
    pub(super) fn new(schema: Arc<str>, level: Arc<str>) -> Self {
        Self {
            schema,
            level,
            waiting: AtomicU64::new(0),
            executing: AtomicU64::new(0),
            dispatched: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; REFUSALS.len()],
            served_after: Histogram::by(WAITS),
            refused_after: Histogram::by(WAITS),
        }
    }

    pub(super) fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waits_no_more(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn begins(&self, waited: Duration) {
        self.executing.fetch_add(1, Ordering::Relaxed);
        self.dispatched.fetch_add(1, Ordering::Relaxed);
        self.served_after.note(waited.as_secs_f64());
    }

    pub(super) fn ends(&self) {
        self.executing.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, why: Refusal, waited: Duration) {
        let at = REFUSALS.iter().position(|(refusal, _)| *refusal == why).unwrap_or_default();
        self.refused[at].fetch_add(1, Ordering::Relaxed);
        self.refused_after.note(waited.as_secs_f64());
    }
}

/// What there is to tell.
#[derive(Debug)]
pub(in super::super) struct FairnessSeen {
    pub(super) flows: Vec<Arc<FlowCounts>>,
    pub(super) levels: Vec<LevelSeen>,
}

impl FairnessSeen {
    /// Writes it down.
    pub(in super::super) fn render(&self, text: &mut Exposition) {
        let by_flow = |family: Family, read: &dyn Fn(&FlowCounts) -> u64, text: &mut Exposition| {
            let values = self.flows.iter().map(|flow| (labels(flow), whole(read(flow))));
            text.family(family, values.collect());
        };
        by_flow(WAITING, &|flow| flow.waiting.load(Ordering::Relaxed), text);
        by_flow(EXECUTING, &|flow| flow.executing.load(Ordering::Relaxed), text);
        // A request has one seat.
        by_flow(SEATS, &|flow| flow.executing.load(Ordering::Relaxed), text);
        by_flow(DISPATCHED, &|flow| flow.dispatched.load(Ordering::Relaxed), text);
        let refused = self.flows.iter().flat_map(|flow| {
            let counts = REFUSALS.iter().zip(&flow.refused);
            counts.map(|((_, reason), count)| {
                let mut labels = labels(flow);
                labels.push(("reason", *reason));
                (labels, whole(count.load(Ordering::Relaxed)))
            })
        });
        text.family(REFUSED, refused.filter(|(_, count)| *count > 0.0).collect());
        let waits: Vec<_> = self.flows.iter().flat_map(|flow| waits(flow)).collect();
        let (name, help) = WAITED;
        text.durations(name, help, &waits);
        self.render_levels(text);
    }

    fn render_levels(&self, text: &mut Exposition) {
        let by_level =
            |family: Family, read: &dyn Fn(&LevelSeen) -> usize, text: &mut Exposition| {
                let values = self.levels.iter();
                let values = values
                    .map(|level| (vec![("priority_level", &*level.name)], count(read(level))));
                text.family(family, values.collect());
            };
        by_level(NOMINAL, &|level| level.limits.nominal, text);
        by_level(LOWER, &|level| level.limits.lower, text);
        by_level(UPPER, &|level| level.limits.upper, text);
    }
}

fn labels(flow: &FlowCounts) -> Labels<'_> {
    vec![("flow_schema", &*flow.schema), ("priority_level", &*flow.level)]
}

fn waits(flow: &FlowCounts) -> Vec<(Labels<'_>, Durations)> {
    let of = |execute: &'static str, durations: Durations| {
        let mut labels = labels(flow);
        labels.insert(0, ("execute", execute));
        (labels, durations)
    };
    let both = [of("true", flow.served_after.read()), of("false", flow.refused_after.read())];
    both.into_iter().filter(|(_, durations)| durations.count() > 0).collect()
}

const WAITING: Family =
    gauge("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for their turn.");
const EXECUTING: Family =
    gauge("apiserver_flowcontrol_current_executing_requests", "Requests that are executed.");
const SEATS: Family =
    gauge("apiserver_flowcontrol_current_executing_seats", "Seats that are taken.");
const DISPATCHED: Family =
    counter("apiserver_flowcontrol_dispatched_requests_total", "Requests that had their turn.");
const REFUSED: Family = counter(
    "apiserver_flowcontrol_rejected_requests_total",
    "Requests that were refused, by reason.",
);
const WAITED: (&str, &str) = (
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "How long requests have waited for their turn, in seconds.",
);
const NOMINAL: Family =
    gauge("apiserver_flowcontrol_nominal_limit_seats", "Seats that are a priority level's own.");
const LOWER: Family = gauge(
    "apiserver_flowcontrol_lower_limit_seats",
    "Seats that a priority level lends to nobody.",
);
const UPPER: Family =
    gauge("apiserver_flowcontrol_upper_limit_seats", "The most seats that a priority level gets.");
