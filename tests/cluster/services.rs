//! Where Services lead, and by which addresses they are reached.

use crate::cluster::Cluster;
use crate::support::eventually;
use k8s_openapi::api::core::v1::{Endpoints, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kinglet::api::ObjectKey;
use kinglet::client::{ApiObject, DeleteOptions, Patch};
use serde_json::{Value, json};

async fn create<K: ApiObject>(cluster: &Cluster, object: Value) -> K {
    cluster.client.create::<K>(&serde_json::from_value(object).unwrap()).await.unwrap()
}

async fn create_node(cluster: &Cluster, name: &str, address: &str) {
    let node = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z"}}});
    create::<Node>(cluster, node).await;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let key = ObjectKey::cluster(name);
    cluster.client.patch::<Node>(&key, &Patch::Merge(status), Some("status")).await.unwrap();
}

async fn create_service(cluster: &Cluster, name: &str, spec: Value) -> Service {
    let service = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    create(cluster, service).await
}

/// The slices of a Service, once they are as wanted.
async fn slices(
    cluster: &Cluster,
    service: &str,
    is_reached: impl Fn(&[EndpointSlice]) -> bool,
) -> Vec<EndpointSlice> {
    eventually(&format!("the slices of {service}"), async || {
        let mut slices = cluster.list::<EndpointSlice>().await;
        slices.retain(|slice| {
            let labels = slice.metadata.labels.as_ref().unwrap();
            labels["kubernetes.io/service-name"] == service
        });
        is_reached(&slices).then_some(slices)
    })
    .await
}

fn count(slices: &[EndpointSlice]) -> usize {
    slices.iter().map(|slice| slice.endpoints.len()).sum()
}

#[tokio::test]
async fn a_service_leads_to_its_pods() {
    let cluster = Cluster::start().await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    create_service(&cluster, "web", spec).await;
    slices(&cluster, "web", |slices| slices.len() == 1 && count(slices) == 0).await;

    create_node(&cluster, "n1", "192.0.2.1").await;
    cluster.deploy("web", "good", 3).await;
    let all = slices(&cluster, "web", |slices| {
        let mut endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        count(slices) == 3
            && endpoints.all(|it| it.conditions.as_ref().unwrap().ready == Some(true))
    })
    .await;
    assert_eq!(all[0].endpoints[0].zone.as_deref(), Some("z"));
    assert_eq!(all[0].ports.as_ref().unwrap()[0].port, Some(8080));
    cluster
        .until::<Endpoints>("web", |endpoints| {
            let subsets = endpoints.subsets.as_deref().unwrap_or_default();
            subsets.len() == 1 && subsets[0].addresses.as_ref().is_some_and(|all| all.len() == 3)
        })
        .await;

    cluster.apply("web", &json!({"replicas": 0})).await;
    slices(&cluster, "web", |slices| slices.len() == 1 && count(slices) == 0).await;
    let key = ObjectKey::namespaced("default", "web");
    cluster.client.delete::<Service>(&key, &DeleteOptions::default()).await.unwrap();
    slices(&cluster, "web", <[_]>::is_empty).await;
    // Their controller may have heard that they are gone before it heard the same of the Service.
    cluster.counted::<Endpoints>(1).await;
    cluster.at_rest().await;
}

#[tokio::test]
async fn a_deleted_slice_comes_again() {
    let cluster = Cluster::start().await;
    create_node(&cluster, "n1", "192.0.2.1").await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    create_service(&cluster, "web", spec).await;
    cluster.deploy("web", "good", 2).await;
    let before = slices(&cluster, "web", |slices| count(slices) == 2).await;
    let name = before[0].metadata.name.as_deref().unwrap();
    let key = ObjectKey::namespaced("default", name);
    cluster.client.delete::<EndpointSlice>(&key, &DeleteOptions::default()).await.unwrap();
    let after = slices(&cluster, "web", |slices| {
        count(slices) == 2 && slices[0].metadata.uid != before[0].metadata.uid
    })
    .await;
    assert_eq!(after.len(), 1);
    cluster.at_rest().await;
}

#[tokio::test]
async fn what_users_say_in_endpoints_is_said_in_slices() {
    let cluster = Cluster::start().await;
    create_service(&cluster, "db", json!({"ports": [{"port": 5432}]})).await;
    let endpoints = json!({
        "metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}],
    });
    create::<Endpoints>(&cluster, endpoints).await;
    let mirrored = slices(&cluster, "db", |slices| count(slices) == 1).await;
    assert_eq!(mirrored[0].endpoints[0].addresses, ["192.0.2.7"]);
    let moved = json!([{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 5432}]}]);
    let key = ObjectKey::namespaced("default", "db");
    let patch = Patch::Merge(json!({"subsets": moved}));
    cluster.client.patch::<Endpoints>(&key, &patch, None).await.unwrap();
    let again = slices(&cluster, "db", |slices| {
        slices.iter().any(|slice| slice.endpoints[0].addresses == ["192.0.2.8"])
    })
    .await;
    assert_eq!(again[0].metadata.uid, mirrored[0].metadata.uid);
    cluster.client.delete::<Endpoints>(&key, &DeleteOptions::default()).await.unwrap();
    slices(&cluster, "db", <[_]>::is_empty).await;
    cluster.at_rest().await;
}

