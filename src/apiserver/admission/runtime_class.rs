//! A pod of a runtime class gets the overhead and the placement of its class (upstream
//! `RuntimeClass`, plugin/pkg/admission/runtimeclass, v1.35).

use super::{Attributes, Facts, Plugin, Want};
use crate::api::ObjectKey;
use crate::api::status::Status;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::{RuntimeClass, Scheduling};

pub(super) const PLUGIN: Plugin = Plugin { name: "RuntimeClass", wants, admit };

fn class_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.runtime_class_name.as_deref().filter(|name| !name.is_empty())
}

fn wants(attributes: &Attributes<'_>) -> Vec<Want> {
    let name = attributes.creating::<Pod>().and_then(class_name);
    let want = |name| Want::One {
        group: "node.k8s.io",
        plural: "runtimeclasses",
        key: ObjectKey::cluster(name),
    };
    name.map(want).into_iter().collect()
}

fn admit(attributes: &mut Attributes<'_>, facts: &Facts) -> Result<(), Status> {
    let Some(pod) = attributes.created::<Pod>() else {
        return Ok(());
    };
    apply(pod, facts.all().next()).map_err(|why| attributes.forbidden(&why))
}

fn apply(pod: &mut Pod, class: Option<&RuntimeClass>) -> Result<(), String> {
    let name = class_name(pod).map(str::to_owned);
    let Some(spec) = &mut pod.spec else {
        return Ok(());
    };
    let class = match (name, class) {
        (Some(name), None) => return Err(format!("pod rejected: RuntimeClass {name:?} not found")),
        (None, _) => None,
        (Some(_), class) => class,
    };
    let overhead = class.and_then(|class| class.overhead.as_ref());
    match (overhead.and_then(|overhead| overhead.pod_fixed.as_ref()), &spec.overhead) {
        (Some(fixed), Some(own)) if !own.is_empty() && own != fixed => {
            let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
            return Err(why.to_owned());
        }
        (Some(fixed), _) => spec.overhead = Some(fixed.clone()),
        (None, Some(_)) => {
            return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass \
                        defined Overhead"
                .to_owned());
        }
        (None, None) => {}
    }
    match class.and_then(|class| class.scheduling.as_ref()) {
        Some(scheduling) => place(spec, scheduling),
        None => Ok(()),
    }
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
