//! Definitions whose versions differ, and webhooks that convert between them: what upstream's
//! conformance tests look at (test/e2e/apimachinery/{crd_conversion_webhook,crd_selectable_fields}.go,
//! v1.35), and webhooks that fail, lie, are slow, or are not there.

use crate::cluster::Cluster;
use crate::hook::{self, Hook, Reply};
use crate::support::{Api, Lines, eventually};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::CONTENT_TYPE;
use kinglet::apiserver::Identity;
use kinglet::storage::{ListRequest, Store as _};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/stable.example.com/v1/namespaces/default/hosts";
const V2: &str = "/apis/stable.example.com/v2/namespaces/default/hosts";

/// Version 1 has host and port in one field, version 2 in two.
fn hosts(client: &Value, stored: &str) -> Value {
    let text = || json!({"type": "string"});
    let schema = |fields: Value| {
        let mut fields = fields;
        fields["spec"] = json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
        fields["status"] = json!({"type": "object", "properties": {
            "replicas": {"type": "integer"}, "phase": text()}});
        json!({"openAPIV3Schema": {"type": "object", "properties": fields}})
    };
    let subresources = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    let version = |name: &str, fields: Value, selectable: &[&str]| {
        let selectable: Vec<_> =
            selectable.iter().map(|path| json!({ "jsonPath": path })).collect();
        json!({"name": name, "served": true, "storage": name == stored, "schema": schema(fields),
            "subresources": subresources, "selectableFields": selectable})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "hosts.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "hosts", "kind": "Host"},
            "versions": [
                version("v1", json!({"hostPort": text()}), &[".hostPort"]),
                version("v2", json!({"host": text(), "port": text()}), &[".host", ".port"]),
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": client, "conversionReviewVersions": ["v1", "v1beta1"]}},
        },
    })
}

fn convert(mut object: Value, wanted: &str) -> Value {
    let fields = object.as_object_mut().unwrap();
    if wanted.ends_with("/v2") {
        if let Some(both) = fields.remove("hostPort") {
            let (host, port) = both.as_str().unwrap().split_once(':').unwrap_or_default();
            fields.insert("host".to_owned(), json!(host));
            fields.insert("port".to_owned(), json!(port));
        }
    } else {
        let text = |field: Option<Value>| {
            field.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let (host, port) = (text(fields.remove("host")), text(fields.remove("port")));
        if !host.is_empty() || !port.is_empty() {
            fields.insert("hostPort".to_owned(), json!(format!("{host}:{port}")));
        }
    }
    object
}

fn honest(asked: &Value) -> Reply {
    hook::converted(asked, convert)
}

fn client(hook: &Hook) -> Value {
    json!({"url": format!("https://{}/convert", hook.address),
        "caBundle": STANDARD.encode(&hook.authority)})
}

fn one(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "Host", "metadata": {"name": name},
        "hostPort": "localhost:8080"})
}

fn two(name: &str, host: &str, port: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v2", "kind": "Host", "metadata": {"name": name},
        "host": host, "port": port})
}

/// A cluster with hosts, stored in version 1, and what converts them.
async fn with_hosts() -> (Cluster, Hook) {
    let hook = Hook::start(&["127.0.0.1"], honest).await;
    let cluster = Cluster::start().await;
    define(&cluster.api, &hosts(&client(&hook), "v1")).await;
    (cluster, hook)
}

/// As [`with_hosts`], with none but the test to ask the webhook: a controller that watches all kinds
/// has objects converted too, whenever it gets to them.
async fn with_hosts_alone() -> (Cluster, Hook) {
    let (mut cluster, hook) = with_hosts().await;
    cluster.stop_controllers().await;
    (cluster, hook)
}

async fn define(api: &Api, definition: &Value) {
    api.post(DEFINITIONS, definition).await.ok();
    eventually("the definition is established", async || {
        let told = api.get(&format!("{DEFINITIONS}/hosts.stable.example.com")).await.json();
        (condition(&told, "Established").0 == "True").then_some(())
    })
    .await;
}

