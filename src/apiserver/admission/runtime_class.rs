//! A pod of a runtime class gets the overhead and the placement of its class (upstream
//! `RuntimeClass`, plugin/pkg/admission/runtimeclass, v1.35).

use super::{Attributes, Facts, Judgement, Mutation, Plugin, Want, Warnings};
use crate::api::ObjectKey;
use crate::api::pod::amounts;
use crate::api::status::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::{RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "RuntimeClass",
    mutation: Some(Mutation { wants, apply }),
    judgement: Some(Judgement { wants, judge }),
};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const NO_OVERHEAD: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

fn class_name(spec: Option<&PodSpec>) -> Option<&str> {
    spec?.runtime_class_name.as_deref()
}

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    let name = attributes.creating::<Pod>().and_then(|pod| class_name(pod.spec.as_ref()));
    let want = |name| Want::one("node.k8s.io", "runtimeclasses", ObjectKey::cluster(name));
    name.map(want).into_iter().collect()
}

fn apply(attributes: &mut Attributes<'_>, facts: &Facts<'_>) -> Result<(), Status> {
    let Some(pod) = attributes.created::<Pod>() else {
        return Ok(());
    };
    complete(pod.spec.as_mut(), facts.all().next()).map_err(|why| attributes.forbidden(&why))
}

fn judge(
    attributes: &Attributes<'_>,
    facts: &Facts<'_>,
    _warnings: &mut Warnings,
) -> Result<(), Status> {
    let Some(pod) = attributes.creating::<Pod>() else {
        return Ok(());
    };
    let class: Option<&RuntimeClass> = facts.all().next();
    let own = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
    match (class.and_then(overhead), own) {
        (Some(fixed), own) if amounts(Some(fixed)) != amounts(own) => {
            Err(attributes.forbidden(MISMATCH))
        }
        (None, Some(_)) => Err(attributes.forbidden(NO_OVERHEAD)),
        _ => Ok(()),
    }
}

fn overhead(class: &RuntimeClass) -> Option<&BTreeMap<String, Quantity>> {
    class.overhead.as_ref()?.pod_fixed.as_ref()
}

fn complete(spec: Option<&mut PodSpec>, class: Option<&RuntimeClass>) -> Result<(), String> {
    let Some(spec) = spec else {
        return Ok(());
    };
    let Some(class) = class else {
        let missing = class_name(Some(spec));
        return missing
            .map_or(Ok(()), |name| Err(format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    if let Some(fixed) = overhead(class) {
        let own = spec.overhead.as_ref().filter(|own| !own.is_empty());
        if own.is_some_and(|own| amounts(Some(own)) != amounts(Some(fixed))) {
            return Err(MISMATCH.to_owned());
        }
        spec.overhead = Some(fixed.clone());
    }
    class.scheduling.as_ref().map_or(Ok(()), |scheduling| place(spec, scheduling))
}

fn place(spec: &mut PodSpec, scheduling: &Scheduling) -> Result<(), String> {
    for (key, value) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        if let Some(own) = selector.get(key).filter(|own| *own != value) {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                 pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        selector.insert(key.clone(), value.clone());
    }
    let added: Vec<Toleration> = scheduling.tolerations.iter().flatten().cloned().collect();
    let own = spec.tolerations.get_or_insert_default();
    for toleration in added {
        if !own.contains(&toleration) {
            own.push(toleration);
        }
    }
    Ok(())
}
