//! A server is saved while it works, lost, and there again: elsewhere, and as of before a mistake.

use super::machine::{Machine, executable};
use http::Method;
use kinglet::client::remote::Remote;
use kinglet::client::{Client, Content, Kubeconfig};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// So many writes are acknowledged before and while a backup is made.
const WRITES: usize = 50;

/// A machine with a server, and no node: nothing here is about pods.
fn machine(name: &'static str, address: &'static str) -> Machine {
    let mut machine = Machine::at(address);
    machine.name = name;
    machine.further = vec!["--disable", "agent"];
    machine
}

fn start(machine: &mut Machine) {
    machine.spawn_server();
    machine.eventually("the server answers", || machine.asked("/readyz").is_some());
}

/// `kinglet backup` of a machine.
fn backup(machine: &Machine, words: &[&str]) -> Output {
    let (data, fault) = (machine.path("data"), machine.path("fault"));
    let fault = format!("KINGLET_FAULT_FILE={}", fault.display());
    let executable = executable();
    let common = ["--config", "/dev/null", "--data-dir", data.to_str().unwrap()];
    let all = [&[fault.as_str(), &executable, "backup"], words, &common].concat();
    machine.try_run("env", &all)
}

#[track_caller]
fn done(machine: &Machine, words: &[&str]) -> String {
    let output = backup(machine, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(machine: &Machine, words: &[&str]) -> String {
    let output = backup(machine, words);
    assert!(!output.status.success(), "{words:?} was not refused");
    String::from_utf8(output.stderr).unwrap()
}

/// Makes a backup; says where it is.
#[track_caller]
fn save(machine: &Machine) -> PathBuf {
    let text = done(machine, &["save", "--node-name", machine.name]);
    PathBuf::from(text.lines().next().unwrap())
}

fn listed(machine: &Machine) -> Vec<Value> {
    serde_json::from_str(&done(machine, &["ls", "-o", "json"])).unwrap()
}

fn names(machine: &Machine) -> BTreeSet<String> {
    let list: Value = serde_json::from_slice(&machine.asked(CONFIG_MAPS).unwrap()).unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn revision(machine: &Machine) -> u64 {
    let list: Value = serde_json::from_slice(&machine.asked(CONFIG_MAPS).unwrap()).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Creates objects one after another until it is enough; their names, as they were acknowledged.
fn write(machine: &Machine, acknowledged: &AtomicUsize, enough: &AtomicBool) {
    let kubeconfig = Kubeconfig::read(&machine.path("kinglet.yaml")).unwrap();
    let service = Arc::new(Remote::new(&kubeconfig).unwrap());
    machine.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::new(service, "test");
            while !enough.load(Ordering::Relaxed) {
                let number = acknowledged.load(Ordering::Relaxed);
                let name = format!("w-{number}");
                let object = json!({"metadata": {"name": name}, "data": {"a": "b".repeat(1_000)}});
                let object = Some(Content::json(&object));
                client.request(Method::POST, CONFIG_MAPS, object).await.unwrap();
                acknowledged.store(number + 1, Ordering::Relaxed);
            }
        });
    });
}

/// Makes a backup in the midst of writes. Says where it is and how many had been acknowledged before.
fn save_under_load(machine: &Machine) -> (PathBuf, usize) {
    let (acknowledged, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let count = || acknowledged.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let _end = Enough(&enough);
        scope.spawn(|| write(machine, &acknowledged, &enough));
        machine.eventually("there are writes", || count() > WRITES);
        let before = count();
        let path = save(machine);
        let saved = count();
        machine.eventually("writes go on", || count() > saved + WRITES);
        (path, before)
    })
}

/// Has the writer end, also where the test fails.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a watch from `revision` on is told.
fn watch(machine: &Machine, revision: u64) -> String {
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={revision}");
    let output = machine.try_run("kubectl", &["get", "--raw", &path]);
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8(said).unwrap()
}

fn is_gone(told: &str) -> bool {
    told.contains("too old resource version") || told.contains("410")
}

#[test]
fn a_server_that_is_lost_comes_back_on_another_machine() {
    let mut old = machine("one", "192.0.2.10");
    start(&mut old);
    // A controller makes the account.
    let ask = || old.try_run("kubectl", &["create", "token", "default"]);
    old.eventually("there is an account", || ask().status.success());
    let token = String::from_utf8(ask().stdout).unwrap();
    let (file, before) = save_under_load(&old);
    let newest = revision(&old);
    old.stop(Signal::SIGKILL);
    let mut new = machine("two", "192.0.2.20");
    let kept = new.path("kept.tar.zst");
    std::fs::copy(&file, &kept).unwrap();
    let admin = new.path("old-admin.yaml");
    std::fs::copy(old.path("kinglet.yaml"), &admin).unwrap();
    drop(old);
    done(&new, &["restore", kept.to_str().unwrap()]);
    start(&mut new);
    let names = names(&new);
    for number in 0..before {
        assert!(names.contains(&format!("w-{number}")), "w-{number} of {before} is lost");
    }
    // The new address is in the server's certificate, and everybody who was known still is.
    let server = "--server=https://192.0.2.20:6443";
    let admin = format!("--kubeconfig={}", admin.display());
    new.kubectl(&[&admin, server, "get", "namespaces"]);
    new.kubectl(&[server, "get", "namespaces"]);
    let token = format!("--token={}", token.trim());
    let new_config = format!("--kubeconfig={}", anonymous(&new).display());
    let whoami = new.kubectl(&[&new_config, server, &token, "auth", "whoami"]);
    assert!(whoami.contains("system:serviceaccount:default:default"), "{whoami}");
    // Who watched the lost one lists again, and no revision comes twice.
    for known in [newest - 1, newest] {
        let told = watch(&new, known);
        assert!(is_gone(&told), "{known}: {told}");
    }
    assert!(revision(&new) > newest + 900_000_000);
    let told = watch(&new, revision(&new));
    assert!(!is_gone(&told), "{told}");
    new.kubectl(&["create", "configmap", "after"]);
    new.stop(Signal::SIGTERM);
}

