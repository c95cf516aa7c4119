//! kill -9 of the server between any two steps of making and removing a pod: nothing runs twice, and
//! nothing stays.
//!
//! The steps are the fault points in the source (`stdx::fault`): all of them are tried, whoever adds
//! one, and one that no pod of this test comes by fails it.

use super::leftovers::of_pods;
use super::machine::{Machine, deadline};
use kinglet::stdx::monotonic;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// So many points are tried side by side, each on a machine of its own.
const MACHINES: usize = 3;

/// One pod with something of everything that has to be made and removed, and one that must run once.
/// `OUT` is where the latter says that it has.
const PODS: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  shareProcessNamespace: true
  tolerations: [{operator: Exists}]
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data}}
  - {name: settings, configMap: {name: settings}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - name: main
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo x >> /data/starts; exec sleep 1001']
    ports: [{containerPort: 80, hostPort: 18080}]
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /part, subPath: part}
    - {name: settings, mountPath: /settings}
    - {name: memory, mountPath: /memory}
  - name: side
    image: '127.0.0.1:5000/hello:1'
    command: [sleep, '1002']
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  tolerations: [{operator: Exists}]
  volumes:
  - {name: out, hostPath: {path: OUT, type: DirectoryOrCreate}}
  containers:
  - name: main
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo ran >> /out/runs']
    volumeMounts: [{name: out, mountPath: /out}]
";

/// All names that are given to `fault::point` in the source, but those of backups, which no pod comes
/// by: see [`super::backup`].
fn points() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let calls = text.split("fault::point(\"").skip(1);
                found.extend(calls.map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    found.retain(|point| !point.starts_with("backup: ") && !point.starts_with("restore: "));
    found
}

#[test]
fn wherever_the_server_is_killed_nothing_runs_twice_and_nothing_stays() {
    let points = points();
    assert!(points.len() > 30, "{points:?}");
    let queue = Mutex::new(VecDeque::from_iter(points));
    std::thread::scope(|scope| {
        for _ in 0..MACHINES {
            scope.spawn(|| {
                let mut machine = Machine::new();
                machine.start_registry(&["1"]);
                machine.start();
                loop {
                    let Some(point) = queue.lock().unwrap().pop_front() else { break };
                    Trial { machine: &mut machine, point: &point }.run();
                }
                machine.stop(Signal::SIGTERM);
                machine.killall();
            });
        }
    });
}

struct Trial<'a> {
    machine: &'a mut Machine,
    point: &'a str,
}

