//! The clock of the machine is set, by hours, either way: what is due by the time of day is done when
//! it is due by the time of day, and nothing waits for timers that reckoned with another.

use super::super::audit::{Objects, is_ready, list, name, text};
use super::super::{Cluster, play};
use super::pod_spec;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: i64 = 3_600;
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn job(name: &str, image: &str, more: &Value) -> Value {
    let mut template = pod_spec(image);
    template["restartPolicy"] = json!("Never");
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": template}}});
    json_patch::merge(&mut job["spec"], more);
    job
}

fn has_job(objects: &Objects, name: &str) -> bool {
    objects.contains_key(&format!("/batch/jobs/default/{name}"))
}

/// The runs of an hourly CronJob, as the minutes since 1970 in which they were due.
fn runs(objects: &Objects) -> Vec<i64> {
    let jobs = list(objects, "batch/jobs").filter(|job| name(job).starts_with("hourly-"));
    jobs.map(|job| name(job).rsplit_once('-').unwrap().1.parse().unwrap()).collect()
}

impl Cluster {
    async fn some_seconds(&mut self) {
        for _ in 0..6 {
            self.tick_of(Duration::from_secs(1)).await;
        }
    }
}

#[test]
fn what_is_due_by_the_time_of_day_is_done_when_the_clock_is_set() {
    play(async |cluster: &mut Cluster| {
        cluster.add_machines(&["m0"]).await;
        let spec = json!({"schedule": "30 * * * *", "successfulJobsHistoryLimit": 100,
            "jobTemplate": {"spec": job("", "ends", &json!({}))["spec"]}});
        let hourly = json!({"metadata": {"name": "hourly"}, "spec": spec});
        cluster.create("/apis/batch/v1/namespaces/default/cronjobs", hourly).await;
        let done = job("done", "ends", &json!({"ttlSecondsAfterFinished": HOUR}));
        cluster.create(JOBS, done).await;
        let slow = job("slow", "i", &json!({"activeDeadlineSeconds": 2 * HOUR}));
        cluster.create(JOBS, slow).await;
        cluster.rest().await;
        assert!(runs(&cluster.objects()).is_empty());
        assert!(has_job(&cluster.objects(), "done"));

        // As when NTP is heard at last, and as when a laptop is opened again.
        cluster.set_clock(3 * HOUR);
        cluster.some_seconds().await;
        let objects = cluster.objects();
        assert_eq!(runs(&objects).len(), 1, "of those that were missed, the last is made up for");
        assert!(!has_job(&objects, "done"));
        let slow = &objects["/batch/jobs/default/slow"];
        assert!(slow.to_string().contains("DeadlineExceeded"), "{slow:#}");
        let node = &objects["/core/nodes/m0"];
        assert!(is_ready(node) && text(node, "/spec/taints/0/key").is_empty(), "{node:#}");

        // Back again: the next run is that of the hour after the last one, by the new time.
        cluster.set_clock(-2 * HOUR);
        cluster.some_seconds().await;
        assert_eq!(runs(&cluster.objects()).len(), 1);
        let last = runs(&cluster.objects())[0];
        cluster.set_clock(3 * HOUR);
        cluster.some_seconds().await;
        let mut all = runs(&cluster.objects());
        all.sort_unstable();
        assert_eq!(all, [last, last + 60]);
        assert!(is_ready(&cluster.objects()["/core/nodes/m0"]));
    });
}
