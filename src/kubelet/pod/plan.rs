//! What is to be done next for one pod.
//!
//! Start at [`plan()`]: upstream `computePodActions` and what its callers do around it
//! (pkg/kubelet/kuberuntime/kuberuntime_manager.go, pkg/kubelet/pod_workers.go, v1.35). It looks
//! at the whole pod each time and never at what was planned before, so that any step may fail, be
//! repeated or be interrupted by a restart.

use super::admission::Refusal;
use super::backoff::Restarts;
use super::bound::{BoundPod, restarts};
use super::facts::{ContainerFacts, PodFacts};
use super::init::{self, Initialization};
use super::probes::{ProbeKind, ProbeResult, Probes};
use super::resize::{Resize, needs_restart, resizes};
use crate::runtime::{ContainerId, SandboxId};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Everything [`plan()`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub pod: &'a BoundPod,
    pub facts: &'a PodFacts,
    pub memory: &'a Memory,
    pub probes: &'a Probes,
    pub now: Timestamp,
}

/// What the node remembers about a pod and the runtime does not. Lost in a restart, safely.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By container name.
    pub restarts: BTreeMap<String, Restarts>,
    /// Why the pod ends and since when: once it ends it never runs again.
    pub ending: Option<(Ending, Timestamp)>,
    /// Containers that were ended because their definition changed: they start again whatever the
    /// restart policy says.
    pub replaced: BTreeSet<ContainerId>,
    /// How long containers may take to end, where that is not what the pod says.
    pub grace: Option<SignedDuration>,
    /// When the pod began on this node.
    pub started_at: Option<Timestamp>,
}

/// The reason of pods that have to go because the node is short of something.
pub const EVICTED: &str = "Evicted";

/// Why a pod ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its object has a deletion timestamp.
    Deleted,
    /// All containers ended and none is to start again, or initialization failed for good, or the
    /// API says that the pod is over.
    Finished,
    /// The node ended it: too old, evicted.
    Failed {
        reason: Cow<'static, str>,
        message: String,
        /// What the condition `DisruptionTarget` says, where the pod did nothing wrong.
        disruption: Option<String>,
    },
}

impl Ending {
    /// The pod is itself the reason.
    #[must_use]
    pub fn failed(reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), message: message.into(), disruption: None }
    }

    /// Upstream `rejectPod` (pkg/kubelet/kubelet.go, v1.35).
    #[must_use]
    pub fn rejected(refusal: &Refusal) -> Self {
        Self::failed(refusal.reason.clone(), format!("Pod was rejected: {}", refusal.message))
    }
}

/// Which container of the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    Init(usize),
    App(usize),
    Ephemeral(usize),
}

impl Slot {
    /// The container in that place.
    #[must_use]
    pub fn of(self, pod: &BoundPod) -> &Container {
        match self {
            Self::Init(index) => &pod.init_containers()[index],
            Self::App(index) => &pod.containers()[index],
            Self::Ephemeral(index) => &pod.ephemeral_containers()[index],
        }
    }
}

/// What to do with the pod's sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SandboxPlan {
    #[default]
    Leave,
    Create {
        attempt: u32,
    },
    /// End what is left in the sandboxes and take the pod off the network; records and logs stay.
    Stop,
    /// Remove all there is of the pod in the runtime.
    Remove,
}

/// A container to be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub container: ContainerId,
    pub name: String,
    /// For the event.
    pub message: String,
    /// Killed, if it still runs, after this much.
    pub grace: SignedDuration,
    /// Its definition changed: see [`Memory::replaced`].
    pub replaced: bool,
}

/// A container to be made and started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub slot: Slot,
    pub attempt: u32,
    /// The container whose processes it is to see, where it is one that asks for that.
    pub target: Option<ContainerId>,
}