/// Status and reason.
fn condition(definition: &Value, kind: &str) -> (String, String) {
    let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition["type"] == kind);
    let text = |field: &str| {
        let value = found.as_ref().and_then(|found| found[field].as_str());
        value.unwrap_or_default().to_owned()
    };
    (text("status"), text("reason"))
}

async fn store_in(api: &Api, version: &str) {
    let path = format!("{DEFINITIONS}/hosts.stable.example.com");
    let mut definition = api.get(&path).await.ok();
    for of in definition["spec"]["versions"].as_array_mut().unwrap() {
        of["storage"] = json!(of["name"] == version);
    }
    api.put(&path, &definition).await.ok();
}

/// The versions in which the objects are stored, by name.
async fn stored(api: &Api) -> Vec<String> {
    let prefix = "/stable.example.com/hosts/".to_owned();
    let request = ListRequest { prefix, after: None, limit: None, at: None };
    let entries = api.store.list(request).await.unwrap().entries.into_iter();
    let stored = entries.map(|entry| {
        let object: Value = serde_json::from_slice(&entry.value).unwrap();
        let version = object["apiVersion"].as_str().unwrap().rsplit('/').next().unwrap();
        format!("{} {version}", object["metadata"]["name"].as_str().unwrap())
    });
    stored.collect()
}

fn is_two(object: &Value) -> bool {
    object["apiVersion"] == "stable.example.com/v2"
        && (&object["host"], &object["port"]) == (&json!("localhost"), &json!("8080"))
        && object.get("hostPort").is_none()
}

fn is_one(object: &Value) -> bool {
    object["apiVersion"] == "stable.example.com/v1"
        && object["hostPort"] == "localhost:8080"
        && object.get("host").or(object.get("port")).is_none()
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_object_of_one_version_is_read_in_the_other() {
    let (cluster, hook) = with_hosts_alone().await;
    let created = cluster.api.post(V1, &one("a")).await.ok();
    assert!(hook.asked().is_empty(), "it is stored as it is");
    let shown = cluster.api.get(&format!("{V2}/a")).await.ok();
    assert!(is_two(&shown), "{shown}");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        assert_eq!(shown["metadata"][field], created["metadata"][field], "{field}");
    }
    let asked = hook.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/convert?timeout=30s");
    let review = &asked[0].body;
    assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(review["request"]["desiredAPIVersion"], "stable.example.com/v2");
    assert_eq!(review["request"]["objects"][0]["hostPort"], "localhost:8080");
    assert!(is_one(&cluster.api.get(&format!("{V1}/a")).await.ok()));
    assert!(hook.asked().is_empty());
    // One connection serves all.
    for _ in 0..3 {
        cluster.api.get(&format!("{V2}/a")).await.ok();
    }
    let asked = hook.asked();
    assert!(asked.iter().all(|asked| asked.connection == 0), "{asked:?}");
}

