//! The decision about a Deployment: which ReplicaSet is the new one, how large each is to be, which
//! old ones can go, and what to report.
//!
//! Upstream: pkg/controller/deployment (v1.35). Unlike there, everything that one look finds is one
//! plan: the sets change first, and the Deployment's status says so afterwards.

use super::bounds::{Bounds, Strategy, history_limit};
use super::draft::{Set, Sets, revision_order, scaled};
use super::revision::{REVISION, annotations, next_revision, size_annotations};
use super::rollout::{follow_size, new_size, roll, was_resized};
use super::status::{PROGRESSING, Report, Says, is_complete, reason};
use super::template::{HASH_LABEL, hash, set_name};
use crate::api::labels::Selector;
use crate::api::owner::{controller_reference, is_controlled_by};
use crate::api::pod::is_terminal;
use crate::client::object_reference;
use crate::control::{self, Attempt, Detail, Failure, Plan, Planned, Verb, Write};
use crate::controllers::ownership::{Claims, matches};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::sync::Arc;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub deployment: Arc<Deployment>,
    /// ReplicaSets of the Deployment's namespace: all that it controls and all that nobody controls
    /// and its selector matches.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// The set, whoever's it is, that has the name of the one which would be created.
    pub namesake: Option<Arc<ReplicaSet>>,
    /// The pods of the Deployment's sets. Filled only for the strategy `Recreate`.
    pub pods: Vec<Arc<Pod>>,
    /// The API server itself has said that the Deployment is there and stays. Asked only where there
    /// are sets to adopt.
    pub may_adopt: bool,
    pub attempt: Attempt,
}

/// A decision in the making.
struct Draft<'a> {
    observed: &'a Observed,
    spec: &'a DeploymentSpec,
    bounds: Bounds,
    sets: Sets,
    report: Report<'a>,
    /// The revision of the newest set, once that is known.
    revision: Option<String>,
    deletes: Vec<Write>,
}

pub fn plan(observed: &Observed) -> Plan {
    let deployment = &*observed.deployment;
    let Some((spec, selector)) = spec_and_selector(deployment) else { return Plan::default() };
    if selector.is_everything() {
        return refuse(observed);
    }
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let is_wanted = |metadata: &ObjectMeta| matches(&selector, metadata);
    let claims = Claims::sort_out(uid, is_wanted, observed.sets.iter().map(|set| &**set));
    if let Some(claims) = claims.plan(deployment, observed.may_adopt) {
        return claims;
    }
    let is_own = |set: &&Arc<ReplicaSet>| claims.own.iter().any(|own| std::ptr::eq(*own, &***set));
    let own = observed.sets.iter().filter(is_own).cloned().collect();
    let draft = Draft {
        observed,
        spec,
        bounds: Bounds::of(deployment),
        sets: Sets::of(deployment, own),
        report: Report::new(deployment, observed.attempt.now),
        revision: None,
        deletes: Vec::new(),
    };
    draft.decide()
}

/// The spec and what it selects; `None` for what validation does not let in.
pub(super) fn spec_and_selector(deployment: &Deployment) -> Option<(&DeploymentSpec, Selector)> {
    let spec = deployment.spec.as_ref()?;
    Some((spec, Selector::of_object(Some(&spec.selector)).ok()?))
}

/// A Deployment that selects everything would take over all there is.
fn refuse(observed: &Observed) -> Plan {
    let mut deployment = (*observed.deployment).clone();
    let generation = deployment.metadata.generation;
    if deployment.status.get_or_insert_default().observed_generation >= generation {
        return Plan::default();
    }
    deployment.status.get_or_insert_default().observed_generation = generation;
    let message =
        "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
    Plan {
        reports: vec![control::Report::warning("SelectingAll", message)],
        regarding: object_reference(&*observed.deployment),
        ..Plan::of([Write::update_status(&deployment)])
    }
}

