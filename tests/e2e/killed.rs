//! kill -9 of what is not the server: shims, containers, the process that holds a pod's process
//! namespace. While the server runs, while it is away, and while it starts. What ended is told of, and
//! starts again where its policy says so: in a new sandbox where that was lost, and never twice.

use super::leftovers::{of_pods, vanish};
use super::machine::Machine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;

/// What is killed of a pod is in its name.
const PODS: [(&str, &str); 4] = [
    (
        "shim",
        "{containers: [{name: a, image: IMAGE, command: [sleep, '1000']}, {name: b, image: IMAGE, command: [sleep, '1000']}]}",
    ),
    (
        "pause",
        "{shareProcessNamespace: true, containers: [{name: a, image: IMAGE, command: [sleep, '1000']}]}",
    ),
    ("container", "{containers: [{name: a, image: IMAGE, command: [sleep, '1000']}]}"),
    (
        "shim-once",
        "{restartPolicy: Never, containers: [{name: a, image: IMAGE, command: [sleep, '1000']}]}",
    ),
];

fn pods(machine: &Machine) -> Vec<Value> {
    let body = machine.asked("/api/v1/namespaces/default/pods").unwrap_or_default();
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap()
}

fn statuses(pod: &Value) -> Vec<Value> {
    pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default()
}

fn all_run(machine: &Machine) -> bool {
    let pods = pods(machine);
    let runs = |pod: &Value| statuses(pod).iter().all(|it| it["state"]["running"].is_object());
    pods.len() == PODS.len() && pods.iter().all(|pod| runs(pod) && !statuses(pod).is_empty())
}

/// The processes to be killed: the one of each pod that its name says.
fn victims(machine: &Machine, pods: &[Value]) -> Vec<Pid> {
    let mut found = Vec::new();
    let run = kinglet::daemon::Layout::of(&machine.path("data")).run();
    for pod in pods {
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let lines = of_pods(machine).processes;
        let of_pod = |line: &&String| line.contains(&format!("pod{uid}"));
        let sandbox = sandbox_of(&run, uid);
        let line = match name(pod) {
            "pause" => lines.iter().filter(of_pod).find(|line| line.contains("/pause-")),
            "container" => lines.iter().filter(of_pod).find(|line| line.contains("sleep")),
            _ => lines.iter().find(|it| it.contains("containerd-shim-") && it.contains(&sandbox)),
        };
        let line = line.unwrap_or_else(|| panic!("{}: {lines:#?}", name(pod)));
        found.push(Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap()));
    }
    found
}

/// The newest sandbox of a pod, from the runtime's own notes.
fn sandbox_of(run: &std::path::Path, uid: &str) -> String {
    let entries = fs::read_dir(run.join("sandboxes")).unwrap().flatten();
    let notes = entries.filter_map(|entry| {
        let text = fs::read_to_string(entry.path().join("sandbox.json")).ok()?;
        let note: Value = serde_json::from_str(&text).ok()?;
        let is_of_pod = note["config"]["pod"]["uid"] == uid;
        let attempt = note["config"]["attempt"].as_u64()?;
        is_of_pod.then(|| (attempt, entry.file_name().to_string_lossy().into_owned()))
    });
    notes.max().unwrap().1
}

/// All pods are made and run.
fn begin(machine: &Machine) -> Vec<Value> {
    let mut manifest = String::new();
    for (name, spec) in PODS {
        let spec = spec.replace("IMAGE", "'127.0.0.1:5000/hello:1'");
        let spec = spec.replacen('{', "{terminationGracePeriodSeconds: 1, ", 1);
        manifest.push_str(&format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n"
        ));
    }
    machine.apply(&manifest);
    machine.eventually("all pods run", || all_run(machine));
    pods(machine)
}

fn check(machine: &Machine, before: &[Value], when: &str) {
    machine.eventually("everybody has noticed", || {
        pods(machine).iter().all(|pod| match name(pod) {
            "shim-once" => pod["status"]["phase"] == "Failed",
            _ => statuses(pod).iter().all(|it| {
                it["restartCount"] == 1 && it["state"]["running"].is_object() && it["ready"] == true
            }),
        })
    });
    let addresses = |pods: &[Value], wanted: &str| {
        let found = pods.iter().find(|pod| name(pod) == wanted).unwrap();
        found["status"]["podIP"].as_str().unwrap().to_owned()
    };
    let after = pods(machine);
    for pod in &after {
        for status in statuses(pod) {
            let place = if name(pod) == "shim-once" { "state" } else { "lastState" };
            let ended = &status[place]["terminated"];
            assert_eq!(ended["exitCode"], 137, "{when}: {}: {status:#}", name(pod));
            assert_eq!(ended["reason"], "Error", "{when}: {}: {status:#}", name(pod));
        }
        let field = format!("involvedObject.name={}", name(pod));
        let events = || {
            let words = ["get", "events", "--field-selector", &field, "-o", "json"];
            let list: Value = serde_json::from_str(&machine.kubectl(&words)).unwrap();
            let reason = |event: &Value| event["reason"].as_str().unwrap_or_default().to_owned();
            list["items"].as_array().unwrap().iter().map(reason).collect::<Vec<_>>()
        };
        let is_told = || events().contains(&"SandboxChanged".to_owned());
        if ["shim", "pause"].contains(&name(pod)) {
            machine.eventually("it is said that the sandbox changed", is_told);
        } else {
            assert!(!is_told(), "{when}: {}: {:?}", name(pod), events());
        }
    }
    let wanted = "container";
    assert_eq!(addresses(before, wanted), addresses(&after, wanted), "its sandbox is the same");
    // One process for each container that runs.
    let running = of_pods(machine).processes;
    let sleeps = running.iter().filter(|line| line.contains("sleep 1000"));
    assert_eq!(sleeps.count(), 4, "{when}: {running:#?}");
    machine.eventually("one shim for each pod that runs", || {
        let processes = of_pods(machine).processes;
        processes.iter().filter(|line| line.contains("containerd-shim-")).count() == 3
    });
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    vanish(machine, || of_pods(machine));
}

#[test]
fn whatever_is_killed_starts_again_and_says_so() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    let strike = |pids: &[Pid]| pids.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());

    let before = begin(&machine);
    strike(&victims(&machine, &before));
    check(&machine, &before, "while the server runs");

    let before = begin(&machine);
    let found = victims(&machine, &before);
    machine.stop(Signal::SIGKILL);
    strike(&found);
    machine.start();
    check(&machine, &before, "while the server is away");

    let before = begin(&machine);
    let found = victims(&machine, &before);
    machine.stop(Signal::SIGTERM);
    let run = kinglet::daemon::Layout::of(&machine.path("data")).run();
    let socket = run.join("events.sock");
    fs::remove_file(&socket).ok();
    machine.spawn_server();
    // It is made when the shims are about to be looked for.
    machine.eventually("the server looks for its pods", || socket.exists());
    strike(&found);
    machine.await_node();
    check(&machine, &before, "while the server starts");
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
