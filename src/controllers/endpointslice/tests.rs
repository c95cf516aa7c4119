//! Tables of decisions about the slices of a Service.

use super::*;
use crate::control::Write;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn service(changes: &Value) -> Arc<Service> {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"tier": "front"},
            "creationTimestamp": "2026-11-20T11:00:00Z"},
        "spec": {"clusterIP": "10.43.0.7", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
    });
    json_patch::merge(&mut service, changes);
    Arc::new(serde_json::from_value(service).unwrap())
}

/// A pod from a few words: the last part of its address, and then any of `unready`, `gone` (being
/// deleted), `dual` (with an IPv6 address), `lost` (its node is not there), `other` (another target
/// port), `bare` (none).
fn pod(words: &str) -> Arc<Pod> {
    let mut words = words.split(' ');
    let number = words.next().unwrap();
    let second = number.parse::<usize>().unwrap() % 60;
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": number,
            "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.42.0.{number}")}],
            "conditions": [{"type": "Ready", "status": "True",
                "lastTransitionTime": format!("2026-11-20T12:00:{second:0>2}Z")}]},
    });
    for word in words {
        match word {
            "unready" => pod["status"]["conditions"][0]["status"] = json!("False"),
            "gone" => pod["metadata"]["deletionTimestamp"] = json!("2026-11-20T12:00:00Z"),
            "dual" => {
                let address = json!({"ip": format!("FD00::{number}")});
                pod["status"]["podIPs"].as_array_mut().unwrap().push(address);
            }
            "lost" => pod["spec"]["nodeName"] = json!("away"),
            "other" => pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090),
            "bare" => pod["spec"]["containers"][0]["ports"] = json!([]),
            _ => panic!("{word}"),
        }
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn observed(service: Arc<Service>, pods: &[&str], slices: Vec<Arc<EndpointSlice>>) -> Observed {
    let zones = BTreeMap::from([("n".to_owned(), Some("z".to_owned()))]);
    let pods = pods.iter().map(|words| pod(words)).collect();
    Observed { service, pods, slices, zones, nodes: Vec::new() }
}

/// What is there once the plan has been carried out.
fn carried_out(observed: &Observed) -> Vec<Arc<EndpointSlice>> {
    let mut slices: BTreeMap<String, EndpointSlice> = BTreeMap::new();
    for slice in &observed.slices {
        slices.insert(slice.metadata.name.clone().unwrap(), EndpointSlice::clone(slice));
    }
    for (index, write) in plan(observed).writes().enumerate() {
        match write {
            Write::Delete { key, .. } => drop(slices.remove(&key.name)),
            write => {
                let mut slice: EndpointSlice = serde_json::from_value(write.body()).unwrap();
                let name = slice.metadata.name.get_or_insert_with(|| format!("web-{index}"));
                let name = name.clone();
                slice.metadata.generate_name = Some("web-".to_owned());
                slices.insert(name, slice);
            }
        }
    }
    slices.into_values().map(Arc::new).collect()
}

/// Each slice on a line: its name, family, ports, endpoints with their conditions (`r`eady,
/// `s`erving, `t`erminating), and what it was triggered by.
fn show(slices: &[Arc<EndpointSlice>]) -> Vec<String> {
    let shown = slices.iter().map(|slice| {
        let ports = slice.ports.iter().flatten();
        let ports: Vec<_> = ports.map(|port| port.port.unwrap().to_string()).collect();
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            let conditions = endpoint.conditions.as_ref().unwrap();
            let mark = |is: Option<bool>, mark| if is == Some(true) { mark } else { "" };
            format!(
                "{}={}{}{}",
                endpoint.addresses.join(","),
                mark(conditions.ready, "r"),
                mark(conditions.serving, "s"),
                mark(conditions.terminating, "t"),
            )
        });
        let endpoints: Vec<_> = endpoints.collect();
        format!("{} [{}] {}", slice.address_type, ports.join(","), endpoints.join(" "))
    });
    shown.collect()
}

#[track_caller]
fn check(changes: Value, pods: &[&str], expected: &[&str]) -> Vec<Arc<EndpointSlice>> {
    check_from(observed(service(&changes), pods, Vec::new()), expected)
}

/// The plan leads to `expected`, and then nothing is left to do.
#[track_caller]
fn check_from(mut observed: Observed, expected: &[&str]) -> Vec<Arc<EndpointSlice>> {
    observed.slices = carried_out(&observed);
    assert_eq!(show(&observed.slices), expected);
    assert!(plan(&observed).steps.is_empty(), "what has been done is done");
    observed.slices
}

#[test]
fn conditions_are_those_of_the_pods() {
    check(
        json!({}),
        &["1", "2 unready", "3 gone", "4 unready gone"],
        &["IPv4 [8080] 10.42.0.1=rs 10.42.0.2= 10.42.0.3=st 10.42.0.4=t"],
    );
    check(
        json!({"spec": {"publishNotReadyAddresses": true}}),
        &["2 unready", "3 gone"],
        &["IPv4 [8080] 10.42.0.2=r 10.42.0.3=rst"],
    );
}

