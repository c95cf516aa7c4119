//! What may be wrong with the volumes of a pod.
//!
//! Follows upstream `ValidateVolumes` (pkg/apis/core/validation, v1.35). Of sources that no
//! driver in the tree serves any more, only the required fields are checked.

use super::super::claim_spec;
use super::{paths, projected};
use crate::api::{FieldError, FieldPath, Quantity, names};
use crate::registry::checks::{self, invalid, one_of, present, required, to_value};
use crate::registry::metadata;
use k8s_openapi::api::core::v1::{
    CSIVolumeSource, EphemeralVolumeSource, HostPathVolumeSource, ImageVolumeSource, KeyToPath,
    NFSVolumeSource, PersistentVolumeClaimTemplate, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

type IsGiven = fn(&Volume) -> bool;

/// Every source and whether a volume has it, in the order in which the first of several is taken.
const SOURCES: &[(&str, IsGiven)] = &[
    ("emptyDir", |volume| volume.empty_dir.is_some()),
    ("hostPath", |volume| volume.host_path.is_some()),
    ("gitRepo", |volume| volume.git_repo.is_some()),
    ("gcePersistentDisk", |volume| volume.gce_persistent_disk.is_some()),
    ("awsElasticBlockStore", |volume| volume.aws_elastic_block_store.is_some()),
    ("secret", |volume| volume.secret.is_some()),
    ("nfs", |volume| volume.nfs.is_some()),
    ("iscsi", |volume| volume.iscsi.is_some()),
    ("glusterfs", |volume| volume.glusterfs.is_some()),
    ("flocker", |volume| volume.flocker.is_some()),
    ("persistentVolumeClaim", |volume| volume.persistent_volume_claim.is_some()),
    ("rbd", |volume| volume.rbd.is_some()),
    ("cinder", |volume| volume.cinder.is_some()),
    ("cephfs", |volume| volume.cephfs.is_some()),
    ("quobyte", |volume| volume.quobyte.is_some()),
    ("downwardAPI", |volume| volume.downward_api.is_some()),
    ("fc", |volume| volume.fc.is_some()),
    ("flexVolume", |volume| volume.flex_volume.is_some()),
    ("configMap", |volume| volume.config_map.is_some()),
    ("azureFile", |volume| volume.azure_file.is_some()),
    ("vsphereVolume", |volume| volume.vsphere_volume.is_some()),
    ("photonPersistentDisk", |volume| volume.photon_persistent_disk.is_some()),
    ("portworxVolume", |volume| volume.portworx_volume.is_some()),
    ("azureDisk", |volume| volume.azure_disk.is_some()),
    ("storageos", |volume| volume.storageos.is_some()),
    ("projected", |volume| volume.projected.is_some()),
    ("scaleIO", |volume| volume.scale_io.is_some()),
    ("csi", |volume| volume.csi.is_some()),
    ("ephemeral", |volume| volume.ephemeral.is_some()),
    ("image", |volume| volume.image.is_some()),
];

/// What the sources of external systems cannot do without.
const REQUIRED_FIELDS: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

const CSI_DRIVER_BYTES_MAX: usize = 63;

/// `pod` is the metadata of the pod, absent in a template. A volume with errors counts as absent
/// for those that mount it, so the good ones are returned too.
pub(super) fn validate<'a>(
    volumes: &'a [Volume],
    pod: Option<&ObjectMeta>,
    path: &FieldPath,
) -> (super::mounts::Volumes<'a>, Vec<FieldError>) {
    let mut good = super::mounts::Volumes::new();
    let mut errors = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name_path = path.child("name");
        let mut own = validate_source(volume, pod, &path);
        own.extend(required(&name_path, &volume.name, names::dns1123_label));
        if good.contains_key(volume.name.as_str()) {
            own.push(FieldError::duplicate(&name_path, volume.name.as_str()));
        }
        if own.is_empty() {
            good.insert(&volume.name, volume);
        }
        errors.extend(own);
        errors.extend(validate_claim_name(volume, volumes, pod, &path));
    }
    (good, errors)
}

