//! Jobs and CronJobs, from `apply` to their end.

use crate::cluster::{Cluster, FAILS, SUCCEEDS};
use crate::support::eventually;
use k8s_openapi::api::batch::v1::{CronJob, Job, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kinglet::api::ObjectKey;
use kinglet::client::{Patch, Propagation};
use serde_json::{Value, json};

impl Cluster {
    async fn run(&self, name: &str, image: &str, spec: Value) {
        let mut job = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": image}]}}},
        });
        json_patch::merge(&mut job["spec"], &spec);
        let job: Job = serde_json::from_value(job).unwrap();
        self.client.create(&job).await.unwrap();
    }

    async fn job(&self, name: &str) -> JobStatus {
        let job: Job = self.client.get(&ObjectKey::namespaced("default", name)).await.unwrap();
        job.status.unwrap_or_default()
    }

    /// Waits until the Job has this condition.
    async fn job_is(&self, name: &str, kind: &str) -> JobStatus {
        eventually(&format!("{name} is {kind}"), async || {
            Some(self.job(name).await).filter(|status| is_true(status, kind))
        })
        .await
    }
}

fn is_true(status: &JobStatus, kind: &str) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether nothing keeps the pod.
fn is_free(pod: &Pod) -> bool {
    pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
}

#[track_caller]
fn assert_counted(status: &JobStatus, succeeded: i32, failed: i32) {
    let counts = [status.succeeded, status.failed, status.active, status.ready, status.terminating];
    let counts = counts.map(Option::unwrap_or_default);
    assert_eq!(counts, [succeeded, failed, 0, 0, 0], "{status:#?}");
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    assert!(uncounted.succeeded.is_none() && uncounted.failed.is_none());
}

#[tokio::test]
async fn a_job_runs_until_enough_pods_have_succeeded() {
    let cluster = Cluster::start().await;
    cluster.run("sum", SUCCEEDS, json!({"completions": 5, "parallelism": 2})).await;
    let status = cluster.job_is("sum", "Complete").await;
    assert_counted(&status, 5, 0);
    assert!(is_true(&status, "SuccessCriteriaMet") && status.completion_time.is_some());
    let pods = cluster.counted::<Pod>(5).await;
    assert!(pods.iter().all(is_free));
    let events = eventually("six events", async || {
        Some(cluster.events("sum").await).filter(|events| events.len() == 6)
    })
    .await;
    assert_eq!(events.last().unwrap(), &("Completed".to_owned(), "Job completed".to_owned()));
    let rest = cluster.at_rest().await;
    assert_eq!(cluster.at_rest().await, rest);
}

#[tokio::test]
async fn an_indexed_job_gives_every_pod_an_index() {
    let cluster = Cluster::start().await;
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"});
    cluster.run("shards", SUCCEEDS, spec).await;
    let status = cluster.job_is("shards", "Complete").await;
    assert_counted(&status, 4, 0);
    assert_eq!(status.completed_indexes.as_deref(), Some("0-3"));
    let mut names: Vec<_> = cluster
        .counted::<Pod>(4)
        .await
        .iter()
        .map(|pod| pod.spec.as_ref().unwrap().hostname.clone().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["shards-0", "shards-1", "shards-2", "shards-3"]);
}

#[tokio::test]
async fn a_job_that_fails_too_often_has_failed() {
    let cluster = Cluster::start().await;
    cluster.run("broken", FAILS, json!({"backoffLimit": 0})).await;
    let status = cluster.job_is("broken", "Failed").await;
    assert_counted(&status, 0, 1);
    let conditions = status.conditions.unwrap();
    let failed = conditions.iter().find(|condition| condition.type_ == "Failed").unwrap();
    assert_eq!(failed.reason.as_deref(), Some("BackoffLimitExceeded"));
    let spec = json!({"backoffLimitPerIndex": 0, "completions": 3, "parallelism": 3,
        "completionMode": "Indexed"});
    cluster.run("indexes", FAILS, spec).await;
    let status = cluster.job_is("indexes", "Failed").await;
    assert_counted(&status, 0, 3);
    assert_eq!(status.failed_indexes.as_deref(), Some("0-2"));
}