/// Why a container waits, as its status says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPlan {
    /// Why the pod ends, where it does.
    pub ending: Option<Ending>,
    /// It ends and nothing of it runs any more.
    pub ended: bool,
    pub stop: Vec<Stop>,
    pub sandbox: SandboxPlan,
    /// In this order, each after the one before has started. A container whose start fails holds
    /// up the others only if it is an init container and no sidecar.
    pub start: Vec<Start>,
    /// Containers that are to go on with other limits.
    pub resize: Vec<Resize>,
    /// Containers that are to start again later.
    pub backing_off: BTreeMap<String, Waiting>,
    /// Containers that nobody will ask for again.
    pub remove: Vec<ContainerId>,
    /// Sandboxes that were replaced and whose last container is gone.
    pub remove_sandboxes: Vec<SandboxId>,
    /// Look again then, even if nothing happens.
    pub recheck_at: Option<Timestamp>,
}

impl PodPlan {
    fn recheck_no_later_than(&mut self, at: Timestamp) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// A container cannot have ended this much later than now, unless the clock was set back since.
const ENDED_AHEAD_MAX: SignedDuration = SignedDuration::from_mins(1);

/// Containers are given at least this long to end: upstream `minimumGracePeriodInSeconds`.
const GRACE_MIN: SignedDuration = SignedDuration::from_secs(2);

/// Decides.
#[must_use]
pub fn plan(observed: &Observed<'_>) -> PodPlan {
    let mut plan = match ending(observed) {
        Some((ending, since)) => end(observed, ending, since),
        None => run(observed),
    };
    if plan.sandbox != SandboxPlan::Remove {
        plan.remove = garbage(observed);
        plan.remove_sandboxes = empty_sandboxes(observed);
    }
    plan
}

/// Whether the pod ends for a reason that is known without looking at its containers.
fn ending(observed: &Observed<'_>) -> Option<(Ending, Timestamp)> {
    let since = observed.memory.ending.as_ref().map_or(observed.now, |(_, since)| *since);
    if observed.pod.is_deleted() {
        return Some((Ending::Deleted, since));
    }
    if let Some((ending, _)) = &observed.memory.ending {
        return Some((ending.clone(), since));
    }
    if crate::api::pod::is_terminal(observed.pod.object()) {
        return Some((Ending::Finished, since));
    }
    let over = deadline(observed).is_some_and(|deadline| deadline <= observed.now);
    over.then(|| {
        // The words are upstream's (pkg/kubelet/active_deadline.go, v1.35).
        let message = "Pod was active on the node longer than the specified deadline";
        (Ending::failed("DeadlineExceeded", message), since)
    })
}

fn deadline(observed: &Observed<'_>) -> Option<Timestamp> {
    let seconds = observed.pod.spec().active_deadline_seconds?;
    let started_at = observed.pod.started_at().or(observed.memory.started_at)?;
    Some(started_at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

/// Ends the pod: containers first, sidecars after them and in the reverse order of their start,
/// then the sandbox.
fn end(observed: &Observed<'_>, ending: Ending, since: Timestamp) -> PodPlan {
    let own = SignedDuration::from_secs(observed.pod.grace_seconds());
    let grace = observed.memory.grace.map_or(own, |grace| grace.min(own));
    let kill_at = since.saturating_add(grace).unwrap_or(Timestamp::MAX);
    let left = kill_at.duration_since(observed.now).max(GRACE_MIN);
    let stop: Vec<_> = next_to_end(observed)
        .into_iter()
        .map(|container| {
            let message = format!("Stopping container {}", container.name());
            Stop { message, grace: left, ..stop(observed, container) }
        })
        .collect();
    let ended = stop.is_empty();
    let sandbox = match (ended, &ending) {
        (false, _) => SandboxPlan::Leave,
        (true, Ending::Deleted) => SandboxPlan::Remove,
        (true, _) if observed.facts.ready_sandbox().is_some() => SandboxPlan::Stop,
        (true, _) => SandboxPlan::Leave,
    };
    PodPlan { ending: Some(ending), ended, stop, sandbox, ..PodPlan::default() }
}

/// With the pod's grace, and a message for the caller to fill in.
fn stop(observed: &Observed<'_>, container: &ContainerFacts) -> Stop {
    Stop {
        container: container.status.id.clone(),
        name: container.name().to_owned(),
        message: String::new(),
        grace: SignedDuration::from_secs(observed.pod.grace_seconds()).max(GRACE_MIN),
        replaced: false,
    }
}

/// All that runs and is no sidecar; when that has ended, the last sidecar.
fn next_to_end<'a>(observed: &Observed<'a>) -> Vec<&'a ContainerFacts> {
    let init = observed.pod.init_containers();
    let sidecars = init.iter().filter(|container| crate::api::pod::is_sidecar(container));
    let order: Vec<&str> = sidecars.map(|container| container.name.as_str()).collect();
    let (sidecars, others): (Vec<_>, Vec<_>) =
        observed.facts.running().partition(|container| order.contains(&container.name()));
    if !others.is_empty() {
        return others;
    }
    let place =
        |container: &ContainerFacts| order.iter().position(|name| *name == container.name());
    let last = sidecars.iter().map(|container| place(container)).max();
    sidecars.into_iter().filter(|container| Some(place(container)) == last).collect()
}

/// Keeps the pod running.
fn run(observed: &Observed<'_>) -> PodPlan {
    let mut plan = PodPlan::default();
    if let Some(deadline) = deadline(observed) {
        plan.recheck_no_later_than(deadline);
    }
    match new_sandbox_attempt(observed) {
        Some(attempt) => start_afresh(observed, attempt, &mut plan),
        None => keep_containers(observed, &mut plan),
    }
    plan
}

/// The attempt of the sandbox that has to be made, where the pod has none that will do.
/// Upstream `PodSandboxChanged` (pkg/kubelet/kuberuntime/util/util.go, v1.35).
#[must_use]
pub fn new_sandbox_attempt(observed: &Observed<'_>) -> Option<u32> {
    let Some(newest) = observed.facts.sandbox() else {
        return Some(0);
    };
    let node_network = observed.pod.uses_node_network();
    let same_network = newest.network_namespace.is_none() == node_network;
    let usable = observed.facts.ready_sandbox().is_some() && same_network;
    (!usable).then(|| newest.attempt.saturating_add(1))
}

/// A new sandbox, and everything in it from the start, unless the pod is over.
fn start_afresh(observed: &Observed<'_>, attempt: u32, plan: &mut PodPlan) {
    let pod = observed.pod;
    let ran_before = !observed.facts.containers().is_empty();
    let slots: Vec<_> = (0..pod.containers().len())
        .map(Slot::App)
        .filter(|slot| starts_in_new_sandbox(observed, slot.of(pod)))
        .collect();
    let any_restarts =
        pod.containers().iter().any(|container| restarts(container, pod.restart_policy(), 1));
    let initialized = pod.containers().iter().any(|it| observed.facts.latest(&it.name).is_some());
    if (ran_before && !any_restarts) || (slots.is_empty() && initialized) {
        finish(observed, plan);
        return;
    }
    let stops = observed.facts.running().map(|container| {
        let message = format!("Stopping container {}", container.name());
        Stop { message, ..stop(observed, container) }
    });
    plan.stop = stops.collect();
    if !plan.stop.is_empty() {
        return;
    }
    plan.sandbox = SandboxPlan::Create { attempt };
    let slots = if pod.init_containers().is_empty() { slots } else { vec![Slot::Init(0)] };
    for slot in slots {
        start_or_back_off(observed, slot, plan);
    }
}

/// Containers that are done for good are not started again because their sandbox was lost.
fn starts_in_new_sandbox(observed: &Observed<'_>, container: &Container) -> bool {
    let ended = observed.facts.latest(&container.name).and_then(ContainerFacts::exit_code);
    ended.is_none_or(|exit_code| restarts(container, observed.pod.restart_policy(), exit_code))
}

/// In a sandbox that is there: initialization, then each container.
fn keep_containers(observed: &Observed<'_>, plan: &mut PodPlan) {
    start_ephemeral(observed, plan);
    let init = init::plan(observed);
    plan.stop.extend(init.stop);
    match init.progress {
        Initialization::Failed => return finish(observed, plan),
        Initialization::Under => {
            for slot in init.start {
                start_or_back_off(observed, slot, plan);
            }
            return;
        }
        Initialization::Done => {}
    }
    let mut keeps_any = false;
    let mut starts = Vec::new();
    for (index, container) in observed.pod.containers().iter().enumerate() {
        match judge(observed, container) {
            Verdict::Keep => keeps_any = true,
            Verdict::Leave => {}
            Verdict::Start => starts.push(Slot::App(index)),
            Verdict::Replace(reason) => {
                keeps_any = true;
                plan.stop.extend(replace(observed, container, reason));
            }
        }
    }
    if !keeps_any && starts.is_empty() {
        return finish(observed, plan);
    }
    plan.resize = resizes(observed);
    // Sidecars first: a container may need them.
    for slot in init.start.into_iter().chain(starts) {
        start_or_back_off(observed, slot, plan);
    }
}

/// What is to become of one container of a pod that is initialized.
enum Verdict {
    Keep,
    /// It has ended and stays so.
    Leave,
    Start,
    /// End it; the look after that starts it again, if its policy says so.
    Replace(Reason),
}

fn judge(observed: &Observed<'_>, container: &Container) -> Verdict {
    let Some(latest) = observed.facts.latest(&container.name) else {
        return Verdict::Start;
    };
    if let Some(exit_code) = latest.exit_code() {
        let again = observed.memory.replaced.contains(&latest.status.id)
            || restarts(container, observed.pod.restart_policy(), exit_code);
        return if again { Verdict::Start } else { Verdict::Leave };
    }
    if latest.is_left_over() {
        return Verdict::Start;
    }
    reason_to_replace(observed, container, latest).map_or(Verdict::Keep, Verdict::Replace)
}

/// Why a running container has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    DefinitionChanged,
    PostStartHook,
    LivenessProbe,
    StartupProbe,
    Resized,
}

