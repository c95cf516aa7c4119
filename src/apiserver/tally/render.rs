//! What was counted, as text.

use super::super::fairness::FairnessSeen;
use super::super::health::{CheckSeen, GIT_VERSION, architecture};
use super::families::{self, Named};
use super::sort::{OwnedSort, Sort, Sorted as _};
use super::steps::StepLabels;
use crate::stdx::exposition::{Durations, Exposition, Family, Labels, count, seconds, whole};
use crate::sys::load::OwnLoad;
use std::collections::BTreeSet;

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
    pub(super) sort: OwnedSort,
    pub(super) codes: Vec<(String, u64)>,
    pub(super) cut: Vec<(String, u64)>,
    pub(super) durations: Durations,
    pub(super) levels: Durations,
    pub(super) sizes: Durations,
    pub(super) underway: u64,
    pub(super) is_deprecated: bool,
}

impl Requests {
    fn labels(&self) -> Labels<'_> {
        self.sort.sort().labels()
    }

    fn with<'a>(&'a self, more: &[(&'static str, &'a str)]) -> Labels<'a> {
        let mut labels = self.labels();
        labels.extend(more);
        labels.sort_unstable();
        labels
    }

    fn may_last(&self) -> bool {
        matches!(self.sort.sort().verb, "WATCH" | "CONNECT")
    }
}

/// Watches of one kind.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) sort: OwnedSort,
    pub(super) sizes: Durations,
}

