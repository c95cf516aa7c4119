//! The machine goes down: pods end in order, and say why.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The second one takes a second to end, and has to be given it.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  containers:
  - name: web
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'trap \"exit 0\" TERM; while true; do sleep 0.1; done']
---
apiVersion: v1
kind: Pod
metadata: {name: vital, namespace: kube-system}
spec:
  priorityClassName: system-node-critical
  containers:
  - name: web
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'trap \"sleep 1; echo saved; exit 3\" TERM; while true; do sleep 0.1; done']
";

fn pod(machine: &Machine, namespace: &str, name: &str) -> Value {
    let pod = machine.kubectl(&["get", "pod", "-n", namespace, name, "-o", "json"]);
    serde_json::from_str(&pod).unwrap()
}

fn end_of(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]["state"]["terminated"]
}

#[test]
fn pods_end_in_order_before_the_machine_does() {
    let mut machine = Machine::new();
    machine.further =
        vec!["--shutdown-grace-period", "40s", "--shutdown-grace-period-critical-pods", "20s"];
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    for (namespace, pod) in [("default", "pod/plain"), ("kube-system", "pod/vital")] {
        machine.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", pod, "--timeout=60s"]);
    }
    // A server that is only restarted leaves them alone.
    let before = pod(&machine, "default", "plain")["status"]["containerStatuses"].clone();
    machine.stop(Signal::SIGTERM);
    machine.start();
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/plain", "--timeout=60s"]);
    assert_eq!(pod(&machine, "default", "plain")["status"]["containerStatuses"], before);
    machine.stop(Signal::SIGPWR);
    machine.start();
    let (plain, vital) = (pod(&machine, "default", "plain"), pod(&machine, "kube-system", "vital"));
    for pod in [&plain, &vital] {
        let status = &pod["status"];
        assert_eq!(status["phase"], "Failed", "{status:#}");
        assert_eq!(status["reason"], "Terminated");
        let message = "Pod was terminated in response to imminent node shutdown.";
        assert_eq!(status["message"], message);
    }
    assert_eq!((&end_of(&plain)["exitCode"], &end_of(&vital)["exitCode"]), (&0.into(), &3.into()));
    let saved = machine.kubectl(&["logs", "-n", "kube-system", "vital"]);
    assert_eq!(saved.trim(), "saved");
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
