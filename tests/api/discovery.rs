//! Discovery and OpenAPI documents.

use super::support::Api;
use http::Method;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use kinglet::registry::KINDS;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

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
async fn every_path_of_the_index_answers() {
    let api = Api::start().await;
    let index = api.get("/").await.ok();
    let paths: Vec<_> =
        index["paths"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(paths.is_sorted());
    for expected in ["/api/v1", "/apis/apps", "/apis/apps/v1", "/healthz/ping", "/version"] {
        assert!(paths.contains(&expected), "{expected}");
    }
    for path in paths {
        assert_eq!(api.get(path).await.code, 200, "{path}");
    }
    assert_eq!(api.get("/index.html").await.ok(), index);
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
            "shortNames": ["po"], "singularName": "pod", "storageVersionHash": "xPOwRZ+Yhw8=",
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
    let apps = &document["items"][1];
    assert_eq!(apps["metadata"], json!({"name": "apps"}));
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

/// Upstream's documents, where they are at hand.
pub(super) fn reference() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/reference/discovery", "../../shared/reference/discovery"];
    places.iter().map(|place| root.join(place)).find(|place| place.is_dir())
}

pub(super) fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Versions that are not stable are not served: ARCHITECTURE.md.
pub(super) fn is_stable(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

/// Kinds that the snapshot stored in an older version than the one that is stored here.
const STORED_OLDER: [&str; 6] = [
    "customresourcedefinitions",
    "deviceclasses",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourceslices",
    "volumeattributesclasses",
];

/// Groups that are served by upstream and not here, or the other way.
const OTHER_GROUPS: [&str; 2] = ["apiextensions.k8s.io", "metrics.k8s.io"];

/// What of a document is to be equal: the resources of stable versions, their hashes but for those
/// that may differ.
fn comparable(mut list: Value) -> Value {
    for resource in list["resources"].as_array_mut().unwrap() {
        if STORED_OLDER.contains(&resource["name"].as_str().unwrap()) {
            resource.as_object_mut().unwrap().remove("storageVersionHash");
        }
    }
    list
}

#[tokio::test]
async fn documents_are_upstreams() {
    let Some(reference) = reference() else {
        eprintln!("upstream's documents are not at hand: nothing is compared");
        return;
    };
    let api = Api::start().await;
    for entry in fs::read_dir(&reference).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().replace("__", "/");
        let parts: Vec<_> = name.split('/').collect();
        let [.., group, version] = parts[..] else { continue };
        let theirs = read(&path);
        let is_list = theirs["kind"] == "APIResourceList";
        if !is_list || !is_stable(version) || OTHER_GROUPS.contains(&group) {
            continue;
        }
        let ours = comparable(api.get(&format!("/{name}")).await.ok());
        let theirs = comparable(theirs);
        let resources = |list: &Value| list["resources"].as_array().unwrap().clone();
        for (ours, theirs) in resources(&ours).iter().zip(&resources(&theirs)) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert_eq!(ours["resources"], theirs["resources"], "{name}");
        assert_eq!(ours["groupVersion"], theirs["groupVersion"], "{name}");
    }
}

/// Names of groups with their stable versions and the preferred one, in order.
fn ordered(groups: &Value) -> Vec<Value> {
    let groups = groups.as_array().unwrap().iter();
    let told = groups.map(|group| {
        let versions = group["versions"].as_array().unwrap().iter();
        let stable = |version: &&Value| is_stable(version["version"].as_str().unwrap());
        let versions: Vec<_> = versions.filter(stable).cloned().collect();
        json!({
            "name": group["name"], "versions": versions,
            "preferredVersion": group["preferredVersion"],
        })
    });
    let is_compared = |group: &Value| {
        let is_other = OTHER_GROUPS.contains(&group["name"].as_str().unwrap());
        !is_other && group["versions"] != json!([])
    };
    told.filter(is_compared).collect()
}

#[tokio::test]
async fn groups_come_in_upstreams_order() {
    let Some(reference) = reference() else { return };
    let api = Api::start().await;
    let (ours, theirs) = (api.get("/apis").await.ok(), read(&reference.join("apis.json")));
    assert_eq!(ordered(&ours["groups"]), ordered(&theirs["groups"]));

    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let ours = api.get_as("/apis", accept).await.ok();
    let theirs = read(&reference.join("aggregated_v2.json"));
    let of = |document: &Value, group: &Value| {
        let items = document["items"].as_array().unwrap();
        let found = items.iter().find(|item| item["metadata"]["name"] == group["name"]);
        let versions = found.unwrap()["versions"].as_array().unwrap().clone();
        let stable = |version: &Value| is_stable(version["version"].as_str().unwrap());
        versions.into_iter().filter(stable).collect::<Vec<_>>()
    };
    let groups = ordered(&api.get("/apis").await.ok()["groups"]);
    for group in groups {
        assert_eq!(of(&ours, &group), of(&theirs, &group), "{}", group["name"]);
    }
}
