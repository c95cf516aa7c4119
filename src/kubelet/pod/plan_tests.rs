//! Tables for the plan of a pod.

use super::super::fixtures::{at, bound, facts, names, object, pod};
use super::*;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// One line for a plan: `new:0 start:a0 stop:b1/30 wait:c remove:a0 ended at:1010`.
fn render(pod: &BoundPod, plan: &PodPlan) -> String {
    let mut words = Vec::new();
    words.extend(plan.stop.iter().map(|stop| {
        let replaced = if stop.replaced { "!" } else { "" };
        format!("stop:{}/{}{replaced}", stop.container, stop.grace.as_secs())
    }));
    match &plan.sandbox {
        SandboxPlan::Leave => {}
        SandboxPlan::Create { attempt } => words.push(format!("new:{attempt}")),
        SandboxPlan::Stop => words.push("close".to_owned()),
        SandboxPlan::Remove => words.push("clear".to_owned()),
    }
    words.extend(
        plan.start
            .iter()
            .map(|start| format!("start:{}{}", start.slot.of(pod).name, start.attempt)),
    );
    words.extend(plan.backing_off.keys().map(|name| format!("wait:{name}")));
    words.extend(plan.remove.iter().map(|id| format!("remove:{id}")));
    words.extend(plan.remove_sandboxes.iter().map(|id| format!("remove:{id}")));
    if plan.ended {
        words.push("ended".to_owned());
    }
    words.extend(plan.recheck_at.map(|at| format!("at:{}", at.as_second())));
    words.join(" ")
}

/// At second 1,000.
#[track_caller]
fn check_pod(pod: &BoundPod, text: &str, memory: &Memory, expected: &str) {
    let facts = facts(text);
    let observed =
        Observed { pod, facts: &facts, memory, probes: &Probes::default(), now: at(1_000) };
    assert_eq!(render(pod, &plan(&observed)), expected, "{text}");
}

/// A pod with app containers `a` and `b`.
#[track_caller]
fn check(policy: &str, text: &str, expected: &str) {
    check_pod(&pod(policy, &[], &names("a b")), text, &Memory::default(), expected);
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    check("Always", "", "new:0 start:a0 start:b0");
    check("Always", "s0", "start:a0 start:b0");
    check("Always", "s0 a:0@s0=run", "start:b0");
    check("Always", "s0 a:0@s0=run b:0@s0=run", "");
}

#[test]
fn ended_containers_start_again_as_the_policy_says() {
    check("Always", "s0 a:0@s0=run b:0@s0=exit0", "start:b1");
    check("OnFailure", "s0 a:0@s0=run b:0@s0=exit0", "");
    check("OnFailure", "s0 a:0@s0=run b:0@s0=exit1", "start:b1");
    check("Never", "s0 a:0@s0=run b:0@s0=exit1", "");
}

#[test]
fn a_container_that_was_never_started_is_made_anew() {
    check("Never", "s0 a:0@s0=run b:0@s0=created", "start:b1");
    check("Never", "s0 a:0@s0=run b:0@s0=created b:1@s0=run", "remove:b0");
}

#[test]
fn a_pod_with_nothing_left_to_run_is_over() {
    check("Never", "s0 a:0@s0=exit0 b:0@s0=exit1", "close ended");
    check("OnFailure", "s0 a:0@s0=exit0 b:0@s0=exit0", "close ended");
    check("OnFailure", "s0! a:0@s0=exit0 b:0@s0=exit0", "ended");
    check("Never", "s0! a:0@s0=exit0 b:0@s0=exit1", "ended");
}

#[test]
fn a_lost_sandbox_is_replaced_and_everything_in_it() {
    check("Always", "s0! a:0@s0=exit137 b:0@s0=exit137", "new:1 start:a1 start:b1");
    check("Always", "s0! a:0@s0=run b:0@s0=exit137", "stop:a0/30");
    check("OnFailure", "s0! a:0@s0=exit0 b:0@s0=exit137", "new:1 start:b1");
    check("Never", "s0!", "new:1 start:a0 start:b0");
}

#[test]
fn a_replaced_sandbox_goes_when_its_last_container_has_gone() {
    check("Always", "s0! s1 a:0@s0=exit1 a:1@s1=run b:1@s1=run", "");
    check("Always", "s0! s1 a:1@s1=run b:1@s1=run", "remove:s0");
}

