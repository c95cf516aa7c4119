//! Create, get, update: names, metadata, optimistic concurrency.

use super::support::Api;
use kinglet::registry::KINDS;
use serde_json::json;

const NO_SUCH_PATH: &str = "the server could not find the requested resource";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_created_object_is_given_what_only_the_server_may_say() {
    let api = Api::start().await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"},
        "metadata": {"name": "a", "uid": "mine", "generation": 7, "managedFields": []},
    });
    let answer = api.post(CONFIG_MAPS, &map).await;
    assert_eq!(answer.code, 201);
    let created = answer.json();
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_ne!(metadata["uid"], "mine");
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'), "{metadata}");
    let managed = metadata["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 1, "an empty list is no list: {managed:?}");
    assert_eq!(managed[0]["fieldsV1"], json!({"f:data": {".": {}, "f:k": {}}}));
    assert!(metadata.get("generation").is_none());
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.ok(), created);
    let revision: u64 = metadata["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(revision > 0);
}

#[tokio::test]
async fn names_are_generated_and_checked() {
    let api = Api::start().await;
    let first = api.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "a-"}})).await.ok();
    let second = api.post(CONFIG_MAPS, &json!({"metadata": {"generateName": "a-"}})).await.ok();
    let name = first["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);

    let (code, reason, message) = api.post(CONFIG_MAPS, &json!({"metadata": {}})).await.refused();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(message.contains("metadata.name: Required value: name or generateName is required"));
    let (code, _, message) =
        api.post(CONFIG_MAPS, &json!({"metadata": {"name": "A"}})).await.refused();
    assert_eq!(code, 422);
    assert!(message.starts_with("ConfigMap \"A\" is invalid: metadata.name: Invalid value: \"A\""));
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let api = Api::start().await;
    let map = json!({"metadata": {"name": "a"}});
    api.post(CONFIG_MAPS, &map).await.ok();
    let (code, reason, message) = api.post(CONFIG_MAPS, &map).await.refused();
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(message, "configmaps \"a\" already exists");
}

#[tokio::test]
async fn an_update_is_made_from_the_newest_revision_or_none() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let created = api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();

    let mut map = created.clone();
    map["data"] = json!({"k": "1"});
    let updated = api.put(&path, &map).await.ok();
    assert_ne!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(updated["metadata"]["uid"], created["metadata"]["uid"]);

    let (code, reason, message) = api.put(&path, &map).await.refused();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please \
         apply your changes to the latest version and try again"
    );
    let unpinned = json!({"metadata": {"name": "a"}, "data": {"k": "2"}});
    assert_eq!(api.put(&path, &unpinned).await.ok()["data"]["k"], "2");
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let created = api.post(CONFIG_MAPS, &map).await.ok();
    assert_eq!(api.put(&path, &created).await.ok(), created);
    assert_eq!(api.put(&path, &map).await.ok(), created);
}

#[tokio::test]
async fn identity_does_not_change() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/a");
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "a"}})).await.ok();
    let (code, _, message) = api.put(&path, &json!({"metadata": {"name": "b"}})).await.refused();
    assert_eq!(code, 400);
    assert_eq!(message, "the name of the object (b) does not match the name on the URL (a)");
    let (code, _, _) =
        api.put(&path, &json!({"metadata": {"name": "a", "namespace": "x"}})).await.refused();
    assert_eq!(code, 400);
    let (code, reason, _) =
        api.put(&path, &json!({"metadata": {"name": "a", "uid": "x"}})).await.refused();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
}

#[tokio::test]
async fn some_kinds_are_created_by_an_update_and_others_are_not() {
    let api = Api::start().await;
    let (code, _, message) =
        api.put(&format!("{CONFIG_MAPS}/a"), &json!({"metadata": {"name": "a"}})).await.refused();
    assert_eq!((code, message.as_str()), (404, "configmaps \"a\" not found"));
    let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let answer = api.put(&format!("{leases}/a"), &lease).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    // Leases are for those who want to know that nobody else has written.
    let (code, _, message) = api.put(&format!("{leases}/a"), &lease).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("metadata.resourceVersion: Invalid value: 0"), "{message}");
}

#[tokio::test]
async fn an_owner_is_kept_once_and_the_client_is_told() {
    let api = Api::start().await;
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": uid});
    let told = |when: &str| {
        vec![format!(
            "299 - \".metadata.ownerReferences contains duplicate entries{when}; API server dedups \
             owner references in 1.20+, and may reject such requests as early as 1.24; please fix \
             your requests; duplicate UID(s) observed: u\""
        )]
    };
    let owned = |owners: &[&str]| {
        let owners: Vec<_> = owners.iter().map(|uid| owner(uid)).collect();
        json!({"metadata": {"name": "a", "ownerReferences": owners}})
    };
    let path = format!("{CONFIG_MAPS}/a");
    let made = api.post(CONFIG_MAPS, &owned(&["u", "u"])).await;
    assert_eq!(made.warnings(), told(""));
    assert_eq!(made.ok()["metadata"]["ownerReferences"], json!([owner("u")]));
    let written = api.put(&path, &owned(&["u", "u"])).await;
    assert_eq!(written.warnings(), told(""));
    assert_eq!(written.ok()["metadata"]["ownerReferences"], json!([owner("u")]));
    let patched = api.patch(&path, "merge", &owned(&["v", "u", "u"])).await;
    assert_eq!(patched.warnings(), told(" after mutating admission happens"));
    assert_eq!(patched.ok()["metadata"]["ownerReferences"], json!([owner("v"), owner("u")]));
}