impl Reason {
    fn words(self) -> &'static str {
        match self {
            Self::DefinitionChanged => "definition changed",
            Self::PostStartHook => "failed its postStart hook",
            Self::LivenessProbe => "failed liveness probe",
            Self::StartupProbe => "failed startup probe",
            Self::Resized => "resize requires restart",
        }
    }
}

/// Only name and image count as the definition: upstream `pickFieldsToHash`
/// (pkg/kubelet/container/helpers.go, v1.35).
pub(super) fn reason_to_replace(
    observed: &Observed<'_>,
    container: &Container,
    latest: &ContainerFacts,
) -> Option<Reason> {
    let failed = |kind| observed.probes.result(&latest.status.id, kind) == ProbeResult::Failed;
    if Some(&latest.status.image_reference) != container.image.as_ref() {
        Some(Reason::DefinitionChanged)
    } else if failed(ProbeKind::PostStart) {
        Some(Reason::PostStartHook)
    } else if failed(ProbeKind::Liveness) {
        Some(Reason::LivenessProbe)
    } else if failed(ProbeKind::Startup) {
        Some(Reason::StartupProbe)
    } else if needs_restart(observed.pod, container, latest) {
        Some(Reason::Resized)
    } else {
        None
    }
}

/// Ends the containers of that name that run.
pub(super) fn replace(observed: &Observed<'_>, container: &Container, reason: Reason) -> Vec<Stop> {
    let replaced = matches!(reason, Reason::DefinitionChanged | Reason::Resized);
    let again = replaced || restarts(container, observed.pod.restart_policy(), 1);
    let outlook = if again { ", will be restarted" } else { "" };
    let message = match reason {
        // Upstream's word, and no more than that.
        Reason::PostStartHook => "FailedPostStartHook".to_owned(),
        Reason::Resized => format!("Container {} {}", container.name, reason.words()),
        _ => format!("Container {} {}{outlook}", container.name, reason.words()),
    };
    let own_grace = own_grace(container, reason).map(|grace| grace.max(GRACE_MIN));
    let running = observed.facts.running().filter(|it| it.name() == container.name);
    let stops = running.map(|it| {
        let usual = stop(observed, it);
        let grace = own_grace.unwrap_or(usual.grace);
        Stop { message: message.clone(), replaced, grace, ..usual }
    });
    stops.collect()
}

