//! Which sets there are, and how large they become.

use super::*;

#[test]
fn the_first_set_is_created_whole() {
    check("a 3", &[], "create:a=3");
    check("a 0", &[], "create:a=0");
    check("a 3 recreate", &[], "create:a=3");
    check("a 3", &["a 3/3/3"], "");
    check("a 3 gone", &[], "");
}

#[test]
fn a_new_template_gets_as_many_pods_as_the_surge_allows() {
    check("b 4", &["a 4/4/4"], "create:b=1");
    check("b 10", &["a 10/10/10"], "create:b=3");
    check("b 10 surge=0 unavailable=2", &["a 10/10/10"], "create:b=0");
    check("b 10 surge=10 unavailable=0", &["a 10/10/10"], "create:b=10");
    check("b 10 surge=20 unavailable=0", &["a 10/10/10"], "create:b=10");
    // More pods than allowed already.
    check("b 10 surge=1 unavailable=0", &["a 12/12/12"], "create:b=0");
    check("c 4", &["a 3/3/3", "b 2/2/0"], "create:c=0");
}

#[test]
fn the_new_set_grows_before_the_old_ones_shrink() {
    check("b 10 surge=3 unavailable=2", &["a 8/8/8", "b 3/3/3"], "b:3>5");
    check("b 10 surge=3 unavailable=2", &["a 8/8/8", "b 5/5/0"], "");
    check("b 10 surge=3 unavailable=2", &["a 8/8/8", "b 5/5/2"], "a:8>6");
    check("b 10 surge=3 unavailable=2", &["a 8/8/8", "b 5/5/5"], "a:8>3");
    check("b 10 surge=3 unavailable=2", &["a 3/3/3", "b 5/5/5"], "b:5>10");
    check("b 10 surge=3 unavailable=2", &["a 3/3/3", "b 10/10/10"], "a:3>0");
    check("b 10 surge=3 unavailable=2", &["a 0/0/0", "b 10/10/10"], "");
}

#[test]
fn without_surge_old_pods_go_first() {
    check("b 3 surge=0 unavailable=1", &["a 3/3/3", "b 0/0/0"], "a:3>2");
    check("b 3 surge=0 unavailable=1", &["a 2/2/2", "b 0/0/0"], "b:0>1");
    check("b 3 surge=0 unavailable=1", &["a 2/2/2", "b 1/1/0"], "");
    check("b 3 surge=0 unavailable=1", &["a 2/2/2", "b 1/1/1"], "a:2>1");
    check("b 1 surge=0 unavailable=1", &["a 1/1/1", "b 0/0/0"], "a:1>0");
    check("b 1 surge=0 unavailable=1", &["a 0/0/0", "b 0/0/0"], "b:0>1");
}

#[test]
fn without_unavailability_new_pods_come_first() {
    check("b 3 surge=1 unavailable=0", &["a 3/3/3", "b 0/0/0"], "b:0>1");
    check("b 3 surge=1 unavailable=0", &["a 3/3/3", "b 1/1/0"], "");
    check("b 3 surge=1 unavailable=0", &["a 3/3/3", "b 1/1/1"], "a:3>2");
    check("b 3 surge=1 unavailable=0", &["a 2/2/2", "b 1/1/1"], "b:1>2");
    check("b 1 surge=1 unavailable=0", &["a 1/1/1", "b 1/1/1"], "a:1>0");
}

