//! What whoever writes a pod, or the template of one, is told: upstream `GetWarningsForPod` and
//! `GetWarningsForPodTemplate` (pkg/api/pod/warnings.go, v1.35).
//!
//! Start at [`warnings`]. What is listed by upstream's maps in any order is told in that of the keys.

mod containers;
mod nodes;
mod paths;
#[cfg(test)]
mod tests;

pub(in crate::registry::kinds) use nodes::{deprecated_label, of_term};

use super::super::claim_spec;
use crate::api::{FieldPath, Quantity, names};
use crate::registry::checks::ip_warning;
use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodSpec, PodTemplateSpec, Volume, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Field;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// Annotations that have become fields.
const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";
const NEGATIVE_GRACE: &str = "must be >= 0; negative values are invalid and will be treated as 1";

/// Of a pod whose fields begin at `root`.
pub(in crate::registry::kinds) fn warnings(
    spec: &PodSpec,
    metadata: Option<&ObjectMeta>,
    root: &FieldPath,
) -> Vec<String> {
    let path = root.child("spec");
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    let mut warnings = nodes::of_spec(spec, &path);
    spread(spec, &path, &mut warnings);
    annotated(spec, annotations, root, &mut warnings);
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        of_volume(volume, &path.child("volumes").index(index), &mut warnings);
    }
    warnings.extend(paths::overlaps(spec.volumes.as_deref().unwrap_or_default()));
    repeated(spec, &path, &mut warnings);
    for name in ["memory", "ephemeral-storage"] {
        warnings.extend(fraction(spec.overhead.as_ref(), name, &path.child("overhead")));
    }
    containers::warnings(spec, annotations, root, &mut warnings);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        warnings.push(format!("{}: {NEGATIVE_GRACE}", path.child("terminationGracePeriodSeconds")));
    }
    if let Some(affinity) = &spec.affinity {
        of_affinity(affinity, &path.child("affinity"), &mut warnings);
    }
    addresses(spec, &path, &mut warnings);
    warnings
}

/// Of the template at `path`.
pub(in crate::registry::kinds) fn template_warnings(
    template: &PodTemplateSpec,
    path: &FieldPath,
) -> Vec<String> {
    let of_spec = |spec| warnings(spec, template.metadata.as_ref(), path);
    template.spec.as_ref().map(of_spec).unwrap_or_default()
}

/// Of a workload and its template: all where it is new, and what is wanted now where that has
/// changed.
pub(in crate::registry::kinds) fn workload_warnings(
    (metadata, old): (&ObjectMeta, Option<&ObjectMeta>),
    template: Option<&PodTemplateSpec>,
    path: &FieldPath,
) -> Vec<String> {
    if old.is_some_and(|old| old.generation == metadata.generation) {
        return Vec::new();
    }
    template.map(|template| template_warnings(template, path)).unwrap_or_default()
}

/// As [`workload_warnings`], where the workload's name becomes part of those of its pods.
pub(in crate::registry::kinds) fn named_workload_warnings(
    (metadata, old): (&ObjectMeta, Option<&ObjectMeta>),
    template: Option<&PodTemplateSpec>,
    path: &FieldPath,
) -> Vec<String> {
    let name = workload_name_warning(metadata).filter(|_| old.is_none());
    name.into_iter().chain(workload_warnings((metadata, old), template, path)).collect()
}

/// A name that becomes part of host names and is none itself.
pub(in crate::registry::kinds) fn name_warning(
    metadata: &ObjectMeta,
    used_in: &str,
) -> Option<String> {
    let problems = names::dns1123_label(metadata.name.as_deref().unwrap_or_default());
    (!problems.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a \
             DNS label is recommended: [{}]",
            problems.join(" ")
        )
    })
}

/// Of the name of a workload.
pub(in crate::registry::kinds) fn workload_name_warning(metadata: &ObjectMeta) -> Option<String> {
    name_warning(metadata, "Pod names and hostnames")
}

/// An amount of bytes that is no whole number of them.
pub(in crate::registry::kinds) fn fraction(
    amounts: Option<&BTreeMap<String, Field>>,
    name: &str,
    path: &FieldPath,
) -> Option<String> {
    let amount = Quantity::of(amounts?.get(name)?);
    (amount.milli_units() % 1000 != 0).then(|| {
        format!(
            "{}: fractional byte value {:?} is invalid, must be an integer",
            path.key(name),
            amount.to_field().0
        )
    })
}

fn spread(spec: &PodSpec, path: &FieldPath, warnings: &mut Vec<String>) {
    for (index, constraint) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = &constraint.topology_key;
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if constraint.label_selector.is_none() {
            warnings.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
        }
    }
}