#[test]
fn one_ended_container_of_each_name_is_kept() {
    check("Always", "s0 a:0@s0=exit1 a:1@s0=exit1 a:2@s0=run b:0@s0=exit1 b:1@s0=run", "remove:a0");
}

#[test]
fn crashes_are_waited_out() {
    let pod = pod("Always", &[], &names("a b"));
    let mut memory = Memory::default();
    let restarts = Restarts::after_restart(None, "web:1", at(900), at(900));
    memory.restarts.insert("a".to_owned(), restarts);
    check_pod(&pod, "s0 a:1@s0=exit1/995 b:0@s0=run", &memory, "wait:a at:1005");
    check_pod(&pod, "s0 a:1@s0=exit1/990 b:0@s0=run", &memory, "start:a2");
    // The clock was set back by an hour since.
    check_pod(&pod, "s0 a:1@s0=exit1/4595 b:0@s0=run", &memory, "start:a2");
    let facts = facts("s0 a:1@s0=exit1/995");
    let observed = Observed {
        pod: &pod,
        facts: &facts,
        memory: &memory,
        probes: &Probes::default(),
        now: at(1_000),
    };
    let message = "back-off 10s restarting failed container=a pod=web_default(u1)";
    assert_eq!(plan(&observed).backing_off["a"].message, message);
}

#[test]
fn another_image_replaces_a_container_whatever_the_policy() {
    let mut object = object("Never", &[], &names("a b"));
    object.spec.as_mut().unwrap().containers[0].image = Some("web:2".to_owned());
    let pod = bound(object);
    check_pod(&pod, "s0 a:0@s0=run b:0@s0=run", &Memory::default(), "stop:a0/30!");
    let replaced = [ContainerId("a0".to_owned())].into();
    let memory = Memory { replaced, ..Memory::default() };
    check_pod(&pod, "s0 a:0@s0=exit143 b:0@s0=run", &memory, "start:a1");
}

#[track_caller]
fn check_init(policy: &str, init: &str, text: &str, expected: &str) {
    check_pod(&pod(policy, &names(init), &names("a")), text, &Memory::default(), expected);
}

#[test]
fn init_containers_run_one_after_another() {
    check_init("Always", "i j", "", "new:0 start:i0");
    check_init("Always", "i j", "s0", "start:i0");
    check_init("Always", "i j", "s0 i:0@s0=run", "");
    check_init("Always", "i j", "s0 i:0@s0=exit0", "start:j0");
    check_init("Always", "i j", "s0 i:0@s0=exit0 j:0@s0=run", "");
    check_init("Always", "i j", "s0 i:0@s0=exit0 j:0@s0=exit0", "start:a0");
    check_init("Always", "i j", "s0 j:0@s0=exit0", "start:a0");
    check_init("Always", "i j", "s0 j:0@s0=exit0 a:0@s0=run", "");
    check_init("Always", "i j", "s0 a:0@s0=exit1", "start:a1");
}

#[test]
fn a_failed_init_container_starts_again_or_ends_the_pod() {
    check_init("Always", "i j", "s0 i:0@s0=exit1", "start:i1");
    check_init("OnFailure", "i j", "s0 i:0@s0=exit1", "start:i1");
    check_init("Never", "i j", "s0 i:0@s0=exit1", "close ended");
}

#[test]
fn initialization_starts_over_in_a_new_sandbox() {
    check_init("Always", "i j", "s0! i:0@s0=exit0 a:0@s0=exit137", "new:1 start:i1");
    check_init("Always", "i j", "s0! s1 i:0@s0=exit0 a:0@s0=exit137", "start:i1");
}

#[test]
fn sidecars_start_in_order_and_are_kept() {
    check_init("Always", "+i j", "s0 i:0@s0=run", "start:j0");
    check_init("Always", "+i j", "s0 i:0@s0=exit1 j:0@s0=run", "start:i1");
    check_init("Always", "+i j", "s0 i:0@s0=run j:0@s0=exit0", "start:a0");
    check_init("Always", "i +j", "s0 i:0@s0=exit0 j:0@s0=run", "start:a0");
    check_init("Never", "+i", "s0 i:0@s0=exit1 a:0@s0=run", "start:i1");
    check_init("Never", "+i", "s0 a:0@s0=run", "start:i0");
}

