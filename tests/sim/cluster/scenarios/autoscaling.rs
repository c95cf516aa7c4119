//! Load comes and goes.

use super::super::{Cluster, play};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const DEPLOYMENT: &str = "/apps/deployments/default/web";
const MIN: u64 = 2;
const MAX: u64 = 6;

fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap()
}

#[test]
fn replicas_follow_the_load_within_bounds_and_then_stay() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&["m0", "m1"]).await;
        cluster.run("Deployment", "web", 2, json!({})).await;
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
        let spec = json!({"scaleTargetRef": target, "minReplicas": MIN, "maxReplicas": MAX,
            "metrics": [metric]});
        cluster.create(path, json!({"metadata": {"name": "web"}, "spec": spec})).await;
        cluster.store.audit(|audit| {
            audit.rule(|_, change| match change.new_of("apps/deployments") {
                Some(new) if !(MIN..=MAX).contains(&replicas(new)) => {
                    Err(format!("there are to be {}", replicas(new)))
                }
                _ => Ok(()),
            });
        });
        for _ in 0..3 {
            // Each pod asks for 100m, and is to use half of that.
            let load = u64::try_from(cluster.random.below(500)).unwrap();
            cluster.note(&format!("the load is {load}m"));
            cluster.load.store(load, Ordering::Relaxed);
            cluster.network.set_faults(true);
            for _ in 0..60 {
                cluster.tick().await;
                if cluster.random.one_in(40) {
                    cluster.restart_loops();
                }
            }
            cluster.rest().await;
            let deployment = cluster.objects()[DEPLOYMENT].clone();
            let now = replicas(&deployment);
            // What is within a tenth of the target stays as it is.
            let used = load / now;
            let is_fine = (45..=55).contains(&used)
                || (used < 55 && (now == MIN || load.div_ceil(50) >= now))
                || (used > 45 && now == MAX);
            assert!(is_fine, "{now} replicas for {load}m");
            cluster.has_ready("web", usize::try_from(now).unwrap());
        }
    });
}
