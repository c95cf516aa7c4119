//! Where the data of a volume is.
//!
//! Of sources that no driver in the tree serves any more, only the required fields are checked.

use super::super::podspec;
use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::{present, required, to_value};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, ISCSIPersistentVolumeSource, LocalVolumeSource,
    PersistentVolumeSpec, SecretReference, Volume,
};

/// Every source, in the order in which the first of several is taken.
pub(super) const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

const MOUNT_OPTION_SOURCES: &[&str] = &[
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

/// Names of volume and portal together, where an initiator is named.
const ISCSI_NAME_BYTES_MAX: usize = 64;

pub(super) fn apply_defaults(spec: &mut PersistentVolumeSpec) {
    let fill = |field: &mut Option<String>, default: &str| {
        field.take_if(|text| text.is_empty());
        field.get_or_insert_with(|| default.to_owned());
    };
    if let Some(source) = &mut spec.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(rbd) = &mut spec.rbd {
        fill(&mut rbd.pool, "rbd");
        fill(&mut rbd.user, "admin");
        fill(&mut rbd.keyring, "/etc/ceph/keyring");
    }
    if let Some(iscsi) = &mut spec.iscsi {
        fill(&mut iscsi.iscsi_interface, "default");
    }
    if let Some(disk) = &mut spec.azure_disk {
        fill(&mut disk.caching_mode, "ReadWrite");
        fill(&mut disk.fs_type, "ext4");
        fill(&mut disk.kind, "Shared");
        disk.read_only.get_or_insert(false);
    }
    if let Some(scale_io) = &mut spec.scale_io {
        fill(&mut scale_io.storage_mode, "ThinProvisioned");
        fill(&mut scale_io.fs_type, "xfs");
    }
}

/// Whether the driver of this source mounts with options.
pub(super) fn take_mount_options(spec: &PersistentVolumeSpec) -> bool {
    let value = to_value(spec);
    MOUNT_OPTION_SOURCES.iter().any(|source| value.get(source).is_some())
}

pub(super) fn validate(
    spec: &PersistentVolumeSpec,
    name: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let value = to_value(spec);
    let mut given = SOURCES.iter().filter(|source| value.get(source).is_some());
    let Some(first) = given.next() else {
        return vec![FieldError::required(path, "must specify a volume type")];
    };
    let mut errors = validate_one(first, spec, name, path);
    if errors.is_empty() {
        errors.extend(podspec::validate_required_fields(first, &value[first], path));
    }
    let detail = "may not specify more than 1 volume type";
    errors.extend(given.map(|source| FieldError::forbidden(&path.child(source), detail)));
    errors
}

fn validate_one(
    source: &str,
    spec: &PersistentVolumeSpec,
    name: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let own = path.child(source);
    let errors = match source {
        "hostPath" => spec.host_path.as_ref().map(|one| podspec::validate_host_path(one, &own)),
        "nfs" => spec.nfs.as_ref().map(|one| podspec::validate_nfs(one, &own)),
        "iscsi" => spec.iscsi.as_ref().map(|one| validate_iscsi(one, name, &own)),
        "local" => spec.local.as_ref().map(|one| {
            let mut errors = validate_local(one, &own);
            if spec.node_affinity.is_none() {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required(&path.child("nodeAffinity"), detail));
            }
            errors
        }),
        "csi" => spec.csi.as_ref().map(|one| validate_csi(one, &own)),
        "flocker" | "fc" => {
            let flocker = spec.flocker.clone();
            let volume = Volume { flocker, fc: spec.fc.clone(), ..Volume::default() };
            podspec::validate_disjoint_fields(&volume, source, &own)
        }
        _ => None,
    };
    errors.unwrap_or_default()
}

fn validate_local(source: &LocalVolumeSource, path: &FieldPath) -> Vec<FieldError> {
    let path = path.child("path");
    match source.path.as_str() {
        "" => vec![FieldError::required(&path, "")],
        text => podspec::no_backsteps(text, &path).into_iter().collect(),
    }
}

fn validate_iscsi(
    source: &ISCSIPersistentVolumeSource,
    name: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("targetPortal"), Some(&source.target_portal)));
    let bytes = name.len() + 1 + source.target_portal.len();
    if source.initiator_name.is_some() && bytes > ISCSI_NAME_BYTES_MAX {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        let path = path.child("targetportal");
        errors.push(FieldError::invalid(&path, source.target_portal.as_str(), detail));
    }
    errors.extend(present(&path.child("iqn"), Some(&source.iqn)));
    if !(0..=255).contains(&source.lun) {
        let detail = "must be between 0 and 255, inclusive";
        errors.push(FieldError::invalid(&path.child("lun"), source.lun, detail));
    }
    let asks_secret =
        source.chap_auth_discovery == Some(true) || source.chap_auth_session == Some(true);
    let secret_path = path.child("secretRef");
    match &source.secret_ref {
        None if asks_secret => errors.push(FieldError::required(&secret_path, "")),
        None => {}
        Some(secret) => errors.extend(present(&secret_path.child("name"), secret.name.as_deref())),
    }
    errors
}

fn validate_csi(source: &CSIPersistentVolumeSource, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = podspec::validate_driver_name(&source.driver, &path.child("driver"));
    errors.extend(present(&path.child("volumeHandle"), Some(&source.volume_handle)));
    for (field, secret) in [
        ("controllerPublishSecretRef", &source.controller_publish_secret_ref),
        ("controllerExpandSecretRef", &source.controller_expand_secret_ref),
        ("nodePublishSecretRef", &source.node_publish_secret_ref),
        ("nodeExpandSecretRef", &source.node_expand_secret_ref),
    ] {
        if let Some(secret) = secret {
            errors.extend(validate_secret(secret, &path.child(field)));
        }
    }
    errors
}

/// Upstream `validatePVSecretReference`.
fn validate_secret(secret: &SecretReference, path: &FieldPath) -> Vec<FieldError> {
    let name = secret.name.as_deref().unwrap_or_default();
    let namespace = secret.namespace.as_deref().unwrap_or_default();
    let mut errors = required(&path.child("name"), name, names::dns1123_subdomain);
    errors.extend(required(&path.child("namespace"), namespace, names::dns1123_label));
    errors
}