#[test]
fn old_pods_that_help_nobody_go_first() {
    // Upstream's first example in reconcileOldReplicaSets, and its rollback.
    check("b 10 surge=3 unavailable=2", &["a 8/8/7", "b 5/5/0"], "");
    check("a 10 surge=3 unavailable=2", &["a 8/8/7 revision=3", "b 5/5/0 revision=2"], "b:5>1");
    // Its second: a third template while the second never becomes available.
    check("c 10 surge=3 unavailable=2", &["a 8/8/8", "b 5/5/0", "c 0/0/0"], "b:5>0");
    // An old set none of whose pods works is emptied, and the others are not touched.
    check("c 3 surge=1 unavailable=0", &["a 3/3/3", "b 1/1/0", "c 0/0/0"], "b:1>0");
    // The oldest first.
    check("c 4 surge=0 unavailable=2", &["a 2/2/0", "b 2/2/2", "c 0/0/0"], "a:2>0");
    check("c 4 surge=2 unavailable=1", &["a 3/3/3", "b 3/3/3", "c 0/0/0"], "a:3>0");
    check("c 2 surge=2 unavailable=1", &["a 2/2/2", "b 2/2/2", "c 0/0/0"], "a:2>0 b:2>1");
}

#[test]
fn a_set_that_does_not_know_its_size_is_not_counted_on() {
    // It may have had no pods for a moment.
    check("b 2 surge=0 unavailable=1", &["a 1/1/1", "b 1/1/1 behind"], "");
    check("b 2 surge=0 unavailable=1", &["a 1/1/1", "b 1/1/1"], "a:1>0");
    check("c 4 surge=2 unavailable=1", &["a 3/3/3 behind", "b 3/3/3", "c 0/0/0"], "");
    // It reports pods that it has been told to delete.
    check("b 4 surge=1 unavailable=1", &["a 4/5/5", "b 1/1/1"], "a:4>2");
}

#[test]
fn a_new_set_that_is_too_large_shrinks() {
    check("b 3", &["b 5/5/5"], "b:5>3");
    check("b 3", &["a 2/2/2", "b 5/5/5"], "b:5>3");
}

#[test]
fn recreate_waits_for_all_old_pods_to_end() {
    check("b 3 recreate", &["a 3/3/3"], "a:3>0");
    check("b 3 recreate", &["a 0/3/0"], "");
    check("b 3 recreate", &["a 0/0/0 behind"], "");
    check("b 3 recreate", &["a 0/0/0"], "create:b=3");
    check("b 3 recreate", &["a 2/2/2", "b 0/0/0"], "a:2>0");
    check("b 3 recreate", &["a 0/0/0", "b 0/0/0"], "b:0>3");
    check("b 3 recreate", &["a 0/0/0", "b 3/3/0"], "");
    // Whatever the size was, and the strategy.
    check("b 4 recreate", &["b 3/3/3 of=3+0"], "b:3>4");
    check("b 4 recreate", &["a 2/2/2 of=3+1", "b 1/1/0 of=3+1"], "a:2>0");
    let with_pods = |sets: &[&str], pods: Vec<Pod>| {
        let mut observed = observed("b 3 recreate", sets);
        observed.pods = pods.into_iter().map(Arc::new).collect();
        brief(&plan(&observed))
    };
    let old = ["a 0/0/0"];
    assert_eq!(with_pods(&old, vec![pod("a", "Running")]), "");
    assert_eq!(with_pods(&old, vec![pod("a", "Unknown")]), "");
    assert_eq!(with_pods(&old, vec![pod("a", "Failed"), pod("a", "Succeeded")]), "create:b=3");
    assert_eq!(with_pods(&["a 0/0/0", "b 0/0/0"], vec![pod("b", "Running")]), "b:0>3");
}