fn annotated(
    spec: &PodSpec,
    annotations: Option<&BTreeMap<String, String>>,
    root: &FieldPath,
    warnings: &mut Vec<String>,
) {
    let Some(annotations) = annotations else { return };
    let path = root.child("metadata").child("annotations");
    let old = ANNOTATIONS.iter().filter(|(key, _)| annotations.contains_key(*key));
    warnings.extend(old.map(|(key, message)| format!("{}: {message}", path.key(key))));
    let profile = spec.security_context.as_ref().and_then(|it| it.seccomp_profile.as_ref());
    if profile.is_none() && annotations.contains_key(SECCOMP_OF_POD) {
        warnings.push(format!("{}: {}", path.key(SECCOMP_OF_POD), containers::USE_SECCOMP_FIELD));
    }
}

fn of_volume(volume: &Volume, path: &FieldPath, warnings: &mut Vec<String>) {
    let gone = [
        (
            "photonPersistentDisk",
            volume.photon_persistent_disk.is_some(),
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            "gitRepo",
            volume.git_repo.is_some(),
            "deprecated in v1.11, and disabled by default in v1.33+",
        ),
        ("scaleIO", volume.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
        ("flocker", volume.flocker.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("storageOS", volume.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("quobyte", volume.quobyte.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", volume.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
        ("cephfs", volume.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        ("rbd", volume.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let used = gone.into_iter().filter(|(_, is_used, _)| *is_used);
    warnings.extend(used.map(|(name, _, message)| format!("{}: {message}", path.child(name))));
    let template = volume.ephemeral.as_ref().and_then(|it| it.volume_claim_template.as_ref());
    if let Some(template) = template {
        let path = path.child("ephemeral").child("volumeClaimTemplate").child("spec");
        warnings.extend(claim_spec::warnings(&template.spec, &path));
    }
}

fn repeated(spec: &PodSpec, path: &FieldPath, warnings: &mut Vec<String>) {
    let mut known = BTreeSet::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if !known.insert(&alias.ip) {
            let path = path.child("hostAliases").index(index).child("ip");
            warnings.push(format!("{path}: duplicate ip {:?}", alias.ip));
        }
    }
    let path = path.child("imagePullSecrets");
    let mut known = BTreeSet::new();
    let (mut twice, mut empty) = (Vec::new(), Vec::new());
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        if !known.insert(&secret.name) {
            twice.push(format!("{path}: duplicate name {:?}", secret.name));
        }
        if secret.name.is_empty() {
            empty.push(format!("{path}: invalid empty name \"\""));
        }
    }
    warnings.extend(twice);
    warnings.extend(empty);
}

fn of_affinity(affinity: &Affinity, path: &FieldPath, warnings: &mut Vec<String>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let mut told = |required: Option<&Vec<PodAffinityTerm>>,
                    preferred: Option<&Vec<WeightedPodAffinityTerm>>,
                    path: &FieldPath| {
        for (index, term) in required.into_iter().flatten().enumerate() {
            if term.label_selector.is_none() {
                let path = path.child(REQUIRED).index(index).child("labelSelector");
                warnings.push(format!("{path}: {NULL_SELECTOR}"));
            }
        }
        for (index, term) in preferred.into_iter().flatten().enumerate() {
            if term.pod_affinity_term.label_selector.is_none() {
                let path = path.child(PREFERRED).index(index).child("podAffinityTerm");
                warnings.push(format!("{}: {NULL_SELECTOR}", path.child("labelSelector")));
            }
        }
    };
    if let Some(near) = &affinity.pod_affinity {
        let required = near.required_during_scheduling_ignored_during_execution.as_ref();
        let preferred = near.preferred_during_scheduling_ignored_during_execution.as_ref();
        told(required, preferred, &path.child("podAffinity"));
    }
    if let Some(far) = &affinity.pod_anti_affinity {
        let required = far.required_during_scheduling_ignored_during_execution.as_ref();
        let preferred = far.preferred_during_scheduling_ignored_during_execution.as_ref();
        told(required, preferred, &path.child("podAntiAffinity"));
    }
}

fn addresses(spec: &PodSpec, path: &FieldPath, warnings: &mut Vec<String>) {
    let servers = spec.dns_config.iter().flat_map(|dns| dns.nameservers.iter().flatten());
    let of_servers = path.child("dnsConfig").child("nameservers");
    for (index, server) in servers.enumerate() {
        warnings.extend(ip_warning(&of_servers.index(index), server));
    }
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let path = path.child("hostAliases").index(index).child("ip");
        warnings.extend(ip_warning(&path, &alias.ip));
    }
}
