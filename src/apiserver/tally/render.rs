//! What was counted, as text.

use super::super::health::{CheckSeen, GIT_VERSION};
use super::series::{OwnedSort, Series, Sort, Sorted as _};
use crate::stdx::exposition::{
    Durations, Exposition, Family, Labels, counter, gauge, seconds, whole,
};
use crate::sys::load::OwnLoad;

/// How many objects there are of a kind.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) count: u64,
}

/// Requests of one sort.
#[derive(Debug)]
pub(super) struct Requests {
    dry_run: &'static str,
    verb: &'static str,
    scope: &'static str,
    words: [String; 4],
    codes: Vec<(String, u64)>,
    durations: Durations,
    sizes: Durations,
    underway: u64,
}

/// Watches of one kind.
#[derive(Debug)]
pub(super) struct Watched {
    words: [String; 4],
    sizes: Durations,
}

fn words(sort: Sort<'_>) -> [String; 4] {
    [sort.group, sort.version, sort.resource, sort.subresource].map(str::to_owned)
}

impl Requests {
    pub(super) fn of(sort: &OwnedSort, series: &Series) -> Self {
        let sort = sort.sort();
        let codes = series.codes().into_iter();
        Self {
            dry_run: sort.dry_run,
            verb: sort.verb,
            scope: sort.scope,
            words: words(sort),
            codes: codes.map(|(code, count)| (code.to_string(), count)).collect(),
            durations: series.durations.read(),
            sizes: series.sizes.read(),
            underway: series.underway(),
        }
    }

    fn sort(&self) -> Sort<'_> {
        let [group, version, resource, subresource] = &self.words;
        let Self { dry_run, verb, scope, .. } = self;
        Sort { verb, dry_run, scope, group, version, resource, subresource }
    }

    fn labels(&self) -> Labels<'_> {
        let [group, version, resource, subresource] = &self.words;
        vec![
            ("component", "apiserver"),
            ("group", group),
            ("resource", resource),
            ("scope", self.scope),
            ("subresource", subresource),
            ("verb", self.verb),
            ("version", version),
        ]
    }

    fn with<'a>(&'a self, more: &[(&'static str, &'a str)]) -> Labels<'a> {
        let mut labels = self.labels();
        labels.extend(more);
        labels.sort_unstable();
        labels
    }
}

impl Watched {
    pub(super) fn of(sort: &OwnedSort, sizes: Durations) -> Self {
        Self { words: words(sort.sort()), sizes }
    }

    fn labels(&self) -> Labels<'_> {
        let [group, version, resource, _] = &self.words;
        vec![("group", group), ("resource", resource), ("version", version)]
    }
}

/// Everything there is to tell.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) requests: Vec<Requests>,
    pub(super) watched: Vec<Watched>,
    pub(super) objects: Vec<Objects>,
    /// Those that write, and those that only read.
    pub(super) in_flight: (usize, usize),
    pub(super) store: Vec<(&'static str, Durations)>,
    pub(super) store_revision: u64,
    pub(super) tls_failures: u64,
    pub(super) checks: Vec<CheckSeen>,
    pub(super) process: OwnLoad,
}

/// What `/metrics` says.
pub(super) fn text(seen: &Seen) -> String {
    let mut text = Exposition::default();
    requests(seen, &mut text);
    watches(seen, &mut text);
    store(seen, &mut text);
    checks(&seen.checks, &mut text);
    around(seen, &mut text);
    process(&seen.process, &mut text);
    text.finish()
}

/// What `/metrics/slis` says.
pub(super) fn health(seen: &[CheckSeen]) -> String {
    let mut text = Exposition::default();
    checks(seen, &mut text);
    text.finish()
}

fn requests(seen: &Seen, text: &mut Exposition) {
    let mut sorted: Vec<_> = seen.requests.iter().collect();
    sorted.sort_by_key(|requests| {
        let Sort { group, version, resource, subresource, verb, scope, dry_run } = requests.sort();
        (group, version, resource, subresource, verb, scope, dry_run)
    });
    let totals = sorted.iter().flat_map(|requests| {
        requests.codes.iter().map(|(code, count)| {
            (requests.with(&[("code", code), ("dry_run", requests.dry_run)]), whole(*count))
        })
    });
    text.family(REQUESTS, totals.collect());
    let durations: Vec<_> = sorted
        .iter()
        .map(|requests| (requests.with(&[("dry_run", requests.dry_run)]), requests.durations))
        .collect();
    let (name, help) = DURATIONS;
    text.durations(name, help, &durations);
    let levels: Vec<_> = sorted
        .iter()
        .filter(|requests| !["WATCH", "CONNECT"].contains(&requests.verb))
        .map(|requests| (requests.labels(), requests.durations))
        .collect();
    let (name, help) = LEVELS;
    text.durations(name, help, &levels);
    let sizes: Vec<_> = sorted
        .iter()
        .filter(|requests| requests.sizes.count() > 0)
        .map(|requests| (requests.labels(), requests.sizes))
        .collect();
    let (name, help) = SIZES;
    text.durations(name, help, &sizes);
    let long = sorted.iter().filter(|requests| ["WATCH", "CONNECT"].contains(&requests.verb));
    let long = long.map(|requests| (requests.labels(), whole(requests.underway)));
    text.family(LONG, long.collect());
    let (mutating, reading) = seen.in_flight;
    let kinds = [("mutating", mutating), ("readOnly", reading)];
    let counted = |value: usize| crate::stdx::exposition::count(value);
    let current = kinds.map(|(kind, value)| (vec![("request_kind", kind)], counted(value)));
    text.family(CURRENT, current.to_vec());
    let waiting = kinds.map(|(kind, _)| (vec![("request_kind", kind)], 0.0));
    text.family(WAITING, waiting.to_vec());
}

