//! What every cluster has comes back, whoever takes it away.

use super::support::{Api, config, eventually, store};
use kinglet::apiserver::Config;
use kinglet::stdx::Tasks;
use kinglet::storage::Store as _;
use serde_json::{Value, json};
use std::sync::Arc;

const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints/kubernetes";
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";

async fn kept() -> (Api, Tasks) {
    let api = Api::start().await;
    let mut tasks = Tasks::default();
    api.server.keep(&mut tasks);
    (api, tasks)
}

/// What there is besides the names and times of this very object.
async fn contents(api: &Api, path: &str) -> Option<Value> {
    let answer = api.get(path).await;
    let mut object = (answer.code == 200).then(|| answer.json())?;
    let labels = object["metadata"]["labels"].clone();
    object["metadata"] = labels;
    Some(object)
}

#[tokio::test]
async fn the_service_of_the_api_comes_back() {
    let (api, _tasks) = kept().await;
    for path in [SLICE, ENDPOINTS, SERVICE] {
        let before = contents(&api, path).await;
        assert!(before.is_some(), "{path}");
        api.delete(path).await.ok();
        eventually(path, async || (contents(&api, path).await == before).then_some(())).await;
    }
}

#[tokio::test]
async fn damage_is_undone() {
    let (api, _tasks) = kept().await;
    for (path, damage) in [
        (SLICE, json!({"endpoints": []})),
        (ENDPOINTS, json!({"subsets": [], "metadata": {"labels": null}})),
        (SERVICE, json!({"spec": {"selector": {"app": "elsewhere"}}})),
        (
            SERVICE,
            json!({"spec": {
                "type": "ExternalName", "externalName": "example.com", "clusterIP": null,
                "clusterIPs": null,
            }}),
        ),
    ] {
        let before = contents(&api, path).await;
        api.patch(path, "merge", &damage).await.ok();
        eventually(path, async || (contents(&api, path).await == before).then_some(())).await;
    }
}

#[tokio::test]
async fn a_namespace_that_components_need_comes_back() {
    let (api, _tasks) = kept().await;
    let path = "/api/v1/namespaces/kube-node-lease";
    let before = api.get(path).await.ok()["metadata"]["uid"].clone();
    api.delete(path).await.ok();
    let finalized = json!({"metadata": {"name": "kube-node-lease"}, "spec": {"finalizers": []}});
    api.put(&format!("{path}/finalize"), &finalized).await.ok();
    eventually("another one is there", async || {
        let answer = api.get(path).await;
        (answer.code == 200 && answer.json()["metadata"]["uid"] != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_endpoints_follow_the_server_to_its_new_address() {
    let store = store();
    Api::on(Arc::clone(&store), config()).await;
    for (address, family) in [("192.0.2.7", "IPv4"), ("2001:db8::7", "IPv6"), ("192.0.2.8", "IPv4")]
    {
        let moved = Config { advertise_address: address.parse().unwrap(), ..config() };
        let api = Api::on(Arc::clone(&store), moved.clone()).await;
        let endpoints = api.get(ENDPOINTS).await.ok();
        assert_eq!(endpoints["subsets"][0]["addresses"], json!([{"ip": address}]));
        let slice = api.get(SLICE).await.ok();
        assert_eq!(slice["addressType"], family);
        assert_eq!(slice["endpoints"][0]["addresses"], json!([address]));
        // A start that finds everything as it should be writes nothing.
        let before = store.revision();
        Api::on(Arc::clone(&store), moved).await;
        assert_eq!(store.revision(), before);
    }
    let unreachable = Config { advertise_address: [127, 0, 0, 1].into(), ..config() };
    let api = Api::on(store, unreachable).await;
    assert_eq!(api.get(ENDPOINTS).await.code, 404);
    assert_eq!(api.get(SLICE).await.code, 404);
}

#[tokio::test]
async fn flow_schemas_and_apis_are_there_and_come_back() {
    let (api, _tasks) = kept().await;
    let flows = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let names = async |path: &str| -> Vec<String> {
        let list = api.get(path).await.ok();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&format!("{flows}/flowschemas")).await.len(), 11);
    assert_eq!(names(&format!("{flows}/prioritylevelconfigurations")).await.len(), 8);
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let all = names(services).await;
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.apiregistration.k8s.io"] {
        assert!(all.iter().any(|other| other == name), "{name}: {all:?}");
    }
    let path = format!("{services}/v1.apps");
    let condition = api.get(&path).await.ok()["status"]["conditions"][0].clone();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Local")));
    for path in [&path, &format!("{flows}/flowschemas/probes")] {
        let before = contents(&api, path).await;
        api.delete(path).await.ok();
        eventually(path, async || {
            let now = contents(&api, path).await?;
            (now["spec"] == before.as_ref()?["spec"]).then_some(())
        })
        .await;
    }
    // What must be cannot be otherwise, and what is suggested can, where somebody says so.
    let exempt = format!("{flows}/flowschemas/exempt");
    let refused = api.patch(&exempt, "merge", &json!({"spec": {"matchingPrecedence": 2}})).await;
    assert_eq!(refused.code, 422);
    let mine = json!({
        "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}},
        "spec": {"matchingPrecedence": 7},
    });
    let probes = format!("{flows}/flowschemas/probes");
    api.patch(&probes, "merge", &mine).await.ok();
    api.delete(&path).await.ok();
    eventually("another look has been had", async || {
        (api.get(&path).await.code == 200).then_some(())
    })
    .await;
    assert_eq!(api.get(&probes).await.ok()["spec"]["matchingPrecedence"], 7);
}
