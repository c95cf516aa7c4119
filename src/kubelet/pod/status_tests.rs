//! Tables for the status of a pod.

use super::super::fixtures::{at, bound, facts, names, object, pod};
use super::*;
use k8s_openapi::api::core::v1::{PodCondition, PodReadinessGate};

/// What one test varies; the rest is a pod whose sandbox has an address, at second 1,000.
struct Case<'a> {
    pod: &'a BoundPod,
    facts: &'a str,
    last: PodStatus,
    waiting: BTreeMap<String, Waiting>,
    ending: Option<(&'a Ending, bool)>,
}

impl<'a> Case<'a> {
    fn of(pod: &'a BoundPod, facts: &'a str) -> Self {
        let last = PodStatus::default();
        Self { pod, facts, last, waiting: BTreeMap::new(), ending: None }
    }

    fn status(&self) -> PodStatus {
        let addresses = ["10.42.0.7".parse().unwrap()];
        status(&Inputs {
            resize: ResizeNews::default(),
            pod: self.pod,
            facts: &facts(self.facts).with_lost(self.pod, &self.last, at(1_000)),
            last: &self.last,
            waiting: &self.waiting,
            probes: &Probes::default(),
            addresses: &addresses,
            node_addresses: &["192.168.0.1".parse().unwrap()],
            ending: self.ending,
            now: at(1_000),
        })
    }

    #[track_caller]
    fn check(&self, expected: &str) {
        assert_eq!(render(&self.status()), expected, "{}", self.facts);
    }
}

/// `Running a=run0r b=exit1:Error+exit2` and conditions that hold: `+I+R+C+S`, and so on.
fn render(status: &PodStatus) -> String {
    let mut words = vec![status.phase.clone().unwrap()];
    let statuses = [&status.init_container_statuses, &status.container_statuses];
    for container in statuses.into_iter().flatten().flatten() {
        let ready = if container.ready { "r" } else { "" };
        let last = container.last_state.as_ref().map(render_state).unwrap_or_default();
        let last = if last.is_empty() { last } else { format!("+{last}") };
        let state = render_state(container.state.as_ref().unwrap());
        words.push(format!("{}={state}{}{ready}{last}", container.name, container.restart_count));
    }
    let conditions = status.conditions.iter().flatten();
    let letters = conditions.map(|condition| {
        let letter = match condition.type_.as_str() {
            "PodReadyToStartContainers" => "N",
            "PodScheduled" => "S",
            other => &other[..1],
        };
        format!("{}{letter}", if condition.status == "True" { "+" } else { "-" })
    });
    words.push(letters.collect());
    words.extend(status.reason.clone());
    words.join(" ")
}

fn render_state(state: &ContainerState) -> String {
    let terminated = state.terminated.as_ref();
    let terminated = terminated
        .map(|it| format!("{}/{}:", it.exit_code, it.reason.as_deref().unwrap_or_default()));
    let waiting = state.waiting.as_ref();
    let waiting = waiting.map(|it| format!("{}:", it.reason.as_deref().unwrap_or_default()));
    let running = state.running.as_ref().map(|_| "run:".to_owned());
    terminated.or(waiting).or(running).unwrap_or_default()
}

#[test]
fn a_pod_that_starts_shows_what_it_waits_for() {
    let plain = pod("Always", &[], &names("a"));
    Case::of(&plain, "").check("Pending a=ContainerCreating:0 -N+I-R-C+S");
    Case::of(&plain, "s0").check("Pending a=ContainerCreating:0 +N+I-R-C+S");
    let init = pod("Always", &names("i"), &names("a"));
    Case::of(&init, "s0 i:0@s0=run").check("Pending i=run:0 a=PodInitializing:0 +N-I-R-C+S");
    Case::of(&init, "s0 i:0@s0=exit0")
        .check("Pending i=0/Completed:0r a=PodInitializing:0 +N+I-R-C+S");
    Case::of(&init, "s0 i:0@s0=exit0 a:0@s0=run")
        .check("Running i=0/Completed:0r a=run:0r +N+I+R+C+S");
}

#[test]
fn containers_are_listed_by_name_and_init_containers_in_their_order() {
    let pod = pod("Always", &names("z y"), &names("b a"));
    Case::of(&pod, "s0").check(
        "Pending z=PodInitializing:0 y=PodInitializing:0 a=PodInitializing:0 b=PodInitializing:0 \
         +N-I-R-C+S",
    );
}

#[test]
fn a_crashing_container_waits_with_its_last_end() {
    let pod = pod("Always", &[], &names("a"));
    let mut case = Case::of(&pod, "s0 a:2@s0=exit1");
    case.check("Running a=1/Error:2 +N+I-R-C+S");
    let waiting = Waiting { reason: "CrashLoopBackOff", message: "back-off".to_owned() };
    case.waiting.insert("a".to_owned(), waiting);
    case.check("Running a=CrashLoopBackOff:2+1/Error: +N+I-R-C+S");
    case.facts = "s0 a:2@s0=exit1 a:3@s0=run";
    case.check("Running a=run:3r+1/Error: +N+I+R+C+S");
}

#[test]
fn the_last_end_is_kept_when_its_container_is_gone() {
    let pod = pod("Always", &[], &names("a"));
    let mut case = Case::of(&pod, "s0 a:2@s0=exit1 a:3@s0=run");
    case.last = case.status();
    case.facts = "s0 a:3@s0=run";
    case.check("Running a=run:3r+1/Error: +N+I+R+C+S");
}