#[tokio::test]
async fn a_list_of_objects_that_are_stored_in_several_versions_is_one_list() {
    let (cluster, hook) = with_hosts_alone().await;
    let api = &cluster.api;
    api.post(V1, &one("a")).await.ok();
    store_in(api, "v2").await;
    api.post(V1, &one("b")).await.ok();
    api.post(V1, &one("c")).await.ok();
    assert_eq!(stored(api).await, ["a v1", "b v2", "c v2"]);
    hook.asked();
    let list = api.get(V1).await.ok();
    assert_eq!(names(&list), ["a", "b", "c"]);
    assert!(list["items"].as_array().unwrap().iter().all(is_one), "{list}");
    let asked = hook.asked();
    assert_eq!(asked.len(), 1, "all are asked for at once");
    let objects = asked[0].body["request"]["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "those that are of this version are not asked for");
    let list = api.get(V2).await.ok();
    assert!(list["items"].as_array().unwrap().iter().all(is_two), "{list}");
    // What is written is stored in the version of now.
    let shown = api.get(&format!("{V1}/a")).await.ok();
    api.put(&format!("{V1}/a"), &shown).await.ok();
    assert_eq!(stored(api).await, ["a v2", "b v2", "c v2"]);
}

#[tokio::test]
async fn every_verb_works_in_every_version() {
    let (cluster, hook) = with_hosts_alone().await;
    let (api, a) = (&cluster.api, format!("{V2}/a"));
    let created = api.post(V2, &two("a", "localhost", "8080")).await.ok();
    assert!(is_two(&created), "{created}");
    assert_eq!(stored(api).await, ["a v1"]);
    let mut object = api.get(&a).await.ok();
    object["port"] = json!("9090");
    let updated = api.put(&a, &object).await.ok();
    assert_eq!((&updated["port"], &updated["metadata"]["generation"]), (&json!("9090"), &json!(2)));
    assert_eq!(api.put(&a, &updated).await.ok()["metadata"], updated["metadata"], "no write");
    assert_eq!(api.put(&a, &object).await.code, 409, "it is older");
    assert_eq!(api.get(&format!("{V1}/a")).await.ok()["hostPort"], "localhost:9090");

    let port = json!({"port": "8080", "status": {"phase": "lost"}});
    let patched = api.patch(&a, "merge", &port).await.ok();
    assert!(is_two(&patched) && patched.get("status").is_none(), "{patched}");
    let add = json!([{"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]);
    assert!(is_two(&api.patch(&a, "json", &add).await.ok()));
    let status = json!({"status": {"phase": "up", "replicas": 2}});
    let told = api.patch(&format!("{a}/status"), "merge", &status).await.ok();
    assert_eq!(told["status"]["phase"], "up");
    let three = json!({"spec": {"replicas": 3}});
    let scale = api.patch(&format!("{a}/scale"), "merge", &three).await.ok();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(3), &json!(2)));
    let whole = api.get(&format!("{V1}/a")).await.ok();
    assert!(is_one(&whole) && whole["spec"]["replicas"] == 3, "{whole}");
    assert_eq!(stored(api).await, ["a v1"]);
    let asked = hook.asked();
    assert!(asked.iter().all(|it| it.connection == 0), "one after another, on one connection");

    let dry = api.delete(&format!("{a}?dryRun=All")).await;
    assert_eq!(dry.code, 200);
    assert_eq!(api.delete(&a).await.ok()["status"], "Success");
    for (name, host) in [("b", "one"), ("c", "two"), ("d", "one")] {
        api.post(V2, &two(name, host, "1")).await.ok();
    }
    api.delete(&format!("{V2}?fieldSelector=host%3Done")).await.ok();
    assert_eq!(names(&api.get(V2).await.ok()), ["c"]);
}

#[tokio::test]
async fn fields_are_selected_in_the_version_that_is_asked_for() {
    let (cluster, _hook) = with_hosts().await;
    let api = &cluster.api;
    let watch = async |path: &str, selector: &str| {
        api.watch(&format!("{path}?watch=1&fieldSelector={selector}")).await
    };
    let mut by_host = watch(V2, "host%3Dhost1").await;
    let mut by_both = watch(V2, "host%3Dhost1,port%3D80").await;
    let mut by_one = watch(V1, "hostPort%3Dhost1:80").await;
    for (name, host, port) in [("a", "host1", "80"), ("b", "host1", "8080"), ("c", "host2", "")] {
        api.post(V2, &two(name, host, port)).await.ok();
    }
    let selected = async |path: &str, selector: &str| {
        names(&api.get(&format!("{path}?fieldSelector={selector}")).await.ok())
    };
    assert_eq!(selected(V2, "host%3Dhost1").await, ["a", "b"]);
    assert_eq!(selected(V2, "host%3Dhost1,port%3D80").await, ["a"]);
    assert_eq!(selected(V1, "hostPort%3Dhost1:80").await, ["a"]);
    assert_eq!(selected(V1, "hostPort%3Dhost1:8080").await, ["b"]);
    assert_eq!(api.get(&format!("{V1}?fieldSelector=host%3Dhost1")).await.code, 400);

    api.delete(&format!("{V2}?fieldSelector=host%3Dhost1,port%3D80")).await.ok();
    let moved = json!({"host": "host2"});
    api.patch(&format!("{V2}/b"), "merge", &moved).await.ok();
    assert_eq!(selected(V2, "host%3Dhost1").await, [""; 0]);
    let seen = async |lines: &mut Lines, count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(lines.short().await);
        }
        seen
    };
    assert_eq!(seen(&mut by_host, 4).await, ["ADDED a", "ADDED b", "DELETED a", "DELETED b"]);
    assert_eq!(seen(&mut by_both, 2).await, ["ADDED a", "DELETED a"]);
    assert_eq!(seen(&mut by_one, 2).await, ["ADDED a", "DELETED a"]);
}

