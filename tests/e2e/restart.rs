//! Containers run on while kinglet is away, and the next process takes them over.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: '127.0.0.1:5000/hello:1'}
";

fn container(machine: &Machine) -> (String, i64) {
    let pod = machine.kubectl(&["get", "pod", "steady", "-o", "json"]);
    let pod: Value = serde_json::from_str(&pod).unwrap();
    let status = &pod["status"]["containerStatuses"][0];
    let id = status["containerID"].as_str().unwrap().to_owned();
    (id, status["restartCount"].as_i64().unwrap())
}

#[test]
fn containers_outlive_the_server_however_it_ends() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(POD);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
    let before = container(&machine);
    let address = machine.kubectl(&["get", "pod", "steady", "-o", "jsonpath={.status.podIP}"]);
    let answers = |machine: &Machine| {
        let answer = machine.get(&format!("{address}:8080"), "/");
        answer.is_some_and(|answer| answer.text().contains("Hello"))
    };
    machine.eventually("the pod answers", || answers(&machine));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        machine.stop(signal);
        assert!(answers(&machine), "the pod does not answer after {signal}");
        machine.start();
        machine.kubectl(&["wait", "--for=condition=Ready", "pod/steady", "--timeout=60s"]);
        assert_eq!(container(&machine), before, "after {signal}");
        assert!(answers(&machine));
    }
    machine.kubectl(&["delete", "pod", "steady", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
