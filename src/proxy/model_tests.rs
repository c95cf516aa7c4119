//! What of a Service the rules depend on.

use super::model::{HealthCheck, NodeView, Port, health_check, ports, service_of};
use super::topology::Policy;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::sync::Arc;

fn node() -> NodeView {
    NodeView {
        name: "here".to_owned(),
        zone: None,
        addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    }
}

fn service(spec: Value) -> Service {
    let mut base = json!({
        "type": "ClusterIP", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"],
        "ports": [{"port": 80, "protocol": "TCP"}],
    });
    base.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": base});
    serde_json::from_value(object).unwrap()
}

fn describe(port: &Port) -> String {
    let mut text =
        format!("{} {}:{}/{}", port.name, port.cluster_address, port.port, port.protocol.as_str());
    let mut add = |name: &str, values: Vec<String>| {
        if !values.is_empty() {
            text.push_str(&format!(" {name}={}", values.join(",")));
        }
    };
    let texts =
        |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect();
    add("node-port", port.node_port.iter().map(ToString::to_string).collect());
    add("external", texts(&port.external_addresses));
    add("balanced", texts(&port.balanced_addresses));
    add("sources", port.sources.iter().map(ToString::to_string).collect());
    add("sticky", port.sticky_seconds.iter().map(ToString::to_string).collect());
    let mut policies = Vec::new();
    for (name, policy) in [("in", port.policies.internal), ("out", port.policies.external)] {
        if policy == Policy::Local {
            policies.push(name.to_owned());
        }
    }
    add("local", policies);
    text
}

#[track_caller]
fn check(spec: Value, expected: &[&str]) {
    check_service(&service(spec), expected);
}

#[track_caller]
fn check_service(service: &Service, expected: &[&str]) {
    let found: Vec<_> = ports(service, &[], &node()).iter().map(describe).collect();
    assert_eq!(found, expected);
}

#[test]
fn services_without_an_address_need_no_rules() {
    check(json!({}), &["ns/web/ 10.43.0.1:80/tcp"]);
    check(json!({"clusterIP": "None", "clusterIPs": ["None"]}), &[]);
    check(json!({"clusterIP": "", "clusterIPs": []}), &[]);
    check(json!({"type": "ExternalName", "externalName": "example.org"}), &[]);
    for label in ["service-proxy-name", "headless"] {
        let mut others = service(json!({}));
        let label = format!("service.kubernetes.io/{label}");
        others.metadata.labels = Some([(label, "mesh".to_owned())].into());
        check_service(&others, &[]);
    }
}

#[test]
fn ports_are_by_name_protocol_and_family() {
    check(
        json!({
            "clusterIP": "fd43::1", "clusterIPs": ["fd43::1", "10.43.0.1"],
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53},
                {"name": "s", "port": 7, "protocol": "SCTP", "nodePort": 30007},
                {"name": "x", "port": 8, "protocol": "QUIC"},
            ],
        }),
        &[
            "ns/web/dns fd43::1:53/udp",
            "ns/web/dns-tcp fd43::1:53/tcp",
            "ns/web/s fd43::1:7/sctp node-port=30007",
            "ns/web/dns 10.43.0.1:53/udp",
            "ns/web/dns-tcp 10.43.0.1:53/tcp",
            "ns/web/s 10.43.0.1:7/sctp node-port=30007",
        ],
    );
    // Objects from before there were two.
    check(json!({"clusterIPs": null}), &["ns/web/ 10.43.0.1:80/tcp"]);
}

#[test]
fn other_ways_in_are_of_the_family() {
    let status = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.9"}, {"ip": "192.0.2.10", "ipMode": "Proxy"}, {"hostname": "example.org"},
        {"ip": "192.0.2.11", "ipMode": "VIP"}, {"ip": "2001:db8::9"},
    ]}});
    let mut both = service(json!({
        "clusterIPs": ["10.43.0.1", "fd43::1"],
        "externalIPs": ["198.51.100.1", "2001:db8::7", "nonsense", "198.51.100.1"],
    }));
    both.status = Some(serde_json::from_value(status).unwrap());
    check_service(
        &both,
        &[
            "ns/web/ 10.43.0.1:80/tcp external=198.51.100.1 balanced=192.0.2.9,192.0.2.11",
            "ns/web/ fd43::1:80/tcp external=2001:db8::7 balanced=2001:db8::9",
        ],
    );
}

