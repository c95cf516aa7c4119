//! How many replicas what the pods use asks for.
//!
//! Follows upstream pkg/controller/podautoscaler/replica_calculator.go (v1.35): pods that tell
//! nothing are taken to use what makes the change smaller.

use super::ratio::{Ratio, Tolerance};
use crate::api::Quantity;
use crate::api::pod::{condition, is_sidecar, phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a pod uses while it starts says little about its CPU: upstream's
/// `--horizontal-pod-autoscaler-cpu-initialization-period`.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(300);

/// A pod that stopped being ready this soon after it began was never ready: upstream's
/// `--horizontal-pod-autoscaler-initial-readiness-delay`.
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// What one pod uses.
#[derive(Clone, Debug, PartialEq)]
pub struct PodUsage {
    pub timestamp: Timestamp,
    /// The time over which it was measured.
    pub window: SignedDuration,
    /// Of each container, each resource in thousandths.
    pub containers: BTreeMap<String, BTreeMap<String, i64>>,
}

impl PodUsage {
    /// Of the whole pod or of one container. `None` where a container does not tell.
    fn of(&self, source: Source<'_>) -> Option<i64> {
        let told = |usage: &BTreeMap<String, i64>| usage.get(source.resource).copied();
        match source.container {
            Some(container) => told(self.containers.get(container)?),
            None => self.containers.values().map(told).sum(),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) resource: &'a str,
    pub(super) container: Option<&'a str>,
}

/// What is aimed at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// Per cent of what the pods ask for.
    Utilization(i32),
    /// Thousandths a pod.
    Average(i64),
}

/// What a metric asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    pub(super) percent: Option<i32>,
    /// Thousandths a pod.
    pub(super) average: i64,
}

/// The pods of a workload and what they use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload<'a> {
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) usage: &'a BTreeMap<String, PodUsage>,
    pub(super) replicas: i32,
    pub(super) tolerance: Tolerance,
    pub(super) now: Timestamp,
}

type Values<'a> = BTreeMap<&'a str, i64>;

pub(super) fn propose(
    workload: Workload<'_>,
    source: Source<'_>,
    target: Target,
) -> Result<Proposal, String> {
    if workload.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let mut groups = Groups::of(workload, source);
    if groups.measured.is_empty() {
        let problem = "did not receive metrics for targeted pods (pods might be unready)";
        return Err(problem.to_owned());
    }
    let requests = match target {
        Target::Utilization(_) => requests(workload.pods, source)?,
        Target::Average(_) => Values::new(),
    };
    let measured = measure(&groups.measured, &requests, target)?;
    let proposal = |replicas| Proposal { replicas, ..measured.proposal };
    let ratio = measured.ratio;
    let counts_unready = !groups.unready.is_empty() && ratio.is_above();
    if !counts_unready && groups.missing.is_empty() {
        let is_within = ratio.is_within(workload.tolerance);
        let replicas = if is_within { workload.replicas } else { ratio.times(groups.ready) };
        return Ok(proposal(replicas));
    }
    groups.assume(ratio, &requests, target, counts_unready);
    let assumed = measure(&groups.measured, &requests, target)?.ratio;
    let turns = ratio.is_below() && assumed.is_above() || ratio.is_above() && assumed.is_below();
    let replicas = assumed.times(groups.measured.len());
    let is_backwards = assumed.is_below() && replicas > workload.replicas
        || assumed.is_above() && replicas < workload.replicas;
    let stays = assumed.is_within(workload.tolerance) || turns || is_backwards;
    Ok(proposal(if stays { workload.replicas } else { replicas }))
}

/// Pods by what they tell: upstream `groupPods`.
struct Groups<'a> {
    ready: usize,
    measured: Values<'a>,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
}

impl<'a> Groups<'a> {
    fn of(workload: Workload<'a>, source: Source<'_>) -> Self {
        let mut groups = Self {
            ready: 0,
            measured: Values::new(),
            unready: BTreeSet::new(),
            missing: BTreeSet::new(),
        };
        for pod in workload.pods {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() || phase(pod) == "Failed" {
                continue;
            }
            if phase(pod) == "Pending" {
                groups.unready.insert(name);
                continue;
            }
            let usage = workload.usage.get(name);
            let Some((usage, value)) = usage.and_then(|usage| Some((usage, usage.of(source)?)))
            else {
                groups.missing.insert(name);
                continue;
            };
            if source.resource == "cpu" && is_starting(pod, usage, workload.now) {
                groups.unready.insert(name);
                continue;
            }
            groups.ready += 1;
            groups.measured.insert(name, value);
        }
        groups
    }

