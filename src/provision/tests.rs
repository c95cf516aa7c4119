//! Tables for which volumes are made, grow and go on which node.

use super::claim::{self, ClaimView, class};
use super::volume::{self, Before, VolumeView, before};
use super::{PROVISIONER, Plan};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const ROOT: &str = "/var/lib/kinglet/storage";

fn typed<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn node(name: &str, unschedulable: bool) -> Arc<Node> {
    typed(json!({ "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": { "unschedulable": unschedulable } }))
}

fn merged(mut base: Value, more: &Value) -> Value {
    json_patch::merge(&mut base, more);
    base
}

fn claim_view(more: &Value, volume: Option<Value>) -> ClaimView {
    let claim = json!({
        "metadata": { "name": "data", "namespace": "shop", "uid": "u1", "annotations": {
            "volume.kubernetes.io/storage-provisioner": PROVISIONER,
            "volume.kubernetes.io/selected-node": "n1",
        } },
        "spec": { "accessModes": ["ReadWriteOnce"], "storageClassName": "local-path",
            "resources": { "requests": { "storage": "5Gi" } } },
    });
    ClaimView {
        claim: typed(merged(claim, more)),
        class: Some(Arc::new(class())),
        volume: volume.map(typed),
        nodes: vec![node("n0", true), node("n1", false), node("n2", false)],
        node: "n1".to_owned(),
        root: ROOT.into(),
    }
}

