//! What nft is told, against golden text: `tests/golden/proxy`.

use super::base;
use super::ledger::{Ledger, Owner};
use super::model::{NodeView, ports};
use super::render;
use super::script::{self, Script, script};
use crate::api::ObjectKey;
use crate::stdx::check_golden;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `UPDATE_GOLDEN=1` rewrites the file.
#[track_caller]
fn check(name: &str, actual: &str) {
    check_golden(&format!("proxy/{name}.nft"), actual);
}

/// A node with Services, and what nft was told of each change.
#[derive(Default)]
struct Case {
    ledger: Ledger,
    there: BTreeSet<String>,
    told: String,
}

impl Case {
    fn set(mut self, what: &str, service: Value, endpoints: Value) -> Self {
        let (service, slice) = objects(service, endpoints);
        let node = NodeView {
            name: "here".to_owned(),
            zone: None,
            addresses: vec!["192.0.2.1".parse().unwrap()],
        };
        let wanted = render::wanted(&ports(&service, &[Arc::new(slice)], &node));
        self.ledger.set(&owner("web"), wanted);
        self.apply(what)
    }

    fn apply(mut self, what: &str) -> Self {
        let changes = self.ledger.pending();
        let Script { text, made, emptied } = script(&changes, &self.there);
        self.ledger.settled(&changes);
        self.there.extend(made);
        self.there.retain(|chain| !emptied.contains(chain));
        self.told.push_str(&format!("# {what}\n{text}"));
        self
    }

    #[track_caller]
    fn check(self, name: &str) {
        check(name, &self.told);
    }
}

fn owner(name: &str) -> Owner {
    Arc::new(ObjectKey::namespaced("default", name))
}

/// `endpoints`: `["10.42.0.1 here", "10.42.1.1"]`.
fn objects(spec: Value, endpoints: Value) -> (Service, EndpointSlice) {
    let mut service = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        match key.as_str() {
            "ingress" => service["status"] = json!({"loadBalancer": {"ingress": value}}),
            "nodePort" => service["spec"]["ports"][0]["nodePort"] = value.clone(),
            _ => service["spec"][key] = value.clone(),
        }
    }
    let endpoint = |text: &Value| {
        let mut words = text.as_str().unwrap().split_whitespace();
        let address = words.next().unwrap();
        json!({"addresses": [address], "nodeName": words.next().unwrap_or("elsewhere")})
    };
    let endpoints: Vec<_> = endpoints.as_array().unwrap().iter().map(endpoint).collect();
    let slice = json!({
        "metadata": {"name": "web-1", "namespace": "default"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    (serde_json::from_value(service).unwrap(), serde_json::from_value(slice).unwrap())
}

#[test]
fn base_rules() {
    check("base", &base::base());
    assert!(script::anew().ends_with(&format!("{}\n", base::marker())));
}

#[test]
fn ranges_of_the_cluster() {
    let mut case = Case::default();
    let pods = ["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()];
    let services = ["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()];
    case.ledger.set(&owner("node"), render::ranges(&pods, &services));
    case.apply("ranges").check("ranges");
}

#[test]
fn a_cluster_address_from_its_first_endpoint_to_its_end() {
    Case::default()
        .set("none yet", json!({}), json!([]))
        .set("one", json!({}), json!(["10.42.0.5"]))
        .set("two more", json!({}), json!(["10.42.0.5", "10.42.0.6", "10.42.1.6"]))
        .set("one is another", json!({}), json!(["10.42.0.5", "10.42.0.6", "10.42.1.7"]))
        .set("as it was", json!({}), json!(["10.42.0.5", "10.42.0.6", "10.42.1.7"]))
        .set("back to one", json!({}), json!(["10.42.0.5"]))
        .set("none", json!({}), json!([]))
        .set("headless", json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!([]))
        .check("cluster_address");
}

#[test]
fn node_ports_and_other_addresses() {
    let spec = json!({
        "type": "LoadBalancer", "nodePort": 30080, "externalIPs": ["198.51.100.1"],
        "ingress": [{"ip": "192.0.2.1"}],
    });
    Case::default()
        .set("two endpoints", spec.clone(), json!(["10.42.0.5 here", "10.42.1.6"]))
        .set("none", spec, json!([]))
        .check("external");
}

#[test]
fn policy_local() {
    let spec = json!({
        "type": "NodePort", "nodePort": 30080, "externalIPs": ["198.51.100.1"],
        "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
    });
    Case::default()
        .set("one of two is here", spec.clone(), json!(["10.42.0.5 here", "10.42.1.6"]))
        .set("none is here", spec.clone(), json!(["10.42.1.6"]))
        .set("none anywhere", spec, json!([]))
        .check("policy_local");
}

#[test]
fn source_ranges() {
    let spec = |ranges: Value| {
        json!({
            "type": "LoadBalancer", "ingress": [{"ip": "192.0.2.9"}],
            "loadBalancerSourceRanges": ranges,
        })
    };
    Case::default()
        .set("some", spec(json!(["203.0.113.0/24", "192.0.2.1/32"])), json!(["10.42.0.5"]))
        .set("others", spec(json!(["203.0.113.0/24"])), json!(["10.42.0.5"]))
        .set("all", spec(json!([])), json!(["10.42.0.5"]))
        .check("source_ranges");
}

#[test]
fn session_affinity() {
    let spec = |seconds: u32, policy: &str| {
        json!({
            "type": "NodePort", "nodePort": 30080, "externalTrafficPolicy": policy,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
        })
    };
    let endpoints = json!(["10.42.0.5 here", "10.42.1.6"]);
    Case::default()
        .set("two endpoints", spec(60, "Cluster"), endpoints.clone())
        .set("one goes", spec(60, "Cluster"), json!(["10.42.0.5 here"]))
        .set("local, and longer", spec(90, "Local"), endpoints.clone())
        .set("no more", json!({"type": "NodePort", "nodePort": 30080}), endpoints)
        .check("session_affinity");
}