/// The grace of the probe that failed, where it has one of its own: upstream
/// `setTerminationGracePeriod` (pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.35).
fn own_grace(container: &Container, reason: Reason) -> Option<SignedDuration> {
    let probe = match reason {
        Reason::LivenessProbe => container.liveness_probe.as_ref(),
        Reason::StartupProbe => container.startup_probe.as_ref(),
        Reason::DefinitionChanged | Reason::PostStartHook | Reason::Resized => None,
    };
    probe?.termination_grace_period_seconds.map(SignedDuration::from_secs)
}

/// The pod is over: whatever still runs (sidecars) is ended.
fn finish(observed: &Observed<'_>, plan: &mut PodPlan) {
    *plan = end(observed, Ending::Finished, observed.now);
}

/// Puts a container into the plan, unless it crashed so recently that it has to wait.
fn start_or_back_off(observed: &Observed<'_>, slot: Slot, plan: &mut PodPlan) {
    let container = slot.of(observed.pod);
    let image = container.image.as_deref().unwrap_or_default();
    let latest = observed.facts.latest(&container.name);
    let crash = latest
        .and_then(ContainerFacts::finished_at)
        .zip(observed.memory.restarts.get(&container.name));
    // One that ends in the future has ended before the clock was set back: nobody knows how long ago.
    let crash = crash.filter(|(end, _)| end.duration_since(observed.now) < ENDED_AHEAD_MAX);
    if let Some((finished_at, restarts)) = crash {
        let wait = restarts.wait(image, finished_at);
        let until = finished_at.saturating_add(wait).unwrap_or(Timestamp::MAX);
        if observed.now < until {
            plan.recheck_no_later_than(until);
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                super::words::go_duration(wait),
                container.name,
                observed.pod
            );
            let waiting = Waiting { reason: "CrashLoopBackOff", message };
            plan.backing_off.insert(container.name.clone(), waiting);
            return;
        }
    }
    let attempt = latest.map_or(0, |latest| latest.status.attempt.saturating_add(1));
    plan.start.push(Start { slot, attempt, target: None });
}