#[test]
fn policies_and_affinity() {
    check(
        json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}),
        &["ns/web/ 10.43.0.1:80/tcp local=in,out"],
    );
    check(json!({"internalTrafficPolicy": "Cluster"}), &["ns/web/ 10.43.0.1:80/tcp"]);
    check(json!({"sessionAffinity": "None"}), &["ns/web/ 10.43.0.1:80/tcp"]);
    check(json!({"sessionAffinity": "ClientIP"}), &["ns/web/ 10.43.0.1:80/tcp sticky=10800"]);
    check(
        json!({
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        }),
        &["ns/web/ 10.43.0.1:80/tcp sticky=60"],
    );
}

#[test]
fn ranges_of_sources() {
    let check = |ranges: &[&str], expected: &str| {
        let mut balanced = service(json!({"loadBalancerSourceRanges": ranges}));
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}});
        balanced.status = Some(serde_json::from_value(status).unwrap());
        let expected = format!("ns/web/ 10.43.0.1:80/tcp balanced=192.0.2.9{expected}");
        check_service(&balanced, &[&expected]);
    };
    check(&[], "");
    check(&["203.0.113.0/24 "], " sources=203.0.113.0/24");
    // Everybody.
    check(&["203.0.113.0/24", "0.0.0.0/0"], "");
    // Of the other family: they say nothing of this one.
    check(&["2001:db8::/32"], "");
    // What overlaps is one range.
    check(&["10.0.0.0/8", "10.1.0.0/16"], " sources=10.0.0.0/8");
    // This node is among them: its packets to the address come from the address.
    check(&["192.0.2.1/32"], " sources=192.0.2.1/32,192.0.2.9/32");
}

#[test]
fn slices_for_others_are_left_out() {
    let labelled = |labels: Value| -> EndpointSlice {
        let slice = json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": []});
        serde_json::from_value(slice).unwrap()
    };
    let name = "kubernetes.io/service-name";
    assert_eq!(service_of(&labelled(json!({name: "web"}))), Some("web"));
    assert_eq!(service_of(&labelled(json!({name: ""}))), None);
    assert_eq!(service_of(&labelled(json!({}))), None);
    let headless = json!({name: "web", "service.kubernetes.io/headless": ""});
    assert_eq!(service_of(&labelled(headless)), None);
    let others = json!({name: "web", "service.kubernetes.io/service-proxy-name": "mesh"});
    assert_eq!(service_of(&labelled(others)), None);
}

#[test]
fn a_health_check_counts_pods() {
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "s"}, "addressType": "IPv4",
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        "endpoints": [
            {"addresses": ["10.42.0.1"], "nodeName": "here"},
            {"addresses": ["10.42.0.2"], "nodeName": "here"},
            {"addresses": ["10.42.0.3"], "nodeName": "here", "conditions": {"ready": false}},
            {"addresses": ["10.42.1.1"], "nodeName": "elsewhere"},
        ],
    }))
    .unwrap();
    let slices = [Arc::new(slice)];
    let spec = |policy: &str| {
        json!({
            "type": "LoadBalancer", "externalTrafficPolicy": policy, "healthCheckNodePort": 30123,
            "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        })
    };
    let expected = HealthCheck { node_port: 30123, local_endpoints: 2 };
    assert_eq!(health_check(&service(spec("Local")), &slices, "here"), Some(expected));
    assert_eq!(health_check(&service(spec("Cluster")), &slices, "here"), None);
    assert_eq!(health_check(&service(json!({})), &slices, "here"), None);
}
