//! Two machines on one wire.

use super::lan::{Fault, Lan};
use super::machine::Machine;
use nix::sys::signal::Signal;
use std::sync::Arc;

#[test]
fn kubectl_reaches_the_server_from_another_machine_while_the_wire_holds() {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let desk = Machine::on(&lan, "desk", "192.0.2.30");
    server.start();
    let kubeconfig = std::fs::read_to_string(server.path("kinglet.yaml")).unwrap();
    let kubeconfig = kubeconfig.replace("https://127.0.0.1:", "https://192.0.2.10:");
    std::fs::write(desk.path("kinglet.yaml"), kubeconfig).unwrap();
    assert!(desk.kubectl(&["get", "nodes"]).contains("one "));
    lan.disturb("one", Fault::Deaf);
    let refused = desk.kubectl_refused(&["get", "nodes", "--request-timeout=1s"]);
    assert!(refused.contains("Unable to connect to the server"), "{refused}");
    lan.disturb("one", None);
    assert!(desk.kubectl(&["get", "nodes"]).contains("one "));
    server.stop(Signal::SIGTERM);
    server.killall();
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: here, labels: {app: web}}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: hello:1, imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: there, labels: {app: web}}
spec:
  nodeName: two
  terminationGracePeriodSeconds: 0
  containers:
  - {name: web, image: hello:1, imagePullPolicy: Never}
  - name: ticks
    image: hello:1
    imagePullPolicy: Never
    command: [sh, -c, 'trap exit TERM; while :; do echo tick; sleep 0.2; done']
";

/// A server and an agent, both ready, with a pod on each.
fn cluster() -> (Arc<Lan>, Machine, Machine) {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut agent = Machine::on(&lan, "two", "192.0.2.11");
    for machine in [&server, &agent] {
        machine.import_example_images();
    }
    server.start();
    agent.join(&server);
    server.apply(PODS);
    server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]);
    (lan, server, agent)
}

fn end(server: &mut Machine, agent: &mut Machine) {
    for machine in [agent, server] {
        machine.stop(Signal::SIGTERM);
        machine.killall();
        let left = machine.run("ip", &["-o", "link", "show"]);
        assert!(!left.contains("kinglet"), "{left}");
    }
}

fn address(server: &Machine, pod: &str) -> String {
    server.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"])
}

#[test]
fn a_machine_joins_and_its_pods_are_as_near_as_others() {
    let (lan, mut server, mut agent) = cluster();
    let nodes = server.kubectl(&["get", "nodes", "-o", "wide"]);
    assert!(nodes.contains("control-plane") && nodes.contains("192.0.2.11"), "{nodes}");
    let (here, there) = (address(&server, "here"), address(&server, "there"));
    // From pod to pod, from node to pod, both ways; pods keep their own addresses.
    for (pod, to) in [("here", &there), ("there", &here)] {
        let url = format!("http://{to}:8080/");
        server.eventually("a pod reaches a pod of another node", || {
            server
                .try_run("kubectl", &["exec", pod, "-c", "web", "--", "wget", "-qO-", &url])
                .status
                .success()
        });
    }
    assert!(server.get(&format!("{there}:8080"), "/").is_some());
    assert!(agent.get(&format!("{here}:8080"), "/").is_some());
    through_the_tunnel(&server);
    // Whoever went and came back finds its way again.
    agent.stop(Signal::SIGKILL);
    agent.spawn_agent(&server, None);
    server.eventually("the kubelet is asked again", || {
        server.try_run("kubectl", &["exec", "there", "-c", "web", "--", "true"]).status.success()
    });
    lan.disturb("two", Fault::Cut);
    std::thread::sleep(std::time::Duration::from_secs(20));
    lan.disturb("two", None);
    let healed = kinglet::stdx::monotonic();
    server.eventually("what was cut off is back", || {
        server.try_run("kubectl", &["exec", "there", "-c", "web", "--", "true"]).status.success()
    });
    let took = healed.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "it took {took:?}");
    agent.stop(Signal::SIGTERM);
    server.kubectl(&["delete", "node", "two"]);
    server.eventually("the way to its pods is gone", || {
        !server.run("ip", &["route"]).contains("kinglet-vx0")
    });
    end(&mut server, &mut agent);
}

