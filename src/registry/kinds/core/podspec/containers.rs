//! What may be wrong with the containers of a pod.
//!
//! Follows upstream `validateContainers`, `validateInitContainers` and
//! `validateEphemeralContainers` (pkg/apis/core/validation, v1.35).

use super::super::addresses::PROTOCOLS;
use super::super::resources::{Holder, validate_requirements};
use super::mounts::{self, Volumes};
use super::{env, handlers, security};
use crate::api::{FieldError, FieldPath, names, pod};
use crate::registry::checks::{invalid, invalid_number, one_of, present, required, to_value};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartRule, EphemeralContainer,
};
use std::collections::BTreeSet;

const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";

/// What the containers of one pod share.
pub(super) struct Surroundings<'a> {
    pub volumes: Volumes<'a>,
    /// Names of the pod's resource claims.
    pub claims: Vec<&'a str>,
    pub restart_policy: &'a str,
    pub grace_seconds: Option<i64>,
    pub shares_users: bool,
    pub os: Option<&'a str>,
}

impl Surroundings<'_> {
    fn setting(&self) -> handlers::Setting<'_> {
        handlers::Setting { grace_seconds: self.grace_seconds, os: self.os }
    }
}

pub(super) fn validate(
    containers: &[Container],
    around: &Surroundings<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    if containers.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        errors.extend(validate_container(container, around, &path));
        if !seen.insert(&container.name) {
            errors.push(FieldError::duplicate(&path.child("name"), container.name.as_str()));
        }
        errors.extend(handlers::validate(container, around.setting(), &path));
        errors.extend(validate_restarts(container, &path));
    }
    errors.extend(validate_host_ports(containers, path));
    errors
}

pub(super) fn validate_init(
    init_containers: &[Container],
    containers: &[Container],
    around: &Surroundings<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: BTreeSet<_> = containers.iter().map(|container| &container.name).collect();
    for (index, container) in init_containers.iter().enumerate() {
        let own = path.index(index);
        errors.extend(validate_container(container, around, &own));
        errors.extend(validate_init_restarts(container, &own));
        if !seen.insert(&container.name) && !container.name.is_empty() {
            errors.push(FieldError::duplicate(&own.child("name"), container.name.as_str()));
        }
        // They run one after another, so each has the host's ports for itself.
        errors.extend(validate_host_ports(std::slice::from_ref(container), path));
        if pod::is_sidecar(container) {
            errors.extend(handlers::validate(container, around.setting(), &own));
            continue;
        }
        let detail = "may not be set for init containers without restartPolicy=Always";
        for (field, is_set) in [
            ("lifecycle", container.lifecycle.is_some()),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
        ] {
            if is_set {
                errors.push(FieldError::forbidden(&own.child(field), detail));
            }
        }
    }
    errors
}

pub(super) fn validate_ephemeral(
    ephemeral: &[EphemeralContainer],
    others: &[&Container],
    around: &Surroundings<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let other_names: BTreeSet<_> = others.iter().map(|container| &container.name).collect();
    let mut seen = other_names.clone();
    for (index, one) in ephemeral.iter().enumerate() {
        let path = path.index(index);
        let container = pod::as_container(one);
        errors.extend(validate_container(&container, around, &path));
        errors.extend(validate_padding(&container, &path));
        if !seen.insert(&one.name) {
            errors.push(FieldError::duplicate(&path.child("name"), one.name.as_str()));
        }
        let target = one.target_container_name.as_ref().filter(|name| !name.is_empty());
        if let Some(target) = target.filter(|name| !other_names.contains(name)) {
            let path = path.child("targetContainerName");
            errors.push(FieldError::not_found(&path, target.as_str()));
        }
        errors.extend(validate_ephemeral_fields(one, &path));
    }
    errors
}

