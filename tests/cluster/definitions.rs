//! CustomResourceDefinitions and their objects, from the definition to the last of them: what
//! upstream's conformance tests of CustomResourceDefinition look at
//! (test/e2e/apimachinery/{custom_resource_definition,garbage_collector,namespace}.go, v1.35).

use crate::cluster::Cluster;
use crate::support::eventually;
use serde_json::{Value, json};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const KITES: &str = "/apis/example.com/v1/namespaces/default/kites";

/// Kites fly at a height and tell how high they are.
fn kites() -> Value {
    let schema = json!({"openAPIV3Schema": {
        "type": "object", "required": ["spec"],
        "properties": {
            "spec": {"type": "object", "required": ["color"], "properties": {
                "color": {"type": "string", "enum": ["red", "blue"]},
                "height": {"type": "integer", "minimum": 1, "default": 10},
                "tails": {"type": "integer"},
            }},
            "status": {"type": "object", "properties": {
                "height": {"type": "integer"}, "tails": {"type": "integer"},
                "selector": {"type": "string"},
            }},
        },
    }});
    // Upstream takes schemas that are the same for one of all versions, which cannot have selectable
    // fields in one of them.
    let mut older = schema.clone();
    older["openAPIV3Schema"]["description"] = json!("older");
    let subresources = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.tails", "statusReplicasPath": ".status.tails",
        "labelSelectorPath": ".status.selector",
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "kites.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "kites", "kind": "Kite", "shortNames": ["kt"], "categories": ["toys"]},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": true, "deprecated": true,
                    "schema": older, "subresources": subresources},
                {"name": "v1", "served": true, "storage": false, "schema": schema,
                    "subresources": subresources,
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    "additionalPrinterColumns": [
                        {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
                    ]},
            ],
        },
    })
}

fn kite(name: &str, color: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Kite", "metadata": {"name": name},
        "spec": {"color": color},
    })
}

impl Cluster {
    pub(crate) async fn define(&self, definition: &Value) {
        let created = self.api.post(DEFINITIONS, definition).await;
        assert_eq!(created.code, 201, "{}", created.text());
        let name = definition["metadata"]["name"].as_str().unwrap();
        eventually("the definition is established", async || {
            let definition = self.api.get(&format!("{DEFINITIONS}/{name}")).await.json();
            (condition(&definition, "Established") == "True").then_some(())
        })
        .await;
    }

    async fn kite(&self, name: &str, color: &str) -> Value {
        self.api.post(KITES, &kite(name, color)).await.ok()
    }

    async fn is_gone(&self, path: &str) {
        eventually(&format!("{path} is gone"), async || {
            (self.api.get(path).await.code == 404).then_some(())
        })
        .await;
    }
}

fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut conditions = conditions.into_iter().filter(|condition| condition["type"] == kind);
    let status = conditions.next().map(|condition| condition["status"].clone());
    status.and_then(|status| status.as_str().map(str::to_owned)).unwrap_or_default()
}

#[tokio::test]
async fn a_defined_kind_is_there_as_soon_as_it_is_said_to_be() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.api.get(KITES).await.code, 404);
    cluster.define(&kites()).await;
    let created = cluster.kite("a", "red").await;
    assert_eq!(created["spec"], json!({"color": "red", "height": 10}), "defaults are filled in");
    assert_eq!(created["metadata"]["generation"], 1);

    let resources = cluster.api.get("/apis/example.com/v1").await.ok();
    let names: Vec<_> =
        resources["resources"].as_array().unwrap().iter().map(|row| row["name"].clone()).collect();
    assert_eq!(names, ["kites", "kites/scale", "kites/status"]);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["kt"]));
    let group = cluster.api.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");

    let invalid = cluster.api.post(KITES, &kite("b", "green")).await;
    let (code, reason, message) = invalid.refused();
    assert_eq!((code, &*reason), (422, "Invalid"));
    assert_eq!(
        message,
        "Kite.example.com \"b\" is invalid: spec.color: Unsupported value: \"green\": supported \
         values: \"red\", \"blue\""
    );
    let deprecated = cluster.api.get("/apis/example.com/v1beta1/kites").await;
    assert_eq!(
        deprecated.warnings(),
        ["299 - \"example.com/v1beta1 Kite is deprecated; use example.com/v1 Kite\""]
    );
}