#[test]
fn a_container_that_ended_for_good_does_not_wait() {
    let pod = pod("Never", &names("i"), &names("a b"));
    let mut case = Case::of(&pod, "s0 i:0@s0=exit0 a:0@s0=exit1 b:0@s0=run");
    let waiting = Waiting { reason: "CrashLoopBackOff", message: String::new() };
    case.waiting = [("a".to_owned(), waiting.clone()), ("i".to_owned(), waiting)].into();
    case.check("Running i=0/Completed:0r a=1/Error:0 b=run:0r +N+I-R-C+S");
}

#[test]
fn the_last_phase_is_told_when_nothing_runs() {
    let pod = pod("Never", &[], &names("a b"));
    let mut case = Case::of(&pod, "s0 a:0@s0=exit0 b:0@s0=exit0");
    case.last.phase = Some("Running".to_owned());
    case.check("Running a=0/Completed:0 b=0/Completed:0 +N+I-R-C+S");
    case.ending = Some((&Ending::Finished, true));
    case.check("Succeeded a=0/Completed:0 b=0/Completed:0 +N+I-R-C+S");
    case.facts = "s0 a:0@s0=exit0 b:0@s0=exit3";
    case.check("Failed a=0/Completed:0 b=3/Error:0 +N+I-R-C+S");
    case.last = case.status();
    case.facts = "";
    case.check("Failed a=0/Completed:0 b=3/Error:0 -N+I-R-C+S");
}

#[test]
fn a_pod_that_its_node_ends_says_why() {
    let pod = pod("Always", &[], &names("a"));
    let ending = Ending::failed("DeadlineExceeded", "too long");
    let mut case = Case::of(&pod, "s0 a:0@s0=run");
    case.last.phase = Some("Running".to_owned());
    case.ending = Some((&ending, false));
    case.check("Running a=run:0r +N+I+R+C+S");
    case.facts = "s0 a:0@s0=exit143";
    case.ending = Some((&ending, true));
    case.check("Failed a=143/Error:0 +N+I-R-C+S DeadlineExceeded");
    assert_eq!(case.status().message.as_deref(), Some("too long"));
}

#[test]
fn a_deleted_pod_ends_without_waiting_containers() {
    let pod = pod("Always", &[], &names("a b"));
    let mut case = Case::of(&pod, "s0 a:0@s0=exit0");
    case.ending = Some((&Ending::Deleted, true));
    case.check("Failed a=0/Completed:0 b=137/ContainerStatusUnknown:0 +N+I-R-C+S");
    case.facts = "";
    case.check("Failed a=ContainerCreating:0 b=ContainerCreating:0 -N+I-R-C+S");
}

#[test]
fn what_was_lost_in_a_reboot_counts_as_ended() {
    let pod = pod("Never", &[], &names("a"));
    let mut case = Case::of(&pod, "s0 a:0@s0=run");
    case.last = case.status();
    case.facts = "";
    case.check("Running a=137/ContainerStatusUnknown:0 -N+I-R-C+S");
    let lost = case.status();
    case.last = lost.clone();
    assert_eq!(case.status().container_statuses, lost.container_statuses);
    case.ending = Some((&Ending::Finished, true));
    case.check("Failed a=137/ContainerStatusUnknown:0 -N+I-R-C+S");
}

#[test]
fn times_change_only_with_what_they_are_of() {
    let pod = pod("Always", &[], &names("a"));
    let mut case = Case::of(&pod, "s0 a:0@s0=run");
    case.last = case.status();
    let first = case.status();
    let at_second = |now, text: &str| {
        status(&Inputs {
            resize: ResizeNews::default(),
            pod: &pod,
            facts: &facts(text),
            last: &first,
            waiting: &BTreeMap::new(),
            probes: &Probes::default(),
            addresses: &["10.42.0.7".parse().unwrap()],
            node_addresses: &["192.168.0.1".parse().unwrap()],
            ending: None,
            now: at(now),
        })
    };
    assert_eq!(at_second(2_000, "s0 a:0@s0=run"), first);
    let changed = at_second(2_000, "s0 a:0@s0=exit1");
    let time = |status: &PodStatus, kind: &str| {
        let mut conditions = status.conditions.iter().flatten();
        let found = conditions.find(|condition| condition.type_ == kind);
        found.unwrap().last_transition_time.clone().unwrap().0.as_second()
    };
    assert_eq!((time(&changed, "Initialized"), time(&changed, "Ready")), (1_000, 2_000));
    assert_eq!(changed.start_time, first.start_time);
}

#[test]
fn readiness_gates_hold_readiness_back() {
    let mut object = object("Always", &[], &names("a"));
    let gate = PodReadinessGate { condition_type: "example.com/up".to_owned() };
    object.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
    Case::of(&bound(object.clone()), "s0 a:0@s0=run").check("Running a=run:0r +N+I-R+C+S");
    let up = PodCondition {
        type_: "example.com/up".to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    object.status.get_or_insert_default().conditions = Some(vec![up]);
    Case::of(&bound(object), "s0 a:0@s0=run").check("Running a=run:0r +e+N+I+R+C+S");
}

#[test]
fn addresses_are_the_sandboxs_or_the_nodes() {
    let plain = pod("Always", &[], &names("a"));
    let status = Case::of(&plain, "s0").status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.42.0.7"));
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    let mut object = object("Always", &[], &names("a"));
    object.spec.as_mut().unwrap().host_network = Some(true);
    let status = Case::of(&bound(object), "s0").status();
    assert_eq!(status.pod_ip.as_deref(), Some("192.168.0.1"));
}

#[test]
fn unready_containers_are_named_as_go_prints_lists() {
    let pod = pod("Always", &[], &names("a b"));
    let status = Case::of(&pod, "s0").status();
    let conditions = status.conditions.unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a b]"));
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.observed_generation, Some(1));
}
