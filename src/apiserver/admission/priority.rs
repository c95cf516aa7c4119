//! A pod's priority is that of its class (upstream `Priority`, plugin/pkg/admission/priority, v1.35).

use super::super::verbs::Part;
use super::{Attributes, Facts, Judgement, Mutation, Operation, Plugin, Want, Warnings};
use crate::api::ObjectKey;
use crate::api::status::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "Priority",
    mutation: Some(Mutation { wants: classes_for_pod, apply }),
    judgement: Some(Judgement { wants: rivals, judge }),
};

const GROUP: &str = "scheduling.k8s.io";
const PLURAL: &str = "priorityclasses";

/// What a pod without a class does where no class is the default.
const DEFAULT_POLICY: &str = "PreemptLowerPriority";

fn classes_for_pod(attributes: &Attributes<'_>) -> Vec<Want> {
    let Some(pod) = attributes.creating::<Pod>() else { return Vec::new() };
    match class_name(pod.spec.as_ref()) {
        Some(name) => vec![Want::one(GROUP, PLURAL, ObjectKey::cluster(name))],
        None => vec![Want::all(GROUP, PLURAL)],
    }
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    if let Some(pod) = attributes.created::<Pod>() {
        return resolve(pod, facts).map_err(|why| attributes.forbidden(&why));
    }
    if let Some((pod, old)) = attributes.updated::<Pod>() {
        keep(pod.spec.as_mut(), old.spec.as_ref());
    }
    Ok(())
}

fn rivals(attributes: &Attributes<'_>) -> Vec<Want> {
    match submitted_class(attributes) {
        Some(class) if class.global_default == Some(true) => vec![Want::all(GROUP, PLURAL)],
        _ => Vec::new(),
    }
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some(class) = submitted_class(attributes) else {
        return Ok(());
    };
    let is_create = matches!(attributes.operation, Operation::Create(_));
    match default_class(facts) {
        Some(default)
            if class.global_default == Some(true)
                && (is_create || default.metadata.name != class.metadata.name) =>
        {
            let name = default.metadata.name.as_deref().unwrap_or_default();
            Err(attributes.forbidden(&format!(
                "PriorityClass {name} is already marked as default. Only one default can exist"
            )))
        }
        _ => Ok(()),
    }
}

fn submitted_class<'a>(attributes: &'a Attributes<'_>) -> Option<&'a PriorityClass> {
    match &attributes.operation {
        Operation::Create(object) | Operation::Update { object, part: Part::Object, .. } => {
            object.as_any().downcast_ref()
        }
        Operation::Update { .. } | Operation::Delete(_) => None,
    }
}

fn class_name(spec: Option<&PodSpec>) -> Option<&str> {
    spec?.priority_class_name.as_deref().filter(|name| !name.is_empty())
}

/// Of several defaults, which only a race can make, the least counts.
fn default_class<'a>(facts: &Facts<'a>) -> Option<&'a PriorityClass> {
    let defaults = facts.all::<PriorityClass>().filter(|class| class.global_default == Some(true));
    defaults.min_by_key(|class| class.value)
}

fn resolve(pod: &mut Pod, facts: &Facts<'_>) -> Result<(), String> {
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    let class = match class_name(Some(spec)) {
        Some(name) => Some(
            facts
                .all::<PriorityClass>()
                .next()
                .ok_or_else(|| format!("no PriorityClass with name {name} was found"))?,
        ),
        None => default_class(facts),
    };
    let priority = class.map(|class| class.value).unwrap_or_default();
    let policy = match class {
        Some(class) => class.preemption_policy.clone(),
        None => Some(DEFAULT_POLICY.to_owned()),
    };
    if let Some(class) = class {
        spec.priority_class_name.clone_from(&class.metadata.name);
    }
    if let Some(own) = spec.priority.filter(|own| *own != priority) {
        return Err(format!(
            "the integer value of priority ({own}) must not be provided in pod spec; priority \
             admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    spec.priority = Some(priority);
    let Some(policy) = policy else {
        return Ok(());
    };
    if let Some(own) = spec.preemption_policy.as_ref().filter(|own| **own != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; \
             priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    spec.preemption_policy = Some(policy);
    Ok(())
}

/// What was resolved when the pod was created stays, also where an update leaves it out.
fn keep(spec: Option<&mut PodSpec>, old: Option<&PodSpec>) {
    let (Some(spec), Some(old)) = (spec, old) else {
        return;
    };
    if spec.priority.is_none() {
        spec.priority = old.priority;
    }
    if spec.preemption_policy.is_none() {
        spec.preemption_policy.clone_from(&old.preemption_policy);
    }
}
