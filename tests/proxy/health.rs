//! What load balancers and Prometheus are told of the proxy.

use crate::rig::{Endpoint, From, on_a_node};
use crate::support::eventually;
use kinglet::stdx::Clock;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

const NODES: &str = "/api/v1/nodes";

#[test]
fn load_balancers_are_told_whether_to_use_the_node() {
    on_a_node(async |node| {
        // Nobody knows a Node of that name.
        said("/healthz", "503", json!({"healthy": true, "nodeEligible": false})).await;
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "here"}});
        node.api.post(NODES, &object).await.ok();
        said("/healthz", "200", json!({"healthy": true, "nodeEligible": true})).await;
        let taint = json!({"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"});
        let tainted = json!({"spec": {"taints": [taint]}});
        node.api.patch(&format!("{NODES}/here"), "merge", &tainted).await.ok();
        said("/healthz", "503", json!({"healthy": true, "nodeEligible": false})).await;
        // That is no reason to start it anew.
        let (status, body) = ask("/livez").await;
        assert_eq!((&*status, &body["nodeEligible"]), ("200", &Value::Null));
        eventually("the rules of both families are there", async || {
            let (_, body) = ask("/livez").await;
            (body["status"]["IPv6"]["healthy"] == true).then_some(())
        })
        .await;
        assert_eq!(ask("/").await.0, "404");
    });
}

async fn said(path: &str, status: &str, expected: Value) {
    eventually(&format!("{path}: {status} {expected}"), async || {
        let (found, body) = ask(path).await;
        let has_all = expected.as_object().unwrap().iter().all(|(key, value)| body[key] == *value);
        (found == status && has_all).then_some(())
    })
    .await;
}

/// Status and body.
async fn ask(path: &str) -> (String, Value) {
    let (status, body) = ask_port(10256, path).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// Status and body.
async fn ask_port(port: u16, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let asked = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_to_string(&mut said).unwrap();
        }
        said
    });
    let said = asked.await.unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, body.to_owned())
}

#[test]
fn who_is_on_the_node_is_told_how_the_proxy_works() {
    on_a_node(async |_node| {
        let told = async || {
            let (status, body) = ask_port(10249, "/proxyMode").await;
            (status == "200").then_some(body)
        };
        assert_eq!(eventually("the proxy's own port", told).await, "nftables");
        assert_eq!(ask_port(10249, "/healthz").await, ("200".to_owned(), "ok".to_owned()));
        let (status, body) = ask_port(10249, "/metrics").await;
        assert!(status == "200" && body.contains("kubeproxy_sync_proxy_rules"), "{status} {body}");
        assert_eq!(ask_port(10249, "/else").await.0, "404");
    });
}

#[test]
fn what_the_proxy_does_is_counted() {
    on_a_node(async |node| {
        let a = node.add_pod("a").await;
        node.put_service("web", json!({"internalTrafficPolicy": "Local"})).await;
        node.put_endpoints("web", &[&Endpoint::of(&a)]).await;
        node.expect(From::Node, "10.43.0.20:80", "a 10.42.0.1").await;
        let counted = |name: &str| -> Option<f64> {
            let text = node.metrics();
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse().ok()
        };
        assert_eq!(counted("kubeproxy_network_programming_duration_seconds_count"), Some(0.0));
        let now = Clock::system().now();
        let changed = json!({"metadata": {"annotations": {
            "endpoints.kubernetes.io/last-change-trigger-time": now.to_string(),
        }}});
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        node.api.patch(&format!("{slices}/web-ipv4"), "merge", &changed).await.ok();
        node.put_endpoints("web", &[&Endpoint::of(&a).elsewhere()]).await;
        node.expect(From::Node, "10.43.0.20:80", "silence").await;
        let expected = [
            ("kubeproxy_network_programming_duration_seconds_count", 1.0),
            (
                "kubeproxy_sync_proxy_rules_no_local_endpoints_total{traffic_policy=\"internal\",\
                 ip_family=\"IPv4\"}",
                1.0,
            ),
            ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", 0.0),
            ("kubeproxy_sync_full_proxy_rules_duration_seconds_count", 1.0),
            ("kubeproxy_sync_proxy_rules_nftables_sync_failures_total", 0.0),
        ];
        for (name, expected) in expected {
            eventually(name, async || (counted(name) == Some(expected)).then_some(())).await;
        }
        let [queued, applied] = ["last_queued_timestamp_seconds", "last_timestamp_seconds"]
            .map(|name| counted(&format!("kubeproxy_sync_proxy_rules_{name}")).unwrap());
        assert!(queued > 1e9 && applied >= queued, "{queued} {applied}");
    });
}
