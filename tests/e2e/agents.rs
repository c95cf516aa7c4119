//! Agents that die, that start while no server answers, and whose server moves: what ran goes on, and
//! everything works again soon after.

use super::apart::{HEALED_WITHIN, World, now};
use super::lan::Lan;
use super::machine::{Machine, patience};
use super::names::told_at;
use super::talk::Talk;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use std::env::consts::ARCH;
use std::sync::Arc;
use std::time::Duration;

const DNS: &str = "10.43.0.10";

/// Where the server is after it has moved, and what its agents call it.
const MOVED: &str = "192.0.2.20";
const NAMED: &str = "https://kinglet.test:6443";

/// A pod on `two` behind a Service: it is needed where nothing else is reached.
const NEAR: &str = "
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {clusterIP: 10.43.7.7, selector: {app: near}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: near}}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: hello:1, imagePullPolicy: Never}]
";

#[test]
fn agents_die_and_are_alone_and_come_back() {
    // One knows two addresses, the other a name: hosts is a file of its own.
    let prepare = |[server, two, three]: [&mut Machine; 3]| {
        server.further = vec!["--tls-san", "kinglet.test"];
        two.further = vec!["--server", "https://192.0.2.20:6443"];
        three.part();
        let hosts = three.path("hosts");
        std::fs::write(&hosts, "192.0.2.10 kinglet.test\n").unwrap();
        three.run("mount", &["--bind", hosts.to_str().unwrap(), "/etc/hosts"]);
        three.server_url = Some(NAMED);
    };
    let mut world = World::start(prepare);
    world.server.apply(NEAR);
    world.server.kubectl(&["wait", "--for=condition=Ready", "pod/near", "--timeout=60s"]);
    world.two.eventually("the near pod is reached", || serves(&world.two));
    an_agent_dies(&mut world);
    an_agent_starts_alone(&mut world);
    the_server_moves(&mut world);
    clocks_are_wrong(&mut world);
    an_address_is_given_twice(&world);
    world.end();
}

/// Whether the near pod is reached on its node, by the address of its Service and by name.
fn serves(two: &Machine) -> bool {
    let name = "near.default.svc.cluster.local";
    two.get("10.43.7.7:80", "/").is_some()
        && told_at(DNS, two, name, RecordType::A) == "NoError 10.43.7.7"
}

/// It is dead for so long that the cluster takes notice, and then another process takes its pods over.
fn an_agent_dies(world: &mut World) {
    world.two.stop(Signal::SIGKILL);
    world.rules_go_on("Services are reached while the agent is dead");
    world.server.eventually("the node is missed", || !world.server.is_ready("two"));
    world.rules_go_on("Services are reached while the node is missed");
    assert!(world.two.get("10.43.7.7:80", "/").is_some(), "the node reaches its pod");
    let began = now();
    world.two.spawn_agent(&world.server, None);
    world.two.eventually("names are answered", || serves(&world.two));
    eprintln!("names are answered {:?} after the start", began.elapsed());
    world.heals("the agent was dead", (began, HEALED_WITHIN));
    let server = &world.server;
    let log = server.kubectl(&["logs", "asks", "-c", "asks", "--tail=1"]);
    assert!(!log.is_empty());
    assert_eq!(restarts(server, "asks"), "0 0");
}

fn restarts(server: &Machine, pod: &str) -> String {
    let path = "jsonpath={.status.containerStatuses[*].restartCount}";
    server.kubectl(&["get", "pod", pod, "-o", path])
}

