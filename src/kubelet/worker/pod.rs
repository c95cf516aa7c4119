//! The worker of one pod.

use super::job::{Done, Job};
use super::report::Reporter;
use super::shared::Shared;
use crate::client::key_of;
use crate::kubelet::announce::Announcer;
use crate::kubelet::claims::Claims;
use crate::kubelet::container::mounts::ReadyVolume;
use crate::kubelet::images::plan::{NeededImage, Progress};
use crate::kubelet::pod::plan::{Ending, Memory, Observed, PodPlan, Waiting, plan};
use crate::kubelet::pod::{BoundPod, PodFacts, Probes};
use crate::kubelet::tally::Span;
use crate::kubelet::tokens::Tokens;
use crate::runtime::{ContainerId, SandboxId};
use crate::stdx::{Backoff, chain, monotonic};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::warn;

/// What passes before something that failed on this node is tried again.
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

/// A worker that always finds something to do has a bug. After so many looks in a row it rests for
/// a moment, and says so.
const LOOKS_IN_A_ROW_MAX: u32 = 50;
const REST: SignedDuration = SignedDuration::from_secs(1);

/// What a worker does after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Something was done: see what comes of it.
    LookAgain,
    /// Sleep until something happens, or until then.
    Wait(Option<Timestamp>),
    /// The pod is gone and nothing of it is left.
    Leave,
}

/// Something that failed, and when to try it again.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) failures: u32,
    pub(super) retry_at: Timestamp,
    /// What a container's status shows meanwhile.
    pub(super) waiting: Option<Waiting>,
}

impl Failure {
    /// After one more failure.
    pub(super) fn after(previous: Option<&Self>, now: Timestamp) -> Self {
        let failures = previous.map_or(0, |previous| previous.failures).saturating_add(1);
        let delay = SignedDuration::try_from(RETRY.delay(failures)).unwrap_or(SignedDuration::MAX);
        let retry_at = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
        Self { failures, retry_at, waiting: None }
    }
}

/// Where the pod is on the network.
#[derive(Clone, Debug)]
pub(super) struct Attached {
    pub(super) sandbox: SandboxId,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Debug)]
pub(super) struct PodWorker {
    pub(super) shared: Arc<Shared>,
    /// As the API had it last, with the resources that it was granted.
    pub(super) pod: BoundPod,
    pub(super) resizing: super::resize::Resizing,
    /// When this began.
    pub(super) began: Instant,
    /// The API has it no more.
    pub(super) gone: bool,
    pub(super) admission: super::admit::Progress,
    pub(super) memory: Memory,
    pub(super) probes: Probes,
    pub(super) asked: super::probe::Asked,
    pub(super) announcer: Announcer,
    pub(super) reporter: Reporter,
    /// By container name.
    pub(super) images: BTreeMap<String, NeededImage>,
    pub(super) start_failures: BTreeMap<String, Failure>,
    /// Why containers wait, as of this look.
    pub(super) waiting: BTreeMap<String, Waiting>,
    pub(super) sandbox_failure: Option<Failure>,
    pub(super) volume_failure: Option<Failure>,
    pub(super) end_failure: Option<Failure>,
    pub(super) deletion_failure: Option<Failure>,
    /// Containers that could not be ended: their hooks have run.
    pub(super) stop_failures: BTreeMap<ContainerId, Failure>,
    /// The container whose hook after its start is under way, and others wait for.
    pub(super) post_start: Option<ContainerId>,
    /// As of which change of the node's images it is known that some are not there.
    pub(super) images_seen: u64,
    /// The volumes, and from what they were made.
    pub(super) volumes: Option<(u64, BTreeMap<String, ReadyVolume>)>,
    /// `None`: it is not known yet which an earlier process has left.
    pub(super) tokens: Option<Tokens>,
    pub(super) claims: Claims,
    pub(super) attached: Option<Attached>,
    /// What is being ended, and when it will be killed.
    pub(super) stopping: BTreeMap<ContainerId, Timestamp>,
    /// What ended containers left, by their ids.
    pub(super) last_words: BTreeMap<ContainerId, String>,
    /// How far the pod's end is.
    pub(super) end: super::end::EndProgress,
    pub(super) jobs: JoinSet<Done>,
}

