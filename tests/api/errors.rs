//! Every refusal is a `Status` that names what is wrong.

use super::support::Api;
use http::Method;
use http::header::CONTENT_TYPE;
use kinglet::apiserver::Identity;
use kinglet::storage::Store as _;
use serde_json::json;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let api = Api::start().await;
    for (path, expected) in [
        (format!("{CONFIG_MAPS}/a"), "configmaps \"a\" not found"),
        ("/apis/apps/v1/namespaces/x/deployments/a".into(), "deployments.apps \"a\" not found"),
        ("/api/v1/gadgets".into(), "the server could not find the requested resource"),
        ("/api/v2/pods".into(), "the server could not find the requested resource"),
        ("/nothing".into(), "the server could not find the requested resource"),
        (
            "/api/v1/namespaces/default/nodes".into(),
            "the server could not find the requested resource",
        ),
        (format!("{CONFIG_MAPS}/a/b"), "the server could not find the requested resource"),
    ] {
        let (code, reason, message) = api.get(&path).await.refused();
        assert_eq!((code, reason.as_str()), (404, "NotFound"), "{path}");
        assert_eq!(message, expected, "{path}");
    }
    let status = api.get(&format!("{CONFIG_MAPS}/a")).await.json();
    assert_eq!(status["details"], json!({"name": "a", "kind": "configmaps"}));
    assert_eq!(status["status"], "Failure");
}

#[tokio::test]
async fn methods_that_a_path_does_not_take_are_refused() {
    let api = Api::start().await;
    for (method, path) in [
        (Method::POST, "/api/v1/configmaps"),
        (Method::PUT, CONFIG_MAPS),
        (Method::DELETE, "/api/v1/namespaces"),
        (Method::POST, "/version"),
        (Method::DELETE, "/api/v1/namespaces/default/pods/a/log"),
        (Method::POST, "/api/v1/namespaces/default/configmaps/a"),
    ] {
        let answer = api.send(method.clone(), path, &[], "{}").await;
        assert_eq!(answer.refused().0, 405, "{method} {path}");
    }
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let api = Api::start().await;
    for (body, code, part) in [
        ("{", 400, "json"),
        ("[]", 400, "cannot unmarshal array into Go value"),
        ("", 400, "json"),
        (r#"{"kind":"Pod","apiVersion":"v1"}"#, 400, "cannot be handled as a ConfigMap"),
        (
            r#"{"apiVersion":"v2","kind":"ConfigMap"}"#,
            400,
            "does not match the expected API version (v1)",
        ),
        (r#"{"metadata":{"name":"a"},"data":{"k":1}}"#, 400, "cannot unmarshal number"),
        // Of two things that are wrong, the type counts before what is only strictly wrong.
        (
            r#"{"metadata":{"name":"a","foo":1},"data":{"k":1}}"#,
            400,
            "cannot unmarshal number into Go struct field ConfigMap.data",
        ),
        (
            r#"{"metadata":{"name":"a","resourceVersion":"5"}}"#,
            400,
            "resourceVersion should not be set",
        ),
        (r#"{"metadata":{"name":"a","namespace":"b"}}"#, 400, "does not match the namespace"),
        (r#"{"metadata":{"name":"a"},"data":{"!":"x"}}"#, 422, "a valid config key"),
    ] {
        let (is, _, message) = api.send(Method::POST, CONFIG_MAPS, &[], body).await.refused();
        assert_eq!(is, code, "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    let headers = [(CONTENT_TYPE, "application/cbor")];
    let answer = api.send(Method::POST, CONFIG_MAPS, &headers, "k8s").await;
    assert_eq!(answer.refused().0, 415);
    let answer = api.get_as(CONFIG_MAPS, "application/cbor").await;
    assert_eq!(answer.refused().0, 406);
}

#[tokio::test]
async fn a_body_or_an_object_can_be_too_large() {
    let api = Api::start().await;
    let large = |bytes: usize| json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(bytes)}});
    let (code, reason, _) = api.post(CONFIG_MAPS, &large(3 * 1024 * 1024)).await.refused();
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));
    let (code, _, message) = api.post(CONFIG_MAPS, &large(1_600_000)).await.refused();
    assert!(code == 413 || code == 422, "{code} {message}");
}

#[tokio::test]
async fn namespaces_must_be_there() {
    let api = Api::start().await;
    let (code, reason, message) = api
        .post("/api/v1/namespaces/x/configmaps", &json!({"metadata": {"name": "a"}}))
        .await
        .refused();
    assert_eq!((code, reason.as_str()), (404, "NotFound"));
    assert_eq!(message, "namespaces \"x\" not found");
    let (code, _, message) = api.delete("/api/v1/namespaces/default").await.refused();
    assert_eq!(code, 403);
    assert_eq!(message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[tokio::test]
async fn strangers_see_health_and_version_only() {
    let api = Api::start().await.as_user(Identity::anonymous());
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/version"] {
        assert_eq!(api.get(path).await.code, 200, "{path}");
    }
    for path in ["/api", "/apis", "/openapi/v2", "/api/v1/namespaces", "/metrics"] {
        assert_eq!(api.get(path).await.refused().0, 403, "{path}");
    }
    let user = Api::start().await.as_user(Identity::new("alice", &["team"]));
    let (code, reason, message) = user.get("/api/v1/nodes").await.refused();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "nodes is forbidden: User \"alice\" cannot list resource \"nodes\" in API group \"\" at \
         the cluster scope"
    );
}

#[tokio::test]
async fn wrong_options_are_named() {
    let api = Api::start().await;
    for (path, code, part) in [
        ("?limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("?labelSelector=a%20b", 400, "unable to parse"),
        ("?fieldSelector=spec.x%3D1", 400, "is not a known field selector"),
        ("?continue=garbage", 400, "continue key is not valid"),
        ("?resourceVersion=x", 400, "resourceVersion"),
        ("?resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden"),
        ("?watch=1&sendInitialEvents=true", 422, "sendInitialEvents requires"),
    ] {
        let (is, _, message) = api.get(&format!("{CONFIG_MAPS}{path}")).await.refused();
        assert_eq!(is, code, "{path}: {message}");
        assert!(message.contains(part), "{path}: {message}");
    }
    let (code, _, message) = api.get("/api/v1/pods?fieldSelector=spec.x%3D1").await.refused();
    assert_eq!((code, message.as_str()), (400, "field label not supported: spec.x"));
}

#[tokio::test]
async fn a_store_that_has_ended_is_noticed() {
    let api = Api::start().await;
    assert_eq!(api.get("/livez/etcd").await.code, 200);
    let ended = api.store.ended();
    api.store.close().await.unwrap();
    tokio::time::timeout(super::support::DEADLINE, ended.cancelled()).await.unwrap();
    for path in ["/livez", "/healthz", "/readyz"] {
        let answer = api.get(path).await;
        assert_eq!(answer.code, 500);
        assert!(answer.text().contains("[-]etcd failed: reason withheld"), "{path}");
    }
}
