//! What the probes of a pod's containers say.
//!
//! Deliberately absent: the prober. Until there is one nothing is recorded here, and a container
//! that runs counts as started, alive and ready.

use crate::runtime::ContainerId;
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

    pub fn record(&mut self, container: ContainerId, kind: ProbeKind, result: ProbeResult) {
        self.0.insert((container, kind), result);
    }

    /// Forgets containers that are gone.
    pub fn retain(&mut self, is_here: impl Fn(&ContainerId) -> bool) {
        self.0.retain(|(container, _kind), _result| is_here(container));
    }
}