impl PodWorker {
    pub(super) fn new(shared: Arc<Shared>, pod: BoundPod) -> Self {
        let now = shared.clock.now();
        let started_at = Some(pod.started_at().unwrap_or(now));
        let claims = Claims::new(&pod);
        Self {
            announcer: Announcer::new(shared.events.clone()),
            reporter: Reporter::new(&pod, now),
            shared,
            pod,
            resizing: super::resize::Resizing::default(),
            began: monotonic(),
            gone: false,
            admission: super::admit::Progress::default(),
            memory: Memory { started_at, ..Memory::default() },
            probes: Probes::default(),
            asked: super::probe::Asked::new(now),
            images: BTreeMap::new(),
            start_failures: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sandbox_failure: None,
            volume_failure: None,
            end_failure: None,
            deletion_failure: None,
            stop_failures: BTreeMap::new(),
            post_start: None,
            images_seen: 0,
            volumes: None,
            tokens: None,
            claims,
            attached: None,
            stopping: BTreeMap::new(),
            last_words: BTreeMap::new(),
            end: super::end::EndProgress::default(),
            jobs: JoinSet::new(),
        }
    }

    /// Works until the pod is gone.
    pub(super) async fn run(mut self, poke: Arc<Notify>) {
        let (mut in_a_row, mut kind) = (0, "create");
        loop {
            let began = monotonic();
            let mut next = self.look().await;
            let span = Span::Look(std::mem::replace(&mut kind, "sync"));
            self.shared.tally.note_span(span, began.elapsed(), true);
            in_a_row = if next == Next::LookAgain { in_a_row + 1 } else { 0 };
            if in_a_row > LOOKS_IN_A_ROW_MAX {
                warn!(pod = %self.pod, "the plan for this pod does not come to rest");
                next = Next::Wait(self.shared.clock.now().saturating_add(REST).ok());
            }
            match next {
                Next::LookAgain => {}
                Next::Wait(until) => self.wait(&poke, until).await,
                Next::Leave => return,
            }
        }
    }