/// Ephemeral containers are for looking, not for serving: they come too late for the rest.
fn validate_ephemeral_fields(one: &EphemeralContainer, path: &FieldPath) -> Vec<FieldError> {
    let resources = one.resources.clone().unwrap_or_default();
    let mut errors = Vec::new();
    for (field, is_set) in [
        ("ports", one.ports.as_ref().is_some_and(|ports| !ports.is_empty())),
        ("resources", resources != Default::default()),
        ("resizePolicy", one.resize_policy.as_ref().is_some_and(|list| !list.is_empty())),
        ("restartPolicy", one.restart_policy.is_some()),
        ("restartPolicyRules", one.restart_policy_rules.is_some()),
        ("livenessProbe", one.liveness_probe.is_some()),
        ("readinessProbe", one.readiness_probe.is_some()),
        ("startupProbe", one.startup_probe.is_some()),
        ("lifecycle", one.lifecycle.is_some()),
    ] {
        if is_set {
            errors.push(FieldError::forbidden(&path.child(field), NOT_EPHEMERAL));
        }
    }
    for (index, mount) in one.volume_mounts.iter().flatten().enumerate() {
        let path = path.child("volumeMounts").index(index);
        for (field, value) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)]
        {
            if value.as_ref().is_some_and(|value| !value.is_empty()) {
                errors.push(FieldError::forbidden(&path.child(field), NOT_EPHEMERAL));
            }
        }
    }
    errors
}

/// What is checked of containers of every kind (upstream `validateContainerCommon`).
fn validate_container(
    container: &Container,
    around: &Surroundings<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = required(&path.child("name"), &container.name, names::dns1123_label);
    errors.extend(present(&path.child("image"), container.image.as_deref()));
    let policy_path = path.child("terminationMessagePolicy");
    errors.extend(match container.termination_message_policy.as_deref().unwrap_or_default() {
        "" => Some(FieldError::required(&policy_path, "")),
        policy => one_of(&policy_path, policy, &["FallbackToLogsOnError", "File"]),
    });
    let ports = container.ports.as_deref().unwrap_or_default();
    errors.extend(validate_ports(ports, &path.child("ports")));
    let variables = container.env.as_deref().unwrap_or_default();
    errors.extend(env::validate(variables, &path.child("env")));
    let sources = container.env_from.as_deref().unwrap_or_default();
    errors.extend(env::validate_from(sources, &path.child("envFrom")));
    errors.extend(mounts::validate(container, &around.volumes, path));
    let pull_policy = container.image_pull_policy.as_deref().unwrap_or_default();
    errors.extend(validate_pull_policy(pull_policy, &path.child("imagePullPolicy")));
    if let Some(resources) = &container.resources {
        let path = path.child("resources");
        errors.extend(validate_requirements(resources, Holder::Container, &around.claims, &path));
    }
    let resizes = container.resize_policy.as_deref().unwrap_or_default();
    let resize_path = path.child("resizePolicy");
    errors.extend(validate_resizes(resizes, around.restart_policy, &resize_path));
    if let Some(context) = &container.security_context {
        let path = path.child("securityContext");
        errors.extend(security::validate_container(context, around.shares_users, &path));
    }
    errors
}

/// A Pod's images, unlike those of templates, are taken literally.
pub(in crate::registry::kinds::core) fn validate_padding(
    container: &Container,
    path: &FieldPath,
) -> Option<FieldError> {
    let image = container.image.as_deref().unwrap_or_default();
    let detail = "must not have leading or trailing whitespace";
    (image.trim() != image).then(|| FieldError::invalid(&path.child("image"), image, detail))
}

pub(super) fn validate_pull_policy(policy: &str, path: &FieldPath) -> Option<FieldError> {
    match policy {
        "" => Some(FieldError::required(path, "")),
        policy => one_of(path, policy, &["Always", "IfNotPresent", "Never"]),
    }
}

fn validate_ports(ports: &[ContainerPort], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let problems = names::port_name(name);
            if problems.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            errors.extend(invalid(&path.child("name"), name, problems));
        }
        let number_path = path.child("containerPort");
        if port.container_port == 0 {
            errors.push(FieldError::required(&number_path, ""));
        } else {
            errors.extend(invalid_number(&number_path, port.container_port, names::port_number));
        }
        if let Some(number) = port.host_port.filter(|number| *number != 0) {
            errors.extend(invalid_number(&path.child("hostPort"), number, names::port_number));
        }
        let protocol_path = path.child("protocol");
        match port.protocol.as_deref().unwrap_or_default() {
            "" => errors.push(FieldError::required(&protocol_path, "")),
            protocol => errors.extend(one_of(&protocol_path, protocol, PROTOCOLS)),
        }
    }
    errors
}

