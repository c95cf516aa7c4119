//! Addresses and node ports of Services.

use super::support::{Api, eventually};
use kinglet::stdx::Tasks;
use kinglet::storage::{ListRequest, Store as _};
use serde_json::{Value, json};
use std::time::Duration;

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    service
}

/// What all Services together have, without what `default/kubernetes` has: addresses and node ports.
async fn taken(api: &Api) -> Vec<String> {
    let mut taken = Vec::new();
    for prefix in ["/networking.k8s.io/ipaddresses/", "/kinglet.dev/nodeports/"] {
        let request = ListRequest { prefix: prefix.to_owned(), after: None, limit: None, at: None };
        let page = api.store.list(request).await.unwrap();
        let keys = page.entries.iter().map(|entry| entry.key.as_str()[prefix.len()..].to_owned());
        taken.extend(keys.filter(|key| key != "10.43.0.1"));
    }
    taken
}

#[tokio::test]
async fn the_api_has_the_first_address() {
    let api = Api::start().await;
    let service = api.get(&format!("{SERVICES}/kubernetes")).await.ok();
    assert_eq!(service["spec"]["clusterIP"], "10.43.0.1");
    let endpoints = api.get("/api/v1/namespaces/default/endpoints/kubernetes").await.ok();
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "192.0.2.1");
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = api.get(&format!("{slices}/kubernetes")).await.ok();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.1"]));
    api.server.bootstrap().await.unwrap();
}

#[tokio::test]
async fn addresses_come_and_go_with_their_services() {
    let api = Api::start().await;
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    let address = created["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.43."), "{address}");
    assert_eq!(created["spec"]["clusterIPs"], json!([address]));
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(created["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(taken(&api).await, [address]);

    let wanted = service("b", json!({"clusterIP": address}));
    let (code, reason, message) = api.post(SERVICES, &wanted).await.refused();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(message.contains("provided IP is already allocated"), "{message}");
    let elsewhere = service("b", json!({"clusterIP": "192.0.2.7"}));
    let (code, _, message) = api.post(SERVICES, &elsewhere).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("The range of valid IPs is 10.43.0.0/16"), "{message}");

    // An update may leave the address out.
    let path = format!("{SERVICES}/a");
    let kept = api.put(&path, &service("a", json!({"sessionAffinity": "ClientIP"}))).await.ok();
    assert_eq!(kept["spec"]["clusterIP"], address);
    api.delete(&path).await.ok();
    assert!(taken(&api).await.is_empty());
    api.post(SERVICES, &wanted).await.ok();
}

#[tokio::test]
async fn a_dry_run_takes_no_address() {
    let api = Api::start().await;
    let path = format!("{SERVICES}?dryRun=All");
    api.post(&path, &service("a", json!({"type": "NodePort"}))).await.ok();
    assert!(taken(&api).await.is_empty());
}

#[tokio::test]
async fn headless_and_external_services_have_none() {
    let api = Api::start().await;
    let headless = api.post(SERVICES, &service("a", json!({"clusterIP": "None"}))).await.ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let external = api.post(SERVICES, &service("b", external)).await.ok();
    assert!(external["spec"].get("clusterIP").is_none(), "{external}");
    assert!(taken(&api).await.is_empty());
}

#[tokio::test]
async fn node_ports_follow_the_type() {
    let api = Api::start().await;
    let ports = json!([
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "http", "port": 80, "nodePort": 30_080},
    ]);
    let spec = json!({"type": "NodePort", "ports": ports});
    let created = api.post(SERVICES, &service("a", spec)).await.ok();
    let port = |index: usize| created["spec"]["ports"][index]["nodePort"].as_i64().unwrap();
    assert_eq!(port(0), port(1), "one port in two protocols");
    assert_eq!(port(2), 30_080);
    assert!((30_000..=32_767).contains(&port(0)));
    assert_eq!(taken(&api).await.len(), 3);

    let wanted = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_080}]});
    let (code, _, message) = api.post(SERVICES, &service("b", wanted)).await.refused();
    assert_eq!(code, 422);
    assert!(
        message.contains("spec.ports[0].nodePort: Invalid value: 30080: provided port is already"),
        "{message}"
    );
    let outside = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]});
    let (code, _, message) = api.post(SERVICES, &service("b", outside)).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("The range of valid ports is 30000-32767"), "{message}");

    let path = format!("{SERVICES}/a");
    let patched = api.patch(&path, "merge", &json!({"spec": {"type": "ClusterIP"}})).await.ok();
    assert!(patched["spec"]["ports"][2].get("nodePort").is_none(), "{patched}");
    assert_eq!(taken(&api).await.len(), 1);
}

