//! Pods keep to the Pod Security Standard that their namespace asks for (upstream `PodSecurity`,
//! pod-security-admission/admission, v1.35). No namespace, user or runtime class is exempt, and
//! namespaces that ask for nothing allow everything.
//!
//! Start at [`judge`]. Deliberately absent: what upstream writes into the audit log.

mod baseline;
mod checks;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use self::checks::{Subject, details, evaluate, reasons};
use self::policy::{Level, Policy, Standard, policy};
use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Operation, Plugin, Want, Warnings};
use crate::api::ObjectKey;
use crate::api::owner::controller_of;
use crate::api::status::Status;
use crate::registry::Object;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Container, Namespace, Pod, PodSpec, PodTemplate, PodTemplateSpec, ReplicationController,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

pub(super) const PLUGIN: Plugin =
    Plugin { name: "PodSecurity", mutation: None, judgement: Some(Judgement { wants, judge }) };

/// When a namespace begins to ask for more, at most this many of its pods are looked at (upstream
/// `namespaceMaxPodsToCheck`).
const PODS_CHECKED_MAX: usize = 3_000;

/// What is judged.
enum Case<'a> {
    Pod(&'a Pod),
    /// What pods will be made from: nothing is refused here, but whoever makes it is warned.
    Template(&'a ObjectMeta, &'a PodSpec),
    Namespace {
        new: &'a Namespace,
        old: Option<&'a Namespace>,
    },
}

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    match (case(attributes), attributes.namespace) {
        (Some(Case::Pod(_) | Case::Template(..)), Some(namespace)) => {
            let key = ObjectKey::cluster(namespace);
            vec![match attributes.operation {
                Operation::Create(_) => Want::ground("", "namespaces", key),
                _ => Want::one("", "namespaces", key),
            }]
        }
        (Some(Case::Namespace { new, old: Some(old) }), _)
            if newly_enforced(new, old).is_some() =>
        {
            let name = new.metadata.name.as_deref().unwrap_or_default();
            vec![Want::all_in("", "pods", name)]
        }
        _ => Vec::new(),
    }
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    warnings: &mut Warnings,
) -> Result<(), Status> {
    let asked = || {
        let namespace: Option<&Namespace> = facts.all().next();
        policy(namespace.and_then(|namespace| namespace.metadata.labels.as_ref())).0
    };
    match case(attributes) {
        Some(Case::Pod(pod)) => {
            let default = PodSpec::default();
            let subject = Subject::of(&pod.metadata, pod.spec.as_ref().unwrap_or(&default));
            judge_pod(attributes, asked(), &subject, warnings)
        }
        Some(Case::Template(metadata, spec)) => {
            warn(asked().warn, &Subject::of(metadata, spec), warnings);
            Ok(())
        }
        Some(Case::Namespace { new, old }) => {
            check_labels(new, old)?;
            if let Some(standard) = old.and_then(|old| newly_enforced(new, old)) {
                let name = new.metadata.name.as_deref().unwrap_or_default();
                warnings.extend(tell_violations(name, standard, facts));
            }
            Ok(())
        }
        None => Ok(()),
    }
}

/// What is judged, where it is: a pod whose images stay was judged before.
fn case<'a>(attributes: &'a Attributes<'_>) -> Option<Case<'a>> {
    match &attributes.operation {
        Operation::Create(object) => case_of(&**object, None),
        Operation::Update { object, old, part: Part::Object } => case_of(&**object, Some(*old)),
        Operation::Update { object, old, part: Part::Of(_) } => {
            case_of(&**object, Some(*old)).filter(|case| matches!(case, Case::Pod(_)))
        }
        Operation::Update { part: Part::Status, .. } | Operation::Delete(_) => None,
    }
}

fn case_of<'a>(new: &'a dyn Object, old: Option<&'a dyn Object>) -> Option<Case<'a>> {
    if let Some(pod) = new.as_any().downcast_ref::<Pod>() {
        let old = old.and_then(|old| old.as_any().downcast_ref::<Pod>());
        return old.is_none_or(|old| is_significant(pod, old)).then_some(Case::Pod(pod));
    }
    if let Some(new) = new.as_any().downcast_ref::<Namespace>() {
        return Some(Case::Namespace { new, old: old.and_then(|old| old.as_any().downcast_ref()) });
    }
    let template = template(new)?;
    let metadata = template.metadata.as_ref().unwrap_or_else(|| new.metadata());
    Some(Case::Template(metadata, template.spec.as_ref()?))
}

