//! Which probes of a pod are to be asked, and when. Pure.
//!
//! Start at [`wanted`]: upstream `AddPod` (pkg/kubelet/prober/prober_manager.go, v1.35) and what
//! `worker.doProbe` looks at before it asks. Readiness is asked until the container has ended, what
//! could restart it only as long as that is wanted.

use crate::api::pod::is_sidecar;
use crate::kubelet::pod::plan::Slot;
use crate::kubelet::pod::{BoundPod, PodFacts, ProbeKind, ProbeResult, Probes};
use crate::runtime::{ContainerId, ContainerState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use std::time::Duration;

/// When a probe is asked, and how many answers it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kubelet) struct Schedule {
    /// From the start of the container.
    pub(in crate::kubelet) initial_delay: Duration,
    pub(in crate::kubelet) period: Duration,
    pub(in crate::kubelet) timeout: Duration,
    pub(in crate::kubelet) successes: u32,
    pub(in crate::kubelet) failures: u32,
}

impl Schedule {
    /// With the API server's defaults in the place of what is not said.
    #[must_use]
    pub(in crate::kubelet) fn of(probe: &Probe) -> Self {
        let given = |value: Option<i32>| value.and_then(|it| u32::try_from(it).ok());
        let count = |value, default| given(value).filter(|it| *it > 0).unwrap_or(default);
        let seconds = |value, default| Duration::from_secs(count(value, default).into());
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }

    /// How long to wait before asking for the first time. A container that this process found
    /// running is asked at a point of the period that is its own (`phase`, of 256), so that not all
    /// are asked at once after a restart.
    #[must_use]
    pub(in crate::kubelet) fn first_in(&self, age: Duration, phase: Option<u8>) -> Duration {
        let apart = phase.map_or(Duration::ZERO, |phase| self.period * u32::from(phase) / 256);
        self.initial_delay.saturating_sub(age).max(apart)
    }
}

/// A probe that is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kubelet) struct Wanted {
    pub(in crate::kubelet) container: ContainerId,
    pub(in crate::kubelet) slot: Slot,
    pub(in crate::kubelet) kind: ProbeKind,
    pub(in crate::kubelet) started_at: Timestamp,
}

/// The probe of that kind, where the container has one.
#[must_use]
pub(in crate::kubelet) fn probe(container: &Container, kind: ProbeKind) -> Option<&Probe> {
    match kind {
        ProbeKind::PostStart => None,
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
    }
}

/// What is to be asked now. `ends`: the pod does, and nothing of it is restarted.
#[must_use]
pub(in crate::kubelet) fn wanted(
    pod: &BoundPod,
    facts: &PodFacts,
    probes: &Probes,
    ends: bool,
) -> Vec<Wanted> {
    let init = pod.init_containers().iter().enumerate();
    let sidecars = init.filter(|(_, container)| is_sidecar(container));
    let sidecars = sidecars.map(|(index, container)| (Slot::Init(index), container));
    let app = pod.containers().iter().enumerate();
    let app = app.map(|(index, container)| (Slot::App(index), container));
    let mut wanted = Vec::new();
    for (slot, spec) in sidecars.chain(app) {
        let Some(latest) = facts.latest(&spec.name) else { continue };
        let ContainerState::Running { started_at, .. } = latest.status.state else { continue };
        let container = &latest.status.id;
        for kind in [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness] {
            if probe(spec, kind).is_some() && is_asked(kind, container, probes, ends) {
                wanted.push(Wanted { container: container.clone(), slot, kind, started_at });
            }
        }
    }
    wanted
}

fn is_asked(kind: ProbeKind, container: &ContainerId, probes: &Probes, ends: bool) -> bool {
    let result = probes.result(container, kind);
    match kind {
        ProbeKind::PostStart => false,
        ProbeKind::Startup => {
            !ends
                && result == ProbeResult::Waiting
                && probes.passes(container, ProbeKind::PostStart)
        }
        ProbeKind::Liveness => {
            !ends && result != ProbeResult::Failed && probes.has_started(container)
        }
        ProbeKind::Readiness => probes.has_started(container),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::pod::fixtures::{bound, facts, object};
    use serde_json::json;

    /// `a:Startup b:Readiness`: what is asked.
    #[track_caller]
    fn check(what: &str, results: &[(&str, ProbeKind, ProbeResult)], ends: bool, expected: &str) {
        let mut pod = object("Always", &["+s".to_owned(), "i".to_owned()], &["a".to_owned()]);
        let spec = pod.spec.as_mut().unwrap();
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            let probe: Probe = serde_json::from_value(json!({})).unwrap();
            container.startup_probe = Some(probe.clone());
            container.liveness_probe = Some(probe.clone());
            container.readiness_probe = Some(probe);
        }
        let mut probes = Probes::default();
        for (container, kind, result) in results {
            probes.record(ContainerId((*container).to_owned()), *kind, *result);
        }
        let wanted = wanted(&bound(pod), &facts(what), &probes, ends);
        let words: Vec<_> =
            wanted.iter().map(|it| format!("{}:{:?}", it.container, it.kind)).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn what_has_to_start_is_asked_that_first() {
        use ProbeKind::{Liveness, PostStart, Readiness, Startup};
        use ProbeResult::{Failed, Passed, Waiting};
        let starting = [("a0", Startup, Waiting), ("s0", Startup, Waiting)];
        check("s0 s:0@s0=run a:0@s0=run", &starting, false, "s0:Startup a0:Startup");
        let started = [("a0", Startup, Passed), ("a0", Readiness, Waiting)];
        check("s0 a:0@s0=run", &started, false, "a0:Liveness a0:Readiness");
        check("s0 a:0@s0=run", &[("a0", Startup, Failed)], false, "");
        check("s0 a:0@s0=run", &[("a0", PostStart, Waiting), starting[0]], false, "");
        check("s0 a:0@s0=run", &[("a0", Liveness, Failed)], false, "a0:Readiness");
        check("s0 a:0@s0=run", &[("a0", Readiness, Failed)], true, "a0:Readiness");
        check("s0 a:0@s0=run", &starting, true, "");
        check("s0 i:0@s0=run a:0@s0=exit1", &[], false, "");
    }

    #[test]
    fn those_found_running_are_asked_one_by_one() {
        let probe: Probe =
            serde_json::from_value(json!({ "periodSeconds": 8, "initialDelaySeconds": 5 }))
                .unwrap();
        let schedule = Schedule::of(&probe);
        let first = |age: u64, phase| schedule.first_in(Duration::from_secs(age), phase).as_secs();
        assert_eq!(first(0, None), 5);
        assert_eq!(first(3, None), 2);
        assert_eq!(first(9, None), 0);
        assert_eq!(first(9, Some(128)), 4);
        assert_eq!(first(0, Some(128)), 5);
        assert_eq!(schedule.timeout.as_secs(), 1);
        assert_eq!((schedule.successes, schedule.failures), (1, 3));
    }
}
