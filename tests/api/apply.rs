//! Server-side apply, and who manages which fields.

use super::support::{Answer, Api};
use http::Method;
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn send_apply(api: &Api, path: &str, query: &str, body: &str) -> Answer {
    let headers = [(CONTENT_TYPE, "application/apply-patch+yaml")];
    api.send(Method::PATCH, &format!("{path}?{query}"), &headers, body.to_owned()).await
}

async fn apply(api: &Api, path: &str, manager: &str, config: &Value) -> Answer {
    send_apply(api, path, &format!("fieldManager={manager}"), &config.to_string()).await
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn deployment(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    spec["template"]["metadata"] = json!({"labels": {"app": "web"}});
    if spec["template"]["spec"].is_null() {
        spec["template"]["spec"] = json!({"containers": [{"name": "a", "image": "a:1"}]});
    }
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

/// Who manages the object: `manager operation subresource` and the fields.
fn managers(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let shown = entries.into_iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("fieldsType"), "FieldsV1");
        let name = format!("{} {} {}", text("manager"), text("operation"), text("subresource"));
        (name.trim_end().to_owned(), entry["fieldsV1"].clone())
    });
    shown.collect()
}

fn names(object: &Value) -> Vec<String> {
    managers(object).into_iter().map(|(name, _)| name).collect()
}

#[tokio::test]
async fn every_write_tells_who_manages_what() {
    let api = Api::start().await;
    let headers = [(USER_AGENT, "kubectl/v1.35.0 (linux/amd64) kubernetes/abc")];
    let body = json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "1"}}).to_string();
    let created = api.send(Method::POST, CONFIG_MAPS, &headers, body).await.ok();
    let fields = json!({"f:data": {".": {}, "f:x": {}, "f:y": {}}});
    assert_eq!(managers(&created), [("kubectl Update".to_owned(), fields)]);
    let entry = &created["metadata"]["managedFields"][0];
    assert_eq!(entry["apiVersion"], "v1");
    assert_eq!(entry["time"], created["metadata"]["creationTimestamp"]);

    let path = format!("{MAP}?fieldManager=patcher");
    let patched = api.patch(&path, "merge", &json!({"data": {"x": "2"}})).await.ok();
    assert_eq!(
        managers(&patched),
        [
            ("kubectl Update".to_owned(), json!({"f:data": {".": {}, "f:y": {}}})),
            ("patcher Update".to_owned(), json!({"f:data": {"f:x": {}}})),
        ]
    );
    // What is read is what was answered, in every way to read.
    assert_eq!(api.get(MAP).await.ok(), patched);
    let listed = api.get(CONFIG_MAPS).await.ok();
    let ours = listed["items"].as_array().unwrap();
    let ours = ours.iter().find(|item| item["metadata"]["name"] == "a").unwrap();
    assert_eq!(ours["metadata"], patched["metadata"]);
}

#[tokio::test]
async fn an_update_without_managers_keeps_them_and_one_with_none_resets_them() {
    let api = Api::start().await;
    let made = apply(&api, MAP, "a", &map(json!({"x": "1"}))).await;
    assert_eq!(made.code, 201);
    let mut object = made.json();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object["data"]["y"] = json!("1");
    let updated = api.put(&format!("{MAP}?fieldManager=b"), &object).await.ok();
    assert_eq!(names(&updated), ["a Apply", "b Update"]);
    let same = api.put(&format!("{MAP}?fieldManager=c"), &updated).await.ok();
    assert_eq!(same, updated, "nothing changes, and nothing is written");
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let reset = api.patch(MAP, "merge", &reset).await.ok();
    assert_eq!(reset["metadata"].get("managedFields"), None);
    let applied = apply(&api, MAP, "a", &map(json!({"x": "1"}))).await.ok();
    assert_eq!(names(&applied), ["a Apply", "before-first-apply Update"]);
}