/// The claims of ephemeral volumes are made for the pod: another volume cannot name one.
fn validate_claim_name(
    volume: &Volume,
    volumes: &[Volume],
    pod: Option<&ObjectMeta>,
    path: &FieldPath,
) -> Option<FieldError> {
    let pod_name = pod?.name.as_deref().filter(|name| !name.is_empty())?;
    let claim = volume.persistent_volume_claim.as_ref()?.claim_name.as_str();
    let mut made = volumes
        .iter()
        .filter(|volume| volume.ephemeral.is_some())
        .map(|volume| format!("{pod_name}-{}", volume.name));
    let path = path.child("persistentVolumeClaim").child("claimName");
    let detail = "must not reference a PVC that gets created for an ephemeral volume";
    made.any(|name| name == claim).then(|| FieldError::invalid(&path, claim, detail))
}

fn validate_source(volume: &Volume, pod: Option<&ObjectMeta>, path: &FieldPath) -> Vec<FieldError> {
    let given = SOURCES.iter().filter(|(_, is_given)| is_given(volume));
    let mut given = given.map(|(source, _)| *source);
    let Some(first) = given.next() else {
        return vec![FieldError::required(path, "must specify a volume type")];
    };
    let mut errors = validate_one(first, volume, pod, path);
    if errors.is_empty() && REQUIRED_FIELDS.iter().any(|(source, _)| *source == first) {
        errors.extend(validate_required_fields(first, &to_value(volume)[first], path));
    }
    let detail = "may not specify more than 1 volume type";
    errors.extend(given.map(|source| FieldError::forbidden(&path.child(source), detail)));
    errors
}

/// The field beneath which upstream reports the problems of a source.
fn field_of(source: &str) -> &str {
    if source == "gcePersistentDisk" { "persistentDisk" } else { source }
}

