//! Rules in CEL of definitions, held against definitions and objects through the API: what
//! upstream's conformance tests of CustomResourceValidationRules look at
//! (test/e2e/apimachinery/crd_validation_rules.go, v1.35).

use crate::cluster::Cluster;
use crate::definitions::DEFINITIONS;
use serde_json::{Value, json};

const BOXES: &str = "/apis/example.com/v1/namespaces/default/boxes";

/// Boxes have a specification, and a status of its own.
fn boxes(spec: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": spec,
        "status": {"type": "object", "properties": {"weight": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.weight >= 0", "fieldPath": ".weight"}]},
    }}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema,
                "subresources": {"status": {}}}],
        },
    })
}

fn of(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": name}, "spec": spec})
}

fn measured() -> Value {
    let numbers = json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"}});
    json!({
        "type": "object",
        "properties": {
            "width": {"type": "integer"}, "height": {"type": "integer"}, "sizes": numbers,
        },
        "x-kubernetes-validations": [
            {"rule": "self.width > 0 || self.height > 0"},
            {"rule": "!has(self.sizes) || self.sizes.all(a, self.sizes.all(b, a == b))",
                "messageExpression": "self.sizes.size() > 1 ? 'sizes differ' : 'odd'"},
        ],
    })
}

async fn refusal_of_definition(cluster: &Cluster, spec: Value) -> String {
    let (code, reason, message) = cluster.api.post(DEFINITIONS, &boxes(spec)).await.refused();
    assert_eq!((code, &*reason), (422, "Invalid"));
    message
}

#[tokio::test]
async fn objects_keep_the_rules_of_their_definition() {
    let cluster = Cluster::start().await;
    cluster.define(&boxes(measured())).await;
    let api = &cluster.api;
    api.post(BOXES, &of("good", json!({"width": 1, "height": 0, "sizes": [2, 2]}))).await.ok();

    let refused = api.post(BOXES, &of("flat", json!({"width": 0, "height": 0}))).await.refused();
    assert_eq!(
        refused,
        (
            422,
            "Invalid".to_owned(),
            "Box.example.com \"flat\" is invalid: spec: Invalid value: failed rule: self.width > 0 \
             || self.height > 0"
                .to_owned()
        )
    );
    let (_, _, message) = api
        .post(BOXES, &of("odd", json!({"width": 1, "height": 1, "sizes": [1, 2]})))
        .await
        .refused();
    assert_eq!(message, "Box.example.com \"odd\" is invalid: spec: Invalid value: sizes differ");

    let many: Vec<i64> = vec![20; 725];
    let (_, _, message) =
        api.post(BOXES, &of("many", json!({"width": 1, "sizes": many}))).await.refused();
    assert!(message.contains("call cost exceeds limit"), "{message}");
}

#[tokio::test]
async fn rules_of_definitions_are_checked_when_they_are_written() {
    let cluster = Cluster::start().await;
    let with = |rule: &str| {
        json!({"type": "object", "properties": {"x": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": rule}]})
    };
    let message = refusal_of_definition(&cluster, with("self.z == 100")).await;
    assert!(message.contains("undefined field 'z'"), "{message}");
    let message = refusal_of_definition(&cluster, with("self = 42")).await;
    assert!(message.contains("Syntax error"), "{message}");
    let texts = json!({"type": "array", "items": {"type": "string"},
        "x-kubernetes-validations": [{"rule": "self.all(s, s == 'string constant')"}]});
    let expensive =
        json!({"type": "object", "properties": {"x": {"type": "array", "items": texts}}});
    let message = refusal_of_definition(&cluster, expensive).await;
    assert!(
        message.contains("estimated rule cost exceeds budget by factor of more than 100x"),
        "{message}"
    );
}

#[tokio::test]
async fn changes_keep_the_rules_about_changes() {
    let cluster = Cluster::start().await;
    let spec = json!({"type": "object", "properties": {
        "num": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]},
    }});
    cluster.define(&boxes(spec)).await;
    let (api, path) = (&cluster.api, format!("{BOXES}/a"));
    let mut found = api.post(BOXES, &of("a", json!({"num": 10}))).await.ok();
    found["spec"]["num"] = json!(9);
    let (code, _, message) = api.put(&path, &found).await.refused();
    assert_eq!(code, 422);
    assert_eq!(
        message,
        "Box.example.com \"a\" is invalid: spec.num: Invalid value: 9: failed rule: self > oldSelf"
    );
    found["spec"]["num"] = json!(11);
    api.put(&path, &found).await.ok();
}

#[tokio::test]
async fn what_broke_a_rule_before_it_was_made_is_warned_of() {
    let cluster = Cluster::start().await;
    let colored = |validations: Value| {
        json!({"type": "object", "properties": {
            "color": {"type": "string", "x-kubernetes-validations": validations},
            "width": {"type": "integer"}}})
    };
    cluster.define(&boxes(colored(json!([])))).await;
    let (api, path) = (&cluster.api, format!("{BOXES}/a"));
    let mut found = api.post(BOXES, &of("a", json!({"color": "red", "width": 1}))).await.ok();

    let at = format!("{DEFINITIONS}/boxes.example.com");
    let mut definition = api.get(&at).await.ok();
    let rules = colored(json!([{"rule": "self != 'red'", "reason": "FieldValueForbidden"}]));
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = rules;
    api.put(&at, &definition).await.ok();

    found["spec"]["width"] = json!(2);
    let wrong = "spec.color: Forbidden: failed rule: self != 'red'";
    let updated = api.put(&path, &found).await;
    assert_eq!(updated.warnings(), [format!("299 - \"{wrong}\"")]);
    let (_, _, message) = api.post(BOXES, &of("b", json!({"color": "red"}))).await.refused();
    assert_eq!(message, format!("Box.example.com \"b\" is invalid: {wrong}"));

    let mut status = updated.ok();
    status["status"] = json!({"weight": -1});
    let (_, _, message) = api.put(&format!("{path}/status"), &status).await.refused();
    assert_eq!(
        message,
        "Box.example.com \"a\" is invalid: status.weight: Invalid value: failed rule: self.weight >= 0"
    );
}