#[tokio::test]
async fn applying_creates_and_changes_and_removes() {
    let api = Api::start().await;
    let made = apply(&api, MAP, "me", &map(json!({"x": "1", "y": "1"}))).await;
    assert_eq!(made.code, 201);
    let made = made.json();
    assert_eq!(
        managers(&made),
        [("me Apply".to_owned(), json!({"f:data": {"f:x": {}, "f:y": {}}}))]
    );
    let again = apply(&api, MAP, "me", &map(json!({"x": "1", "y": "1"}))).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.json(), made, "no new revision, no new time");
    let changed = apply(&api, MAP, "me", &map(json!({"x": "2"}))).await.ok();
    assert_eq!(changed["data"], json!({"x": "2"}));
    assert_ne!(changed["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn conflicts_are_told_and_forced() {
    let api = Api::start().await;
    apply(&api, DEPLOYMENT, "one", &deployment(json!({"replicas": 1}))).await.ok();
    let wanted = deployment(json!({"replicas": 2}));
    let refused = apply(&api, DEPLOYMENT, "two", &wanted).await;
    let status = refused.json();
    assert_eq!(
        status["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!((refused.code, status["reason"].as_str()), (409, Some("Conflict")));
    assert_eq!(
        status["details"],
        json!({"causes": [{
            "reason": "FieldManagerConflict",
            "message": "conflict with \"one\"",
            "field": ".spec.replicas",
        }]})
    );
    let body = wanted.to_string();
    let forced = send_apply(&api, DEPLOYMENT, "fieldManager=two&force=true", &body).await.ok();
    assert_eq!(forced["spec"]["replicas"], 2);
    let one = &managers(&forced).into_iter().find(|(name, _)| name == "one Apply").unwrap().1;
    assert_eq!(one["f:spec"].get("f:replicas"), None);
    assert_eq!(forced["metadata"]["generation"], 2);
    // Somebody who updated is named with the version.
    let path = format!("{DEPLOYMENT}?fieldManager=hand");
    api.patch(&path, "merge", &json!({"spec": {"paused": true}})).await.ok();
    let wanted = deployment(json!({"replicas": 2, "paused": false}));
    let (_, _, message) = apply(&api, DEPLOYMENT, "two", &wanted).await.refused();
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"hand\" using apps/v1: .spec.paused"
    );
}

#[tokio::test]
async fn shared_fields_stay_until_the_last_lets_go() {
    let api = Api::start().await;
    apply(&api, MAP, "one", &map(json!({"x": "1", "y": "1"}))).await.ok();
    let shared = apply(&api, MAP, "two", &map(json!({"x": "1"}))).await.ok();
    assert_eq!(names(&shared).len(), 2);
    let left = apply(&api, MAP, "one", &map(json!({"y": "1"}))).await.ok();
    assert_eq!(left["data"], json!({"x": "1", "y": "1"}));
    let mut without = map(json!({}));
    without.as_object_mut().unwrap().remove("data");
    let left = apply(&api, MAP, "two", &without).await.ok();
    assert_eq!(left["data"], json!({"y": "1"}));
    assert_eq!(names(&left), ["one Apply"]);
}

#[tokio::test]
async fn lists_are_merged_by_what_the_schema_says_of_them() {
    let api = Api::start().await;
    let containers = |list: Value| deployment(json!({"template": {"spec": {"containers": list}}}));
    let one =
        json!([{"name": "a", "image": "a:1", "args": ["x"], "ports": [{"containerPort": 80}]}]);
    let made = apply(&api, DEPLOYMENT, "one", &containers(one)).await.ok();
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
    let two =
        json!([{"name": "b", "image": "b:1"}, {"name": "a", "env": [{"name": "E", "value": "1"}]}]);
    let both = apply(&api, DEPLOYMENT, "two", &containers(two)).await.ok();
    let list = both["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!((&list[0]["name"], &list[1]["name"]), (&json!("b"), &json!("a")));
    assert_eq!((&list[1]["image"], &list[1]["env"][0]["value"]), (&json!("a:1"), &json!("1")));
    // An atomic list belongs to one.
    let args = json!([{"name": "a", "args": ["y"]}]);
    let (_, _, message) = apply(&api, DEPLOYMENT, "two", &containers(args)).await.refused();
    let path = ".spec.template.spec.containers[name=\"a\"].args";
    assert_eq!(message, format!("Apply failed with 1 conflict: conflict with \"one\": {path}"));
    // Who lets go of an element takes it away, with what is in it.
    let left = apply(&api, DEPLOYMENT, "two", &containers(json!([{"name": "a"}]))).await.ok();
    let list = left["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert_eq!(list[0].get("env"), None);
}

#[tokio::test]
async fn status_has_managers_of_its_own() {
    let api = Api::start().await;
    apply(&api, DEPLOYMENT, "me", &deployment(json!({"replicas": 1}))).await.ok();
    let status = |status: Value| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 7}, "status": status,
        })
    };
    let path = format!("{DEPLOYMENT}/status");
    let query = "fieldManager=controller&force=true";
    let body = status(json!({"replicas": 3, "observedGeneration": 1})).to_string();
    let applied = send_apply(&api, &path, query, &body).await.ok();
    assert_eq!(
        (&applied["status"]["replicas"], &applied["spec"]["replicas"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(
        managers(&applied)[0],
        (
            "controller Apply status".to_owned(),
            json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}})
        )
    );
    let (code, _, message) =
        apply(&api, &path, "other", &status(json!({"replicas": 4}))).await.refused();
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"controller\" with subresource \"status\": \
         .status.replicas"
    );
    let patch = json!({"status": {"readyReplicas": 1}});
    let path = format!("{path}?fieldManager=hand");
    let patched = api.patch(&path, "merge", &patch).await.ok();
    assert!(names(&patched).contains(&"hand Update status".to_owned()), "{:?}", names(&patched));
    let nothing = format!("{}/status", DEPLOYMENT.replace("web", "none"));
    let mut missing = status(json!({}));
    missing["metadata"]["name"] = json!("none");
    assert_eq!(apply(&api, &nothing, "me", &missing).await.code, 404);
}

