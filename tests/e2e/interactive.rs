//! kubectl as somebody uses it who sits at a terminal: run, attach, debug, cp, proxy, and logs that
//! go on.

use super::machine::Machine;
use super::old_kubectl;
use super::talk::Talk;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;

const IMAGE: &str = "127.0.0.1:5000/hello:1";

const PODS: &str = "
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
      initContainers:
      - {name: first, image: '127.0.0.1:5000/hello:1', command: [echo, it begins]}
      containers:
      - name: web
        image: 127.0.0.1:5000/hello:1
        ports: [{name: http, containerPort: 8080}]
      - name: ticks
        image: 127.0.0.1:5000/hello:1
        command: [sh, -c, 'trap exit TERM; while :; do echo tick; sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: shell, image: '127.0.0.1:5000/hello:1', command: [sh], stdin: true, tty: true}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: bare
    image: 127.0.0.1:5000/hello:1
    # Where its programs are, is not where they are looked for.
    env: [{name: PATH, value: /nowhere}]
    command: [/bin/sh, -c, 'trap exit TERM; while :; do /bin/sleep 1; done']
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: again
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'if [ -e /data/been ]; then echo twice; exec sleep 1000; fi; touch /data/been; echo once; exit 1']
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
";

#[test]
fn people_at_terminals_are_served() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "pod/bare", "--timeout=90s"]);
    for program in ["kubectl", old_kubectl::PROGRAM] {
        a_terminal_follows_ours(&machine, program);
        a_shell_is_attached_to(&machine, program);
        a_pod_is_run_and_removed(&machine, program);
        directories_are_copied(&machine, program);
        a_node_is_debugged(&machine, program);
        pods_are_proxied(&machine, program);
    }
    pods_are_debugged(&machine);
    logs_of_many_go_on(&machine);
    logs_of_before_are_kept(&machine);
    machine.kubectl(&["delete", "deployment/web", "--timeout=60s"]);
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

/// Our terminal changes its size, and theirs with it.
fn a_terminal_follows_ours(machine: &Machine, program: &str) {
    let inner = "trap \"stty size\" WINCH; echo ready; while :; do sleep 0.1; done";
    let exec = format!("{program} exec -it shell -- sh -c '{inner}'");
    let mut terminal = Talk::on_terminal(machine, &exec);
    let said = terminal.expect("ready");
    let name = said.lines().next().unwrap().trim().to_owned();
    machine.run("stty", &["-F", &name, "rows", "44", "cols", "111"]);
    terminal.expect("44 111");
    // What is typed is for the command there: it is interrupted.
    terminal.say(b"\x03");
    assert_eq!(terminal.end().status.code(), Some(130));
}

fn a_shell_is_attached_to(machine: &Machine, program: &str) {
    let mut terminal = Talk::on_terminal(machine, &format!("{program} attach -it shell"));
    terminal.expect("If you don't see a command prompt");
    terminal.say(b"echo it is $((6 * 7))\n");
    terminal.expect("it is 42");
    // An old client makes it a little larger first, so that a program that is there draws itself.
    let size =
        "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.1; done; echo it has our $((9 * 11))\n";
    terminal.say(size.as_bytes());
    terminal.expect("it has our 99");
    // Whoever goes away leaves the shell as it is.
    drop(terminal);
    assert_eq!(phase(machine, "shell"), "Running");
}

fn phase(machine: &Machine, pod: &str) -> String {
    machine.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"])
}

fn a_pod_is_run_and_removed(machine: &Machine, program: &str) {
    let run = format!("{program} run once -it --rm --restart=Never --image={IMAGE} -- sh");
    let mut terminal = Talk::on_terminal(machine, &run);
    terminal.expect("If you don't see a command prompt");
    terminal.say(b"tty; echo it is $((6 * 7))\n");
    terminal.expect("it is 42");
    terminal.say(b"exit 5\n");
    let ended = terminal.end();
    assert_eq!(ended.status.code(), Some(5), "{}", ended.text());
    assert!(ended.text().contains("pod \"once\" deleted"), "{}", ended.text());
    let arguments = ["run", "once", "-i", "--rm", "--restart=Never", "--image", IMAGE];
    let counted = [&arguments[..], &["--", "sh", "-c", "sha256sum; echo bye"]].concat();
    let output = machine.try_run_with(program, &counted, &vec![7; 300_000]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let sum = "08f166476de183f7a1b2874d544d37912aaf8d19b92013e1aafe233ba231024a";
    assert!(output.status.success() && said.contains(sum) && said.contains("bye"), "{said}");
    machine.eventually("it is gone", || {
        machine.kubectl(&["get", "pod", "once", "--ignore-not-found"]).is_empty()
    });
}

fn directories_are_copied(machine: &Machine, program: &str) {
    let (there, back) = (machine.path("there"), machine.path("back-again"));
    for directory in [&there, &back] {
        fs::remove_dir_all(directory).ok();
    }
    fs::create_dir_all(there.join("deep/deeper")).unwrap();
    fs::write(there.join("one"), "1").unwrap();
    fs::write(there.join("deep/deeper/two"), vec![2; 2 << 20]).unwrap();
    let (from, to) = (there.to_str().unwrap(), back.to_str().unwrap());
    machine.run(program, &["cp", from, "shell:/tmp/copied"]);
    machine.run(program, &["cp", "default/shell:/tmp/copied", to]);
    let copied = machine.run("diff", &["-r", from, to]);
    assert_eq!(copied, "");
    machine.kubectl(&["exec", "shell", "--", "sh", "-c", "busybox rm -r /tmp/copied"]);
    let said = machine.try_run(program, &["cp", "bare:/etc/passwd", to]);
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success(), "{why}");
    assert!(why.contains("\"tar\": executable file not found in $PATH"), "{why}");
}

