//! Quotas under many who create at once, and users who change their minds.

use super::super::audit::{list, millis, text};
use super::super::rules::{quota_holds, used};
use super::super::{Cluster, play};
use super::{PODS, pod_spec};
use kinglet::client::Propagation;
use serde_json::json;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

#[test]
fn no_quota_is_exceeded_and_all_count_right_at_rest() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&["m0", "m1"]).await;
        let clock = cluster.clock.clone();
        cluster.store.audit(|audit| {
            audit.rule(move |objects, change| quota_holds(objects, change, clock.now()));
        });
        let hard = json!({"hard": {"pods": "6", "requests.cpu": "700m"}});
        cluster.create(QUOTAS, json!({"metadata": {"name": "q"}, "spec": hard})).await;
        cluster.run("Deployment", "web", 4, json!({})).await;
        cluster.run("Deployment", "api", 4, json!({})).await;
        cluster.network.set_faults(true);
        for step in 0..140 {
            cluster.tick().await;
            let number = cluster.random.below(4);
            match cluster.random.below(10) {
                0 => {
                    let spec = json!({"spec": {"replicas": number * 2}});
                    let path = "/apis/apps/v1/namespaces/default/deployments/web";
                    cluster.patch(path, spec).await;
                }
                1 => {
                    let pod = json!({"metadata": {"name": format!("p{number}")},
                        "spec": pod_spec("ends")});
                    // It may be there, or there may be no room.
                    cluster.try_create(PODS, pod).await.ok();
                }
                2 => {
                    cluster.delete(&format!("{PODS}/p{number}"), Propagation::Background).await;
                }
                3 => {
                    let hard = json!({"spec": {"hard": {"pods": (5 + number).to_string()}}});
                    cluster.patch(&format!("{QUOTAS}/q"), hard).await;
                }
                _ => {}
            }
            if step % 45 == 44 {
                cluster.restart_loops();
            }
        }
        cluster.rest().await;
        let objects = cluster.objects();
        let quota = list(&objects, "core/resourcequotas").next().unwrap();
        let (pods, cpu) = used(&objects, "default", cluster.clock.now());
        let told = &quota["status"]["used"];
        assert_eq!(text(told, "/pods"), pods.to_string(), "{quota:#}");
        assert_eq!(millis(text(told, "/requests.cpu")), cpu, "{quota:#}");
        assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
    });
}
