//! The plug is pulled and the machine starts again: pods come up again from what is on disk, those that
//! were over stay so, nothing of the old running time is taken for something of the new.

use super::leftovers::{of_pods, vanish};
use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

const PODS: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  initContainers:
  - name: first
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo init >> /data/log']
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: main
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo start >> /data/log; echo x >> /own/x; echo x >> /memory/x; echo said $HOSTNAME; exec sleep 1000']
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: own, mountPath: /own}
    - {name: memory, mountPath: /memory}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: data}}
  - {name: own, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
---
apiVersion: v1
kind: Pod
metadata: {name: over}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: '127.0.0.1:5000/hello:1', command: [sh, -c, 'echo its last words']}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: '127.0.0.1:5000/hello:1', command: [sleep, '1000']}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 4
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: web
        image: '127.0.0.1:5000/hello:1'
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
";

fn pods(machine: &Machine) -> Vec<Value> {
    let body = machine.asked("/api/v1/namespaces/default/pods").unwrap_or_default();
    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

fn pod(machine: &Machine, name: &str) -> Value {
    let found = pods(machine).into_iter().find(|pod| pod["metadata"]["name"] == name);
    found.unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// So many of the pods that go on are ready with so many restarts.
fn steady(machine: &Machine, restarts: u64) -> usize {
    let pods = pods(machine);
    let of_app = pods.iter().filter(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap();
        name == "steady" || name.starts_with("many-")
    });
    of_app
        .filter(|pod| {
            is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == restarts
        })
        .count()
}

#[test]
fn after_a_reboot_everything_comes_up_again() {
    let mut machine = Machine::apart();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    machine.eventually("all pods are where they should be", || {
        steady(&machine, 0) == 5
            && pod(&machine, "over")["status"]["phase"] == "Succeeded"
            && pod(&machine, "once")["status"]["phase"] == "Running"
    });
    let names: BTreeSet<_> =
        pods(&machine).iter().map(|it| it["metadata"]["uid"].to_string()).collect();

    machine.reboot();
    machine.start();
    machine.eventually("all pods are there again", || {
        steady(&machine, 1) == 5 && pod(&machine, "once")["status"]["phase"] == "Failed"
    });
    let after = pods(&machine);
    let same: BTreeSet<_> = after.iter().map(|it| it["metadata"]["uid"].to_string()).collect();
    assert_eq!(names, same, "the pods are the same ones");

    for (name, state) in [("steady", "lastState"), ("once", "state")] {
        let pod = pod(&machine, name);
        let ended = &pod["status"]["containerStatuses"][0][state]["terminated"];
        assert_eq!(ended["exitCode"], 255, "{pod:#}");
        assert_eq!(ended["message"], "the node was restarted", "{pod:#}");
    }
    let over = pod(&machine, "over");
    assert_eq!(over["status"]["phase"], "Succeeded");
    assert_eq!(over["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(machine.kubectl(&["logs", "over"]), "its last words\n");
    assert_eq!(machine.kubectl(&["logs", "steady", "--previous"]), "said steady\n");
    let events =
        machine.kubectl(&["get", "events", "--field-selector", "involvedObject.name=steady"]);
    assert!(events.contains("Pod sandbox changed, it will be killed and re-created."), "{events}");

    // What is on disk stays, what is in memory does not.
    let shown = "cat /data/log /own/x; echo -; cat /memory/x";
    let said = machine.kubectl(&["exec", "steady", "--", "sh", "-c", shown]);
    assert_eq!(said, "init\nstart\ninit\nstart\nx\nx\n-\nx\n");

    // Nobody has another's address, and everybody answers on his own.
    let ready: Vec<_> = after.iter().filter(|pod| is_ready(pod)).collect();
    let addresses: BTreeSet<_> =
        ready.iter().map(|it| it["status"]["podIP"].as_str().unwrap().to_owned()).collect();
    assert_eq!(addresses.len(), ready.len(), "{addresses:?}");
    for pod in ready.iter().filter(|pod| pod["metadata"]["labels"]["app"] == "many") {
        let address = format!("{}:8080", pod["status"]["podIP"].as_str().unwrap());
        assert!(machine.get(&address, "/").is_some_and(|it| it.text().contains("Hello")));
    }
    let records = kinglet::daemon::Layout::of(&machine.path("data")).run().join("network");
    let records = machine.seen(records.to_str().unwrap());
    assert_eq!(std::fs::read_dir(records).unwrap().count(), addresses.len());

    machine.kubectl(&["delete", "deployment,pod,pvc", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
