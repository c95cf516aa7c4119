//! Where packets may go, and whose.

use crate::rig::{Endpoint, From, NODE, OUTSIDE, on_a_node};
use serde_json::json;

#[test]
fn external_policy_local_keeps_the_clients_address() {
    on_a_node(async |node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        let (client, outside) = (node.add_pod("client").await, node.add_outsider().await);
        let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports});
        node.put_service("web", spec).await;
        let elsewhere = Endpoint::of(&b).elsewhere();
        node.put_endpoints("web", &[&Endpoint::of(&a), &elsewhere]).await;
        let node_port = format!("{NODE}:30080");
        let seen = format!("a {OUTSIDE}");
        node.expect(From::Pod(&outside), &node_port, &seen).await;
        for _ in 0..10 {
            assert_eq!(crate::rig::ask(From::Pod(&outside), &node_port).await, seen);
        }
        // Pods and the node itself may as well use the cluster address.
        let seen = format!("b {}", client.addresses[0]);
        node.expect(From::Pod(&client), &node_port, &seen).await;
        node.expect(From::Node, &node_port, "b 10.42.0.1").await;
        // Without an endpoint here nothing is said: a load balancer tries another node.
        node.put_endpoints("web", &[&elsewhere]).await;
        node.expect(From::Pod(&outside), &node_port, "silence").await;
        node.expect(From::Pod(&client), &node_port, &seen).await;
        node.put_endpoints("web", &[]).await;
        node.expect(From::Pod(&outside), &node_port, "refused").await;
    });
}

#[test]
fn internal_policy_local_stays_on_the_node() {
    on_a_node(async |node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        let client = node.add_pod("client").await;
        node.put_service("web", json!({"internalTrafficPolicy": "Local"})).await;
        let elsewhere = Endpoint::of(&b).elsewhere();
        node.put_endpoints("web", &[&Endpoint::of(&a), &elsewhere]).await;
        let seen = format!("a {}", client.addresses[0]);
        node.expect(From::Pod(&client), "10.43.0.20:80", &seen).await;
        for _ in 0..10 {
            assert_eq!(crate::rig::ask(From::Pod(&client), "10.43.0.20:80").await, seen);
        }
        node.put_endpoints("web", &[&elsewhere]).await;
        node.expect(From::Pod(&client), "10.43.0.20:80", "silence").await;
    });
}

#[test]
fn only_some_may_use_a_load_balancer() {
    on_a_node(async |node| {
        let (a, outside) = (node.add_pod("a").await, node.add_outsider().await);
        let to = "198.51.100.9:80";
        let spec =
            |range: &str| json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [range]});
        node.put_service("web", spec("192.0.2.2/32")).await;
        node.balance("web", "198.51.100.9").await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        node.expect(From::Pod(&outside), to, "a 10.42.0.1").await;
        let path = "/api/v1/namespaces/default/services/web";
        let others = json!({"spec": {"loadBalancerSourceRanges": ["203.0.113.0/24"]}});
        node.api.patch(path, "merge", &others).await.ok();
        node.expect(From::Pod(&outside), to, "silence").await;
        // The cluster address is nobody's business but the cluster's.
        node.expect(From::Node, "10.43.0.20:80", "a 10.42.0.1").await;
        let everybody = json!({"spec": {"loadBalancerSourceRanges": ["0.0.0.0/0"]}});
        node.api.patch(path, "merge", &everybody).await.ok();
        node.expect(From::Pod(&outside), to, "a 10.42.0.1").await;
    });
}

#[test]
fn pods_that_end_serve_until_others_are_ready() {
    on_a_node(async |node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        node.put_service("web", json!({})).await;
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        let ending = Endpoint::of(&a).with(ending);
        let starting = Endpoint::of(&b).with(json!({"ready": false}));
        node.put_endpoints("web", &[&ending, &starting]).await;
        node.expect(From::Node, "10.43.0.20:80", "a 10.42.0.1").await;
        node.put_endpoints("web", &[&ending, &Endpoint::of(&b)]).await;
        node.expect(From::Node, "10.43.0.20:80", "b 10.42.0.1").await;
    });
}
