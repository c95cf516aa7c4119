//! The decision about a StatefulSet: which revision its template is, which pods to create, replace
//! and delete, and what to report.
//!
//! Upstream: `UpdateStatefulSet` (pkg/controller/statefulset/stateful_set_control.go, v1.35). Unlike
//! there, adopting and recording a revision are looks of their own: what comes after them begins
//! with what the caches show of them.

use super::identity::{ordinal, ordinal_of, revision};
use super::pods::{Pods, Version};
use super::status::status;
use super::storage;
use crate::api::labels::Selector;
use crate::api::pod::phase;
use crate::client::object_reference;
use crate::control::{Attempt, Plan, Planned, Write};
use crate::controllers::availability::{available_after, is_available};
use crate::controllers::history::{self, Found, History, Revised, name_of, template_of};
use crate::controllers::ownership::{Claims, matches};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub set: Arc<StatefulSet>,
    /// Pods of the set's namespace: all that it controls, and all that nobody controls, its selector
    /// matches and whose names are those of its pods.
    pub pods: Vec<Arc<Pod>>,
    /// ControllerRevisions: all that it controls, and all that nobody controls and its selector
    /// matches.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The revision, whoever's it is, that has the name of the one which would be created.
    pub namesake: Option<Arc<ControllerRevision>>,
    /// The claims of the pods that are there and of those that may be created next.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// The API server itself has said that the set is there and stays. Asked only where there is
    /// something to adopt.
    pub may_adopt: bool,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let set = &*observed.set;
    let Some((spec, selector)) = spec_and_selector(set) else { return Plan::default() };
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let is_revision = |metadata: &ObjectMeta| history::belongs(metadata, uid, &selector);
    let revisions =
        Claims::sort_out(uid, is_revision, observed.revisions.iter().map(|revision| &**revision));
    let is_member = |metadata: &ObjectMeta| is_member(set, &selector, metadata);
    let pods = Claims::sort_out(uid, is_member, observed.pods.iter().map(|pod| &**pod));
    let claims = revisions.plan(set, observed.may_adopt);
    if let Some(claims) = claims.or_else(|| pods.plan(set, observed.may_adopt)) {
        return claims;
    }
    let history = History::of(revisions.own);
    let update = match history.find(&spec.template) {
        Found::Newest(revision) => revision,
        // Nothing new is begun.
        Found::Older(_) | Found::Nowhere if set.metadata.deletion_timestamp.is_some() => {
            return Plan::default();
        }
        Found::Older(revision) => return Plan::of([history.raise(revision)]),
        Found::Nowhere => {
            let is_taken = observed.namesake.is_some();
            return history.record(&*observed.set, &spec.template, is_taken);
        }
    };
    let known = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = known.and_then(|name| history.named(name)).unwrap_or(update);
    let look = Look { observed, spec, history: &history, update, current, pods: &pods.own };
    look.decide()
}

/// The spec and what it selects; `None` for what validation does not let in.
pub(super) fn spec_and_selector(set: &StatefulSet) -> Option<(&StatefulSetSpec, Selector)> {
    let spec = set.spec.as_ref()?;
    Some((spec, Selector::of_object(Some(&spec.selector)).ok()?))
}

/// Whether the set is to have a pod: its selector matches, and it has the name of one of its pods.
pub(super) fn is_member(set: &StatefulSet, selector: &Selector, pod: &ObjectMeta) -> bool {
    pod.name.as_deref().is_some_and(|name| ordinal(set, name).is_some()) && matches(selector, pod)
}

/// What the revision of the set's template would be called.
#[must_use]
pub fn revision_name(set: &StatefulSet) -> Option<String> {
    Some(history::revision_name(set, &set.spec.as_ref()?.template, set.collisions()))
}

impl Revised for StatefulSet {
    /// Upstream `ControllerRevisionHashLabel`.
    const HASH_LABEL: &'static str = "controller.kubernetes.io/hash";

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }

    fn collisions_mut(&mut self) -> &mut Option<i32> {
        &mut self.status.get_or_insert_default().collision_count
    }
}

/// A look at a set whose pods and revisions are known.
struct Look<'a> {
    observed: &'a Observed,
    spec: &'a StatefulSetSpec,
    history: &'a History<'a>,
    /// The revision of the template.
    update: &'a ControllerRevision,
    /// The revision before, or the same.
    current: &'a ControllerRevision,
    pods: &'a [&'a Pod],
}

impl Look<'_> {
    fn decide(&self) -> Plan {
        let set = &*self.observed.set;
        let mut plan = Plan {
            regarding: object_reference(set),
            recheck_after: self.next_available(),
            ..Plan::default()
        };
        let mut first: Vec<Planned> = Vec::new();
        if set.metadata.deletion_timestamp.is_none() {
            let moves = self.moves();
            plan.reports = moves.reports;
            first = moves.first;
            plan.steps = moves.creates;
        }
        // It does not depend on the other writes, nor they on it.
        first.extend(self.report().map(Planned::from));
        if !first.is_empty() {
            plan.steps.insert(0, first);
        }
        plan.then(self.forget());
        plan
    }

    fn moves(&self) -> super::pods::Moves {
        let (set, spec) = (&*self.observed.set, self.spec);
        let claims: storage::Claims = (self.observed.claims.iter())
            .filter_map(|claim| Some((claim.metadata.name.clone()?, Arc::clone(claim))))
            .collect();
        let by_ordinal: BTreeMap<i32, &Pod> =
            self.pods.iter().filter_map(|pod| Some((ordinal_of(set, pod)?, *pod))).collect();
        let old_template = template_of(self.current);
        let pods = Pods {
            set,
            spec,
            claims: &claims,
            pods: &by_ordinal,
            update: Version { name: name_of(self.update), template: &spec.template },
            current: Version {
                name: name_of(self.current),
                template: old_template.as_ref().unwrap_or(&spec.template),
            },
            now: self.observed.attempt.now,
        };
        pods.moves()
    }

    /// The status where it is not what the set has already.
    fn report(&self) -> Option<Write> {
        let set = &*self.observed.set;
        let names = (name_of(self.current), name_of(self.update));
        let status = status(set, self.pods, names, self.observed.attempt.now);
        if set.status.as_ref() == Some(&status) {
            return None;
        }
        Some(Write::update_status(&StatefulSet { status: Some(status), ..set.clone() }))
    }

    /// Revisions that nobody needs any more: upstream `truncateHistory`.
    fn forget(&self) -> Vec<Write> {
        let mut live: BTreeSet<&str> = self.pods.iter().map(|pod| revision(pod)).collect();
        live.extend([name_of(self.current), name_of(self.update)]);
        let is_old = |revision: &ControllerRevision| !live.contains(name_of(revision));
        self.history.truncate(is_old, |_| true, self.spec.revision_history_limit)
    }

    /// When the next of the ready pods will have been ready long enough.
    fn next_available(&self) -> Option<Duration> {
        let (seconds, now) = (min_ready_seconds(self.spec), self.observed.attempt.now);
        let waiting = self.pods.iter().filter(|pod| !is_available(pod, seconds, now));
        waiting.filter_map(|pod| available_after(pod, seconds, now)).min()
    }
}

pub(super) fn min_ready_seconds(spec: &StatefulSetSpec) -> i32 {
    spec.min_ready_seconds.unwrap_or_default()
}

/// Upstream `isRunningAndReady`.
pub(super) fn is_running_and_ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && crate::api::pod::is_ready(pod)
}
