//! What is to be done about the pods of a StatefulSet: in order and one at a time, or all at once.
//!
//! Start at [`Pods::moves`], which is upstream's `updateStatefulSet`
//! (pkg/controller/statefulset/stateful_set_control.go, v1.35).

use super::identity::{is_labelled, labelled, ordinals, pod_name, render_pod, revision};
use super::plan::{is_running_and_ready, min_ready_seconds};
use super::storage::{Claims, Member};
use crate::api::pod::{is_terminal, phase};
use crate::control::{Detail, Planned, Report, Write};
use crate::controllers::availability::is_available;
use crate::controllers::share::{Rounding, scaled};
use crate::controllers::slow_start::{BURST_PODS_MAX, slow_start};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use std::collections::BTreeMap;

/// A template and the name of its revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'a> {
    pub(super) name: &'a str,
    pub(super) template: &'a PodTemplateSpec,
}

/// A set's pods, and what they are to become.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    pub(super) set: &'a StatefulSet,
    pub(super) spec: &'a StatefulSetSpec,
    pub(super) claims: &'a Claims,
    /// All pods there are, also those that end, by their numbers.
    pub(super) pods: &'a BTreeMap<i32, &'a Pod>,
    pub(super) update: Version<'a>,
    pub(super) current: Version<'a>,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Side by side, before all else.
    pub(super) first: Vec<Planned>,
    /// Then pods, each after its claims.
    pub(super) creates: Vec<Vec<Planned>>,
    pub(super) reports: Vec<Report>,
    new: Vec<NewPod>,
}

#[derive(Debug)]
struct NewPod {
    claims: Vec<Planned>,
    pod: Planned,
}

