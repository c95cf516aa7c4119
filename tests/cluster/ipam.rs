//! Nodes get addresses for their pods.

use crate::cluster::Cluster;
use crate::support::eventually;
use k8s_openapi::api::core::v1::Node;
use kinglet::client::Selection;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn every_node_gets_its_own_block() {
    let cluster = Cluster::start().await;
    for number in 0..20 {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata":
            {"name": format!("n{number}")}});
        cluster.api.post("/api/v1/nodes", &node).await.ok();
    }
    let blocks = eventually("all nodes have addresses", async || {
        let nodes = cluster.client.list::<Node>(&Selection::default()).await.unwrap().items;
        let block = |node: Node| node.spec.and_then(|spec| spec.pod_cidr);
        nodes.into_iter().map(block).collect::<Option<Vec<_>>>().filter(|it| it.len() == 20)
    })
    .await;
    assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), 20);
    assert!(blocks.contains(&"10.42.0.0/24".to_owned()));
    assert!(blocks.contains(&"10.42.19.0/24".to_owned()));
}
