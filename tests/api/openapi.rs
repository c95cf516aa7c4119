//! `/openapi/v2` and `/openapi/v3`: what client generators and kubectl make of them.

use super::discovery::{is_stable, read, reference};
use super::support::Api;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What operations are called and do, by path and method.
type Operations = BTreeMap<(String, String), (String, String, String)>;

fn operations(document: &Value) -> Operations {
    let mut found = Operations::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
            if method == "parameters" || text("x-kubernetes-action").is_empty() {
                continue;
            }
            let kind = &operation["x-kubernetes-group-version-kind"];
            let kind = ["group", "version", "kind"].map(|name| kind[name].as_str().unwrap());
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

#[tokio::test]
async fn operations_are_upstreams() {
    let Some(discovery) = reference() else {
        eprintln!("upstream's documents are not at hand: nothing is compared");
        return;
    };
    let api = Api::start().await;
    let root = api.get("/openapi/v3").await.ok();
    let (mut compared, mut different) = (0, Vec::new());
    for (group_version, entry) in root["paths"].as_object().unwrap() {
        let file = format!("{}_openapi.json", group_version.replace('/', "__"));
        let file = discovery.join("../openapi/v3").join(file);
        let version = group_version.rsplit('/').next().unwrap();
        if !is_stable(version) || !file.exists() {
            continue;
        }
        let ours = api.get(entry["serverRelativeURL"].as_str().unwrap()).await.ok();
        let theirs = read(&file);
        let (own, upstreams) = (operations(&ours), operations(&theirs));
        for (key, facts) in &upstreams {
            let (path, method) = key;
            if own.get(key) != Some(facts) {
                different.push(format!("{method} {path}: {:?}, not {facts:?}", own.get(key)));
                continue;
            }
            let facts = |document: &Value| {
                let item = &document["paths"][path];
                let responses = item[method]["responses"].as_object().unwrap();
                let codes: Vec<_> = responses.keys().cloned().collect();
                (parameters(item, &item[method]), codes)
            };
            let (ours, theirs) = (facts(&ours), facts(&theirs));
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
