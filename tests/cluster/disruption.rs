//! Disruption budgets, and evictions that ask them.

use crate::cluster::Cluster;
use crate::support::eventually;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kinglet::api::ObjectKey;
use kinglet::client::ClientError;
use serde_json::{Value, json};

impl Cluster {
    async fn protect(&self, name: &str, app: &str, spec: Value) {
        let mut budget = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": app}}},
        });
        json_patch::merge(&mut budget["spec"], &spec);
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        self.client.create(&budget).await.unwrap();
    }

    async fn budget_allows(&self, name: &str, count: i32) -> PodDisruptionBudgetStatus {
        eventually(&format!("{name} allows {count}"), async || {
            let key = ObjectKey::namespaced("default", name);
            let budget: PodDisruptionBudget = self.client.get(&key).await.unwrap();
            let status = budget.status.unwrap_or_default();
            let is_seen = status.observed_generation == budget.metadata.generation;
            (is_seen && status.disruptions_allowed == count).then_some(status)
        })
        .await
    }

    async fn evict(&self, pod: &Pod, dry_run: bool) -> Result<Value, ClientError> {
        let name = pod.metadata.name.as_deref().unwrap();
        let query = if dry_run { "?dryRun=All" } else { "" };
        let path = format!("/api/v1/namespaces/default/pods/{name}/eviction{query}");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": "default"}});
        self.client.post(&path, &eviction).await
    }
}

#[tokio::test]
async fn no_more_pods_go_than_a_budget_allows() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 3).await;
    cluster.rolled_out("web").await;
    cluster.protect("most", "web", json!({"maxUnavailable": "33%"})).await;
    let status = cluster.budget_allows("most", 1).await;
    assert_eq!((status.expected_pods, status.desired_healthy, status.current_healthy), (3, 2, 3));
    let pods = cluster.counted::<Pod>(3).await;
    cluster.evict(&pods[0], true).await.unwrap();
    cluster.evict(&pods[0], false).await.unwrap();
    // The next waits until the pod has been replaced.
    let mut refusals = 0;
    eventually("the next pod may go", async || match cluster.evict(&pods[1], false).await {
        Ok(_) => Some(()),
        Err(ClientError::Status(status)) => {
            assert_eq!(status.code, 429, "{status:?}");
            assert_eq!(status.details.causes[0].reason, "DisruptionBudget");
            refusals += 1;
            None
        }
        Err(other) => panic!("{other}"),
    })
    .await;
    assert!(refusals > 0);
    cluster.rolled_out("web").await;
    cluster.budget_allows("most", 1).await;
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

#[tokio::test]
async fn many_evictions_at_once_share_one_budget() {
    let cluster = Cluster::start().await;
    cluster.deploy("web", "one", 6).await;
    cluster.rolled_out("web").await;
    cluster.protect("min", "web", json!({"minAvailable": 4})).await;
    cluster.budget_allows("min", 2).await;
    let pods = cluster.counted::<Pod>(6).await;
    let evictions = pods.iter().map(|pod| cluster.evict(pod, false));
    let done = futures_util::future::join_all(evictions).await;
    let gone = done.iter().filter(|result| result.is_ok()).count();
    // As pods are replaced while this goes on, one more may go; never all.
    assert!((2..6).contains(&gone), "{gone} went");
    cluster.rolled_out("web").await;
    cluster.budget_allows("min", 2).await;
}
