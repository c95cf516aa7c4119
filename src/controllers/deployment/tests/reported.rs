//! What Deployments report: counts, conditions, deadlines.

use super::*;
use crate::controllers::deployment::status::reason;

#[track_caller]
fn check_status(deployment: &str, sets: &[&str], expected: &str) {
    assert_eq!(reported(&observed(deployment, sets)), expected);
}

#[test]
fn pods_are_counted_over_all_sets() {
    check_status("a 3", &["a 3/3/3"], "3/3/3/3/0 +MinimumReplicasAvailable");
    check_status("a 3", &["a 3/2/1"], "2/2/1/1/2 -MinimumReplicasUnavailable");
    check_status("a 4", &["a 4/4/3"], "4/4/3/3/1 +MinimumReplicasAvailable");
    check_status("b 4", &["a 3/3/3", "b 2/1/0"], "1/4/3/3/2 +MinimumReplicasAvailable");
    check_status("b 3 recreate", &["a 3/3/3"], "0/3/3/3/0 +MinimumReplicasAvailable");
    check_status("b 3 recreate", &["a 0/0/0", "b 3/3/2"], "3/3/2/2/1 -MinimumReplicasUnavailable");
    check_status("a 0", &["a 0/0/0"], "0/0/0/0/0 +MinimumReplicasAvailable");
    // More are available than are wanted: none is missing.
    check_status("a 1", &["a 1/3/3"], "3/3/3/3/0 +MinimumReplicasAvailable");
    check_status("a 3 gone", &["a 3/2/2"], "2/2/2/2/1 -MinimumReplicasUnavailable");
}

#[test]
fn terminating_pods_are_counted_where_all_sets_say() {
    let terminating = |sets: &[&str], edit: fn(&mut ReplicaSet)| {
        let mut observed = observed("b 3", sets);
        edit(Arc::make_mut(&mut observed.sets[0]));
        status_write(&plan(&observed)).unwrap()["status"]["terminatingReplicas"].clone()
    };
    let status = |set: &mut ReplicaSet| set.status.take().unwrap();
    assert_eq!(terminating(&["a 1/1/1", "b 3/3/3"], |_| ()), 0);
    assert_eq!(
        terminating(&["a 1/1/1", "b 3/3/3"], |set| {
            set.status.as_mut().unwrap().terminating_replicas = Some(2);
        }),
        2
    );
    assert_eq!(
        terminating(&["a 1/1/1", "b 3/3/3"], |set| {
            set.status.as_mut().unwrap().terminating_replicas = None;
        }),
        Value::Null
    );
    assert_eq!(terminating(&["a 1/1/1", "b 3/3/3"], |set| set.status = None), 0);
    assert!(status(&mut set("a 1/1/1")).terminating_replicas.is_some());
}

/// A Deployment with a deadline of ten minutes whose status was written `seconds` ago.
fn in_progress(
    deployment: &str,
    sets: &[&str],
    progress: Option<(&str, &str, i64)>,
    counts: [i32; 4],
) -> Observed {
    let mut observed = observed(&format!("{deployment} deadline=600"), sets);
    let conditions = progress.map(|(status, reason, seconds)| {
        let at = NOW.parse::<Timestamp>().unwrap() - Duration::from_secs(seconds.unsigned_abs());
        json!([{"type": "Progressing", "status": status, "reason": reason, "message": "",
            "lastUpdateTime": at, "lastTransitionTime": at}])
    });
    let [updated, replicas, ready, available] = counts;
    let deployment = Arc::make_mut(&mut observed.deployment);
    deployment.metadata.annotations = Some([(REVISION.to_owned(), "2".to_owned())].into());
    deployment.status = serde_json::from_value(json!({
        "observedGeneration": 1, "updatedReplicas": updated, "replicas": replicas,
        "readyReplicas": ready, "availableReplicas": available, "conditions": conditions,
    }))
    .unwrap();
    observed
}