fn watches(seen: &Seen, text: &mut Exposition) {
    let mut sorted: Vec<_> = seen.watched.iter().collect();
    sorted.sort_by_key(|watched| &watched.words);
    let events = sorted.iter().map(|watched| (watched.labels(), whole(watched.sizes.count())));
    text.family(EVENTS, events.collect());
    let sizes: Vec<_> = sorted.iter().map(|watched| (watched.labels(), watched.sizes)).collect();
    let (name, help) = EVENT_SIZES;
    text.durations(name, help, &sizes);
}

fn store(seen: &Seen, text: &mut Exposition) {
    let names: Vec<_> = seen.objects.iter().map(qualified).collect();
    let old = names.iter().zip(&seen.objects);
    let old = old.map(|(name, objects)| (vec![("resource", name.as_str())], whole(objects.count)));
    text.family(STORED, old.collect());
    let new = seen.objects.iter().map(|objects| {
        let Objects { group, resource, count } = objects;
        (vec![("group", group.as_str()), ("resource", resource.as_str())], whole(*count))
    });
    text.family(OBJECTS, new.collect());
    let took: Vec<_> = seen
        .store
        .iter()
        .map(|(operation, durations)| (vec![("operation", *operation)], *durations))
        .collect();
    let (name, help) = STORE;
    text.durations(name, help, &took);
    text.one(REVISION, whole(seen.store_revision));
}

/// `pods`, `deployments.apps`.
fn qualified(objects: &Objects) -> String {
    match objects.group.as_str() {
        "" => objects.resource.clone(),
        group => format!("{}.{group}", objects.resource),
    }
}

fn checks(seen: &[CheckSeen], text: &mut Exposition) {
    let told = seen.iter().map(|check| {
        let labels = vec![("name", check.name), ("type", check.endpoint)];
        (labels, if check.is_well { 1.0 } else { 0.0 })
    });
    text.family(CHECKS, told.collect());
}

/// What there is beside requests.
fn around(seen: &Seen, text: &mut Exposition) {
    text.one(TLS_FAILURES, whole(seen.tls_failures));
    // Nothing is audited.
    text.one(AUDITED, 0.0);
    text.one(AUDIT_REJECTED, 0.0);
    let build = vec![
        ("git_version", GIT_VERSION),
        ("major", "1"),
        ("minor", "35"),
        ("platform", if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }),
    ];
    text.family(BUILD, vec![(build, 1.0)]);
}

/// Of the whole process, as Prometheus' clients tell it.
fn process(load: &OwnLoad, text: &mut Exposition) {
    text.one(CPU, seconds(load.cpu_nanoseconds));
    for (family, value) in [
        (RESIDENT, load.resident_bytes),
        (VIRTUAL, load.virtual_bytes),
        (OPEN_FILES, load.open_files),
        (OPEN_FILES_MAX, load.open_files_max),
        (STARTED, load.started_at),
    ] {
        text.one(family, whole(value));
    }
}

const REQUESTS: Family =
    counter("apiserver_request_total", "Requests by sort and by the code of their answer.");
const DURATIONS: (&str, &str) =
    ("apiserver_request_duration_seconds", "How long requests took, in seconds, by sort.");
const LEVELS: (&str, &str) = (
    "apiserver_request_sli_duration_seconds",
    "How long requests took that are expected to end, in seconds, by sort.",
);
const SIZES: (&str, &str) =
    ("apiserver_response_sizes", "How large answers to reads were, in bytes, by sort.");
const LONG: Family = gauge(
    "apiserver_longrunning_requests",
    "Requests under way that take as long as the client likes.",
);
const CURRENT: Family =
    gauge("apiserver_current_inflight_requests", "Requests under way over the network.");
const WAITING: Family = gauge(
    "apiserver_current_inqueue_requests",
    "Requests that wait to be begun: none, what is too much is sent away.",
);
const EVENTS: Family = counter("apiserver_watch_events_total", "Events that watches have sent.");
const EVENT_SIZES: (&str, &str) =
    ("apiserver_watch_events_sizes", "How large events of watches were, in bytes.");
const STORED: Family = gauge(
    "apiserver_storage_objects",
    "Objects of each kind. Deprecated: see apiserver_resource_objects.",
);
const OBJECTS: Family = gauge("apiserver_resource_objects", "Objects of each kind.");
const STORE: (&str, &str) =
    ("kinglet_store_request_duration_seconds", "How long the store took, in seconds.");
const REVISION: Family = gauge("kinglet_store_revision", "The newest revision of the store.");
const CHECKS: Family = gauge("kubernetes_healthcheck", "Whether a check of health is well.");
const TLS_FAILURES: Family =
    counter("apiserver_tls_handshake_errors_total", "TLS handshakes that came to nothing.");
const AUDITED: Family = counter("apiserver_audit_event_total", "Events sent to an audit log.");
const AUDIT_REJECTED: Family = counter(
    "apiserver_audit_requests_rejected_total",
    "Requests refused because they could not be audited.",
);
const BUILD: Family = gauge("kubernetes_build_info", "Which version this is.");
const CPU: Family =
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
const RESIDENT: Family = gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
const VIRTUAL: Family = gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
const OPEN_FILES: Family = gauge("process_open_fds", "Number of open file descriptors.");
const OPEN_FILES_MAX: Family = gauge("process_max_fds", "Maximum number of open file descriptors.");
const STARTED: Family =
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
