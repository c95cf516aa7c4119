//! Volumes that another machine keeps: pods write and read them, and a server that is away, says
//! nothing or dies keeps nobody from going on or from going away.

use super::leftovers::{of_pods, vanish};
use super::machine::{Background, Machine};
use nix::sys::signal::Signal;
use std::net::TcpListener;

/// A pod that cannot start, and one that has nothing to do with it.
const WAITING: &str = "
apiVersion: v1
kind: Pod
metadata: {name: waiting}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: '127.0.0.1:5000/hello:1', volumeMounts: [{name: data, mountPath: /data}]}
  volumes:
  - {name: data, nfs: {server: 192.0.2.10, path: /data}}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: '127.0.0.1:5000/hello:1'}
";

fn is_told(machine: &Machine, what: &str) {
    let words = ["get", "events", "--field-selector", "involvedObject.name=waiting"];
    machine.eventually("why the pod waits is told", || {
        let events = machine.kubectl(&words);
        events.contains("FailedMount") && events.contains(what)
    });
}

#[test]
fn a_server_that_is_away_is_told_and_the_pod_can_go() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(WAITING);
    is_told(&machine, "the NFS server \"192.0.2.10\" does not answer at port 2049");
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/other", "--timeout=60s"]);
    machine.kubectl(&["delete", "pod", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

#[test]
#[ignore = "needs a kernel with an NFS client"]
fn a_server_that_says_nothing_is_told_and_the_pod_can_go() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    // The kernel takes the connections, and nobody reads them.
    let silent = machine.inside(|| TcpListener::bind("192.0.2.10:2049").unwrap());
    machine.apply(WAITING);
    is_told(&machine, "the NFS server \"192.0.2.10\" takes connections and does not answer");
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/other", "--timeout=60s"]);
    machine.kubectl(&["delete", "pod", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    drop(silent);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

/// A directory that the kernel's own server gives to whoever is in the machine's network. It ends with
/// that network.
struct Export {
    directory: String,
    /// Tells the kernel who may have what.
    _mountd: Background,
}

impl Export {
    fn of(machine: &Machine) -> Self {
        let directory = machine.path("export").to_str().unwrap().to_owned();
        machine.run("mkdir", &["-m", "777", &directory]);
        // Its records are the machine's own, and go with it.
        machine.run("mount", &["-t", "tmpfs", "tmpfs", "/var/lib/nfs"]);
        machine.run("touch", &["/var/lib/nfs/etab", "/var/lib/nfs/rmtab"]);
        machine.run("mkdir", &["/var/lib/nfs/v4recovery"]);
        machine.run("mount", &["-t", "nfsd", "nfsd", "/proc/fs/nfsd"]);
        let place = format!("192.0.2.10:{directory}");
        let options = "rw,sync,no_subtree_check,no_root_squash,fsid=1";
        machine.run("exportfs", &["-o", options, &place]);
        let mountd = machine.spawn("rpc.mountd", &["--foreground", "--no-nfs-version", "3"]);
        // Nobody was there before, so that nobody's locks have to be waited for any longer.
        let times = ["-G", "10", "-L", "10"];
        let mut words = vec!["--no-nfs-version", "3", "--no-udp"];
        words.extend(times);
        words.push("2");
        machine.run("rpc.nfsd", &words);
        Self { directory, _mountd: mountd }
    }
}

fn stop_serving(machine: &Machine) {
    machine.run("rpc.nfsd", &["0"]);
}

/// One has the export by a claim and writes, the other names it itself and only reads.
fn pods(directory: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: shared}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteMany]
  storageClassName: ''
  mountOptions: [nfsvers=4.1, noatime, 'timeo=50,retrans=2']
  nfs: {{server: 192.0.2.10, path: {directory}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: shared}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: shared
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: writer}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 1234}}
  containers:
  - name: main
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo written > /data/file; echo part > /part/file; exec sleep 1000']
    volumeMounts:
    - {{name: data, mountPath: /data}}
    - {{name: data, mountPath: /part, subPath: parts/one}}
  volumes:
  - {{name: data, persistentVolumeClaim: {{claimName: shared}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: reader}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: '127.0.0.1:5000/hello:1'
    command: [sleep, '1000']
    volumeMounts:
    - {{name: data, mountPath: /data}}
  volumes:
  - {{name: data, nfs: {{server: 192.0.2.10, path: {directory}, readOnly: true}}}}
"
    )
}

/// Each pod with an export of its own server.
fn nfs_mounts(machine: &Machine) -> Vec<String> {
    let table = machine.mount_table();
    table.lines().filter(|line| line.contains(" - nfs4 ")).map(str::to_owned).collect()
}

fn started(machine: &Machine, export: &Export) {
    machine.apply(&pods(&export.directory));
    for pod in ["pod/writer", "pod/reader"] {
        machine.kubectl(&["wait", "--for=condition=Ready", pod, "--timeout=60s"]);
    }
}

/// What the pod that only reads sees, once it is there.
fn is_read(machine: &Machine, file: &str, expected: &str) {
    machine.eventually("what one writes the other reads", || {
        let seen = machine.try_run("kubectl", &["exec", "reader", "--", "cat", file]);
        seen.stdout == expected.as_bytes()
    });
}

#[test]
#[ignore = "needs a kernel with an NFS client and server, and nfs-kernel-server"]
fn pods_share_what_a_server_keeps() {
    let mut machine = Machine::apart();
    machine.start_registry(&["1"]);
    machine.start();
    let export = Export::of(&machine);
    started(&machine, &export);
    is_read(&machine, "/data/file", "written\n");
    is_read(&machine, "/data/parts/one/file", "part\n");
    let refused = ["exec", "reader", "--", "sh", "-c", "echo no > /data/file"];
    let said = machine.kubectl_refused(&refused);
    assert!(said.contains("Read-only file system"), "{said}");

    let mounts = nfs_mounts(&machine);
    let find = |kind: &str| {
        let found = mounts.iter().find(|line| line.contains(kind));
        found.unwrap_or_else(|| panic!("no {kind}: {mounts:#?}")).as_str()
    };
    let claimed = find("kubernetes.io~nfs/shared ");
    for option in [" rw,", "noatime", "vers=4.1", "timeo=50", "retrans=2"] {
        assert!(claimed.contains(option), "{option}: {claimed}");
    }
    let named = find("kubernetes.io~nfs/data ");
    assert!(named.contains(" ro,") && named.contains("vers=4.2"), "{named}");

    machine.kubectl(&["delete", "pod", "--all", "--timeout=60s"]);
    vanish(&machine, || of_pods(&machine));
    assert_eq!(nfs_mounts(&machine), Vec::<String>::new());
    let kept = std::fs::read_to_string(machine.seen("export/file")).unwrap();
    assert_eq!(kept, "written\n");
    stop_serving(&machine);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

#[test]
#[ignore = "needs a kernel with an NFS client and server, and nfs-kernel-server"]
fn pods_of_a_dead_server_can_go_and_others_go_on() {
    let mut machine = Machine::apart();
    machine.start_registry(&["1"]);
    machine.start();
    let export = Export::of(&machine);
    started(&machine, &export);
    stop_serving(&machine);
    // Somebody waits for it within a container.
    let words = ["exec", "reader", "--", "cat", "/data/file"];
    let waiting = machine.spawn("kubectl", &words);
    // The next kubelet finds the mounts, and nobody behind them; it brings the volumes up to date.
    machine.stop(Signal::SIGKILL);
    machine.start();
    machine.kubectl(&["label", "pod", "writer", "reader", "known=yes"]);
    machine.apply(WAITING);
    is_told(&machine, "does not answer at port 2049");
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/other", "--timeout=60s"]);
    assert!(!nfs_mounts(&machine).is_empty());
    machine.kubectl(&["delete", "pod", "--all", "--timeout=80s"]);
    vanish(&machine, || of_pods(&machine));
    assert_eq!(nfs_mounts(&machine), Vec::<String>::new());
    drop(waiting);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
