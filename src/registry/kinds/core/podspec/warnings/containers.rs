//! What is told of the containers of a pod: amounts, variables and ports.

use super::fraction;
use crate::api::FieldPath;
use k8s_openapi::api::core::v1::{
    ContainerPort, EnvVar, PodSpec, ResourceRequirements, SecurityContext,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) const USE_SECCOMP_FIELD: &str =
    "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const USE_APP_ARMOR_FIELD: &str =
    "deprecated since v1.30; use the \"appArmorProfile\" field instead";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// So many ports with one number are compared with the next of that number.
const COMPARED_MAX: usize = 16;

/// What all sorts of containers have.
struct Container<'a> {
    name: &'a str,
    security: Option<&'a SecurityContext>,
    resources: Option<&'a ResourceRequirements>,
    variables: &'a [EnvVar],
    ports: &'a [ContainerPort],
    path: FieldPath,
}

/// In upstream's order (`VisitContainersWithPath`).
fn containers<'a>(spec: &'a PodSpec, path: &FieldPath) -> Vec<Container<'a>> {
    let mut all = Vec::new();
    let lists = [
        ("initContainers", spec.init_containers.as_deref()),
        ("containers", Some(&*spec.containers)),
    ];
    for (name, list) in lists {
        let path = path.child(name);
        for (index, container) in list.unwrap_or_default().iter().enumerate() {
            all.push(Container {
                name: &container.name,
                security: container.security_context.as_ref(),
                resources: container.resources.as_ref(),
                variables: container.env.as_deref().unwrap_or_default(),
                ports: container.ports.as_deref().unwrap_or_default(),
                path: path.index(index),
            });
        }
    }
    let path = path.child("ephemeralContainers");
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        all.push(Container {
            name: &container.name,
            security: container.security_context.as_ref(),
            resources: container.resources.as_ref(),
            variables: container.env.as_deref().unwrap_or_default(),
            ports: container.ports.as_deref().unwrap_or_default(),
            path: path.index(index),
        });
    }
    all
}

pub(super) fn warnings(
    spec: &PodSpec,
    annotations: Option<&BTreeMap<String, String>>,
    root: &FieldPath,
    warnings: &mut Vec<String>,
) {
    let containers = containers(spec, &root.child("spec"));
    let path = root.child("metadata").child("annotations");
    // Of pods themselves it is made a field where they are created.
    let is_template = *root != FieldPath::default();
    let of_pod = spec.security_context.as_ref().and_then(|it| it.app_armor_profile.as_ref());
    for container in &containers {
        let annotated = |prefix: &str| {
            let key = format!("{prefix}{}", container.name);
            annotations.is_some_and(|all| all.contains_key(&key)).then_some(key)
        };
        let seccomp = container.security.and_then(|security| security.seccomp_profile.as_ref());
        if let Some(key) = annotated(SECCOMP_OF_CONTAINER).filter(|_| seccomp.is_none()) {
            warnings.push(format!("{}: {USE_SECCOMP_FIELD}", path.key(&key)));
        }
        let own = container.security.and_then(|security| security.app_armor_profile.as_ref());
        let is_field = own.or(of_pod).is_some();
        if let Some(key) = annotated(APP_ARMOR).filter(|_| is_template && !is_field) {
            warnings.push(format!("{}: {USE_APP_ARMOR_FIELD}", path.key(&key)));
        }
        amounts(container, warnings);
        variables(container, warnings);
    }
    ports(&containers, warnings);
    names_of_ports(&containers, warnings);
}

fn amounts(container: &Container<'_>, warnings: &mut Vec<String>) {
    let Some(resources) = container.resources else { return };
    let path = container.path.child("resources");
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    for name in ["memory", "ephemeral-storage"] {
        warnings.extend(fraction(resources.limits.as_ref(), name, &limits));
        warnings.extend(fraction(resources.requests.as_ref(), name, &requests));
    }
}

/// A variable may be made of an older one of its name, and hides it otherwise.
fn variables(container: &Container<'_>, warnings: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for (index, variable) in container.variables.iter().enumerate() {
        let name = &variable.name;
        if known.insert(name) {
            continue;
        }
        let (value, own) = (variable.value.as_deref().unwrap_or_default(), format!("$({name})"));
        if variable.value_from.is_some() || value == own || !value.contains(&own) {
            let path = container.path.child("env").index(index);
            warnings.push(format!(
                "{path}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(containers: &[Container<'_>], warnings: &mut Vec<String>) {
    let mut known: HashMap<(i32, &str), Vec<(FieldPath, &ContainerPort)>> = HashMap::new();
    for container in containers {
        for (index, port) in container.ports.iter().enumerate() {
            let path = container.path.child("ports").index(index);
            let (on_host, address) = on_host(port);
            if !address.is_empty() && on_host == 0 {
                warnings.push(format!("{path}: hostIP set without hostPort: {}", shown(port)));
            }
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let others = known.entry((port.container_port, protocol)).or_default();
            for (other_path, other) in &*others {
                if let Some(what) = conflict(port, other) {
                    warnings.push(format!("{path}: {what} port definition with {other_path}"));
                }
            }
            if others.len() < COMPARED_MAX {
                others.push((path, port));
            }
        }
    }
}

/// The port and address of the host; none is zero and empty.
fn on_host(port: &ContainerPort) -> (i32, &str) {
    (port.host_port.unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default())
}

fn conflict(one: &ContainerPort, other: &ContainerPort) -> Option<&'static str> {
    let ((port, address), (other_port, other_address)) = (on_host(one), on_host(other));
    if (port, address) == (other_port, other_address) {
        return Some("duplicate");
    }
    if port == 0 || other_port == 0 {
        return Some("overlapping");
    }
    let is_one_anywhere = address.is_empty() != other_address.is_empty();
    (port == other_port && is_one_anywhere).then_some("dangerously ambiguous")
}

/// As Go prints it.
fn shown(port: &ContainerPort) -> String {
    let (on_host, address) = on_host(port);
    format!(
        "{{Name:{} HostPort:{on_host} ContainerPort:{} Protocol:{} HostIP:{address}}}",
        port.name.as_deref().unwrap_or_default(),
        port.container_port,
        port.protocol.as_deref().unwrap_or_default(),
    )
}

fn names_of_ports(containers: &[Container<'_>], warnings: &mut Vec<String>) {
    let mut known: HashMap<&str, FieldPath> = HashMap::new();
    for container in containers {
        for (index, port) in container.ports.iter().enumerate() {
            let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            let path = container.path.child("ports").index(index);
            match known.get(name) {
                Some(first) => warnings.push(format!(
                    "{path}: duplicate port name {name:?} with {first}, services and probes that \
                     select ports by name will use {first}"
                )),
                None => {
                    known.insert(name, path);
                }
            }
        }
    }
}