/// A kubeconfig that trusts the server and says nothing about who asks.
fn anonymous(machine: &Machine) -> PathBuf {
    let text = std::fs::read_to_string(machine.path("kinglet.yaml")).unwrap();
    let lines = text.lines().filter(|line| !line.contains("client-"));
    let path = machine.path("anonymous.yaml");
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    path
}

#[test]
fn a_server_goes_back_to_before_a_mistake() {
    let mut machine = machine("one", "192.0.2.10");
    start(&mut machine);
    machine.kubectl(&["create", "configmap", "precious"]);
    let file = save(&machine);
    machine.kubectl(&["delete", "configmap", "precious"]);
    let lost = revision(&machine);
    let name = file.file_name().unwrap().to_str().unwrap();
    let told = refused(&machine, &["restore", name, "--force"]);
    assert!(told.contains("in use by another process"), "{told}");
    machine.stop(Signal::SIGTERM);
    let told = refused(&machine, &["restore", name]);
    assert!(told.contains("--force"), "{told}");
    let told = done(&machine, &["restore", name, "--force"]);
    assert!(told.contains("server.before-restore-"), "{told}");
    start(&mut machine);
    assert!(names(&machine).contains("precious"));
    assert!(is_gone(&watch(&machine, lost)));
    assert_eq!(listed(&machine).len(), 1, "the backup is where it was");
    machine.stop(Signal::SIGTERM);
}

#[test]
fn a_server_makes_backups_when_they_are_due() {
    let mut machine = machine("one", "192.0.2.10");
    machine.further.extend(["--backup-schedule", "@every 1s", "--backup-retention", "2"]);
    start(&mut machine);
    // One at a time makes backups, and the server may be at it.
    machine.eventually("one is made by hand", || {
        backup(&machine, &["save", "--node-name", machine.name]).status.success()
    });
    let by_hand = |all: &[Value]| all.iter().find(|it| it["trigger"] == "command").cloned();
    let own = by_hand(&listed(&machine)).unwrap();
    let own = PathBuf::from(own["path"].as_str().unwrap());
    let seen = std::cell::RefCell::new(BTreeSet::new());
    machine.eventually("several were made", || {
        let all = listed(&machine);
        let scheduled = all.iter().filter(|it| it["trigger"] == "schedule");
        let names: Vec<_> = scheduled.map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        // The third is there for a moment before the first goes.
        assert!(names.len() <= 3, "{names:?}");
        seen.borrow_mut().extend(names);
        seen.borrow().len() >= 4
    });
    machine.stop(Signal::SIGTERM);
    assert!(own.exists(), "what was made by hand stays");
    let left = std::fs::read_dir(own.parent().unwrap()).unwrap().flatten();
    let is_odd = |name: &String| !name.starts_with("kinglet-") && name != ".kinglet-backup.lock";
    let names = left.map(|it| it.file_name().into_string().unwrap());
    let odd: Vec<_> = names.filter(is_odd).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

/// The points of making and restoring backups: see [`super::faults`].
fn points(prefix: &str) -> Vec<String> {
    let of = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/daemon/backup").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let text = of("save.rs") + &of("restore.rs");
    let calls = text.split("fault::point(\"").skip(1);
    let names = calls.map(|rest| rest.split('"').next().unwrap().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

#[test]
fn whatever_a_backup_is_killed_at_nothing_is_half_made() {
    let mut machine = machine("one", "192.0.2.10");
    start(&mut machine);
    machine.kubectl(&["create", "configmap", "precious"]);
    let mut made = 0;
    let points = points("backup: ");
    assert_eq!(points.len(), 3, "{points:?}");
    for point in points {
        std::fs::write(machine.path("fault"), &point).unwrap();
        refused(&machine, &["save"]);
        assert!(!machine.path("fault").exists(), "nobody comes by {point}");
        made += usize::from(point == "backup: named");
        let all = listed(&machine);
        assert_eq!(all.len(), made, "after {point}");
        save(&machine);
        made += 1;
        let left = std::fs::read_dir(machine.path("data/server/backups")).unwrap().count();
        assert_eq!(left, made + 1, "the backups and the lock, after {point}");
    }
    let file = save(&machine);
    machine.stop(Signal::SIGTERM);
    for point in self::points("restore: ") {
        std::fs::write(machine.path("fault"), &point).unwrap();
        refused(&machine, &["restore", file.to_str().unwrap(), "--force"]);
        assert!(!machine.path("fault").exists(), "nobody comes by {point}");
        start(&mut machine);
        assert!(names(&machine).contains("precious"), "after {point}");
        machine.stop(Signal::SIGTERM);
        // Where the backups are when it ended before they were brought back.
        let beside = std::fs::read_dir(machine.path("data")).unwrap().flatten();
        let mut places: Vec<_> = beside.map(|it| it.path().join("backups")).collect();
        places.retain(|place| place.exists());
        assert_eq!(places.len(), 1, "{places:?}");
        std::fs::rename(&places[0], machine.path("backups")).unwrap();
        std::fs::rename(machine.path("backups"), file.parent().unwrap()).unwrap();
    }
    done(&machine, &["restore", file.to_str().unwrap(), "--force"]);
    assert!(!machine.path("data/server.restoring").exists());
}
