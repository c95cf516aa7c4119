//! What does not go as it should: restarts, rules that somebody takes away, rules that are refused.

use crate::rig::{Endpoint, From, Node, ask_on, on_a_node, run};
use crate::support::eventually;
use kinglet::sys::namespace;
use kinglet::sys::process::Program;
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

#[test]
fn a_new_process_takes_over_without_a_dropped_connection() {
    on_a_node(async |mut node| {
        let (a, client) = (node.add_pod("a").await, node.add_pod("client").await);
        let spec = json!({"sessionAffinity": "ClientIP"});
        node.put_service("web", spec).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        let seen = format!("a {}", client.addresses[0]);
        node.expect(From::Pod(&client), "10.43.0.20:80", &seen).await;
        let connect = || TcpStream::connect("10.43.0.20:80").unwrap();
        let mut stream = namespace::run_in_network(&client.namespace, connect).unwrap();
        let before = handle_of_table().await;
        node.stop_proxy().await;
        // What changes meanwhile is made up for.
        let ports = json!([{"name": "http", "port": 80}]);
        node.put_service("other", json!({"clusterIP": "10.43.0.21", "ports": ports})).await;
        node.put_endpoints("other", &[&Endpoint::of(&a)]).await;
        node.expect(From::Pod(&client), "10.43.0.20:80", &seen).await;
        node.start_proxy();
        node.expect(From::Pod(&client), "10.43.0.21:80", &seen).await;
        assert_eq!(handle_of_table().await, before, "it is the same table");
        stream.write_all(b"still there?").unwrap();
        let mut said = vec![0; seen.len() + 1 + "still there?".len()];
        stream.read_exact(&mut said).unwrap();
        assert!(said.ends_with(b"still there?"));
    });
}

/// What the kernel calls the table: another one has another number.
async fn handle_of_table() -> String {
    let printed = run("nft", "-a list tables").await;
    let line = printed.lines().find(|line| line.contains("kinglet-services"));
    line.unwrap().to_owned()
}

#[test]
fn rules_that_somebody_changes_are_made_anew() {
    on_a_node(async |node| {
        let a = node.add_pod("a").await;
        node.put_service("web", json!({})).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        let ports = json!([{"name": "http", "port": 80}]);
        let spec =
            json!({"clusterIP": "10.43.0.21", "ports": ports, "sessionAffinity": "ClientIP"});
        node.put_service("sticky", spec).await;
        node.put_endpoints("sticky", &[&Endpoint::of(&a)]).await;
        for to in ["10.43.0.20:80", "10.43.0.21:80"] {
            node.expect(From::Node, to, "a 10.42.0.1").await;
        }
        let before = words().await;
        let sticky = before.iter().find(|word| word.ends_with("/internal")).unwrap();
        let listed = run("nft", "-a list chain inet kinglet-services arriving").await;
        let rule = listed.lines().find(|line| line.contains("jump services")).unwrap();
        let handle = rule.rsplit(' ').next().unwrap();
        for command in [
            &*format!("delete rule inet kinglet-services arriving handle {handle}"),
            "delete element inet kinglet-services services-ip { 10.43.0.20 . tcp . 80 }",
            "flush map inet kinglet-services endpoints-tcp-ip",
            "flush chain inet kinglet-services internal-1",
            &format!("flush chain inet kinglet-services {sticky}"),
            "delete chain inet kinglet-services own",
            "flush chain inet kinglet-services masquerade-marked ; \
             delete set inet kinglet-services hairpin-ip",
            "flush table inet kinglet-services",
            "insert rule inet kinglet-services services drop",
            "add table inet kinglet-services { flags dormant ; }",
            "delete table inet kinglet-services",
            "flush ruleset",
        ] {
            run("nft", command).await;
            eventually(command, async || (words().await == before).then_some(())).await;
            for to in ["10.43.0.20:80", "10.43.0.21:80"] {
                node.expect(From::Node, to, "a 10.42.0.1").await;
            }
        }
        // Its own changes are nobody else's.
        let table = handle_of_table().await;
        for number in 22..26 {
            let address = format!("10.43.0.{number}");
            let name = format!("other-{number}");
            node.put_service(&name, json!({"clusterIP": address, "ports": ports})).await;
            node.put_endpoints(&name, &[&Endpoint::of(&a)]).await;
            node.expect(From::Node, &format!("{address}:80"), "a 10.42.0.1").await;
        }
        assert_eq!(handle_of_table().await, table);
    });
}