#[test]
fn a_change_of_size_is_shared_out_in_proportion() {
    let scale = |replicas: i32, sets: &[&str], expected: &str| {
        check(&format!("b {replicas} surge=3 unavailable=2"), sets, expected);
    };
    // One set only: all of it.
    scale(5, &["b 3/3/3 of=3+3"], "b:3>5");
    scale(1, &["b 3/3/3 of=3+3"], "b:3>1");
    scale(0, &["b 3/3/3 of=3+3"], "b:3>0");
    scale(5, &["a 3/3/3 of=3+3", "b 0/0/0 of=3+3"], "a:3>5");
    // Nobody has pods: that is a rollout like any other.
    scale(5, &["a 0/0/0 of=0+0", "b 0/0/0 of=0+0"], "b:0>5");
    // In the middle of a rollout: 13 are to become 18.
    scale(15, &["a 8/8/8 of=10+3", "b 5/5/0 of=10+3"], "a:8>11 b:5>7");
    scale(5, &["a 8/8/8 of=10+3", "b 5/5/0 of=10+3"], "a:8>5 b:5>3");
    scale(0, &["a 8/8/8 of=10+3", "b 5/5/0 of=10+3"], "a:8>0 b:5>0");
    // What cannot be shared goes to the largest; of equals, the newer grows and the older shrinks.
    scale(11, &["a 7/7/7 of=10+3", "b 6/6/0 of=10+3"], "a:7>8 b:note");
    scale(8, &["a 6/6/6 of=9+3", "b 6/6/0 of=9+3"], "a:6>5 b:note");
    scale(10, &["a 6/6/6 of=9+3", "b 6/6/0 of=9+3"], "a:note b:6>7");
    // The new set has all it needs: the old ones go.
    check("b 10 surge=3 unavailable=2", &["a 2/2/2 of=12+3", "b 10/10/10 of=10+3"], "a:2>0");
    // Somebody scaled the set by hand before the Deployment: only what it remembers is out of date.
    scale(5, &["b 5/5/5 of=3+3"], "b:note");
}

#[test]
fn a_set_whose_memory_was_lost_is_scaled_by_what_the_deployment_reports() {
    let mut observed =
        observed("b 15 surge=3 unavailable=2", &["a 8/8/8 of=10+3", "b 5/5/0 of=10+3"]);
    let forgetful = Arc::make_mut(&mut observed.sets[1]);
    let annotations = forgetful.metadata.annotations.as_mut().unwrap();
    annotations.remove("deployment.kubernetes.io/max-replicas");
    let status = Arc::make_mut(&mut observed.deployment).status.get_or_insert_default();
    status.replicas = Some(13);
    assert_eq!(brief(&plan(&observed)), "a:8>11 b:5>7");
}

#[test]
fn a_paused_rollout_stands_still_but_follows_the_size() {
    check("b 3 paused", &["a 3/3/3 of=3+1"], "");
    check("b 3 paused", &[], "");
    check("b 4 paused", &["a 3/3/3 of=4+1", "b 2/2/2 of=4+1"], "");
    check("b 8 paused", &["a 3/3/3 of=4+1", "b 2/2/2 of=4+1"], "a:3>6 b:2>4");
    check("b 3 paused limit=0", &["a 0/0/0", "b 3/3/3"], "b:note delete:a");
}