#[tokio::test]
async fn a_webhook_that_fails_is_told_of_and_ends_watches() {
    let (cluster, hook) = with_hosts().await;
    let api = &cluster.api;
    api.post(V1, &one("a")).await.ok();
    let mut watch = api.watch(&format!("{V2}?watch=1")).await;
    assert_eq!(watch.short().await, "ADDED a");
    hook.behave(|asked| {
        let result = json!({"status": "Failure", "message": "no wind today"});
        hook::reply(asked, &json!({ "result": result }))
    });
    let told = "conversion webhook for stable.example.com/v1, Kind=Host failed: no wind today";
    let (code, reason, message) = api.get(&format!("{V2}/a")).await.refused();
    assert_eq!((code, &*reason, &*message), (500, "", told));
    assert_eq!(api.get(V2).await.refused().2, told);
    assert_eq!(api.delete(&format!("{V2}/a")).await.refused().2, told);
    let (code, _, message) = api.post(V2, &two("b", "x", "1")).await.refused();
    assert_eq!((code, message), (500, told.replace("/v1", "/v2")));
    // The version that is stored goes on.
    assert!(is_one(&api.get(&format!("{V1}/a")).await.ok()));
    api.patch(&format!("{V1}/a"), "merge", &json!({"hostPort": "x:1"})).await.ok();
    let last = watch.next().await.unwrap();
    assert_eq!(last["type"], "ERROR");
    assert_eq!(last["object"]["reason"], "InternalError");
    assert_eq!(last["object"]["message"], format!("Internal error occurred: {told}"));
    assert!(watch.next().await.is_none(), "it is over");
    hook.behave(|_| (503, b"{}".to_vec()));
    let message = api.get(&format!("{V2}/a")).await.refused().2;
    assert!(message.ends_with(": the server is currently unable to handle the request"));
    hook.behave(honest);
    assert_eq!(api.get(&format!("{V2}/a")).await.ok()["host"], "x");
}

#[tokio::test]
async fn a_webhook_that_lies_is_not_believed() {
    let (cluster, hook) = with_hosts().await;
    let api = &cluster.api;
    api.post(V1, &one("a")).await.ok();
    let refused = async |lie: fn(&mut Value), expected: &str| {
        hook.behave(move |asked| {
            hook::converted(asked, |object, wanted| {
                let mut object = convert(object, wanted);
                lie(&mut object);
                object
            })
        });
        let message = api.get(&format!("{V2}/a")).await.refused().2;
        let prefix = "conversion webhook for stable.example.com/v1, Kind=Host returned ";
        assert_eq!(message.strip_prefix(prefix), Some(expected), "{message}");
    };
    refused(
        |object| object["metadata"]["name"] = json!("b"),
        "invalid object: must have the same name: a != b",
    )
    .await;
    refused(
        |object| object["kind"] = json!("Guest"),
        "invalid object at index 0: invalid kind (expected Host, received Guest)",
    )
    .await;
    refused(
        |object| drop(object.as_object_mut().unwrap().remove("metadata")),
        "invalid object: must have the same name: a != ",
    )
    .await;
    hook.behave(|asked| hook::reply(asked, &json!({"uid": "x", "result": {"status": "Success"}})));
    let message = api.get(&format!("{V2}/a")).await.refused().2;
    assert!(message.contains(" failed: expected response.uid="), "{message}");
    hook.behave(|asked| {
        hook::converted(
            &json!({"apiVersion": asked["apiVersion"], "request": {
        "uid": asked["request"]["uid"], "desiredAPIVersion": "x", "objects": []}}),
            convert,
        )
    });
    let message = api.get(&format!("{V2}/a")).await.refused().2;
    assert!(message.ends_with(" returned 0 objects, expected 1"), "{message}");

    // Metadata is ours, but for labels and annotations; what the schema does not have is pruned.
    hook.behave(|asked| {
        hook::converted(asked, |object, wanted| {
            let mut object = convert(object, wanted);
            object["metadata"]["finalizers"] = json!(["x"]);
            object["metadata"]["labels"] = json!({"from": "hook"});
            object["wings"] = json!(2);
            object
        })
    });
    let shown = api.get(&format!("{V2}/a")).await.ok();
    assert_eq!(shown["metadata"].get("finalizers"), None);
    assert_eq!(shown["metadata"]["labels"], json!({"from": "hook"}));
    assert_eq!(shown.get("wings"), None);
    let selected = api.get(&format!("{V2}?labelSelector=from%3Dhook")).await.ok();
    assert_eq!(names(&selected), ["a"]);
}

