//! Addresses that Services can have, and ways to them.

use crate::rig::{Endpoint, From, ask, on_a_node, run};
use crate::support::eventually;
use serde_json::json;

const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

#[test]
fn a_node_without_a_default_route_reaches_services() {
    on_a_node(async |mut node| {
        let a = node.add_pod("a").await;
        let families = json!({
            "clusterIPs": ["10.43.0.20", "fd43::20"], "ipFamilyPolicy": "RequireDualStack",
        });
        node.put_service("web", families).await;
        node.put_endpoints("web", &[&Endpoint::of(&a), &Endpoint::ipv6_of(&a)]).await;
        node.expect(From::Node, "10.43.0.20:80", "a 10.42.0.1").await;
        node.expect(From::Node, "[fd43::20]:80", "a fd42::1").await;
        for family in ["-4", "-6"] {
            assert_eq!(run("ip", &format!("{family} route show default")).await, "");
        }
        // What is nobody's is not asked for on any wire, and does not hang on to a rejection.
        assert_eq!(ask(From::Node, "10.43.0.99:80").await, "silence");
        assert_eq!(ask(From::Node, "10.43.0.20:81").await, "refused");
        // A new process finds its routes, and takes away what is not to be there.
        run("ip", "route add 203.0.113.0/24 dev kinglet-svc").await;
        node.stop_proxy().await;
        node.start_proxy();
        eventually("the stray route is gone", async || {
            let routes = run("ip", "route show dev kinglet-svc").await;
            (routes.trim() == "10.43.0.0/16 proto static scope link").then_some(())
        })
        .await;
    });
}

#[test]
fn ranges_that_are_made_later_are_as_good_as_the_first() {
    on_a_node(async |node| {
        let (a, client) = (node.add_pod("a").await, node.add_pod("client").await);
        let range = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "more"}, "spec": {"cidrs": ["10.44.0.0/24"]},
        });
        node.api.post(RANGES, &range).await.ok();
        let ready = json!({"status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}});
        node.api.patch(&format!("{RANGES}/more/status"), "merge", &ready).await.ok();
        node.put_service("web", json!({"clusterIP": "10.44.0.20"})).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        node.expect(From::Node, "10.44.0.20:80", "a 10.42.0.1").await;
        let seen = format!("a {}", client.addresses[0]);
        node.expect(From::Pod(&client), "10.44.0.20:80", &seen).await;
        // Addresses that no Service has are not let out, other ports of those that one has are
        // refused.
        node.expect(From::Pod(&client), "10.44.0.99:80", "silence").await;
        node.expect(From::Pod(&client), "10.44.0.20:81", "refused").await;
        node.api.delete("/api/v1/namespaces/default/services/web").await;
        node.api.delete(&format!("{RANGES}/more")).await.ok();
        eventually("the range is forgotten", async || {
            let routes = run("ip", "route show dev kinglet-svc").await;
            let rules = run("nft", "list set inet kinglet-services service-ranges-ip").await;
            (!routes.contains("10.44.") && !rules.contains("10.44.")).then_some(())
        })
        .await;
    });
}
