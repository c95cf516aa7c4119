//! Server-side apply of custom resources: lists and maps as the definition says, every version, the
//! status and the scale.

use crate::cluster::Cluster;
use crate::support::Answer;
use http::Method;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

const SHIP: &str = "/apis/example.com/v1/namespaces/default/ships/a";
const OLDER: &str = "/apis/example.com/v1beta1/namespaces/default/ships/a";

fn ships() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "crew": {"type": "integer"},
            "flags": {"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "string"}},
            "masts": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "height": {"type": "integer"},
                    "sails": {"type": "integer", "default": 2}}}},
            "route": {"type": "array", "items": {"type": "string"}},
            "port": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "name": {"type": "string"}, "pier": {"type": "integer"}}},
        }},
        "status": {"type": "object", "properties": {
            "crew": {"type": "integer"}, "at": {"type": "string"}}},
    }}});
    let subresources = json!({"status": {}, "scale": {
        "specReplicasPath": ".spec.crew", "statusReplicasPath": ".status.crew"}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "subresources": subresources})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "ships", "kind": "Ship"},
            "versions": [version("v1beta1", false), version("v1", true)]},
    })
}

fn ship(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Ship", "metadata": {"name": "a"}, "spec": spec})
}

/// Who manages what of the specification, or of the status.
fn managers(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let entries = entries.into_iter().map(|entry| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let version = text("apiVersion");
        let version = version.rsplit('/').next().unwrap_or_default();
        let who = format!("{} {} {version}", text("manager"), text("operation"));
        let fields = &entry["fieldsV1"];
        let half = if fields["f:spec"].is_null() { "f:status" } else { "f:spec" };
        (who, fields[half].clone())
    });
    entries.collect()
}

/// By way of what they manage it, sorted.
fn subresources(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let mut names: Vec<_> =
        entries.map(|entry| entry["subresource"].as_str().unwrap_or_default()).collect();
    names.sort_unstable();
    names
}

impl Cluster {
    async fn with_ships() -> Self {
        let cluster = Self::start().await;
        cluster.define(&ships()).await;
        cluster
    }

    async fn apply_as(&self, path: &str, manager: &str, config: &Value) -> Answer {
        let headers = [(CONTENT_TYPE, "application/apply-patch+yaml")];
        let path = format!("{path}?fieldManager={manager}");
        self.api.send(Method::PATCH, &path, &headers, config.to_string()).await
    }
}

#[tokio::test]
async fn lists_and_maps_are_shared_as_the_definition_says() {
    let cluster = Cluster::with_ships().await;
    let first = ship(&json!({"flags": ["red"], "masts": [{"name": "main", "height": 30}],
        "route": ["Lisbon"], "port": {"name": "Lisbon"}}));
    let applied = cluster.apply_as(SHIP, "one", &first).await;
    assert_eq!(applied.code, 201, "{}", applied.text());
    let applied = applied.json();
    assert_eq!(applied["spec"]["masts"][0]["sails"], 2, "defaults are filled in");
    assert_eq!(
        managers(&applied),
        [(
            "one Apply v1".to_owned(),
            json!({
                "f:flags": {"v:\"red\"": {}},
                "f:masts": {"k:{\"name\":\"main\"}": {".": {}, "f:height": {}, "f:name": {}}},
                "f:route": {}, "f:port": {},
            })
        )]
    );

    let second = ship(&json!({"flags": ["blue"], "masts": [{"name": "fore", "height": 20}]}));
    let both = cluster.apply_as(SHIP, "two", &second).await.ok();
    assert_eq!(both["spec"]["flags"], json!(["red", "blue"]));
    let names: Vec<_> =
        both["spec"]["masts"].as_array().unwrap().iter().map(|mast| mast["name"].clone()).collect();
    assert_eq!(names, ["main", "fore"]);

    let taken = ship(&json!({"masts": [{"name": "main", "height": 31}], "route": ["Porto"]}));
    let refused = cluster.apply_as(SHIP, "two", &taken).await;
    let (code, reason, message) = refused.refused();
    assert_eq!((code, &*reason), (409, "Conflict"));
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.route\n\
         - .spec.masts[name=\"main\"].height"
    );

    // What its manager applies no more, and nobody else has, is gone.
    let less = ship(&json!({"flags": ["red"], "route": ["Lisbon"]}));
    let left = cluster.apply_as(SHIP, "one", &less).await.ok();
    assert_eq!(
        left["spec"],
        json!({"flags": ["red", "blue"], "masts": [{"name": "fore", "height": 20, "sails": 2}],
            "route": ["Lisbon"]})
    );

    let unknown = ship(&json!({"flags": ["red"], "keel": 1}));
    let (code, _, message) = cluster.apply_as(SHIP, "one", &unknown).await.refused();
    assert_eq!(code, 500);
    assert_eq!(
        message,
        "failed to create typed patch object (/a; example.com/v1, Kind=Ship): .spec.keel: \
         field not declared in schema"
    );
    let twice = ship(&json!({"flags": ["red", "red"]}));
    let (_, _, message) = cluster.apply_as(SHIP, "one", &twice).await.refused();
    assert_eq!(
        message,
        "failed to create typed patch object (/a; example.com/v1, Kind=Ship): .spec.flags: \
         duplicate entries for key [=\"red\"]"
    );
}