/// What a source of an external system cannot do without.
pub(in crate::registry::kinds::core) fn validate_required_fields(
    source: &str,
    value: &Value,
    path: &FieldPath,
) -> Vec<FieldError> {
    let path = path.child(field_of(source));
    let known = REQUIRED_FIELDS.iter().find(|(name, _)| *name == source);
    let fields = known.map_or([].as_slice(), |(_, fields)| fields);
    let is_empty = |field: &&&str| match value.get(**field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let missing = fields.iter().filter(is_empty);
    missing.map(|field| FieldError::required(&path.child(field), "")).collect()
}

fn validate_one(
    source: &str,
    volume: &Volume,
    pod: Option<&ObjectMeta>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let own = path.child(field_of(source));
    let errors = match source {
        "emptyDir" => validate_size(volume, &own).map(|error| vec![error]),
        "hostPath" => volume.host_path.as_ref().map(|one| validate_host_path(one, &own)),
        "nfs" => volume.nfs.as_ref().map(|one| validate_nfs(one, &own)),
        "secret" => volume.secret.as_ref().map(|one| {
            let name = present(&own.child("secretName"), one.secret_name.as_deref());
            let items = one.items.as_deref().unwrap_or_default();
            validate_files(name, one.default_mode, items, &own)
        }),
        "configMap" => volume.config_map.as_ref().map(|one| {
            let name = present(&own.child("name"), Some(&one.name));
            let items = one.items.as_deref().unwrap_or_default();
            validate_files(name, one.default_mode, items, &own)
        }),
        "persistentVolumeClaim" => volume.persistent_volume_claim.as_ref().map(|one| {
            present(&own.child("claimName"), Some(&one.claim_name)).into_iter().collect()
        }),
        "downwardAPI" => volume.downward_api.as_ref().map(|one| {
            let mode = paths::file_mode(one.default_mode, &own.child("defaultMode"));
            let files = one.items.as_deref().unwrap_or_default();
            let files = files.iter().flat_map(|file| projected::validate_file(file, &own));
            mode.into_iter().chain(files).collect()
        }),
        "projected" => volume.projected.as_ref().map(|one| projected::validate(one, &own)),
        "csi" => volume.csi.as_ref().map(|one| validate_csi(one, &own)),
        "ephemeral" => {
            volume.ephemeral.as_ref().map(|one| validate_ephemeral(one, volume, pod, path))
        }
        "image" => volume.image.as_ref().map(|one| validate_image(one, pod.is_some(), &own)),
        _ => validate_disjoint_fields(volume, source, &own),
    };
    errors.unwrap_or_default()
}

fn validate_size(volume: &Volume, path: &FieldPath) -> Option<FieldError> {
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    let path = path.child("sizeLimit");
    match limit.0.parse::<Quantity>() {
        Ok(amount) if !amount.is_negative() => None,
        Ok(_) => {
            let detail = "SizeLimit field must be a valid resource quantity";
            Some(FieldError::forbidden(&path, detail))
        }
        Err(error) => Some(FieldError::invalid(&path, limit.0.as_str(), error.to_string())),
    }
}

pub(in crate::registry::kinds::core) fn validate_host_path(
    source: &HostPathVolumeSource,
    path: &FieldPath,
) -> Vec<FieldError> {
    if source.path.is_empty() {
        return vec![FieldError::required(&path.child("path"), "")];
    }
    let backsteps = paths::no_backsteps(&source.path, &path.child("path"));
    let kind = source.type_.as_deref().unwrap_or_default();
    let unknown = one_of(&path.child("type"), kind, HOST_PATH_TYPES);
    backsteps.into_iter().chain(unknown).collect()
}

pub(in crate::registry::kinds::core) fn validate_nfs(
    source: &NFSVolumeSource,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> =
        present(&path.child("server"), Some(&source.server)).into_iter().collect();
    let path = path.child("path");
    errors.extend(present(&path, Some(&source.path)));
    if !source.path.starts_with('/') {
        let detail = "must be an absolute path";
        errors.push(FieldError::invalid(&path, source.path.as_str(), detail));
    }
    errors
}

/// What volumes made of the entries of an object have in common.
fn validate_files(
    missing_name: Option<FieldError>,
    mode: Option<i32>,
    items: &[KeyToPath],
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors: Vec<_> = missing_name.into_iter().collect();
    errors.extend(paths::file_mode(mode, &path.child("defaultMode")));
    for (index, item) in items.iter().enumerate() {
        errors.extend(validate_item(item, &path.child("items").index(index)));
    }
    errors
}

/// Upstream `validateKeyToPath`.
pub(super) fn validate_item(item: &KeyToPath, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("key"), Some(&item.key)));
    errors.extend(present(&path.child("path"), Some(&item.path)));
    errors.extend(paths::not_reserved(&item.path, &path.child("path")));
    errors.extend(paths::file_mode(item.mode, &path.child("mode")));
    errors
}

/// Upstream `ValidateCSIDriverName`.
pub(in crate::registry::kinds) fn validate_driver_name(
    name: &str,
    path: &FieldPath,
) -> Vec<FieldError> {
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = Vec::new();
    if name.len() > CSI_DRIVER_BYTES_MAX {
        errors.push(FieldError::too_long(path, CSI_DRIVER_BYTES_MAX));
    }
    errors.extend(invalid(path, name, names::dns1123_subdomain(&name.to_lowercase())));
    errors
}

fn validate_csi(source: &CSIVolumeSource, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = validate_driver_name(&source.driver, &path.child("driver"));
    if let Some(secret) = &source.node_publish_secret_ref {
        if secret.name.is_empty() {
            let path = path.child("nodePublishSecretRef").child("name");
            errors.push(FieldError::required(&path, ""));
        } else {
            let problems = names::dns1123_subdomain(&secret.name);
            errors.extend(invalid(&path.child("name"), &secret.name, problems));
        }
    }
    errors
}

fn validate_ephemeral(
    source: &EphemeralVolumeSource,
    volume: &Volume,
    pod: Option<&ObjectMeta>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let template_path = path.child("ephemeral").child("volumeClaimTemplate");
    let mut errors = match &source.volume_claim_template {
        None => vec![FieldError::required(&template_path, "")],
        Some(template) => validate_claim_template(template, &template_path),
    };
    let pod_name = pod.and_then(|pod| pod.name.as_deref()).unwrap_or_default();
    if !pod_name.is_empty() && !volume.name.is_empty() {
        let claim = format!("{pod_name}-{}", volume.name);
        let problems = names::dns1123_subdomain(&claim).into_iter();
        let problems = problems.map(|problem| format!("PVC name {claim:?}: {problem}"));
        errors.extend(invalid(&path.child("name"), &volume.name, problems.collect()));
    }
    errors
}

