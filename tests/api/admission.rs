//! What is filled in and refused when pods and claims are created.

use super::support::Api;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn pod(name: &str, resources: &Value) -> Value {
    let container = json!({"name": "c", "image": "i", "resources": resources});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

async fn limit(api: &Api, item: Value) {
    let range = json!({"metadata": {"generateName": "r-"}, "spec": {"limits": [item]}});
    api.post("/api/v1/namespaces/default/limitranges", &range).await.ok();
}

#[tokio::test]
async fn limit_ranges_fill_in_and_refuse() {
    let api = Api::start().await;
    limit(&api, json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"}})).await;
    let created = api.post(PODS, &pod("a", &json!({}))).await.ok();
    assert_eq!(
        created["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        created["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let (code, reason, message) =
        api.post(PODS, &pod("b", &json!({"limits": {"cpu": "3"}}))).await.refused();
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "pods \"b\" is forbidden: maximum cpu usage per Container is 2, but limit is 3"
    );
}

#[tokio::test]
async fn a_pod_runs_as_an_account_that_is_there() {
    let api = Api::start().await;
    let created = api.post(PODS, &pod("a", &json!({}))).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let mut other = pod("b", &json!({}));
    other["spec"]["serviceAccountName"] = json!("robot");
    let (code, _, message) = api.post(PODS, &other).await.refused();
    assert_eq!(code, 403);
    assert_eq!(
        message,
        "pods \"b\" is forbidden: error looking up service account default/robot: \
         serviceaccount \"robot\" not found"
    );
    let robot = json!({"metadata": {"name": "robot"}, "imagePullSecrets": [{"name": "pull"}]});
    api.post("/api/v1/namespaces/default/serviceaccounts", &robot).await.ok();
    let created = api.post(PODS, &other).await.ok();
    assert_eq!(created["spec"]["serviceAccountName"], "robot");
    assert_eq!(created["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
}

#[tokio::test]
async fn the_account_of_a_new_namespace_is_waited_for() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "fresh"}})).await.ok();
    let pod = pod("a", &json!({}));
    let create = api.post("/api/v1/namespaces/fresh/pods", &pod);
    let (created, ()) = tokio::join!(create, api.give_account("fresh"));
    created.ok();
}

#[tokio::test]
async fn claims_get_the_default_class() {
    let api = Api::start().await;
    let class = |name: &str| {
        json!({"metadata": {"name": name, "annotations":
            {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "example.com/p"})
    };
    api.post("/apis/storage.k8s.io/v1/storageclasses", &class("fast")).await.ok();
    let claim = |name: &str, class: Option<&str>| {
        let mut claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        if let Some(class) = class {
            claim["spec"]["storageClassName"] = json!(class);
        }
        claim
    };
    for (name, class, expected) in
        [("a", None, json!("fast")), ("b", Some(""), json!("")), ("c", Some("slow"), json!("slow"))]
    {
        let created = api.post(CLAIMS, &claim(name, class)).await.ok();
        assert_eq!(created["spec"]["storageClassName"], expected, "{name}");
    }
}

#[tokio::test]
async fn claims_grow_where_their_class_says_so() {
    let api = Api::start().await;
    for (name, can_grow) in [("rubber", true), ("stone", false)] {
        let class = json!({"metadata": {"name": name}, "provisioner": "example.com/p",
            "allowVolumeExpansion": can_grow});
        api.post("/apis/storage.k8s.io/v1/storageclasses", &class).await.ok();
        let claim = json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "storageClassName": name, "resources": {"requests": {"storage": "1Gi"}}}});
        api.post(CLAIMS, &claim).await.ok();
    }
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let path = |name: &str| format!("{CLAIMS}/{name}");
    for name in ["rubber", "stone"] {
        let bound = json!({"status": {"phase": "Bound"}});
        api.patch(&format!("{}/status", path(name)), "merge", &bound).await.ok();
    }
    api.patch(&path("rubber"), "merge", &grow).await.ok();
    let (_, _, message) = api.patch(&path("stone"), "merge", &grow).await.refused();
    assert!(message.contains("only dynamically provisioned pvc can be resized"), "{message}");
}

