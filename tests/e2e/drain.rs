//! A node that is emptied and filled again: cordon, drain, uncordon, taints.

use super::machine::Machine;
use super::old_kubectl;
use super::talk::Talk;
use nix::sys::signal::Signal;

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: guarded}
spec:
  replicas: 1
  selector: {matchLabels: {app: guarded}}
  template:
    metadata: {labels: {app: guarded}}
    spec:
      terminationGracePeriodSeconds: 1
      volumes: [{name: scratch, emptyDir: {}}]
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        volumeMounts: [{name: scratch, mountPath: /scratch}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: guarded}
spec:
  minAvailable: 1
  selector: {matchLabels: {app: guarded}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: everywhere}
spec:
  selector: {matchLabels: {app: everywhere}}
  template:
    metadata: {labels: {app: everywhere}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
";

const BARE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {app: bare}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
";

#[test]
fn nodes_are_emptied_and_filled_again() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(MANIFEST);
    machine.kubectl(&["rollout", "status", "deployment/guarded", "--timeout=90s"]);
    machine.kubectl(&["rollout", "status", "daemonset/everywhere", "--timeout=90s"]);
    for program in ["kubectl", old_kubectl::PROGRAM] {
        machine.apply(BARE);
        machine.kubectl(&["wait", "--for=condition=Ready", "pod/bare", "--timeout=60s"]);
        budget_allows(&machine, "0");
        what_is_in_the_way_is_named(&machine, program);
        a_budget_is_waited_for(&machine, program);
        machine.run(program, &["uncordon", "one"]);
        machine.kubectl(&["rollout", "status", "deployment/guarded", "--timeout=90s"]);
    }
    a_taint_moves_pods(&machine);
    machine.kubectl(&["delete", "deployment,daemonset,pdb", "--all", "--timeout=60s"]);
    machine.kubectl(&["wait", "--for=delete", "pod", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

/// Waits until the budget's controller has counted.
fn budget_allows(machine: &Machine, count: &str) {
    let words = "jsonpath={.status.disruptionsAllowed}/{.status.currentHealthy}";
    let shown = || machine.kubectl(&["get", "pdb", "guarded", "-o", words]);
    machine.eventually("the budget is counted", || shown() == format!("{count}/1"));
}

fn what_is_in_the_way_is_named(machine: &Machine, program: &str) {
    let output = machine.try_run(program, &["drain", "one", "--timeout=10s"]);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{why}");
    for expected in [
        "DaemonSet-managed Pods (use --ignore-daemonsets to ignore): default/everywhere-",
        "local storage (use --delete-emptydir-data to override): default/guarded-",
        "(use --force to override): default/bare",
    ] {
        assert!(why.contains(expected), "{program}: {why}");
    }
    let nodes = machine.run(program, &["get", "nodes"]);
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
}

fn a_budget_is_waited_for(machine: &Machine, program: &str) {
    let words = [
        "drain",
        "one",
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=80s",
    ];
    let draining = Talk::start(machine, program, &words);
    let refused = "Cannot evict pod as it would violate the pod's disruption budget.";
    machine.eventually("the budget is in the way", || draining.complaints().contains(refused));
    assert!(draining.complaints().contains("will retry after 5s"), "{}", draining.complaints());
    let pods = || machine.kubectl(&["get", "pods", "--no-headers"]);
    machine.eventually("who may go goes", || !pods().contains("bare"));
    assert!(pods().contains("guarded-"), "{}", pods());
    let none = r#"{"spec":{"minAvailable":0}}"#;
    machine.kubectl(&["patch", "pdb", "guarded", "--type=merge", "-p", none]);
    let ended = draining.end();
    assert!(ended.status.success(), "{}", ended.complained);
    let said = ended.text();
    assert!(said.contains("node/one drained") || said.contains("node/one evicted"), "{said}");
    assert!(said.contains("pod/guarded-") && said.contains("evicted"), "{said}");
    assert!(pods().contains("everywhere-"), "{}", pods());
    let waits = ["get", "pods", "-l", "app=guarded", "-o", "jsonpath={.items[*].status.phase}"];
    assert_eq!(machine.kubectl(&waits), "Pending");
    let events = machine.kubectl(&["get", "events", "--field-selector", "reason=FailedScheduling"]);
    assert!(events.contains("1 node(s) were unschedulable"), "{events}");
    let one = r#"{"spec":{"minAvailable":1}}"#;
    machine.kubectl(&["patch", "pdb", "guarded", "--type=merge", "-p", one]);
}

fn a_taint_moves_pods(machine: &Machine) {
    machine.kubectl(&["taint", "node", "one", "out=order:NoExecute"]);
    let phases = ["get", "pods", "-l", "app=guarded", "-o", "jsonpath={.items[*].status.phase}"];
    machine.eventually("nobody is left", || machine.kubectl(&phases) == "Pending");
    let described = machine.kubectl(&["describe", "node", "one"]);
    assert!(described.contains("out=order:NoExecute"), "{described}");
    machine.kubectl(&["taint", "node", "one", "out-"]);
    machine.kubectl(&["rollout", "status", "deployment/guarded", "--timeout=90s"]);
}
