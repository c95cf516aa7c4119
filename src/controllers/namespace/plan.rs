//! The decision about a namespace that is going: what is deleted next, what is said, and when the
//! namespace itself may go.
//!
//! Upstream: pkg/controller/namespace/deletion (v1.35).

use super::conditions::conditions;
use crate::client::{DeleteOptions, Propagation, ResourceType};
use crate::control::{Attempt, Plan, Write};
use k8s_openapi::api::core::v1::Namespace;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The finalizer that stands for all content.
pub(super) const CONTENT_FINALIZER: &str = "kubernetes";

/// After a look at which it could not be found out what there is left.
const UNKNOWN_CONTENT_RETRY: Duration = Duration::from_secs(5);

/// What there is left of a kind in the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub resource: ResourceType,
    pub left: Result<Left, String>,
}

/// The objects of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub objects: usize,
    /// Those whose deletion has not begun.
    pub undeleted: usize,
    /// Finalizers with the number of objects that have them.
    pub finalizers: BTreeMap<String, usize>,
}

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub namespace: Arc<Namespace>,
    /// Every kind there can be in a namespace; asked for only while the namespace is going.
    pub content: Vec<Content>,
    pub attempt: Attempt,
}

pub fn plan(observed: &Observed) -> Plan {
    if !is_going(&observed.namespace) {
        return Plan::default();
    }
    let status = observed.namespace.status.as_ref();
    if status.and_then(|status| status.phase.as_deref()) != Some("Terminating") {
        let mut namespace = (*observed.namespace).clone();
        namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        return Plan::of([Write::update_status(&namespace)]);
    }
    let next = next_content(&observed.content);
    let is_empty = next.iter().all(|content| content.left == Ok(Left::default()));
    if let Some(report) = report(observed, &next, is_empty) {
        let mut plan = Plan::of([report]);
        plan.then(next.iter().filter_map(|content| delete(observed, content)));
        return plan;
    }
    if is_empty {
        return Plan::of([finalize(&observed.namespace)]);
    }
    let is_unknown = next.iter().any(|content| content.left.is_err());
    Plan {
        recheck_after: is_unknown.then_some(UNKNOWN_CONTENT_RETRY),
        ..Plan::of(next.iter().filter_map(|content| delete(observed, content)))
    }
}

/// Whether the namespace is being deleted and its content is still ours to delete.
pub(super) fn is_going(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.unwrap_or_default().iter().any(|finalizer| finalizer == CONTENT_FINALIZER)
}

/// Pods go first, and everything else once they are gone: what protects them, such as network
/// policies, stays as long as they run. Upstream's `OrderedNamespaceDeletion`.
fn next_content(content: &[Content]) -> Vec<&Content> {
    let is_pods = |content: &&Content| content.resource.kind == "Pod";
    let pods: Vec<_> = content.iter().filter(is_pods).collect();
    if pods.iter().all(|pods| pods.left == Ok(Left::default())) {
        return content.iter().collect();
    }
    pods
}

fn delete(observed: &Observed, content: &Content) -> Option<Write> {
    let left = content.left.as_ref().ok().filter(|left| left.undeleted > 0)?;
    debug_assert!(left.undeleted <= left.objects, "those that are left include the undeleted");
    Some(Write::DeleteCollection {
        resource: content.resource.clone(),
        namespace: Some(observed.namespace.metadata.name.clone()?),
        options: DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        },
    })
}

/// The conditions, where they have changed. A namespace that turns out empty goes without a word.
fn report(observed: &Observed, content: &[&Content], is_empty: bool) -> Option<Write> {
    let before = observed.namespace.status.as_ref().and_then(|status| status.conditions.as_ref());
    if is_empty && before.is_none_or(Vec::is_empty) {
        return None;
    }
    let failure = observed.attempt.failure.as_ref().map(|failure| failure.message.as_str());
    let after = conditions(before, content, failure, observed.attempt.now);
    if before == Some(&after) {
        return None;
    }
    let mut namespace = (*observed.namespace).clone();
    namespace.status.get_or_insert_default().conditions = Some(after);
    Some(Write::update_status(&namespace))
}

fn finalize(namespace: &Namespace) -> Write {
    let mut finalized = namespace.clone();
    if let Some(finalizers) = finalized.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != CONTENT_FINALIZER);
    }
    Write::replace(&finalized, Some("finalize"))
}