#[test]
fn a_rollout_is_followed_to_its_end() {
    use reason::*;
    let created = Some(("True", NEW_SET_CREATED, 10));
    for (sets, progress, counts, expected) in [
        // The set was found, not made.
        (["a 0/0/0", "b 4/0/0"], None, [0; 4], "+FoundNewReplicaSet -MinimumReplicasUnavailable"),
        // Nothing new.
        (
            ["a 4/4/4", "b 1/0/0"],
            created,
            [0, 4, 4, 4],
            "+NewReplicaSetCreated +MinimumReplicasAvailable",
        ),
        // A new pod.
        (
            ["a 4/4/4", "b 1/1/0"],
            created,
            [0, 4, 4, 4],
            "+MinimumReplicasAvailable +ReplicaSetUpdated",
        ),
        // It is ready.
        (
            ["a 4/4/4", "b 1/1/1"],
            created,
            [1, 5, 4, 4],
            "+MinimumReplicasAvailable +ReplicaSetUpdated",
        ),
        // An old one has gone.
        (
            ["a 3/3/3", "b 2/1/1"],
            created,
            [1, 5, 4, 4],
            "+MinimumReplicasAvailable +ReplicaSetUpdated",
        ),
        // All are there.
        (
            ["a 0/0/0", "b 4/4/4"],
            created,
            [4, 5, 4, 4],
            "+MinimumReplicasAvailable +NewReplicaSetAvailable",
        ),
        // After the end, a pod that is lost is no rollout.
        (
            ["a 0/0/0", "b 4/4/3"],
            Some(("True", NEW_SET_AVAILABLE, 10_000)),
            [4, 4, 4, 4],
            "+NewReplicaSetAvailable +MinimumReplicasAvailable",
        ),
    ] {
        let reported = reported(&in_progress("b 4", &sets, progress, counts));
        let (_, reasons) = reported.split_once(' ').unwrap();
        assert_eq!(reasons, expected, "{sets:?}");
    }
}

#[test]
fn a_rollout_back_to_a_set_begins_anew() {
    let over = Some(("True", reason::NEW_SET_AVAILABLE, 10_000));
    let mut observed = in_progress("b 4", &["a 0/0/0", "b 4/0/0"], over, [4, 4, 0, 0]);
    let deployment = Arc::make_mut(&mut observed.deployment);
    deployment.metadata.annotations = Some([(REVISION.to_owned(), "1".to_owned())].into());
    assert!(reported(&observed).ends_with("+FoundNewReplicaSet -MinimumReplicasUnavailable"));
    assert_eq!(plan(&observed).recheck_after, Some(Duration::from_secs(601)));
}

#[test]
fn a_rollout_without_progress_times_out() {
    use reason::*;
    let stuck = |reason, seconds| {
        let sets = ["a 3/3/3", "b 2/2/0"];
        in_progress("b 4", &sets, Some(("True", reason, seconds)), [2, 5, 3, 3])
    };
    let reasons = |observed: &Observed| {
        let reported = reported(observed);
        reported.split_once(' ').unwrap().1.to_owned()
    };
    // A minute is left, and a second to be sure.
    let waiting = stuck(SET_UPDATED, 540);
    assert_eq!(reasons(&waiting), "+ReplicaSetUpdated +MinimumReplicasAvailable");
    assert_eq!(plan(&waiting).recheck_after, Some(Duration::from_secs(61)));
    assert_eq!(reasons(&stuck(SET_UPDATED, 600)), "+ReplicaSetUpdated +MinimumReplicasAvailable");
    let late = stuck(SET_UPDATED, 601);
    assert_eq!(reasons(&late), "+MinimumReplicasAvailable -ProgressDeadlineExceeded");
    assert_eq!(plan(&late).recheck_after, None);
    let message = "ReplicaSet \"web-b\" has timed out progressing.";
    assert_eq!(status_write(&plan(&late)).unwrap()["status"]["conditions"][1]["message"], message);
    // Having been paused is no lack of progress.
    assert_eq!(reasons(&stuck(PAUSED, 10_000)), "?DeploymentResumed +MinimumReplicasAvailable");
    // Without a deadline nobody asks.
    let mut patient = stuck(SET_UPDATED, 601);
    let deployment = Arc::make_mut(&mut patient.deployment);
    deployment.spec.as_mut().unwrap().progress_deadline_seconds = Some(i32::MAX);
    assert_eq!(reasons(&patient), "+MinimumReplicasAvailable");
    assert_eq!(plan(&patient).recheck_after, None);
    // Late, but there.
    let sets = ["a 0/0/0", "b 4/4/4"];
    let exceeded = Some(("False", DEADLINE_EXCEEDED, 5));
    assert_eq!(
        reasons(&in_progress("b 4", &sets, exceeded, [4, 4, 3, 3])),
        "+MinimumReplicasAvailable +NewReplicaSetAvailable"
    );
}

