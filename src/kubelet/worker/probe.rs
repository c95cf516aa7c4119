//! Keeps the pod's probes being asked, and takes what they say.

use super::job::Done;
use super::pod::PodWorker;
use crate::kubelet::announce::container_reference;
use crate::kubelet::pod::{PodFacts, ProbeKind};
use crate::kubelet::prober::plan::{Schedule, Wanted, probe, wanted};
use crate::kubelet::prober::step::Row;
use crate::kubelet::prober::{Means, Probing, Question};
use crate::runtime::ContainerId;
use crate::stdx::monotonic;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

type Key = (ContainerId, ProbeKind);

/// The probes of one pod.
#[derive(Debug)]
pub(super) struct Asked {
    /// Containers that started earlier were running when this worker began.
    began_at: Timestamp,
    under_way: BTreeMap<Key, AbortHandle>,
    /// Those that have just said something, until they go on.
    resting: BTreeMap<Key, Probing>,
}

impl Asked {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { began_at: now, under_way: BTreeMap::new(), resting: BTreeMap::new() }
    }
}

impl PodWorker {
    /// Asks what is to be asked, and nothing else.
    pub(super) fn keep_probes(&mut self, facts: &PodFacts, now: Timestamp) {
        let ends = self.memory.ending.is_some();
        let mut wanted = wanted(&self.pod, facts, &self.probes, ends);
        if !self.is_attached(facts) {
            // It is not known yet where to ask.
            wanted.clear();
        }
        let is_wanted = |(container, kind): &Key| {
            wanted.iter().any(|it| it.container == *container && it.kind == *kind)
        };
        self.asked.under_way.retain(|key, handle| {
            let keep = is_wanted(key);
            if !keep {
                handle.abort();
            }
            keep
        });
        self.asked.resting.retain(|key, _| is_wanted(key));
        for wanted in wanted {
            let key = (wanted.container.clone(), wanted.kind);
            if self.asked.under_way.contains_key(&key) {
                continue;
            }
            let probing = self.asked.resting.remove(&key);
            if let Some(probing) = probing.or_else(|| self.probing(&wanted, now)) {
                self.begin_probe(key, probing);
            }
        }
    }

    /// A probe that has not been asked yet. `None` where there is none.
    fn probing(&self, wanted: &Wanted, now: Timestamp) -> Option<Probing> {
        let spec = wanted.slot.of(&self.pod);
        let probe = probe(spec, wanted.kind)?.clone();
        let schedule = Schedule::of(&probe);
        let age = now.duration_since(wanted.started_at);
        let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
        let found_running = wanted.started_at < self.asked.began_at;
        let first_in = schedule.first_in(age, found_running.then(|| phase(wanted)));
        Some(Probing {
            kind: wanted.kind,
            schedule,
            regarding: container_reference(&self.pod, wanted.slot),
            result: self.probes.result(&wanted.container, wanted.kind),
            row: Row::default(),
            next_at: Instant::from_std(monotonic() + first_in),
            question: Question {
                probe,
                container: wanted.container.clone(),
                spec: Arc::new(spec.clone()),
                address: self.addresses().first().copied(),
                timeout: schedule.timeout,
            },
        })
    }

    fn begin_probe(&mut self, key: Key, probing: Probing) {
        let shared = Arc::clone(&self.shared);
        let mut probing = Box::new(probing);
        let handle = self.jobs.spawn(async move {
            let means = Means {
                runtime: &*shared.runtime,
                events: &shared.events,
                turns: &shared.questions,
                tally: &shared.tally,
            };
            probing.run(means).await;
            Done::Probed(probing)
        });
        self.asked.under_way.insert(key, handle);
    }

    /// Takes what a probe has come to. The look that follows lets it go on.
    pub(super) fn take_probe(&mut self, probing: Probing) {
        let key = (probing.question.container.clone(), probing.kind);
        self.asked.under_way.remove(&key);
        self.probes.record(key.0.clone(), key.1, probing.result);
        self.asked.resting.insert(key, probing);
    }
}

/// Where in its period a probe is asked: the same for each restart, another for each probe.
fn phase(wanted: &Wanted) -> u8 {
    let mut hasher = DefaultHasher::new();
    (&wanted.container, wanted.kind as u8).hash(&mut hasher);
    hasher.finish().to_le_bytes()[0]
}
