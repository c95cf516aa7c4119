//! Discovery and OpenAPI documents.

use super::support::Api;
use http::Method;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use kinglet::registry::KINDS;
use serde_json::{Value, json};

#[tokio::test]
async fn every_kind_is_discovered() {
    let api = Api::start().await;
    for kind in KINDS {
        let facts = &kind.facts;
        let path = match facts.group.as_ref() {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/{}", facts.version),
        };
        let list = api.get(&path).await.ok();
        assert_eq!(list["groupVersion"], facts.api_version());
        let resources = list["resources"].as_array().unwrap();
        let found = resources.iter().find(|resource| resource["name"] == facts.plural.as_ref());
        assert_eq!(found.unwrap()["kind"], facts.kind.as_ref(), "{path}");
    }
    let versions = api.get("/api").await.ok();
    assert_eq!(versions["versions"], json!(["v1"]));
    let group = api.get("/apis/apps").await.ok();
    assert_eq!(group["preferredVersion"]["groupVersion"], "apps/v1");
    assert_eq!(api.get("/apis/none").await.code, 404);
}

#[tokio::test]
async fn pods_are_described_as_upstream_describes_them() {
    let api = Api::start().await;
    let list = api.get("/api/v1").await.ok();
    let find = |name: &str| -> Value {
        let resources = list["resources"].as_array().unwrap();
        resources.iter().find(|resource| resource["name"] == name).cloned().unwrap()
    };
    assert_eq!(
        find("pods"),
        json!({
            "categories": ["all"], "kind": "Pod", "name": "pods", "namespaced": true,
            "shortNames": ["po"], "singularName": "pod",
            "verbs": [
                "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"
            ],
        })
    );
    assert_eq!(
        find("pods/eviction"),
        json!({
            "group": "policy", "kind": "Eviction", "name": "pods/eviction", "namespaced": true,
            "singularName": "", "verbs": ["create"], "version": "v1",
        })
    );
    assert_eq!(
        find("namespaces")["verbs"],
        json!(["create", "delete", "get", "list", "patch", "update", "watch"])
    );
}

#[tokio::test]
async fn aggregated_discovery_is_kept_by_its_etag() {
    let api = Api::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                  application/json";
    let answer = api.get_as("/apis", accept).await;
    let etag = answer.headers[ETAG].to_str().unwrap().to_owned();
    let document = answer.ok();
    assert_eq!(document["kind"], "APIGroupDiscoveryList");
    assert_eq!(document["apiVersion"], "apidiscovery.k8s.io/v2");
    let apps = &document["items"][0];
    assert_eq!(apps["metadata"]["name"], "apps");
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    let deployments = resources.iter().find(|r| r["resource"] == "deployments").unwrap();
    assert_eq!(deployments["scope"], "Namespaced");
    assert_eq!(deployments["subresources"][0]["subresource"], "scale");

    let headers = [(ACCEPT, accept), (IF_NONE_MATCH, &etag)];
    let again = api.send(Method::GET, "/apis", &headers, "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
    let core = api.get_as("/api", accept).await.ok();
    assert_eq!(core["items"][0]["versions"][0]["version"], "v1");
}

#[tokio::test]
async fn kubectl_learns_that_fields_are_checked_here() {
    let api = Api::start().await;
    let root = api.get("/openapi/v3").await.ok();
    let url = root["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = api.get(url).await.ok();
    let paths = document["paths"].as_object().unwrap();
    let patch = paths.values().find_map(|path| {
        let patch = &path["patch"];
        let kind = &patch["x-kubernetes-group-version-kind"]["kind"];
        (kind == "Deployment").then_some(patch)
    });
    let parameters = patch.unwrap()["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
}

#[tokio::test]
async fn old_kubectls_get_a_document_they_can_read() {
    let api = Api::start().await;
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = api.get_as("/openapi/v2", asked).await;
    let media_type = answer.headers[http::header::CONTENT_TYPE].to_str().unwrap();
    // Go's mime package refuses what they ask for, with its `@`, in an answer.
    assert_eq!(media_type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let holds = |bytes: &[u8]| answer.body.windows(bytes.len()).any(|window| window == bytes);
    assert!(holds(b"\x0a\x032.0"), "the edition is field 1");
    assert!(holds(b"#/definitions/io.k8s.api.apps.v1.DeploymentSpec"));

    let document = api.get("/openapi/v2").await.ok();
    let deployment = &document["definitions"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    // Whoever has it need not fetch it again.
    let etag = answer.headers[http::header::ETAG].to_str().unwrap();
    let headers = [(http::header::ACCEPT, asked), (http::header::IF_NONE_MATCH, etag)];
    let again = api.send(http::Method::GET, "/openapi/v2", &headers, "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
}

#[tokio::test]
async fn the_version_is_that_of_the_api() {
    let api = Api::start().await;
    let version = api.get("/version").await.ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("35")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.35.0+kinglet"));
    let verbose = api.get("/readyz?verbose").await.text();
    assert!(verbose.ends_with("readyz check passed\n"), "{verbose}");
}
