//! Two machines on one wire.

use super::lan::{Fault, Lan};
use super::machine::Machine;
use super::talk::Talk;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, DnType, KeyPair};
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

pub(super) const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: here, labels: {app: web}}
spec:
  nodeName: one
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: hello:1, imagePullPolicy: Never}]
---
apiVersion: v1
kind: Service
metadata: {name: there}
spec: {selector: {app: there}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: there, labels: {app: there}}
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

const WALL: &str = "
table inet wall {
  chain in {
    type filter hook input priority 0;
    tcp dport 10250 drop
    udp dport 8472 drop
  }
}
";

/// A server and an agent, both ready, with a pod on each.
fn cluster() -> (Arc<Lan>, Machine, Machine) {
    cluster_at(["192.0.2.10", "192.0.2.11"], &[])
}

/// As [`cluster`], at other addresses, with more arguments for the server.
fn cluster_at(
    [one, two]: [&'static str; 2],
    further: &[&'static str],
) -> (Arc<Lan>, Machine, Machine) {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", one);
    let mut agent = Machine::on(&lan, "two", two);
    server.further = further.to_vec();
    for machine in [&server, &agent] {
        machine.import_example_images();
    }
    server.start();
    agent.join(&server);
    server.apply(PODS);
    server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]);
    (lan, server, agent)
}

pub(super) fn end(server: &mut Machine, agent: &mut Machine) {
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
    pods_reach_each_other(&server, &agent);
    // Nobody reaches the machine's kubelet and pods but through what it has opened itself.
    agent.try_run_with("nft", &["-f", "-"], WALL.as_bytes());
    through_the_tunnel(&server);
    agent.run("nft", &["delete", "table", "inet", "wall"]);
    // Whoever went and came back finds its way again.
    agent.stop(Signal::SIGKILL);
    let old = soon_over(&server, &agent);
    agent.spawn_agent(&server, None);
    let answers = |words: &[&str]| {
        let words = [&["exec", "there", "-c", "web", "--"], words].concat();
        server.try_run("kubectl", &words).status.success()
    };
    server.eventually("the kubelet is asked again", || answers(&["true"]));
    let certificate = agent.path("data/agent/tls/client-kubelet.crt");
    agent.eventually("the certificate is renewed", || {
        std::fs::read_to_string(&certificate).is_ok_and(|text| text != old)
    });
    server.eventually("the kubelet is asked with the new one", || answers(&["true"]));
    through_the_tunnel(&server);
    deleted_while_it_runs(&server);
    server.eventually("the kubelet is asked as before", || answers(&["true"]));
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
    server.kubectl(&["wait", "--for=delete", "pod/there", "--timeout=90s"]);
    assert!(server.kubectl(&["get", "leases", "-n", "kube-node-lease"]).contains("one "));
    assert!(!server.kubectl(&["get", "leases", "-n", "kube-node-lease"]).contains("two "));
    end(&mut server, &mut agent);
}

/// Gives the agent a certificate for an hour, as if years had passed. Returns it.
fn soon_over(server: &Machine, agent: &Machine) -> String {
    let tls = agent.path("data/agent/tls");
    let key = KeyPair::from_pem(&std::fs::read_to_string(tls.join("node.key")).unwrap()).unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "system:node:two");
    parameters.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let request = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let request = serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "short"},
        "spec": {
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "request": STANDARD.encode(request),
            "usages": ["client auth", "digital signature"],
            "expirationSeconds": 3600,
        },
    });
    server.apply(&request.to_string());
    let read = || server.kubectl(&["get", "csr", "short", "-o", "jsonpath={.status.certificate}"]);
    server.eventually("the request is answered", || !read().is_empty());
    let certificate = String::from_utf8(STANDARD.decode(read()).unwrap()).unwrap();
    std::fs::write(tls.join("client-kubelet.crt"), &certificate).unwrap();
    certificate
}

