//! What the probes of a pod's containers say. Who asks them is `super::super::prober`.

use super::bound::BoundPod;
use super::facts::PodFacts;
use crate::api::pod::is_sidecar;
use crate::runtime::{ContainerId, RUNTIME_NAME};
use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// No probe: the hook after a container's start, without which it has not started.
    PostStart,
    Startup,
    Liveness,
    Readiness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// Asked, and no answer counts yet.
    Waiting,
    Passed,
    Failed,
}

/// The last results, by container.
#[derive(Clone, Debug, Default)]
pub struct Probes(BTreeMap<(ContainerId, ProbeKind), ProbeResult>);

impl Probes {
    /// What is not probed passes.
    #[must_use]
    pub fn result(&self, container: &ContainerId, kind: ProbeKind) -> ProbeResult {
        self.0.get(&(container.clone(), kind)).copied().unwrap_or(ProbeResult::Passed)
    }

    #[must_use]
    pub fn passes(&self, container: &ContainerId, kind: ProbeKind) -> bool {
        self.result(container, kind) == ProbeResult::Passed
    }

    /// Whether the container counts as started: its hook has done its work, and its probe passes.
    #[must_use]
    pub fn has_started(&self, container: &ContainerId) -> bool {
        self.passes(container, ProbeKind::PostStart) && self.passes(container, ProbeKind::Startup)
    }

    /// Begins with containers that are seen for the first time: one with a probe has not started,
    /// and is not ready, until that is known. What the API says of the very container was known to
    /// an earlier worker, and stays so over a restart of kinglet.
    pub fn meet(&mut self, pod: &BoundPod, facts: &PodFacts) {
        let status = pod.object().status.as_ref();
        let lists = [
            status.and_then(|status| status.init_container_statuses.as_deref()),
            status.and_then(|status| status.container_statuses.as_deref()),
        ];
        let known: Vec<&ContainerStatus> = lists.into_iter().flatten().flatten().collect();
        let sidecars = pod.init_containers().iter().filter(|container| is_sidecar(container));
        for spec in sidecars.chain(pod.containers()) {
            let running = facts.latest(&spec.name).filter(|latest| latest.is_running());
            if let Some(running) = running {
                let id = &running.status.id;
                let shown = format!("{RUNTIME_NAME}://{id}");
                let same = known.iter().find(|it| it.container_id.as_deref() == Some(&shown));
                self.meet_one(spec, id, same.copied());
            }
        }
    }

    fn meet_one(&mut self, spec: &Container, id: &ContainerId, known: Option<&ContainerStatus>) {
        let started = known.is_some_and(|status| status.started == Some(true));
        let ready = known.is_some_and(|status| status.ready);
        for (probe, kind, was_so) in [
            (&spec.startup_probe, ProbeKind::Startup, started),
            (&spec.readiness_probe, ProbeKind::Readiness, ready),
        ] {
            if probe.is_some() {
                let result = if was_so { ProbeResult::Passed } else { ProbeResult::Waiting };
                self.0.entry((id.clone(), kind)).or_insert(result);
            }
        }
    }

    pub fn record(&mut self, container: ContainerId, kind: ProbeKind, result: ProbeResult) {
        self.0.insert((container, kind), result);
    }

    /// Forgets containers that are gone.
    pub fn retain(&mut self, is_here: impl Fn(&ContainerId) -> bool) {
        self.0.retain(|(container, _kind), _result| is_here(container));
    }
}
