//! Binding, eviction, scale, log, and what admission does to pods.

use super::support::Api;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

fn binding(name: &str) -> Value {
    json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}})
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let api = Api::start().await;
    for (name, path) in [
        ("a", format!("{PODS}/a/binding")),
        ("b", "/api/v1/namespaces/default/bindings".to_owned()),
    ] {
        api.post(PODS, &pod(name)).await.ok();
        let status = api.post(&path, &binding(name)).await;
        assert_eq!((status.code, status.ok()["status"].clone()), (201, json!("Success")));
        let bound = api.get(&format!("{PODS}/{name}")).await.ok();
        assert_eq!(bound["spec"]["nodeName"], "n1");
        let scheduled = &bound["status"]["conditions"][0];
        assert_eq!(
            (&scheduled["type"], &scheduled["status"]),
            (&json!("PodScheduled"), &json!("True"))
        );
        let (code, reason, message) = api.post(&path, &binding(name)).await.refused();
        assert_eq!((code, reason.as_str()), (409, "Conflict"));
        assert!(message.contains("is already assigned to node \"n1\""), "{message}");
    }
    let (code, _, _) = api.post(&format!("{PODS}/x/binding"), &binding("x")).await.refused();
    assert_eq!(code, 404);
    let (code, _, _) = api.post(&format!("{PODS}/a/binding"), &binding("b")).await.refused();
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_pod_says_in_which_zone_it_is() {
    let api = Api::start().await;
    let zone = "topology.kubernetes.io/zone";
    let node = json!({"metadata": {"name": "n1", "labels": {zone: "z", "rack": "r"}}});
    api.post("/api/v1/nodes", &node).await.ok();
    // The server hears of its own nodes by a watch.
    for number in 0.. {
        let mut placed = pod(&format!("placed-{number}"));
        placed["spec"]["nodeName"] = json!("n1");
        if api.post(PODS, &placed).await.ok()["metadata"]["labels"] == json!({zone: "z"}) {
            break;
        }
        assert!(number < 1_000, "no pod was labelled");
        tokio::task::yield_now().await;
    }
    let labels = async |name: &str, given: Value| {
        let mut asked = pod(name);
        asked["metadata"]["labels"] = given;
        api.post(PODS, &asked).await.ok();
        api.post(&format!("{PODS}/{name}/binding"), &binding(name)).await.ok();
        api.get(&format!("{PODS}/{name}")).await.ok()["metadata"]["labels"].clone()
    };
    assert_eq!(labels("bound", json!({"app": "a"})).await, json!({"app": "a", zone: "z"}));
    assert_eq!(labels("lies", json!({zone: "elsewhere"})).await, json!({zone: "z"}));
}

#[tokio::test]
async fn an_evicted_pod_is_deleted() {
    let api = Api::start().await;
    api.post(PODS, &pod("a")).await.ok();
    api.post(&format!("{PODS}/a/binding"), &binding("a")).await.ok();
    let eviction = json!({"metadata": {"name": "a"}});
    api.post(&format!("{PODS}/a/eviction"), &eviction).await.ok();
    let evicted = api.get(&format!("{PODS}/a")).await.ok();
    assert!(evicted["metadata"]["deletionTimestamp"].is_string());
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|condition| condition["type"] == "DisruptionTarget"));
}

#[tokio::test]
async fn workloads_are_scaled() {
    let api = Api::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "a", "image": "a"}]},
            },
        },
    });
    api.post(deployments, &deployment).await.ok();
    let path = format!("{deployments}/web/scale");
    let mut scale = api.get(&path).await.ok();
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["spec"]["replicas"], 1);
    assert_eq!(scale["status"]["selector"], "app=web");
    scale["spec"]["replicas"] = json!(3);
    let scaled = api.put(&path, &scale).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 3);
    assert_eq!(api.put(&path, &scale).await.refused().0, 409, "the revision is an old one");
    let patch = json!({"spec": {"replicas": 5}});
    assert_eq!(api.patch(&path, "merge", &patch).await.ok()["spec"]["replicas"], 5);
    let workload = api.get(&format!("{deployments}/web")).await.ok();
    assert_eq!(
        (&workload["spec"]["replicas"], &workload["metadata"]["generation"]),
        (&json!(5), &json!(3))
    );
    let patch = json!({"spec": {"replicas": -1}});
    assert_eq!(api.patch(&path, "merge", &patch).await.refused().0, 422);
    let patch = json!({"odd": 1});
    let strictly = format!("{path}?fieldValidation=Strict");
    for format in ["merge", "strategic-merge"] {
        let warnings = api.patch(&path, format, &patch).await.warnings();
        assert_eq!(warnings, [r#"299 - "unknown field \"odd\"""#]);
        let (code, _, message) = api.patch(&strictly, format, &patch).await.refused();
        assert_eq!(code, 422, "{message}");
        assert!(message.ends_with("strict decoding error: unknown field \"odd\""), "{message}");
    }
}

#[tokio::test]
async fn logs_come_from_the_kubelet_of_the_node() {
    let api = Api::start().await;
    let two = json!({
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]},
    });
    api.post(PODS, &two).await.ok();
    let unbound = api.get(&format!("{PODS}/a/log?container=c")).await;
    assert_eq!((unbound.code, unbound.text().as_str()), (200, ""));
    api.post(&format!("{PODS}/a/binding"), &binding("a")).await.ok();
    let log = api.get(&format!("{PODS}/a/log?container=d&follow=true&tailLines=5")).await;
    assert_eq!(log.text(), "n1 GET /containerLogs/default/a/d?follow=true&tailLines=5");
    let (code, _, message) = api.get(&format!("{PODS}/a/log")).await.refused();
    assert_eq!(code, 400);
    assert_eq!(message, "a container name must be specified for pod a, choose one of: [c d]");
    let (code, _, message) = api.get(&format!("{PODS}/a/log?container=x")).await.refused();
    assert_eq!((code, message.as_str()), (400, "container x is not valid for pod a"));
    let (code, _, message) =
        api.get(&format!("{PODS}/a/log?container=c&tailLines=-1")).await.refused();
    assert_eq!(code, 422, "{message}");
}