/// It is restarted where it reaches nobody: what it knew last has to do.
fn an_agent_starts_alone(world: &mut World) {
    world.server.stop(Signal::SIGKILL);
    world.two.stop(Signal::SIGTERM);
    world.two.spawn_agent(&world.server, None);
    let two = &world.two;
    let began = now();
    two.eventually("names are answered", || serves(two));
    eprintln!("alone, names are answered {:?} after the start", began.elapsed());
    world.pods_go_on("pods of other nodes are reached");
    // The container that ends is started again, by what the agent knows of its pod.
    for _ in 0..2 {
        let before = two.web_servers();
        assert_eq!(before.len(), 1, "{before:?}");
        two.run("kill", &["-9", &before[0]]);
        two.eventually("the container is started again", || {
            let after = two.web_servers();
            !after.is_empty() && after != before && serves(two)
        });
    }
    // Again, with what it has seen itself meanwhile.
    world.two.stop(Signal::SIGKILL);
    world.two.spawn_agent(&world.server, None);
    world.two.eventually("names are answered again", || serves(&world.two));
    world.pods_go_on("pods of other nodes are reached again");
    let began = now();
    world.server.spawn_server();
    world.heals("the server is back", (began, HEALED_WITHIN));
    world.server.eventually("restarts are told", || restarts(&world.server, "near") == "2");
}

/// The server is started anew at another address.
fn the_server_moves(world: &mut World) {
    world.server.stop(Signal::SIGTERM);
    world.server.run("ip", &["addr", "del", "192.0.2.10/24", "dev", "up0"]);
    world.server.add_address(&format!("{MOVED}/24"));
    world.server.address = MOVED;
    std::fs::write(world.three.path("hosts"), format!("{MOVED} kinglet.test\n")).unwrap();
    world.pods_go_on("pods reach each other while the server is away");
    let began = now();
    world.server.spawn_server();
    world.heals("the server is elsewhere", (began, HEALED_WITHIN));
    let told = || std::fs::read_to_string(world.three.path("data/agent/servers.json")).unwrap();
    let expected = format!("[\"https://{MOVED}:6443\"]");
    world.three.eventually("the new address is learned", || told() == expected);
}

/// Has another time than the machine's, wherever a program asks for it by the C library (Debian's
/// libfaketime); timers go on as they are. The machine needs mounts of its own.
fn set_clock(machine: &mut Machine, offset: &str) {
    // What the library leaves in memory goes with the machine.
    machine.run("mount", &["-t", "tmpfs", "tmpfs", "/dev/shm"]);
    let library = format!("/usr/lib/{ARCH}-linux-gnu/faketime/libfaketime.so.1");
    machine.environment = [
        ("LD_PRELOAD", &*library),
        ("FAKETIME", offset),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("NO_FAKE_STAT", "1"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec();
}

/// A pod with a token of its account, and one that waits longer and longer before it is started again.
const PODS_IN_TIME: &str = "
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  nodeName: three
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'test -s /var/run/secrets/kubernetes.io/serviceaccount/token && exec sleep 9999']
---
apiVersion: v1
kind: Pod
metadata: {name: fails}
spec:
  nodeName: three
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: hello:1, imagePullPolicy: Never, command: [sh, -c, 'exit 1']}
";

/// The clock of an agent is an hour off, or a month, and is put right.
fn clocks_are_wrong(world: &mut World) {
    // The cluster has just begun: to one whose clock is far behind nobody is who he says.
    let says = "its certificate is good from ";
    let token = world.server.token();
    let mut four = Machine::on(&world.lan, "four", "192.0.2.14");
    four.part();
    set_clock(&mut four, "-30d");
    four.spawn_agent(&world.server, Some(&token));
    four.eventually("why it cannot join is told", || four.server_log().contains(says));
    four.stop(Signal::SIGTERM);
    world.three.stop(Signal::SIGTERM);
    set_clock(&mut world.three, "-30d");
    world.three.spawn_agent(&world.server, None);
    world.three.eventually("why it is alone is told", || world.three.server_log().contains(says));
    world.pods_go_on("its pods go on");
    the_clock_is(world, "right", None);

    world.server.apply(PODS_IN_TIME);
    // As a number: the ninth is before the tenth.
    let count = |server: &Machine| restarts(server, "fails").parse::<u32>().unwrap();
    for offset in ["-1h", "+1h"] {
        the_clock_is(world, offset, Some(offset));
        let server = &world.server;
        let late = PODS_IN_TIME.split("---").next().unwrap();
        server.kubectl(&["delete", "pod", "late"]);
        server.apply(late);
        server.kubectl(&["wait", "--for=condition=Ready", "pod/late", "--timeout=30s"]);
        let before = count(server);
        the_clock_is(world, "right again", None);
        let (server, three) = (&world.server, &world.three);
        three.eventually("it is started again", || count(server) > before);
    }
    world.server.kubectl(&["delete", "pod", "late", "fails"]);
}

