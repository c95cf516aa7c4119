//! What may be wrong with the volumes that a container mounts.
//!
//! Follows upstream `ValidateVolumeMounts` and `ValidateVolumeDevices` (pkg/apis/core/validation,
//! v1.35).

use super::paths;
use crate::api::{FieldError, FieldPath};
use crate::registry::checks::one_of;
use k8s_openapi::api::core::v1::{Container, Volume, VolumeDevice, VolumeMount};
use std::collections::{BTreeMap, BTreeSet};

/// The pod's volumes by their names.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Volume>;

pub(super) fn validate(
    container: &Container,
    volumes: &Volumes<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = validate_mounts(container, volumes, &path.child("volumeMounts"));
    errors.extend(validate_devices(container, volumes, &path.child("volumeDevices")));
    errors
}

fn mounts(container: &Container) -> &[VolumeMount] {
    container.volume_mounts.as_deref().unwrap_or_default()
}

fn devices(container: &Container) -> &[VolumeDevice] {
    container.volume_devices.as_deref().unwrap_or_default()
}

fn validate_mounts(
    container: &Container,
    volumes: &Volumes<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let devices = devices(container);
    let device_names: BTreeSet<_> = devices.iter().map(|device| &device.name).collect();
    let device_paths: BTreeSet<_> = devices.iter().map(|device| &device.device_path).collect();
    for (index, mount) in mounts(container).iter().enumerate() {
        let mount_path = path.index(index);
        let (name_path, at_path) = (mount_path.child("name"), mount_path.child("mountPath"));
        if mount.name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        }
        if !volumes.contains_key(mount.name.as_str()) {
            errors.push(FieldError::not_found(&name_path, mount.name.as_str()));
        }
        if mount.mount_path.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        }
        if !seen.insert(&mount.mount_path) {
            errors.push(FieldError::invalid(&at_path, mount.mount_path.as_str(), "must be unique"));
        }
        if device_names.contains(&mount.name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(FieldError::invalid(&name_path, mount.name.as_str(), detail));
        }
        if device_paths.contains(&mount.mount_path) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(FieldError::invalid(&at_path, mount.mount_path.as_str(), detail));
        }
        errors.extend(validate_sub_path(mount, path, &mount_path));
        errors.extend(validate_propagation(mount, container, &path.child("mountPropagation")));
        errors.extend(validate_recursion(mount, &path.child("recursiveReadOnly")));
    }
    errors
}

/// Upstream names the list of mounts here, not the one at fault.
fn validate_sub_path(mount: &VolumeMount, list: &FieldPath, own: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    let expression = mount.sub_path_expr.as_deref().unwrap_or_default();
    if !sub_path.is_empty() {
        errors.extend(paths::descending(sub_path, &list.child("subPath")));
    }
    if !expression.is_empty() {
        if !sub_path.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&own.child("subPathExpr"), expression, detail));
        }
        errors.extend(paths::descending(expression, &list.child("subPathExpr")));
    }
    errors
}

fn validate_propagation(
    mount: &VolumeMount,
    container: &Container,
    path: &FieldPath,
) -> Vec<FieldError> {
    let Some(propagation) = mount.mount_propagation.as_deref() else {
        return Vec::new();
    };
    let known = &["Bidirectional", "HostToContainer", "None"];
    let mut errors: Vec<_> = one_of(path, propagation, known).into_iter().collect();
    let security = container.security_context.as_ref();
    let is_privileged = security.is_some_and(|security| security.privileged == Some(true));
    if propagation == "Bidirectional" && !is_privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(FieldError::forbidden(path, detail));
    }
    errors
}

fn validate_recursion(mount: &VolumeMount, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if mount.read_only != Some(true) {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(path, detail));
            }
            if mount.mount_propagation.as_deref().is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(path, detail));
            }
        }
        Some(other) => {
            let known = &["Disabled", "Enabled", "IfPossible"];
            errors.push(FieldError::not_supported(path, other, known));
        }
    }
    errors
}

fn validate_devices(
    container: &Container,
    volumes: &Volumes<'_>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (mut names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    let mounts = mounts(container);
    let mount_names: BTreeSet<_> = mounts.iter().map(|mount| mount.name.as_str()).collect();
    let mount_paths: BTreeSet<_> = mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
    for (index, device) in devices(container).iter().enumerate() {
        let path = path.index(index);
        let (name_path, at_path) = (path.child("name"), path.child("devicePath"));
        let (name, at) = (device.name.as_str(), device.device_path.as_str());
        if name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        } else if !names.insert(name) {
            errors.push(FieldError::invalid(&name_path, name, "must be unique"));
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_path, name)),
            Some(volume) if !is_claim(volume) => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        if at.is_empty() {
            errors.push(FieldError::required(&at_path, ""));
        }
        if paths::has_backsteps(at) {
            let detail = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&at_path, at, detail));
        } else if !seen_paths.insert(at) {
            errors.push(FieldError::invalid(&at_path, at, "must be unique"));
        }
        if mount_names.contains(name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(&name_path, name, detail));
        }
        if mount_paths.contains(at) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&at_path, at, detail));
        }
    }
    errors
}