#[tokio::test]
async fn a_job_is_suspended_and_goes_on() {
    let cluster = Cluster::start().await;
    cluster.run("wait", "runs", json!({"parallelism": 2, "completions": 2})).await;
    cluster.counted::<Pod>(2).await;
    let key = ObjectKey::namespaced("default", "wait");
    let suspend = async |suspended: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspended}}));
        cluster.client.patch::<Job>(&key, &patch, None).await.unwrap();
    };
    suspend(true).await;
    cluster.counted::<Pod>(0).await;
    let status = cluster.job_is("wait", "Suspended").await;
    assert_eq!(status.failed, None);
    suspend(false).await;
    cluster.counted::<Pod>(2).await;
    eventually("both pods are ready", async || {
        (cluster.job("wait").await.ready == Some(2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_pods_of_a_deleted_job_go_with_it_or_are_freed() {
    for propagation in [Propagation::Background, Propagation::Foreground] {
        let cluster = Cluster::start().await;
        cluster.run("gone", "runs", json!({"parallelism": 2, "completions": 2})).await;
        cluster.counted::<Pod>(2).await;
        cluster.delete::<Job>("gone", propagation).await;
        cluster.counted::<Pod>(0).await;
        cluster.counted::<Job>(0).await;
    }
    let cluster = Cluster::start().await;
    cluster.run("gone", "runs", json!({})).await;
    cluster.counted::<Pod>(1).await;
    cluster.delete::<Job>("gone", Propagation::Orphan).await;
    eventually("the orphan is free", async || {
        let pods = cluster.list::<Pod>().await;
        (pods.len() == 1 && is_free(&pods[0])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_goes_some_time_after_its_end() {
    let cluster = Cluster::start().await;
    cluster.run("short", SUCCEEDS, json!({"ttlSecondsAfterFinished": 0})).await;
    cluster.counted::<Job>(0).await;
    cluster.counted::<Pod>(0).await;
}

#[tokio::test]
async fn a_cron_job_makes_jobs_and_sees_them_end() {
    let cluster = Cluster::start().await;
    let cron_job = json!({
        "metadata": {"name": "tick", "namespace": "default"},
        "spec": {"schedule": "@every 1s", "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": SUCCEEDS}]}}}}},
    });
    let cron_job: CronJob = serde_json::from_value(cron_job).unwrap();
    cluster.client.create(&cron_job).await.unwrap();
    let key = ObjectKey::namespaced("default", "tick");
    let status = eventually("a job has succeeded", async || {
        let cron_job: CronJob = cluster.client.get(&key).await.unwrap();
        cron_job.status.filter(|status| status.last_successful_time.is_some())
    })
    .await;
    assert!(status.last_schedule_time.is_some());
    let jobs = cluster.list::<Job>().await;
    let annotations = jobs[0].metadata.annotations.as_ref().unwrap();
    assert!(annotations.contains_key("batch.kubernetes.io/cronjob-scheduled-timestamp"));
    let reasons: Vec<_> =
        cluster.events("tick").await.into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons.contains(&"SuccessfulCreate".to_owned()), "{reasons:?}");
    cluster.delete::<CronJob>("tick", Propagation::Background).await;
    cluster.counted::<Job>(0).await;
    cluster.counted::<Pod>(0).await;
}

#[tokio::test]
async fn a_restart_of_the_controllers_counts_nothing_twice() {
    let mut cluster = Cluster::start().await;
    cluster.run("long", SUCCEEDS, json!({"completions": 40, "parallelism": 4})).await;
    for _ in 0..3 {
        eventually("some more pods have succeeded", async || {
            cluster.job("long").await.succeeded.filter(|count| *count > 0)
        })
        .await;
        cluster.stop_controllers().await;
        cluster.start_controllers();
    }
    assert_counted(&cluster.job_is("long", "Complete").await, 40, 0);
    assert_eq!(cluster.list::<Pod>().await.len(), 40);
}
