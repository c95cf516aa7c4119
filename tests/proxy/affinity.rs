//! Clients that stay where they are.

use crate::rig::{Endpoint, From, ask, on_a_node};
use serde_json::json;

#[test]
fn a_client_stays_with_its_endpoint() {
    on_a_node(async |node| {
        let pods = [node.add_pod("a").await, node.add_pod("b").await, node.add_pod("c").await];
        let client = node.add_pod("client").await;
        let endpoints: Vec<_> = pods.iter().map(Endpoint::of).collect();
        let ports = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
        let spec = json!({"type": "NodePort", "sessionAffinity": "ClientIP", "ports": ports});
        node.put_service("web", spec).await;
        node.put_endpoints("web", &endpoints.iter().collect::<Vec<_>>()).await;
        let to = "10.43.0.20:80";
        let first = crate::support::eventually("an answer", async || {
            let answer = ask(From::Pod(&client), to).await;
            answer.ends_with(&client.addresses[0].to_string()).then_some(answer)
        })
        .await;
        for _ in 0..20 {
            assert_eq!(ask(From::Pod(&client), to).await, first);
        }
        // By whichever way it comes.
        let name = first.split(' ').next().unwrap();
        let by_port = ask(From::Pod(&client), "10.42.0.1:30080").await;
        assert_eq!(by_port, format!("{name} 10.42.0.1"));
        // Others leave, it stays; its own leaves, it goes to one of the others and stays there.
        let own = pods.iter().position(|pod| pod.name == name).unwrap();
        let other = (own + 1) % 3;
        node.put_endpoints("web", &[&endpoints[own], &endpoints[other]]).await;
        node.expect(From::Pod(&client), to, &first).await;
        node.put_endpoints("web", &[&endpoints[other]]).await;
        let moved = format!("{} {}", pods[other].name, client.addresses[0]);
        node.expect(From::Pod(&client), to, &moved).await;
        node.put_endpoints("web", &endpoints.iter().collect::<Vec<_>>()).await;
        for _ in 0..20 {
            assert_eq!(ask(From::Pod(&client), to).await, moved);
        }
    });
}