#[test]
fn a_template_that_was_there_before_is_found_again() {
    let rollback = ["a 0/0/0 revision=1", "b 4/4/4 revision=2"];
    check("a 4", &rollback, "a:0>1");
    let plan = plan(&observed("a 4", &rollback));
    let set = plan.writes().next().unwrap().body();
    assert_eq!(set["metadata"]["annotations"][REVISION], "3");
    assert_eq!(set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"], "1");
    assert_eq!(status_write(&plan).unwrap()["metadata"]["annotations"][REVISION], "3");
}

#[test]
fn the_oldest_of_several_sets_with_the_template_is_the_new_one() {
    let mut observed = observed("b 4", &["a 4/4/4"]);
    let twin = |age: &str| {
        let mut twin = set("b 0/0/0 revision=2");
        twin.metadata.name = Some(format!("web-{age}"));
        twin.metadata.uid = Some(age.to_owned());
        let created = format!("2026-11-20T{age}:00:00Z");
        twin.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        twin
    };
    observed.sets.extend([Arc::new(twin("12")), Arc::new(twin("11"))]);
    let plan = plan(&observed);
    assert_eq!(plan.writes().next().unwrap().key().unwrap().name, "web-11");
}

#[test]
fn only_so_many_old_sets_are_kept() {
    let old = ["a 0/0/0", "b 0/0/0", "c 0/0/0", "d 3/3/3"];
    let complete = |limit: &str, sets: &[&str]| {
        let mut observed = observed(&format!("d 3 {limit}"), sets);
        let deployment = Arc::make_mut(&mut observed.deployment);
        deployment.status = Some(
            serde_json::from_value(json!({"observedGeneration": 1, "replicas": 3,
                "updatedReplicas": 3, "availableReplicas": 3}))
            .unwrap(),
        );
        brief(&plan(&observed))
    };
    assert_eq!(complete("limit=10", &old), "");
    assert_eq!(complete("limit=3", &old), "");
    assert_eq!(complete("limit=2", &old), "delete:a");
    assert_eq!(complete("limit=0", &old), "delete:a delete:b delete:c");
    assert_eq!(complete("limit=2147483647", &old), "");
    // By revision, not by age.
    let rolled_back = ["a 0/0/0 revision=5", "b 0/0/0 revision=4", "d 3/3/3 revision=6"];
    assert_eq!(complete("limit=1", &rolled_back), "delete:b");
    // Sets that still have pods, or may have without having said so, stay.
    let busy = ["a 0/1/0", "b 0/0/0 behind", "c 0/0/0", "d 3/3/3"];
    assert_eq!(complete("limit=0", &busy), "delete:c");
    // Not before the rollout has ended.
    check("d 3 limit=0", &old, "");
}

#[test]
fn sets_are_adopted_and_released_first() {
    check("a 3", &["a 3/3/3 orphan"], "adopt:a");
    check("a 3", &["a 3/3/3 labels=else", "b 0/0/0 orphan"], "release:a adopt:b");
    check("a 3", &["a 3/3/3 other"], "create:a=3");
    let mut doubtful = observed("a 3", &["a 3/3/3 orphan"]);
    doubtful.may_adopt = false;
    let plan = plan(&doubtful);
    assert_eq!((brief(&plan).as_str(), plan.recheck_after), ("", Some(Duration::from_secs(1))));
}

#[test]
fn a_set_is_made_from_the_deployment() {
    let mut observed = observed("a 3 patience=5 deadline=600", &[]);
    let deployment = Arc::make_mut(&mut observed.deployment);
    deployment.metadata.annotations = Some([("note".to_owned(), "x".to_owned())].into());
    let plan = plan(&observed);
    let set = plan.writes().next().unwrap().body();
    let hash = template::hash(&observed.deployment);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("web-{hash}"), "namespace": "default",
            "labels": {"app": "web", "pod-template-hash": hash},
            "annotations": {REVISION: "1", "note": "x",
                "deployment.kubernetes.io/desired-replicas": "3",
                "deployment.kubernetes.io/max-replicas": "4"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                "uid": "web", "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "replicas": 3, "minReadySeconds": 5,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}},
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": hash}},
                "spec": {"containers": [{"name": "c", "image": "a"}]}},
        },
    });
    assert_eq!(set, expected);
    let report = plan.steps[0][0].succeeded.as_ref().unwrap();
    assert_eq!(report.message, format!("Scaled up replica set web-{hash} from 0 to 3"));
    // The Deployment knows its revision once the set is there.
    let status = status_write(&plan).unwrap();
    assert_eq!(status["metadata"]["annotations"][REVISION], "1");
    assert_eq!(reported(&observed), "0/0/0/0/3 +NewReplicaSetCreated -MinimumReplicasUnavailable");
    assert!(matches!(plan.steps[1][0].write, Write::Update { .. }));
}

#[test]
fn the_new_set_takes_over_what_may_change_without_a_rollout() {
    check("a 3 patience=7", &["a 3/3/3"], "a:note");
    let mut observed = observed("a 3", &["a 3/3/3"]);
    let deployment = Arc::make_mut(&mut observed.deployment);
    deployment.metadata.annotations = Some([("note".to_owned(), "x".to_owned())].into());
    assert_eq!(brief(&plan(&observed)), "a:note");
}
