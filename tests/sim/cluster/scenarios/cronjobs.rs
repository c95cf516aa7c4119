//! Runs that are due every minute.

use super::super::audit::{list, name, text};
use super::super::{Cluster, play};
use super::pod_spec;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CRON_JOBS: &str = "/apis/batch/v1/namespaces/default/cronjobs";

fn is_done(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|it| (it["type"] == "Complete" || it["type"] == "Failed") && it["status"] == "True")
}

/// The minute that a run was due in, which its name says.
fn minute(job: &Value) -> i64 {
    name(job).rsplit_once('-').unwrap().1.parse().unwrap()
}

async fn scenario(cluster: &mut Cluster, policy: &'static str) {
    cluster.add_machines(&["m0", "m1"]).await;
    // A run that takes the longer part of a minute, and sometimes more.
    let spec = json!({"schedule": "* * * * *", "concurrencyPolicy": policy,
        "successfulJobsHistoryLimit": 2,
        "jobTemplate": {"spec": {"template": {"spec": pod_spec("ends")}}}});
    let mut spec = spec;
    spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    cluster.create(CRON_JOBS, json!({"metadata": {"name": "tick"}, "spec": spec})).await;
    let runs: std::sync::Arc<std::sync::Mutex<BTreeMap<i64, usize>>> = std::sync::Arc::default();
    let seen = std::sync::Arc::clone(&runs);
    cluster.store.audit(|audit| {
        audit.rule(move |objects, change| {
            let Some(job) = change.new_of("batch/jobs").filter(|_| change.old.is_none()) else {
                return Ok(());
            };
            let mut runs = seen.lock().unwrap();
            let times = runs.entry(minute(job)).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("{} runs twice", name(job)));
            }
            let jobs = list(objects, "batch/jobs");
            let active = jobs.filter(|it| !is_done(it) && !super::is_going(it)).count();
            if policy != "Allow" && active > 1 {
                return Err(format!("{active} run side by side"));
            }
            Ok(())
        });
    });
    cluster.network.set_faults(true);
    for _ in 0..240 {
        cluster.tick().await;
        if cluster.random.one_in(80) {
            cluster.restart_loops();
        }
    }
    cluster.network.set_faults(false);
    cluster.patch(&format!("{CRON_JOBS}/tick"), json!({"spec": {"suspend": true}})).await;
    cluster.rest().await;
    let runs: BTreeSet<i64> = runs.lock().unwrap().keys().copied().collect();
    let (first, last) = (*runs.first().unwrap(), *runs.last().unwrap());
    let missed: Vec<i64> = (first..=last).filter(|minute| !runs.contains(minute)).collect();
    // Where one at most may run, the next may have to be left out.
    assert!(policy == "Forbid" || missed.is_empty(), "{missed:?} of {first}..={last}");
    let objects = cluster.objects();
    let left: Vec<&Value> = list(&objects, "batch/jobs").collect();
    assert!(left.len() <= 2 && left.iter().all(|job| is_done(job)), "{left:#?}");
    let cron = list(&objects, "batch/cronjobs").next().unwrap();
    assert!(cron["status"]["active"].as_array().is_none_or(Vec::is_empty), "{cron:#}");
    assert!(!text(cron, "/status/lastScheduleTime").is_empty());
}

#[test]
fn no_run_is_missed_or_doubled() {
    play(async |cluster: &mut Cluster| scenario(cluster, "Allow").await);
}

#[test]
fn runs_wait_for_each_other_or_replace_each_other() {
    play(async |cluster: &mut Cluster| scenario(cluster, "Forbid").await);
    play(async |cluster: &mut Cluster| scenario(cluster, "Replace").await);
}