impl Trial<'_> {
    fn run(&mut self) {
        let since = monotonic();
        let point = self.point;
        if point.starts_with("image:") {
            self.forget_image();
        }
        let out = self.machine.path(&point.replace([':', ' '], "-"));
        let armed = self.machine.path("fault");
        fs::write(armed.with_extension("new"), point).unwrap();
        fs::rename(armed.with_extension("new"), &armed).unwrap();
        let manifest = PODS.replace("OUT", out.to_str().unwrap());
        let path = self.machine.path("pods.yaml");
        fs::write(&path, manifest).unwrap();
        let path = path.to_str().unwrap().to_owned();
        self.until("the manifest is applied", move |machine| {
            machine.try_run("kubectl", &["apply", "-f", &path]).status.success()
        });
        // The server may be killed as soon as they have.
        let come = RefCell::default();
        self.until("the pods have come where they should", |machine| {
            let pods = pods(machine);
            let have_come = is_ready(&pods, "steady") && is_over(&pods, "once");
            come.replace(pods);
            have_come
        });
        self.check_runs(&out, &come.into_inner());
        self.until("the deletion is asked for", |machine| {
            let words = ["delete", "pod,pvc,configmap", "--all", "--wait=false"];
            machine.try_run("kubectl", &words).status.success()
        });
        self.until("all objects are gone", |machine| {
            let none = |path| items(machine, path).is_some_and(|items| items.is_empty());
            none("/api/v1/namespaces/default/pods") && none("/api/v1/persistentvolumes")
        });
        self.until("nothing is left", |machine| left(machine).is_empty());
        assert!(!armed.exists(), "{point}: no pod came by here; were the points compiled in?");
        eprintln!("{point}: {:?}", monotonic().duration_since(since));
    }

    fn forget_image(&mut self) {
        let data = self.machine.path("data");
        let words = ["image", "rm", "127.0.0.1:5000/hello:1", "--data-dir", data.to_str().unwrap()];
        // It may not be here yet.
        self.machine.kinglet(&words);
    }

    /// Waits, and starts the server again when it has been killed.
    #[track_caller]
    fn until(&mut self, what: &str, holds: impl Fn(&Machine) -> bool) {
        let end = monotonic() + deadline();
        while !holds(self.machine) {
            if self.machine.has_ended() {
                let is_armed = self.machine.path("fault").exists();
                assert!(!is_armed, "{}: the server ended by itself", self.point);
                self.machine.start();
            }
            if monotonic() > end {
                let left = left(self.machine);
                let pods = serde_json::to_string_pretty(&pods(self.machine)).unwrap();
                let log = self.machine.server_log();
                let (point, within) = (&self.point, deadline());
                panic!("{point}: not in {within:?}: {what}\n{left:#?}\n{pods}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One process each, one shim, and as many starts as the status tells of.
    fn check_runs(&mut self, out: &Path, pods: &[Value]) {
        let point = self.point;
        let runs = fs::read_to_string(out.join("runs")).unwrap_or_default().lines().count();
        assert!(runs <= 1, "{point}: the pod that never restarts ran {runs} times");
        let succeeded = pod(pods, "once")["status"]["phase"] == "Succeeded";
        assert_eq!(succeeded, runs == 1, "{point}: {pods:#?}");
        for entry in fs::read_dir(self.machine.path("data/storage")).unwrap() {
            let starts = fs::read_to_string(entry.unwrap().path().join("starts")).unwrap();
            let statuses = pod(pods, "steady")["status"]["containerStatuses"].clone();
            let restarts = statuses[0]["restartCount"].as_u64().unwrap();
            let starts = starts.lines().count() as u64;
            // A container whose start was interrupted counts, as upstream's do.
            let is_told = (restarts..=restarts + 1).contains(&starts) && restarts <= 1;
            assert!(is_told, "{point}: {starts} starts, {restarts} restarts");
        }
        self.until("the pod that has ended has no shim", |machine| {
            count(machine, "containerd-shim-") == 1
        });
        let counts = |machine: &Machine| {
            ["sleep 1001", "sleep 1002", "pod-pause"].map(|it| count(machine, it))
        };
        // A container runs from the moment in which it has a process, before that is its program.
        self.until("what is to run runs", |machine| counts(machine).iter().all(|it| *it >= 1));
        assert_eq!(counts(self.machine), [1, 1, 1], "{point}: {:#?}", of_pods(self.machine));
    }
}

/// How many processes of the machine's pods have `word` in their command line.
fn count(machine: &Machine, word: &str) -> usize {
    of_pods(machine).processes.iter().filter(|line| line.contains(word)).count()
}

fn items(machine: &Machine, path: &str) -> Option<Vec<Value>> {
    let list: Value = serde_json::from_slice(&machine.asked(path)?).ok()?;
    list["items"].as_array().cloned()
}

fn pods(machine: &Machine) -> Vec<Value> {
    items(machine, "/api/v1/namespaces/default/pods").unwrap_or_default()
}

fn pod<'a>(pods: &'a [Value], name: &str) -> &'a Value {
    pods.iter().find(|pod| pod["metadata"]["name"] == name).unwrap_or(&Value::Null)
}

fn is_ready(pods: &[Value], name: &str) -> bool {
    let conditions = pod(pods, name)["status"]["conditions"].as_array().cloned();
    let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    conditions.unwrap_or_default().iter().any(is_ready)
}

fn is_over(pods: &[Value], name: &str) -> bool {
    let phase = pod(pods, name)["status"]["phase"].as_str();
    phase.is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
}

/// What there still is of pods: processes, mounts, cgroups, interfaces, rules, files.
fn left(machine: &Machine) -> Vec<String> {
    let traces = of_pods(machine);
    let mut found: Vec<_> =
        [traces.processes, traces.mounts, traces.cgroups].into_iter().flatten().collect();
    let run = kinglet::daemon::Layout::of(&machine.path("data")).run();
    let data = machine.path("data");
    for directory in [
        run.join("sandboxes"),
        run.join("tmp"),
        run.join("oci/k8s.io"),
        run.join("network"),
        run.join("volumes"),
        data.join("agent/sandboxes"),
        data.join("agent/pods"),
        data.join("agent/snapshots/containers"),
        data.join("agent/snapshots/new"),
        data.join("agent/content/partial"),
        data.join("storage"),
        machine.path("logs"),
    ] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        found.extend(entries.map(|entry| entry.path().display().to_string()));
    }
    let interfaces = machine.run("ip", &["-o", "link"]);
    found.extend(interfaces.lines().filter(|line| line.contains("veth")).map(str::to_owned));
    let rules = machine.run("nft", &["list", "ruleset"]);
    found.extend(rules.lines().filter(|line| line.contains("18080")).map(str::to_owned));
    found
}