#[tokio::test]
async fn a_scale_takes_the_replicas() {
    let api = Api::start().await;
    apply(&api, DEPLOYMENT, "me", &deployment(json!({"replicas": 1}))).await.ok();
    let path = format!("{DEPLOYMENT}/scale");
    let patch = json!({"spec": {"replicas": 2}});
    api.patch(&format!("{path}?fieldManager=hpa"), "merge", &patch).await.ok();
    let scaled = api.get(DEPLOYMENT).await.ok();
    assert_eq!(names(&scaled), ["me Apply", "hpa Update scale"]);
    let entry = &scaled["metadata"]["managedFields"][1];
    assert_eq!(entry["apiVersion"], "apps/v1");
    assert_eq!(entry["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let (_, _, message) =
        apply(&api, DEPLOYMENT, "me", &deployment(json!({"replicas": 1}))).await.refused();
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using \
         apps/v1: .spec.replicas"
    );
    // Applied, the scale has its own rules.
    let scale = |replicas: i64| {
        json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": replicas},
        })
    };
    let (code, _, message) = apply(&api, &path, "other", &scale(3)).await.refused();
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using \
         autoscaling/v1: .spec.replicas"
    );
    let body = scale(3).to_string();
    let forced = send_apply(&api, &path, "fieldManager=other&force=true", &body).await.ok();
    assert_eq!((&forced["kind"], &forced["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(names(&api.get(DEPLOYMENT).await.ok()), ["me Apply", "other Apply scale"]);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be() {
    let api = Api::start().await;
    let body = map(json!({"x": "1"})).to_string();
    let query = "fieldManager=me&dryRun=All";
    let would = send_apply(&api, MAP, query, &body).await;
    assert_eq!((would.code, names(&would.json())), (201, vec!["me Apply".to_owned()]));
    assert_eq!(api.get(MAP).await.code, 404);
    apply(&api, MAP, "me", &map(json!({"x": "1"}))).await.ok();
    let body = map(json!({"x": "2"})).to_string();
    assert_eq!(send_apply(&api, MAP, query, &body).await.ok()["data"]["x"], "2");
    assert_eq!(api.get(MAP).await.ok()["data"]["x"], "1");
}

#[tokio::test]
async fn yaml_is_read() {
    let api = Api::start().await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\" # one\n";
    let made = send_apply(&api, MAP, "fieldManager=me", yaml).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.json()["data"], json!({"x": "1"}));
    let twice =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  x: \"1\"\n  x: \"2\"\n";
    let query = "fieldManager=me&fieldValidation=Strict";
    let (code, _, message) = send_apply(&api, MAP, query, twice).await.refused();
    assert_eq!(code, 400);
    assert_eq!(
        message,
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  \
         line 7: key \"x\" already set in map"
    );
    assert_eq!(send_apply(&api, MAP, "fieldManager=me", twice).await.warnings().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_in_upstreams_words() {
    let api = Api::start().await;
    let refused =
        async |query: &str, body: &str| send_apply(&api, MAP, query, body).await.refused();
    let good = map(json!({})).to_string();
    let (code, _, message) = refused("", &good).await;
    assert_eq!(code, 422);
    assert!(message.ends_with("fieldManager: Required value: is required for apply patch"));
    let (code, _, message) = refused("fieldManager=me", "{").await;
    assert_eq!(code, 400);
    assert!(message.starts_with("error decoding YAML: "), "{message}");
    for (config, code, expected) in [
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}),
            400,
            "invalid object type: /v1, Kind=Secret",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap"}),
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object \
             specified uid u, and no existing object was found",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "dada": 1}),
            500,
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): .dada: field not \
             declared in schema",
        ),
    ] {
        let (found, _, message) = refused("fieldManager=me", &config.to_string()).await;
        assert_eq!((found, message.as_str()), (code, expected));
    }
    let made = apply(&api, MAP, "me", &map(json!({}))).await.ok();
    let mut stale = map(json!({"x": "1"}));
    stale["metadata"]["resourceVersion"] = json!("1");
    let (code, reason, _) = apply(&api, MAP, "me", &stale).await.refused();
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    apply(&api, MAP, "me", &stale).await.ok();
    stale["metadata"]["uid"] = json!("other");
    stale["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    let (code, _, message) = apply(&api, MAP, "me", &stale).await.refused();
    assert_eq!(code, 409);
    assert!(message.contains("UID in precondition: other"), "{message}");
}