#[tokio::test]
async fn objects_of_a_defined_kind_are_written_like_all_others() {
    let cluster = Cluster::start().await;
    cluster.define(&kites()).await;
    let (api, path) = (&cluster.api, format!("{KITES}/a"));
    cluster.kite("a", "red").await;
    cluster.kite("b", "blue").await;

    let mut pruned = kite("c", "red");
    pruned["spec"]["wings"] = json!(2);
    let strict = api.post(&format!("{KITES}?fieldValidation=Strict"), &pruned).await;
    assert_eq!(
        strict.refused().2,
        "Kite in version \"v1\" cannot be handled as a Kite: strict decoding error: unknown field \
         \"spec.wings\""
    );
    let warned = api.post(&format!("{KITES}?fieldValidation=Warn&dryRun=All"), &pruned).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.wings\\\"\""]);
    assert_eq!(warned.ok()["spec"].get("wings"), None);

    // Half by half.
    let both = json!({"spec": {"height": 20}, "status": {"height": 5}});
    let patched = api.patch(&path, "merge", &both).await.ok();
    assert_eq!((&patched["metadata"]["generation"], patched.get("status")), (&json!(2), None));
    let status = json!({"spec": {"height": 30}, "status": {"height": 5}});
    let patched = api.patch(&format!("{path}/status"), "merge", &status).await.ok();
    assert_eq!((&patched["spec"]["height"], &patched["status"]["height"]), (&json!(20), &json!(5)));
    assert_eq!(patched["metadata"]["generation"], 2);
    assert_eq!(api.patch(&path, "strategic-merge", &json!({})).await.code, 415);

    let three = json!({"spec": {"replicas": 3}});
    let scale = api.patch(&format!("{path}/scale"), "merge", &three).await.ok();
    assert_eq!(scale["spec"]["replicas"], 3);
    assert_eq!(api.get(&path).await.ok()["spec"]["tails"], 3);

    let selected = api.get(&format!("{KITES}?fieldSelector=spec.color%3Dblue")).await.ok();
    assert_eq!(names(&selected), ["b"]);
    let table = api.get_as(KITES, "application/json;as=Table;g=meta.k8s.io;v=v1").await.ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Color");
    assert_eq!(table["rows"][1]["cells"], json!(["b", "blue"]));
    assert_eq!(api.get_as(KITES, "application/vnd.kubernetes.protobuf").await.code, 406);

    let outdated = json!({"apiVersion": "example.com/v1", "kind": "Kite",
        "metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"color": "red"}});
    assert_eq!(api.put(&path, &outdated).await.code, 409);
    assert_eq!(api.delete(&path).await.code, 200);
    assert_eq!(names(&api.get(KITES).await.ok()), ["b"]);
}

#[tokio::test]
async fn every_version_shows_every_object() {
    let cluster = Cluster::start().await;
    let mut definition = kites();
    cluster.define(&definition).await;
    cluster.kite("a", "red").await;
    let beta = "/apis/example.com/v1beta1/namespaces/default/kites/a";
    assert_eq!(cluster.api.get(beta).await.ok()["apiVersion"], "example.com/v1beta1");

    // Another version is stored from now on; what is stored becomes that when it is written.
    let watched = cluster.api.get(&format!("{KITES}/a")).await.ok();
    let revision = watched["metadata"]["resourceVersion"].clone();
    for (at, is_storage) in [(0, false), (1, true)] {
        definition["spec"]["versions"][at]["storage"] = json!(is_storage);
    }
    // Defaults are those of the version that an object is stored in.
    for at in [0, 1] {
        definition["spec"]["versions"][at]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
            ["string"] = json!({"type": "string", "default": "long"});
    }
    let path = format!("{DEFINITIONS}/kites.example.com");
    let patched =
        cluster.api.patch(&path, "merge", &json!({"spec": definition["spec"]})).await.ok();
    assert_eq!(patched["status"]["storedVersions"], json!(["v1beta1", "v1"]));
    let shown = cluster.api.get(&format!("{KITES}/a")).await.ok();
    assert_eq!(shown["spec"]["string"], "long", "what is new is filled in at once");
    assert_eq!(shown["metadata"]["resourceVersion"], revision);
    let touched = cluster.api.put(&format!("{KITES}/a"), &shown).await.ok();
    assert_ne!(touched["metadata"]["resourceVersion"], revision, "it is stored in the new version");
    let again = cluster.api.put(&format!("{KITES}/a"), &touched).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], touched["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_definition_takes_its_objects_with_it() {
    let cluster = Cluster::start().await;
    cluster.define(&kites()).await;
    for name in ["a", "b"] {
        cluster.kite(name, "red").await;
    }
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    cluster.api.patch(&format!("{KITES}/b"), "merge", &held).await.ok();
    let definition = format!("{DEFINITIONS}/kites.example.com");
    cluster.api.delete(&definition).await.ok();

    cluster.is_gone(&format!("{KITES}/a")).await;
    let terminating = cluster.api.get(&definition).await.ok();
    assert_eq!(condition(&terminating, "Terminating"), "True");
    let (code, _, message) = cluster.api.post(KITES, &kite("c", "red")).await.refused();
    assert_eq!(code, 405);
    assert_eq!(message, "create not allowed while custom resource definition is terminating");
    let free = json!({"metadata": {"finalizers": null}});
    cluster.api.patch(&format!("{KITES}/b"), "merge", &free).await.ok();
    cluster.is_gone(&definition).await;
    assert_eq!(cluster.api.get("/apis/example.com").await.code, 404);
    assert_eq!(cluster.api.get(KITES).await.code, 404);
}

#[tokio::test]
async fn owners_and_namespaces_know_defined_kinds() {
    let cluster = Cluster::start().await;
    cluster.define(&kites()).await;
    let owner = cluster.kite("owner", "red").await;
    let mut owned = kite("owned", "blue");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "example.com/v1", "kind": "Kite", "name": "owner",
        "uid": owner["metadata"]["uid"],
    }]);
    cluster.api.post(KITES, &owned).await.ok();
    let map = json!({"metadata": {"name": "map", "ownerReferences": owned["metadata"]["ownerReferences"]}});
    cluster.api.post("/api/v1/namespaces/default/configmaps", &map).await.ok();
    cluster.api.delete(&format!("{KITES}/owner")).await.ok();
    cluster.is_gone(&format!("{KITES}/owned")).await;
    cluster.is_gone("/api/v1/namespaces/default/configmaps/map").await;

    let away = json!({"metadata": {"name": "away"}});
    cluster.api.post("/api/v1/namespaces", &away).await.ok();
    let there = "/apis/example.com/v1/namespaces/away/kites";
    cluster.api.post(there, &kite("a", "red")).await.ok();
    cluster.api.delete("/api/v1/namespaces/away").await.ok();
    cluster.is_gone("/api/v1/namespaces/away").await;
    assert_eq!(names(&cluster.api.get("/apis/example.com/v1/kites").await.ok()), [""; 0]);
}

