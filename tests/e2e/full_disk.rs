//! Disks that are full: the node's own, while images come, containers start, logs and volumes are
//! written; and the server's, which its store is on. Everybody is told, nothing is left half written,
//! and all of it goes on by itself when there is room.

use super::leftovers::{of_pods, vanish};
use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;

const SETTINGS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: COLOR}
";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  volumes:
  - {name: settings, configMap: {name: settings}}
  containers:
  - name: main
    image: IMAGE
    command: [sh, -c, 'while true; do echo a line that is always the same; sleep 0.1; done']
    volumeMounts: [{name: settings, mountPath: /settings}]
";

fn manifest(name: &str, image: &str) -> String {
    POD.replace("NAME", name).replace("IMAGE", &format!("'127.0.0.1:5000/{image}'"))
}

/// What the events about a pod say, of one kind.
fn events(machine: &Machine, pod: &str, reason: &str) -> String {
    let field = format!("involvedObject.name={pod},reason={reason}");
    machine.kubectl(&[
        "get",
        "events",
        "--field-selector",
        &field,
        "-o",
        "jsonpath={.items[*].message}",
    ])
}

fn is_ready(machine: &Machine, name: &str) -> bool {
    let body = machine.asked(&format!("/api/v1/namespaces/default/pods/{name}"));
    let pod: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// Puts a disk of its own of so many MiB at each of `places` of the machine.
fn mount_disk(machine: &Machine, name: &str, mebibytes: u32, places: &[&str]) {
    let disk = machine.path(name);
    fs::create_dir(&disk).unwrap();
    let size = format!("size={mebibytes}m");
    machine.run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", disk.to_str().unwrap()]);
    for place in places {
        let part = disk.join(place.replace('/', "-"));
        let target = machine.path(place);
        let (part, target) = (part.to_str().unwrap(), target.to_str().unwrap());
        machine.run("mkdir", &["-p", part, target]);
        machine.run("mount", &["--bind", part, target]);
    }
}

/// Fills a disk to its last byte, but for `left` bytes.
fn fill(machine: &Machine, disk: &str, left: u32) {
    let ballast = machine.path(disk).join("ballast");
    let ballast = ballast.display();
    // It ends with an error, when the disk is full.
    machine.try_run("sh", &["-c", &format!("cat /dev/zero > {ballast} 2>/dev/null")]);
    machine.run("sh", &["-c", &format!("truncate -s -{left} {ballast}")]);
}

fn make_room(machine: &Machine, disk: &str) {
    fs::remove_file(machine.seen(disk).join("ballast")).unwrap();
}

/// An image with a layer of so many bytes that do not compress.
fn push_fat_image(machine: &Machine, mebibytes: usize) {
    let archive = machine.path("fat.tar");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/example-image.sh");
    let make = format!(
        "head -c {mebibytes}M /dev/urandom > ballast-program && chmod +x ballast-program && \
         PATH=.:$PATH {script} {} docker.io/library/fat:1 ballast-program",
        archive.display()
    );
    machine.run("sh", &["-c", &format!("cd {} && {make}", machine.path("").display())]);
    super::push::Image::of_docker_archive(&archive).push(machine, "fat", "1");
}

#[test]
fn a_full_disk_ends_nothing_and_is_told_of() {
    let mut machine = Machine::apart();
    mount_disk(&machine, "disk", 64, &["data/agent", "logs"]);
    machine.start_registry(&["1", "2"]);
    push_fat_image(&machine, 24);
    machine.start();
    let server = machine.server_pid();
    let data = machine.path("data");
    let image = |action: &str| {
        let words =
            ["image", action, "127.0.0.1:5000/hello:2", "--data-dir", data.to_str().unwrap()];
        let output = machine.kinglet(&words);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    image("pull");
    machine.apply(&SETTINGS.replace("COLOR", "blue"));
    machine.apply(&manifest("before", "hello:1"));
    machine.apply(&manifest("goes", "hello:1"));
    machine.eventually("pods run", || is_ready(&machine, "before") && is_ready(&machine, "goes"));

    // Room for the beginning of an image.
    fill(&machine, "disk", 12 << 20);
    machine.apply(&manifest("fat", "fat:1"));
    machine.eventually("the image does not fit, and that is said", || {
        let told = events(&machine, "fat", "Failed");
        told.contains("127.0.0.1:5000/fat:1") && told.contains("no room on the disk")
    });
    let is_empty = |name: &str| {
        let entries = fs::read_dir(machine.seen("data/agent").join(name)).into_iter().flatten();
        entries.count() == 0
    };
    machine.eventually("no half of it stays", || {
        is_empty("snapshots/new") && is_empty("content/partial")
    });

    fill(&machine, "disk", 0);
    machine.apply(&SETTINGS.replace("COLOR", "green"));
    machine.apply(&manifest("late", "hello:1"));
    machine.eventually("what cannot be written is told of", || {
        let late = events(&machine, "late", "Failed") + &events(&machine, "late", "FailedMount");
        let late = late + &events(&machine, "late", "FailedCreatePodSandBox");
        let update = events(&machine, "before", "FailedMount");
        [late, update].iter().all(|told| told.contains("No space left on device"))
    });
    let color = || machine.kubectl(&["exec", "before", "--", "cat", "/settings/color"]);
    assert_eq!(color(), "blue", "the old file is there as a whole");
    // Whoever wants room gets rid of pods and images.
    image("rm");
    machine.kubectl(&["delete", "pod", "goes", "--timeout=60s"]);

    make_room(&machine, "disk");
    machine.eventually("everything goes on", || {
        ["before", "late", "fat"].iter().all(|name| is_ready(&machine, name))
    });
    machine.eventually("the update has come", || color() == "green");
    let lines = || machine.kubectl(&["logs", "before"]).lines().count();
    let known = lines();
    machine.eventually("the log goes on", || lines() > known + 3);
    let log = machine.kubectl(&["logs", "before"]);
    let torn: Vec<_> =
        log.lines().filter(|line| *line != "a line that is always the same").collect();
    assert_eq!(torn, Vec::<&str>::new(), "every line is whole");
    assert!(!machine.has_ended() && machine.server_pid() == server, "the server has ended");
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

#[test]
fn a_server_whose_disk_is_full_reads_on_and_recovers() {
    let mut machine = Machine::apart();
    mount_disk(&machine, "disk", 48, &["data/server"]);
    machine.start_registry(&["1"]);
    machine.start();
    let server = machine.server_pid();
    machine.apply(&SETTINGS.replace("COLOR", "blue"));
    machine.apply(&manifest("before", "hello:1"));
    machine.eventually("the pod runs", || is_ready(&machine, "before"));
    fill(&machine, "disk", 0);
    // What fits into what the store has already is written.
    let large = machine.path("large");
    fs::write(&large, "x".repeat(500_000)).unwrap();
    let mut refused = String::new();
    for number in 0..200 {
        let name = format!("large-{number}");
        let literal = format!("--from-file={}", large.display());
        let output = machine.try_run("kubectl", &["create", "configmap", &name, &literal]);
        if !output.status.success() {
            refused = String::from_utf8(output.stderr).unwrap();
            break;
        }
    }
    assert!(refused.contains("the disk that holds the store is full"), "{refused}");
    let shown = machine.kubectl(&["get", "configmap", "settings", "-o", "jsonpath={.data.color}"]);
    assert_eq!(shown, "blue");
    assert_eq!(machine.kubectl(&["exec", "before", "--", "cat", "/settings/color"]), "blue");
    make_room(&machine, "disk");
    machine.apply(&SETTINGS.replace("COLOR", "green"));
    machine.apply(&manifest("late", "hello:1"));
    machine.eventually("the next pod runs", || is_ready(&machine, "late"));
    assert!(!machine.has_ended() && machine.server_pid() == server, "the server has ended");
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