#[tokio::test]
async fn ingresses_get_the_default_class() {
    let api = Api::start().await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let classes = "/apis/networking.k8s.io/v1/ingressclasses";
    let class = |name: &str, is_default: &str| {
        json!({"metadata": {"name": name, "annotations":
            {"ingressclass.kubernetes.io/is-default-class": is_default}},
            "spec": {"controller": "example.com/c"}})
    };
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"defaultBackend": backend}});
    let class_of = |created: Value| created["spec"]["ingressClassName"].clone();
    let created = api.post(ingresses, &ingress("before")).await.ok();
    assert_eq!(class_of(created), json!(null));
    api.post(classes, &class("other", "false")).await.ok();
    api.post(classes, &class("web", "true")).await.ok();
    let created = api.post(ingresses, &ingress("none")).await.ok();
    assert_eq!(class_of(created), json!("web"));
    let mut named = ingress("named");
    named["spec"]["ingressClassName"] = json!("other");
    assert_eq!(class_of(api.post(ingresses, &named).await.ok()), json!("other"));
    let mut annotated = ingress("annotated");
    annotated["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "nginx"});
    assert_eq!(class_of(api.post(ingresses, &annotated).await.ok()), json!(null));
    // Of several, the newest; of those of one second, the first by name.
    let created = api.post(classes, &class("a", "true")).await.ok();
    let newest = created["metadata"]["creationTimestamp"].clone();
    let web = api.get(&format!("{classes}/web")).await.ok();
    let is_newer = web["metadata"]["creationTimestamp"].as_str() <= newest.as_str();
    assert!(is_newer);
    let created = api.post(ingresses, &ingress("several")).await.ok();
    assert_eq!(class_of(created), json!("a"));
    // A class that is none any more is nobody's; an Ingress that is there stays as it is.
    for name in ["a", "web"] {
        let annotation = json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "false"}}});
        api.patch(&format!("{classes}/{name}"), "merge", &annotation).await.ok();
    }
    let created = api.post(ingresses, &ingress("after")).await.ok();
    assert_eq!(class_of(created), json!(null));
    let found = api.get(&format!("{ingresses}/several")).await.ok();
    assert_eq!(class_of(found), json!("a"));
}

#[tokio::test]
async fn where_an_ingress_is_served_is_told_by_its_status() {
    let api = Api::start().await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let ingress = json!({"metadata": {"name": "web"}, "spec": {"defaultBackend": backend}});
    let created = api.post(ingresses, &ingress).await.ok();
    assert_eq!(created["metadata"]["generation"], 1);
    let path = format!("{ingresses}/web");
    let served = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}},
        "spec": {"ingressClassName": "other"}});
    let updated = api.patch(&format!("{path}/status"), "merge", &served).await.ok();
    assert_eq!(updated["status"], served["status"]);
    assert_eq!(updated["spec"]["ingressClassName"], json!(null));
    let changed =
        api.patch(&path, "merge", &json!({"status": null, "spec": {"tls": [{}]}})).await.ok();
    assert_eq!(changed["status"], served["status"]);
    assert_eq!(changed["metadata"]["generation"], 2);
    let bad = json!({"status": {"loadBalancer": {"ingress": [{"ip": "somewhere"}]}}});
    let (code, _, message) = api.patch(&format!("{path}/status"), "merge", &bad).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("status.loadBalancer.ingress[0].ip: Invalid value"), "{message}");
}

#[tokio::test]
async fn devices_are_administered_where_the_namespace_says_so() {
    let api = Api::start().await;
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let claim = |name: &str, admin: bool| {
        let exactly = json!({"deviceClassName": "gpu", "adminAccess": admin});
        json!({"metadata": {"name": name}, "spec": {"devices": {"requests": [
            {"name": "plain", "exactly": {"deviceClassName": "gpu"}},
            {"name": "all", "exactly": exactly},
        ]}}})
    };
    api.post(claims, &claim("a", false)).await.ok();
    let refused = api.post(claims, &claim("b", true)).await;
    assert_eq!(refused.code, 422);
    let cause = refused.json()["details"]["causes"][0].clone();
    assert_eq!(cause["field"], "spec.devices.requests[1].adminAccess");
    assert_eq!(cause["reason"], "FieldValueForbidden");
    let given = json!({"status": {"allocation": {"devices": {"results": [{
        "request": "plain", "driver": "d.io", "pool": "p", "device": "d", "adminAccess": true,
    }]}}}});
    let status = format!("{claims}/a/status");
    assert_eq!(api.patch(&status, "merge", &given).await.code, 422);

    let label = json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}});
    api.patch("/api/v1/namespaces/default", "merge", &label).await.ok();
    api.post(claims, &claim("b", true)).await.ok();
    api.patch(&status, "merge", &given).await.ok();
}
