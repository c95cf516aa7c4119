//! How far a pod's initialization is: upstream `computeInitContainerActions`
//! (pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.35). Pure.
//!
//! Init containers are read backwards: the last one that ever ran tells how far the pod is, even
//! where the records of earlier ones are gone.

use super::bound::restarts;
use super::facts::{ContainerFacts, PodFacts};
use super::plan::{Observed, Reason, Slot, Stop, reason_to_replace, replace};
use super::probes::Probes;
use crate::api::pod::is_sidecar;
use crate::runtime::ContainerState;
use k8s_openapi::api::core::v1::Container;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initialization {
    Done,
    Under,
    /// An init container failed and may not start again: the pod is over.
    Failed,
}

#[derive(Debug)]
pub(super) struct InitPlan {
    pub(super) progress: Initialization,
    /// In the order of the spec.
    pub(super) start: Vec<Slot>,
    pub(super) stop: Vec<Stop>,
}

/// What one init container's state says.
enum Stage {
    /// It has never run.
    Unseen,
    /// It ended well, or it is a sidecar that has started.
    Passed,
    Busy,
    /// It is to be started (again).
    Start,
    /// A sidecar that has to be ended, to be started again after that.
    Replace(Reason),
    Failed,
}

pub(super) fn plan(observed: &Observed<'_>) -> InitPlan {
    let containers = observed.pod.init_containers();
    let mut plan = InitPlan { progress: Initialization::Done, start: Vec::new(), stop: Vec::new() };
    if containers.is_empty() {
        return plan;
    }
    let initialized_before = app_containers_ran_in_this_sandbox(observed);
    let mut done = initialized_before;
    let mut reached = initialized_before;
    for (index, container) in containers.iter().enumerate().rev() {
        if reached && !is_sidecar(container) {
            continue;
        }
        match stage(observed, container) {
            // A sidecar below the point that was reached has to be there, too.
            Stage::Unseen if reached => plan.start.push(Slot::Init(index)),
            Stage::Unseen => continue,
            Stage::Start => plan.start.push(Slot::Init(index)),
            Stage::Busy => {}
            Stage::Replace(reason) => plan.stop.extend(replace(observed, container, reason)),
            Stage::Failed => {
                return InitPlan { progress: Initialization::Failed, start: vec![], stop: vec![] };
            }
            Stage::Passed if index + 1 == containers.len() => done = true,
            Stage::Passed if !reached => plan.start.push(Slot::Init(index + 1)),
            Stage::Passed => {}
        }
        reached = true;
    }
    if !reached {
        plan.start.push(Slot::Init(0));
    }
    plan.start.reverse();
    plan.progress = if done { Initialization::Done } else { Initialization::Under };
    plan
}

fn stage(observed: &Observed<'_>, container: &Container) -> Stage {
    let Some(latest) = in_this_sandbox(observed.facts, &container.name) else {
        return Stage::Unseen;
    };
    match &latest.status.state {
        ContainerState::Created => Stage::Start,
        ContainerState::Running { .. } if is_sidecar(container) => {
            match reason_to_replace(observed, container, latest) {
                Some(reason) => Stage::Replace(reason),
                None if started(observed.probes, latest) => Stage::Passed,
                None => Stage::Busy,
            }
        }
        ContainerState::Running { .. } => Stage::Busy,
        ContainerState::Exited { .. } if is_sidecar(container) => Stage::Start,
        ContainerState::Exited { exit_code: 0, .. } => Stage::Passed,
        ContainerState::Exited { exit_code, .. } => {
            let again = restarts(container, observed.pod.restart_policy(), *exit_code);
            if again { Stage::Start } else { Stage::Failed }
        }
    }
}

fn started(probes: &Probes, sidecar: &ContainerFacts) -> bool {
    probes.has_started(&sidecar.status.id)
}

/// Init containers run again in each sandbox. What was lost with its sandbox ran in none of these.
fn in_this_sandbox<'a>(facts: &'a PodFacts, name: &str) -> Option<&'a ContainerFacts> {
    let sandbox = &facts.sandbox()?.id;
    facts.of(name).find(|container| container.status.sandbox == *sandbox)
}

/// Then every init container has done its work, even where its record is gone.
fn app_containers_ran_in_this_sandbox(observed: &Observed<'_>) -> bool {
    let mut containers = observed.pod.containers().iter();
    containers.any(|container| in_this_sandbox(observed.facts, &container.name).is_some())
}