/// The template in an object of a kind that makes pods of one.
fn template(object: &dyn Object) -> Option<&PodTemplateSpec> {
    let object = object.as_any();
    if let Some(it) = object.downcast_ref::<Deployment>() {
        it.spec.as_ref().map(|spec| &spec.template)
    } else if let Some(it) = object.downcast_ref::<ReplicaSet>() {
        it.spec.as_ref()?.template.as_ref()
    } else if let Some(it) = object.downcast_ref::<StatefulSet>() {
        it.spec.as_ref().map(|spec| &spec.template)
    } else if let Some(it) = object.downcast_ref::<DaemonSet>() {
        it.spec.as_ref().map(|spec| &spec.template)
    } else if let Some(it) = object.downcast_ref::<Job>() {
        it.spec.as_ref().map(|spec| &spec.template)
    } else if let Some(it) = object.downcast_ref::<CronJob>() {
        it.spec.as_ref()?.job_template.spec.as_ref().map(|spec| &spec.template)
    } else if let Some(it) = object.downcast_ref::<ReplicationController>() {
        it.spec.as_ref()?.template.as_ref()
    } else {
        object.downcast_ref::<PodTemplate>()?.template.as_ref()
    }
}

/// Upstream `isSignificantPodUpdate`.
fn is_significant(new: &Pod, old: &Pod) -> bool {
    let (Some(new), Some(old)) = (&new.spec, &old.spec) else {
        return true;
    };
    let images = |containers: &[Container]| -> Vec<Option<String>> {
        containers.iter().map(|container| container.image.clone()).collect()
    };
    let inits = |spec: &PodSpec| images(spec.init_containers.as_deref().unwrap_or_default());
    let ephemeral = |spec: &PodSpec| -> BTreeMap<String, Option<String>> {
        let all = spec.ephemeral_containers.iter().flatten();
        all.map(|container| (container.name.clone(), container.image.clone())).collect()
    };
    let known = ephemeral(old);
    images(&new.containers) != images(&old.containers)
        || inits(new) != inits(old)
        || ephemeral(new).iter().any(|(name, image)| known.get(name) != Some(image))
}

fn judge_pod(
    attributes: &Attributes<'_>,
    asked: Policy,
    subject: &Subject<'_>,
    warnings: &mut Warnings,
) -> Result<(), Status> {
    let violations = evaluate(asked.enforce, subject);
    if !violations.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", asked.enforce, details(&violations));
        return Err(attributes.forbidden(&why));
    }
    if asked.warn != asked.enforce {
        warn(asked.warn, subject, warnings);
    }
    Ok(())
}

fn warn(standard: Standard, subject: &Subject<'_>, warnings: &mut Warnings) {
    let violations = evaluate(standard, subject);
    if !violations.is_empty() {
        let listed = details(&violations);
        warnings.push(format!("would violate PodSecurity \"{standard}\": {listed}"));
    }
}

/// Labels that mean nothing are refused, unless they were there before.
fn check_labels(new: &Namespace, old: Option<&Namespace>) -> Result<(), Status> {
    let wrong = |namespace: &Namespace| policy(namespace.metadata.labels.as_ref()).1;
    let errors = wrong(new);
    if errors.is_empty() || old.is_some_and(|old| wrong(old) == errors) {
        return Ok(());
    }
    let name = new.metadata.name.as_deref().unwrap_or_default();
    Err(Status::invalid("", "Namespace", name, &errors))
}

/// The standard that is enforced from now on and was not before.
fn newly_enforced(new: &Namespace, old: &Namespace) -> Option<Standard> {
    let enforced = |namespace: &Namespace| policy(namespace.metadata.labels.as_ref()).0.enforce;
    let (new, old) = (enforced(new), enforced(old));
    let is_relaxed = new.version == old.version && new.level <= old.level;
    (new != old && new.level != Level::Privileged && !is_relaxed).then_some(new)
}

/// Which pods of the namespace would be refused now (upstream `EvaluatePodsInNamespace`).
fn tell_violations(namespace: &str, standard: Standard, facts: &Facts<'_>) -> Vec<String> {
    let pods = prioritized(facts.all::<Pod>().collect());
    let mut by_reason: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for pod in pods.iter().take(PODS_CHECKED_MAX) {
        let Some(spec) = &pod.spec else { continue };
        let violations = evaluate(standard, &Subject::of(&pod.metadata, spec));
        if !violations.is_empty() {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            by_reason.entry(reasons(&violations)).or_default().insert(name);
        }
    }
    let mut told = Vec::new();
    if pods.len() > PODS_CHECKED_MAX {
        let all = pods.len();
        told.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_CHECKED_MAX} of \
             {all} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        told.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \
             \"{standard}\""
        ));
    }
    let mut each: Vec<String> = by_reason.iter().map(|(why, pods)| tell(why, pods)).collect();
    each.sort();
    told.extend(each);
    told
}

fn tell(why: &str, pods: &BTreeSet<&str>) -> String {
    let first = pods.first().copied().unwrap_or_default();
    match pods.len() - 1 {
        0 => format!("{first}: {why}"),
        1 => format!("{first} (and 1 other pod): {why}"),
        others => format!("{first} (and {others} other pods): {why}"),
    }
}

/// One pod of each controller before the others of it.
fn prioritized(pods: Vec<&Pod>) -> Vec<&Pod> {
    let mut controllers = BTreeSet::new();
    let (mut first, others): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        controller_of(&pod.metadata).is_none_or(|owner| controllers.insert(owner.uid.clone()))
    });
    first.extend(others);
    first
}
