//! A Deployment of three, from a registry to nothing left, as the issue that asked for it tells it.

use super::leftovers::{Traces, of_pods, vanish};
use super::machine::Machine;
use super::old_kubectl;
use nix::sys::signal::Signal;
use serde_json::Value;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{containerPort: 8080}]
";

struct Web<'a>(&'a Machine);

impl Web<'_> {
    fn pods(&self) -> Vec<Value> {
        let list = self.0.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        let pods = list["items"].as_array().unwrap().clone();
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    fn rolled_out(&self) {
        self.0.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    }

    /// Every pod runs `image` and answers at its own address.
    fn answers_from(&self, image: &str, count: usize) {
        self.0.eventually("as many pods as wanted", || self.pods().len() == count);
        let mut addresses = std::collections::BTreeSet::new();
        for pod in self.pods() {
            assert_eq!(pod["spec"]["containers"][0]["image"], image);
            let address = pod["status"]["podIP"].as_str().unwrap().to_owned();
            let place = format!("{address}:8080");
            self.0.eventually("a pod answers at its address", || {
                let answer = self.0.get(&place, "/");
                answer.is_some_and(|answer| answer.text().contains("Hello"))
            });
            addresses.insert(address);
        }
        assert_eq!(addresses.len(), count);
    }
}

#[test]
fn a_deployment_lives_and_leaves_nothing() {
    let mut machine = Machine::new();
    machine.start_registry(&["1", "2"]);
    machine.start();
    machine.apply(DEPLOYMENT);
    let web = Web(&machine);
    web.rolled_out();
    web.answers_from("127.0.0.1:5000/hello:1", 3);
    is_shown(&machine);
    logs_follow(&machine);
    a_killed_container_comes_back(&web);
    old_kubectl::works(&machine);

    machine.kubectl(&["scale", "deployment/web", "--replicas=5"]);
    web.rolled_out();
    web.answers_from("127.0.0.1:5000/hello:1", 5);
    machine.kubectl(&["scale", "deployment/web", "--replicas=2"]);
    web.answers_from("127.0.0.1:5000/hello:1", 2);
    machine.kubectl(&["set", "image", "deployment/web", "web=127.0.0.1:5000/hello:2"]);
    web.rolled_out();
    web.answers_from("127.0.0.1:5000/hello:2", 2);
    let history = machine.kubectl(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    machine.kubectl(&["rollout", "undo", "deployment/web"]);
    web.rolled_out();
    web.answers_from("127.0.0.1:5000/hello:1", 2);

    machine.kubectl(&["delete", "deployment", "web", "--timeout=60s"]);
    let pods = &["get", "pods", "-l", "app=web", "-o", "name"];
    machine.eventually("its pods are gone", || machine.kubectl(pods).is_empty());
    nothing_is_left(&machine);
    machine.stop(Signal::SIGTERM);
    machine.killall();
    let interfaces = machine.run("ip", &["-o", "link"]);
    assert!(!interfaces.contains("kinglet0"), "{interfaces}");
    let run = kinglet::daemon::Layout::of(&machine.path("data")).run();
    assert_eq!(Traces::of(&[run.to_str().unwrap()]), Traces::default());
}

fn is_shown(machine: &Machine) {
    let show = |arguments: &[&str], expected: &[&str]| {
        let shown = machine.kubectl(arguments);
        for word in expected {
            assert!(shown.contains(word), "{arguments:?} without {word:?}:\n{shown}");
        }
    };
    show(&["get", "deploy"], &["READY", "UP-TO-DATE", "AVAILABLE", "3/3"]);
    show(&["get", "pods", "-o", "wide"], &["READY", "STATUS", "IP", "NODE", "1/1", "Running"]);
    show(&["get", "rs", "-o", "name"], &["replicaset.apps/web-"]);
    show(&["get", "deploy", "web", "-o", "yaml"], &["readyReplicas: 3"]);
    show(&["get", "pods", "-o", "custom-columns=N:.metadata.name"], &["web-"]);
    show(&["get", "nodes", "-o", "wide"], &["Ready", "192.0.2.10"]);
    show(&["get", "all", "-A"], &["deployment.apps/web", "service/kubernetes"]);
    show(
        &["describe", "deployment", "web"],
        &["RollingUpdate", "ScalingReplicaSet", "NewReplicaSet"],
    );
    show(&["describe", "pods"], &["Scheduled", "Pulled", "Started", "hello:1"]);
    show(&["get", "events"], &["Successfully assigned"]);
    show(&["api-resources"], &["deployments", "deploy", "apps/v1"]);
}

fn logs_follow(machine: &Machine) {
    machine.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: talker
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done']
",
    );
    // `kubectl wait` for a field came after Debian 12's kubectl, which is all that a fresh host has.
    let shows = |path: &str| machine.kubectl(&["get", "pod", "talker", "-o", path]);
    machine.eventually("the container has begun", || {
        !shows("jsonpath={.status.containerStatuses[0].containerID}").is_empty()
    });
    let followed = machine.kubectl(&["logs", "-f", "talker"]);
    assert_eq!(followed, "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(machine.kubectl(&["logs", "talker", "--tail=2"]), "line 4\nline 5\n");
    machine.eventually("the pod has ended", || shows("jsonpath={.status.phase}") == "Succeeded");
    machine.kubectl(&["delete", "pod", "talker", "--timeout=60s"]);
}

fn a_killed_container_comes_back(web: &Web<'_>) {
    let pod = web.pods().remove(0);
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    let victim = process_of(&uid);
    nix::sys::signal::kill(victim, Signal::SIGKILL).unwrap();
    web.0.eventually("the container is restarted", || {
        let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
        web.0.kubectl(&["get", "pod", &name, "-o", restarts]) == "1"
    });
    let ready = "--for=condition=Ready";
    web.0.kubectl(&["wait", ready, &format!("pod/{name}"), "--timeout=60s"]);
    let last = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(web.0.kubectl(&["get", "pod", &name, "-o", last]), "137");
}

/// The first process in the pod's cgroup: its names have the pod's uid in them.
fn process_of(uid: &str) -> nix::unistd::Pid {
    let underscored = uid.replace('-', "_");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if cgroup.contains(uid) || cgroup.contains(&underscored) {
            return nix::unistd::Pid::from_raw(pid);
        }
    }
    panic!("no process of pod {uid}");
}

fn nothing_is_left(machine: &Machine) {
    vanish(machine, || of_pods(machine));
    let interfaces = machine.run("ip", &["-o", "link", "show", "master", "kinglet0"]);
    assert_eq!(interfaces, "", "interfaces are left");
}