#[tokio::test]
async fn a_webhook_that_says_nothing_is_given_up_and_holds_nobody_else_up() {
    let (cluster, hook) = with_hosts().await;
    let api = Arc::new(cluster.api.as_user(Identity::new("b", &["system:masters"])));
    api.post(V1, &one("a")).await.ok();
    hook.behave_later(|_| Box::pin(std::future::pending()));
    let mut waiting = JoinSet::new();
    let asking = Arc::clone(&api);
    waiting.spawn(async move { asking.get(&format!("{V2}/a")).await });
    eventually("it is asked", async || (!hook.asked().is_empty()).then_some(())).await;
    assert!(is_one(&api.get(&format!("{V1}/a")).await.ok()));
    api.post(V1, &one("b")).await.ok();
    // Time passes now as fast as everybody waits.
    tokio::time::pause();
    let message = waiting.join_next().await.unwrap().unwrap().refused().2;
    assert_eq!(
        message,
        format!(
            "conversion webhook for stable.example.com/v1, Kind=Host failed: Post \
             \"https://{}/convert?timeout=30s\": context deadline exceeded",
            hook.address
        )
    );
}

#[tokio::test]
async fn a_webhook_may_ask_this_server_before_it_answers() {
    let (cluster, hook) = with_hosts().await;
    cluster.api.post(V1, &one("a")).await.ok();
    let back = cluster.api.server.local(Identity::new("hook", &["system:masters"]));
    hook.behave_later(move |asked| {
        let back = Arc::clone(&back);
        Box::pin(async move {
            for (method, path, body) in [
                ("GET", V1, String::new()),
                ("GET", "/apis/stable.example.com", String::new()),
                (
                    "POST",
                    "/api/v1/namespaces/default/configmaps",
                    json!({"metadata": {"generateName": "asked-"}}).to_string(),
                ),
            ] {
                let request = http::Request::builder().method(method).uri(path);
                let response = back.call(request.body(body.into()).unwrap()).await.unwrap();
                assert!(response.status().is_success(), "{path}");
            }
            honest(&asked)
        })
    });
    assert!(is_two(&cluster.api.get(&format!("{V2}/a")).await.ok()));
    let list = cluster.api.get("/api/v1/namespaces/default/configmaps").await.ok();
    assert!(names(&list).iter().any(|name| name.starts_with("asked-")));
    cluster.api.put(&format!("{V2}/a"), &cluster.api.get(&format!("{V2}/a")).await.ok()).await.ok();
}

