//! Names, as pods and the node itself ask for them.

use super::machine::Machine;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use nix::sys::signal::Signal;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const DNS: &str = "10.43.0.10";

const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web-0, labels: {app: web}}
spec:
  hostname: web-0
  subdomain: peers
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.43.7.7
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-1, labels: {kubernetes.io/service-name: peers}}
addressType: IPv4
endpoints: [{addresses: [10.42.0.77], hostname: web-0, conditions: {ready: true}}]
ports: [{name: http, port: 8080, protocol: TCP}]
";

#[test]
fn names_are_answered_on_the_node_and_in_pods() {
    let mut machine = Machine::new();
    machine.start_registry(&["1"]);
    machine.start();
    machine.eventually("the API has a name", || {
        told(&machine, "kubernetes.default.svc.cluster.local", RecordType::A) == "NoError 10.43.0.1"
    });
    machine.apply(SHOP);
    services_have_names(&machine);
    changes_are_seen_at_once(&machine);
    pods_ask(&machine);
    overrides_are_taken(&machine);
    let measured = machine.kubectl(&["get", "--raw", "/api/v1/nodes/one/proxy/metrics/dns"]);
    assert!(measured.contains("coredns_dns_requests_total{type=\"A\"} "), "{measured}");
    let service = machine.kubectl(&["-n", "kube-system", "get", "service", "kube-dns"]);
    assert!(service.contains("10.43.0.10") && service.contains("53/UDP,53/TCP"), "{service}");
    machine.stop(Signal::SIGTERM);
    machine.start();
    machine.eventually("names are answered after a restart", || {
        told(&machine, "web.default.svc.cluster.local", RecordType::A) == "NoError 10.43.7.7"
    });
    machine.kubectl(&["delete", "pod", "web-0"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
    assert!(!machine.run("ip", &["-o", "link"]).contains("kinglet-dns"));
}

#[test]
fn a_port_that_somebody_has_is_taken_when_it_is_free() {
    let mut machine = Machine::new();
    let other = machine.inside(|| UdpSocket::bind(("0.0.0.0", 53)).unwrap());
    machine.start();
    machine.eventually("who has the port is asked for", || {
        let events = machine.kubectl(&["get", "events"]);
        events.contains("DNSPortTaken") && events.contains("10.43.0.10:53")
    });
    let name = "kubernetes.default.svc.cluster.local";
    assert_ne!(told(&machine, name, RecordType::A), "NoError 10.43.0.1");
    drop(other);
    machine.eventually("names are answered", || {
        told(&machine, name, RecordType::A) == "NoError 10.43.0.1"
    });
    machine
        .eventually("so it is said", || machine.kubectl(&["get", "events"]).contains("DNSAnswers"));
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

fn services_have_names(machine: &Machine) {
    for (name, kind, expected) in [
        ("web.default.svc.cluster.local", RecordType::A, "NoError 10.43.7.7"),
        ("web.default.svc.cluster.local", RecordType::AAAA, "NoError"),
        ("web-0.peers.default.svc.cluster.local", RecordType::A, "NoError 10.42.0.77"),
        ("7.7.43.10.in-addr.arpa", RecordType::PTR, "NoError web.default.svc.cluster.local."),
        ("nothing.default.svc.cluster.local", RecordType::A, "NXDomain"),
        ("one", RecordType::A, "NoError 192.0.2.10"),
    ] {
        machine.eventually(name, || told(machine, name, kind) == expected);
        assert_eq!(by_stream(machine, name, kind).as_deref(), Some(expected), "{name} by TCP");
    }
}

/// An answer is as new as the watch of the Services.
fn changes_are_seen_at_once(machine: &Machine) {
    let patch = r#"[{"op":"replace","path":"/endpoints/0/addresses/0","value":"10.42.0.78"}]"#;
    machine.kubectl(&["patch", "endpointslice", "peers-1", "--type=json", "-p", patch]);
    let name = "web-0.peers.default.svc.cluster.local";
    let changed = now();
    while told(machine, name, RecordType::A) != "NoError 10.42.0.78" {
        assert!(changed.elapsed() < Duration::from_secs(5), "the old address is still told");
    }
    eprintln!("a change was told within {:?} after kubectl", changed.elapsed());
}

fn pods_ask(machine: &Machine) {
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/web-0", "--timeout=60s"]);
    let names = ["kubernetes.default.svc.cluster.local", "web", "web.default.svc.cluster.local"];
    for (name, address) in names.iter().zip(["10.43.0.1", "10.43.7.7", "10.43.7.7"]) {
        // It asks for a name without dots in each domain of the search list, and complains of all
        // but one.
        let look = format!("busybox nslookup -type=a {name}; true");
        let said = machine.kubectl(&["exec", "web-0", "--", "sh", "-c", &look]);
        assert!(said.contains(&format!("Address: {address}")), "{name}: {said}");
        assert!(said.contains("10.43.0.10:53"), "{name}: {said}");
    }
}

fn overrides_are_taken(machine: &Machine) {
    let map = |text: &str| {
        let indented = text.replace('\n', "\n    ");
        let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns-custom, namespace: kube-system}";
        machine.apply(&format!("{head}\ndata:\n  own.override: |\n    {indented}\n"));
    };
    map("hosts {\n  192.0.2.77 nas.lan\n  fallthrough\n}");
    let is_known = || told(machine, "nas.lan", RecordType::A) == "NoError 192.0.2.77";
    machine.eventually("an override is taken", is_known);
    map("hosts {\n  nonsense\n}");
    machine.eventually("what is wrong is told", || {
        let events = machine.kubectl(&["-n", "kube-system", "get", "events"]);
        events.contains("own.override, line 2: no address with names")
    });
    assert!(is_known());
    machine.kubectl(&["-n", "kube-system", "delete", "configmap", "coredns-custom"]);
    machine.eventually("an override goes", || !is_known());
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(77, MessageType::Query, OpCode::Query);
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    message.add_query(Query::query(name, kind));
    message.to_vec().unwrap()
}

fn told(machine: &Machine, name: &str, kind: RecordType) -> String {
    told_at(DNS, machine, name, kind)
}

/// What the DNS at an address says: code and answers as short text; `none` where nobody answers.
pub fn told_at(dns: &str, machine: &Machine, name: &str, kind: RecordType) -> String {
    let (question, dns) = (question(name, kind), dns.parse::<IpAddr>().unwrap());
    let answer = machine.inside(|| {
        let any = if dns.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.connect((dns, 53)).ok()?;
        socket.send(&question).ok()?;
        let mut buffer = vec![0; 2_000];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    });
    answer.map_or("none".to_owned(), |answer| show(&answer))
}

fn by_stream(machine: &Machine, name: &str, kind: RecordType) -> Option<String> {
    by_stream_at(DNS, machine, name, kind)
}

/// As [`told_at`], by TCP.
pub fn by_stream_at(dns: &str, machine: &Machine, name: &str, kind: RecordType) -> Option<String> {
    let (question, dns) = (question(name, kind), dns.parse::<IpAddr>().unwrap());
    machine.inside(|| {
        let mut stream = TcpStream::connect((dns, 53)).ok()?;
        let length = u16::try_from(question.len()).ok()?;
        stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).ok()?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).ok()?;
        Some(show(&answer))
    })
}

fn show(answer: &[u8]) -> String {
    let answer = Message::from_vec(answer).unwrap();
    let answers: Vec<_> = answer.answers.iter().map(|it| it.data.to_string()).collect();
    format!("{:?} {}", answer.metadata.response_code, answers.join(", ")).trim_end().to_owned()
}

fn now() -> Instant {
    kinglet::stdx::monotonic()
}