#[tokio::test]
async fn nothing_is_exported_any_more() {
    let api = Api::start().await;
    assert_eq!(api.get("/api/v1/namespaces/default?export=false").await.code, 200);
    let (code, _, message) = api.get("/api/v1/namespaces/default?export=true").await.refused();
    assert_eq!(code, 400);
    assert_eq!(message, "the export parameter, deprecated since v1.14, is no longer supported");
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let api = Api::start().await;
    let map = json!({"metadata": {"name": "a"}});
    let answer = api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &map).await;
    assert_eq!(answer.code, 201);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 404);
    // What would be stored can be stored.
    let shown = answer.ok();
    assert!(shown["metadata"]["uid"].is_string(), "{shown}");
    assert!(shown["metadata"].get("resourceVersion").is_none(), "{shown}");
    api.post(CONFIG_MAPS, &shown).await.ok();
    assert_eq!(api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &map).await.code, 409);
    let changed = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let shown = api.put(&format!("{CONFIG_MAPS}/a?dryRun=All"), &changed).await.ok();
    assert_eq!(shown["data"]["k"], "v");
    assert!(api.get(&format!("{CONFIG_MAPS}/a")).await.ok().get("data").is_none());
    api.delete(&format!("{CONFIG_MAPS}/a?dryRun=All")).await.ok();
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/a")).await.code, 200);
}

#[tokio::test]
async fn yaml_is_taken() {
    let api = Api::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"v\"\n";
    let headers = [(http::header::CONTENT_TYPE, "application/yaml")];
    let answer = api.send(http::Method::POST, CONFIG_MAPS, &headers, yaml).await;
    assert_eq!(answer.ok()["data"]["k"], "v");
}

#[tokio::test]
async fn protobuf_is_taken() {
    let api = Api::start().await;
    // {apiVersion: v1, kind: ConfigMap}, and of the object {name: a} and the entry k: v.
    let body: &[u8] = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0d\
        \x0a\x03\x0a\x01a\x12\x06\x0a\x01k\x12\x01v";
    let headers = [(http::header::CONTENT_TYPE, "application/vnd.kubernetes.protobuf")];
    let created = api.send(http::Method::POST, CONFIG_MAPS, &headers, body).await.ok();
    assert_eq!(created["metadata"]["name"], "a");
    assert_eq!(created["data"], json!({"k": "v"}));
    let pod = "/api/v1/namespaces/default/pods";
    let (code, _, message) = api.send(http::Method::POST, pod, &headers, body).await.refused();
    assert_eq!(code, 400);
    assert!(message.contains("cannot be handled as a Pod"), "{message}");
}

#[tokio::test]
async fn unknown_fields_are_dropped_warned_about_or_refused() {
    let api = Api::start().await;
    let map = |name: &str| json!({"metadata": {"name": name}, "dada": {"k": "v"}});
    let warned = api.post(CONFIG_MAPS, &map("a")).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"dada\\\"\""]);
    assert!(warned.ok().get("dada").is_none());
    let ignored = api.post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &map("b")).await;
    assert!(ignored.warnings().is_empty());
    let strict = format!("{CONFIG_MAPS}?fieldValidation=Strict");
    let (code, reason, message) = api.post(&strict, &map("c")).await.refused();
    assert_eq!((code, reason.as_str()), (400, "BadRequest"));
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         unknown field \"dada\""
    );
}

#[tokio::test]
async fn generations_count_changes_of_the_spec() {
    let api = Api::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web"}]},
            },
        },
    });
    let created = api.post(deployments, &deployment).await.ok();
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{deployments}/web");
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = api.patch(&path, "merge", &labelled).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let scaled = api.patch(&path, "merge", &json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(scaled["metadata"]["generation"], 2);
    let status =
        json!({"status": {"replicas": 3, "observedGeneration": 2}, "spec": {"replicas": 9}});
    let reported = api.patch(&format!("{path}/status"), "merge", &status).await.ok();
    assert_eq!(reported["status"]["replicas"], 3);
    assert_eq!(reported["spec"]["replicas"], 3);
    assert_eq!(reported["metadata"]["generation"], 2);
    let kept = api.patch(&path, "merge", &json!({"status": {"replicas": 8}})).await.ok();
    assert_eq!(kept["status"]["replicas"], 3);
}

#[tokio::test]
async fn an_update_that_knows_a_uid_makes_nothing_new() {
    let api = Api::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
    let created = api.post(leases, &lease).await.ok();
    api.delete(&format!("{leases}/a")).await.ok();
    let (code, _, message) = api.put(&format!("{leases}/a"), &created).await.refused();
    assert_eq!(code, 409);
    assert!(message.contains("Precondition failed: UID in precondition"), "{message}");
    assert_eq!(api.get(&format!("{leases}/a")).await.code, 404);
}

#[tokio::test]
async fn what_belongs_to_the_cluster_is_in_no_namespace() {
    let api = Api::start().await;
    let cluster_scoped = KINDS.iter().filter(|kind| !kind.facts.is_namespaced());
    for kind in cluster_scoped.filter(|kind| kind.facts.plural != "namespaces") {
        let facts = &kind.facts;
        let root = match facts.group.as_ref() {
            "" => format!("/api/{}", facts.version),
            group => format!("/apis/{group}/{}", facts.version),
        };
        let path = format!("{root}/namespaces/foo/{}/foo", facts.plural);
        let (code, _, message) = api.get(&path).await.refused();
        assert_eq!((code, message.as_str()), (404, NO_SUCH_PATH), "{path}");
    }
}
