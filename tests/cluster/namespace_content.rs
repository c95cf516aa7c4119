//! What every namespace is given: an account for its pods, and the certificate of the API server.

use crate::cluster::Cluster;
use crate::support::eventually;
use serde_json::json;

#[tokio::test]
async fn every_namespace_has_an_account_and_the_authority() {
    let cluster = Cluster::start().await;
    let namespace = json!({"metadata": {"name": "fresh"}});
    cluster.api.post("/api/v1/namespaces", &namespace).await.ok();
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease", "fresh"] {
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        present(&cluster, &account).await;
        let map = format!("/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt");
        present(&cluster, &map).await;
        assert_eq!(cluster.api.get(&map).await.ok()["data"]["ca.crt"], "the authority");
    }
}

#[tokio::test]
async fn what_is_damaged_is_repaired() {
    let cluster = Cluster::start().await;
    let (account, map) = (
        "/api/v1/namespaces/default/serviceaccounts/default",
        "/api/v1/namespaces/default/configmaps/kube-root-ca.crt",
    );
    for path in [account, map] {
        present(&cluster, path).await;
        let uid = cluster.api.get(path).await.ok()["metadata"]["uid"].clone();
        cluster.api.delete(path).await.ok();
        eventually("it is there again", async || {
            let found = cluster.api.get(path).await;
            (found.code == 200 && found.json()["metadata"]["uid"] != uid).then_some(())
        })
        .await;
    }
    cluster.api.patch(map, "merge", &json!({"data": {"ca.crt": "forged", "x": "y"}})).await.ok();
    eventually("it is as it was", async || {
        let data = cluster.api.get(map).await.ok()["data"].clone();
        (data == json!({"ca.crt": "the authority"})).then_some(())
    })
    .await;
    cluster.at_rest().await;
}

#[tokio::test]
async fn a_namespace_that_goes_is_given_nothing() {
    let cluster = Cluster::start().await;
    let namespace = json!({"metadata": {"name": "brief"}});
    cluster.api.post("/api/v1/namespaces", &namespace).await.ok();
    present(&cluster, "/api/v1/namespaces/brief/serviceaccounts/default").await;
    cluster.api.delete("/api/v1/namespaces/brief").await.ok();
    eventually("the namespace is gone", async || {
        (cluster.api.get("/api/v1/namespaces/brief").await.code == 404).then_some(())
    })
    .await;
}

async fn present(cluster: &Cluster, path: &str) {
    eventually(path, async || (cluster.api.get(path).await.code == 200).then_some(())).await;
}
