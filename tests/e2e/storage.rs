//! Claims of the default class: data that outlives pods and the server, and goes with its claim.

use super::machine::Machine;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 64Mi}}
";

/// Writes a line where the claim is, in a part of it, and where its own volume is.
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db-0}
spec:
  terminationGracePeriodSeconds: 1
  # The disk of a machine that builds may be nearly full.
  tolerations: [{operator: Exists}]
  securityContext: {fsGroup: 1234, runAsUser: 1000}
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: data}
  - name: own
    ephemeral:
      volumeClaimTemplate:
        spec:
          accessModes: [ReadWriteOncePod]
          resources: {requests: {storage: 1Mi}}
  containers:
  - name: db
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo $HOSTNAME >> /data/log; echo x > /part/x; echo x > /own/x; exec sleep 1000']
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /part, subPathExpr: parts/$(NAME)}
    - {name: own, mountPath: /own}
";

fn json(machine: &Machine, words: &[&str]) -> Value {
    let mut arguments = vec!["get", "-o", "json"];
    arguments.extend(words);
    serde_json::from_str(&machine.kubectl(&arguments)).unwrap()
}

fn start_pod(machine: &Machine) {
    machine.apply(POD);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/db-0", "--timeout=60s"]);
}

/// The directories of claims on the node.
fn directories(machine: &Machine) -> Vec<PathBuf> {
    let entries = fs::read_dir(machine.path("data/storage")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn data_outlives_its_pods_and_goes_with_its_claim() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(CLAIM);
    machine.eventually("the claim waits for a pod", || {
        machine.kubectl(&["describe", "pvc", "data"]).contains("waiting for first consumer")
    });
    start_pod(&machine);
    let claim = json(&machine, &["pvc", "data"]);
    assert_eq!(claim["status"]["phase"], "Bound");
    let volume = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
    let path = machine.path("data/storage").join(format!("{volume}_default_data"));
    let log = path.join("log");
    machine.eventually("the pod has written", || log.exists());
    assert_eq!(
        (fs::metadata(&log).unwrap().uid(), fs::metadata(&log).unwrap().gid()),
        (1000, 1234)
    );
    machine.eventually("the part", || path.join("parts/db-0/x").exists());
    assert_eq!(directories(&machine).len(), 2);

    // The pod goes, its own claim with it; the other stays.
    machine.kubectl(&["delete", "pod", "db-0", "--timeout=60s"]);
    machine.eventually("its own volume is gone", || directories(&machine) == [path.clone()]);
    machine.stop(Signal::SIGKILL);
    machine.start();
    start_pod(&machine);
    machine
        .eventually("both pods' lines", || fs::read_to_string(&log).unwrap().lines().count() == 2);

    let larger = r#"{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}"#;
    machine.kubectl(&["patch", "pvc", "data", "-p", larger]);
    machine.eventually("the claim is larger", || {
        json(&machine, &["pvc", "data"])["status"]["capacity"]["storage"] == "128Mi"
    });

    // What is used stays until it is not.
    machine.kubectl(&["delete", "pvc", "data", "--wait=false"]);
    assert_eq!(json(&machine, &["pvc", "data"])["status"]["phase"], "Bound");
    machine.kubectl(&["delete", "pod", "db-0", "--timeout=60s"]);
    machine.eventually("everything is gone", || {
        directories(&machine).is_empty()
            && machine.kubectl(&["get", "pvc,pv", "-o", "name"]).is_empty()
    });
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
