//! What upstream's conformance tests of definitions look at beyond conversions
//! (test/e2e/apimachinery/{custom_resource_definition,crd_watch,crd_publish_openapi}.go, v1.35).

use crate::cluster::Cluster;
use crate::support::eventually;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A cluster-scoped kind of which anything may be said.
fn anything(plural: &str) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    defined(plural, &[("v1", schema)])
}

fn defined(plural: &str, versions: &[(&str, Value)]) -> Value {
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, (name, schema))| {
            json!({"name": name, "served": true, "storage": index == 0,
                "schema": {"openAPIV3Schema": schema}})
        })
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.mygroup.example.com")},
        "spec": {
            "group": "mygroup.example.com", "scope": "Cluster",
            "names": {"plural": plural, "singular": plural, "kind": format!("{plural}-kind"),
                "listKind": format!("{plural}-list")},
            "versions": versions,
        },
    })
}

impl Cluster {
    async fn defines(&self, definition: &Value) -> Value {
        let created = self.api.post(DEFINITIONS, definition).await.ok();
        let name = created["metadata"]["name"].as_str().unwrap();
        eventually("the definition is established", async || {
            let definition = self.api.get(&format!("{DEFINITIONS}/{name}")).await.json();
            let conditions = definition["status"]["conditions"].as_array()?.clone();
            let is_so = |it: &Value| it["type"] == "Established" && it["status"] == "True";
            conditions.iter().any(is_so).then_some(definition)
        })
        .await
    }

    async fn swagger(&self) -> Value {
        self.api.get("/openapi/v2").await.ok()
    }
}

#[tokio::test]
async fn definitions_are_listed_and_deleted_by_label() {
    let cluster = Cluster::start().await;
    for index in 0..10 {
        let mut definition = anything(&format!("foo{index}s"));
        definition["metadata"]["labels"] = json!({"e2e-list-test-uuid": "u"});
        cluster.defines(&definition).await;
    }
    let kept = cluster.defines(&anything("kept")).await;
    let labelled = format!("{DEFINITIONS}?labelSelector=e2e-list-test-uuid%3Du");
    let list = cluster.api.get(&labelled).await.ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 10);
    cluster.api.delete(&labelled).await.ok();
    eventually("they are gone", async || {
        let list = cluster.api.get(&labelled).await.ok();
        list["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    let group = cluster.api.get("/apis/mygroup.example.com/v1").await.ok();
    assert_eq!(group["resources"].as_array().unwrap().len(), 1);
    assert_eq!(
        cluster.api.get(&format!("{DEFINITIONS}/kept.mygroup.example.com")).await.ok(),
        kept
    );
}

#[tokio::test]
async fn the_status_of_a_definition_is_written_by_its_subresource() {
    let cluster = Cluster::start().await;
    let definition = cluster.defines(&anything("foos")).await;
    let path = format!("{DEFINITIONS}/foos.mygroup.example.com/status");
    let has = |definition: &Value, message: &str| {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| condition["message"] == message)
    };
    let updated = eventually("nobody else is faster", async || {
        let mut status = cluster.api.get(&path).await.ok();
        assert_eq!(status["spec"], definition["spec"]);
        let told =
            json!({"type": "", "status": "", "lastTransitionTime": null, "message": "updated"});
        status["status"]["conditions"].as_array_mut().unwrap().push(told);
        let answer = cluster.api.put(&path, &status).await;
        (answer.code != 409).then(|| answer.ok())
    })
    .await;
    assert!(has(&updated, "updated"));
    let add =
        json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = cluster.api.patch(&path, "json", &add).await.ok();
    assert!(has(&patched, "patched") && !has(&patched, "updated"));
}

#[tokio::test]
async fn defaults_are_filled_in_on_requests_and_from_the_store() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    let text = || json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"a": text(), "b": text()},
        "x-kubernetes-preserve-unknown-fields": true});
    let definition = cluster.defines(&defined("foos", &[("v1beta1", schema)])).await;
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    let foos = "/apis/mygroup.example.com/v1beta1/foos";
    let foo = |name: &str| {
        json!({"apiVersion": "mygroup.example.com/v1beta1", "kind": "foos-kind",
            "metadata": {"name": name}})
    };
    let first = api.post(foos, &foo("one")).await.ok();
    assert_eq!(first.get("a"), None);
    let of =
        |name: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/{name}/default");
    let add = json!([{"op": "add", "path": of("a"), "value": "A"}]);
    api.patch(&path, "json", &add).await.ok();
    assert_eq!(api.get(&format!("{foos}/one")).await.ok()["a"], "A");
    let second = api.post(foos, &foo("two")).await.ok();
    assert_eq!(second["a"], "A");
    let change = json!([{"op": "remove", "path": of("a")},
        {"op": "add", "path": of("b"), "value": "B"}]);
    api.patch(&path, "json", &change).await.ok();
    let shown = api.get(&format!("{foos}/two")).await.ok();
    assert_eq!((&shown["a"], &shown["b"]), (&json!("A"), &json!("B")));
    let shown = api.get(&format!("{foos}/one")).await.ok();
    assert_eq!((shown.get("a"), &shown["b"]), (None, &json!("B")));
}