#[tokio::test]
async fn managers_of_every_version_are_told() {
    let cluster = Cluster::with_ships().await;
    let first = ship(&json!({"masts": [{"name": "main", "height": 30}]}));
    cluster.apply_as(SHIP, "one", &first).await;
    let mut older = ship(&json!({"crew": 3, "masts": [{"name": "main", "height": 31}]}));
    older["apiVersion"] = json!("example.com/v1beta1");
    let (code, _, message) = cluster.apply_as(OLDER, "two", &older).await.refused();
    assert_eq!(code, 409);
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.masts[name=\"main\"].height"
    );
    older["spec"]["masts"][0]["height"] = json!(30);
    let shared = cluster.apply_as(OLDER, "two", &older).await.ok();
    let whole = json!({"k:{\"name\":\"main\"}": {".": {}, "f:height": {}, "f:name": {}}});
    assert_eq!(
        managers(&shared),
        [
            ("one Apply v1".to_owned(), json!({"f:masts": whole})),
            ("two Apply v1beta1".to_owned(), json!({"f:crew": {}, "f:masts": whole})),
        ]
    );
    let patch = json!({"spec": {"masts": null}});
    let path = format!("{SHIP}?fieldManager=three");
    let patched = cluster.api.patch(&path, "merge", &patch).await.ok();
    assert_eq!(managers(&patched), [("two Apply v1beta1".to_owned(), json!({"f:crew": {}}))]);
}

#[tokio::test]
async fn the_status_and_the_scale_have_managers_of_their_own() {
    let cluster = Cluster::with_ships().await;
    cluster.apply_as(SHIP, "one", &ship(&json!({"crew": 3}))).await;
    let status = json!({"apiVersion": "example.com/v1", "kind": "Ship", "metadata": {"name": "a"},
        "spec": {"crew": 9}, "status": {"at": "sea", "crew": 3}});
    let told = cluster.apply_as(&format!("{SHIP}/status"), "look-out", &status).await.ok();
    assert_eq!(told["spec"]["crew"], 3);
    let looked = ("look-out Apply v1".to_owned(), json!({"f:at": {}, "f:crew": {}}));
    assert!(managers(&told).contains(&looked), "{told}");
    assert_eq!(subresources(&told), ["", "status"]);

    let four = json!({"spec": {"replicas": 4}});
    let path = format!("{SHIP}/scale?fieldManager=captain");
    let scale = cluster.api.patch(&path, "merge", &four).await.ok();
    assert_eq!(scale["spec"]["replicas"], 4);
    let scaled = cluster.api.get(SHIP).await.ok();
    let scaled_by = ("captain Update v1".to_owned(), json!({"f:crew": {}}));
    assert_eq!(managers(&scaled), [looked, scaled_by]);
    assert_eq!(subresources(&scaled), ["scale", "status"]);
    let (code, _, message) =
        cluster.apply_as(SHIP, "one", &ship(&json!({"crew": 3}))).await.refused();
    assert_eq!(code, 409);
    assert!(message.contains("conflict with \"captain\" with subresource \"scale\""), "{message}");
}