    async fn wait(&mut self, poke: &Notify, until: Option<Timestamp>) {
        let clock = self.shared.clock.clone();
        let mut settings = clock.settings();
        let alarm = async {
            match until {
                Some(until) => clock.sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = poke.notified() => {}
            () = settings.next() => self.retry_everything(),
            Some(done) = self.jobs.join_next() => self.take(done),
            () = alarm => {}
        }
        while let Some(done) = self.jobs.try_join_next() {
            self.take(done);
        }
    }

    /// The clock was set, perhaps by hours, or the machine has slept: when what has failed was to be
    /// tried again means nothing any more.
    fn retry_everything(&mut self) {
        for failure in [
            &mut self.sandbox_failure,
            &mut self.volume_failure,
            &mut self.end_failure,
            &mut self.deletion_failure,
            &mut self.resizing.failure,
        ] {
            *failure = None;
        }
        self.start_failures.clear();
        self.stop_failures.clear();
        self.images.retain(|_, image| !matches!(image.progress, Progress::Failed { .. }));
        self.reporter.retry();
        self.claims.retry();
        if let Some(tokens) = &mut self.tokens {
            tokens.retry();
        }
    }

    /// One look at the pod: what there is, what is to be done, and the doing.
    async fn look(&mut self) -> Next {
        self.refresh();
        let now = self.shared.clock.now();
        self.take_eviction(now);
        let facts = match self.observe(now).await {
            Ok(facts) => facts,
            Err(error) => {
                warn!(pod = %self.pod, error = chain(&error), "cannot look at a pod");
                return Next::Wait(Some(Failure::after(None, now).retry_at));
            }
        };
        if !self.admit(&facts, now).await {
            // It is rung when who has to go for it has gone.
            return Next::Wait(None);
        }
        self.probes.meet(&self.pod, &facts);
        let plan = plan(&Observed {
            pod: &self.pod,
            facts: &facts,
            memory: &self.memory,
            probes: &self.probes,
            now,
        });
        if let Some(ending) = &plan.ending
            && self.memory.ending.as_ref().is_none_or(|(known, _)| known != ending)
        {
            let since = self.memory.ending.take().map_or(now, |(_, since)| since);
            self.memory.ending = Some((ending.clone(), since));
        }
        self.keep_probes(&facts, now);
        if plan.ended {
            return self.end(&facts, &plan, now).await;
        }
        self.stop(&plan.stop, now);
        let next = self.advance(&facts, &plan, now).await;
        if next != Next::LookAgain {
            self.report(&facts, &plan, now);
        }
        match next {
            Next::Wait(until) => Next::Wait(self.earliest(until, &plan)),
            next => next,
        }
    }

    fn earliest(&self, until: Option<Timestamp>, plan: &PodPlan) -> Option<Timestamp> {
        let retry_report = self.reporter.retry_at();
        // Those that are due are under way.
        let stops = self.stop_failures.iter().filter(|(id, _)| !self.stopping.contains_key(*id));
        let retry_stop = stops.map(|(_, failure)| failure.retry_at).min();
        let token_due = self.tokens.as_ref().and_then(Tokens::next_due);
        let asks = [token_due, self.claims.next_due()].into_iter().flatten().min();
        let asks = asks.filter(|_| plan.ending.is_none());
        // Where there are volumes, the pod goes on with them as they are; nothing else would wake this.
        let now = self.shared.clock.now();
        let retry_volumes = self.volume_failure.as_ref().map(|failure| failure.retry_at);
        let retry_volumes = retry_volumes.filter(|at| plan.ending.is_none() && *at > now);
        let retry_resize = self.resizing.failure.as_ref().map(|failure| failure.retry_at);
        [until, plan.recheck_at, retry_report, retry_stop, retry_resize, retry_volumes, asks]
            .into_iter()
            .flatten()
            .min()
    }

    /// Takes the newest form of the pod from the cache.
    pub(super) fn refresh(&mut self) {
        let found = self.shared.pod(&self.pod.key(), self.pod.uid());
        match found.and_then(|object| self.granted(object)) {
            Some(pod) => self.pod = pod,
            None if self.gone => {}
            None => {
                self.gone = true;
                let now = self.shared.clock.now();
                let since = self.memory.ending.take().map_or(now, |(_, since)| since);
                self.memory.ending = Some((Ending::Deleted, since));
            }
        }
    }

    /// Takes what a job has come to.
    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.shared.clock.now();
        match done {
            Ok(Done::Fetched { container, reference, failures, result }) => {
                let progress = match result {
                    Ok(image) => {
                        self.shared.keeper.look_again();
                        Progress::Ready(image)
                    }
                    Err(why) => Progress::Failed { why, failures: failures + 1, at: now },
                };
                self.images.insert(container, NeededImage { reference, progress });
            }
            Ok(Done::Stopped { container, result }) => {
                // A later look orders it again, if it still runs.
                self.stopping.remove(&container);
                let known = self.stop_failures.remove(&container);
                if let Err(error) = result {
                    warn!(pod = %self.pod, %container, error = chain(&error), "cannot end a container");
                    self.stop_failures.insert(container, Failure::after(known.as_ref(), now));
                }
            }
            Ok(Done::Hooked { container, name, failure }) => {
                self.take_post_start(container, name, failure, now);
            }
            Ok(Done::Probed(probing)) => self.take_probe(*probing),
            Ok(Done::Reported { hash, result }) => self.reporter.take(&self.pod, hash, result, now),
            Ok(Done::Claim { volume, result }) => self.claims.take(&volume, result, now),
            Ok(Done::Token { ask, result }) => self.take_token(&ask, result, now),
            Ok(Done::Deleted(result)) => self.take_deletion(result, now),
            // A probe that nobody wants any more.
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                warn!(pod = %self.pod, %error, "a job of a pod's worker panicked");
                // It may have been that one: nobody waits for what does not come.
                self.post_start = None;
                self.tokens.iter_mut().for_each(Tokens::give_up_asking);
                self.claims.give_up_asking();
            }
        }
    }

    /// Begins something that takes its time.
    pub(super) fn begin(&mut self, job: Job) {
        self.jobs.spawn(job);
    }

    /// The facts that containers and volumes are told of.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        if self.pod.uses_node_network() {
            return self.shared.node().addresses;
        }
        self.attached.as_ref().map(|attached| attached.addresses.clone()).unwrap_or_default()
    }

    /// Whether the pod's own place on the network, where it has one, is the one of its sandbox.
    pub(super) fn is_attached(&self, facts: &PodFacts) -> bool {
        let sandbox = facts.ready_sandbox().map(|sandbox| &sandbox.id);
        let attached = self.attached.as_ref().map(|attached| &attached.sandbox);
        self.pod.uses_node_network() || (sandbox.is_some() && sandbox == attached)
    }

    /// For messages of those who know the object and not the pod.
    pub(super) fn key(&self) -> crate::api::ObjectKey {
        key_of(&self.pod.object().metadata)
    }
}
