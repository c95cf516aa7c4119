//! Tables of claims and what is wrong with them.

use crate::registry::kinds::testing::{Case, check, check_status_update, check_update, compare};
use serde_json::{Value, json};

fn claim() -> Case {
    Case::of(
        "persistentvolumeclaims",
        json!({
            "metadata": {"name": "data", "namespace": "default"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }),
    )
}

fn bound() -> Case {
    claim().with(json!({
        "spec": {"volumeName": "v", "storageClassName": "local-path"},
        "status": {"phase": "Bound", "capacity": {"storage": "512Mi"}},
    }))
}

/// As `check_update`, of an object that has a status.
#[track_caller]
fn check_stored(old: &Case, changes: Value, expected: &[&str]) {
    let mut new = old.with(changes).decode();
    let old = old.decode();
    new.prepare_update(&*old);
    compare(new.validate_update(&*old), expected);
}

#[test]
fn a_claim_without_a_volume_may_get_one_and_a_class() {
    check(&claim(), &[]);
    check_update(
        &claim(),
        &claim().with(json!({"spec": {"volumeName": "v", "storageClassName": "a"}})),
        &[],
    );
    check_update(
        &claim(),
        &claim().with(json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})),
        &[
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n- resources: {\"requests\":{\"storage\":\"1Gi\"}}\n+ resources: {\"requests\":{\"storage\":\"2Gi\"}}",
        ],
    );
}

#[test]
fn a_bound_claim_may_grow_and_shrink_to_what_it_has() {
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    check_stored(&bound(), size("2Gi"), &[]);
    check_stored(&bound(), size("1024Mi"), &[]);
    check_stored(&bound(), size("600Mi"), &[]);
    check_stored(
        &bound(),
        size("512Mi"),
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
    check_stored(
        &bound(),
        json!({"spec": {"volumeName": "w", "volumeMode": "Block", "storageClassName": null}}),
        &[
            "spec: Forbidden: spec is immutable after creation except",
            "volumeMode: Invalid value: \"Block\": field is immutable",
        ],
    );
}

#[test]
fn the_class_may_move_from_the_annotation_to_the_field() {
    let annotation = "volume.beta.kubernetes.io/storage-class";
    let old = claim().with(json!({"metadata": {"annotations": {annotation: "a"}}}));
    check_update(&old, &claim().with(json!({"spec": {"storageClassName": "a"}})), &[]);
    check_update(
        &old,
        &claim().with(json!({"spec": {"storageClassName": "b"}})),
        &[
            "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"\": field is immutable",
            "spec: Forbidden: spec is immutable after creation except",
        ],
    );
}

#[test]
fn attributes_do_not_go_back_to_none() {
    let old = bound().with(json!({
        "spec": {"volumeAttributesClassName": "fast"},
        "status": {"currentVolumeAttributesClassName": "fast"},
    }));
    for (class, what) in
        [(Value::Null, Some("nil")), (json!(""), Some("empty string")), (json!("slow"), None)]
    {
        let expected = what.map(|what| {
            format!("spec.volumeAttributesClassName: Forbidden: update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil")
        });
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check_stored(&old, json!({"spec": {"volumeAttributesClassName": class}}), &expected);
    }
}

#[test]
fn each_field_for_a_source_of_data_fills_the_other() {
    let source = json!({"kind": "PersistentVolumeClaim", "name": "a"});
    let custom = json!({"apiGroup": "x.io", "kind": "Y", "name": "a"});
    let elsewhere = json!({"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"});
    for (given, expected) in [
        (json!({"dataSource": source}), json!([source, source])),
        (json!({"dataSourceRef": source}), json!([source, source])),
        (json!({"dataSource": custom}), json!([null, null])),
        (json!({"dataSourceRef": custom}), json!([custom, custom])),
        (json!({"dataSourceRef": elsewhere}), json!([null, null])),
    ] {
        let object = claim().with(json!({"spec": given})).created();
        let spec = object.to_value()["spec"].clone();
        assert_eq!(json!([spec["dataSource"], spec["dataSourceRef"]]), expected, "{given}");
    }
    check(
        &claim().with(json!({"spec": {
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"apiGroup": "-", "kind": "", "name": ""},
        }})),
        &[
            "spec.dataSourceRef.name: Required value",
            "spec.dataSourceRef.kind: Required value",
            "spec.dataSourceRef.apiGroup: Invalid value: \"-\": a lowercase RFC 1123 subdomain",
            "spec: Invalid value: \"spec.dataSource\": must match dataSourceRef",
        ],
    );
}

#[test]
fn states_of_growing() {
    check_status_update(
        &bound(),
        &bound().with(json!({"status": {
            "capacity": {"storage": "-1"},
            "allocatedResourceStatuses": {"storage": "NodeResizePending", "cpu": "x"},
            "allocatedResources": {"memory": "1", "storage": "-2"},
        }})),
        &[
            "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
            "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"storage\"",
            "status.allocatedResourceStatuses: Unsupported value: \"cpu\": supported values: \"ControllerResizeInProgress\"",
            "status.allocatedResources: Unsupported value: \"memory\": supported values: \"storage\"",
            "status.allocatedResources[storage]: Invalid value: -2: must be a valid resource quantity",
        ],
    );
}
