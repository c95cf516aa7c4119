//! What may be wrong with a pod spec.
//!
//! Follows upstream `ValidatePodSpec` (pkg/apis/core/validation, v1.35); the parts are in the
//! files beside this one.

use super::super::resources::{Holder, validate_overhead, validate_requirements};
use super::super::taints::validate_tolerations;
use super::containers::{self, Surroundings};
use super::{affinity, dns, security, volumes};
use crate::api::{FieldError, FieldPath, Quantity, names, pod};
use crate::registry::checks::{self, invalid, one_of, repeated, to_value};
use crate::registry::metadata;
use k8s_openapi::api::core::v1::{Container, PodResourceClaim, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

pub(in crate::registry::kinds) fn validate_template(
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Vec<FieldError> {
    let own = template.metadata.clone().unwrap_or_default();
    let annotations_path = path.child("annotations");
    let mut errors = checks::labels(own.labels.as_ref(), &path.child("labels"));
    errors.extend(metadata::validate_annotations(own.annotations.as_ref(), &annotations_path));
    let spec = template.spec.clone().unwrap_or_default();
    errors.extend(super::super::pod::validate_annotations(&own, &spec, &annotations_path));
    let spec_path = path.child("spec");
    errors.extend(validate(&spec, None, &spec_path));
    if spec.ephemeral_containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let path = spec_path.child("ephemeralContainers");
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&path, detail));
    }
    errors
}

/// `pod` is the metadata of the pod, absent where the spec is a template's.
pub(in crate::registry::kinds) fn validate(
    spec: &PodSpec,
    pod: Option<&ObjectMeta>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.termination_grace_period_seconds.is_none() {
        errors.push(FieldError::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let all_volumes = spec.volumes.as_deref().unwrap_or_default();
    let (good_volumes, of_volumes) = volumes::validate(all_volumes, pod, &path.child("volumes"));
    errors.extend(of_volumes);
    let claims = spec.resource_claims.as_deref().unwrap_or_default();
    errors.extend(validate_claims(claims, &path.child("resourceClaims")));
    let around = Surroundings {
        volumes: good_volumes,
        claims: claims.iter().map(|claim| claim.name.as_str()).collect(),
        restart_policy: spec.restart_policy.as_deref().unwrap_or_default(),
        grace_seconds: spec.termination_grace_period_seconds,
        shares_users: spec.host_users.unwrap_or(true),
        os: spec.os.as_ref().map(|os| os.name.as_str()),
    };
    errors.extend(validate_containers(spec, &around, path));
    errors.extend(validate_pod_resources(spec, &around.claims, path));
    if spec.host_network == Some(true) {
        let containers_path = path.child("containers");
        errors.extend(containers::validate_host_network(
            &spec.containers,
            pod.is_some(),
            &containers_path,
        ));
    }
    errors.extend(validate_policies(spec, path));
    errors.extend(validate_placement(spec, path));
    errors.extend(validate_host_users(spec, path));
    errors.extend(dns::validate_names(spec, path));
    errors.extend(validate_references(spec, path));
    errors.extend(validate_os(spec, path));
    errors.extend(validate_file_volumes(spec, path));
    errors
}

fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

/// Every container that is there from the start, with where it is.
fn all_containers<'a>(
    spec: &'a PodSpec,
    path: &FieldPath,
) -> impl Iterator<Item = (&'a Container, FieldPath)> {
    let lists = [("initContainers", init_containers(spec)), ("containers", &spec.containers[..])];
    let path = path.clone();
    lists.into_iter().flat_map(move |(field, list)| {
        let path = path.child(field);
        list.iter().enumerate().map(move |(index, container)| (container, path.index(index)))
    })
}

fn validate_containers(
    spec: &PodSpec,
    around: &Surroundings<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let init = init_containers(spec);
    let mut errors = containers::validate(&spec.containers, around, &path.child("containers"));
    let init_path = path.child("initContainers");
    errors.extend(containers::validate_init(init, &spec.containers, around, &init_path));
    let others: Vec<_> = spec.containers.iter().chain(init).collect();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let ephemeral_path = path.child("ephemeralContainers");
    errors.extend(containers::validate_ephemeral(ephemeral, &others, around, &ephemeral_path));
    errors
}

fn validate_claims(claims: &[PodResourceClaim], path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let is_repeated = repeated(claims.iter().map(|claim| &claim.name));
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name_path = path.child("name");
        if claim.name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        } else if is_repeated[index] {
            errors.push(FieldError::duplicate(&name_path, claim.name.as_str()));
        } else {
            errors.extend(invalid(&name_path, &claim.name, names::dns1123_label(&claim.name)));
        }
        let references = [
            ("resourceClaimName", claim.resource_claim_name.as_deref()),
            ("resourceClaimTemplateName", claim.resource_claim_template_name.as_deref()),
        ];
        let detail = match references {
            [(_, Some(_)), (_, Some(_))] => Some(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            [(_, None), (_, None)] => {
                Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
            }
            _ => None,
        };
        errors.extend(detail.map(|detail| FieldError::invalid(&path, to_value(claim), detail)));
        for (field, name) in references {
            if let Some(name) = name {
                errors.extend(invalid(&path.child(field), name, names::dns1123_subdomain(name)));
            }
        }
    }
    errors
}

