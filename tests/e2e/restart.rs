//! Containers run on while kinglet is away, and the next process takes them over.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: steady}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: '127.0.0.1:5000/hello:1'}
";

/// It ends as soon as it has started, again and again.
const FAILS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: web, image: '127.0.0.1:5000/hello:1', command: [sh, -c, 'exit 1']}
";

/// A server starts what is due when it has begun. It is stopped so often around then, each time so much
/// later.
const STOPS: u32 = 12;
const LATER: Duration = Duration::from_millis(150);

fn container(machine: &Machine, pod: &str) -> (String, i64) {
    let pod = machine.kubectl(&["get", "pod", pod, "-o", "json"]);
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
    let before = container(&machine, "steady");
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
        assert_eq!(container(&machine, "steady"), before, "after {signal}");
        assert!(answers(&machine));
    }
    machine.kubectl(&["delete", "pod", "steady", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

/// Whatever step of a start the end of the server comes after, the next server starts the container.
#[test]
fn a_container_that_is_due_when_the_server_stops_is_started_by_the_next() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(FAILS);
    let count = |machine: &Machine| container(machine, "fails").1;
    machine.eventually("it has failed", || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        machine.kubectl(&["get", "pod", "fails", "-o", path]).parse::<u32>().is_ok_and(|it| it > 0)
    });
    for round in 0..STOPS {
        let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGKILL };
        let before = count(&machine);
        machine.stop(Signal::SIGKILL);
        machine.spawn_server();
        machine.eventually("the server answers", || machine.asked("/readyz").is_some());
        std::thread::sleep(LATER * (round / 2));
        machine.stop(signal);
        machine.start();
        machine.eventually(&format!("it is started again: {round}"), || count(&machine) > before);
    }
    machine.kubectl(&["delete", "pod", "fails", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
