//! Nodes are drained as fast as budgets allow.

use super::super::audit::{is_going, is_ready, list, name, text};
use super::super::{Cluster, play};
use serde_json::json;

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const LEAST: usize = 3;

impl Cluster {
    async fn evict_any(&mut self) {
        let pods = super::pods_of(&self.objects(), "web");
        if pods.is_empty() {
            return;
        }
        let pod = self.random.pick(&pods).clone();
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name(&pod), "namespace": "default"}});
        let path = format!("/api/v1/namespaces/default/pods/{}/eviction", name(&pod));
        match self.try_create(&path, eviction).await {
            // 429 is the budget; the pod may have gone meanwhile.
            Err(error) => {
                assert!(error.is_not_found() || error.is_conflict() || is_too_many(&error))
            }
            Ok(()) => self.note(&format!("  {} is evicted", name(&pod))),
        }
    }
}

fn is_too_many(error: &kinglet::client::ClientError) -> bool {
    matches!(error, kinglet::client::ClientError::Status(status) if status.code == 429)
}

#[test]
fn evictions_leave_as_many_pods_as_budgets_ask_for() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&["m0", "m1"]).await;
        cluster.run("Deployment", "web", LEAST + 2, json!({})).await;
        let spec = json!({"minAvailable": LEAST, "selector": {"matchLabels": {"app": "web"}}});
        cluster.create(BUDGETS, json!({"metadata": {"name": "b"}, "spec": spec})).await;
        cluster.rest().await;
        cluster.has_ready("web", LEAST + 2);
        cluster.store.audit(|audit| {
            audit.rule(|objects, change| {
                if !change.key.starts_with("/core/pods/default/web-") {
                    return Ok(());
                }
                let healthy = list(objects, "core/pods").filter(|pod| {
                    text(pod, "/metadata/labels/app") == "web" && is_ready(pod) && !is_going(pod)
                });
                let count = healthy.count();
                if count < LEAST {
                    Err(format!("{count} pods are left, of {LEAST}"))
                } else {
                    Ok(())
                }
            });
        });
        cluster.network.set_faults(true);
        for step in 0..150 {
            cluster.tick().await;
            for _ in 0..cluster.random.below(4) {
                cluster.evict_any().await;
            }
            if step % 40 == 39 {
                cluster.restart_loops();
            }
        }
        cluster.rest().await;
        cluster.has_ready("web", LEAST + 2);
        let objects = cluster.objects();
        let budget = list(&objects, "policy/poddisruptionbudgets").next().unwrap();
        assert_eq!(budget["status"]["disruptionsAllowed"], 2, "{budget:#}");
        assert_eq!(budget["status"]["currentHealthy"], LEAST + 2, "{budget:#}");
    });
}