    /// What those use who do not tell.
    fn assume(
        &mut self,
        ratio: Ratio,
        requests: &Values<'_>,
        target: Target,
        counts_unready: bool,
    ) {
        for name in &self.missing {
            let much = match target {
                Target::Utilization(percent) => {
                    let request = requests.get(name).copied().unwrap_or_default();
                    request.saturating_mul(i64::from(percent.max(100))) / 100
                }
                Target::Average(average) => average,
            };
            if ratio.is_below() {
                self.measured.insert(name, much);
            } else if ratio.is_above() {
                self.measured.insert(name, 0);
            }
        }
        if counts_unready {
            self.measured.extend(self.unready.iter().map(|name| (*name, 0)));
        }
    }
}

/// Whether what the pod uses is about its start.
fn is_starting(pod: &Pod, usage: &PodUsage, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (condition(pod, "Ready"), started) else { return true };
    let turned = ready.last_transition_time.as_ref().map(|time| time.0).unwrap_or_default();
    let is_unready = ready.status == "False";
    if started.0 + CPU_INITIALIZATION > now {
        is_unready || usage.timestamp < turned + usage.window
    } else {
        is_unready && started.0 + INITIAL_READINESS_DELAY > turned
    }
}

struct Measured {
    ratio: Ratio,
    proposal: Proposal,
}

fn measure(values: &Values<'_>, requests: &Values<'_>, target: Target) -> Result<Measured, String> {
    let total = values.values().fold(0_i64, |sum, value| sum.saturating_add(*value));
    let count = i64::try_from(values.len()).unwrap_or(i64::MAX).max(1);
    let average = total / count;
    match target {
        Target::Average(target) => Ok(Measured {
            ratio: Ratio { current: average, target },
            proposal: Proposal { replicas: 0, percent: None, average },
        }),
        Target::Utilization(target) => {
            let asked = values.keys().filter_map(|name| requests.get(name));
            let asked = asked.fold(0_i64, |sum, request| sum.saturating_add(*request));
            if asked == 0 {
                return Err("no metrics returned matched known pods".to_owned());
            }
            let percent = total.saturating_mul(100) / asked;
            let ratio = Ratio { current: percent, target: i64::from(target) };
            let percent = Some(i32::try_from(percent).unwrap_or(i32::MAX));
            Ok(Measured { ratio, proposal: Proposal { replicas: 0, percent, average } })
        }
    }
}

/// What each pod asks for: upstream `calculateRequests`.
fn requests<'a>(pods: &'a [Arc<Pod>], source: Source<'_>) -> Result<Values<'a>, String> {
    pods.iter()
        .map(|pod| {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            Ok((name, request_of(pod, name, source)?))
        })
        .collect()
}

fn request_of(pod: &Pod, name: &str, source: Source<'_>) -> Result<i64, String> {
    let Source { resource, container } = source;
    let Some(spec) = &pod.spec else { return Ok(0) };
    let asked = |resources: Option<&ResourceRequirements>| {
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        requests
            .and_then(|requests| requests.get(resource))
            .map(|it| Quantity::of(it).milli_units())
    };
    let of_pod = spec.resources.as_ref().filter(|it| it.requests.is_some());
    if let (None, Some(of_pod)) = (container, of_pod) {
        return asked(Some(of_pod))
            .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|it| is_sidecar(it));
    let all = spec.containers.iter().chain(sidecars);
    let meant: Vec<&Container> =
        all.filter(|it| container.is_none_or(|container| container == it.name)).collect();
    if let (Some(container), true) = (container, meant.is_empty()) {
        return Err(format!("container {container} not found in Pod {name}"));
    }
    meant
        .iter()
        .map(|container| {
            asked(container.resources.as_ref()).ok_or_else(|| {
                let container = &container.name;
                format!("missing request for {resource} in container {container} of Pod {name}")
            })
        })
        .sum()
}
