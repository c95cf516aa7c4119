//! Tables for what volumes are made of.

use super::*;
use crate::kubelet::tokens::Token;
use jiff::Timestamp;
use serde_json::{Value, json};

fn ask(audience: Option<&str>) -> TokenAsk {
    TokenAsk { audience: audience.map(str::to_owned), expiration_seconds: 3_600 }
}

fn token(text: &str) -> Arc<Token> {
    let (issued_at, expires_at) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
    Arc::new(Token { text: text.to_owned(), issued_at, expires_at })
}

fn references() -> References {
    let config_map =
        json!({ "metadata": {}, "data": { "a": "1", "b": "two" }, "binaryData": { "c": "/w==" } });
    let secret = json!({ "metadata": {}, "data": { "pass": "aHVzaA==" } });
    let config_map = Arc::new(serde_json::from_value(config_map).unwrap());
    let secret = Arc::new(serde_json::from_value(secret).unwrap());
    let missing = || "gone".to_owned();
    References {
        config_maps: [("c".to_owned(), Lookup::Found(config_map)), (missing(), Lookup::Missing)]
            .into(),
        secrets: [("s".to_owned(), Lookup::Found(secret)), (missing(), Lookup::Missing)].into(),
        tokens: [
            (ask(None), KnownToken::Given(token("api"))),
            (ask(Some("vault")), KnownToken::Refused("no such account".to_owned())),
        ]
        .into(),
        ..References::default()
    }
}

/// `a=1:644 b=two:644 disk`, or what the volume is, or the error.
fn render(volume: Value) -> String {
    render_in(json!({}), volume)
}

fn render_in(security: Value, volume: Value) -> String {
    let mut volume = volume;
    volume["name"] = json!("v");
    let object = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u1", "labels": { "app": "web" } },
        "spec": {
            "volumes": [volume],
            "securityContext": security,
            "containers": [{ "name": "a", "resources": { "limits": { "memory": "64Mi" } } }],
        },
    });
    let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
    let allocatable = BTreeMap::new();
    let around =
        Surroundings { pod_addresses: &[], node_addresses: &[], allocatable: &allocatable };
    match plan(&pod, &references(), &around) {
        Err(error) => error.to_string(),
        Ok(plans) => match &plans[0].source {
            Source::Files { files, in_memory } => {
                let mut words: Vec<_> = files
                    .iter()
                    .map(|(path, file)| {
                        let text = String::from_utf8_lossy(&file.bytes);
                        let owner = file.owner.map(|owner| format!("@{owner}"));
                        let owner = owner.unwrap_or_default();
                        format!("{}={text}:{:o}{owner}", path.display(), file.mode)
                    })
                    .collect();
                words.push(if *in_memory { "memory" } else { "disk" }.to_owned());
                words.join(" ")
            }
            other => format!("{other:?}"),
        },
    }
}

#[track_caller]
fn check(volume: Value, expected: &str) {
    assert_eq!(render(volume.clone()), expected, "{volume}");
}

#[test]
fn directories_and_paths_of_the_node() {
    check(json!({ "emptyDir": {} }), "EmptyDir");
    check(
        json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
        "Memory { size_bytes: Some(1048576) }",
    );
    check(json!({ "emptyDir": { "medium": "Memory" } }), "Memory { size_bytes: None }");
    check(
        json!({ "hostPath": { "path": "/x", "type": "Socket" } }),
        "HostPath { path: \"/x\", kind: Socket }",
    );
    check(
        json!({ "emptyDir": { "medium": "HugePages" } }),
        "MountVolume.SetUp failed for volume \"v\" : medium \"HugePages\" is not supported by this kubelet",
    );
    check(
        json!({ "nfs": { "server": "s", "path": "/" } }),
        "Nfs(NfsShare { server: \"s\", path: \"/\", options: [] })",
    );
    check(
        json!({ "iscsi": { "targetPortal": "t", "iqn": "i", "lun": 0 } }),
        "MountVolume.SetUp failed for volume \"v\" : volumes of type iscsi are not supported by this kubelet",
    );
}

#[test]
fn config_maps_become_files() {
    check(json!({ "configMap": { "name": "c" } }), "a=1:644 b=two:644 c=\u{fffd}:644 disk");
    check(
        json!({ "configMap": { "name": "c", "defaultMode": 256, "items": [
            { "key": "b", "path": "x/y" }, { "key": "a", "path": "z", "mode": 511 },
        ] } }),
        "x/y=two:400 z=1:777 disk",
    );
    check(json!({ "configMap": { "name": "gone", "optional": true } }), "disk");
    check(
        json!({ "configMap": { "name": "gone" } }),
        "MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found",
    );
    check(
        json!({ "configMap": { "name": "c", "items": [{ "key": "x", "path": "x" }] } }),
        "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config key: x",
    );
    check(
        json!({ "configMap": { "name": "c", "optional": true, "items": [{ "key": "x", "path": "x" }] } }),
        "disk",
    );
    check(
        json!({ "configMap": { "name": "other" } }),
        "volume \"v\" waits until configmap \"other\" is known",
    );
}

#[test]
fn secrets_stay_in_memory() {
    check(json!({ "secret": { "secretName": "s" } }), "pass=hush:644 memory");
    check(json!({ "secret": { "secretName": "gone", "optional": true } }), "memory");
    check(
        json!({ "secret": { "secretName": "s", "items": [{ "key": "x", "path": "x" }] } }),
        "MountVolume.SetUp failed for volume \"v\" : references non-existent secret key: x",
    );
}

