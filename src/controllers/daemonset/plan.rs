//! The decision about a DaemonSet: which revision its template is, which nodes get a pod and which
//! lose one, and what to report.
//!
//! Upstream: `syncDaemonSet` (pkg/controller/daemon/daemon_controller.go, v1.35).

use super::fit::Fit;
use super::nodes::{BURST_PODS_MAX, Moves, Nodes};
use super::render::{render_pod, target_node};
use super::rollout;
use super::status::status;
use crate::api::labels::Selector;
use crate::api::pod::is_terminal;
use crate::client::{Patch, object_reference};
use crate::control::{Attempt, Plan, Planned, Report, Write};
use crate::controllers::availability::{available_after, is_available};
use crate::controllers::history::{self, Found, History, REVISION_LABEL, Revised, name_of};
use crate::controllers::ownership::{Claims, matches};
use crate::controllers::pod_writes::{creation, deletion};
use crate::controllers::slow_start::slow_start;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub set: Arc<DaemonSet>,
    pub nodes: Vec<Arc<Node>>,
    /// Pods of the set's namespace: all that it controls and all that nobody controls and its
    /// selector matches.
    pub pods: Vec<Arc<Pod>>,
    /// ControllerRevisions, in the same way.
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// The revision, whoever's it is, that has the name of the one which would be created.
    pub namesake: Option<Arc<ControllerRevision>>,
    /// How long nodes wait whose pods failed lately.
    pub waits: BTreeMap<String, Duration>,
    /// The API server itself has said that the set is there and stays. Asked only where there is
    /// something to adopt.
    pub may_adopt: bool,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    let set = &*observed.set;
    let Some((spec, selector)) = spec_and_selector(set) else { return Plan::default() };
    if selector.is_everything() {
        let message =
            "This daemon set is selecting all pods. A non-empty selector is required.".to_owned();
        let reports = vec![Report::warning("SelectingAll", message)];
        return Plan { reports, regarding: object_reference(set), ..Plan::default() };
    }
    // What it had may be going or staying; there is nothing true to say about it.
    if set.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let is_revision = |metadata: &ObjectMeta| history::belongs(metadata, uid, &selector);
    let revisions =
        Claims::sort_out(uid, is_revision, observed.revisions.iter().map(|revision| &**revision));
    let is_member = |metadata: &ObjectMeta| matches(&selector, metadata);
    let pods = Claims::sort_out(uid, is_member, observed.pods.iter().map(|pod| &**pod));
    let claims = revisions.plan(set, observed.may_adopt);
    if let Some(claims) = claims.or_else(|| pods.plan(set, observed.may_adopt)) {
        return claims;
    }
    let history = History::of(revisions.own);
    let current = match history.find(&spec.template) {
        Found::Newest(revision) => revision,
        Found::Older(revision) => return Plan::of([history.raise(revision)]),
        Found::Nowhere => {
            let is_taken = observed.namesake.is_some();
            return history.record(&*observed.set, &spec.template, is_taken);
        }
    };
    let look = Look { observed, spec, history: &history, current, pods: &pods.own };
    look.decide()
}

/// The spec and what it selects; `None` for what validation does not let in.
pub(super) fn spec_and_selector(set: &DaemonSet) -> Option<(&DaemonSetSpec, Selector)> {
    let spec = set.spec.as_ref()?;
    Some((spec, Selector::of_object(Some(&spec.selector)).ok()?))
}

/// What the revision of the set's template would be called.
#[must_use]
pub fn revision_name(set: &DaemonSet) -> Option<String> {
    Some(history::revision_name(set, &set.spec.as_ref()?.template, set.collisions()))
}

impl Revised for DaemonSet {
    const HASH_LABEL: &'static str = REVISION_LABEL;

    fn collisions(&self) -> Option<i32> {
        self.status.as_ref()?.collision_count
    }

    fn collisions_mut(&mut self) -> &mut Option<i32> {
        &mut self.status.get_or_insert_default().collision_count
    }
}

/// By what the pods of a revision are known.
fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map_or(name_of(revision), String::as_str)
}

/// A look at a set whose pods and revisions are known.
struct Look<'a> {
    observed: &'a Observed,
    spec: &'a DaemonSetSpec,
    history: &'a History<'a>,
    /// The revision of the template.
    current: &'a ControllerRevision,
    pods: &'a [&'a Pod],
}

