//! Every way into a Service, from everywhere.

use crate::rig::{Endpoint, From, NODE, on_a_node};
use serde_json::json;

#[test]
fn a_cluster_address_leads_to_its_pod_from_everywhere() {
    on_a_node(async |node| {
        let (a, client) = (node.add_pod("a").await, node.add_pod("client").await);
        node.put_service("web", json!({})).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        let seen = format!("a {}", client.addresses[0]);
        node.expect(From::Pod(&client), "10.43.0.20:80", &seen).await;
        // A pod that reaches itself sees the node: it would not answer to its own address.
        node.expect(From::Pod(&a), "10.43.0.20:80", "a 10.42.0.1").await;
        node.expect(From::Node, "10.43.0.20:80", "a 10.42.0.1").await;
        // Somebody outside who has a route to the cluster's addresses.
        let outside = node.add_outsider().await;
        node.expect(From::Pod(&outside), "10.43.0.20:80", "a 10.42.0.1").await;
    });
}

#[test]
fn endpoints_share_the_work_and_come_and_go() {
    on_a_node(async |node| {
        let pods = [node.add_pod("a").await, node.add_pod("b").await, node.add_pod("c").await];
        let endpoints: Vec<_> = pods.iter().map(Endpoint::of).collect();
        let all: Vec<_> = endpoints.iter().collect();
        node.put_service("web", json!({})).await;
        node.put_endpoints("web", &all).await;
        for pod in &pods {
            let name = format!("{} 10.42.0.1", pod.name);
            node.expect(From::Node, "10.43.0.20:80", &name).await;
        }
        node.put_endpoints("web", &all[2..]).await;
        node.expect(From::Node, "10.43.0.20:80", "c 10.42.0.1").await;
        crate::support::eventually("nobody but c", async || {
            for _ in 0..10 {
                if crate::rig::ask(From::Node, "10.43.0.20:80").await != "c 10.42.0.1" {
                    return None;
                }
            }
            Some(())
        })
        .await;
    });
}

#[test]
fn without_endpoints_connections_are_refused_at_once() {
    on_a_node(async |node| {
        let client = node.add_pod("client").await;
        let outside = node.add_outsider().await;
        let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        node.put_service("web", json!({"type": "NodePort", "ports": ports})).await;
        for from in [From::Pod(&client), From::Node] {
            node.expect(from, "10.43.0.20:80", "refused").await;
        }
        node.expect(From::Pod(&outside), &format!("{NODE}:30080"), "refused").await;
        // Other ports of the address, and addresses that nobody has.
        node.expect(From::Pod(&client), "10.43.0.20:81", "refused").await;
        node.expect(From::Pod(&client), "10.43.0.99:80", "silence").await;
    });
}

#[test]
fn node_ports_answer_on_every_address() {
    on_a_node(async |node| {
        let (a, client) = (node.add_pod("a").await, node.add_pod("client").await);
        let outside = node.add_outsider().await;
        let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        node.put_service("web", json!({"type": "NodePort", "ports": ports})).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        for (from, to) in [
            (From::Pod(&outside), NODE),
            (From::Pod(&client), NODE),
            (From::Pod(&client), "10.42.0.1"),
            (From::Node, NODE),
            (From::Node, "127.0.0.1"),
        ] {
            node.expect(from, &format!("{to}:30080"), "a 10.42.0.1").await;
        }
    });
}

#[test]
fn external_addresses_and_load_balancers() {
    on_a_node(async |node| {
        let (a, outside) = (node.add_pod("a").await, node.add_outsider().await);
        let spec = json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7"]});
        node.put_service("web", spec).await;
        node.balance("web", NODE).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        node.expect(From::Pod(&outside), "198.51.100.7:80", "a 10.42.0.1").await;
        node.expect(From::Pod(&outside), &format!("{NODE}:80"), "a 10.42.0.1").await;
        node.expect(From::Node, &format!("{NODE}:80"), "a 10.42.0.1").await;
    });
}

#[test]
fn both_families_and_protocols() {
    on_a_node(async |node| {
        let (a, client) = (node.add_pod("a").await, node.add_pod("client").await);
        let spec = json!({
            "clusterIPs": ["10.43.0.20", "fd43::20"], "ipFamilyPolicy": "RequireDualStack",
            "ipFamilies": ["IPv4", "IPv6"],
            "ports": [
                {"name": "http", "port": 80},
                {"name": "dns", "port": 80, "protocol": "UDP"},
            ],
        });
        node.put_service("web", spec).await;
        node.put_endpoints("web", &[&Endpoint::of(&a), &Endpoint::ipv6_of(&a)]).await;
        for (address, from) in
            [("10.43.0.20:80", client.addresses[0]), ("[fd43::20]:80", client.addresses[1])]
        {
            let seen = format!("a {from}");
            node.expect(From::Pod(&client), address, &seen).await;
            node.expect(From::Pod(&client), &format!("udp {address}"), &seen).await;
        }
    });
}