/// What the table has, in an order of its own: the kernel's is another each time. Nothing where it
/// is not there, or changes while it is read.
async fn words() -> Vec<String> {
    let list =
        Program::new("nft").args(["--stateless", "list", "table", "inet", "kinglet-services"]);
    let Ok(listed) = list.run_checked().await else {
        return Vec::new();
    };
    let text = String::from_utf8(listed.stdout).unwrap();
    // Who was seen by ports with affinity is forgotten.
    let text = text.lines().filter(|line| !line.contains("elements = { 10.42.0.1 }"));
    let words = text.flat_map(str::split_whitespace);
    let mut words: Vec<_> = words.map(|word| word.trim_end_matches(',').to_owned()).collect();
    words.sort_unstable();
    words
}

#[test]
fn one_whose_rules_are_refused_keeps_nobody_else_from_theirs() {
    on_a_node(async |node| {
        let a = node.add_pod("a").await;
        // Ranges of two Services for one address, which the kernel does not take: they overlap.
        for (name, address, range) in
            [("a-first", "10.43.0.21", "10.0.0.0/8"), ("b-second", "10.43.0.22", "10.1.0.0/16")]
        {
            let spec = json!({
                "type": "LoadBalancer", "clusterIP": address, "loadBalancerSourceRanges": [range],
            });
            node.put_service(name, spec).await;
            node.balance(name, "198.51.100.9").await;
            node.put_endpoints(name, &[&Endpoint::of(&a)]).await;
        }
        refused(&node, "b-second").await;
        node.put_service("c-third", json!({"clusterIP": "10.43.0.23"})).await;
        node.put_endpoints("c-third", &[&Endpoint::of(&a)]).await;
        for to in ["10.43.0.21:80", "10.43.0.23:80"] {
            node.expect(From::Node, to, "a 10.42.0.1").await;
        }
        // When the reason is gone, so is the wait.
        let everybody = json!({"spec": {"loadBalancerSourceRanges": []}});
        let path = "/api/v1/namespaces/default/services/b-second";
        node.api.patch(path, "merge", &everybody).await.ok();
        node.expect(From::Node, "10.43.0.22:80", "a 10.42.0.1").await;
    });
}

/// Waits until users are told.
async fn refused(node: &Node, service: &str) {
    eventually("an event", async || {
        let events = node.api.get("/api/v1/namespaces/default/events").await.ok();
        let mut events = events["items"].as_array().unwrap().iter();
        let is_it = |event: &serde_json::Value| {
            event["reason"] == "FailedToProgramService"
                && event["involvedObject"]["name"] == service
        };
        events.any(is_it).then_some(())
    })
    .await;
}

#[test]
fn flows_of_udp_follow_their_service() {
    on_a_node(async |node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        let client = node.add_pod("client").await;
        let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}]);
        node.put_service("dns", json!({"ports": ports})).await;
        let to = "10.43.0.20:53".parse().unwrap();
        let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
        let socket = namespace::run_in_network(&client.namespace, bind).unwrap();
        // The flow is there before there is anybody to answer.
        ask_on(&socket, to).unwrap_err();
        for pod in [&a, &b] {
            node.put_endpoints("dns", &[&Endpoint::of(pod)]).await;
            let expected = format!("{} {}", pod.name, client.addresses[0]);
            eventually(&expected, async || {
                let said = ask_on(&socket, to);
                said.is_ok_and(|said| said == expected).then_some(())
            })
            .await;
        }
    });
}

#[test]
fn nothing_is_left_behind() {
    on_a_node(async |mut node| {
        node.put_service("web", json!({})).await;
        node.expect(From::Node, "10.43.0.20:80", "refused").await;
        node.stop_all().await;
        kinglet::proxy::remove().await.unwrap();
        assert!(!run("nft", "list ruleset").await.contains("kinglet-services"));
        kinglet::proxy::remove().await.unwrap();
    });
}
