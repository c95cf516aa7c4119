//! As a service: what systemd hears of it, and that nothing is left where it is removed.

use super::leftovers::{Traces, vanish};
use super::machine::{Machine, deadline};
use kinglet::daemon::Layout;
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: web
    image: '127.0.0.1:5000/hello:1'
    command: [sh, -c, 'echo up; sleep 1000']
";

/// What the service manager of a machine is told next.
fn hear(socket: &UnixDatagram) -> String {
    let mut heard = [0; 256];
    let length = socket.recv(&mut heard).expect("the service manager is told something");
    String::from_utf8_lossy(&heard[..length]).into_owned()
}

#[test]
fn systemd_hears_that_it_is_ready_lives_and_ends() {
    let mut machine = Machine::new();
    let path = machine.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(deadline())).unwrap();
    machine.environment = vec![
        ("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()),
        ("WATCHDOG_USEC", "200000".to_owned()),
    ];
    machine.spawn_server();
    assert_eq!(hear(&socket), "READY=1\nSTATUS=node one is ready");
    assert!(machine.is_ready("one"));
    for _ in 0..3 {
        assert_eq!(hear(&socket), "WATCHDOG=1");
    }
    machine.signal(Signal::SIGTERM);
    let last = std::iter::repeat_with(|| hear(&socket)).find(|it| it != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

#[test]
fn nothing_is_left_of_what_is_purged() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(POD);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    std::fs::create_dir_all(machine.path("logs/other_web_1234")).unwrap();
    let of = |name: &str| machine.path(name).to_str().unwrap().to_owned();
    let (data, logs, kubeconfig) = (of("data"), of("logs"), of("kinglet.yaml"));
    let words = [
        "killall",
        "--purge",
        "--",
        "server",
        "--config",
        "/dev/null",
        "--data-dir",
        &data,
        "--pod-logs-dir",
        &logs,
        "--write-kubeconfig",
        &kubeconfig,
    ];
    let refused = machine.kinglet(&words);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("a server runs on"), "{said}");
    machine.stop(Signal::SIGTERM);
    let purged = machine.kinglet(&words);
    assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    assert!(!machine.path("data").exists() && !machine.path("kinglet.yaml").exists());
    let left: Vec<_> = std::fs::read_dir(machine.path("logs")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let layout = Layout::of(&machine.path("data"));
    assert!(!layout.run().exists());
    vanish(&machine, || Traces::of(&[&data, &layout.id()]));
}