impl Look<'_> {
    fn decide(&self) -> Plan {
        let duplicates: Vec<_> = self.history.equal_to(self.current).collect();
        if !duplicates.is_empty() {
            return self.merge(&duplicates);
        }
        let nodes = self.nodes();
        let mut moves = nodes.manage();
        if moves.is_empty() && self.strategy() != Some("OnDelete") {
            moves = Moves { recheck_after: moves.recheck_after, ..rollout::roll(&nodes) };
        }
        let mut plan = Plan {
            regarding: object_reference(&*self.observed.set),
            recheck_after: moves.recheck_after.into_iter().chain(self.next_available()).min(),
            ..Plan::default()
        };
        let deletes = moves.deletes.iter().take(BURST_PODS_MAX).map(|pod| deletion(pod));
        let status = self.report(&nodes).map(Planned::from);
        plan.then(deletes.chain(status));
        let hash = hash_of(self.current);
        let mut creates = moves.creates.iter().take(BURST_PODS_MAX);
        for batch in slow_start(creates.len()) {
            let pods = creates.by_ref().take(batch);
            plan.then(pods.map(|node| creation(&render_pod(&self.observed.set, hash, node))));
        }
        plan.reports = moves.reports;
        plan.then(self.forget());
        plan
    }

    fn strategy(&self) -> Option<&str> {
        self.spec.update_strategy.as_ref()?.type_.as_deref()
    }

    fn nodes(&self) -> Nodes<'_> {
        let set = &*self.observed.set;
        let fits = self
            .observed
            .nodes
            .iter()
            .filter_map(|node| Some((node.metadata.name.as_deref()?, Fit::of(set, node))));
        let mut pods: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
        // Of what has ended and is going, nothing more is to be done here.
        let is_over = |pod: &Pod| is_terminal(pod) && pod.metadata.deletion_timestamp.is_some();
        for pod in self.pods.iter().filter(|pod| !is_over(pod)) {
            if let Some(node) = target_node(pod) {
                pods.entry(node).or_default().push(pod);
            }
        }
        pods.values_mut().for_each(|pods| pods.sort_by_key(|pod| super::nodes::age_order(pod)));
        Nodes {
            set,
            spec: self.spec,
            hash: hash_of(self.current),
            fits: fits.collect(),
            pods,
            waits: &self.observed.waits,
            now: self.observed.attempt.now,
        }
    }

    /// Several revisions of one template become one: upstream `dedupCurHistories`.
    fn merge(&self, duplicates: &[&ControllerRevision]) -> Plan {
        let hash = hash_of(self.current);
        let is_of_duplicate = |pod: &&&Pod| {
            let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL));
            label.is_some_and(|label| duplicates.iter().any(|it| hash_of(it) == label))
        };
        let relabel = |pod: &&Pod| {
            let patch = json!({"metadata": {"uid": pod.metadata.uid,
                "labels": {REVISION_LABEL: hash}}});
            Write::patch(*pod, Patch::Strategic(patch))
        };
        let mut plan = Plan::of(self.pods.iter().filter(is_of_duplicate).map(relabel));
        plan.then(duplicates.iter().map(|revision| Write::delete(*revision)));
        plan
    }

    /// The status where it is not what the set has already.
    fn report(&self, nodes: &Nodes<'_>) -> Option<Write> {
        let set = &*self.observed.set;
        let status = status(nodes);
        if set.status.as_ref() == Some(&status) {
            return None;
        }
        Some(Write::update_status(&DaemonSet { status: Some(status), ..set.clone() }))
    }

    /// Revisions that nobody needs any more: upstream `cleanupHistory`.
    fn forget(&self) -> Vec<Write> {
        let labels = self.pods.iter().filter_map(|pod| pod.metadata.labels.as_ref());
        let live: BTreeSet<&str> =
            labels.filter_map(|labels| labels.get(REVISION_LABEL)).map(String::as_str).collect();
        let is_old = |revision: &ControllerRevision| !std::ptr::eq(revision, self.current);
        let may_go = |revision: &ControllerRevision| !live.contains(hash_of(revision));
        self.history.truncate(is_old, may_go, self.spec.revision_history_limit)
    }

    /// When the next of the ready pods will have been ready long enough.
    fn next_available(&self) -> Option<Duration> {
        let seconds = self.spec.min_ready_seconds.unwrap_or_default();
        let now = self.observed.attempt.now;
        let waiting = self.pods.iter().filter(|pod| !is_available(pod, seconds, now));
        waiting.filter_map(|pod| available_after(pod, seconds, now)).min()
    }
}