#[test]
fn sidecars_end_after_the_others_and_in_reverse() {
    check_init("Never", "+i +j", "s0 i:0@s0=run j:0@s0=run a:0@s0=exit0", "stop:j0/30");
    check_init("Never", "+i +j", "s0 i:0@s0=run j:0@s0=exit0 a:0@s0=exit0", "stop:i0/30");
    check_init("Never", "+i +j", "s0 i:0@s0=exit0 j:0@s0=exit0 a:0@s0=exit0", "close ended");
}

fn deleted(grace_seconds: i64) -> Pod {
    let mut object = object("Always", &names("+i"), &names("a b"));
    object.metadata.deletion_timestamp = Some(Time(at(1_030)));
    object.metadata.deletion_grace_period_seconds = Some(grace_seconds);
    object
}

#[test]
fn a_deleted_pod_ends_in_its_grace() {
    let since =
        |second| Memory { ending: Some((Ending::Deleted, at(second))), ..Memory::default() };
    let all = "s0 i:0@s0=run a:0@s0=run b:0@s0=run";
    check_pod(&bound(deleted(20)), all, &Memory::default(), "stop:a0/20 stop:b0/20");
    check_pod(&bound(deleted(20)), all, &since(985), "stop:a0/5 stop:b0/5");
    check_pod(&bound(deleted(20)), all, &since(900), "stop:a0/2 stop:b0/2");
    check_pod(&bound(deleted(0)), all, &Memory::default(), "stop:a0/2 stop:b0/2");
    let rest = "s0 i:0@s0=run a:0@s0=exit0 b:0@s0=exit0";
    check_pod(&bound(deleted(20)), rest, &since(990), "stop:i0/10");
    let none = "s0 i:0@s0=exit0 a:0@s0=exit0 b:0@s0=exit0";
    check_pod(&bound(deleted(20)), none, &since(990), "clear ended");
    check_pod(&bound(deleted(20)), "", &Memory::default(), "clear ended");
}

#[test]
fn a_pod_that_is_over_never_runs_again() {
    let pod = pod("Always", &[], &names("a b"));
    let memory = Memory { ending: Some((Ending::Finished, at(0))), ..Memory::default() };
    check_pod(&pod, "s0 a:0@s0=exit0 b:0@s0=run", &memory, "stop:b0/2");
    check_pod(&pod, "s0 a:0@s0=exit0 b:0@s0=exit0", &memory, "close ended");
    let mut object = (**pod.object()).clone();
    object.status.get_or_insert_default().phase = Some("Failed".to_owned());
    check_pod(&bound(object), "", &Memory::default(), "ended");
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut object = object("Always", &[], &names("a"));
    object.spec.as_mut().unwrap().active_deadline_seconds = Some(60);
    let pod = bound(object);
    let memory = |started| Memory { started_at: Some(at(started)), ..Memory::default() };
    check_pod(&pod, "s0 a:0@s0=run", &memory(950), "at:1010");
    check_pod(&pod, "s0 a:0@s0=run", &memory(940), "stop:a0/30");
    check_pod(&pod, "s0 a:0@s0=exit143", &memory(940), "close ended");
}

#[test]
fn ephemeral_containers_start_once_beside_the_others() {
    let ephemeral = |target: Option<&str>| {
        let mut pod = object("Always", &names("i"), &names("a"));
        let joined = json!([{ "name": "d", "image": "web:1", "targetContainerName": target }]);
        pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(joined).unwrap();
        bound(pod)
    };
    let check = |target, text, expected| {
        check_pod(&ephemeral(target), text, &Memory::default(), expected);
    };
    check(None, "", "new:0 start:i0");
    check(None, "s0 i:0@s0=run", "start:d0");
    check(None, "s0 a:0@s0=run", "start:d0");
    check(None, "s0 a:0@s0=run d:0@s0=run", "");
    check(None, "s0 a:0@s0=run d:0@s0=exit1", "");
    check(None, "s0 a:0@s0=run d:0@s0=created", "start:d1");
    check(Some("a"), "s0 a:0@s0=run", "start:d0");
    check(Some("a"), "s0 i:0@s0=run", "");
    check(Some("a"), "s0 a:0@s0=exit1", "start:a1");
}