impl Pods<'_> {
    pub(super) fn moves(&self) -> Moves {
        let mut moves = Moves::default();
        self.decide(&mut moves);
        let mut new = std::mem::take(&mut moves.new).into_iter();
        for batch in slow_start(new.len()) {
            let (mut claims, mut pods) = (Vec::new(), Vec::new());
            for pod in new.by_ref().take(batch) {
                claims.extend(pod.claims);
                pods.push(pod.pod);
            }
            moves.creates.extend([claims, pods].into_iter().filter(|step| !step.is_empty()));
        }
        moves
    }

    fn decide(&self, moves: &mut Moves) {
        if !self.fill(moves) {
            return;
        }
        let mut condemned: Vec<(i32, &Pod)> = self.condemned().collect();
        for (ordinal, pod) in &condemned {
            moves.first.extend(self.member(*ordinal, Some(pod)).claims_to_own(self.claims));
        }
        // The highest go first.
        condemned.reverse();
        let may_update = if self.is_ordered() {
            self.shrink_by_one(&condemned, moves)
        } else {
            self.shrink(&condemned, moves)
        };
        if may_update && self.strategy() != Some("OnDelete") {
            self.update(moves);
        }
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn strategy(&self) -> Option<&str> {
        self.spec.update_strategy.as_ref()?.type_.as_deref()
    }

    /// Pods with this distance from the first or more are updated: `None` where users did not say.
    fn partition(&self) -> Option<i32> {
        let rolling = self.spec.update_strategy.as_ref()?.rolling_update.as_ref()?;
        Some(rolling.partition.unwrap_or_default())
    }

    fn member<'b>(&'b self, ordinal: i32, pod: Option<&'b Pod>) -> Member<'b> {
        Member { set: self.set, spec: self.spec, ordinal, pod }
    }

    /// Upstream `isUnavailable`.
    fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_some()
            || !is_available(pod, min_ready_seconds(self.spec), self.now)
    }

    /// Pods beyond those that are to be there, the lowest first.
    fn condemned(&self) -> impl Iterator<Item = (i32, &Pod)> {
        let wanted = ordinals(self.spec);
        let pods = self.pods.iter().map(|(ordinal, pod)| (*ordinal, *pod));
        pods.filter(move |(ordinal, _)| !wanted.contains(ordinal))
    }

    /// Creates, replaces and mends pods. Says whether all is well enough to go on with others.
    fn fill(&self, moves: &mut Moves) -> bool {
        for ordinal in ordinals(self.spec) {
            if moves.new.len() >= BURST_PODS_MAX {
                return false;
            }
            let is_settled = match self.pods.get(&ordinal) {
                Some(pod) => self.settle(ordinal, pod, moves),
                None => {
                    self.create(ordinal, moves);
                    false
                }
            };
            if !is_settled && self.is_ordered() {
                return false;
            }
        }
        true
    }

    /// Upstream `processReplica` for a pod that is there. Says whether the pod after it may be
    /// looked at.
    fn settle(&self, ordinal: i32, pod: &Pod, moves: &mut Moves) -> bool {
        let is_going = pod.metadata.deletion_timestamp.is_some();
        if is_terminal(pod) {
            // Also one that succeeded: how it ended does not say whether it was to end.
            if !is_going {
                moves.first.push(self.delete(pod));
            }
            return false;
        }
        if is_going {
            return false;
        }
        let member = self.member(ordinal, Some(pod));
        if phase(pod) != "Running" {
            moves.first.extend(member.missing_claims(self.claims).writes);
            moves.first.extend(member.claims_to_own(self.claims));
        }
        if self.is_ordered() && (!is_running_and_ready(pod) || self.is_unavailable(pod)) {
            return false;
        }
        if phase(pod) == "Running" {
            self.mend(member, pod, moves);
        }
        true
    }

    /// Gives the pod the identity and the storage that it is to have: upstream `UpdateStatefulPod`.
    fn mend(&self, member: Member<'_>, pod: &Pod, moves: &mut Moves) {
        moves.first.extend(member.claims_to_own(self.claims));
        let (has_labels, has_volumes) = (is_labelled(pod), member.has_volumes(pod));
        if has_labels && has_volumes {
            return;
        }
        let mut mended = labelled(pod, member.ordinal);
        if !has_volumes {
            moves.first.extend(member.missing_claims(self.claims).writes);
            member.put_volumes(&mut mended);
        }
        moves.first.push(self.planned(Write::update(&mended), Did::Update, &name(pod)));
    }

    /// The pod of this number, unless its claims are in the way.
    fn create(&self, ordinal: i32, moves: &mut Moves) {
        let member = self.member(ordinal, None);
        if member.has_stale_claim(self.claims) {
            return;
        }
        let work = member.missing_claims(self.claims);
        let pod_name = pod_name(self.set, ordinal);
        if let Some(obstacle) = work.obstacle {
            let message =
                self.message(Did::Create, &pod_name, &format!("failed error: {obstacle}"));
            moves.reports.push(Report::warning(Did::Create.reasons().1, message));
            return;
        }
        let version = self.version_of(ordinal);
        let mut pod = render_pod(self.set, (version.template, version.name), ordinal);
        member.put_volumes(&mut pod);
        let pod = self.planned(Write::create(&pod), Did::Create, &pod_name);
        moves.new.push(NewPod { claims: work.writes, pod });
    }

    /// Of which revision a new pod is: upstream `newVersionedStatefulSetPod`.
    fn version_of(&self, ordinal: i32) -> Version<'_> {
        let status = self.set.status.as_ref();
        let old_count = match self.partition() {
            Some(partition) => partition,
            None if self.strategy() == Some("RollingUpdate") => {
                status.and_then(|status| status.current_replicas).unwrap_or_default()
            }
            None => 0,
        };
        let is_old = ordinal < ordinals(self.spec).start.saturating_add(old_count);
        if is_old { self.current } else { self.update }
    }

    /// Upstream `processCondemned` where order matters: the last of all goes, once those before it
    /// are well. One that is not well itself goes only when it is the first such. Unlike upstream,
    /// pods that have ended go first: they will not be well again, and nobody else would notice.
    fn shrink_by_one(&self, condemned: &[(i32, &Pod)], moves: &mut Moves) -> bool {
        let stays = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
        if let Some((_, ended)) = condemned.iter().find(|(_, pod)| is_terminal(pod)) {
            moves.first.extend(stays(ended).then(|| self.delete(ended)));
            return false;
        }
        let Some((last, pod)) = condemned.first() else { return true };
        let is_well = is_running_and_ready(pod) && !self.is_unavailable(pod);
        let mut from_first = condemned.iter().rev();
        let first_unwell = from_first.find(|(_, pod)| self.is_unavailable(pod));
        if stays(pod) && (is_well || first_unwell.is_some_and(|(first, _)| first == last)) {
            moves.first.push(self.delete(pod));
        }
        false
    }

    fn shrink(&self, condemned: &[(i32, &Pod)], moves: &mut Moves) -> bool {
        let stay = condemned.iter().filter(|(_, pod)| pod.metadata.deletion_timestamp.is_none());
        moves.first.extend(stay.take(BURST_PODS_MAX).map(|(_, pod)| self.delete(pod)));
        true
    }

    /// Deletes pods of old revisions, the highest first, as long as no more than `maxUnavailable`
    /// are missing: upstream `updateStatefulSetAfterInvariantEstablished`.
    ///
    /// A pod of an old revision that is not available helps nobody, so it does not have to wait for
    /// others. In v1.35.0 it does, so that a broken template cannot be corrected where pods are
    /// managed in parallel; later versions mend that (kubernetes/kubernetes#137409).
    fn update(&self, moves: &mut Moves) {
        let wanted = ordinals(self.spec);
        let first = wanted.start.saturating_add(self.partition().unwrap_or_default());
        let max = self.max_unavailable();
        let there = wanted.clone().filter_map(|ordinal| Some((ordinal, *self.pods.get(&ordinal)?)));
        let there: Vec<(i32, &Pod)> = there.collect();
        let is_old = |(ordinal, pod): &&(i32, &Pod)| {
            *ordinal >= first
                && revision(pod) != self.update.name
                && pod.metadata.deletion_timestamp.is_none()
                && !is_terminal(pod)
        };
        let (unwell, well): (Vec<_>, Vec<_>) =
            there.iter().rev().filter(is_old).partition(|(_, pod)| self.is_unavailable(pod));
        let available = there.iter().filter(|(_, pod)| !self.is_unavailable(pod)).count();
        let missing = wanted.len().saturating_sub(available);
        let on_their_way = missing.saturating_sub(unwell.len());
        let replaced = unwell.iter().take(max.saturating_sub(on_their_way));
        let spared = well.iter().take(max.saturating_sub(missing));
        moves.first.extend(replaced.chain(spared).map(|(_, pod)| self.delete(pod)));
    }

    /// Upstream `getStatefulSetMaxUnavailable`.
    fn max_unavailable(&self) -> usize {
        let rolling = self.spec.update_strategy.as_ref().and_then(|it| it.rolling_update.as_ref());
        let value = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let replicas = self.spec.replicas.unwrap_or(1);
        let count = value.map_or(1, |value| scaled(value, replicas, Rounding::Down));
        usize::try_from(count).unwrap_or_default().max(1)
    }

    fn delete(&self, pod: &Pod) -> Planned {
        self.planned(Write::delete(pod), Did::Delete, &name(pod))
    }

    fn planned(&self, write: Write, did: Did, pod: &str) -> Planned {
        let (succeeded, failed) = did.reasons();
        Planned {
            write,
            succeeded: Some(Report::normal(succeeded, self.message(did, pod, "successful"))),
            failed: Some(
                Report::warning(failed, self.message(did, pod, "failed error: "))
                    .with(Detail::Error),
            ),
        }
    }

    fn message(&self, did: Did, pod: &str, how: &str) -> String {
        let set = self.set.metadata.name.as_deref().unwrap_or_default();
        format!("{did:?} Pod {pod} in StatefulSet {set} {how}")
    }
}

/// What was done to a pod.
#[derive(Clone, Copy, Debug)]
enum Did {
    Create,
    Update,
    Delete,
}

impl Did {
    /// The reasons of the events about its success and its failure.
    fn reasons(self) -> (&'static str, &'static str) {
        match self {
            Self::Create => ("SuccessfulCreate", "FailedCreate"),
            Self::Update => ("SuccessfulUpdate", "FailedUpdate"),
            Self::Delete => ("SuccessfulDelete", "FailedDelete"),
        }
    }
}

fn name(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}
