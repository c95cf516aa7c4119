//! Questions that are answered and not stored.

use super::support::Api;
use super::tokens;
use kinglet::apiserver::Identity;
use serde_json::{Value, json};

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";

#[tokio::test]
async fn who_somebody_is() {
    let api = Api::start().await;
    let path = format!("{AUTHENTICATION}/selfsubjectreviews");
    let review = api.as_user(Identity::node("n")).post(&path, &json!({})).await;
    assert_eq!(review.code, 201);
    let review = review.json();
    assert_eq!(review["kind"], "SelfSubjectReview");
    assert_eq!(
        review["status"]["userInfo"],
        json!({"username": "system:node:n", "groups": ["system:nodes", "system:authenticated"]})
    );
    assert_eq!(api.get(&path).await.code, 405);
}

#[tokio::test]
async fn whose_token_it_is() {
    let api = Api::start().await;
    tokens::account(&api, "bot").await;
    let review = async |token: &str, audiences: Value| {
        let spec = json!({"token": token, "audiences": audiences});
        let path = format!("{AUTHENTICATION}/tokenreviews");
        api.post(&path, &json!({"spec": spec})).await.ok()["status"].take()
    };
    let token = tokens::token(&api, "bot", json!({"audiences": ["vault", "x"]})).await;
    let status = review(&token, json!(["vault", "y"])).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!(["vault"]));
    let user = &status["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    assert!(user["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    let credential = &user["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(credential.as_str().unwrap().starts_with("JTI="), "{credential}");
    for (audiences, why) in [
        (json!([]), "token audiences [\"vault\" \"x\"] is invalid for the target audiences"),
        (
            json!(["y"]),
            "token audiences [\"vault\" \"x\"] is invalid for the target audiences [\"y\"]",
        ),
    ] {
        let status = review(&token, audiences).await;
        assert_ne!(status["authenticated"], true);
        assert!(status["error"].as_str().unwrap().contains(why), "{status}");
    }
    assert_eq!(review("abc", json!([])).await["error"], "invalid bearer token");
    let empty = json!({"spec": {"token": ""}});
    assert_eq!(api.post(&format!("{AUTHENTICATION}/tokenreviews"), &empty).await.code, 400);
}

#[tokio::test]
async fn whether_somebody_may() {
    let api = Api::start().await;
    let ask = async |spec: Value| {
        let path = format!("{AUTHORIZATION}/subjectaccessreviews");
        api.post(&path, &json!({"spec": spec})).await.ok()["status"].take()
    };
    let pods = json!({"verb": "list", "resource": "pods", "namespace": "default"});
    let scheduler = "system:kube-scheduler";
    let status = ask(json!({"user": scheduler, "resourceAttributes": pods})).await;
    assert_eq!(
        status,
        json!({"allowed": true, "reason": "RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \"system:kube-scheduler\""})
    );
    let status = ask(json!({"user": "alice", "resourceAttributes": pods})).await;
    assert_eq!(status, json!({"allowed": false}));
    let status = ask(json!({"groups": ["system:masters"], "resourceAttributes": pods})).await;
    assert_eq!(status, json!({"allowed": true}));
    let version = json!({"verb": "get", "path": "/version"});
    let spec = json!({"groups": ["system:unauthenticated"], "nonResourceAttributes": version});
    assert_eq!(ask(spec).await["allowed"], true);
    let path = format!("{AUTHORIZATION}/subjectaccessreviews");
    let (code, _, told) = api.post(&path, &json!({"spec": {"user": "a"}})).await.refused();
    assert_eq!(code, 422);
    assert!(told.contains("exactly one of nonResourceAttributes or resourceAttributes"), "{told}");
}

#[tokio::test]
async fn whether_i_may() {
    let api = Api::start().await;
    let alice = api.user("alice");
    let own = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let ask = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    assert_eq!(alice.post(&own, &ask).await.ok()["status"]["allowed"], false);
    assert_eq!(api.post(&own, &ask).await.ok()["status"]["allowed"], true);
    // Whoever is not known may not even ask.
    assert_eq!(api.as_user(Identity::anonymous()).post(&own, &ask).await.code, 403);
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let ask = json!({"metadata": {"namespace": "default"}, "spec": {"user": "alice", "resourceAttributes": attributes}});
    assert_eq!(api.post(&local, &ask).await.ok()["status"]["allowed"], false);
    let attributes = json!({"verb": "get", "resource": "pods", "namespace": "other"});
    let ask = json!({"spec": {"user": "alice", "resourceAttributes": attributes}});
    assert_eq!(api.post(&local, &ask).await.code, 422);
}

#[tokio::test]
async fn what_i_may() {
    let api = Api::start().await;
    api.grant("alice", &[json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]})])
        .await;
    let path = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let ask = json!({"spec": {"namespace": "default"}});
    let status = api.user("alice").post(&path, &ask).await.ok()["status"].take();
    let rules = status["resourceRules"].as_array().unwrap();
    let own = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    assert!(rules.contains(&own), "{status}");
    assert_eq!(status["incomplete"], false);
    assert!(status["nonResourceRules"].to_string().contains("/version"), "{status}");
    let all = api.post(&path, &ask).await.ok();
    assert_eq!(all["status"]["resourceRules"][0]["resources"], json!(["*"]));
    assert_eq!(api.post(&path, &json!({"spec": {}})).await.code, 400);
}
