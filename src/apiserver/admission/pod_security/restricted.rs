//! What a restricted pod does without beyond the baseline: whatever hardening can take away.

use super::baseline;
use super::checks::{
    Part, Subject, Violation, containers, plural, quoted, setters, sorted, violation,
};
use k8s_openapi::api::core::v1::Volume;
use std::collections::BTreeSet;

pub(super) fn privilege_escalation(subject: &Subject<'_>) -> Option<Violation> {
    let is_off =
        |part: &Part<'_>| part.security.and_then(|it| it.allow_privilege_escalation) == Some(false);
    let bad = subject.bad(|part| !is_off(part));
    if bad.is_empty() {
        return None;
    }
    let by = containers(&bad);
    let detail = format!("{by} must set securityContext.allowPrivilegeEscalation=false");
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privilege_escalation_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { privilege_escalation(subject) }
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    let drops_all = |part: &Part<'_>| {
        let capabilities = part.security.and_then(|it| it.capabilities.as_ref());
        let dropped = capabilities.and_then(|it| it.drop.as_deref()).unwrap_or_default();
        dropped.iter().any(|name| name == "ALL")
    };
    let added = |part: &Part<'_>| -> Vec<String> {
        let capabilities = part.security.and_then(|it| it.capabilities.as_ref());
        let added = capabilities.and_then(|it| it.add.as_deref()).unwrap_or_default();
        added.iter().filter(|name| *name != "NET_BIND_SERVICE").cloned().collect()
    };
    let mut what = Vec::new();
    let keeping = subject.bad(|part| !drops_all(part));
    if !keeping.is_empty() {
        let by = containers(&keeping);
        what.push(format!("{by} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    let adding = subject.bad(|part| !added(part).is_empty());
    if !adding.is_empty() {
        let all: BTreeSet<String> = subject.containers.iter().flat_map(added).collect();
        let (by, all) = (containers(&adding), quoted(&all));
        what.push(format!("{by} must not include {all} in securityContext.capabilities.add"));
    }
    if what.is_empty() { None } else { violation("unrestricted capabilities", what.join("; ")) }
}

pub(super) fn capabilities_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { capabilities(subject) }
}

pub(super) fn volumes(subject: &Subject<'_>) -> Option<Violation> {
    let volumes = subject.spec.volumes.iter().flatten();
    let bad: Vec<(&str, &str)> = volumes
        .filter_map(|volume| Some((volume.name.as_str(), restricted_type(volume)?)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let kinds = sorted(bad.iter().map(|(_, kind)| *kind));
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|(name, _)| *name)),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    violation("restricted volume types", detail)
}

/// `None` for what every pod may have.
fn restricted_type(volume: &Volume) -> Option<&'static str> {
    let is_allowed = volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some();
    if is_allowed {
        return None;
    }
    let kinds = [
        (volume.host_path.is_some(), "hostPath"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (volume.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.rbd.is_some(), "rbd"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.cinder.is_some(), "cinder"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.flocker.is_some(), "flocker"),
        (volume.fc.is_some(), "fc"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (volume.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.storageos.is_some(), "storageos"),
    ];
    let kind = kinds.into_iter().find(|(is_set, _)| *is_set);
    Some(kind.map_or("unknown", |(_, kind)| kind))
}

pub(super) fn non_root(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref().and_then(|it| it.run_as_non_root);
    let of_part = |part: &Part<'_>| part.security.and_then(|it| it.run_as_non_root);
    let by = setters(of_pod == Some(false), &subject.bad(|part| of_part(part) == Some(false)));
    if !by.is_empty() {
        let by = by.join(" and ");
        let detail = format!("{by} must not set securityContext.runAsNonRoot=false");
        return violation("runAsNonRoot != true", detail);
    }
    let silent = subject.bad(|part| of_part(part).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let by = containers(&silent);
    let detail = format!("pod or {by} must set securityContext.runAsNonRoot=true");
    violation("runAsNonRoot != true", detail)
}

pub(super) fn user(subject: &Subject<'_>) -> Option<Violation> {
    let of_pod = subject.spec.security_context.as_ref().and_then(|it| it.run_as_user);
    let bad = subject.bad(|part| part.security.and_then(|it| it.run_as_user) == Some(0));
    let by = setters(of_pod == Some(0), &bad);
    if by.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", by.join(" and ")))
}

pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Violation> {
    if let Some(set) = baseline::seccomp(subject) {
        return Some(set);
    }
    let of_pod = subject.spec.security_context.as_ref().and_then(|it| it.seccomp_profile.as_ref());
    let silent = subject.bad(|part| part.security.is_none_or(|it| it.seccomp_profile.is_none()));
    if of_pod.is_some() || silent.is_empty() {
        return None;
    }
    let by = containers(&silent);
    let detail = format!(
        "pod or {by} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\""
    );
    violation("seccompProfile", detail)
}

pub(super) fn seccomp_25(subject: &Subject<'_>) -> Option<Violation> {
    if subject.is_windows() { None } else { seccomp(subject) }
}