#[tokio::test]
async fn services_made_side_by_side_share_nothing() {
    let api = Api::start().await;
    let creates = (0..40).map(|index| {
        let api = &api;
        async move {
            let spec = json!({"type": "NodePort"});
            api.post(SERVICES, &service(&format!("s{index}"), spec)).await.ok()
        }
    });
    futures_util::future::join_all(creates).await;
    assert_eq!(taken(&api).await.len(), 80);
}

#[tokio::test]
async fn a_load_balancer_gets_its_health_check_port() {
    let api = Api::start().await;
    for (name, allocates) in [("a", true), ("b", false)] {
        let spec = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "allocateLoadBalancerNodePorts": allocates,
        });
        let created = api.post(SERVICES, &service(name, spec)).await.ok();
        assert!(created["spec"]["healthCheckNodePort"].is_u64(), "{created}");
        assert_eq!(created["spec"]["ports"][0]["nodePort"].is_u64(), allocates, "{created}");
        // It is given just so to a Service that becomes one.
        let plain = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": allocates});
        let plain = api.post(SERVICES, &service(&format!("{name}-plain"), plain)).await.ok();
        let patch = json!({"spec": {"externalTrafficPolicy": "Local"}});
        let path = format!("{SERVICES}/{}", plain["metadata"]["name"].as_str().unwrap());
        let patched = api.patch(&path, "merge", &patch).await.ok();
        assert!(patched["spec"]["healthCheckNodePort"].is_u64(), "{patched}");
    }
}

#[tokio::test]
async fn a_node_port_that_is_asked_for_belongs_to_one_service() {
    let api = Api::start().await;
    let wanted = |name| {
        service(
            name,
            json!({
                "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
                "ports": [{"port": 80, "nodePort": 30_080}],
            }),
        )
    };
    api.post(SERVICES, &wanted("a")).await.ok();
    let (code, _, message) = api.post(SERVICES, &wanted("b")).await.refused();
    assert_eq!(code, 422);
    assert!(message.contains("provided port is already allocated"), "{message}");
    api.delete(&format!("{SERVICES}/a")).await.ok();
    api.post(SERVICES, &wanted("b")).await.ok();
}

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