fn validate_claim_template(
    template: &PersistentVolumeClaimTemplate,
    path: &FieldPath,
) -> Vec<FieldError> {
    let own = template.metadata.clone().unwrap_or_default();
    let metadata_path = path.child("metadata");
    let mut errors = metadata::validate_annotations(
        own.annotations.as_ref(),
        &metadata_path.child("annotations"),
    );
    errors.extend(checks::labels(own.labels.as_ref(), &metadata_path.child("labels")));
    // The rest of the metadata would be lost: only these two are copied to the claim.
    let kept = ObjectMeta {
        labels: own.labels.clone(),
        annotations: own.annotations.clone(),
        ..ObjectMeta::default()
    };
    if own != kept {
        let (own, kept) = (to_value(&own), to_value(&kept));
        let fields = own.as_object().into_iter().flat_map(|fields| fields.keys());
        let lost = fields.filter(|field| kept.get(field).is_none());
        errors.extend(
            lost.map(|field| FieldError::forbidden(&metadata_path.child(field), "cannot be set")),
        );
    }
    errors.extend(claim_spec::validate(&template.spec, &path.child("spec")));
    errors
}

fn validate_image(source: &ImageVolumeSource, of_pod: bool, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if of_pod {
        errors.extend(present(&path.child("reference"), source.reference.as_deref()));
    }
    let policy = source.pull_policy.as_deref().unwrap_or_default();
    errors.extend(super::containers::validate_pull_policy(policy, &path.child("pullPolicy")));
    errors
}

/// Sources of which one of two fields is given.
pub(in crate::registry::kinds::core) fn validate_disjoint_fields(
    volume: &Volume,
    source: &str,
    path: &FieldPath,
) -> Option<Vec<FieldError>> {
    match source {
        "flocker" => validate_flocker(volume, path),
        "fc" => validate_fibre_channel(volume, path),
        _ => None,
    }
}

fn validate_flocker(volume: &Volume, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = volume.flocker.as_ref()?;
    let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let error = match (is_set(&source.dataset_name), is_set(&source.dataset_uuid)) {
        (false, false) => {
            FieldError::required(path, "one of datasetName and datasetUUID is required")
        }
        (true, true) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            FieldError::invalid(path, "resource", detail)
        }
        _ => return None,
    };
    Some(vec![error])
}

