//! Clusters with addresses of IPv6: beside those of IPv4, and alone.

use super::machine::Machine;
use super::names::{by_stream_at, told_at};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

/// Of a server with both families; the address of IPv4 is the node's own.
const BOTH: [&str; 6] = [
    "--cluster-cidr",
    "10.42.0.0/16,fd42::/56",
    "--service-cidr",
    "10.43.0.0/16,fd43::/112",
    "--node-ip",
    "fd00:2::10",
];

/// Of a server without IPv4.
const ALONE: [&str; 4] = ["--cluster-cidr", "fd42::/56", "--service-cidr", "fd43::/112"];

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: '127.0.0.1:5000/hello:1'
    ports: [{name: web, containerPort: 8080}]
    readinessProbe: {httpGet: {port: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
";

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: prefer}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: web, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec:
  clusterIP: None
  ipFamilyPolicy: PreferDualStack
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: web}]
";

const REQUIRE: &str = "
apiVersion: v1
kind: Service
metadata: {name: require}
spec:
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv6, IPv4]
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: web}]
";

fn policy(address: &str) -> String {
    let bits = if address.contains(':') { 128 } else { 32 };
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: one}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - from: [{{ipBlock: {{cidr: '{address}/{bits}'}}}}]
"
    )
}

/// The server with its pods, once they are ready.
fn started(mut machine: Machine, further: &[&'static str]) -> Machine {
    machine.further = further.to_vec();
    // Without a way to everywhere the node itself sends nothing to a Service.
    for family in ["-4", "-6"] {
        machine.run("ip", &[family, "route", "add", "default", "dev", "up0"]);
    }
    machine.start_registry(&["1"]);
    machine.start();
    machine.apply(PODS);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    machine.apply(SERVICES);
    machine
}

/// Fields of an object, separated by spaces.
fn fields(machine: &Machine, object: &[&str], path: &str) -> Vec<String> {
    let jsonpath = format!("jsonpath={{{path}}}");
    let shown = machine.kubectl(&[&["get"], object, &["-o", &jsonpath]].concat());
    shown.split_whitespace().map(str::to_owned).collect()
}

fn addresses_of_pod(machine: &Machine, pod: &str) -> Vec<String> {
    fields(machine, &["pod", pod], ".status.podIPs[*].ip")
}

/// Whether a pod gets the page of who listens there.
fn gets(machine: &Machine, pod: &str, address: &str, port: u16) -> bool {
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} {port}");
    let asked = machine.try_run("kubectl", &["exec", pod, "--", "sh", "-c", &ask]);
    String::from_utf8_lossy(&asked.stdout).contains("Hello from kinglet")
}

#[track_caller]
fn everybody_gets(machine: &Machine, address: &str, port: u16) {
    let shown = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let shown = format!("{shown}:{port}");
    machine.eventually(&format!("pods get what is at {shown}"), || {
        gets(machine, "client", address, port) && gets(machine, "server", address, port)
    });
    machine.eventually(&format!("the node gets what is at {shown}"), || {
        machine.get(&shown, "/").is_some_and(|answer| answer.code == 200)
    });
}

#[track_caller]
fn names_are(machine: &Machine, dns: &str, name: &str, kind: RecordType, expected: &str) {
    let name = format!("{name}.svc.cluster.local");
    let told = || told_at(dns, machine, &name, kind);
    machine.eventually(&format!("{name} {kind}: {expected}"), || told() == expected);
    assert_eq!(by_stream_at(dns, machine, &name, kind).as_deref(), Some(expected), "{name} {kind}");
}

/// A policy with the address of one pod lets that pod in, by this family only.
fn a_block_of_addresses_is_policed(machine: &Machine, server: &[String], client: &str) {
    machine.apply(&policy(client));
    let of_family = |address: &&String| address.contains(':') == client.contains(':');
    for address in server {
        let is_open = of_family(&address);
        let what = format!("the policy of {client} holds for {address}");
        machine.eventually(&what, || gets(machine, "client", address, 8080) == is_open);
    }
    let other = "2001:db8::77";
    machine.apply(&policy(other));
    let allowed = server.iter().find(of_family).unwrap();
    machine.eventually("another is let in", || !gets(machine, "client", allowed, 8080));
    machine.kubectl(&["delete", "networkpolicy", "one"]);
    machine.eventually("everybody is let in", || gets(machine, "client", allowed, 8080));
}

