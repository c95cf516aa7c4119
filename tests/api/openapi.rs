//! `/openapi/v2` and `/openapi/v3`: what client generators and kubectl make of them.

use super::discovery::{is_stable, read, reference};
use super::support::Api;
use http::Method;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What operations are called and do, by path and method.
type Operations = BTreeMap<(String, String), (String, String, String)>;

fn operations(document: &Value) -> Operations {
    let mut found = Operations::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
            if method == "parameters" {
                continue;
            }
            let kind = &operation["x-kubernetes-group-version-kind"];
            let kind = ["group", "version", "kind"].map(|name| kind[name].as_str().unwrap_or("-"));
            let facts = (text("operationId"), text("x-kubernetes-action"), kind.join("/"));
            found.insert((path.clone(), method.clone()), facts);
        }
    }
    found
}

/// The parameters of an operation and of its path.
fn parameters(item: &Value, operation: &Value) -> BTreeSet<(String, String)> {
    let lists = [&item["parameters"], &operation["parameters"]];
    let all = lists.into_iter().flat_map(|list| list.as_array().into_iter().flatten());
    all.map(|one| {
        let text = |name: &str| one[name].as_str().unwrap().to_owned();
        (text("in"), text("name"))
    })
    .collect()
}

/// Documents of upstream that are not served: nobody may read the node's logs by way of the server.
const NOT_SERVED: [&str; 1] = ["logs"];

/// Ours and upstream's documents of v3, by name, where upstream's are at hand.
async fn documents(api: &Api) -> Option<BTreeMap<String, (Value, Value)>> {
    let Some(discovery) = reference() else {
        eprintln!("upstream's documents are not at hand: nothing is compared");
        return None;
    };
    let root = api.get("/openapi/v3").await.ok();
    let served = root["paths"].as_object().unwrap();
    let mut documents = BTreeMap::new();
    for entry in fs::read_dir(discovery.join("../openapi/v3")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let name = file.strip_suffix("_openapi.json").unwrap().replace("__", "/");
        // Groups without a stable version.
        let is_other = name.contains("internal.apiserver") || name.contains("storagemigration");
        let version = name.rsplit('/').next().unwrap();
        if !is_stable(version) || is_other || NOT_SERVED.contains(&&*name) {
            continue;
        }
        let entry = served.get(&name).unwrap_or_else(|| panic!("{name} is not in the index"));
        let ours = api.get(entry["serverRelativeURL"].as_str().unwrap()).await.ok();
        documents.insert(name, (ours, read(&path)));
    }
    let own = served.keys().filter(|name| !documents.contains_key(*name));
    let own: Vec<_> = own.filter(|name| !name.contains("metrics.k8s.io")).collect();
    assert!(own.is_empty(), "{own:?} are ours alone");
    Some(documents)
}

