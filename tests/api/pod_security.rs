//! Namespaces ask for a Pod Security Standard, and their pods keep to it.

use super::support::Api;
use serde_json::{Value, json};

const LABEL: &str = "pod-security.kubernetes.io/enforce";

async fn namespace(api: &Api, name: &str, labels: &Value) {
    let namespace = json!({"metadata": {"name": name, "labels": labels}});
    api.post("/api/v1/namespaces", &namespace).await.ok();
    api.give_account(name).await;
}

fn pod(name: &str) -> Value {
    let container = json!({"name": "c", "image": "i", "securityContext": {"privileged": true}});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

const WHY: &str = "privileged (container \"c\" must not set securityContext.privileged=true)";

#[tokio::test]
async fn what_a_namespace_enforces_is_refused() {
    let api = Api::start().await;
    namespace(&api, "safe", &json!({LABEL: "baseline"})).await;
    let (code, _, message) = api.post("/api/v1/namespaces/safe/pods", &pod("a")).await.refused();
    assert_eq!(code, 403);
    let expected =
        format!("pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": {WHY}");
    assert_eq!(message, expected);
    api.post("/api/v1/namespaces/default/pods", &pod("a")).await.ok();
}

#[tokio::test]
async fn whoever_makes_a_template_is_warned() {
    let api = Api::start().await;
    namespace(&api, "safe", &json!({LABEL: "baseline"})).await;
    let mut template = pod("t");
    template["metadata"] = json!({"labels": {"a": "b"}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let answer = api.post("/apis/apps/v1/namespaces/safe/deployments", &deployment).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let why = WHY.replace('"', "\\\"");
    assert_eq!(
        answer.warnings(),
        [format!("299 - \"would violate PodSecurity \\\"baseline:latest\\\": {why}\"")]
    );
}

#[tokio::test]
async fn a_namespace_that_asks_for_more_tells_who_falls_short() {
    let api = Api::start().await;
    namespace(&api, "wild", &json!({})).await;
    for name in ["b", "a"] {
        api.post("/api/v1/namespaces/wild/pods", &pod(name)).await.ok();
    }
    let ask = json!({"metadata": {"labels": {LABEL: "baseline"}}});
    let answer = api.patch("/api/v1/namespaces/wild", "merge", &ask).await;
    assert_eq!(answer.code, 200);
    assert_eq!(
        answer.warnings(),
        [
            "299 - \"existing pods in namespace \\\"wild\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a (and 1 other pod): privileged\"",
        ]
    );
    let odd = json!({"metadata": {"labels": {LABEL: "odd"}}});
    let (code, _, message) = api.patch("/api/v1/namespaces/wild", "merge", &odd).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("must be one of privileged, baseline, restricted"), "{message}");
}
