//! What the agent of a node may do: as much as its pods need.

use super::support::Api;
use kinglet::apiserver::Identity;
use serde_json::{Value, json};

const DEFAULT: &str = "/api/v1/namespaces/default";

async fn cluster() -> (Api, Api) {
    let api = Api::start().await;
    for name in ["one", "two"] {
        api.post("/api/v1/nodes", &json!({"metadata": {"name": name}})).await.ok();
    }
    api.post(&format!("{DEFAULT}/serviceaccounts"), &json!({"metadata": {"name": "bot"}}))
        .await
        .ok();
    for secret in ["of-one", "of-two", "of-nobody"] {
        api.post(&format!("{DEFAULT}/secrets"), &json!({"metadata": {"name": secret}})).await.ok();
    }
    let agent = api.as_user(Identity::node("one"));
    (api, agent)
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node, "serviceAccountName": "bot",
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [
                {"name": "s", "secret": {"secretName": format!("of-{node}")}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            ],
        },
    })
}

#[tokio::test]
async fn a_node_reads_what_its_pods_name_as_soon_as_they_are_there() {
    let (api, agent) = cluster().await;
    let own = format!("{DEFAULT}/secrets/of-one");
    let (code, _, told) = agent.get(&own).await.refused();
    assert_eq!(code, 403);
    assert!(told.ends_with("no relationship found between node 'one' and this object"), "{told}");
    api.post(&format!("{DEFAULT}/pods"), &pod("web", "one")).await.ok();
    api.post(&format!("{DEFAULT}/pods"), &pod("other", "two")).await.ok();
    let list = format!("{DEFAULT}/secrets?fieldSelector=metadata.name%3Dof-one");
    for (path, expected) in [
        (own.as_str(), 200),
        (list.as_str(), 200),
        ("/api/v1/namespaces/default/secrets", 403),
        ("/api/v1/secrets", 403),
        ("/api/v1/namespaces/default/secrets/of-two", 403),
        ("/api/v1/namespaces/default/secrets/of-nobody", 403),
        ("/api/v1/namespaces/default/configmaps/of-one", 403),
        ("/api/v1/namespaces/default/serviceaccounts/bot", 200),
        ("/api/v1/namespaces/default/pods/web", 200),
        ("/api/v1/namespaces/default/pods/other", 403),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Done", 200),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dtwo", 403),
        ("/api/v1/pods", 403),
        ("/api/v1/nodes/one", 200),
        ("/api/v1/nodes/two", 403),
        ("/api/v1/nodes", 403),
        ("/api/v1/services", 200),
        ("/apis/apps/v1/deployments", 403),
    ] {
        assert_eq!(agent.get(path).await.code, expected, "{path}");
    }
    api.delete(&format!("{DEFAULT}/pods/web?gracePeriodSeconds=0")).await.ok();
    super::support::eventually("the pod is forgotten", async || {
        (agent.get(&own).await.code == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_writes_about_itself_only() {
    let (_api, agent) = cluster().await;
    let patch = async |path: &str, change: Value| {
        let answer = agent.patch(path, "merge", &change).await;
        match answer.code {
            200 => "yes".to_owned(),
            _ => answer.refused().2,
        }
    };
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(patch("/api/v1/nodes/one/status", ready.clone()).await, "yes");
    let other = patch("/api/v1/nodes/two/status", ready).await;
    assert!(other.ends_with("node \"one\" is not allowed to modify node \"two\""), "{other}");
    let label = |key: &str| json!({"metadata": {"labels": {key: "x"}}});
    assert_eq!(patch("/api/v1/nodes/one", label("topology.kubernetes.io/zone")).await, "yes");
    let role = patch("/api/v1/nodes/one", label("node-role.kubernetes.io/control-plane")).await;
    assert!(
        role.ends_with("is not allowed to modify labels: node-role.kubernetes.io/control-plane"),
        "{role}"
    );
    let taints = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let taints = patch("/api/v1/nodes/one", taints).await;
    assert!(taints.ends_with("is not allowed to modify taints"), "{taints}");
    assert_eq!(agent.delete("/api/v1/nodes/one").await.code, 403);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"metadata": {"name": name}});
    agent.post(leases, &lease("one")).await.ok();
    assert_eq!(agent.post(leases, &lease("two")).await.code, 403);
    assert_eq!(agent.get(&format!("{leases}/two")).await.code, 403);
}

#[tokio::test]
async fn a_node_touches_its_own_pods_only() {
    let (api, agent) = cluster().await;
    let pods = format!("{DEFAULT}/pods");
    let mut uids = Vec::new();
    for (name, node) in [("web", "one"), ("other", "two")] {
        let made = api.post(&pods, &pod(name, node)).await.ok();
        uids.push(made["metadata"]["uid"].clone());
    }
    let running = json!({"status": {"phase": "Running"}});
    agent.patch(&format!("{pods}/web/status"), "merge", &running).await.ok();
    assert_eq!(agent.patch(&format!("{pods}/other/status"), "merge", &running).await.code, 403);
    assert_eq!(agent.patch(&format!("{pods}/web"), "merge", &running).await.code, 403);
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(agent.patch(&format!("{pods}/web/status"), "merge", &labels).await.code, 403);
    assert_eq!(agent.post(&pods, &pod("new", "one")).await.code, 403, "no mirror pod");

    let tokens = format!("{DEFAULT}/serviceaccounts/bot/token");
    let ask = |pod: &str, uid: &Value, audiences: Value| {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
        json!({"spec": {"boundObjectRef": bound, "audiences": audiences}})
    };
    agent.post(&tokens, &ask("web", &uids[0], json!([]))).await.ok();
    for body in [
        ask("other", &uids[1], json!([])),
        ask("web", &uids[0], json!(["vault"])),
        json!({"spec": {}}),
    ] {
        assert_eq!(agent.post(&tokens, &body).await.code, 403, "{body}");
    }
    let evict = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(agent.post(&format!("{pods}/other/eviction"), &evict("other")).await.code, 403);
    agent.post(&format!("{pods}/web/eviction"), &evict("web")).await.ok();
    assert_eq!(agent.delete(&format!("{pods}/other")).await.code, 403);
    agent.delete(&format!("{pods}/web?gracePeriodSeconds=0")).await.ok();
}

#[tokio::test]
async fn a_node_asks_for_tokens_that_its_pods_drivers_want_or_that_it_may_have() {
    let (api, agent) = cluster().await;
    let driver = |name: &str, audience: &str| json!({"metadata": {"name": name}, "spec": {"tokenRequests": [{"audience": audience}]}});
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    api.post(drivers, &driver("inline.example.com", "inline")).await.ok();
    api.post(drivers, &driver("bound.example.com", "bound")).await.ok();
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "bound.example.com", "volumeHandle": "h"}}});
    api.post("/api/v1/persistentvolumes", &volume).await.ok();
    let claim = json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v",
        "storageClassName": "", "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    api.post(&format!("{DEFAULT}/persistentvolumeclaims"), &claim).await.ok();
    let mut uids = std::collections::BTreeMap::new();
    for (name, volumes) in [
        (
            "driven",
            json!([
                {"name": "i", "csi": {"driver": "inline.example.com"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
            ]),
        ),
        ("lost", json!([{"name": "i", "csi": {"driver": "gone.example.com"}}])),
        ("plain", json!([])),
    ] {
        let mut pod = pod(name, "one");
        pod["spec"]["volumes"] = volumes;
        let made = api.post(&format!("{DEFAULT}/pods"), &pod).await.ok();
        uids.insert(name, made["metadata"]["uid"].clone());
    }
    let tokens = format!("{DEFAULT}/serviceaccounts/bot/token");
    let ask = async |pod: &str, audience: &str| {
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uids[pod]});
        let body = json!({"spec": {"boundObjectRef": bound, "audiences": [audience]}});
        let answer = agent.post(&tokens, &body).await;
        if answer.code == 201 { "yes".to_owned() } else { answer.refused().2 }
    };
    assert_eq!(ask("driven", "inline").await, "yes");
    assert_eq!(ask("driven", "bound").await, "yes");
    let no = "not found in pod spec volume, system:node:one is not authorized to request tokens";
    for (pod, audience) in [("driven", "other"), ("plain", "inline"), ("plain", "bound")] {
        let told = ask(pod, audience).await;
        assert!(told.contains(&format!("audience {audience:?} {no}")), "{told}");
    }
    let told = ask("lost", "inline").await;
    let missing = "csidriver.storage.k8s.io \"gone.example.com\" not found";
    assert!(told.ends_with(&format!("error validating audience \"inline\": {missing}")), "{told}");
    // A role may let nodes ask for an audience by its name.
    let rule = json!({"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""],
        "resources": ["other"], "resourceNames": ["bot"]});
    api.grant("system:node:one", &[rule]).await;
    assert_eq!(ask("plain", "other").await, "yes");
    assert_ne!(ask("plain", "another").await, "yes");
}
