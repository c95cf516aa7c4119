//! The manifests of examples/, unchanged: a stateful service, a batch pipeline, a daemon with access to
//! its host, and a pod that talks to the API under its service account.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

fn entries(machine: &Machine, pod: &str) -> String {
    machine.kubectl(&["exec", pod, "--", "cat", "/data/entries"])
}

fn uid(machine: &Machine, what: &[&str]) -> String {
    machine.kubectl(&[&["get"], what, &["-o", "jsonpath={.metadata.uid}"]].concat())
}

#[test]
fn the_examples_run_and_leave_nothing() {
    let mut machine = Machine::new();
    machine.import_example_images();
    machine.start();
    machine.kubectl(&["apply", "-f", EXAMPLES]);
    for what in ["deployment/hello", "statefulset/ledger", "daemonset/node-facts"] {
        machine.kubectl(&["rollout", "status", what, "--timeout=90s"]);
    }
    the_page_is_reached(&machine);
    the_ledger_keeps_its_entries(&machine);
    the_pipeline_completes(&machine);
    the_daemon_sees_its_host(&machine);
    the_operator_is_held_to_its_role(&machine);
    machine.kubectl(&["delete", "-f", EXAMPLES, "--timeout=60s"]);
    machine.kubectl(&["delete", "pvc", "--all", "--timeout=60s"]);
    let rest = &["get", "pods,pvc,pv,jobs", "-o", "name"];
    machine.eventually("all is gone", || machine.kubectl(rest).is_empty());
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

/// From the node by the Service, and from outside by the Ingress.
fn the_page_is_reached(machine: &Machine) {
    let of_service = &["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"];
    let of_ingress = "jsonpath={.status.loadBalancer.ingress[0].ip}";
    let of_ingress = &["get", "ingress", "hello", "-o", of_ingress];
    for get in [&of_service[..], &of_ingress[..]] {
        machine.eventually("the page is there", || {
            let url = format!("http://{}/", machine.kubectl(get));
            let page = machine.try_run("curl", &["-fsS", "--max-time", "10", &url]).stdout;
            String::from_utf8_lossy(&page).contains("Hello from a Deployment of three")
        });
    }
}

/// Its pods may be replaced, be counted in their budget, and write what they do at their end.
fn the_ledger_keeps_its_entries(machine: &Machine) {
    let claims = machine.kubectl(&["get", "pvc", "-l", "app=ledger", "-o", "json"]);
    let claims: Value = serde_json::from_str(&claims).unwrap();
    let phases: Vec<_> = claims["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["status"]["phase"].clone())
        .collect();
    assert_eq!(phases, ["Bound", "Bound"]);
    let budget = &["get", "pdb", "ledger", "-o", "jsonpath={.status.disruptionsAllowed}"];
    machine.eventually("one may be disrupted", || machine.kubectl(budget) == "1");
    let before = uid(machine, &["pod", "ledger-0"]);
    machine.kubectl(&["delete", "pod", "ledger-0", "--timeout=60s"]);
    machine.kubectl(&["rollout", "status", "statefulset/ledger", "--timeout=90s"]);
    assert_ne!(uid(machine, &["pod", "ledger-0"]), before);
    let entries = entries(machine, "ledger-0");
    let said: Vec<_> = entries.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(said, ["opened", "closed", "opened"], "{entries}");
}

fn the_pipeline_completes(machine: &Machine) {
    machine.kubectl(&["wait", "--for=condition=Complete", "job/parts", "--timeout=90s"]);
    let indexes = &["get", "job", "parts", "-o", "jsonpath={.status.completedIndexes}"];
    assert_eq!(machine.kubectl(indexes), "0-3");
    machine.kubectl(&["create", "job", "report-now", "--from=cronjob/report"]);
    machine.kubectl(&["wait", "--for=condition=Complete", "job/report-now", "--timeout=90s"]);
    let report = machine.kubectl(&["logs", "job/report-now"]);
    assert_eq!(report, "part 0\npart 1\npart 2\npart 3\n");
}

fn the_daemon_sees_its_host(machine: &Machine) {
    let logs = machine.kubectl(&["logs", "daemonset/node-facts"]);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let columns = |line: &str| line.split_whitespace().count();
    assert_eq!(logs.lines().next().map(columns), Some(columns(&load)), "{logs}");
    let address =
        &["get", "pods", "-l", "app=node-facts", "-o", "jsonpath={.items[0].status.podIP}"];
    assert_eq!(machine.kubectl(address), "192.0.2.10");
}

fn the_operator_is_held_to_its_role(machine: &Machine) {
    machine.kubectl(&["rollout", "status", "deployment/operator", "--timeout=90s"]);
    let logs = machine.kubectl(&["logs", "deployment/operator"]);
    assert_eq!(logs, "configmap/kube-root-ca.crt\nmay read ConfigMaps\nmay not read Secrets\n");
    let reader = "--as=system:serviceaccount:default:reader";
    assert_eq!(machine.kubectl(&["auth", "can-i", "list", "configmaps", reader]), "yes\n");
    machine.kubectl_refused(&["auth", "can-i", "list", "secrets", reader]);
}