fn is_claim(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(container: Value, expected: &[&str]) {
        let mut container = container;
        container["name"] = json!("c");
        let container: Container = serde_json::from_value(container).unwrap();
        let volumes: Vec<Volume> = serde_json::from_value(json!([
            {"name": "data", "emptyDir": {}}, {"name": "disk", "persistentVolumeClaim": {"claimName": "d"}},
        ]))
        .unwrap();
        let volumes = volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect();
        compare(validate(&container, &volumes, &FieldPath::new("c")), expected);
    }

    #[test]
    fn mounts() {
        check(
            json!({"volumeMounts": [{"name": "data", "mountPath": "/a", "subPath": "x/y"}]}),
            &[],
        );
        check(
            json!({"volumeMounts": [{"name": "", "mountPath": ""}, {"name": "none", "mountPath": ""}]}),
            &[
                "c.volumeMounts[0].name: Required value",
                "c.volumeMounts[0].name: Not found: \"\"",
                "c.volumeMounts[0].mountPath: Required value",
                "c.volumeMounts[1].name: Not found: \"none\"",
                "c.volumeMounts[1].mountPath: Required value",
                "c.volumeMounts[1].mountPath: Invalid value: \"\": must be unique",
            ],
        );
        check(
            json!({"volumeMounts": [{"name": "data", "mountPath": "/a", "subPath": "/x", "subPathExpr": "../y"}]}),
            &[
                "c.volumeMounts.subPath: Invalid value: \"/x\": must be a relative path",
                "c.volumeMounts[0].subPathExpr: Invalid value: \"../y\": subPathExpr and subPath are mutually exclusive",
                "c.volumeMounts.subPathExpr: Invalid value: \"../y\": must not contain '..'",
            ],
        );
    }

    #[test]
    fn propagation_and_recursion() {
        let mount = |extra: Value| {
            let mut mount = json!({"name": "data", "mountPath": "/a"});
            json_patch::merge(&mut mount, &extra);
            json!({"volumeMounts": [mount]})
        };
        check(
            mount(json!({"mountPropagation": "Bidirectional"})),
            &[
                "c.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only",
            ],
        );
        check(mount(json!({"recursiveReadOnly": "Enabled", "readOnly": true})), &[]);
        check(
            mount(json!({"recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"})),
            &[
                "c.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "c.volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None",
            ],
        );
        check(
            mount(json!({"recursiveReadOnly": "Yes", "mountPropagation": "Up"})),
            &[
                "c.volumeMounts.mountPropagation: Unsupported value: \"Up\"",
                "c.volumeMounts.recursiveReadOnly: Unsupported value: \"Yes\"",
            ],
        );
    }

    #[test]
    fn devices() {
        check(json!({"volumeDevices": [{"name": "disk", "devicePath": "/dev/x"}]}), &[]);
        check(
            json!({"volumeDevices": [{"name": "data", "devicePath": "/../x"}, {"name": "none", "devicePath": ""}]}),
            &[
                "c.volumeDevices[0].name: Invalid value: \"data\": can only use volume source type of PersistentVolumeClaim",
                "c.volumeDevices[0].devicePath: Invalid value: \"/../x\": can not contain backsteps ('..')",
                "c.volumeDevices[1].name: Not found: \"none\"",
                "c.volumeDevices[1].devicePath: Required value",
            ],
        );
        check(
            json!({
                "volumeMounts": [{"name": "disk", "mountPath": "/a"}],
                "volumeDevices": [{"name": "disk", "devicePath": "/a"}],
            }),
            &[
                "c.volumeMounts[0].name: Invalid value: \"disk\": must not already exist in volumeDevices",
                "c.volumeMounts[0].mountPath: Invalid value: \"/a\": must not already exist as a path in volumeDevices",
                "c.volumeDevices[0].name: Invalid value: \"disk\": must not already exist in volumeMounts",
                "c.volumeDevices[0].devicePath: Invalid value: \"/a\": must not already exist as a path in volumeMounts",
            ],
        );
    }
}