#[tokio::test]
async fn what_is_posted_beside_an_object_is_read_strictly() {
    let api = Api::start().await;
    api.post(PODS, &pod("a")).await.ok();
    let token = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = json!({"metadata": {"name": "a"}, "target": {"name": "n1"}, "other": 1});
    for (path, body) in [
        (format!("{PODS}/a/eviction"), json!({"metadata": {"name": "a"}, "other": 1})),
        (format!("{PODS}/a/binding"), bound),
        (token.to_owned(), json!({"other": 1})),
    ] {
        let strict = format!("{path}?fieldValidation=Strict&dryRun=All");
        let (code, _, message) = api.post(&strict, &body).await.refused();
        assert_eq!(code, 400, "{path}");
        assert!(message.ends_with("strict decoding error: unknown field \"other\""), "{message}");
        let mut of_other = body;
        of_other["kind"] = json!("Pod");
        let (code, _, message) = api.post(&path, &of_other).await.refused();
        assert_eq!(code, 400, "{path}");
        assert!(message.contains("cannot be handled as a "), "{message}");
    }
}

#[tokio::test]
async fn admission_completes_a_pod() {
    let api = Api::start().await;
    let created = api.post(PODS, &pod("a")).await.ok();
    let spec = &created["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    let tolerations = spec["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 2);
    assert_eq!(tolerations[0]["tolerationSeconds"], 300);

    let mut critical = pod("b");
    critical["spec"]["priorityClassName"] = json!("system-node-critical");
    let critical = api.post(PODS, &critical).await.ok();
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    let mut unknown = pod("c");
    unknown["spec"]["priorityClassName"] = json!("x");
    let (code, _, message) = api.post(PODS, &unknown).await.refused();
    assert_eq!(code, 403);
    assert_eq!(message, "pods \"c\" is forbidden: no PriorityClass with name x was found");
    let mut unknown = pod("d");
    unknown["spec"]["runtimeClassName"] = json!("x");
    let (code, _, message) = api.post(PODS, &unknown).await.refused();
    assert_eq!(code, 403);
    assert_eq!(message, "pods \"d\" is forbidden: pod rejected: RuntimeClass \"x\" not found");
}

#[tokio::test]
async fn a_default_priority_class_is_everybodys() {
    let api = Api::start().await;
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({"metadata": {"name": "usual"}, "value": 7, "globalDefault": true});
    api.post(classes, &class).await.ok();
    let created = api.post(PODS, &pod("a")).await.ok();
    assert_eq!(created["spec"]["priorityClassName"], "usual");
    assert_eq!(created["spec"]["priority"], 7);
    let second = json!({"metadata": {"name": "other"}, "value": 8, "globalDefault": true});
    let (code, _, message) = api.post(classes, &second).await.refused();
    assert_eq!(code, 403);
    assert!(message.contains("PriorityClass usual is already marked as default"), "{message}");
}

#[tokio::test]
async fn an_eviction_of_another_pod_writes_nothing() {
    let api = Api::start().await;
    let created = api.post(PODS, &pod("a")).await.ok();
    api.post(&format!("{PODS}/a/binding"), &binding("a")).await.ok();
    let stale = created["metadata"]["resourceVersion"].clone();
    for preconditions in [json!({"uid": "another"}), json!({"resourceVersion": stale})] {
        let eviction = json!({
            "metadata": {"name": "a"}, "deleteOptions": {"preconditions": preconditions},
        });
        let (code, _, _) = api.post(&format!("{PODS}/a/eviction"), &eviction).await.refused();
        assert_eq!(code, 409);
    }
    let bound = api.get(&format!("{PODS}/a")).await.ok();
    assert!(!bound["status"].to_string().contains("DisruptionTarget"), "{bound}");
    let preconditions = json!({"resourceVersion": bound["metadata"]["resourceVersion"]});
    let eviction = json!({
        "metadata": {"name": "a"}, "deleteOptions": {"preconditions": preconditions},
    });
    api.post(&format!("{PODS}/a/eviction"), &eviction).await.ok();
    let evicted = api.get(&format!("{PODS}/a")).await.ok();
    assert!(evicted["status"].to_string().contains("DisruptionTarget"), "{evicted}");
}
