//! What whoever writes a volume is told: upstream `GetWarningsForPersistentVolume`
//! (pkg/api/persistentvolume, v1.35).

use super::podspec;
use crate::api::FieldPath;
use k8s_openapi::api::core::v1::PersistentVolume;

const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "volume.beta.kubernetes.io/storage-class",
        "deprecated since v1.8; use \"storageClassName\" attribute instead",
    ),
    (
        "volume.beta.kubernetes.io/mount-options",
        "deprecated since v1.31; use \"mountOptions\" attribute instead",
    ),
];
const RECYCLE: &str = "The Recycle reclaim policy is deprecated. Instead, the recommended approach \
                       is to use dynamic provisioning.";

pub(super) fn warnings(volume: &PersistentVolume) -> Vec<String> {
    let annotations = volume.metadata.annotations.clone().unwrap_or_default();
    let path = FieldPath::new("metadata").child("annotations");
    let old = ANNOTATIONS.iter().filter(|(key, _)| annotations.contains_key(*key));
    let mut warnings: Vec<_> =
        old.map(|(key, message)| format!("{}: {message}", path.key(key))).collect();
    let Some(spec) = &volume.spec else { return warnings };
    let path = FieldPath::new("spec");
    if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
        warnings.push(format!("{}: {RECYCLE}", path.child("persistentVolumeReclaimPolicy")));
    }
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let of_terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    for (index, term) in terms.enumerate() {
        warnings.extend(podspec::of_term(term, false, &of_terms.index(index)));
    }
    let gone = [
        ("cephfs", spec.cephfs.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
        (
            "photonPersistentDisk",
            spec.photon_persistent_disk.is_some(),
            "deprecated in v1.11, non-functional in v1.16+",
        ),
        ("scaleIO", spec.scale_io.is_some(), "deprecated in v1.16, non-functional in v1.22+"),
        ("storageOS", spec.storageos.is_some(), "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", spec.glusterfs.is_some(), "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", spec.rbd.is_some(), "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let used = gone.into_iter().filter(|(_, is_used, _)| *is_used);
    warnings.extend(used.map(|(name, _, message)| format!("{}: {message}", path.child(name))));
    warnings
}

#[cfg(test)]
mod tests {
    use crate::registry::kinds::testing::Case;
    use serde_json::json;

    #[test]
    fn what_is_no_more_is_told() {
        let volume = json!({
            "metadata": {
                "name": "a",
                "annotations": {"volume.beta.kubernetes.io/mount-options": "ro"},
            },
            "spec": {"persistentVolumeReclaimPolicy": "Recycle", "rbd": {"image": "i"}},
        });
        assert_eq!(
            Case::of("persistentvolumes", volume).created().warnings(None),
            [
                "metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use \"mountOptions\" attribute instead",
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
    }
}