impl Draft<'_> {
    fn decide(mut self) -> Plan {
        if self.observed.deployment.metadata.deletion_timestamp.is_some() {
            self.report.count(&self.sets, self.bounds);
            return self.finish();
        }
        let is_paused = self.spec.paused == Some(true);
        self.report.note_pause(is_paused);
        self.update_new_set();
        // Where pods are recreated, the rollout itself follows the size. Upstream may wait for ever
        // there, when the strategy was another one while several sets got their pods.
        let is_rolling = self.bounds.strategy != Strategy::Recreate;
        if is_paused || is_rolling && was_resized(&self.sets, self.bounds) {
            let reported = self.report.status.replicas.unwrap_or_default();
            follow_size(&mut self.sets, self.bounds, reported);
            if is_paused {
                self.clean_up();
            }
            self.report.count(&self.sets, self.bounds);
            return self.finish();
        }
        self.roll_out()
    }

    /// Keeps the new set's annotations and what it shares with the Deployment up to date: upstream
    /// `getNewReplicaSet`.
    fn update_new_set(&mut self) {
        let Some(new) = &mut self.sets.new else { return };
        let deployment = &*self.observed.deployment;
        let next = next_revision(self.sets.old.iter().map(Set::get));
        let annotations = annotations(new.get(), deployment, next);
        self.revision = annotations.get(REVISION).cloned();
        let min_ready = |seconds: Option<i32>| seconds.unwrap_or_default();
        let current = new.get().spec.as_ref().and_then(|spec| spec.min_ready_seconds);
        if min_ready(current) != min_ready(self.spec.min_ready_seconds) {
            new.change().spec.get_or_insert_default().min_ready_seconds =
                self.spec.min_ready_seconds;
        }
        if new.get().metadata.annotations.as_ref() != Some(&annotations) {
            new.change().metadata.annotations = Some(annotations);
        }
        let name = new.name();
        let known = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
        let (reason, message) = match self.report.progress_reason() {
            Some(reason::SET_NOT_CREATED) => {
                (reason::NEW_SET_CREATED, format!("Created new replica set {name:?}"))
            }
            // Upstream leaves the end of the rollout before as it is when a rollout goes back to a
            // set, and so may never notice that it is stuck.
            Some(reason::NEW_SET_AVAILABLE) if known != self.revision.as_ref() => {
                (reason::NEW_SET_FOUND, format!("Found new replica set {name:?}"))
            }
            Some(_) => return,
            None => (reason::NEW_SET_FOUND, format!("Found new replica set {name:?}")),
        };
        if self.report.deadline().is_some() {
            self.report.set(PROGRESSING, Says { status: "True", reason, message });
        }
    }

    fn roll_out(mut self) -> Plan {
        let is_rolling = self.bounds.strategy != Strategy::Recreate;
        let may_start = is_rolling || self.stop_old();
        if self.sets.new.is_none() && may_start {
            return self.create_new_set();
        }
        if is_rolling {
            roll(&mut self.sets, self.bounds);
        } else if let Some(new) = self.sets.new.as_mut().filter(|_| may_start) {
            new.resize(self.bounds.replicas, self.bounds);
        }
        let status = self.observed.deployment.status.clone().unwrap_or_default();
        let is_resting = self.sets.writes().is_empty();
        if is_resting && is_complete(&self.observed.deployment, &status, self.bounds) {
            self.clean_up();
        }
        self.report.follow_rollout(&self.sets, self.bounds);
        let recheck_after = self.report.recheck_after(self.bounds);
        Plan { recheck_after, ..self.finish() }
    }

    /// Takes all pods from the old sets; says whether none of them is left, and none can come any
    /// more: unlike upstream, this waits until the old sets say that they know their new size.
    fn stop_old(&mut self) -> bool {
        let was_active = self.sets.old.iter().any(|set| set.replicas() > 0);
        self.sets.old.iter_mut().for_each(|set| set.resize(0, self.bounds));
        let new_uid = self.sets.new.as_ref().and_then(|set| set.get().metadata.uid.as_deref());
        let is_old = |pod: &&Arc<Pod>| {
            !new_uid.is_some_and(|uid| is_controlled_by(&pod.metadata, uid)) && !is_terminal(pod)
        };
        let may_have_pods = |set: &Set| set.reported().replicas > 0 || !set.is_acknowledged();
        let are_reported = self.sets.old.iter().any(may_have_pods);
        !was_active && !are_reported && !self.observed.pods.iter().any(|pod| is_old(&pod))
    }

    fn create_new_set(mut self) -> Plan {
        if self.observed.namesake.is_some() {
            // The hash has two meanings. With another count it will be another one.
            let collisions = self.report.status.collision_count.get_or_insert_default();
            *collisions = collisions.saturating_add(1);
            return self.finish();
        }
        let set = self.render_set();
        let (name, replicas) =
            (set.metadata.name.clone().unwrap_or_default(), new_size(&self.sets, self.bounds));
        let failed = format!("Failed to create new replica set {name:?}: ");
        let has_deadline = self.report.deadline().is_some();
        let create = Planned {
            write: Write::create(&set),
            succeeded: (replicas > 0).then(|| scaled(&name, 0, replicas)),
            failed: Some(
                control::Report::warning(reason::SET_NOT_CREATED, failed.clone())
                    .with(Detail::Error),
            ),
        };
        if let Some(failure) = self.observed.attempt.failure.as_ref().filter(|it| is_create(it)) {
            if has_deadline {
                let message = format!("{failed}{}", failure.message);
                let reason = reason::SET_NOT_CREATED;
                self.report.set(PROGRESSING, Says { status: "False", reason, message });
            }
            self.report.count(&self.sets, self.bounds);
            let mut plan = self.finish();
            plan.then([create]);
            return plan;
        }
        self.revision = revision_of(&set);
        if has_deadline {
            let message = format!("Created new replica set {name:?}");
            let reason = reason::NEW_SET_CREATED;
            self.report.set(PROGRESSING, Says { status: "True", reason, message });
        }
        self.sets.new = Some(Set::new(Arc::new(set)));
        self.report.count(&self.sets, self.bounds);
        let mut plan = self.finish();
        plan.steps.insert(0, vec![create]);
        plan
    }

    /// The set for the Deployment's template.
    fn render_set(&self) -> ReplicaSet {
        let deployment = &*self.observed.deployment;
        let hash = hash(deployment);
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        let labels = labels.clone();
        let LabelSelector { match_labels, match_expressions } = self.spec.selector.clone();
        let mut match_labels = match_labels.unwrap_or_default();
        match_labels.insert(HASH_LABEL.to_owned(), hash);
        let mut set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(set_name(deployment)),
                namespace: deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![controller_reference(deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(new_size(&self.sets, self.bounds)),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector: LabelSelector { match_labels: Some(match_labels), match_expressions },
                template: Some(template),
            }),
            status: None,
        };
        let next = next_revision(self.sets.old.iter().map(Set::get));
        let mut annotations = annotations(&set, deployment, next);
        let sizes = size_annotations(self.bounds);
        annotations.extend(sizes.map(|(name, value)| (name.to_owned(), value)));
        set.metadata.annotations = Some(annotations);
        set
    }

    /// Deletes the oldest sets beyond those that are kept: upstream `cleanupDeployment`.
    fn clean_up(&mut self) {
        let Some(limit) = history_limit(self.spec) else { return };
        let stays = |set: &&Set| set.get().metadata.deletion_timestamp.is_none();
        let mut old: Vec<&Set> = self.sets.old.iter().filter(stays).collect();
        old.sort_by_key(|set| revision_order(set));
        let excess = old.len().saturating_sub(limit);
        let is_empty = |set: &&&Set| {
            let status = set.reported();
            set.replicas() == 0
                && status.replicas == 0
                && set.get().metadata.generation <= status.observed_generation
        };
        let deleted = old.iter().take(excess).filter(is_empty).map(|set| Write::delete(set.get()));
        self.deletes = deleted.collect();
    }

    /// The sets change first; then the Deployment says so.
    fn finish(self) -> Plan {
        let mut plan =
            Plan { regarding: object_reference(&*self.observed.deployment), ..Plan::default() };
        plan.then(self.sets.writes());
        plan.then(self.write_status().into_iter().chain(self.deletes));
        plan
    }

    /// The status, and with it the revision, where they are not what the Deployment has.
    fn write_status(&self) -> Option<Write> {
        let mut deployment = (*self.observed.deployment).clone();
        if let Some(revision) = &self.revision {
            let annotations = deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(REVISION.to_owned(), revision.clone());
        }
        deployment.status = Some(self.report.status.clone());
        let before = &*self.observed.deployment;
        let is_new = deployment.metadata.annotations != before.metadata.annotations
            || before.status.as_ref().unwrap_or(&DeploymentStatus::default())
                != &self.report.status;
        is_new.then(|| Write::update_status(&deployment))
    }
}

fn revision_of(set: &ReplicaSet) -> Option<String> {
    set.metadata.annotations.as_ref()?.get(REVISION).cloned()
}

fn is_create(failure: &Failure) -> bool {
    failure.verb == Verb::Create && failure.resource.kind == ReplicaSet::KIND
}
