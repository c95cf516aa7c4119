//! Our side ends, shims end, half of things is made: containers go on, and nothing is lost.

use crate::rig::{DEADLINE, Rig, eventually};
use kinglet::runtime::{
    ContainerState, NamespaceMode, Runtime as _, RuntimeEvent, SandboxState, ShimRuntime,
};
use kinglet::sys::signal;
use std::fs;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_us_and_are_adopted() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("steady").await;
    let counting = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.02; done";
    let steady = rig.run(&sandbox, rig.container_config("steady", counting)).await;
    let brief = rig.run(&sandbox, rig.container_config("brief", "sleep 0.3; exit 5")).await;
    let created = rig.container_config("created", "exit 0");
    let created = rig.runtime().create_container(&sandbox.id, created).await.unwrap();
    let before = rig.status(&steady).await;
    let shims = rig.shims();
    rig.close().await;

    let seen = rig.log("steady").len();
    eventually("the log grows without us", async || {
        let now = rig.log("steady").len();
        if now > seen + 30 { Ok(()) } else { Err(format!("{now} lines")) }
    })
    .await;
    rig.open().await;
    assert_eq!(rig.status(&steady).await, before);
    assert_eq!(rig.status(&created).await.state, ContainerState::Created);
    // The shim kept how it ended while we were away.
    assert_eq!(rig.exit_of(&brief).await, (5, false, String::new()));
    assert_eq!(rig.shims(), shims);
    rig.runtime().start_container(&created).await.unwrap();
    assert_eq!(rig.exit_of(&created).await.0, 0);
    assert_eq!(rig.exec(&steady, "echo works").await, "works");
    let numbers: Vec<usize> =
        rig.log("steady").iter().map(|line| line["stdout F ".len()..].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>(), "nothing is lost or twice");
    rig.runtime().stop_container(&steady, Duration::ZERO).await.unwrap();
    assert_eq!(rig.exit_of(&steady).await.0, 137);

    // What has ended stays ended.
    let ended = rig.status(&brief).await;
    rig.close().await;
    rig.open().await;
    assert_eq!(rig.status(&brief).await, ended);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_do_not_see_each_other() {
    let one = Rig::start().await;
    let other = Rig::start().await;
    let sandbox = one.run_sandbox("same").await;
    one.run(&sandbox, one.container_config("main", "sleep 1000")).await;
    assert!(other.runtime().sandboxes().await.unwrap().is_empty());
    let sandbox = other.run_sandbox("same").await;
    let id = other.run(&sandbox, other.container_config("main", "exit 3")).await;
    assert_eq!(other.exit_of(&id).await.0, 3);
    other.finish().await;
    assert_eq!(one.runtime().containers().await.unwrap().len(), 1);
    assert_eq!(one.shims().len(), 1);
    one.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_shim_is_noticed() {
    let rig = Rig::start().await;
    let mut events = rig.runtime().events();
    let sandbox = rig.run_sandbox("lost").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    let ContainerState::Running { pid, .. } = rig.status(&id).await.state else { panic!() };
    for shim in rig.shims() {
        signal::kill(shim).unwrap();
    }
    let (code, oom_killed, message) = rig.exit_of(&id).await;
    assert_eq!((code, oom_killed), (137, false));
    assert_eq!(message, "the shim of its sandbox ended unexpectedly");
    assert!(!fs::exists(format!("/proc/{pid}/root")).unwrap(), "its processes are gone too");
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(RuntimeEvent::SandboxLost { .. })) {
        seen.push(tokio::time::timeout(DEADLINE, events.recv()).await.unwrap().unwrap());
    }
    let pod = sandbox.pod.clone();
    assert_eq!(
        seen,
        [
            RuntimeEvent::ContainerStarted { pod: pod.clone(), container: id.clone() },
            RuntimeEvent::ContainerExited { pod: pod.clone(), container: id.clone() },
            RuntimeEvent::SandboxLost { pod, sandbox: sandbox.id.clone() },
        ]
    );
    let sandboxes = rig.runtime().sandboxes().await.unwrap();
    assert_eq!(sandboxes[0].state, SandboxState::NotReady);
    let config = rig.container_config("late", "true");
    assert!(rig.runtime().create_container(&sandbox.id, config).await.is_err());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_ended_while_we_were_away_is_noticed() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("lost").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    rig.close().await;
    for shim in rig.shims() {
        signal::kill(shim).unwrap();
    }
    rig.open().await;
    assert_eq!(rig.exit_of(&id).await.0, 137);
    assert_eq!(rig.runtime().sandboxes().await.unwrap()[0].state, SandboxState::NotReady);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_everything_has_ended() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("old").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    // A reboot takes processes, mounts, cgroups and the run directory, and changes the boot's id.
    rig.runtime().stop_sandbox(&sandbox.id).await.unwrap();
    rig.close().await;
    let record = rig.directory.join("agent/sandboxes").join(&sandbox.id.0);
    let text = fs::read_to_string(record.join("sandbox.json")).unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = text
        .replace(boot_id.trim(), "another")
        .replace("\"is_stopped\":true", "\"is_stopped\":false");
    fs::write(record.join("sandbox.json"), text).unwrap();
    fs::remove_file(record.join("containers").join(&id.0).join("exit.json")).unwrap();
    kinglet::sys::mount::unmount_all(&rig.run).unwrap();
    fs::remove_dir_all(rig.run.join("sandboxes")).unwrap();

    rig.open().await;
    let sandboxes = rig.runtime().sandboxes().await.unwrap();
    assert_eq!(sandboxes[0].state, SandboxState::NotReady);
    let (code, _, message) = rig.exit_of(&id).await;
    assert_eq!((code, message.as_str()), (255, "the node was restarted"));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_made_things_are_removed() {
    let mut rig = Rig::start().await;
    let half_made = rig.run_sandbox("half").await;
    let whole = rig.run_sandbox("whole").await;
    let id = rig.run(&whole, rig.container_config("main", "sleep 1000")).await;
    let half_container = rig.container_config("half", "sleep 1000");
    let half_container = rig.runtime().create_container(&whole.id, half_container).await.unwrap();
    rig.run(&half_made, rig.container_config("lost", "sleep 1000")).await;
    rig.close().await;
    // As if we had ended before the records were written.
    let records = rig.directory.join("agent/sandboxes");
    fs::remove_dir_all(records.join(&half_made.id.0)).unwrap();
    let containers = records.join(&whole.id.0).join("containers");
    fs::remove_dir_all(containers.join(&half_container.0)).unwrap();
    rig.open().await;
    assert_eq!(rig.runtime().sandboxes().await.unwrap().len(), 1);
    assert_eq!(rig.runtime().containers().await.unwrap().len(), 1);
    let left: Vec<_> = rig
        .leftovers()
        .into_iter()
        .filter(|each| each.contains(&half_made.id.0) || each.contains(&half_container.0))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(rig.exec(&id, "echo works").await, "works");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_removed_is_no_reason_to_end_the_rest() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("whole").await;
    let script = "echo kept > /mine; sleep 1000";
    let id = rig.run(&sandbox, rig.container_config("main", script)).await;
    let half = rig.container_config("half", "sleep 1000");
    let half = rig.runtime().create_container(&sandbox.id, half).await.unwrap();
    rig.close().await;
    let record = rig.directory.join("agent/sandboxes").join(&sandbox.id.0);
    fs::remove_file(record.join("containers").join(&half.0).join("container.json")).unwrap();
    *rig.images.stuck.lock().unwrap() = Some(half);
    rig.open().await;
    assert_eq!(rig.runtime().sandboxes().await.unwrap()[0].state, SandboxState::Ready);
    assert_eq!(rig.exec(&id, "cat /mine").await, "kept");
    *rig.images.stuck.lock().unwrap() = None;
    rig.close().await;
    rig.open().await;
    assert_eq!(rig.exec(&id, "cat /mine").await, "kept");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_that_cannot_be_adopted_is_ended_before_the_next() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("pod").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    let ContainerState::Running { pid, .. } = rig.status(&id).await.state else { panic!() };
    rig.close().await;
    let containers = rig.directory.join("agent/sandboxes").join(&sandbox.id.0).join("containers");
    let away = containers.with_file_name("away");
    fs::rename(&containers, &away).unwrap();
    fs::write(&containers, "").unwrap();
    rig.open().await;
    assert_eq!(rig.runtime().sandboxes().await.unwrap()[0].state, SandboxState::NotReady);
    assert!(fs::read_dir(rig.images.containers()).unwrap().next().is_some(), "its files stay");
    let next = rig.run_sandbox("pod").await;
    assert_eq!(next.state, SandboxState::Ready);
    assert!(!fs::exists(format!("/proc/{pid}/root")).unwrap(), "nothing runs twice");
    fs::remove_file(&containers).unwrap();
    fs::rename(&away, &containers).unwrap();
    rig.close().await;
    rig.open().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_go_after_the_rest_is_known() {
    let mut rig = Rig::start().await;
    let leftover = rig.run_sandbox("pod").await;
    let whole = rig.run_sandbox("pod").await;
    let id = rig.run(&whole, rig.container_config("main", "sleep 1000")).await;
    rig.close().await;
    fs::remove_dir_all(rig.directory.join("agent/sandboxes").join(&leftover.id.0)).unwrap();
    rig.open().await;
    assert_eq!(rig.runtime().sandboxes().await.unwrap().len(), 1);
    assert_eq!(rig.exec(&id, "echo works").await, "works");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_ends_our_cgroup_does_not_end_the_containers() {
    let rig = Rig::start().await;
    let mut config = rig.sandbox_config("apart");
    config.namespaces.pid = NamespaceMode::Pod;
    let sandbox = rig.runtime().run_sandbox(config).await.unwrap();
    let config = rig.container_config("main", "while true; do echo x; sleep 0.1; done");
    rig.run(&sandbox, config).await;
    let outside: Vec<_> = rig
        .processes()
        .into_iter()
        .filter(|(pid, _)| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
            !cgroups.lines().all(|line| line.contains(&format!(":{}/", rig.cgroup)))
        })
        .collect();
    assert_eq!(outside, [], "shims and loggers are in a cgroup of their own");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_whose_stop_was_interrupted_is_stopped() {
    let mut rig = Rig::start().await;
    let sandbox = rig.run_sandbox("stopping").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    rig.close().await;
    let record = rig.directory.join("agent/sandboxes").join(&sandbox.id.0).join("sandbox.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"is_stopped\":false", "\"is_stopped\":true")).unwrap();
    rig.open().await;
    assert_eq!(rig.exit_of(&id).await.0, 137);
    assert_eq!(rig.runtime().sandboxes().await.unwrap()[0].state, SandboxState::NotReady);
    assert_eq!(rig.shims(), Vec::<u32>::new());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_again_succeeds() {
    let rig = Rig::start().await;
    let sandbox = rig.run_sandbox("again").await;
    let id = rig.run(&sandbox, rig.container_config("main", "sleep 1000")).await;
    let runtime: &ShimRuntime = rig.runtime();
    for _ in 0..2 {
        runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        runtime.remove_container(&id).await.unwrap();
    }
    for _ in 0..2 {
        runtime.stop_sandbox(&sandbox.id).await.unwrap();
        runtime.remove_sandbox(&sandbox.id).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_sandbox_of_a_pod_survives_the_removal_of_the_old() {
    let rig = Rig::start().await;
    let old = rig.run_sandbox("pod").await;
    rig.run(&old, rig.container_config("main", "sleep 1000")).await;
    let new = rig.run_sandbox("pod").await;
    let id = rig.run(&new, rig.container_config("main", "sleep 1000")).await;
    rig.runtime().remove_sandbox(&old.id).await.unwrap();
    assert_eq!(rig.exec(&id, "echo alive").await, "alive");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_was_not_written_down_is_ended() {
    for forgotten in [&["shim.json"][..], &["shim.json", "shim/address", "shim/bootstrap.json"]] {
        let mut rig = Rig::start().await;
        let sandbox = rig.run_sandbox("stray").await;
        rig.close().await;
        assert_eq!(rig.shims().len(), 1);
        // As if we had ended as soon as the shim was there.
        let run = rig.run.join("sandboxes").join(&sandbox.id.0);
        fs::remove_dir_all(rig.directory.join("agent/sandboxes").join(&sandbox.id.0)).unwrap();
        for file in forgotten {
            fs::remove_file(run.join(file)).ok();
        }
        rig.open().await;
        assert!(rig.shims().is_empty());
        assert!(rig.runtime().sandboxes().await.unwrap().is_empty());
        rig.finish().await;
    }
}