#[test]
fn projections_are_put_together() {
    let downward = json!({ "items": [
        { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
        { "path": "mem", "mode": 256, "resourceFieldRef": {
            "containerName": "a", "resource": "limits.memory", "divisor": "1Mi" } },
    ] });
    check(json!({ "downwardAPI": downward }), "labels=app=\"web\":644 mem=64:400 disk");
    check(
        json!({ "projected": { "defaultMode": 288, "sources": [
            { "configMap": { "name": "c", "items": [{ "key": "a", "path": "one" }] } },
            { "secret": { "name": "s" } },
            { "downwardAPI": { "items": [
                { "path": "name", "fieldRef": { "fieldPath": "metadata.name" } },
            ] } },
        ] } }),
        "name=web:440 one=1:440 pass=hush:440 memory",
    );
    check(
        json!({ "projected": { "sources": [{ "clusterTrustBundle": { "path": "x" } }] } }),
        "MountVolume.SetUp failed for volume \"v\" : clusterTrustBundle is not supported by this kubelet",
    );
}

#[test]
fn tokens_are_for_those_who_run() {
    let volume =
        |source: Value| json!({ "projected": { "sources": [{ "serviceAccountToken": source }] } });
    let plain = volume(json!({ "path": "token" }));
    check(plain.clone(), "token=api:644 memory");
    let mode = |security: Value| render_in(security, plain.clone());
    assert_eq!(mode(json!({ "fsGroup": 2000 })), "token=api:600 memory");
    assert_eq!(mode(json!({ "runAsUser": 7 })), "token=api:600@7 memory");
    check(
        volume(json!({ "path": "token", "audience": "vault" })),
        "MountVolume.SetUp failed for volume \"v\" : failed to fetch token: no such account",
    );
    check(
        volume(json!({ "path": "token", "expirationSeconds": 600 })),
        "volume \"v\" waits until a token of its account is known",
    );
}

/// What a claim's volume is: `volume`, `rw` or `ro`, to be given to the group or not.
#[track_caller]
fn check_claim(spec: Value, read_only: bool, expected: &str) {
    let object = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
        "spec": {
            "containers": [], "securityContext": { "fsGroup": 7 },
            "volumes": [{ "name": "v", "persistentVolumeClaim": {
                "claimName": "data", "readOnly": read_only } }],
        },
    });
    let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
    let volume = json!({ "metadata": { "name": "pv" }, "spec": spec });
    let found = Found::Volume(Arc::new(serde_json::from_value(volume).unwrap()));
    let references = References { claims: [("v".to_owned(), found)].into(), ..references() };
    let allocatable = BTreeMap::new();
    let around =
        Surroundings { pod_addresses: &[], node_addresses: &[], allocatable: &allocatable };
    let text = match plan(&pod, &references, &around) {
        Err(error) => error.to_string(),
        Ok(plans) => {
            let plan = &plans[0];
            let persistent = plan.persistent.clone().unwrap();
            assert_eq!(persistent.name, "pv");
            let mode = if plan.read_only { "ro" } else { "rw" };
            let only = if persistent.is_exclusive { " alone" } else { "" };
            let given = if plan.group.is_some() { " given" } else { "" };
            format!("{:?} {mode}{only}{given}", plan.source)
        }
    };
    assert_eq!(text, expected, "{spec}");
}

#[test]
fn claims_become_what_their_volumes_are() {
    let local = json!({ "local": { "path": "/d" } });
    check_claim(local.clone(), false, "Local { path: \"/d\" } rw given");
    check_claim(local, true, "Local { path: \"/d\" } ro");
    check_claim(
        json!({ "local": { "path": "/dev/x" }, "volumeMode": "Block" }),
        false,
        "Device { path: \"/dev/x\" } rw",
    );
    check_claim(
        json!({ "hostPath": { "path": "/d" }, "accessModes": ["ReadWriteOncePod"] }),
        false,
        "HostPath { path: \"/d\", kind: Any } rw alone",
    );
    check_claim(
        json!({ "nfs": { "server": "s", "path": "/", "readOnly": true }, "mountOptions": ["soft"] }),
        false,
        "Nfs(NfsShare { server: \"s\", path: \"/\", options: [\"soft\"] }) ro",
    );
    check_claim(
        json!({ "csi": { "driver": "d", "volumeHandle": "h" }, "storageClassName": "x" }),
        false,
        "MountVolume.SetUp failed for volume \"v\" : volumes of type csi are not supported by this kubelet",
    );
    check_claim(
        json!({ "nfs": { "server": "s", "path": "/" }, "volumeMode": "Block" }),
        false,
        "MountVolume.SetUp failed for volume \"v\" : nfs cannot be a block device on this node",
    );
}

#[test]
fn paths_stay_inside() {
    let item = |path: &str| {
        render(json!({ "configMap": { "name": "c", "items": [{ "key": "a", "path": path }] } }))
    };
    for path in ["/etc", "../x", "a/../../x", "..data", "..x", ""] {
        assert!(item(path).contains("invalid path"), "{path:?}");
    }
    assert_eq!(item("a.b/..c"), "a.b/..c=1:644 disk");
}
