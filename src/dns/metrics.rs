//! What is counted, and its text for Prometheus. Names are coredns', so that what watches that
//! watches this too.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of durations, in seconds (coredns' `TimeBuckets`: from a quarter of a millisecond,
/// each twice the one before).
const BOUNDS: [f64; 16] = [
    0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
    2.048, 4.096, 8.192,
];

/// Types that are counted by name; all others are `other`.
const KINDS: [RecordType; 13] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::SVCB,
    RecordType::TXT,
    RecordType::NAPTR,
    RecordType::ANY,
];

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Cluster,
    Cache,
    Others,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    by_kind: [AtomicU64; KINDS.len() + 1],
    by_code: Mutex<BTreeMap<&'static str, u64>>,
    by_source: [AtomicU64; 3],
    durations: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
    malformed: AtomicU64,
    reload_failures: AtomicU64,
}

impl Metrics {
    pub(super) fn answered(
        &self,
        kind: RecordType,
        code: ResponseCode,
        source: Source,
        took: Duration,
    ) {
        let add = |counter: &AtomicU64, count| counter.fetch_add(count, Ordering::Relaxed);
        let at = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len());
        add(&self.by_kind[at], 1);
        add(&self.by_source[source as usize], 1);
        let seconds = took.as_secs_f64();
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        add(&self.durations[at], 1);
        add(&self.nanoseconds, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let mut by_code = self.by_code.lock().expect("no panics under this lock");
        *by_code.entry(code_name(code)).or_default() += 1;
    }

    pub(super) fn malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }

    /// A configuration was not taken.
    pub(super) fn reload_failed(&self) {
        self.reload_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// `cached`: how many answers of others are kept.
    pub(super) fn render(&self, cached: usize) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut text = String::new();
        let kinds = KINDS.iter().map(ToString::to_string).chain(["other".to_owned()]);
        let kinds = kinds.zip(self.by_kind.iter().map(get)).filter(|(_, count)| *count > 0);
        let lines = kinds.map(|(kind, count)| (format!("{{type=\"{kind}\"}}"), count.to_string()));
        family(&mut text, ("coredns_dns_requests_total", "counter"), "Questions by type.", lines);
        let by_code = self.by_code.lock().expect("no panics under this lock").clone();
        let codes = by_code.into_iter();
        let lines = codes.map(|(code, count)| (format!("{{rcode=\"{code}\"}}"), count.to_string()));
        family(&mut text, ("coredns_dns_responses_total", "counter"), "Answers by code.", lines);
        let [cluster, cache, others] = self.by_source.each_ref().map(get);
        let one = |value: u64| [(String::new(), value.to_string())];
        let help = "Answers from what is known of the cluster.";
        family(&mut text, ("coredns_kubernetes_answers_total", "counter"), help, one(cluster));
        let help = "Questions about names that are not the cluster's.";
        let asked = one(cache + others);
        family(&mut text, ("coredns_cache_requests_total", "counter"), help, asked);
        let help = "Answers from what others said before.";
        family(&mut text, ("coredns_cache_hits_total", "counter"), help, one(cache));
        let help = "Answers of others that are kept.";
        let entries = one(u64::try_from(cached).unwrap_or(u64::MAX));
        family(&mut text, ("coredns_cache_entries", "gauge"), help, entries);
        let help = "Requests that cannot be understood or are not served.";
        let malformed = one(get(&self.malformed));
        family(&mut text, ("coredns_dns_refused_requests_total", "counter"), help, malformed);
        let help = "Configurations that were not taken.";
        let failed = one(get(&self.reload_failures));
        family(&mut text, ("coredns_reload_failed_total", "counter"), help, failed);
        self.render_durations(&mut text);
        text
    }

    fn render_durations(&self, text: &mut String) {
        let counts = self.durations.iter().map(|count| count.load(Ordering::Relaxed));
        let sums = counts.scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let sums: Vec<u64> = sums.collect();
        let total = sums.last().copied().unwrap_or_default().to_string();
        let bounds = BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        let buckets = bounds.zip(&sums);
        let buckets =
            buckets.map(|(bound, sum)| (format!("_bucket{{le=\"{bound}\"}}"), sum.to_string()));
        let took = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed));
        let sum = ("_sum".to_owned(), took.as_secs_f64().to_string());
        let lines = buckets.chain([sum, ("_count".to_owned(), total)]);
        let name = "coredns_dns_request_duration_seconds";
        family(text, (name, "histogram"), "How long answers took.", lines);
    }
}

fn code_name(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        _ => "other",
    }
}

/// One metric with its lines: what follows the name, and the value.
fn family(
    text: &mut String,
    (name, kind): (&str, &str),
    help: &str,
    lines: impl IntoIterator<Item = (String, String)>,
) {
    let mut lines = lines.into_iter().peekable();
    if lines.peek().is_none() {
        return;
    }
    let mut write = || {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        lines.try_for_each(|(labels, value)| writeln!(text, "{name}{labels} {value}"))
    };
    write().expect("writing to a string cannot fail");
}
