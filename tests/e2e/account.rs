//! A pod knows who it is: its account's token, its namespace, and whom to trust.

use super::machine::Machine;
use nix::sys::signal::Signal;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: who}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - name: who
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c]
    args:
    - cd /var/run/secrets/kubernetes.io/serviceaccount && cat namespace && echo && cat token && echo && cat ca.crt
";

#[test]
fn a_pod_has_a_token_of_its_account() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    // As a user's first command, right after the start.
    machine.apply(POD);
    let phase = || machine.kubectl(&["get", "pod", "who", "-o", "jsonpath={.status.phase}"]);
    machine.eventually("the pod has said who it is", || phase() == "Succeeded");
    let said = machine.kubectl(&["logs", "who"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "default");
    assert_eq!(lines[2], "-----BEGIN CERTIFICATE-----");
    let address = "--server=https://127.0.0.1:6443".to_owned();
    let token = format!("--token={}", lines[1]);
    let authority = machine.path("authority.crt");
    std::fs::write(&authority, lines[2..].join("\n")).unwrap();
    let authority = format!("--certificate-authority={}", authority.display());
    let arguments = ["--kubeconfig=/dev/null", &address, &token, &authority, "get", "pods"];
    let said = machine.kubectl_refused(&arguments);
    let user = "User \"system:serviceaccount:default:default\" cannot list resource \"pods\"";
    assert!(said.contains(user), "{said}");
    machine.kubectl(&["delete", "pod", "who"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