#[tokio::test]
async fn custom_resources_are_watched_by_name() {
    let cluster = Cluster::start().await;
    let api = &cluster.api;
    cluster.defines(&anything("noxus")).await;
    let noxus = "/apis/mygroup.example.com/v1/noxus";
    let watch = async |name: &str| {
        let query = format!("watch=true&timeoutSeconds=600&fieldSelector=metadata.name%3D{name}");
        api.watch(&format!("{noxus}?{query}")).await
    };
    let (mut one, mut two) = (watch("name1").await, watch("name2").await);
    for name in ["name1", "name2"] {
        let noxu = json!({"apiVersion": "mygroup.example.com/v1", "kind": "noxus-kind",
            "metadata": {"name": name}, "content": {"key": "value"}});
        api.post(noxus, &noxu).await.ok();
        let add = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
        api.patch(&format!("{noxus}/{name}"), "json", &add).await.ok();
        api.delete(&format!("{noxus}/{name}")).await.ok();
    }
    for (lines, name) in [(&mut one, "name1"), (&mut two, "name2")] {
        for event in ["ADDED", "MODIFIED", "DELETED"] {
            assert_eq!(lines.short().await, format!("{event} {name}"));
        }
    }
}

#[tokio::test]
async fn definitions_are_found_by_discovery() {
    let cluster = Cluster::start().await;
    let groups = cluster.api.get("/apis").await.ok();
    let groups = groups["groups"].as_array().unwrap().clone();
    let group = groups.into_iter().find(|group| group["name"] == "apiextensions.k8s.io").unwrap();
    assert_eq!(group["versions"][0]["groupVersion"], "apiextensions.k8s.io/v1");
    let own = cluster.api.get("/apis/apiextensions.k8s.io").await.ok();
    assert_eq!(own["versions"], group["versions"]);
    let resources = cluster.api.get("/apis/apiextensions.k8s.io/v1").await.ok();
    let mut resources = resources["resources"].as_array().unwrap().iter();
    assert!(resources.any(|resource| resource["name"] == "customresourcedefinitions"));
}

/// A schema with objects, arrays and texts at every depth.
fn foo() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let mut feeling = text("How it feels.");
    feeling["enum"] = json!(["Great", "Down"]);
    let mut pattern = text("Of which kind it is.");
    pattern["pattern"] = json!("in-tree|out-of-tree");
    json!({"type": "object", "description": "Foo, for tests", "properties": {
        "spec": {"type": "object", "description": "What is wanted", "properties": {
            "bars": {"type": "array", "description": "All bars", "items": {
                "type": "object", "required": ["name"], "properties": {
                    "name": text("Its name."), "feeling": feeling,
                    "bazs": {"type": "array", "items": {"type": "string"}},
                }}},
        }},
        "status": {"type": "object", "properties": {"bars": {"type": "array", "items": {
            "type": "object", "properties": {
                "available": {"type": "boolean"}, "quxType": pattern}}}}},
    }})
}

/// What is published beyond what was defined.
fn without_additions(mut schema: Value) -> Value {
    let fields = schema.as_object_mut().unwrap();
    fields.remove("x-kubernetes-group-version-kind");
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for added in ["apiVersion", "kind", "metadata"] {
            assert!(properties.remove(added).is_some(), "{added}");
        }
    }
    schema
}

#[tokio::test]
async fn schemas_are_published_as_they_are_defined() {
    let cluster = Cluster::start().await;
    cluster.defines(&defined("foos", &[("v2", foo()), ("v3", foo())])).await;
    cluster.defines(&anything("things")).await;
    let swagger = cluster.swagger().await;
    for version in ["v2", "v3"] {
        let published = &swagger["definitions"][format!("com.example.mygroup.{version}.foos-kind")];
        assert_eq!(without_additions(published.clone()), foo());
    }
    let bare = &swagger["definitions"]["com.example.mygroup.v1.things-kind"];
    assert_eq!(without_additions(bare.clone()), json!({"type": "object"}));

    // What is renamed or served no more is published no more.
    let path = format!("{DEFINITIONS}/foos.mygroup.example.com");
    let rename = json!([{"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]);
    cluster.api.patch(&path, "json", &rename).await.ok();
    let names = async || {
        let swagger = cluster.swagger().await;
        let all = swagger["definitions"].as_object().unwrap().keys().cloned();
        let own = all.filter(|name| name.ends_with(".foos-kind"));
        own.collect::<Vec<_>>()
    };
    assert_eq!(
        names().await,
        ["com.example.mygroup.v2.foos-kind", "com.example.mygroup.v4.foos-kind"]
    );
    let unserve = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    cluster.api.patch(&path, "json", &unserve).await.ok();
    assert_eq!(names().await, ["com.example.mygroup.v2.foos-kind"]);
    cluster.api.delete(&path).await.ok();
    eventually("it is published no more", async || names().await.is_empty().then_some(())).await;
}
