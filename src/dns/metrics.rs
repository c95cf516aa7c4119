//! What is counted, and how it is shown to Prometheus. Names are coredns', so that what watches that
//! watches this too.

use crate::stdx::exposition::{
    Durations, Exposition, Family, Labels, count, counter, gauge, whole,
};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Upper bounds of durations, in seconds (coredns' `TimeBuckets`: from a quarter of a millisecond,
/// each twice the one before).
const BOUNDS: &[f64] = &[
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192,
];

/// Types that are counted by name; the last stands for all others.
const KINDS: [(Option<RecordType>, &str); 14] = [
    (Some(RecordType::A), "A"),
    (Some(RecordType::AAAA), "AAAA"),
    (Some(RecordType::CNAME), "CNAME"),
    (Some(RecordType::HTTPS), "HTTPS"),
    (Some(RecordType::MX), "MX"),
    (Some(RecordType::NS), "NS"),
    (Some(RecordType::PTR), "PTR"),
    (Some(RecordType::SOA), "SOA"),
    (Some(RecordType::SRV), "SRV"),
    (Some(RecordType::SVCB), "SVCB"),
    (Some(RecordType::TXT), "TXT"),
    (Some(RecordType::NAPTR), "NAPTR"),
    (Some(RecordType::ANY), "ANY"),
    (None, "other"),
];

/// Codes that are counted by name; the last stands for all others.
const CODES: [(Option<ResponseCode>, &str); 7] = [
    (Some(ResponseCode::NoError), "NOERROR"),
    (Some(ResponseCode::NXDomain), "NXDOMAIN"),
    (Some(ResponseCode::ServFail), "SERVFAIL"),
    (Some(ResponseCode::Refused), "REFUSED"),
    (Some(ResponseCode::FormErr), "FORMERR"),
    (Some(ResponseCode::NotImp), "NOTIMP"),
    (None, "other"),
];

const REQUESTS: Family = counter("coredns_dns_requests_total", "Questions by type.");
const RESPONSES: Family = counter("coredns_dns_responses_total", "Answers by code.");
const OF_CLUSTER: Family =
    counter("coredns_kubernetes_answers_total", "Answers from what is known of the cluster.");
const OF_OTHERS: Family =
    counter("coredns_cache_requests_total", "Questions about names that are not the cluster's.");
const HITS: Family = counter("coredns_cache_hits_total", "Answers from what others said before.");
const ENTRIES: Family = gauge("coredns_cache_entries", "Answers of others that are kept.");
const MALFORMED: Family = counter(
    "coredns_dns_refused_requests_total",
    "Requests that cannot be understood or are not served.",
);
const FAILED: Family =
    counter("coredns_reload_failed_total", "Configurations that were not taken.");
const DURATIONS: (&str, &str) = ("coredns_dns_request_duration_seconds", "How long answers took.");

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Cluster,
    Cache,
    Others,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Metrics(Mutex<Counts>);

#[derive(Clone, Debug)]
struct Counts {
    by_kind: [u64; KINDS.len()],
    by_code: [u64; CODES.len()],
    by_source: [u64; 3],
    durations: Durations,
    malformed: u64,
    reload_failures: u64,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            by_kind: [0; KINDS.len()],
            by_code: [0; CODES.len()],
            by_source: [0; 3],
            durations: Durations::by(BOUNDS),
            malformed: 0,
            reload_failures: 0,
        }
    }
}

impl Metrics {
    pub(super) fn answered(
        &self,
        kind: RecordType,
        code: ResponseCode,
        source: Source,
        took: Duration,
    ) {
        let mut counts = self.counts();
        counts.by_kind[place(&KINDS, kind)] += 1;
        counts.by_code[place(&CODES, code)] += 1;
        counts.by_source[source as usize] += 1;
        counts.durations.note(took);
    }

    pub(super) fn malformed(&self) {
        self.counts().malformed += 1;
    }

    /// A configuration was not taken.
    pub(super) fn reload_failed(&self) {
        self.counts().reload_failures += 1;
    }

    /// `cached`: how many answers of others are kept.
    pub(super) fn render(&self, cached: usize) -> String {
        let Counts { by_kind, by_code, by_source, durations, malformed, reload_failures } =
            self.counts().clone();
        let [cluster, cache, others] = by_source;
        let mut exposition = Exposition::default();
        exposition.family(REQUESTS, named("type", &KINDS, &by_kind));
        exposition.family(RESPONSES, named("rcode", &CODES, &by_code));
        exposition.one(OF_CLUSTER, whole(cluster));
        exposition.one(OF_OTHERS, whole(cache + others));
        exposition.one(HITS, whole(cache));
        exposition.one(ENTRIES, count(cached));
        exposition.one(MALFORMED, whole(malformed));
        exposition.one(FAILED, whole(reload_failures));
        let (name, help) = DURATIONS;
        exposition.durations(name, help, &[(Vec::new(), durations)]);
        exposition.finish()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panics under this lock")
    }
}

fn place<T: PartialEq>(table: &[(Option<T>, &str)], wanted: T) -> usize {
    let wanted = Some(wanted);
    table.iter().position(|(known, _)| *known == wanted).unwrap_or(table.len() - 1)
}

/// Those that there are any of.
fn named<'a, T>(
    label: &'static str,
    table: &[(Option<T>, &'a str)],
    counts: &[u64],
) -> Vec<(Labels<'a>, f64)> {
    let named = table.iter().zip(counts).filter(|(_, count)| **count > 0);
    named.map(|((_, name), count)| (vec![(label, *name)], whole(*count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        let took = Duration::from_micros(300);
        metrics.answered(RecordType::A, ResponseCode::NoError, Source::Cluster, took);
        metrics.answered(RecordType::A, ResponseCode::NXDomain, Source::Cache, took);
        metrics.answered(RecordType::CAA, ResponseCode::NotAuth, Source::Others, took);
        metrics.malformed();
        let text = metrics.render(7);
        for line in [
            "coredns_dns_requests_total{type=\"A\"} 2",
            "coredns_dns_requests_total{type=\"other\"} 1",
            "coredns_dns_responses_total{rcode=\"NXDOMAIN\"} 1",
            "coredns_dns_responses_total{rcode=\"other\"} 1",
            "coredns_kubernetes_answers_total 1",
            "coredns_cache_requests_total 2",
            "coredns_cache_hits_total 1",
            "coredns_cache_entries 7",
            "coredns_dns_refused_requests_total 1",
            "coredns_reload_failed_total 0",
            "coredns_dns_request_duration_seconds_bucket{le=\"0.00025\"} 0",
            "coredns_dns_request_duration_seconds_bucket{le=\"0.0005\"} 3",
            "coredns_dns_request_duration_seconds_count 3",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