impl Watched {
    fn labels(&self) -> Labels<'_> {
        let Sort { group, version, resource, .. } = self.sort.sort();
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
    pub(super) fairness: FairnessSeen,
    /// Those that ended well, and those that did not.
    pub(super) authentication: (Durations, Durations),
    pub(super) authorization: (Durations, Durations),
    pub(super) admission: Vec<(StepLabels, Durations)>,
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
    seen.fairness.render(&mut text);
    watches(seen, &mut text);
    store(seen, &mut text);
    access(seen, &mut text);
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

fn histograms(text: &mut Exposition, (name, help): Named, values: &[(Labels<'_>, Durations)]) {
    text.durations(name, help, values);
}

fn requests(seen: &Seen, text: &mut Exposition) {
    let mut sorted: Vec<_> = seen.requests.iter().collect();
    sorted.sort_by_key(|requests| {
        let Sort { group, version, resource, subresource, verb, scope, dry_run } =
            requests.sort.sort();
        (group, version, resource, subresource, verb, scope, dry_run)
    });
    by_code(&sorted, text);
    let durations = sorted.iter().map(|requests| {
        let labels = requests.with(&[("dry_run", requests.sort.sort().dry_run)]);
        (labels, requests.durations)
    });
    histograms(text, families::DURATIONS, &durations.collect::<Vec<_>>());
    // What changes nothing does not count here: upstream `MonitorRequest`.
    let real = sorted.iter().filter(|requests| requests.sort.sort().dry_run.is_empty());
    let real: Vec<_> = real.collect();
    let levels: Vec<_> = real.iter().map(|requests| (requests.labels(), requests.levels)).collect();
    histograms(text, families::LEVELS, &levels);
    let sizes = real.iter().filter(|requests| requests.sizes.count() > 0);
    let sizes: Vec<_> = sizes.map(|requests| (requests.labels(), requests.sizes)).collect();
    histograms(text, families::SIZES, &sizes);
    let lasting = real.iter().filter(|requests| requests.may_last());
    let lasting = lasting.map(|requests| (requests.labels(), whole(requests.underway)));
    text.family(families::LASTING, lasting.collect());
    let (mutating, reading) = seen.in_flight;
    let kinds = [("mutating", mutating), ("readOnly", reading)];
    let current = kinds.map(|(kind, value)| (vec![("request_kind", kind)], count(value)));
    text.family(families::CURRENT, current.to_vec());
    deprecated(&sorted, text);
}

fn by_code(sorted: &[&Requests], text: &mut Exposition) {
    let totals = sorted.iter().flat_map(|requests| {
        let dry_run = requests.sort.sort().dry_run;
        requests.codes.iter().map(move |(code, count)| {
            (requests.with(&[("code", code), ("dry_run", dry_run)]), whole(*count))
        })
    });
    text.family(families::REQUESTS, totals.collect());
    // Dry runs are not told apart here, so that there may be two sorts of the same labels.
    let mut cut: Vec<(Labels<'_>, u64)> = Vec::new();
    for (requests, (code, count)) in
        sorted.iter().flat_map(|requests| requests.cut.iter().map(move |of| (requests, of)))
    {
        let labels = requests.with(&[("code", code)]);
        match cut.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, sum)) => *sum += count,
            None => cut.push((labels, *count)),
        }
    }
    let cut = cut.into_iter().map(|(labels, count)| (labels, whole(count)));
    text.family(families::CUT, cut.collect());
}

fn deprecated(sorted: &[&Requests], text: &mut Exposition) {
    let old = sorted.iter().filter(|requests| requests.is_deprecated);
    let old: BTreeSet<_> = old
        .map(|requests| {
            let Sort { group, version, resource, subresource, .. } = requests.sort.sort();
            [
                ("group", group),
                ("removed_release", ""),
                ("resource", resource),
                ("subresource", subresource),
                ("version", version),
            ]
        })
        .collect();
    let old = old.into_iter().map(|labels| (labels.to_vec(), 1.0));
    text.family(families::DEPRECATED, old.collect());
}

fn watches(seen: &Seen, text: &mut Exposition) {
    let mut sorted: Vec<_> = seen.watched.iter().collect();
    sorted.sort_by_key(|watched| watched.labels());
    let events = sorted.iter().map(|watched| (watched.labels(), whole(watched.sizes.count())));
    text.family(families::EVENTS, events.collect());
    let sizes: Vec<_> = sorted.iter().map(|watched| (watched.labels(), watched.sizes)).collect();
    histograms(text, families::EVENT_SIZES, &sizes);
}

fn store(seen: &Seen, text: &mut Exposition) {
    let names: Vec<_> = seen.objects.iter().map(qualified).collect();
    let old = names.iter().zip(&seen.objects);
    let old = old.map(|(name, objects)| (vec![("resource", name.as_str())], whole(objects.count)));
    text.family(families::STORED, old.collect());
    let new = seen.objects.iter().map(|Objects { group, resource, count }| {
        (vec![("group", group.as_str()), ("resource", resource.as_str())], whole(*count))
    });
    text.family(families::OBJECTS, new.collect());
    let took = seen.store.iter();
    let took = took.map(|(operation, durations)| (vec![("operation", *operation)], *durations));
    histograms(text, families::STORE, &took.collect::<Vec<_>>());
    text.one(families::REVISION, whole(seen.store_revision));
}

/// `pods`, `deployments.apps`.
fn qualified(objects: &Objects) -> String {
    match objects.group.as_str() {
        "" => objects.resource.clone(),
        group => format!("{}.{group}", objects.resource),
    }
}

/// Who asks, whether they may, and what admission says.
fn access(seen: &Seen, text: &mut Exposition) {
    let (good, bad) = seen.authentication;
    outcomes(
        (families::AUTHENTICATIONS, families::AUTHENTICATION),
        [("success", good), ("error", bad)],
        text,
    );
    let (good, bad) = seen.authorization;
    outcomes(
        (families::AUTHORIZATIONS, families::AUTHORIZATION),
        [("allowed", good), ("no-opinion", bad)],
        text,
    );
    let steps = seen.admission.iter();
    let steps = steps.map(|(labels, durations)| (labels.to_vec(), *durations));
    histograms(text, families::ADMISSION, &steps.collect::<Vec<_>>());
}

fn outcomes(
    (attempts, durations): (Family, Named),
    results: [(&'static str, Durations); 2],
    text: &mut Exposition,
) {
    let labelled = results.map(|(result, durations)| (vec![("result", result)], durations));
    let counts = labelled.iter().map(|(labels, of)| (labels.clone(), whole(of.count())));
    text.family(attempts, counts.collect());
    histograms(text, durations, &labelled);
}

fn checks(seen: &[CheckSeen], text: &mut Exposition) {
    let of = |check: &CheckSeen| [("name", check.name), ("type", check.endpoint)];
    let told = seen.iter().map(|check| (of(check).to_vec(), if check.is_well { 1.0 } else { 0.0 }));
    text.family(families::CHECKS, told.collect());
    let counted = seen.iter().flat_map(|check| {
        let [name, endpoint] = of(check);
        let results = [("success", check.well_count), ("error", check.unwell_count)];
        results.map(|(status, count)| (vec![name, ("status", status), endpoint], whole(count)))
    });
    text.family(families::CHECKED, counted.filter(|(_, count)| *count > 0.0).collect());
}

/// What there is beside requests.
fn around(seen: &Seen, text: &mut Exposition) {
    text.one(families::TLS_FAILURES, whole(seen.tls_failures));
    // Nothing is audited.
    text.one(families::AUDITED, 0.0);
    text.one(families::AUDIT_REJECTED, 0.0);
    let platform = format!("linux/{}", architecture());
    let build = vec![
        ("compiler", "rustc"),
        ("git_version", GIT_VERSION),
        ("major", "1"),
        ("minor", "35"),
        ("platform", platform.as_str()),
    ];
    text.family(families::BUILD, vec![(build, 1.0)]);
}

/// Of the whole process, as Prometheus' clients tell it.
fn process(load: &OwnLoad, text: &mut Exposition) {
    text.one(families::CPU, seconds(load.cpu_nanoseconds));
    for (family, value) in [
        (families::RESIDENT, load.resident_bytes),
        (families::VIRTUAL, load.virtual_bytes),
        (families::OPEN_FILES, load.open_files),
        (families::OPEN_FILES_MAX, load.open_files_max),
        (families::STARTED, load.started_at),
    ] {
        text.one(family, whole(value));
    }
}