/// Ephemeral containers start once, whatever the others do, and never again. One that wants to see
/// the processes of another waits until that runs.
fn start_ephemeral(observed: &Observed<'_>, plan: &mut PodPlan) {
    for (index, container) in observed.pod.ephemeral_containers().iter().enumerate() {
        let latest = observed.facts.latest(&container.name);
        if latest.is_some_and(|latest| !latest.is_left_over()) {
            continue;
        }
        let wanted = observed.pod.target_of(&container.name);
        let found = wanted.and_then(|name| observed.facts.latest(name));
        let target = found.filter(|it| it.is_running()).map(|it| it.status.id.clone());
        if wanted.is_none() || target.is_some() {
            let attempt = latest.map_or(0, |latest| latest.status.attempt.saturating_add(1));
            plan.start.push(Start { slot: Slot::Ephemeral(index), attempt, target });
        }
    }
}

/// Ended containers beyond the newest ended one of each name, and what was never started and has
/// been replaced. Upstream's garbage collection with `MaxPerPodContainer: 1`: the newest is kept for
/// its logs and its number.
fn garbage(observed: &Observed<'_>) -> Vec<ContainerId> {
    const ENDED_KEPT_MAX: usize = 1;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut ended: BTreeMap<&str, usize> = BTreeMap::new();
    let mut garbage = Vec::new();
    for container in observed.facts.containers() {
        let is_newest = seen.insert(container.name());
        let is_needless = if container.is_left_over() {
            !is_newest
        } else {
            let count = ended.entry(container.name()).or_default();
            *count += usize::from(!container.is_running());
            !container.is_running() && *count > ENDED_KEPT_MAX
        };
        if is_needless && !container.lost {
            garbage.push(container.status.id.clone());
        }
    }
    garbage
}

fn empty_sandboxes(observed: &Observed<'_>) -> Vec<SandboxId> {
    let containers = observed.facts.containers();
    let is_empty =
        |id: &SandboxId| containers.iter().all(|container| container.status.sandbox != *id);
    let replaced = observed.facts.sandboxes().iter().skip(1).map(|sandbox| &sandbox.id);
    replaced.filter(|id| is_empty(id)).cloned().collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