/// A node that is deleted while its agent runs registers again, as one whose kubelet is restarted.
fn deleted_while_it_runs(server: &Machine) {
    let uid = || server.kubectl(&["get", "node", "two", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid();
    server.kubectl(&["delete", "node", "two"]);
    server.eventually("the node is there again", || server.is_ready("two"));
    assert_ne!(uid(), before);
}

/// From pod to pod, from node to pod, both ways.
pub(super) fn pods_reach_each_other(server: &Machine, agent: &Machine) {
    let place = |pod: &str| match address(server, pod) {
        address if address.contains(':') => format!("[{address}]:8080"),
        address => format!("{address}:8080"),
    };
    let (here, there) = (place("here"), place("there"));
    for (pod, to) in [("here", &there), ("there", &here)] {
        let url = format!("http://{to}/");
        let words = ["exec", pod, "-c", "web", "--", "wget", "-qO-", &url];
        server.eventually("a pod reaches a pod of another node", || {
            server.try_run("kubectl", &words).status.success()
        });
    }
    assert!(server.get(&there, "/").is_some());
    assert!(agent.get(&here, "/").is_some());
}

#[test]
fn routes_lead_to_pods_of_nodes_on_one_wire() {
    let wire = ["192.0.2.10", "192.0.2.11"];
    let (_lan, mut server, mut agent) = cluster_at(wire, &["--flannel-backend", "host-gw"]);
    pods_reach_each_other(&server, &agent);
    assert!(server.run("ip", &["route"]).contains("via 192.0.2.11"));
    assert!(!server.run("ip", &["-o", "link"]).contains("kinglet-vx0"));
    // As they are: nothing is put around them.
    assert!(agent.run("ip", &["-o", "link", "show", "kinglet0"]).contains("mtu 1500"));
    end(&mut server, &mut agent);
    assert!(!server.run("ip", &["route"]).contains("via 192.0.2.11"));
}

#[test]
fn tunnels_lead_over_a_wire_that_speaks_ipv6() {
    let of_ipv6 = [
        "--bind-address",
        "::",
        "--cluster-cidr",
        "fd42:42::/56",
        "--service-cidr",
        "fd42:43::/112",
    ];
    let wire = ["2001:db8::10", "2001:db8::11"];
    let (_lan, mut server, mut agent) = cluster_at(wire, &of_ipv6);
    pods_reach_each_other(&server, &agent);
    assert!(agent.run("ip", &["-o", "link", "show", "kinglet0"]).contains("mtu 1430"));
    through_the_tunnel(&server);
    end(&mut server, &mut agent);
}

/// Both families, in a tunnel and by routes alone; whoever starts its nodes anew may change which.
#[test]
fn pods_of_two_nodes_reach_each_other_in_both_families() {
    const BOTH: [&str; 8] = [
        "--cluster-cidr",
        "10.42.0.0/16,fd42::/56",
        "--service-cidr",
        "10.43.0.0/16,fd43::/112",
        "--node-ip",
        "fd00:2::10",
        "--flannel-backend",
        "vxlan",
    ];
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut agent = Machine::on(&lan, "two", "192.0.2.11");
    for (machine, address) in [(&server, "fd00:2::10/64"), (&agent, "fd00:2::11/64")] {
        machine.add_address(address);
        machine.import_example_images();
    }
    server.further = BOTH.to_vec();
    agent.further = vec!["--node-ip", "fd00:2::11"];
    server.start();
    agent.join(&server);
    server.apply(PODS);
    let both = r#"{"spec": {"ipFamilyPolicy": "PreferDualStack"}}"#;
    server.kubectl(&["patch", "service", "there", "-p", both]);
    server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]);
    both_families_lead_there(&server);
    assert!(agent.run("ip", &["route"]).contains("dev kinglet-vx0"));
    assert!(agent.run("ip", &["-6", "route"]).contains("dev kinglet-vx0"));
    for machine in [&mut agent, &mut server] {
        machine.stop(Signal::SIGTERM);
    }
    server.further[7] = "host-gw";
    server.start();
    agent.spawn_agent(&server, None);
    server.eventually("the routes are there", || {
        agent.run("ip", &["-6", "route"]).contains("via fd00:2::10")
    });
    both_families_lead_there(&server);
    assert!(agent.run("ip", &["route"]).contains("via 192.0.2.10"));
    assert!(!agent.run("ip", &["-o", "link"]).contains("kinglet-vx0"));
    end(&mut server, &mut agent);
}

/// From pod to pod, both ways, and from both through the Service of one.
fn both_families_lead_there(server: &Machine) {
    let fields = |object: &[&str], path: &str| -> Vec<String> {
        let shown = server.kubectl(&[&["get"], object, &["-o", path]].concat());
        shown.split_whitespace().map(str::to_owned).collect()
    };
    let of_pod = |pod: &str| fields(&["pod", pod], "jsonpath={.status.podIPs[*].ip}");
    let of_service = fields(&["service", "there"], "jsonpath={.spec.clusterIPs[*]}");
    let (here, there) = (of_pod("here"), of_pod("there"));
    for (pod, addresses) in
        [("here", &there), ("there", &here), ("here", &of_service), ("there", &of_service)]
    {
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        for address in addresses {
            let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 8080");
            let words = ["exec", pod, "-c", "web", "--", "sh", "-c", &ask];
            server.eventually(&format!("{pod} reaches {address}"), || {
                let said = server.try_run("kubectl", &words).stdout;
                String::from_utf8_lossy(&said).contains("Hello from kinglet")
            });
        }
    }
}