#[test]
fn pausing_and_resuming_is_said() {
    use reason::*;
    let reasons = |deployment: &str, progress| {
        let reported = reported(&in_progress(deployment, &["b 4/4/4"], progress, [4, 4, 4, 4]));
        reported.split_once(' ').unwrap().1.to_owned()
    };
    let updated = Some(("True", SET_UPDATED, 5));
    assert_eq!(reasons("b 4 paused", updated), "?DeploymentPaused +MinimumReplicasAvailable");
    let paused = Some(("Unknown", PAUSED, 5));
    assert_eq!(reasons("b 4 paused", paused), "?DeploymentPaused +MinimumReplicasAvailable");
    // The rollout is complete at once.
    assert_eq!(reasons("b 4", paused), "+MinimumReplicasAvailable +NewReplicaSetAvailable");
    let exceeded = Some(("False", DEADLINE_EXCEEDED, 5));
    assert_eq!(
        reasons("b 4 paused", exceeded),
        "-ProgressDeadlineExceeded +MinimumReplicasAvailable"
    );
}

#[test]
fn failures_of_sets_are_passed_on() {
    check_status(
        "b 4",
        &["a 4/4/4", "b 1/0/0 failing"],
        "0/4/4/4/0 +MinimumReplicasAvailable +FailedCreate",
    );
    let mut recovered = observed("b 4", &["a 4/4/4", "b 1/1/0"]);
    let failing = observed("b 4", &["a 4/4/4", "b 1/1/0 failing"]);
    let status = status_write(&plan(&failing)).unwrap()["status"].clone();
    Arc::make_mut(&mut recovered.deployment).status = serde_json::from_value(status).unwrap();
    assert_eq!(reported(&recovered), "1/5/4/4/0 +MinimumReplicasAvailable");
}

#[test]
fn a_set_that_cannot_be_created_is_said_and_tried_again() {
    let mut failing = observed("a 3 deadline=600", &[]);
    failing.attempt.failure = Some(Failure {
        resource: ResourceType::of::<ReplicaSet>(),
        verb: Verb::Create,
        message: "forbidden".to_owned(),
    });
    let failing_plan = plan(&failing);
    assert_eq!(brief(&failing_plan), "create:a=3");
    assert_eq!(reported(&failing), "0/0/0/0/0 -ReplicaSetCreateError -MinimumReplicasUnavailable");
    let deployment = status_write(&failing_plan).unwrap();
    let message = deployment["status"]["conditions"][0]["message"].as_str().unwrap();
    let name = template::set_name(&failing.deployment);
    assert_eq!(message, format!("Failed to create new replica set {name:?}: forbidden"));
    let create = failing_plan.steps.last().unwrap().last().unwrap();
    let report = create.failed.as_ref().unwrap();
    assert_eq!(report.reason, "ReplicaSetCreateError");

    // Said already: only tried again.
    failing.deployment = Arc::new(serde_json::from_value(deployment).unwrap());
    assert_eq!(plan(&failing).writes().count(), 1);
}

#[test]
fn a_hash_with_two_meanings_is_replaced() {
    let mut collision = observed("a 3", &[]);
    collision.namesake = Some(Arc::new(set("b 1/1/1 other")));
    let first = plan(&collision);
    assert_eq!(brief(&first), "");
    let deployment = status_write(&first).unwrap();
    assert_eq!(deployment["status"]["collisionCount"], 1);
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    assert_ne!(template::set_name(&deployment), template::set_name(&collision.deployment));
}

#[test]
fn a_deployment_that_selects_everything_is_refused_once() {
    let mut greedy = observed("a 3", &[]);
    Arc::make_mut(&mut greedy.deployment).spec.as_mut().unwrap().selector.match_labels = None;
    let refusal = plan(&greedy);
    assert_eq!(brief(&refusal), "");
    assert_eq!(refusal.reports[0].reason, "SelectingAll");
    greedy.deployment = Arc::new(serde_json::from_value(status_write(&refusal).unwrap()).unwrap());
    assert_eq!(plan(&greedy), Plan::default());
}

#[test]
fn what_is_at_rest_is_left_at_rest() {
    for (words, sets) in [
        ("a 3 deadline=600", &["a 3/3/3 of=3+1"][..]),
        ("b 4 deadline=600", &["a 0/0/0", "b 4/4/4"]),
        ("b 4", &["a 3/3/3", "b 2/2/0"]),
        ("b 4 paused deadline=600", &["a 3/3/3 of=4+1", "b 2/2/2 of=4+1"]),
        ("b 3 recreate", &["a 0/2/0"]),
        ("a 3 gone", &["a 3/2/1"]),
    ] {
        let mut observed = observed(words, sets);
        if let Some(deployment) = status_write(&plan(&observed)) {
            observed.deployment = Arc::new(serde_json::from_value(deployment).unwrap());
        }
        let writes: Vec<_> = plan(&observed).writes().cloned().collect();
        assert_eq!(writes, [], "{words}");
    }
}
