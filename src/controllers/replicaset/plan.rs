//! The decision about a ReplicaSet or ReplicationController: which pods are its own, how many to create, which to delete, and
//! what to report.

use super::owner::Replicated;
use super::rank::sort_by_deletion;
use super::status::status;
use crate::api::pod::is_active;
use crate::client::object_reference;
use crate::control::{Attempt, Plan, Planned, Write};
use crate::controllers::availability::{available_after, is_available, is_terminating};
use crate::controllers::ownership::{Claims, matches};
use crate::controllers::pod_template::pod_of;
use crate::controllers::pod_writes::{creation, deletion};
use crate::controllers::slow_start::{BURST_PODS_MAX, slow_start};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed<O = ReplicaSet> {
    pub set: Arc<O>,
    /// Pods of the set's namespace: all that it controls and all that nobody controls and its
    /// selector matches.
    pub pods: Vec<Arc<Pod>>,
    /// The API server itself has said that the set is there and stays. Asked only where there are
    /// pods to adopt.
    pub may_adopt: bool,
    /// How many active pods each node has of this set and of the sets with the same controller.
    /// Filled only where there are too many pods.
    pub on_node: BTreeMap<String, usize>,
    pub attempt: Attempt,
}

/// The pods of a set that matter.
#[derive(Debug)]
pub(super) struct Pods<'a> {
    /// These count.
    pub(super) active: Vec<&'a Pod>,
    pub(super) terminating: Vec<&'a Pod>,
}

pub fn plan<O: Replicated>(observed: &Observed<O>) -> Plan {
    let set = &*observed.set;
    // Validation lets no selector in that nobody can read.
    let Some(selector) = set.selector() else { return Plan::default() };
    let uid = set.metadata().uid.as_deref().unwrap_or_default();
    let pods_that = |is_wanted: fn(&Pod) -> bool| {
        let pods = observed.pods.iter().map(|pod| &**pod).filter(move |pod| is_wanted(pod));
        Claims::sort_out(uid, |metadata| matches(&selector, metadata), pods)
    };
    let active = pods_that(is_active);
    if let Some(claims) = active.plan(set, observed.may_adopt) {
        // Which pods there are to count is known once that is done.
        return claims;
    }
    let pods = Pods { active: active.own, terminating: pods_that(is_terminating).own };
    let is_going = set.metadata().deletion_timestamp.is_some();
    let mut steps = if is_going { Vec::new() } else { scale(observed, &pods) };
    if let Some(report) = report(observed, &pods) {
        // It does not depend on the first of the others, and the others do not depend on it.
        match steps.first_mut() {
            Some(first) => first.push(report.into()),
            None => steps.push(vec![report.into()]),
        }
    }
    let recheck_after = next_available(observed, &pods);
    Plan { steps, recheck_after, regarding: object_reference(set), ..Plan::default() }
}

/// The status where it is not what the set has already.
fn report<O: Replicated>(observed: &Observed<O>, pods: &Pods<'_>) -> Option<Write> {
    let reported = observed.set.with_status(status(observed, pods));
    (reported != *observed.set).then(|| Write::update_status(&reported))
}

fn scale<O: Replicated>(observed: &Observed<O>, pods: &Pods<'_>) -> Vec<Vec<Planned>> {
    let wanted = wanted_replicas(&*observed.set);
    let actual = pods.active.len();
    match actual.cmp(&wanted) {
        Ordering::Less => create(&*observed.set, (wanted - actual).min(BURST_PODS_MAX)),
        Ordering::Equal => Vec::new(),
        Ordering::Greater => {
            vec![delete(observed, pods, (actual - wanted).min(BURST_PODS_MAX))]
        }
    }
}

fn create<O: Replicated>(set: &O, missing: usize) -> Vec<Vec<Planned>> {
    let pod = creation(&pod_of(set.template(), set));
    slow_start(missing).map(|batch| vec![pod.clone(); batch]).collect()
}

fn delete<O>(observed: &Observed<O>, pods: &Pods<'_>, surplus: usize) -> Vec<Planned> {
    let mut ranked = pods.active.clone();
    sort_by_deletion(&mut ranked, &observed.on_node, observed.attempt.now);
    ranked.into_iter().take(surplus).map(deletion).collect()
}

/// When the next of the ready pods will have been ready long enough.
fn next_available<O: Replicated>(observed: &Observed<O>, pods: &Pods<'_>) -> Option<Duration> {
    let (seconds, now) = (observed.set.min_ready_seconds(), observed.attempt.now);
    let waiting = pods.active.iter().filter(|pod| !is_available(pod, seconds, now));
    waiting.filter_map(|pod| available_after(pod, seconds, now)).min()
}

pub(super) fn wanted_replicas(set: &impl Replicated) -> usize {
    usize::try_from(set.replicas().unwrap_or(1)).unwrap_or_default()
}