/// Ends the server and sees that nothing of it stays.
fn ended(mut machine: Machine) {
    machine.stop(Signal::SIGTERM);
    machine.killall();
    let links = machine.run("ip", &["-o", "link"]);
    assert!(!links.contains("kinglet"), "{links}");
    let rules = machine.run("nft", &["list", "ruleset"]);
    assert!(!rules.contains("kinglet"), "{rules}");
}

#[test]
fn pods_and_services_have_addresses_of_both_families() {
    let machine = Machine::new();
    machine.add_address("fd00:2::10/64");
    let machine = started(machine, &BOTH);
    let of_node =
        fields(&machine, &["node", "one"], ".status.addresses[?(@.type=='InternalIP')].address");
    assert_eq!(of_node, ["192.0.2.10", "fd00:2::10"]);
    assert_eq!(
        fields(&machine, &["node", "one"], ".spec.podCIDRs[*]"),
        ["10.42.0.0/24", "fd42::/64"]
    );
    let server = addresses_of_pod(&machine, "server");
    assert!(server[0].starts_with("10.42.0.") && server[1].starts_with("fd42::"), "{server:?}");
    machine.apply(REQUIRE);
    for service in ["prefer", "require"] {
        let addresses = fields(&machine, &["service", service], ".spec.clusterIPs[*]");
        let families = addresses.iter().map(|it| it.contains(':')).collect::<Vec<_>>();
        assert_eq!(families, if service == "prefer" { [false, true] } else { [true, false] });
        for address in &addresses {
            let is_ipv6 = address.contains(':');
            let kind = if is_ipv6 { RecordType::AAAA } else { RecordType::A };
            for dns in ["10.43.0.10", "fd43::a"] {
                let name = format!("{service}.default");
                names_are(&machine, dns, &name, kind, &format!("NoError {address}"));
            }
            everybody_gets(&machine, address, 80);
        }
    }
    for (address, node, kind) in
        [(&server[0], "192.0.2.10", RecordType::A), (&server[1], "fd00:2::10", RecordType::AAAA)]
    {
        names_are(&machine, "fd43::a", "peers.default", kind, &format!("NoError {address}"));
        everybody_gets(&machine, address, 8080);
        everybody_gets(&machine, node, 30080);
    }
    let resolv = machine.kubectl(&["exec", "client", "--", "cat", "/etc/resolv.conf"]);
    assert!(resolv.contains("nameserver 10.43.0.10\nnameserver fd43::a\n"), "{resolv}");
    let look = "busybox nslookup -type=aaaa prefer.default.svc.cluster.local fd43::a; true";
    let said = machine.kubectl(&["exec", "client", "--", "sh", "-c", look]);
    assert!(said.contains("fd43::a") && said.contains("Address: fd43::"), "{said}");
    for client in addresses_of_pod(&machine, "client") {
        a_block_of_addresses_is_policed(&machine, &server, &client);
    }
    ended(machine);
}

#[test]
fn a_cluster_needs_no_ipv4() {
    let machine = started(Machine::at("fd00:2::10"), &ALONE);
    let server = addresses_of_pod(&machine, "server");
    assert!(server.len() == 1 && server[0].starts_with("fd42::"), "{server:?}");
    names_are(&machine, "fd43::a", "kubernetes.default", RecordType::AAAA, "NoError fd43::1");
    names_are(&machine, "fd43::a", "kubernetes.default", RecordType::A, "NoError");
    let prefer = fields(&machine, &["service", "prefer"], ".spec.clusterIPs[*]");
    names_are(
        &machine,
        "fd43::a",
        "prefer.default",
        RecordType::AAAA,
        &format!("NoError {}", prefer[0]),
    );
    everybody_gets(&machine, &prefer[0], 80);
    everybody_gets(&machine, "fd00:2::10", 30080);
    // The API server is who it says at its address inside and at that of the node.
    for place in ["https://[fd43::1]:443", "https://[fd00:2::10]:6443"] {
        machine.eventually(place, || {
            machine.try_run("kubectl", &["--server", place, "get", "nodes"]).status.success()
        });
    }
    let refused = machine.path("require.yaml");
    std::fs::write(&refused, REQUIRE).unwrap();
    let said = machine.kubectl_refused(&["apply", "-f", refused.to_str().unwrap()]);
    assert!(said.contains("IPv4"), "{said}");
    let resolv = machine.kubectl(&["exec", "client", "--", "cat", "/etc/resolv.conf"]);
    assert!(resolv.contains("nameserver fd43::a\n"), "{resolv}");
    a_block_of_addresses_is_policed(&machine, &server, &addresses_of_pod(&machine, "client")[0]);
    ended(machine);
}