#[tokio::test]
async fn a_load_balancer_has_the_addresses_of_the_nodes() {
    let cluster = Cluster::start().await;
    create_node(&cluster, "n1", "192.0.2.1").await;
    let spec = json!({"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]});
    create_service(&cluster, "web", spec.clone()).await;
    let addresses = |service: &Service| -> Vec<String> {
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.clone());
        let ingress = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
        ingress.into_iter().map(|ingress| ingress.ip.unwrap()).collect()
    };
    cluster.until::<Service>("web", |service| addresses(service) == ["192.0.2.1"]).await;
    create_node(&cluster, "n2", "192.0.2.2").await;
    cluster
        .until::<Service>("web", |service| addresses(service) == ["192.0.2.1", "192.0.2.2"])
        .await;

    // The port is taken, until it is free.
    create_service(&cluster, "younger", spec).await;
    cluster
        .until::<Service>("younger", |service| {
            let status = service.status.as_ref().unwrap();
            addresses(service).is_empty() && status.conditions.is_some()
        })
        .await;
    cluster.patch::<Service>("web", json!({"spec": {"type": "ClusterIP"}})).await;
    cluster
        .until::<Service>("younger", |service| {
            let status = service.status.as_ref().unwrap();
            addresses(service).len() == 2 && status.conditions.is_none()
        })
        .await;
    cluster.at_rest().await;
}

#[tokio::test]
async fn a_range_stays_while_a_service_has_an_address_of_it() {
    let cluster = Cluster::start().await;
    let ready = |range: &ServiceCIDR| -> Option<String> {
        let conditions = range.status.as_ref()?.conditions.as_ref()?;
        Some(conditions.first()?.status.clone())
    };
    let get = async |name: &str| cluster.client.get::<ServiceCIDR>(&ObjectKey::cluster(name)).await;
    eventually("the first range is ready", async || {
        (ready(&get("kubernetes").await.unwrap())? == "True").then_some(())
    })
    .await;
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.96.0.0/24"]}});
    create::<ServiceCIDR>(&cluster, range).await;
    eventually("the second range is ready", async || {
        (ready(&get("more").await.unwrap())? == "True").then_some(())
    })
    .await;
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
    create_service(&cluster, "web", spec).await;
    let key = ObjectKey::cluster("more");
    cluster.client.delete::<ServiceCIDR>(&key, &DeleteOptions::default()).await.unwrap();
    eventually("the range waits", async || {
        (ready(&get("more").await.unwrap())? == "False").then_some(())
    })
    .await;
    // It goes when the Service has gone, and those who give addresses have had time to hear of it.
    let waiting = get("more").await.unwrap();
    assert_eq!(waiting.metadata.finalizers.unwrap(), ["networking.k8s.io/service-cidr-finalizer"]);
}