#[tokio::test]
async fn a_webhook_may_be_a_service() {
    let hook = Hook::start(&["hook.default.svc"], honest).await;
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let service = json!({"namespace": "default", "name": "hook", "port": 9443, "path": "/crd"});
    let bundle = STANDARD.encode(&hook.authority);
    define(api, &hosts(&json!({"service": service, "caBundle": bundle}), "v1")).await;
    api.post(V1, &one("a")).await.ok();
    let unreachable = async |why: &str| {
        let message = api.get(&format!("{V2}/a")).await.refused().2;
        let prefix = "conversion webhook for stable.example.com/v1, Kind=Host failed: Post \
                      \"https://hook.default.svc:9443/crd?timeout=30s\": ";
        assert_eq!(message.strip_prefix(prefix), Some(why), "{message}");
    };
    unreachable("service \"hook\" not found").await;
    let spec = |port: u16| json!({"selector": {"app": "hook"}, "ports": [{"port": port, "targetPort": 9444}]});
    let services = "/api/v1/namespaces/default/services";
    let service = json!({"metadata": {"name": "hook"}, "spec": spec(443)});
    api.post(services, &service).await.ok();
    unreachable("no service port 9443 found for service \"hook\"").await;
    let merge = json!({"spec": spec(9443)});
    api.patch(&format!("{services}/hook"), "merge", &merge).await.ok();
    unreachable("no endpoints available for service \"hook\"").await;

    let nodes = "/api/v1/nodes";
    api.post(nodes, &json!({"metadata": {"name": "n1"}})).await.ok();
    let ready = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    api.patch(&format!("{nodes}/n1/status"), "merge", &ready).await.ok();
    let pod = json!({"metadata": {"name": "hook", "labels": {"app": "hook"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    api.post("/api/v1/namespaces/default/pods", &pod).await.ok();
    let real = hook.address;
    api.nodes.pods.lock().unwrap().insert("10.42.0.9:9444".parse().unwrap(), real);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    eventually("the pod is an endpoint", async || {
        let list = api.get(slices).await.ok();
        let mut all = list["items"].as_array()?.iter();
        all.any(|it| {
            it["metadata"]["labels"]["kubernetes.io/service-name"] == "hook"
                && it["endpoints"][0]["conditions"]["ready"] == true
        })
        .then_some(())
    })
    .await;
    let shown = api.get(&format!("{V2}/a")).await.ok();
    assert!(is_two(&shown));
    let asked = hook.asked();
    assert_eq!((&*asked[0].host, &*asked[0].path), ("hook.default.svc:9443", "/crd?timeout=30s"));
}

#[tokio::test]
async fn whom_nobody_knows_is_not_asked() {
    let hook = Hook::start(&["127.0.0.1"], honest).await;
    let other = Hook::start(&["hook.example.com"], honest).await;
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    define(api, &hosts(&client(&hook), "v1")).await;
    api.post(V1, &one("a")).await.ok();
    let path = format!("{DEFINITIONS}/hosts.stable.example.com");
    let refused = async |config: Value, why: &str| {
        let patch = json!({"spec": {"conversion": {"webhook": {"clientConfig": config}}}});
        api.patch(&path, "merge", &patch).await.ok();
        let message = api.get(&format!("{V2}/a")).await.refused().2;
        assert!(message.ends_with(why), "{message}");
    };
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let foreign = STANDARD.encode(&other.authority);
    refused(json!({"caBundle": foreign}), unknown).await;
    // Without a bundle those are believed that this machine believes.
    refused(json!({ "caBundle": null }), unknown).await;
    let url = |hook: &Hook| format!("https://{}/", hook.address);
    refused(
        json!({"caBundle": foreign, "url": url(&other)}),
        "x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs",
    )
    .await;
    let address = hook.address;
    let good = client(&hook);
    drop(hook);
    eventually("nobody listens", async || {
        let refused = tokio::net::TcpStream::connect(address).await.err()?;
        (refused.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    refused(good, &format!("dial tcp {address}: connect: connection refused")).await;
}

#[tokio::test]
async fn a_definition_with_a_bad_bundle_is_not_served_until_it_is_mended() {
    let hook = Hook::start(&["127.0.0.1"], honest).await;
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let mut bad = client(&hook);
    bad["caBundle"] = json!(STANDARD.encode("no certificate"));
    api.post(DEFINITIONS, &hosts(&bad, "v1")).await.ok();
    let path = format!("{DEFINITIONS}/hosts.stable.example.com");
    let told = eventually("it is not established", async || {
        let told = api.get(&path).await.ok();
        (condition(&told, "Established").0 == "False").then_some(told)
    })
    .await;
    assert_eq!(condition(&told, "Established").1, "InvalidCABundle");
    assert_eq!(condition(&told, "NamesAccepted").0, "True");
    assert_eq!(api.get(V1).await.code, 404);
    let bundle = |bundle: &Value| json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}});
    api.patch(&path, "merge", &bundle(&client(&hook)["caBundle"])).await.ok();
    eventually("it is established", async || {
        let told = api.get(&path).await.ok();
        (condition(&told, "Established").0 == "True").then_some(())
    })
    .await;
    let (code, _, message) = api.patch(&path, "merge", &bundle(&bad["caBundle"])).await.refused();
    assert_eq!(code, 422);
    assert!(
        message.ends_with(
            "spec.conversion.webhookClientConfig.caBundle: Invalid value: \
             \"bm8gY2VydGlmaWNhdGU=\": unable to load root certificates: unable to parse bytes as \
             PEM block"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn a_definition_goes_though_its_webhook_has_gone() {
    let (cluster, hook) = with_hosts().await;
    let api = &cluster.api;
    api.post(V1, &one("a")).await.ok();
    api.post(V1, &one("b")).await.ok();
    drop(hook);
    assert_eq!(api.get(V2).await.code, 500);
    let path = format!("{DEFINITIONS}/hosts.stable.example.com");
    api.delete(&path).await.ok();
    eventually("it is gone", async || (api.get(&path).await.code == 404).then_some(())).await;
    assert_eq!(stored(api).await, [""; 0]);
}

#[tokio::test]
async fn a_version_that_is_no_more_is_no_version() {
    let (cluster, _hook) = with_hosts().await;
    let api = &cluster.api;
    api.post(V1, &one("a")).await.ok();
    store_in(api, "v2").await;
    // An administrator says that nothing is stored in version 1 any more, which is not so.
    let path = format!("{DEFINITIONS}/hosts.stable.example.com");
    let status = json!({"status": {"storedVersions": ["v2"]}});
    api.patch(&format!("{path}/status"), "merge", &status).await.ok();
    let remove = json!([{"op": "remove", "path": "/spec/versions/0"}]);
    api.patch(&path, "json", &remove).await.ok();
    let (code, _, message) = api.get(&format!("{V2}/a")).await.refused();
    assert_eq!(code, 500);
    assert_eq!(
        message,
        "request to convert CR from an invalid group/version: stable.example.com/v1"
    );
}

#[tokio::test]
async fn fields_are_managed_across_versions() {
    let (cluster, hook) = with_hosts().await;
    let api = &cluster.api;
    api.post(&format!("{V1}?fieldManager=one"), &one("a")).await.ok();
    let apply = async |more: Value| {
        let mut config = json!({"apiVersion": "stable.example.com/v2", "kind": "Host",
            "metadata": {"name": "a"}});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("{V2}/a?fieldManager=two");
        let yaml = [(CONTENT_TYPE, "application/apply-patch+yaml")];
        api.send(Method::PATCH, &path, &yaml, config.to_string()).await
    };
    let managers = |object: &Value| {
        let all = object["metadata"]["managedFields"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut told: Vec<_> =
            all.map(|it| format!("{} {}", text(&it["manager"]), text(&it["apiVersion"]))).collect();
        told.sort();
        told
    };
    let both = ["one stable.example.com/v1", "two stable.example.com/v2"];
    let applied = apply(json!({"spec": {"replicas": 3}})).await.ok();
    assert_eq!(managers(&applied), both);
    assert_eq!((&applied["host"], &applied["spec"]["replicas"]), (&json!("localhost"), &json!(3)));
    let (code, reason, message) = apply(json!({"host": "x"})).await.refused();
    assert_eq!((code, &*reason), (409, "Conflict"), "{message}");
    assert!(message.contains("conflict with \"one\" using stable.example.com/v1: .hostPort"));
    // Whoever writes in the other version takes nothing from those that it leaves alone.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    let patched = api.patch(&format!("{V2}/a?fieldManager=three"), "merge", &labels).await.ok();
    assert_eq!(managers(&patched).len(), 3, "{:?}", managers(&patched));
    // Nobody can be reckoned with while nobody converts.
    hook.behave(|_| (500, Vec::new()));
    assert_eq!(apply(json!({"spec": {"replicas": 4}})).await.code, 500);
}