fn through_the_tunnel(server: &Machine) {
    assert!(server.kubectl(&["logs", "there", "-c", "ticks", "--tail=1"]).contains("tick"));
    let said = server.kubectl(&["exec", "there", "-c", "web", "--", "echo", "hello"]);
    assert_eq!(said.trim(), "hello");
    let raw =
        |path: &str| server.kubectl(&["get", "--raw", &format!("/api/v1/nodes/two/proxy/{path}")]);
    assert_eq!(raw("healthz"), "ok");
    assert!(raw("stats/summary").contains("\"nodeName\":\"two\""));
}

#[test]
fn who_may_not_join_is_told_why() {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut agent = Machine::on(&lan, "two", "192.0.2.11");
    let mut thief = Machine::on(&lan, "two-b", "192.0.2.12");
    thief.name = "two";
    server.start();
    let token = server.token();
    let refused = |machine: &mut Machine, token: Option<&str>| {
        machine.spawn_agent(&server, token);
        let deadline = kinglet::stdx::monotonic() + super::machine::DEADLINE;
        while !machine.has_ended() {
            assert!(kinglet::stdx::monotonic() < deadline, "it was not refused");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        machine.server_log()
    };
    let log = refused(&mut agent, None);
    assert!(log.contains("--token is what it joins with"), "{log}");
    let (authority, _) = token.split_once("::").unwrap();
    let log = refused(&mut agent, Some(&format!("{authority}::abcdef.0123456789abcdef")));
    assert!(log.contains("the server does not believe the token"), "{log}");
    let foreign = format!("K10{}::{}", "0".repeat(64), token.split_once("::").unwrap().1);
    let log = refused(&mut agent, Some(&foreign));
    assert!(log.contains("the server is not the one that the token is of"), "{log}");
    agent.join(&server);
    let log = refused(&mut thief, Some(&token));
    assert!(log.contains("the name two is that of another machine"), "{log}");
    let id = token.split_once("::").unwrap().1.split_once('.').unwrap().0.to_owned();
    let list = String::from_utf8(server.kinglet(&["token", "list"]).stdout).unwrap();
    assert!(list.contains(&id), "{list}");
    assert!(server.kinglet(&["token", "delete", &id]).status.success());
    assert!(!server.kinglet(&["token", "delete", &id]).status.success());
    for machine in [&mut agent, &mut server] {
        machine.stop(Signal::SIGTERM);
    }
    for machine in [&agent, &thief, &server] {
        machine.killall();
    }
}

/// The process of the pod's web server.
fn web_server(agent: &Machine) -> String {
    let id = kinglet::daemon::Layout::of(&agent.path("data")).id();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = processes.filter(|process| {
        let read = |name: &str| std::fs::read_to_string(process.path().join(name));
        read("cgroup").is_ok_and(|text| text.contains(&format!("kinglet-{id}/")))
            && read("cmdline").is_ok_and(|text| text.starts_with("httpd"))
    });
    found.next().unwrap().file_name().into_string().unwrap()
}

#[test]
fn an_agent_goes_on_without_its_server_also_over_a_restart() {
    let (_lan, mut server, mut agent) = cluster();
    let there = address(&server, "there");
    server.stop(Signal::SIGKILL);
    agent.stop(Signal::SIGTERM);
    agent.spawn_agent(&server, None);
    // The container that ends is started again, by what the agent knows of its pod.
    let serves = || agent.get(&format!("{there}:8080"), "/").is_some();
    agent.eventually("the pod serves", serves);
    agent.run("kill", &["-9", &web_server(&agent)]);
    agent.eventually("the pod serves again", serves);
    server.start();
    server.eventually("the node is ready", || server.is_ready("two"));
    end(&mut server, &mut agent);
}