#[tokio::test]
async fn kubectl_goes_on_from_client_side_apply() {
    let api = Api::start().await;
    let last = map(json!({"x": "1"})).to_string();
    let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let object = json!({"metadata": {"name": "a", "annotations": annotations}, "data": {"x": "1"}});
    api.post(&format!("{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply"), &object).await.ok();
    let applied = apply(&api, MAP, "kubectl", &map(json!({"x": "2"}))).await.ok();
    let annotations = &applied["metadata"]["annotations"];
    let last = annotations["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["data"]["x"], "2");
    assert_eq!(names(&applied), ["kubectl Apply", "kubectl-client-side-apply Update"]);
}

#[tokio::test]
async fn managers_survive_another_version() {
    let api = Api::start().await;
    let path = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/a")
    };
    let scaler = |version: &str, spec: Value| {
        let mut spec = spec;
        spec["maxReplicas"] = json!(3);
        spec["scaleTargetRef"] =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"});
        json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a"}, "spec": spec,
        })
    };
    let one = scaler("v1", json!({"targetCPUUtilizationPercentage": 50, "minReplicas": 2}));
    let made = apply(&api, &path("v1"), "me", &one).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let patch = json!({"spec": {"minReplicas": 1}});
    let two = format!("{}?fieldManager=hand", path("v2"));
    let patched = api.patch(&two, "merge", &patch).await.ok();
    let (_, mine) = managers(&patched)[0].clone();
    assert_eq!(mine["f:spec"].get("f:minReplicas"), None, "{mine}");
    assert!(mine["f:spec"].get("f:targetCPUUtilizationPercentage").is_some(), "{mine}");
    let refused = apply(&api, &path("v1"), "me", &one).await.refused();
    assert_eq!(
        refused.2,
        "Apply failed with 1 conflict: conflict with \"hand\" using autoscaling/v2: \
         .spec.minReplicas"
    );
    // The next version the same manager applies in replaces the last.
    let moved = scaler("v2", json!({"minReplicas": 1}));
    let moved = apply(&api, &path("v2"), "me", &moved).await.ok();
    assert_eq!(names(&moved), ["me Apply", "hand Update"]);
    assert_eq!(moved["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v2");
}