#[tokio::test]
async fn operations_are_upstreams() {
    let api = Api::start().await;
    let Some(documents) = documents(&api).await else { return };
    let (mut compared, mut different) = (0, Vec::new());
    for (ours, theirs) in documents.values() {
        let (own, upstreams) = (operations(ours), operations(theirs));
        for (key, facts) in &upstreams {
            let (path, method) = key;
            if own.get(key) != Some(facts) {
                different.push(format!("{method} {path}: {:?}, not {facts:?}", own.get(key)));
                continue;
            }
            let facts = |document: &Value| operation_facts(&document["paths"][path], method);
            let (ours, theirs) = (facts(ours), facts(theirs));
            if ours != theirs {
                different.push(format!("{method} {path}: {ours:?}, not {theirs:?}"));
            }
            compared += 1;
        }
        let more = own.keys().filter(|key| !upstreams.contains_key(key));
        different.extend(more.map(|(path, method)| format!("{method} {path} is ours alone")));
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(compared > 700, "{compared}");
}

/// What a client has to say and is told: names of parameters of the path and of the operation, and
/// what is answered under each code, in which encodings.
fn operation_facts(item: &Value, method: &str) -> Vec<String> {
    let operation = &item[method];
    let name = |one: &Value| format!("{} {}", one["in"], one["name"]);
    let names = |list: &Value| list.as_array().into_iter().flatten().map(name).collect::<Vec<_>>();
    let mut facts = vec![format!("{:?}", names(&item["parameters"]))];
    facts.push(format!("{:?} {}", names(&operation["parameters"]), operation["tags"]));
    for (code, response) in operation["responses"].as_object().unwrap() {
        let empty = serde_json::Map::new();
        for (media_type, content) in response["content"].as_object().unwrap_or(&empty) {
            // Deletion of namespaces answers with the namespace.
            let is_namespace = operation["operationId"] == "deleteCoreV1Namespace";
            if !media_type.contains("cbor") && !is_namespace {
                facts.push(format!("{code} {media_type} {}", content["schema"]));
            }
        }
        facts.push(code.clone());
    }
    facts
}

/// What is said of kinds, types and fields in 1.35 and not in the snapshot, which is older.
const SAID_OTHERWISE_SINCE: [&str; 18] = [
    "io.k8s.api.apps.v1.DeploymentStatus/terminatingReplicas",
    "io.k8s.api.apps.v1.ReplicaSetStatus/terminatingReplicas",
    "io.k8s.api.apps.v1.RollingUpdateStatefulSetStrategy/maxUnavailable",
    "io.k8s.api.autoscaling.v2.HPAScalingRules/",
    "io.k8s.api.autoscaling.v2.HPAScalingRules/tolerance",
    "io.k8s.api.batch.v1.JobSpec/managedBy",
    "io.k8s.api.core.v1.Container/resizePolicy",
    "io.k8s.api.core.v1.PersistentVolumeSpec/nodeAffinity",
    "io.k8s.api.core.v1.Toleration/operator",
    "io.k8s.api.discovery.v1.EndpointHints/forNodes",
    "io.k8s.api.resource.v1.CounterSet/",
    "io.k8s.api.resource.v1.CounterSet/counters",
    "io.k8s.api.resource.v1.Device/consumesCounters",
    "io.k8s.api.resource.v1.Device/taints",
    "io.k8s.api.resource.v1.DeviceCounterConsumption/counters",
    "io.k8s.api.resource.v1.DeviceTaint/effect",
    "io.k8s.api.resource.v1.ResourceSliceSpec/devices",
    "io.k8s.api.resource.v1.ResourceSliceSpec/sharedCounters",
];

/// A schema without what may differ: upstream's documents are made without enums, say what is
/// required in another order, and name versions that are not served.
fn comparable(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let facts = schema.as_object_mut().unwrap();
    facts.remove("description");
    facts.remove("enum");
    facts.remove("properties");
    if let Some(Value::Array(required)) = facts.get_mut("required") {
        required.sort_by_key(Value::to_string);
        // Of 1.35.
        required.retain(|name| name != "userAnnotations");
    }
    if let Some(Value::Array(versions)) = facts.get_mut("x-kubernetes-group-version-kind") {
        versions.truncate(1);
    }
    schema
}

#[tokio::test]
async fn schemas_are_upstreams() {
    let api = Api::start().await;
    let Some(documents) = documents(&api).await else { return };
    let (mut said, mut different) = (0, BTreeSet::new());
    let mut compare = |place: String, ours: &Value, theirs: &Value, is_ours: bool| {
        if comparable(ours) != comparable(theirs) {
            different.insert(format!("{place}: {ours}, not {theirs}"));
        }
        let (own, upstreams) = (&ours["description"], &theirs["description"]);
        let is_known = is_ours || SAID_OTHERWISE_SINCE.contains(&&*place);
        if own != upstreams && !(is_known && own.is_string()) && !upstreams.is_null() {
            different.insert(format!("{place}: {own}, not {upstreams}"));
        }
        said += usize::from(own == upstreams && own.is_string());
    };
    for (name, (ours, theirs)) in &documents {
        let Some(theirs) = theirs["components"]["schemas"].as_object() else { continue };
        let ours = ours["components"]["schemas"].as_object().unwrap();
        let names = |schemas: &serde_json::Map<String, Value>| -> Vec<String> {
            // Of 1.35.
            let names = schemas.keys().filter(|name| !name.ends_with("WorkloadReference"));
            names.cloned().collect()
        };
        assert_eq!(names(ours), names(theirs), "{name}");
        for (schema, theirs) in theirs {
            let ours = &ours[schema];
            let is_list = schema.ends_with("List") && theirs["properties"]["items"].is_object();
            compare(format!("{schema}/"), ours, theirs, is_list);
            for (field, theirs) in theirs["properties"].as_object().into_iter().flatten() {
                let ours = &ours["properties"][field];
                compare(format!("{schema}/{field}"), ours, theirs, is_list);
            }
        }
    }
    let different: Vec<_> = different.into_iter().collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(said > 6000, "{said}");
}

#[tokio::test]
async fn kinds_and_fields_are_described() {
    let api = Api::start().await;
    let document = api.get("/openapi/v3/apis/apps/v1").await.ok();
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert!(deployment["description"].as_str().unwrap().starts_with("Deployment enables"));
    let replicas = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"];
    assert!(replicas["description"].as_str().unwrap().starts_with("Number of desired pods."));
    let second = api.get("/openapi/v2").await.ok();
    let replicas = &second["definitions"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"];
    assert!(replicas["replicas"]["description"].is_string());
    assert!(second["paths"]["/version/"]["get"].is_object());
    assert!(second["paths"]["/apis/apps/v1/"]["get"].is_object());
}

#[tokio::test]
async fn documents_are_asked_for_by_their_hashes() {
    let api = Api::start().await;
    let root = api.get("/openapi/v3").await.ok();
    for (name, entry) in root["paths"].as_object().unwrap() {
        let url = entry["serverRelativeURL"].as_str().unwrap();
        let (path, hash) = url.split_once("?hash=").unwrap();
        assert_eq!(path, format!("/openapi/v3/{name}"));
        let answer = api.get(url).await;
        assert_eq!(answer.headers[ETAG].to_str().unwrap(), format!("\"{hash}\""), "{name}");
        assert!(answer.headers[CACHE_CONTROL].to_str().unwrap().contains("immutable"));
        let etag = answer.headers[ETAG].to_str().unwrap().to_owned();
        let again = api.send(Method::GET, path, &[(IF_NONE_MATCH, &etag)], "").await;
        assert_eq!((again.code, again.body.len()), (304, 0), "{name}");
        assert!(!again.headers.contains_key(CACHE_CONTROL), "{name}");
    }
    assert_eq!(api.get("/openapi/v3/apis/none").await.code, 404);
    let etag = api.get("/openapi/v2").await.headers[ETAG].to_str().unwrap().to_owned();
    let again = api.send(Method::GET, "/openapi/v2", &[(IF_NONE_MATCH, &etag)], "").await;
    assert_eq!((again.code, again.body.len()), (304, 0));
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(elements) => elements.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_to_a_schema() {
    let api = Api::start().await;
    let root = api.get("/openapi/v3").await.ok();
    for entry in root["paths"].as_object().unwrap().values() {
        let document = api.get(entry["serverRelativeURL"].as_str().unwrap()).await.ok();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for name in found {
            let name = name.strip_prefix("#/components/schemas/").unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
    let document = api.get("/openapi/v2").await.ok();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for name in found {
        let name = name.strip_prefix("#/definitions/").unwrap();
        assert!(document["definitions"][name].is_object(), "{name}");
    }
    let names = document["paths"].as_object().unwrap().values();
    let ids = names.flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = ids.filter_map(|operation| operation["operationId"].as_str()).collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "names of operations are used once");
}

#[tokio::test]
async fn parameters_of_one_operation_are_told_apart() {
    let api = Api::start().await;
    let document = api.get("/openapi/v2").await.ok();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let lists = [&item["parameters"], &operation["parameters"]];
            let count: usize = lists.iter().filter_map(|list| list.as_array()).map(Vec::len).sum();
            assert_eq!(parameters(item, operation).len(), count, "{method} {path}");
        }
    }
}