#[tokio::test]
async fn names_are_had_once_in_a_group() {
    let cluster = Cluster::start().await;
    cluster.define(&kites()).await;
    let mut other = kites();
    other["metadata"]["name"] = json!("drachen.example.com");
    other["spec"]["names"] = json!({"plural": "drachen", "kind": "Drachen", "shortNames": ["kt"]});
    cluster.api.post(DEFINITIONS, &other).await.ok();
    let path = format!("{DEFINITIONS}/drachen.example.com");
    let told = eventually("the conflict is told", async || {
        let other = cluster.api.get(&path).await.json();
        (condition(&other, "NamesAccepted") == "False").then_some(other)
    })
    .await;
    let conditions = told["status"]["conditions"].as_array().unwrap();
    let conflict =
        conditions.iter().find(|condition| condition["type"] == "NamesAccepted").unwrap();
    assert_eq!(conflict["reason"], "ShortNamesConflict");
    assert_eq!(conflict["message"], "\"kt\" is already in use");
    assert_eq!(condition(&told, "Established"), "False");
    assert_eq!(cluster.api.get("/apis/example.com/v1/drachen").await.code, 404);

    cluster.api.delete(&format!("{DEFINITIONS}/kites.example.com")).await.ok();
    eventually("the name is free", async || {
        let other = cluster.api.get(&path).await.json();
        (condition(&other, "Established") == "True").then_some(())
    })
    .await;
    assert_eq!(cluster.api.get("/apis/example.com/v1/drachen").await.code, 200);
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}