fn validate_fibre_channel(volume: &Volume, path: &FieldPath) -> Option<Vec<FieldError>> {
    let source = volume.fc.as_ref()?;
    let targets = source.target_wwns.as_deref().unwrap_or_default();
    let ids = source.wwids.as_deref().unwrap_or_default();
    let targets_path = path.child("targetWWNs");
    let mut errors = Vec::new();
    match (targets, ids) {
        ([], []) => {
            let detail = "must specify either targetWWNs or wwids, but not both";
            errors.push(FieldError::required(&targets_path, detail));
        }
        ([_, ..], [_, ..]) => {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&targets_path, to_value(&targets), detail));
        }
        _ => {}
    }
    if !targets.is_empty() && source.lun.is_none() {
        let detail = "lun is required if targetWWNs is specified";
        errors.push(FieldError::required(&path.child("lun"), detail));
    }
    Some(errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use serde_json::json;

    #[track_caller]
    fn check(volumes: Value, expected: &[&str]) {
        let volumes: Vec<Volume> = serde_json::from_value(volumes).unwrap();
        let pod = ObjectMeta { name: Some("web".to_owned()), ..ObjectMeta::default() };
        let (_, errors) = validate(&volumes, Some(&pod), &FieldPath::new("v"));
        compare(errors, expected);
    }

    #[test]
    fn every_source_is_known() {
        for (source, _) in SOURCES {
            let volume: Volume = serde_json::from_value(json!({"name": "a", *source: {}})).unwrap();
            let given = SOURCES.iter().filter(|(_, is_given)| is_given(&volume));
            let given: Vec<_> = given.map(|(name, _)| name).collect();
            assert_eq!(given, [source]);
        }
        for (source, _) in REQUIRED_FIELDS {
            assert!(SOURCES.iter().any(|(known, _)| known == source), "{source}");
        }
    }

    #[test]
    fn names_and_numbers_of_sources() {
        check(json!([{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]), &[]);
        check(json!([{"name": "a"}]), &["v[0]: Required value: must specify a volume type"]);
        check(
            json!([{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}, {"name": "A", "emptyDir": {}}, {"name": "", "emptyDir": {}}]),
            &[
                "v[1].name: Duplicate value: \"a\"",
                "v[2].name: Invalid value: \"A\": a lowercase RFC 1123 label",
                "v[3].name: Required value",
            ],
        );
        check(
            json!([{"name": "a", "hostPath": {"path": "/x"}, "secret": {"secretName": "s"}}]),
            &["v[0].secret: Forbidden: may not specify more than 1 volume type"],
        );
    }

    #[test]
    fn common_sources() {
        check(
            json!([
                {"name": "a", "emptyDir": {"sizeLimit": "-1"}},
                {"name": "b", "hostPath": {"path": "/../x", "type": "Link"}},
                {"name": "c", "hostPath": {"path": ""}},
                {"name": "d", "persistentVolumeClaim": {"claimName": ""}},
                {"name": "e", "nfs": {"server": "", "path": "x"}},
            ]),
            &[
                "v[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
                "v[1].hostPath.path: Invalid value: \"/../x\": must not contain '..'",
                "v[1].hostPath.type: Unsupported value: \"Link\": supported values: \"\", \"BlockDevice\"",
                "v[2].hostPath.path: Required value",
                "v[3].persistentVolumeClaim.claimName: Required value",
                "v[4].nfs.server: Required value",
                "v[4].nfs.path: Invalid value: \"x\": must be an absolute path",
            ],
        );
        check(
            json!([
                {"name": "a", "secret": {"defaultMode": 512, "items": [{"key": "", "path": "..x", "mode": -1}]}},
                {"name": "b", "configMap": {"items": [{"key": "k", "path": ""}]}},
            ]),
            &[
                "v[0].secret.secretName: Required value",
                "v[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777",
                "v[0].secret.items[0].key: Required value",
                "v[0].secret.items[0].path: Invalid value: \"..x\": must not start with '..'",
                "v[0].secret.items[0].mode: Invalid value: -1: must be a number between 0 and 0777",
                "v[1].configMap.name: Required value",
                "v[1].configMap.items[0].path: Required value",
            ],
        );
    }

    #[test]
    fn sources_of_drivers() {
        check(
            json!([
                {"name": "a", "csi": {"driver": ""}},
                {"name": "b", "csi": {"driver": "Ok.io", "nodePublishSecretRef": {"name": ""}}},
                {"name": "c", "image": {"reference": "", "pullPolicy": "Sometimes"}},
                {"name": "d", "gcePersistentDisk": {"pdName": ""}},
                {"name": "e", "rbd": {"image": "i", "monitors": []}},
                {"name": "f", "flocker": {}},
                {"name": "g", "fc": {"targetWWNs": ["x"]}},
            ]),
            &[
                "v[0].csi.driver: Required value",
                "v[1].csi.nodePublishSecretRef.name: Required value",
                "v[2].image.reference: Required value",
                "v[2].image.pullPolicy: Unsupported value: \"Sometimes\"",
                "v[3].persistentDisk.pdName: Required value",
                "v[4].rbd.monitors: Required value",
                "v[5].flocker: Required value: one of datasetName and datasetUUID is required",
                "v[6].fc.lun: Required value: lun is required if targetWWNs is specified",
            ],
        );
    }

    #[test]
    fn claims_of_the_pod() {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        check(json!([{"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]), &[]);
        check(
            json!([
                {"name": "a", "ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": spec}}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "web-a"}},
                {"name": "c", "ephemeral": {}},
            ]),
            &[
                "v[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "v[1].persistentVolumeClaim.claimName: Invalid value: \"web-a\": must not reference a PVC that gets created",
                "v[2].ephemeral.volumeClaimTemplate: Required value",
            ],
        );
    }
}
