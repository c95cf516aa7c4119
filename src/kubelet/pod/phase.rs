//! The phase of a pod from the states of its containers: upstream `getPhase`
//! (pkg/kubelet/kubelet_pods.go, v1.35).

use super::bound::{BoundPod, restarts};
use crate::api::pod::is_sidecar;
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The statuses that a phase is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses<'a> {
    pub(super) init: &'a [ContainerStatus],
    pub(super) app: &'a [ContainerStatus],
}

/// What one container's status says.
#[derive(Clone, Copy)]
enum Condition {
    Unknown,
    Waiting,
    Running { started: bool },
    Ended { exit_code: i32, for_now: bool },
}

fn condition(statuses: &[ContainerStatus], name: &str) -> Condition {
    let Some(status) = statuses.iter().find(|status| status.name == name) else {
        return Condition::Unknown;
    };
    let ended = |state: &Option<ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(|it| it.exit_code)
    };
    if let Some(exit_code) = ended(&status.state) {
        return Condition::Ended { exit_code, for_now: false };
    }
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Condition::Running { started: status.started == Some(true) };
    }
    if state.is_some_and(|state| state.waiting.is_some()) {
        return ended(&status.last_state)
            .map_or(Condition::Waiting, |exit_code| Condition::Ended { exit_code, for_now: true });
    }
    Condition::Unknown
}

#[derive(Default)]
struct Counts {
    /// Init containers that have to end, or start, before the others.
    initializing: usize,
    sidecars_starting: usize,
    /// An init container failed for good.
    initialization_failed: bool,
    unknown: usize,
    running: usize,
    waiting: usize,
    ended: usize,
    ended_for_good: usize,
    succeeded: usize,
}

impl Counts {
    fn add_init(&mut self, pod: &BoundPod, container: &Container, condition: Condition) {
        match condition {
            Condition::Ended { exit_code: 0, .. } => {}
            Condition::Ended { exit_code, .. } => {
                let again = restarts(container, pod.restart_policy(), exit_code);
                self.initialization_failed |= !again;
            }
            Condition::Unknown | Condition::Waiting | Condition::Running { .. } => {
                self.initializing += 1;
            }
        }
    }

    /// A sidecar that ended does not count.
    fn add_sidecar(&mut self, condition: Condition) {
        match condition {
            Condition::Running { started } => {
                self.sidecars_starting += usize::from(!started);
                self.running += 1;
            }
            Condition::Waiting => {
                self.sidecars_starting += 1;
                self.waiting += 1;
            }
            Condition::Unknown => self.unknown += 1,
            Condition::Ended { .. } => {}
        }
    }

    fn add_app(&mut self, pod: &BoundPod, container: &Container, condition: Condition) {
        match condition {
            Condition::Unknown => self.unknown += 1,
            Condition::Waiting => self.waiting += 1,
            Condition::Running { .. } => self.running += 1,
            Condition::Ended { exit_code, for_now } => {
                self.ended += 1;
                let again = restarts(container, pod.restart_policy(), exit_code);
                self.ended_for_good += usize::from(!again);
                self.succeeded += usize::from(exit_code == 0 && !for_now);
            }
        }
    }
}

/// `over`: the pod ends and its containers do not start again whatever the policy says.
/// `initialized`: an app container runs, whatever the sidecars do.
#[must_use]
pub(super) fn phase(
    pod: &BoundPod,
    statuses: Statuses<'_>,
    over: bool,
    initialized: bool,
) -> Phase {
    let mut counts = Counts::default();
    for container in pod.init_containers() {
        let condition = condition(statuses.init, &container.name);
        if is_sidecar(container) {
            counts.add_sidecar(condition);
        } else {
            counts.add_init(pod, container, condition);
        }
    }
    for container in pod.containers() {
        counts.add_app(pod, container, condition(statuses.app, &container.name));
    }
    from_counts(&counts, over, initialized)
}

fn from_counts(counts: &Counts, over: bool, initialized: bool) -> Phase {
    let outcome = if counts.ended == counts.succeeded { Phase::Succeeded } else { Phase::Failed };
    if counts.initialization_failed {
        Phase::Failed
    } else if counts.initializing > 0
        || (counts.sidecars_starting > 0 && !initialized)
        || counts.waiting > 0
    {
        Phase::Pending
    } else if counts.running > 0 && counts.unknown == 0 {
        Phase::Running
    } else if counts.running == 0 && counts.ended > 0 && counts.unknown == 0 {
        if over || counts.ended == counts.ended_for_good { outcome } else { Phase::Running }
    } else {
        Phase::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{ended, pod, running, waiting, waiting_after};
    use super::*;

    struct Case<'a> {
        policy: &'a str,
        init: &'a [ContainerStatus],
        app: &'a [ContainerStatus],
        over: bool,
    }

    #[track_caller]
    fn check(case: &Case<'_>, expected: Phase) {
        let names = |statuses: &[ContainerStatus]| -> Vec<String> {
            statuses.iter().map(|status| status.name.clone()).collect()
        };
        let pod = pod(case.policy, &names(case.init), &names(case.app));
        let statuses = Statuses { init: case.init, app: case.app };
        assert_eq!(phase(&pod, statuses, case.over, false), expected);
    }

    #[test]
    fn follows_the_containers_and_the_policy() {
        let none: &[ContainerStatus] = &[];
        for (policy, app, expected) in [
            ("Always", vec![running("a"), running("b")], Phase::Running),
            ("Always", vec![running("a"), waiting("b")], Phase::Pending),
            ("Always", vec![running("a"), waiting_after("b", 1)], Phase::Running),
            ("Always", vec![ended("a", 0), ended("b", 0)], Phase::Running),
            ("OnFailure", vec![ended("a", 0), ended("b", 0)], Phase::Succeeded),
            ("OnFailure", vec![ended("a", 0), ended("b", 3)], Phase::Running),
            ("OnFailure", vec![ended("a", 0), waiting_after("b", 3)], Phase::Running),
            ("Never", vec![ended("a", 0), ended("b", 3)], Phase::Failed),
            ("Never", vec![ended("a", 0), running("b")], Phase::Running),
            ("Never", vec![ended("a", 0), ended("b", 0)], Phase::Succeeded),
        ] {
            check(&Case { policy, init: none, app: &app, over: false }, expected);
        }
    }

    #[test]
    fn initialization_comes_first() {
        let app = &[waiting("a")][..];
        for (policy, init, expected) in [
            ("Always", running("i"), Phase::Pending),
            ("Always", waiting_after("i", 1), Phase::Pending),
            ("Never", ended("i", 1), Phase::Failed),
            ("Never", ended("i", 0), Phase::Pending),
            ("OnFailure", ended("i", 1), Phase::Pending),
        ] {
            check(&Case { policy, init: &[init], app, over: false }, expected);
        }
    }

    #[test]
    fn a_pod_that_is_over_has_an_outcome_under_any_policy() {
        let over = |app: &[ContainerStatus], expected| {
            check(&Case { policy: "Always", init: &[], app, over: true }, expected);
        };
        over(&[ended("a", 0)], Phase::Succeeded);
        over(&[ended("a", 0), ended("b", 137)], Phase::Failed);
        over(&[ended("a", 0), running("b")], Phase::Running);
    }
}
