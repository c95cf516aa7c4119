//! StatefulSets, DaemonSets and ReplicationControllers as kubectl shows and rolls them.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: 127.0.0.1:5000/hello:1
        command: [sh, -c, 'hostname >> /data/names; cat /data/names; exec sleep 1000']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: log}
spec:
  selector: {matchLabels: {app: log}}
  template:
    metadata: {labels: {app: log}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: log, image: '127.0.0.1:5000/hello:1'}]
---
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: old}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: old, image: '127.0.0.1:5000/hello:1'}]
";

fn pods(machine: &Machine, app: &str) -> Vec<Value> {
    let list = machine.kubectl(&["get", "pods", "-l", &format!("app={app}"), "-o", "json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn images(machine: &Machine, app: &str) -> Vec<String> {
    let image = |pod: Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    pods(machine, app).into_iter().map(image).collect()
}

/// Rolls a new image out and back, as users do it.
fn rolls(machine: &Machine, workload: &str, app: &str) {
    machine.kubectl(&["set", "image", workload, &format!("{app}=127.0.0.1:5000/hello:2")]);
    machine.kubectl(&["rollout", "status", workload, "--timeout=90s"]);
    assert!(images(machine, app).iter().all(|image| image.ends_with(":2")));
    let history = machine.kubectl(&["rollout", "history", workload]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    let first = machine.kubectl(&["rollout", "history", workload, "--revision=1"]);
    assert!(first.contains("hello:1"), "{first}");
    machine.kubectl(&["rollout", "undo", workload, "--to-revision=1"]);
    machine.kubectl(&["rollout", "status", workload, "--timeout=90s"]);
    assert!(images(machine, app).iter().all(|image| image.ends_with(":1")));
    let history = machine.kubectl(&["rollout", "history", workload]);
    assert!(history.contains("\n2 ") && history.contains("\n3 "), "{history}");
    machine.kubectl(&["rollout", "restart", workload]);
    machine.kubectl(&["rollout", "status", workload, "--timeout=90s"]);
}

#[test]
fn workloads_of_every_kind_roll_out_and_back() {
    let mut machine = Machine::new();
    machine.start_registry(&["1", "2"]);
    machine.start();
    machine.apply(MANIFEST);
    for workload in ["statefulset/db", "daemonset/log"] {
        machine.kubectl(&["rollout", "status", workload, "--timeout=90s"]);
    }
    let names: Vec<_> =
        pods(&machine, "db").iter().map(|pod| pod["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["db-0", "db-1"]);
    rolls(&machine, "statefulset/db", "db");
    rolls(&machine, "daemonset/log", "log");
    // The pod of each time has found what those before it wrote.
    let seen = || machine.kubectl(&["logs", "db-0"]);
    machine.eventually("it has them all", || seen() == "db-0\n".repeat(4));

    let show = |arguments: &[&str], expected: &[&str]| {
        let shown = machine.kubectl(arguments);
        for word in expected {
            assert!(shown.contains(word), "{arguments:?} without {word:?}:\n{shown}");
        }
    };
    show(&["get", "sts"], &["READY", "2/2"]);
    show(&["get", "ds"], &["DESIRED", "UP-TO-DATE", "log"]);
    show(&["describe", "sts", "db"], &["SuccessfulCreate", "Volume Claims", "2 Running"]);
    show(&["describe", "ds", "log"], &["SuccessfulCreate", "Pods Status"]);
    show(&["get", "controllerrevisions"], &["statefulset.apps/db", "daemonset.apps/log"]);
    show(&["get", "pvc"], &["data-db-0", "data-db-1", "Bound"]);
    machine.kubectl(&["scale", "rc/old", "--replicas=2"]);
    machine.eventually("two pods", || pods(&machine, "old").len() == 2);
    machine.kubectl(&["scale", "sts/db", "--replicas=1"]);
    machine.eventually("one pod", || pods(&machine, "db").len() == 1);
    machine.kubectl(&["delete", "sts/db", "ds/log", "rc/old", "--timeout=60s"]);
    for app in ["db", "log", "old"] {
        machine.eventually("all pods are gone", || pods(&machine, app).is_empty());
    }
    show(&["get", "pvc"], &["data-db-0", "data-db-1"]);
    machine.kubectl(&["delete", "pvc", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
