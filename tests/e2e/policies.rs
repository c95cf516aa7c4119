//! A NetworkPolicy as a user meets it: applied with kubectl, asked of pods with nc.

use super::machine::Machine;
use nix::sys::signal::Signal;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1', ports: [{name: web, containerPort: 8080}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: friend, labels: {app: friend}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, labels: {app: stranger}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
";

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: web}]
";

#[test]
fn a_policy_keeps_strangers_out() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    let jsonpath = "jsonpath={.status.podIP}";
    let address = machine.kubectl(&["get", "pod", "server", "-o", jsonpath]);
    // Not wget: that of a static busybox looks for libraries first.
    let question = format!("echo GET / | nc -w 2 {address} 8080");
    let answers = |pod: &str| {
        let asked = ["exec", pod, "--", "sh", "-c", &question];
        machine.try_run("kubectl", &asked).status.success()
    };
    assert!(answers("stranger") && answers("friend"));
    machine.apply(POLICY);
    machine.eventually("the stranger is kept out", || !answers("stranger"));
    assert!(answers("friend"));
    // The node's own: probes and those who look in from it.
    assert!(machine.get(&format!("{address}:8080"), "/").is_some());
    machine.kubectl(&["label", "pod", "stranger", "app=friend", "--overwrite"]);
    machine.eventually("a label makes a friend", || answers("stranger"));
    machine.kubectl(&["delete", "networkpolicy", "friends"]);
    machine.kubectl(&["label", "pod", "stranger", "app-"]);
    machine.eventually("everybody is let in again", || answers("stranger"));
    machine.stop(Signal::SIGTERM);
    machine.killall();
    let rules = machine.run("nft", &["list", "ruleset"]);
    assert!(!rules.contains("policies"), "{rules}");
}