fn through_the_tunnel(server: &Machine) {
    assert!(server.kubectl(&["logs", "there", "-c", "ticks", "--tail=1"]).contains("tick"));
    let said = server.kubectl(&["exec", "there", "-c", "web", "--", "echo", "hello"]);
    assert_eq!(said.trim(), "hello");
    let raw =
        |path: &str| server.kubectl(&["get", "--raw", &format!("/api/v1/nodes/two/proxy/{path}")]);
    assert_eq!(raw("healthz"), "ok");
    assert!(raw("stats/summary").contains("\"nodeName\":\"two\""));
    // Whichever way is named, it is the same one.
    let page = |kind: &str, path: &str| {
        let path = format!("/api/v1/namespaces/default/{kind}/{path}/proxy/index.html");
        server.kubectl(&["get", "--raw", &path])
    };
    assert!(page("pods", "there:8080").contains("Hello from kinglet"));
    assert!(page("services", "there").contains("Hello from kinglet"));
    server.eventually("what the node and its pods use is told", || {
        let top = |what: &[&str]| server.try_run("kubectl", &[&["top"], what].concat()).stdout;
        let (node, pod) = (top(&["node", "two"]), top(&["pod", "there"]));
        let says = |text: &[u8], name: &str| String::from_utf8_lossy(text).contains(name);
        says(&node, "two ") && says(&pod, "there ")
    });
    let forward = Talk::start(server, "kubectl", &["port-forward", "pod/there", "18080:8080"]);
    forward.expect("Forwarding from 127.0.0.1:18080");
    assert!(server.get("127.0.0.1:18080", "/index.html").unwrap().text().contains("Hello"));
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
        ended(machine)
    };
    let log = refused(&mut agent, None);
    assert!(log.contains("--token is what it joins with"), "{log}");
    let (authority, _) = token.split_once("::").unwrap();
    let log = refused(&mut agent, Some(&format!("{authority}::abcdef.0123456789abcdef")));
    assert!(log.contains("the server does not believe the token"), "{log}");
    let brief = server.kinglet(&["token", "create", "--ttl", "1s"]).stdout;
    let brief = String::from_utf8(brief).unwrap();
    let (_, bootstrap) = brief.lines().last().unwrap().split_once("::").unwrap();
    let (id, _) = bootstrap.split_once('.').unwrap();
    server.eventually("a token goes at its end", || {
        !String::from_utf8(server.kinglet(&["token", "list"]).stdout).unwrap().contains(id)
    });
    let log = refused(&mut agent, brief.lines().last());
    assert!(log.contains("the server does not believe the token"), "{log}");
    let foreign = format!("K10{}::{}", "0".repeat(64), token.split_once("::").unwrap().1);
    let log = refused(&mut agent, Some(&foreign));
    assert!(log.contains("the server is not the one that the token is of"), "{log}");
    agent.join(&server);
    a_name_is_one_machines(&server, [&mut agent, &mut thief], &token);
    let id = token.split_once("::").unwrap().1.split_once('.').unwrap().0.to_owned();
    let list = String::from_utf8(server.kinglet(&["token", "list"]).stdout).unwrap();
    assert!(list.contains(&id), "{list}");
    assert!(server.kinglet(&["token", "delete", &id]).status.success());
    assert!(!server.kinglet(&["token", "delete", &id]).status.success());
    for machine in [&mut thief, &mut server] {
        machine.stop(Signal::SIGTERM);
    }
    for machine in [&agent, &thief, &server] {
        machine.killall();
    }
}

/// The first of two has the name until the other takes it.
fn a_name_is_one_machines(server: &Machine, [first, other]: [&mut Machine; 2], token: &str) {
    let taken = "the name two is that of another machine";
    other.spawn_agent(server, Some(token));
    let log = ended(other);
    assert!(log.contains(taken), "{log}");
    // Where the first is no more, its name, and its range of addresses, are free.
    let range = || server.kubectl(&["get", "node", "two", "-o", "jsonpath={.spec.podCIDR}"]);
    let before = range();
    // It hears of nothing: what is open stays as it is.
    first.signal(Signal::SIGSTOP);
    let open = || {
        let words = ["-Htn", "state", "established", "dst", "192.0.2.11"];
        server.run("ss", &words).lines().count()
    };
    assert!(open() > 0);
    server.kubectl(&["delete", "node", "two"]);
    other.spawn_agent(server, Some(token));
    server.eventually("another machine has the name", || server.is_ready("two"));
    server.eventually("and the range", || range() == before);
    // What the first has is good for nothing any more, nor is what it had open.
    assert_eq!(open(), 0);
    assert!(!first.server_log().contains(taken));
    first.signal(Signal::SIGCONT);
    let log = ended(first);
    assert!(log.contains(taken), "{log}");
    first.spawn_agent(server, None);
    ended(first);
}

/// What a machine has said before it has ended by itself.
fn ended(machine: &mut Machine) -> String {
    let deadline = kinglet::stdx::monotonic() + super::machine::deadline();
    while !machine.has_ended() {
        let log = machine.server_log();
        assert!(kinglet::stdx::monotonic() < deadline, "it has not ended:\n{log}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    machine.server_log()
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
    agent.run("kill", &["-9", &agent.web_servers()[0]]);
    agent.eventually("the pod serves again", serves);
    server.start();
    server.eventually("the node is ready", || server.is_ready("two"));
    end(&mut server, &mut agent);
}