#[tokio::test]
async fn an_address_says_whose_it_is() {
    let api = Api::start().await;
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    let path = format!("{ADDRESSES}/{}", created["spec"]["clusterIP"].as_str().unwrap());
    let address = api.get(&path).await.ok();
    assert_eq!(
        address["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "default", "name": "a"})
    );
    assert_eq!(
        address["metadata"]["labels"],
        json!({"ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
    );
    api.delete(&format!("{SERVICES}/a")).await.ok();
    assert_eq!(api.get(&path).await.refused().0, 404);
}

#[tokio::test]
async fn an_address_of_somebody_else_is_not_given_to_a_service() {
    let api = Api::start().await;
    let parent = json!({"group": "a.io", "resource": "gateways", "name": "g"});
    let address = json!({"metadata": {"name": "10.43.0.77"}, "spec": {"parentRef": parent}});
    api.post(ADDRESSES, &address).await.ok();
    let wanted = service("a", json!({"clusterIP": "10.43.0.77"}));
    let (_, _, message) = api.post(SERVICES, &wanted).await.refused();
    assert!(message.contains("provided IP is already allocated"), "{message}");
    api.delete(&format!("{ADDRESSES}/10.43.0.77")).await.ok();
    api.post(SERVICES, &wanted).await.ok();
}

#[tokio::test]
async fn what_others_do_to_the_address_of_a_service_is_mended() {
    let api = Api::start().await;
    let mut tasks = Tasks::default();
    api.server.keep(&mut tasks);
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    let path = format!("{ADDRESSES}/{}", created["spec"]["clusterIP"].as_str().unwrap());
    let uid = api.get(&path).await.ok()["metadata"]["uid"].clone();
    api.delete(&path).await.ok();
    eventually("the address is there again", async || {
        let address = api.get(&path).await.json();
        (address["metadata"]["uid"].is_string() && address["metadata"]["uid"] != uid).then_some(())
    })
    .await;
    // One that no Service has.
    let strange = json!({
        "metadata": {"name": "10.43.9.9",
            "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "none"}},
    });
    api.post(ADDRESSES, &strange).await.ok();
    eventually("the strange address goes", async || {
        let code = api.get(&format!("{ADDRESSES}/10.43.9.9")).await.code;
        (code == 404).then_some(())
    })
    .await;
    tasks.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn more_ranges_give_more_addresses() {
    let api = Api::start().await;
    assert_eq!(
        api.get(&format!("{RANGES}/kubernetes")).await.ok()["spec"]["cidrs"],
        json!(["10.43.0.0/16"])
    );
    let wanted = service("a", json!({"clusterIP": "10.96.0.7"}));
    let (_, _, message) = api.post(SERVICES, &wanted).await.refused();
    assert!(message.contains("is not in the valid range"), "{message}");
    let range = json!({"metadata": {"name": "more", "finalizers": ["a.io/b"]},
        "spec": {"cidrs": ["10.96.0.0/24"]}});
    api.post(RANGES, &range).await.ok();
    api.post(SERVICES, &wanted).await.ok();
    // On its way out it gives no more.
    api.delete(&format!("{RANGES}/more")).await.ok();
    let another = service("b", json!({"clusterIP": "10.96.0.8"}));
    let (_, _, message) = api.post(SERVICES, &another).await.refused();
    assert!(message.contains("is not in the valid range"), "{message}");
    // What a Service has it keeps.
    let path = format!("{SERVICES}/a");
    api.patch(&path, "merge", &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    api.delete(&path).await.ok();
}

#[tokio::test]
async fn a_second_family_comes_and_goes() {
    let mut config = super::support::config();
    config.service_cidrs = ["10.43.0.0/16", "fd43::/112"].map(|it| it.parse().unwrap()).into();
    let api = Api::on(super::support::store(), config).await;
    let created = api.post(SERVICES, &service("a", json!({}))).await.ok();
    let first = created["spec"]["clusterIP"].clone();
    let path = format!("{SERVICES}/a");
    let patch = json!({"spec": {"ipFamilyPolicy": "RequireDualStack"}});
    let dual = api.patch(&path, "merge", &patch).await.ok();
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(dual["spec"]["clusterIPs"][0], first);
    let second = dual["spec"]["clusterIPs"][1].as_str().unwrap();
    assert!(second.starts_with("fd43::"), "{second}");
    assert_eq!(taken(&api).await.len(), 2);
    let patch = json!({"spec": {"ipFamilyPolicy": "SingleStack"}});
    let single = api.patch(&path, "merge", &patch).await.ok();
    assert_eq!(single["spec"]["clusterIPs"], json!([first]));
    assert_eq!(single["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(taken(&api).await.len(), 1);

    let both = json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]});
    let both = api.post(SERVICES, &service("b", both)).await.ok();
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]));
    assert_eq!(both["spec"]["clusterIP"], both["spec"]["clusterIPs"][0]);
}

#[tokio::test]
async fn endpoints_go_with_their_service() {
    let api = Api::start().await;
    let endpoints = "/api/v1/namespaces/default/endpoints";
    api.post(SERVICES, &service("a", json!({"selector": null}))).await.ok();
    let own = json!({"metadata": {"name": "a"}, "subsets": [{"addresses": [{"ip": "192.0.2.9"}]}]});
    api.post(endpoints, &own).await.ok();
    api.delete(&format!("{SERVICES}/a")).await.ok();
    assert_eq!(api.get(&format!("{endpoints}/a")).await.refused().0, 404);
}