#[test]
fn a_slice_says_whose_it_is() {
    let slices = check(json!({}), &["1"], &["IPv4 [8080] 10.42.0.1=rs"]);
    let slice = json!(slices[0]);
    assert_eq!(
        slice["metadata"]["labels"],
        json!({"tier": "front", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    assert_eq!(slice["metadata"]["ownerReferences"][0]["controller"], true);
    let trigger =
        &slice["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"];
    assert_eq!(*trigger, "2026-11-20T11:00:00Z");
    assert_eq!(
        slice["endpoints"][0],
        json!({"addresses": ["10.42.0.1"], "nodeName": "n", "zone": "z",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "p1", "uid": "1"}})
    );
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));

    // Later it is the first change that is not in the slices yet.
    let later = observed(service(&json!({})), &["1", "7", "5"], slices);
    let slices = carried_out(&later);
    let annotations = slices[0].metadata.annotations.as_ref().unwrap();
    assert_eq!(
        annotations["endpoints.kubernetes.io/last-change-trigger-time"],
        "2026-11-20T12:00:05Z"
    );
}

#[test]
fn a_service_without_pods_has_an_empty_slice() {
    let slices = check(json!({}), &[], &["IPv4 [] "]);
    // It becomes the first that is not empty, and the other way round.
    let some = observed(service(&json!({})), &["1"], slices);
    let slices = check_from(some, &["IPv4 [8080] 10.42.0.1=rs"]);
    check_from(observed(service(&json!({})), &[], slices), &["IPv4 [] "]);
}

#[test]
fn each_family_has_slices_of_its_own() {
    let dual = json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}});
    let slices = check(
        dual,
        &["1 dual", "2"],
        &["IPv4 [8080] 10.42.0.1=rs 10.42.0.2=rs", "IPv6 [8080] fd00::1=rs"],
    );
    let single = observed(service(&json!({})), &["1 dual", "2"], slices);
    check_from(single, &["IPv4 [8080] 10.42.0.1=rs 10.42.0.2=rs"]);
    check(json!({"spec": {"ipFamilies": ["IPv6"]}}), &["2"], &["IPv6 [] "]);
}

#[test]
fn pods_with_other_ports_are_in_other_slices() {
    check(
        json!({}),
        &["1", "2 other", "3 bare"],
        &["IPv4 [] 10.42.0.3=rs", "IPv4 [8080] 10.42.0.1=rs", "IPv4 [9090] 10.42.0.2=rs"],
    );
}

#[test]
fn headless_services_may_have_no_ports() {
    let headless = json!({"spec": {"clusterIP": "None", "ports": null}});
    let slices = check(headless, &["1"], &["IPv4 [] 10.42.0.1=rs"]);
    let labels = slices[0].metadata.labels.as_ref().unwrap();
    assert_eq!(labels["service.kubernetes.io/headless"], "");
}

#[test]
fn pods_of_a_node_that_is_not_there_wait() {
    check(json!({}), &["1", "2 lost"], &["IPv4 [8080] 10.42.0.1=rs"]);
    let all = json!({"spec": {"publishNotReadyAddresses": true}});
    check(all, &["2 lost"], &["IPv4 [8080] 10.42.0.2=rs"]);
}

#[test]
fn slices_of_a_service_of_the_same_name_go() {
    let slices =
        check(json!({"metadata": {"uid": "older"}}), &["1"], &["IPv4 [8080] 10.42.0.1=rs"]);
    let observed = observed(service(&json!({})), &["1"], slices);
    let plan = plan(&observed);
    let verbs: Vec<_> = plan.writes().map(Write::verb).collect();
    assert_eq!(format!("{verbs:?}"), "[Create, Delete]");
}

#[test]
fn a_service_that_goes_gets_no_new_slices() {
    let gone = json!({"metadata": {"deletionTimestamp": "2026-11-20T12:00:00Z"}});
    assert!(plan(&observed(service(&gone), &["1"], Vec::new())).steps.is_empty());
}

#[test]
fn labels_of_the_service_are_followed() {
    let slices = check(json!({}), &["1"], &["IPv4 [8080] 10.42.0.1=rs"]);
    let relabelled = service(&json!({"metadata": {"labels": {"tier": "back"}}}));
    let slices = check_from(observed(relabelled, &["1"], slices), &["IPv4 [8080] 10.42.0.1=rs"]);
    assert_eq!(slices[0].metadata.labels.as_ref().unwrap()["tier"], "back");
}

#[test]
fn hints_come_and_go_with_the_service() {
    let close = service(&json!({"spec": {"trafficDistribution": "PreferClose"}}));
    let slices = check_from(observed(close, &["1"], Vec::new()), &["IPv4 [8080] 10.42.0.1=rs"]);
    assert_eq!(json!(slices[0].endpoints[0].hints), json!({"forZones": [{"name": "z"}]}));
    let slices =
        check_from(observed(service(&json!({})), &["1"], slices), &["IPv4 [8080] 10.42.0.1=rs"]);
    assert_eq!(slices[0].endpoints[0].hints, None);

    // Told only with a write.
    let annotations = json!({"service.kubernetes.io/topology-mode": "Auto"});
    let auto = service(&json!({"metadata": {"annotations": annotations}}));
    let mut observed = observed(auto, &["1"], Vec::new());
    let reasons = |plan: &Plan| plan.reports.iter().map(|it| it.reason).collect::<Vec<_>>();
    assert_eq!(reasons(&plan(&observed)), ["TopologyAwareHintsDisabled"]);
    observed.slices = carried_out(&observed);
    assert_eq!(plan(&observed), Plan { regarding: plan(&observed).regarding, ..Plan::default() });
}

#[test]
fn two_hundred_and_fifty_pods_need_three_slices() {
    let numbers: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    let words: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let mut observed = observed(service(&json!({})), &words, Vec::new());
    for _ in 0..3 {
        observed.slices = carried_out(&observed);
    }
    let sizes: Vec<_> = observed.slices.iter().map(|slice| slice.endpoints.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert!(plan(&observed).steps.is_empty());
}
