//! A Service as a user meets it: exposed with kubectl, asked from pods and from the node, while pods
//! come and go and the server starts anew.

use super::machine::Machine;
use nix::sys::signal::Signal;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{name: http, containerPort: 8080}]
";

/// What a pod fetches with. The time-out that wget has of its own, a static one dies of.
const FETCH: [&str; 8] = ["--", "busybox", "timeout", "3", "wget", "-q", "-O", "-"];

#[test]
fn what_is_exposed_is_reached_from_everywhere() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(DEPLOYMENT);
    machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let expose =
        ["expose", "deployment", "web", "--port=80", "--target-port=http", "--type=NodePort"];
    machine.kubectl(&expose);
    let of = |path: &str| {
        machine.kubectl(&["get", "service", "web", "-o", &format!("jsonpath={{{path}}}")])
    };
    let cluster_address = of(".spec.clusterIP");
    let node_port = format!("127.0.0.1:{}", of(".spec.ports[0].nodePort"));
    let from_a_pod = |address: &str| {
        let url = format!("http://{address}/");
        let pod = machine.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
        let pod = pod.lines().next().unwrap_or_default().to_owned();
        machine
            .try_run("kubectl", &[&["exec", &pod], &FETCH[..], &[&url]].concat())
            .status
            .success()
    };
    machine.eventually("a pod reaches the Service", || from_a_pod(&cluster_address));
    machine.eventually("so does the node", || machine.get(&node_port, "/").is_some());
    // The API, as every pod asks for it.
    let api = [&["exec", "deployment/web"], &FETCH[..], &["http://10.43.0.1:443/"]].concat();
    let refused = machine.try_run("kubectl", &api);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("400"), "the API server wants TLS: {said}");
    // Pods of before are gone, those of now serve.
    machine.kubectl(&["rollout", "restart", "deployment/web"]);
    machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    machine.eventually("the new pods serve", || from_a_pod(&cluster_address));
    machine.stop(Signal::SIGKILL);
    assert!(machine.get(&node_port, "/").is_some(), "rules outlive the server");
    machine.start();
    assert!(machine.get(&node_port, "/").is_some());
    machine.kubectl(&["scale", "deployment", "web", "--replicas=0"]);
    machine.eventually("nobody serves", || machine.get(&node_port, "/").is_none());
    machine.kubectl(&["delete", "deployment", "web", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
    let rules = machine.run("nft", &["list", "ruleset"]);
    assert!(!rules.contains("kinglet-services"), "{rules}");
}
