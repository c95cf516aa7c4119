//! The decision about one definition: which names it has, whether it is served, and what is deleted
//! before it goes.

use super::names::accept;
use crate::client::{DeleteOptions, Patch, Propagation};
use crate::control::{Plan, Write};
use crate::controllers::definition::Definition;
use crate::registry::kinds::apiextensions::CLEANUP_FINALIZER;
use crate::registry::kinds::apiextensions::conditions::{
    ESTABLISHED, NAMES_ACCEPTED, NON_STRUCTURAL, TERMINATING, approved, condition, put,
};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition as Condition;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// After a look at which it could not be found out what there is left.
const UNKNOWN_CONTENT_RETRY: Duration = Duration::from_secs(5);

/// How many objects there are in each namespace whose deletion has not begun. A namespace that is not
/// here has none at all; `None` stands for the cluster.
pub type Content = BTreeMap<Option<String>, usize>;

/// What is known of the structure of the schemas.
#[derive(Clone, Debug, PartialEq)]
pub enum Structure {
    Sound,
    /// What is to be said of it.
    Odd(Box<Condition>),
    /// It could not be found out.
    Unknown,
}

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub definition: Arc<Definition>,
    /// Of the same group.
    pub others: Vec<Arc<Definition>>,
    /// Asked for only while the definition goes.
    pub content: Option<Result<Content, String>>,
    pub structure: Structure,
    pub now: Timestamp,
}

pub fn plan(observed: &Observed) -> Plan {
    let definition = &*observed.definition;
    if is_cleaned_up_here(definition) {
        return clean_up(observed);
    }
    if definition.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    let accepted = accept(definition, &observed.others);
    let mut status = json!({});
    if accepted.names != definition.status.accepted_names {
        status["acceptedNames"] = json!(accepted.names);
    }
    let (is_accepted, reason, message) = match accepted.conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", reason, message),
    };
    let mut said = vec![condition(NAMES_ACCEPTED, is_accepted, reason, message)];
    said.extend(established(definition, is_accepted == "True"));
    said.extend(approved(&definition.spec.group, definition.metadata.annotations.as_ref()));
    let mut recheck_after = None;
    match &observed.structure {
        Structure::Sound => {}
        Structure::Odd(condition) => said.push(Condition::clone(condition)),
        Structure::Unknown => recheck_after = Some(UNKNOWN_CONTENT_RETRY),
    }
    let mut conditions = with_conditions(definition, said, observed.now);
    if observed.structure == Structure::Sound {
        conditions.retain(|condition| condition.type_ != NON_STRUCTURAL);
    }
    if conditions != definition.status.conditions {
        status["conditions"] = json!(conditions);
    }
    if status == json!({}) {
        return Plan { recheck_after, ..Plan::default() };
    }
    let told = patch(definition, Some("status"), json!({"status": status}));
    Plan { recheck_after, ..Plan::of([told]) }
}

/// Whether it is served (upstream `EstablishingController.sync`). Once it is, it stays so, whatever it
/// asks for later.
fn established(definition: &Definition, is_accepted: bool) -> Option<Condition> {
    if definition.is_true(ESTABLISHED) {
        return None;
    }
    let (status, reason, message) = if !is_accepted {
        ("False", "NotAccepted", "not all names are accepted")
    } else if definition.spec.conversion.has_bad_authorities {
        ("False", "InvalidCABundle", "The conversion webhook CABundle is invalid")
    } else {
        ("True", "InitialNamesAccepted", "the initial names have been accepted")
    };
    Some(condition(ESTABLISHED, status, reason, message))
}

/// Whether it is being deleted and its objects are still ours to delete.
pub(super) fn is_cleaned_up_here(definition: &Definition) -> bool {
    let metadata = &definition.metadata;
    let mut finalizers = metadata.finalizers.iter().flatten();
    metadata.deletion_timestamp.is_some() && finalizers.any(|name| name == CLEANUP_FINALIZER)
}

fn clean_up(observed: &Observed) -> Plan {
    let definition = &*observed.definition;
    let terminating = |status, reason, message: &str| {
        let said = vec![condition(TERMINATING, status, reason, message)];
        let conditions = with_conditions(definition, said, observed.now);
        let is_new = conditions != definition.status.conditions;
        let content = json!({"status": {"conditions": conditions}});
        is_new.then(|| patch(definition, Some("status"), content))
    };
    let in_progress = "CustomResource deletion is in progress";
    if definition.is_built_in() {
        let message = "instances overlap with built-in resources in storage";
        let told = terminating("False", "OverlappingBuiltInResource", message);
        return finish(definition, told);
    }
    match &observed.content {
        None => {
            let told = terminating("False", "NeverEstablished", "resource was never established");
            finish(definition, told)
        }
        Some(Err(why)) => {
            let message = format!("could not list instances: {why}");
            let told = terminating("True", "InstanceDeletionFailed", &message);
            Plan { recheck_after: Some(UNKNOWN_CONTENT_RETRY), ..Plan::of(told) }
        }
        Some(Ok(content)) if content.is_empty() => {
            let message = "removed all instances";
            finish(definition, terminating("False", "InstanceDeletionCompleted", message))
        }
        Some(Ok(content)) => {
            let mut plan = Plan::of(terminating("True", "InstanceDeletionInProgress", in_progress));
            let undeleted = content.iter().filter(|(_, undeleted)| **undeleted > 0);
            plan.then(undeleted.filter_map(|(namespace, _)| delete(definition, namespace.clone())));
            plan
        }
    }
}

/// Lets the definition go, after what there is to tell.
fn finish(definition: &Definition, told: Option<Write>) -> Plan {
    let finalizers = definition.metadata.finalizers.iter().flatten();
    let rest: Vec<_> = finalizers.filter(|name| *name != CLEANUP_FINALIZER).collect();
    let content = json!({"metadata": {"finalizers": rest}});
    // What is told changes the definition, which is looked at again then.
    Plan::of([told.unwrap_or_else(|| patch(definition, None, content))])
}

fn delete(definition: &Definition, namespace: Option<String>) -> Option<Write> {
    Some(Write::DeleteCollection {
        resource: definition.entry()?.resource,
        namespace,
        options: DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        },
    })
}

/// Of the definition as it was looked at.
fn patch(definition: &Definition, part: Option<&'static str>, mut content: Value) -> Write {
    content["metadata"]["resourceVersion"] = json!(definition.metadata.resource_version);
    match Write::patch(definition, Patch::Merge(content)) {
        Write::Patch { resource, key, patch, .. } => {
            Write::Patch { resource, key, subresource: part, patch }
        }
        other => other,
    }
}

/// The conditions with these among them.
fn with_conditions(
    definition: &Definition,
    said: Vec<Condition>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = definition.status.conditions.clone();
    said.into_iter().for_each(|condition| put(&mut conditions, condition, now));
    conditions
}
