//! All loops die at a write: at each one in turn, before it is made and after, when its answer is
//! never heard. Whoever starts then goes on as if nothing had been.

use super::super::audit::{list, text};
use super::super::faults::CrashAt;
use super::super::{Cluster, play_one};
use super::pod_spec;
use kinglet::client::Propagation;
use serde_json::json;
use std::cell::Cell;

/// A bit of everything that takes several writes.
async fn upheaval(cluster: &mut Cluster) {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": "local-path", "resources": {"requests": {"storage": "1Gi"}}}}]);
    let spec = json!({"serviceName": "db", "volumeClaimTemplates": claims});
    cluster.run("StatefulSet", "db", 1, spec).await;
    cluster.run("Deployment", "web", 2, json!({})).await;
    let mut template = pod_spec("ends");
    template["restartPolicy"] = json!("Never");
    let spec = json!({"completions": 2, "parallelism": 2, "template": {"spec": template}});
    let job = json!({"metadata": {"name": "once"}, "spec": spec});
    cluster.create("/apis/batch/v1/namespaces/default/jobs", job).await;
    cluster.rest().await;
    cluster.has_ready("db", 1);
    cluster.has_ready("web", 2);
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let image = json!({"containers": [{"name": "c", "image": "j"}]});
    cluster.patch(path, json!({"spec": {"template": {"spec": image}}})).await;
    cluster.rest().await;
    cluster.has_ready("web", 2);
    cluster.delete(path, Propagation::Foreground).await;
    cluster.rest().await;
}

fn check(cluster: &Cluster) {
    let objects = cluster.objects();
    let count = |kind: &str| list(&objects, kind).count();
    assert_eq!([count("apps/deployments"), count("apps/replicasets")], [0, 0]);
    assert_eq!([count("core/persistentvolumes"), count("core/persistentvolumeclaims")], [1, 1]);
    let job = list(&objects, "batch/jobs").next().unwrap();
    assert_eq!(job["status"]["succeeded"], 2, "{job:#}");
    assert_eq!(text(job, "/status/conditions/1/type"), "Complete", "{job:#}");
    // Each of its pods is counted once, and no more were made than were needed.
    assert_eq!(count("core/pods"), 3);
}

/// Every so many of the writes, so that it takes seconds; all of them with `EVERY_WRITE=1`.
const STRIDE: usize = 9;

#[test]
fn whoever_starts_after_a_crash_at_any_write_goes_on() {
    let writes = Cell::new(0);
    let run = |crash: Option<CrashAt>| {
        play_one(7, &async |cluster: &mut Cluster| {
            cluster.add_machines(&["m0"]).await;
            cluster.restart_loops();
            cluster.rest().await;
            cluster.network.crash_at(crash);
            upheaval(cluster).await;
            check(cluster);
            writes.set(cluster.network.writes());
        });
    };
    run(None);
    let stride = if std::env::var_os("EVERY_WRITE").is_some() { 1 } else { STRIDE };
    for number in (1..=writes.get()).step_by(stride) {
        run(Some(CrashAt::Before(number)));
        run(Some(CrashAt::After(number)));
    }
}