/// Containers that run together cannot share a port of the host.
fn validate_host_ports(containers: &[Container], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0) else {
                continue;
            };
            let protocol = port.protocol.as_deref().unwrap_or_default();
            let address = port.host_ip.as_deref().unwrap_or_default();
            let key = format!("{protocol}/{address}/{number}");
            if !taken.insert(key.clone()) {
                let path = path.index(index).child("ports").index(port_index).child("hostPort");
                errors.push(FieldError::duplicate(&path, key));
            }
        }
    }
    errors
}

fn validate_resizes(
    policies: &[ContainerResizePolicy],
    restart_policy: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let (name, action) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.index(index), name));
        }
        for (value, known) in
            [(name, ["cpu", "memory"]), (action, ["NotRequired", "RestartContainer"])]
        {
            errors.extend(match value {
                "" => Some(FieldError::required(path, "")),
                value => one_of(path, value, &known),
            });
        }
        if restart_policy == "Never" && action != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, action, detail));
        }
    }
    errors
}

/// A container's own policy for restarts (upstream `validateContainerRestartPolicy`).
fn validate_restarts(container: &Container, path: &FieldPath) -> Vec<FieldError> {
    let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
    let policy_path = path.child("restartPolicy");
    let mut errors = Vec::new();
    match container.restart_policy.as_deref() {
        None if rules.is_empty() => return errors,
        None => {
            let detail = "must specify restartPolicy when restart rules are used";
            errors.push(FieldError::required(&policy_path, detail));
        }
        Some(policy) => {
            errors.extend(one_of(&policy_path, policy, &["Always", "Never", "OnFailure"]));
        }
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.push(FieldError::too_long(&path, RESTART_RULES_MAX));
    }
    for (index, rule) in rules.iter().enumerate() {
        errors.extend(validate_restart_rule(rule, &path.index(index)));
    }
    errors
}

fn validate_restart_rule(rule: &ContainerRestartRule, path: &FieldPath) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        one_of(&path.child("action"), &rule.action, &["Restart"]).into_iter().collect();
    let path = path.child("exitCodes");
    let Some(codes) = &rule.exit_codes else {
        errors.push(FieldError::required(&path, "must be specified"));
        return errors;
    };
    errors.extend(one_of(&path.child("operator"), &codes.operator, &["In", "NotIn"]));
    if codes.values.as_ref().is_some_and(|values| values.len() > EXIT_CODES_MAX) {
        errors.push(FieldError::too_long(&path.child("values"), EXIT_CODES_MAX));
    }
    errors
}

/// Init containers end before the others start; one that is always restarted is a sidecar.
fn validate_init_restarts(container: &Container, path: &FieldPath) -> Vec<FieldError> {
    let has_rules = container.restart_policy_rules.as_ref().is_some_and(|rules| !rules.is_empty());
    match container.restart_policy.as_deref() {
        None => Vec::new(),
        Some("Always") if has_rules => {
            let detail =
                "restartPolicyRules are not allowed for init containers with restart policy Always";
            vec![FieldError::forbidden(&path.child("restartPolicyRules"), detail)]
        }
        Some("Always") => Vec::new(),
        Some(_) => validate_restarts(container, path),
    }
}

/// Where the pod has the host's network, the port of a container is the host's. In a template it
/// may be left out.
pub(super) fn validate_host_network(
    containers: &[Container],
    of_pod: bool,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in container.ports.iter().flatten().enumerate() {
            let host_port = port.host_port.unwrap_or_default();
            let is_left_out = host_port == 0 && !of_pod;
            if host_port != port.container_port && !is_left_out {
                let path = path.index(index).child("ports").index(port_index).child("hostPort");
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(&path, to_value(&host_port), detail));
            }
        }
    }
    errors
}
