//! Tables of volumes and what is wrong with them.

use crate::registry::kinds::testing::{Case, check, check_status_update, check_update};
use serde_json::{Value, json};

fn volume(source: Value) -> Case {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
    let volume = json!({"metadata": {"name": "v"}, "spec": spec});
    Case::of("persistentvolumes", volume).with(json!({"spec": source}))
}

fn host_path() -> Case {
    volume(json!({"hostPath": {"path": "/data"}}))
}

fn local() -> Case {
    volume(json!({
        "local": {"path": "/data"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "beta.kubernetes.io/os", "operator": "In", "values": ["linux"]},
        ]}]}},
    }))
}

#[test]
fn what_every_volume_says() {
    check(&host_path(), &[]);
    check(
        &Case::of("persistentvolumes", json!({"metadata": {"name": "v"}})),
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: {}: supported values: \"storage\"",
            "spec: Required value: must specify a volume type",
        ],
    );
    check(
        &host_path().with(json!({"spec": {
            "accessModes": ["Sometimes"],
            "capacity": {"storage": "-1", "cpu": "0"},
            "persistentVolumeReclaimPolicy": "Forget",
            "nodeAffinity": {},
            "storageClassName": "A", "volumeMode": "Tape", "volumeAttributesClassName": "",
        }})),
        &[
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.capacity: Unsupported value: {\"cpu\":\"0\",\"storage\":\"-1\"}: supported values: \"storage\"",
            "spec.capacity[cpu]: Invalid value: \"0\": must be greater than zero",
            "spec.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            "spec.capacity[storage]: Invalid value: \"-1\": must be greater than zero",
            "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Forget\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            "spec.nodeAffinity.required: Required value: must specify required node constraints",
            "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain",
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            "spec.volumeAttributesClassName: Required value: an empty string is disallowed",
            "spec.csi: Required value: has to be specified when using volumeAttributesClassName",
        ],
    );
}

#[test]
fn sources() {
    check(&local(), &[]);
    for (source, expected) in [
        (
            json!({"local": {"path": "../a"}}),
            [
                "spec.local.path: Invalid value: \"../a\": must not contain '..'",
                "spec.nodeAffinity: Required value: Local volume requires node affinity",
            ]
            .as_slice(),
        ),
        (
            json!({"hostPath": {"path": "/a/../.."}, "persistentVolumeReclaimPolicy": "Recycle"}),
            &[
                "spec.hostPath.path: Invalid value: \"/a/../..\": must not contain '..'",
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ],
        ),
        (
            json!({"nfs": {"server": "", "path": "a"}, "csi": {"driver": "d", "volumeHandle": "h"}}),
            &[
                "spec.nfs.server: Required value",
                "spec.nfs.path: Invalid value: \"a\": must be an absolute path",
                "spec.csi: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            json!({"csi": {"driver": "A_", "volumeHandle": "", "nodePublishSecretRef": {"name": "n"}}}),
            &[
                "spec.csi.driver: Invalid value: \"A_\": a lowercase RFC 1123 subdomain",
                "spec.csi.volumeHandle: Required value",
                "spec.csi.nodePublishSecretRef.namespace: Required value",
            ],
        ),
        (
            json!({"iscsi": {"targetPortal": "", "iqn": "", "lun": 256, "chapAuthSession": true}}),
            &[
                "spec.iscsi.targetPortal: Required value",
                "spec.iscsi.iqn: Required value",
                "spec.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "spec.iscsi.secretRef: Required value",
            ],
        ),
        (
            json!({"gcePersistentDisk": {"pdName": ""}}),
            &["spec.persistentDisk.pdName: Required value"],
        ),
    ] {
        check(&volume(source), expected);
    }
    let annotations = json!({"volume.beta.kubernetes.io/mount-options": "ro"});
    check(
        &host_path().with(json!({"metadata": {"annotations": annotations}})),
        &[
            "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this volume type",
        ],
    );
}

#[test]
fn what_stays() {
    let size = json!({"spec": {"capacity": {"storage": "2Gi"}, "storageClassName": "other"}});
    check_update(&host_path(), &host_path().with(size), &[]);
    check_update(
        &host_path(),
        &host_path().with(json!({"spec": {"hostPath": {"path": "/b"}, "volumeMode": "Block"}})),
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n- hostPath: {\"path\":\"/data\"",
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ],
    );
    let csi = volume(
        json!({"csi": {"driver": "d", "volumeHandle": "h"}, "volumeAttributesClassName": "c"}),
    );
    let secret = json!({"name": "n", "namespace": "s"});
    check_update(
        &csi,
        &csi.with(json!({"spec": {
            "csi": {"controllerExpandSecretRef": secret}, "volumeAttributesClassName": null,
        }})),
        &[
            "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden",
        ],
    );
}

#[test]
fn a_volume_stays_where_it_is() {
    let on = |key: &str, system: &str| {
        local().with(json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": "In", "values": [system]}]},
        ]}}}}))
    };
    check_update(
        &host_path(),
        &host_path().with(json!({"spec": {"nodeAffinity": {
            "required": {"nodeSelectorTerms": [{}]},
        }}})),
        &[],
    );
    check_update(&local(), &on("kubernetes.io/os", "linux"), &[]);
    let expected = "nodeAffinity: Invalid value: {\"required\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[";
    check_update(&local(), &on("kubernetes.io/os", "plan9"), &[expected]);
    check_update(&local(), &on("kubernetes.io/arch", "linux"), &[expected]);
    check_update(&on("kubernetes.io/os", "linux"), &local(), &[expected]);
}

#[test]
fn the_time_of_a_phase_is_that_of_its_beginning() {
    let in_phase = |phase: &str| host_path().with(json!({"status": {"phase": phase}}));
    check_status_update(&in_phase("Available"), &in_phase("Bound"), &[]);
    let began = "2026-01-01T00:00:00Z";
    let old =
        in_phase("Available").with(json!({"status": {"lastPhaseTransitionTime": began}})).decode();
    let now = "2026-01-01T01:00:00Z";
    for (phase, expected) in [("Available", began), ("Bound", now)] {
        let mut new = in_phase(phase).decode();
        new.stamp_status(&*old, now.parse().unwrap());
        let status = &new.to_value()["status"];
        assert_eq!(status["lastPhaseTransitionTime"], expected, "{phase}");
    }
}
