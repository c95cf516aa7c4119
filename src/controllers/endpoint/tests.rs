//! Tables of decisions about Endpoints.

use super::*;
use crate::control::Write;
use plan::ADDRESSES_MAX;
use serde_json::{Value, json};

fn service(changes: &Value) -> Arc<Service> {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "default", "labels": {"tier": "front"},
            "creationTimestamp": "2026-11-20T11:00:00Z"},
        "spec": {"clusterIP": "10.43.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
    });
    json_patch::merge(&mut service, changes);
    Arc::new(serde_json::from_value(service).unwrap())
}

/// A pod of this number, and any of `unready` and `gone`.
fn pod(words: &str) -> Arc<Pod> {
    let (number, words) = words.split_once(' ').unwrap_or((words, ""));
    let number: usize = number.parse().unwrap();
    let address = format!("10.42.{}.{}", number / 256, number % 256);
    let ready = if words.contains("unready") { "False" } else { "True" };
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("{number}")},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": address}, {"ip": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": ready,
                "lastTransitionTime": format!("2026-11-20T12:00:{:0>2}Z", number % 60)}]},
    });
    if words.contains("gone") {
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn observed(changes: &Value, pods: &[&str]) -> Observed {
    let pods = pods.iter().map(|words| pod(words)).collect();
    Observed { service: Some(service(changes)), pods, endpoints: None }
}

/// What is there once the plan has been carried out, after which nothing is left to do.
#[track_caller]
fn carried_out(observed: &mut Observed) -> Endpoints {
    let plan = plan(observed);
    let write = plan.writes().next().expect("there is something to write");
    let endpoints: Endpoints = serde_json::from_value(write.body()).unwrap();
    observed.endpoints = Some(Arc::new(endpoints.clone()));
    assert!(super::plan(observed).steps.is_empty(), "what has been done is done");
    endpoints
}

#[track_caller]
fn check(changes: Value, pods: &[&str], expected: &[&str]) {
    let endpoints = carried_out(&mut observed(&changes, pods));
    let shown = endpoints.subsets.iter().flatten().map(|subset| {
        let list = |addresses: &Option<Vec<_>>| {
            let all = addresses.iter().flatten();
            all.map(|it: &k8s_openapi::api::core::v1::EndpointAddress| it.ip.clone())
                .collect::<Vec<_>>()
                .join(",")
        };
        let ports: Vec<_> =
            subset.ports.iter().flatten().map(|port| port.port.to_string()).collect();
        let (ready, others) = (list(&subset.addresses), list(&subset.not_ready_addresses));
        format!("{ready}|{others}|{}", ports.join(","))
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn ready_and_unready_pods_are_told_apart() {
    check(json!({}), &["1", "2 unready", "3 gone"], &["10.42.0.1|10.42.0.2|8080"]);
    check(
        json!({"spec": {"publishNotReadyAddresses": true}}),
        &["1", "2 unready", "3 gone"],
        &["10.42.0.1,10.42.0.2,10.42.0.3||8080"],
    );
    check(json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}}), &["1"], &["fd00::1||8080"]);
    check(json!({}), &[], &[]);
    check(json!({"spec": {"clusterIP": "None", "ports": null}}), &["1"], &["10.42.0.1||"]);
}

#[test]
fn labels_say_whose_they_are() {
    let mut observed = observed(&json!({"spec": {"clusterIP": "None"}}), &["1"]);
    let endpoints = json!(carried_out(&mut observed));
    assert_eq!(
        endpoints["metadata"]["labels"],
        json!({"tier": "front", "service.kubernetes.io/headless": "",
            "endpoints.kubernetes.io/managed-by": "endpoint-controller"})
    );
    assert_eq!(
        endpoints["metadata"]["annotations"],
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T11:00:00Z"})
    );
    observed.pods.extend([pod("9"), pod("7")]);
    let later = json!(carried_out(&mut observed));
    assert_eq!(
        later["metadata"]["annotations"],
        json!({"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T12:00:07Z"})
    );
}

#[test]
fn too_many_addresses_are_left_out() {
    let words: Vec<String> = (1..=ADDRESSES_MAX + 20)
        .map(
            |number| if number % 2 == 0 { format!("{number} unready") } else { number.to_string() },
        )
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut observed = observed(&json!({}), &words);
    let endpoints = carried_out(&mut observed);
    let subset = &endpoints.subsets.as_ref().unwrap()[0];
    assert_eq!(subset.addresses.as_ref().unwrap().len(), 510, "all that are ready");
    assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 490);
    let annotations = endpoints.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["endpoints.kubernetes.io/over-capacity"], "truncated");
    observed.pods.truncate(10);
    let endpoints = carried_out(&mut observed);
    assert_eq!(endpoints.metadata.annotations, None);
}

#[test]
fn only_what_this_controller_wrote_goes_with_the_service() {
    let mut observed = observed(&json!({}), &["1"]);
    carried_out(&mut observed);
    observed.service = None;
    assert!(matches!(plan(&observed).writes().next(), Some(Write::Delete { .. })));
    let mut users = Endpoints::clone(observed.endpoints.as_ref().unwrap());
    users.metadata.labels = None;
    observed.endpoints = Some(Arc::new(users));
    assert!(plan(&observed).steps.is_empty());
}
