//! Two machines whose pods reach each other through WireGuard.

use super::lan::Lan;
use super::machine::Machine;
use super::two_machines::{PODS, end, pods_reach_each_other};
use kinglet::sys::wireguard::{Control, Device};
use nix::sys::signal::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

const DEVICE: &str = "kinglet-wg0";

const OF_SERVER: [&str; 8] = [
    "--flannel-backend",
    "wireguard-native",
    "--cluster-cidr",
    "10.42.0.0/16,fd42::/56",
    "--service-cidr",
    "10.43.0.0/16,fd43::/112",
    "--node-ip",
    "fd00:2::10",
];

/// What of pods comes along the wire as it is goes no further.
const WALL: &str = "
table inet wall {
  chain in {
    type filter hook prerouting priority -300;
    iifname != up0 accept
    ip saddr 10.42.0.0/16 drop
    ip daddr 10.42.0.0/16 drop
    ip6 saddr fd42::/56 drop
    ip6 daddr fd42::/56 drop
    udp dport 8472 drop
  }
}
";

#[test]
#[ignore = "needs a kernel with WireGuard"]
fn pods_of_other_nodes_are_reached_and_nobody_reads_along() {
    let lan = Arc::new(Lan::new());
    let mut server = Machine::on(&lan, "one", "192.0.2.10");
    let mut agent = Machine::on(&lan, "two", "192.0.2.11");
    server.further = OF_SERVER.to_vec();
    agent.further = vec!["--node-ip", "fd00:2::11"];
    for (machine, address) in [(&server, "fd00:2::10/64"), (&agent, "fd00:2::11/64")] {
        machine.add_address(address);
        machine.try_run_with("nft", &["-f", "-"], WALL.as_bytes());
        machine.import_example_images();
    }
    server.start();
    agent.join(&server);
    server.apply(PODS);
    server.kubectl(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"]);
    both_families_pass(&server, &agent);
    // What fits through the wire fits through the device.
    assert!(agent.run("ip", &["-o", "link", "show", "kinglet0"]).contains("mtu 1420"));
    assert!(agent.run("ip", &["-o", "link", "show", DEVICE]).contains("mtu 1420"));
    a_key_is_kept(&server, &mut agent);
    what_is_taken_away_comes_back(&server, &mut agent);
    agent.stop(Signal::SIGTERM);
    server.kubectl(&["delete", "node", "two"]);
    server.eventually("the peer is gone", || device(&server).peers.is_empty());
    server.eventually("and so are the ways to it", || {
        !server.run("ip", &["route"]).contains(DEVICE)
            && !server.run("ip", &["-6", "route"]).contains("fd42:0:0:1")
    });
    end(&mut server, &mut agent);
}

/// What the kernel says of the machine's device.
fn device(machine: &Machine) -> Device {
    machine.inside(|| {
        let index = nix::net::if_::if_nametoindex(DEVICE).unwrap();
        Control::open().unwrap().device(index).unwrap()
    })
}

fn both_families_pass(server: &Machine, agent: &Machine) {
    pods_reach_each_other(server, agent);
    let second =
        |pod: &str| server.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIPs[1].ip}"]);
    let (here, there) = (second("here"), second("there"));
    for (pod, to) in [("here", &there), ("there", &here)] {
        let url = format!("http://[{to}]:8080/");
        let words = ["exec", pod, "-c", "web", "--", "wget", "-qO-", &url];
        server.eventually("a pod reaches a pod by its other address", || {
            server.try_run("kubectl", &words).status.success()
        });
    }
    assert!(server.get(&format!("[{there}]:8080"), "/").is_some());
    assert!(agent.get(&format!("[{here}]:8080"), "/").is_some());
    for (machine, other) in [(server, "192.0.2.11:51820"), (agent, "192.0.2.10:51820")] {
        let peers = device(machine).peers;
        let endpoints: Vec<_> = peers.values().map(|peer| peer.endpoint.unwrap()).collect();
        assert_eq!(endpoints, [other.parse().unwrap()]);
    }
}

fn annotation(server: &Machine) -> String {
    let path = "jsonpath={.metadata.annotations.kinglet\\.dev/wireguard-key}";
    server.kubectl(&["get", "node", "two", "-o", path])
}

fn a_key_is_kept(server: &Machine, agent: &mut Machine) {
    let file = agent.path("data/agent/wireguard.key");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (told, had) = (annotation(server), device(agent));
    assert_eq!(had.key.unwrap().to_string(), told);
    assert!(device(server).peers.contains_key(&had.key.unwrap()));
    agent.stop(Signal::SIGTERM);
    // Pods go on meanwhile.
    assert_eq!(device(agent), had);
    agent.spawn_agent(server, None);
    both_families_pass(server, agent);
    assert_eq!((annotation(server), device(agent).key), (told, had.key));
}

fn what_is_taken_away_comes_back(server: &Machine, agent: &mut Machine) {
    agent.run("ip", &["link", "delete", DEVICE]);
    both_families_pass(server, agent);
    agent.stop(Signal::SIGKILL);
    agent.run("ip", &["link", "delete", DEVICE]);
    agent.spawn_agent(server, None);
    both_families_pass(server, agent);
    // Another key makes another peer.
    let before = device(agent).key.unwrap();
    agent.stop(Signal::SIGTERM);
    std::fs::remove_file(agent.path("data/agent/wireguard.key")).unwrap();
    agent.spawn_agent(server, None);
    server.eventually("the new key is known", || {
        let peers = device(server).peers;
        peers.len() == 1 && !peers.contains_key(&before)
    });
    both_families_pass(server, agent);
}