fn a_node_is_debugged(machine: &Machine, program: &str) {
    let debug = format!("{program} debug node/one -it --image={IMAGE} -- sh");
    let mut terminal = Talk::on_terminal(machine, &debug);
    terminal.expect("If you don't see a command prompt");
    terminal.say(b"ls /host/etc/hostname; ps | head -2; exit\n");
    let ended = terminal.end();
    assert!(ended.text().contains("\n/host/etc/hostname"), "{}", ended.text());
    let pods = machine.kubectl(&["get", "pods", "-o", "name"]);
    let debugger = pods.lines().find(|name| name.contains("node-debugger-one-")).unwrap();
    let pod: Value =
        serde_json::from_str(&machine.kubectl(&["get", debugger, "-o", "json"])).unwrap();
    assert_eq!(pod["spec"]["hostPID"], true);
    machine.kubectl(&["delete", debugger, "--timeout=60s"]);
}

fn pods_are_proxied(machine: &Machine, program: &str) {
    let forwarding =
        Talk::start(machine, program, &["port-forward", "deploy/web", "18090:http", "18091:8080"]);
    forwarding.expect("Forwarding from 127.0.0.1:18091");
    for port in ["127.0.0.1:18090", "127.0.0.1:18091"] {
        let answer = machine.get(port, "/").unwrap();
        assert!(answer.text().contains("Hello"), "{}", answer.head);
    }
    let proxy = Talk::start(machine, program, &["proxy", "--port=18001"]);
    proxy.expect("Starting to serve on");
    let answer = machine.get("127.0.0.1:18001", "/api/v1/namespaces/default/pods?limit=1").unwrap();
    assert!(answer.code == 200 && answer.text().contains("\"PodList\""), "{}", answer.text());
    let pods = machine.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let pod = pods.lines().next().unwrap().trim_start_matches("pod/").to_owned();
    let path = format!("/api/v1/namespaces/default/pods/{pod}/proxy/index.html");
    let answer = machine.get("127.0.0.1:18001", &path).unwrap();
    assert!(answer.code == 200 && answer.text().contains("Hello"), "{}", answer.text());
}

fn pods_are_debugged(machine: &Machine) {
    let pods = machine.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let pod = pods.lines().next().unwrap().to_owned();
    let debug = format!("kubectl debug -it {pod} -c looks --image={IMAGE} --target=web -- sh");
    let mut terminal = Talk::on_terminal(machine, &debug);
    terminal.expect("If you don't see a command prompt");
    terminal.say(b"ps; echo it is $((6 * 7)); exit\n");
    let ended = terminal.end();
    // The processes of the container that is looked at.
    assert!(ended.text().contains("httpd -f"), "{}", ended.text());
    let logs = machine.kubectl(&["logs", &pod, "-c", "looks"]);
    assert!(logs.contains("it is 42"), "{logs}");
    let copy = ["debug", &pod, "--copy-to=copied", "--share-processes", "--image", IMAGE];
    machine.kubectl(&[&copy[..], &["-c", "looks", "--", "sleep", "1000"]].concat());
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/copied", "--timeout=60s"]);
    let seen = machine.kubectl(&["exec", "copied", "-c", "looks", "--", "ps"]);
    assert!(seen.contains("httpd -f") && seen.contains("sleep 1000"), "{seen}");
    machine.kubectl(&["delete", "pod", "copied", "--timeout=60s"]);
}

fn logs_of_many_go_on(machine: &Machine) {
    let words = "logs -f -l app=web --all-containers --prefix --tail=3 --max-log-requests=9";
    let words: Vec<_> = words.split(' ').collect();
    let follows = Talk::start(machine, "kubectl", &words);
    for expected in ["/first] it begins", "/ticks] tick"] {
        follows.expect(expected);
    }
    let ticks = || follows.text().matches("/ticks] tick").count();
    let seen = ticks();
    machine.eventually("they go on", || ticks() > seen + 3);
    let pods = machine.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]);
    for pod in pods.lines() {
        assert!(follows.text().contains(&format!("[{pod}/ticks] tick")), "{pod}");
    }
    let init = machine.kubectl(&["logs", "deploy/web", "-c", "first"]);
    assert_eq!(init, "it begins\n");
}

fn logs_of_before_are_kept(machine: &Machine) {
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/again", "--timeout=90s"]);
    assert_eq!(machine.kubectl(&["logs", "again", "--previous"]), "once\n");
    machine
        .eventually("the second one speaks", || machine.kubectl(&["logs", "again"]) == "twice\n");
    let events = machine.kubectl(&["events", "--for", "pod/again"]);
    assert!(events.contains("(x2 over") && events.contains("Started"), "{events}");
    let none = machine.kubectl(&["events", "--types=Warning", "--for", "pod/shell"]);
    assert_eq!(none, "");
}