/// `create pvc-u1`, with the reasons of events.
fn render(plan: &Plan) -> String {
    let writes = plan.writes().map(|write| {
        let body = write.body();
        let name = body["metadata"]["name"].as_str().map(str::to_owned);
        let name = name.or(write.key().map(|key| key.name.clone())).unwrap_or_default();
        format!("{:?} {name}", write.verb()).to_lowercase()
    });
    let reports = plan.reports.iter().map(|report| report.message.clone());
    writes.chain(reports).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(more: Value, expected: &str) {
    assert_eq!(render(&claim::plan(&claim_view(&more, None))), expected, "{more}");
}

#[test]
fn a_claim_gets_its_volume_on_the_selected_node() {
    check(json!({}), "create pvc-u1");
    let selected = |name: Value| json!({ "metadata": { "annotations": { "volume.kubernetes.io/selected-node": name } } });
    check(selected(json!("n2")), "");
    // Of those that take pods this is the first.
    check(selected(Value::Null), "create pvc-u1");
    let annotation = "volume.kubernetes.io/storage-provisioner";
    check(json!({ "metadata": { "annotations": { annotation: "example.com/x" } } }), "");
    check(json!({ "metadata": { "deletionTimestamp": "2026-11-21T00:00:00Z" } }), "");
    let why =
        |why: &str| format!("failed to provision volume with StorageClass \"local-path\": {why}");
    check(
        json!({ "spec": { "accessModes": ["ReadWriteMany"] } }),
        &why("local volumes only have the access modes ReadWriteOnce and ReadWriteOncePod"),
    );
    check(
        json!({ "spec": { "volumeMode": "Block" } }),
        &why("local volumes only have the volume mode Filesystem"),
    );
    check(json!({ "spec": { "selector": {} } }), &why("claim.Spec.Selector is not supported"));
}

#[test]
fn a_class_makes_volumes_in_its_topologies_alone() {
    let check = |allowed: &[&str], selected: Value, expected: &str| {
        let annotations = json!({ "volume.kubernetes.io/selected-node": selected });
        let mut view = claim_view(&json!({ "metadata": { "annotations": annotations } }), None);
        let terms = json!([{ "matchLabelExpressions": [
            { "key": "kubernetes.io/hostname", "values": allowed },
        ] }]);
        let allowed_topologies = serde_json::from_value(terms).unwrap();
        view.class = Some(Arc::new(StorageClass { allowed_topologies, ..class() }));
        assert_eq!(render(&claim::plan(&view)), expected, "{allowed:?} {selected}");
    };
    let refused = "failed to provision volume with StorageClass \"local-path\": the selected node \
                   is in none of the class's allowedTopologies";
    check(&["n1", "n2"], json!("n1"), "create pvc-u1");
    check(&["n2"], json!("n1"), refused);
    // Nobody has chosen a node: this one, `n1`, is the first that will do, or it is another's turn.
    check(&["n1", "n2"], Value::Null, "create pvc-u1");
    check(&["n2"], Value::Null, "");
    check(&["n0"], Value::Null, "");
}

fn made() -> Value {
    let plan = claim::plan(&claim_view(&json!({}), None));
    plan.writes().next().unwrap().body()
}

#[test]
fn the_volume_says_where_it_is_and_whose() {
    let volume = made();
    let spec = &volume["spec"];
    assert_eq!(spec["local"]["path"], format!("{ROOT}/pvc-u1_shop_data"));
    assert_eq!(spec["capacity"]["storage"], "5Gi");
    assert_eq!(spec["claimRef"]["uid"], "u1");
    assert_eq!(spec["persistentVolumeReclaimPolicy"], "Delete");
    assert_eq!(spec["storageClassName"], "local-path");
    let term = &spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!((&term["key"], &term["values"]), (&json!("kubernetes.io/hostname"), &json!(["n1"])));
    assert_eq!(volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"], PROVISIONER);
}

#[test]
fn a_claim_that_asks_for_more_gets_it() {
    let bound = json!({
        "metadata": { "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
        "spec": { "volumeName": "pvc-u1", "resources": { "requests": { "storage": "8Gi" } } },
        "status": { "phase": "Bound", "capacity": { "storage": "5Gi" } },
    });
    let plan = |size: &str| {
        let volume = merged(made(), &json!({ "spec": { "capacity": { "storage": size } } }));
        claim::plan(&claim_view(&bound, Some(volume)))
    };
    let first = plan("5Gi");
    assert_eq!(render(&first), "update pvc-u1");
    assert_eq!(first.writes().next().unwrap().body()["spec"]["capacity"]["storage"], "8Gi");
    let second = plan("8Gi");
    assert_eq!(render(&second), "update data");
    let status = &second.writes().next().unwrap().body()["status"];
    assert_eq!(
        (&status["capacity"]["storage"], &status["allocatedResources"]["storage"]),
        (&json!("8Gi"), &json!("8Gi"))
    );
    let done = json!({ "status": { "capacity": { "storage": "8Gi" } } });
    let view = claim_view(&merged(bound.clone(), &done), Some(made()));
    assert_eq!(render(&claim::plan(&view)), "");
}

#[track_caller]
fn check_volume(more: Value, expected: &str, expected_before: Before) {
    let volume = merged(made(), &more);
    let view =
        VolumeView { volume: typed(volume), node: Some(node("n1", false)), root: ROOT.into() };
    let plan = volume::plan(&view);
    assert_eq!(render(&plan), expected, "{more}");
    let first = plan.writes().next().map(|write| before(write, Path::new(ROOT)));
    assert_eq!(first.unwrap_or(Before::Nothing), expected_before, "{more}");
}

#[test]
fn a_directory_goes_before_its_volume_is_let_go_of() {
    let phase = |phase: &str| json!({ "status": { "phase": phase } });
    let going = json!({ "metadata": { "deletionTimestamp": "2026-11-21T00:00:00Z" } });
    let gone = || Before::Remove("pvc-u1_shop_data".to_owned());
    check_volume(phase("Bound"), "", Before::Nothing);
    check_volume(phase("Released"), "delete pvc-u1", Before::Nothing);
    check_volume(merged(phase("Released"), &going), "update pvc-u1", gone());
    check_volume(merged(phase("Bound"), &going), "", Before::Nothing);
    let retain = json!({ "spec": { "persistentVolumeReclaimPolicy": "Retain" } });
    check_volume(merged(phase("Released"), &retain), "", Before::Nothing);
    check_volume(
        merged(merged(phase("Released"), &retain), &going),
        "update pvc-u1",
        Before::Nothing,
    );
    let bare = json!({ "metadata": { "finalizers": [] } });
    check_volume(merged(phase("Released"), &bare), "update pvc-u1", Before::Nothing);
    check_volume(merged(merged(phase("Released"), &bare), &going), "", Before::Nothing);
}

#[test]
fn volumes_of_others_are_left_alone() {
    let released = json!({ "status": { "phase": "Released" } });
    let path =
        |path: &str| merged(released.clone(), &json!({ "spec": { "local": { "path": path } } }));
    for elsewhere in [
        "/etc",
        "/var/lib/kinglet/storage",
        "/var/lib/kinglet/storage/../x",
        "/var/lib/kinglet/storage/a/b",
    ] {
        check_volume(path(elsewhere), "", Before::Nothing);
    }
    let by = json!({ "metadata": { "annotations": { "pv.kubernetes.io/provisioned-by": "x" } } });
    check_volume(merged(released.clone(), &by), "", Before::Nothing);
    let term = json!({ "matchExpressions": [
        { "key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"] }] });
    let other =
        json!({ "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } } });
    check_volume(merged(released, &other), "", Before::Nothing);
}

#[test]
fn a_directory_is_there_before_its_volume() {
    let plan = claim::plan(&claim_view(&json!({}), None));
    let first = before(plan.writes().next().unwrap(), Path::new(ROOT));
    assert_eq!(first, Before::Make("pvc-u1_shop_data".to_owned()));
}