/// What the pod as a whole asks for (upstream `validatePodResources`).
fn validate_pod_resources(spec: &PodSpec, claims: &[&str], path: &FieldPath) -> Vec<FieldError> {
    let Some(resources) = &spec.resources else {
        return Vec::new();
    };
    let path = path.child("resources");
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return vec![FieldError::forbidden(&path, "may not be set for a windows pod")];
    }
    let mut errors = Vec::new();
    if resources.claims.is_some() {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    errors.extend(validate_requirements(resources, Holder::Pod, claims, &path));
    let requests = pod::amounts(resources.requests.as_ref());
    let limits = pod::amounts(resources.limits.as_ref());
    for (name, total) in pod::container_requests(spec) {
        if let Some(request) = requests.get(&name).filter(|request| total > **request) {
            let path = path.child("requests").key(&name);
            errors.push(below_total(&path, *request, "requests", total));
        }
    }
    for (name, total) in pod::container_limits(spec) {
        let limit = limits.get(&name).filter(|limit| total > **limit);
        if let Some(limit) = limit.filter(|_| name.starts_with("hugepages-")) {
            errors.push(below_total(&path.child("limits").key(&name), *limit, "limits", total));
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let own = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for (name, own) in pod::amounts(own) {
            if let Some(limit) = limits.get(&name).filter(|limit| own > **limit) {
                let path = path.child("containers").index(index).key(&name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {limit}");
                errors.push(FieldError::invalid(&path, own.to_string(), detail));
            }
        }
    }
    errors
}

fn below_total(path: &FieldPath, amount: Quantity, what: &str, total: Quantity) -> FieldError {
    let detail = format!("must be greater than or equal to aggregate container {what} of {total}");
    FieldError::invalid(path, amount.to_string(), detail)
}

fn validate_policies(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let restart_path = path.child("restartPolicy");
    let mut errors = Vec::new();
    errors.extend(match spec.restart_policy.as_deref().unwrap_or_default() {
        "" => Some(FieldError::required(&restart_path, "")),
        policy => one_of(&restart_path, policy, &["Always", "Never", "OnFailure"]),
    });
    errors.extend(dns::validate_policy(spec, &path.child("dnsPolicy")));
    errors.extend(checks::labels(spec.node_selector.as_ref(), &path.child("nodeSelector")));
    errors.extend(security::validate_pod(spec, &path.child("securityContext")));
    errors
}

fn validate_placement(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(wanted) = &spec.affinity {
        errors.extend(affinity::validate(wanted, &path.child("affinity")));
    }
    errors.extend(dns::validate_config(spec, &path.child("dnsConfig")));
    for (index, gate) in spec.readiness_gates.iter().flatten().enumerate() {
        let path = path.child("readinessGates").index(index).child("conditionType");
        let kind = gate.condition_type.as_str();
        errors.extend(invalid(&path, kind, names::qualified_name(kind)));
    }
    let gates = spec.scheduling_gates.as_deref().unwrap_or_default();
    let is_repeated = repeated(gates.iter().map(|gate| &gate.name));
    for (index, gate) in gates.iter().enumerate() {
        let path = path.child("schedulingGates").index(index);
        errors.extend(invalid(&path, &gate.name, names::qualified_name(&gate.name)));
        if is_repeated[index] {
            errors.push(FieldError::duplicate(&path, gate.name.as_str()));
        }
    }
    let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    let spread_path = path.child("topologySpreadConstraints");
    errors.extend(affinity::validate_spread(constraints, &spread_path));
    errors
}

/// A pod with users of its own shares nothing else with the host.
fn validate_host_users(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    if spec.host_users != Some(false) {
        return Vec::new();
    }
    let detail = "when `hostUsers` is false";
    let mut errors = Vec::new();
    for (field, is_shared) in [
        ("hostNetwork", spec.host_network == Some(true)),
        ("HostPID", spec.host_pid == Some(true)),
        ("HostIPC", spec.host_ipc == Some(true)),
    ] {
        if is_shared {
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    let has_devices = |container: &Container| {
        container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty())
    };
    for (_, path) in all_containers(spec, path).filter(|(container, _)| has_devices(container)) {
        errors.push(FieldError::forbidden(&path.child("volumeDevices"), detail));
    }
    errors
}

/// Names of other objects, and what is left.
fn validate_references(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (field, name) in [
        ("serviceAccountName", spec.service_account_name.as_deref()),
        ("nodeName", spec.node_name.as_deref()),
    ] {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            errors.extend(invalid(&path.child(field), name, names::dns1123_subdomain(name)));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds {
        let in_range = |value| names::in_range(value, 1, i64::from(i32::MAX));
        let path = path.child("activeDeadlineSeconds");
        errors.extend(checks::invalid_number(&path, seconds, in_range));
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    errors.extend(validate_tolerations(tolerations, &path.child("tolerations")));
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    errors.extend(dns::validate_aliases(aliases, &path.child("hostAliases")));
    for (field, name) in [
        ("priorityClassName", spec.priority_class_name.as_deref().filter(|name| !name.is_empty())),
        ("runtimeClassName", spec.runtime_class_name.as_deref()),
    ] {
        if let Some(name) = name {
            errors.extend(invalid(&path.child(field), name, names::dns1123_subdomain(name)));
        }
    }
    let policy_path = path.child("preemptionPolicy");
    errors.extend(match spec.preemption_policy.as_deref() {
        None => None,
        Some("") => Some(FieldError::required(&policy_path, "")),
        Some(policy) => one_of(&policy_path, policy, &["Never", "PreemptLowerPriority"]),
    });
    errors.extend(validate_overhead(spec.overhead.as_ref(), &path.child("overhead")));
    errors
}

fn validate_os(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let Some(os) = &spec.os else {
        return Vec::new();
    };
    let os_path = path.child("os");
    match os.name.as_str() {
        "" => vec![FieldError::required(&os_path.child("name"), "")],
        "linux" => validate_linux(spec, path),
        // Nothing here runs such pods: what upstream checks of them is left to those who do.
        "windows" => Vec::new(),
        other => vec![FieldError::not_supported(&os_path, other, &["linux", "windows"])],
    }
}

fn validate_linux(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let detail = "windows options cannot be set for a linux pod";
    let forbidden = |path: FieldPath| {
        FieldError::forbidden(&path.child("securityContext").child("windowsOptions"), detail)
    };
    let security = spec.security_context.as_ref();
    let of_pod = security.is_some_and(|security| security.windows_options.is_some());
    let mut errors: Vec<_> = of_pod.then(|| forbidden(path.clone())).into_iter().collect();
    let has_options = |container: &Container| {
        let security = container.security_context.as_ref();
        security.is_some_and(|security| security.windows_options.is_some())
    };
    let wrong = all_containers(spec, path).filter(|(container, _)| has_options(container));
    errors.extend(wrong.map(|(_, path)| forbidden(path)));
    errors
}

/// Variables can be read from files that containers share, which are in an `emptyDir`.
fn validate_file_volumes(spec: &PodSpec, path: &FieldPath) -> Vec<FieldError> {
    let volumes = spec.volumes.as_deref().unwrap_or_default();
    let names: BTreeSet<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
    let without_directory: BTreeSet<_> = volumes
        .iter()
        .filter(|volume| volume.empty_dir.is_none())
        .map(|volume| volume.name.as_str())
        .collect();
    let mut errors = Vec::new();
    for (container, path) in all_containers(spec, path) {
        for (index, variable) in container.env.iter().flatten().enumerate() {
            let source = variable.value_from.as_ref();
            let Some(file) = source.and_then(|source| source.file_key_ref.as_ref()) else {
                continue;
            };
            let path = path.child("env").index(index).child("valueFrom").child("fileKeyRef");
            let path = path.child("volumeName");
            let name = file.volume_name.as_str();
            if without_directory.contains(name) {
                let detail = "referenced volume must be of type emptyDir";
                errors.push(FieldError::invalid(&path, name, detail));
            } else if !names.contains(name) {
                errors.push(FieldError::not_found(&path, name));
            }
        }
    }
    errors
}