/// The agent is started anew with such a clock: everything works.
fn the_clock_is(world: &mut World, what: &str, offset: Option<&str>) {
    world.three.stop(Signal::SIGTERM);
    world.three.environment.clear();
    if let Some(offset) = offset {
        set_clock(&mut world.three, offset);
    }
    let began = now();
    world.three.spawn_agent(&world.server, None);
    world.heals(&format!("the clock is {what}"), (began, HEALED_WITHIN));
}

/// A machine says that it has the address of another.
fn an_address_is_given_twice(world: &World) {
    let mut four = Machine::on(&world.lan, "four-b", "192.0.2.15");
    four.run("sysctl", &["-qw", "net.ipv4.conf.all.arp_ignore=1"]);
    four.run("ip", &["addr", "add", "192.0.2.11/32", "dev", "lo"]);
    (four.name, four.address) = ("four", "192.0.2.11");
    four.join(&world.server);
    let told = |node: &str, of: &str| {
        let about = format!("involvedObject.name={node},reason=AddressTaken");
        let events = world.server.kubectl(&["get", "events", "--field-selector", &about]);
        events.contains(&format!("node {of} has the address 192.0.2.11 as well"))
    };
    world.server.eventually("both are told", || told("two", "four") && told("four", "two"));
    world.pods_go_on("the first goes on");
    assert!(world.works(), "the first works");
    four.stop(Signal::SIGTERM);
    four.killall();
    world.server.kubectl(&["delete", "node", "four"]);
    world.pods_go_on("the first goes on alone");
}

/// Each frame to and from the agent takes this long, and 1 Mbit/s is all there is.
const FAR: Duration = Duration::from_millis(200);

const PODS_AFAR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: here, labels: {app: here}}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: hello:1, imagePullPolicy: Never}]
---
apiVersion: v1
kind: Service
metadata: {name: here}
spec: {clusterIP: 10.43.7.8, selector: {app: here}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: there}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 0
  containers:
  - name: ticks
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'trap exit TERM; while :; do echo tick; sleep 0.2; done']
";

#[test]
fn an_agent_may_be_far_away() {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut two = Machine::on(&lan, "two", "192.0.2.11");
    for machine in [&server, &two] {
        machine.import_example_images();
    }
    server.start();
    lan.lengthen("two", FAR, "1mbit");
    let began = now();
    two.join(&server);
    eprintln!("joined after {:?}", began.elapsed());
    server.apply(PODS_AFAR);
    server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    eprintln!("pods are ready after {:?}", began.elapsed());
    let began = now();
    let said = server.kubectl(&["exec", "there", "--", "echo", "hello"]);
    assert_eq!(said.trim(), "hello");
    eprintln!("exec took {:?}", began.elapsed());
    let follows = Talk::start(&server, "kubectl", &["logs", "-f", "--tail=1", "there"]);
    follows.expect("tick\ntick\ntick\n");
    let ask = "busybox timeout 9 wget -q -O - http://10.43.7.8/";
    let asks = || server.try_run("kubectl", &["exec", "there", "--", "sh", "-c", ask]);
    server.eventually("a pod gets what is behind a Service", || asks().status.success());
    let began = now();
    assert!(two.get("10.43.7.8:80", "/").is_some());
    // There and back to connect, and again to ask.
    assert!(began.elapsed() > FAR * 4, "{:?}", began.elapsed());
    lan.shorten("two");
    let began = now();
    server.eventually("it is fast again", || asks().status.success());
    eprintln!("a short wire is used after {:?}", began.elapsed());
    assert!(began.elapsed() < HEALED_WITHIN * patience(), "{:?}", began.elapsed());
    let before = follows.text().len();
    server.eventually("the log is followed", || follows.text().len() > before);
    for machine in [&mut two, &mut server] {
        machine.stop(Signal::SIGTERM);
        machine.killall();
    }
}
