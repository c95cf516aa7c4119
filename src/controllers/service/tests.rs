//! Tables of decisions about addresses from outside.

use super::*;
use serde_json::{Value, json};

const NOW: &str = "2026-11-20T12:00:00Z";

/// `created` is the minute in which it was made.
fn service(name: &str, created: u8, changes: &Value) -> Arc<Service> {
    let mut service = json!({
        "metadata": {"name": name, "namespace": "default",
            "creationTimestamp": format!("2026-11-20T11:{created:0>2}:00Z")},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"],
            "ports": [{"port": 8080, "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    });
    json_patch::merge(&mut service, changes);
    Arc::new(serde_json::from_value(service).unwrap())
}

/// A node from words: its name and internal addresses, and then any of `unready`, `excluded`,
/// `outside=ADDRESS`, and labels as `name=value`.
fn node(words: &str) -> Arc<Node> {
    let mut words = words.split(' ');
    let name = words.next().unwrap();
    let mut node = json!({"metadata": {"name": name, "labels": {}}, "status": {
        "addresses": [], "conditions": [{"type": "Ready", "status": "True"}]}});
    for word in words {
        let mut address = |kind: &str, address: &str| {
            let list = node["status"]["addresses"].as_array_mut().unwrap();
            list.push(json!({"type": kind, "address": address}));
        };
        match word.split_once('=') {
            Some(("outside", external)) => address("ExternalIP", external),
            Some((label, value)) => {
                let label = format!("svccontroller.k3s.cattle.io/{label}");
                node["metadata"]["labels"][label] = json!(value);
            }
            None if word == "unready" => {
                node["status"]["conditions"][0]["status"] = json!("Unknown");
            }
            None if word == "excluded" => {
                let label = "node.kubernetes.io/exclude-from-external-load-balancers";
                node["metadata"]["labels"][label] = json!("");
            }
            None => address("InternalIP", word),
        }
    }
    Arc::new(serde_json::from_value(node).unwrap())
}

fn observed(service: Arc<Service>, nodes: &[&str]) -> Observed {
    Observed {
        all: vec![Arc::clone(&service)],
        service,
        nodes: nodes.iter().map(|words| node(words)).collect(),
        local: BTreeSet::from(["b".to_owned()]),
        reserved: vec![HostPort { protocol: "TCP".to_owned(), port: 6443 }],
        attempt: Attempt { now: NOW.parse().unwrap(), failure: None },
    }
}

/// The addresses that are given, or why there are none.
fn brief(observed: &Observed) -> String {
    let plan = plan(observed);
    let Some(write) = plan.writes().next() else { return "nothing".to_owned() };
    let service: Service = serde_json::from_value(write.body()).unwrap();
    let mut later = observed.clone();
    later.service = Arc::new(service.clone());
    assert!(super::plan(&later).steps.is_empty(), "what has been done is done");
    let status = service.status.unwrap();
    let ingress = status.load_balancer.unwrap().ingress.unwrap_or_default();
    let addresses: Vec<_> = ingress.into_iter().map(|ingress| ingress.ip.unwrap()).collect();
    if addresses.is_empty() {
        return plan.steps[0][0].succeeded.as_ref().unwrap().message.clone();
    }
    addresses.join(" ")
}

#[track_caller]
fn check(changes: Value, nodes: &[&str], expected: &str) {
    assert_eq!(brief(&observed(service("web", 1, &changes), nodes)), expected);
}

#[test]
fn addresses_are_those_of_the_nodes() {
    check(json!({}), &["a 192.0.2.1", "b 192.0.2.2"], "192.0.2.1 192.0.2.2");
    check(json!({}), &["a 192.0.2.1 outside=198.51.100.1", "b 192.0.2.2"], "198.51.100.1");
    check(json!({}), &["a 192.0.2.1", "b 192.0.2.2 unready", "c 192.0.2.3 excluded"], "192.0.2.1");
    let dual = json!({"spec": {"ipFamilies": ["IPv6", "IPv4"]}});
    check(dual, &["a 192.0.2.1 2001:db8::1"], "2001:db8::1 192.0.2.1");
    check(json!({}), &["a 192.0.2.1 2001:db8::1"], "192.0.2.1");
    check(json!({}), &[], "nothing");
    let local = json!({"spec": {"externalTrafficPolicy": "Local"}});
    check(local, &["a 192.0.2.1", "b 192.0.2.2"], "192.0.2.2");
}

#[test]
fn an_address_is_lost_with_its_node() {
    let ingress = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]);
    let has = json!({"status": {"loadBalancer": {"ingress": ingress}}});
    check(has.clone(), &["a 192.0.2.1"], "nothing");
    check(has, &["a 192.0.2.1 unready"], "There are no available nodes for LoadBalancer");
}

#[test]
fn nodes_are_chosen_by_labels_and_pools() {
    let nodes = ["a 192.0.2.1 enablelb=true lbpool=x", "b 192.0.2.2 enablelb=true", "c 192.0.2.3"];
    check(json!({}), &nodes, "192.0.2.1 192.0.2.2");
    let pooled = json!({"metadata": {"labels": {"svccontroller.k3s.cattle.io/lbpool": "x"}}});
    check(pooled.clone(), &nodes, "192.0.2.1");
    check(pooled, &["c 192.0.2.3"], "192.0.2.3");
    check(json!({}), &["a 192.0.2.1 enablelb=false", "b 192.0.2.2"], "nothing");
}

#[test]
fn a_port_of_a_node_is_for_one_service() {
    let older = service("older", 0, &json!({}));
    let mut observed = observed(service("web", 1, &json!({})), &["a 192.0.2.1"]);
    observed.all.push(Arc::clone(&older));
    assert_eq!(brief(&observed), "port 8080/TCP belongs to Service default/older");
    let conditions =
        plan(&observed).writes().next().unwrap().body()["status"]["conditions"].clone();
    assert_eq!(conditions[0]["type"], "LoadBalancerPortsError");

    // The other way round it has it.
    observed.service = older;
    assert_eq!(brief(&observed), "192.0.2.1");
    // Other protocols are other ports.
    let udp = json!({"spec": {"ports": [{"port": 8080, "protocol": "UDP"}]}});
    observed.service = service("web", 1, &udp);
    assert_eq!(brief(&observed), "192.0.2.1");
}

#[test]
fn the_condition_goes_with_its_reason() {
    let condition = json!({"type": "LoadBalancerPortsError", "status": "True", "message": "m",
        "reason": "LoadBalancerPortsError", "lastTransitionTime": NOW});
    let status = json!({"status": {"conditions": [condition]}});
    let observed = observed(service("web", 1, &status), &["a 192.0.2.1"]);
    assert_eq!(brief(&observed), "192.0.2.1");
    let body = plan(&observed).writes().next().unwrap().body();
    assert_eq!(body["status"].get("conditions"), None);
}

#[test]
fn ports_of_the_node_itself_are_not_given_away() {
    let api = json!({"spec": {"ports": [{"port": 6443, "protocol": "TCP"}]}});
    check(api, &["a 192.0.2.1"], "port 6443/TCP belongs to the node itself");
}
