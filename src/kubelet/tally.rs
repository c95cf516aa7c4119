//! How often the kubelet has done what, and how long it took: for its `/metrics`.
//!
//! Start at [`Tally`]. What it asks of its runtime is counted by [`Metered`], through which it asks.

mod metered;

pub(super) use metered::Metered;

use super::pod::ProbeKind;
use crate::stdx::exposition::{BOUNDS, Durations};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// By which starts of pods are counted, in seconds: upstream `podStartupDurationBuckets`.
const START_BOUNDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0,
    300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];

/// Probes of more containers than this are not counted, until others are gone.
const PROBES_MAX: usize = 4_096;

/// What has come of something that is done again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Operation {
    pub(super) durations: Durations,
    pub(super) failures: u64,
}

/// A probe, by what it is told by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProbeName {
    pub(super) kind: ProbeKind,
    pub(super) container: String,
    pub(super) pod: String,
    pub(super) namespace: String,
    pub(super) uid: String,
}

/// What a probe has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProbeOutcome {
    Successful,
    Failed,
    Unknown,
}

impl ProbeOutcome {
    /// As upstream's `result` label has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Successful => "successful",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// How often a probe came to what, and how long it took where it passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProbeCount {
    pub(super) outcomes: BTreeMap<ProbeOutcome, u64>,
    pub(super) durations: Durations,
}

/// Something that takes its time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Span {
    /// A look at a pod: `create` for the first one, `sync` for the others.
    Look(&'static str),
    /// From when the kubelet heard of a pod until it ran.
    Start,
    /// From when a pod was made until it ran.
    StartSinceCreation,
    /// A cgroup is given its limits.
    Cgroup(&'static str),
    /// A sandbox is made by this handler.
    Sandbox(String),
}

impl Span {
    fn bounds(&self) -> &'static [f64] {
        match self {
            Self::Start | Self::StartSinceCreation => START_BOUNDS,
            Self::Look(_) | Self::Cgroup(_) | Self::Sandbox(_) => BOUNDS,
        }
    }
}

/// Something that is only counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// A pod had to go, because of this.
    Evicted(&'static str),
    /// A pod was not taken, for this reason.
    Rejected(String),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    operations: BTreeMap<&'static str, Operation>,
    probes: BTreeMap<ProbeName, ProbeCount>,
    spans: BTreeMap<Span, Operation>,
    happenings: BTreeMap<Happening, u64>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("no panics under this lock")
    }

    fn note_operation(&self, name: &'static str, duration: Duration, is_well: bool) {
        let mut counts = self.lock();
        let operation = counts.operations.entry(name).or_default();
        operation.durations.note(duration);
        operation.failures += u64::from(!is_well);
    }

    /// What has been asked of the runtime, by upstream's names for it.
    pub(super) fn operations(&self) -> BTreeMap<&'static str, Operation> {
        self.lock().operations.clone()
    }

    pub(super) fn note_span(&self, span: Span, duration: Duration, is_well: bool) {
        let mut counts = self.lock();
        let bounds = span.bounds();
        let new = || Operation { durations: Durations::by(bounds), failures: 0 };
        let operation = counts.spans.entry(span).or_insert_with(new);
        operation.durations.note(duration);
        operation.failures += u64::from(!is_well);
    }

    pub(super) fn spans(&self) -> BTreeMap<Span, Operation> {
        self.lock().spans.clone()
    }

    pub(super) fn note_happening(&self, happening: Happening) {
        *self.lock().happenings.entry(happening).or_default() += 1;
    }

    pub(super) fn happenings(&self) -> BTreeMap<Happening, u64> {
        self.lock().happenings.clone()
    }

    pub(super) fn note_probe(&self, name: ProbeName, outcome: ProbeOutcome, duration: Duration) {
        let mut counts = self.lock();
        if counts.probes.len() >= PROBES_MAX && !counts.probes.contains_key(&name) {
            return;
        }
        let probe = counts.probes.entry(name).or_default();
        *probe.outcomes.entry(outcome).or_default() += 1;
        if outcome == ProbeOutcome::Successful {
            probe.durations.note(duration);
        }
    }

    /// What probes of the pods came to; those of other pods are forgotten.
    pub(super) fn probes(&self, is_here: impl Fn(&str) -> bool) -> BTreeMap<ProbeName, ProbeCount> {
        let mut counts = self.lock();
        counts.probes.retain(|name, _| is_here(&name.uid));
        counts.probes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_up_to_their_bounds() {
        let mut durations = Durations::default();
        for milliseconds in [5, 6, 300, 60_000] {
            durations.note(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = durations.up_to().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!((durations.count(), durations.seconds), (4, 60.311));
        let tally = Tally::default();
        tally.note_span(Span::Start, Duration::from_secs(5_000), true);
        let start = tally.spans()[&Span::Start].durations;
        assert_eq!(start.up_to().last(), Some((3_600.0, 0)));
        assert_eq!(start.count(), 1);
    }

    #[test]
    fn probes_of_pods_that_are_gone_are_forgotten() {
        let tally = Tally::default();
        let name = |uid: &str| ProbeName {
            kind: ProbeKind::Liveness,
            container: "c".to_owned(),
            pod: "p".to_owned(),
            namespace: "n".to_owned(),
            uid: uid.to_owned(),
        };
        for (uid, outcome) in [
            ("a", ProbeOutcome::Successful),
            ("a", ProbeOutcome::Failed),
            ("a", ProbeOutcome::Failed),
            ("b", ProbeOutcome::Unknown),
        ] {
            tally.note_probe(name(uid), outcome, Duration::from_millis(1));
        }
        let probes = tally.probes(|uid| uid == "a");
        assert_eq!(probes.len(), 1);
        let counted = &probes[&name("a")];
        assert_eq!(counted.outcomes[&ProbeOutcome::Failed], 2);
        assert_eq!(counted.durations.count(), 1);
        assert_eq!(tally.probes(|_uid| true).len(), 1);
    }
}
