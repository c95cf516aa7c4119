//! The pod network for real: bridges, veth pairs and nftables in network namespaces of its own.
//!
//! Needs root and `nft`. Every test makes a namespace that stands for the node, with no way out.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(unreachable_pub, reason = "the wire is shared with other suites")]

#[path = "../support/lan.rs"]
#[expect(dead_code, reason = "other suites need more of the wire")]
mod lan;
mod wire;

mod cni;
mod losses;
mod policies;
#[path = "../support/mod.rs"]
mod support;

use futures_util::FutureExt as _;
use kinglet::api::ObjectKey;
use kinglet::network::{
    Attachment, Bandwidth, BridgeConfig, BridgeNetwork, HostPort, PodNetwork, PodTraits, Protocol,
};
use kinglet::stdx::{Tasks, monotonic};
use kinglet::sys::mount;
use kinglet::sys::namespace::{self, Kind};
use kinglet::sys::process::Program;
use std::future::Future;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection on one machine takes no time; a lost packet is sent again after a second.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// On one machine a packet takes less, where its way is there.
const MOMENT: Duration = Duration::from_millis(200);

/// Runs `test` in a network namespace of its own, which stands for the node.
fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "needs root: run `make test` as root");
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node");
    namespace::make_pinned(&[(Kind::Network, node.clone())], namespace::loopback_up).unwrap();
    let run = directory.path().to_owned();
    let result = namespace::run_in_network(&node, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(test(run))))
    });
    // The node, and the pods that the test has not removed.
    mount::unmount_all(directory.path()).unwrap();
    if let Err(panic) = result.unwrap() {
        std::panic::resume_unwind(panic);
    }
}

/// The pod network of one test, with the pods' namespaces.
struct Node {
    directory: PathBuf,
    network: BridgeNetwork,
    /// Ends the network's task when dropped.
    _tasks: Tasks,
}

impl Node {
    async fn start(directory: &Path) -> Self {
        let mut tasks = Tasks::default();
        let config = BridgeConfig {
            bridge: "kinglet0".to_owned(),
            overhead: 0,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
            state_directory: directory.join("network"),
        };
        let network = BridgeNetwork::open(config, &mut tasks).unwrap();
        let ranges = vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()];
        network.configure(ranges).await.unwrap();
        Self { directory: directory.to_owned(), network, _tasks: tasks }
    }

    async fn add_pod(&self, name: &str, host_ports: Vec<HostPort>) -> Pod {
        let namespace = self.directory.join(name);
        if !namespace.exists() {
            namespace::make_pinned(&[(Kind::Network, namespace.clone())], || Ok(())).unwrap();
        }
        let attachment = Attachment {
            sandbox: format!("{name}0123456789abcdef"),
            pod: ObjectKey::namespaced("default", name),
            namespace: namespace.clone(),
            host_ports,
            traits: PodTraits::default(),
            bandwidth: Bandwidth::default(),
        };
        let addresses = self.network.attach(attachment).await.unwrap();
        Pod { namespace, addresses }
    }

    async fn remove_pod(&self, name: &str) {
        self.network.detach(&format!("{name}0123456789abcdef")).await.unwrap();
        namespace::unpin(&self.directory.join(name)).unwrap();
    }
}

struct Pod {
    namespace: PathBuf,
    addresses: Vec<IpAddr>,
}

impl Pod {
    /// Whether a listener of this pod is reached at `to`, within a moment.
    fn is_reached(&self, port: u16, to: SocketAddr, client: Option<&Self>) -> bool {
        let _listener = namespace::run_in_network(&self.namespace, || listen(port)).unwrap();
        let connect = move || TcpStream::connect_timeout(&to, MOMENT).is_ok();
        match client {
            Some(pod) => namespace::run_in_network(&pod.namespace, connect).unwrap(),
            None => connect(),
        }
    }

    /// The peer that a listener of this pod sees when `client` connects to `to`.
    fn serve_once(&self, port: u16, to: SocketAddr, client: Option<&Self>) -> IpAddr {
        let listener = namespace::run_in_network(&self.namespace, || listen(port)).unwrap();
        let connect = move || TcpStream::connect_timeout(&to, CONNECT_DEADLINE);
        let connected = match client {
            Some(pod) => namespace::run_in_network(&pod.namespace, connect).unwrap(),
            None => connect(),
        };
        let mut stream = connected.unwrap_or_else(|error| panic!("{to}: {error}"));
        let (mut served, peer) = listener.accept().unwrap();
        served.write_all(b"hello").unwrap();
        drop(served);
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        peer.ip().to_canonical()
    }
}

/// Listens on a port that an earlier listener may still have for a moment: a program that another
/// test is about to start has copies of all descriptors until it runs.
fn listen(port: u16) -> TcpListener {
    let deadline = monotonic() + CONNECT_DEADLINE;
    loop {
        match TcpListener::bind(("::", port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && monotonic() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.unwrap(),
        }
    }
}

fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn port_80_on(host_port: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, host_address: None, host_port, container_port: 80 }
}

async fn printed(program: &str, arguments: &[&str]) -> String {
    let finished = Program::new(program).args(arguments).run_checked().await.unwrap();
    String::from_utf8(finished.stdout).unwrap()
}

#[test]
fn pods_reach_each_other_and_the_node_with_their_own_addresses() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let a = node.add_pod("a", vec![]).await;
        let b = node.add_pod("b", vec![]).await;
        assert_eq!(a.addresses[0].to_string(), "10.42.0.2");
        for family in 0..2 {
            let to_b = at(b.addresses[family], 80);
            assert_eq!(b.serve_once(80, to_b, Some(&a)), a.addresses[family]);
        }
        let from_node = b.serve_once(80, at(b.addresses[0], 80), None);
        assert_eq!(from_node.to_string(), "10.42.0.1");
    });
}

#[test]
fn the_first_packet_to_a_new_pod_arrives_at_once() {
    on_a_node(async |directory| {
        let (node, of_node) = (Node::start(&directory).await, directory.join("node"));
        let first = node.add_pod("first", vec![]).await;
        // Another one each time: an earlier listener may still have its own for a moment.
        let mut ports = 5_000..;
        let mut packets = |to: &Pod, from: &[&Path]| {
            for address in &to.addresses {
                for sender in from {
                    let place = at(*address, ports.next().unwrap()).to_string();
                    assert!(wire::is_heard(sender, &to.namespace, &place), "{place} of {sender:?}");
                }
            }
        };
        packets(&first, &[&of_node]);
        for name in ["a", "b", "c", "d", "e"] {
            let pod = node.add_pod(name, vec![]).await;
            packets(&pod, &[&first.namespace, &of_node]);
            packets(&first, &[&pod.namespace]);
        }
    });
}

#[test]
fn host_ports_lead_to_their_pod_from_everywhere() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("server", vec![port_80_on(8080)]).await;
        let client = node.add_pod("client", vec![]).await;
        let node_port = at("10.42.0.1".parse().unwrap(), 8080);
        assert_eq!(server.serve_once(80, node_port, Some(&client)), client.addresses[0]);
        // A pod that reaches itself sees the node: it would not answer to its own address.
        assert_eq!(server.serve_once(80, node_port, Some(&server)).to_string(), "10.42.0.1");
        server.serve_once(80, node_port, None);
        server.serve_once(80, at("127.0.0.1".parse().unwrap(), 8080), None);
    });
}

#[test]
fn a_host_port_has_one_pod() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        node.add_pod("first", vec![port_80_on(8080)]).await;
        let second = Attachment {
            sandbox: "second".to_owned(),
            pod: ObjectKey::namespaced("default", "second"),
            namespace: directory.join("first"),
            host_ports: vec![port_80_on(8080)],
            traits: PodTraits::default(),
            bandwidth: Bandwidth::default(),
        };
        let error = node.network.attach(second).await.unwrap_err();
        assert_eq!(error.to_string(), "host port 8080 is taken by pod default/first");
    });
}

#[test]
fn a_new_process_keeps_what_is_attached() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let before = node.add_pod("a", vec![port_80_on(8080)]).await;
        drop(node);
        let node = Node::start(&directory).await;
        let b = node.add_pod("b", vec![]).await;
        assert_ne!(b.addresses, before.addresses);
        let after = node.add_pod("a", vec![port_80_on(8080)]).await;
        assert_eq!(after.addresses, before.addresses);
        after.serve_once(80, at("10.42.0.1".parse().unwrap(), 8080), Some(&b));
    });
}

#[test]
fn what_an_earlier_process_began_is_completed() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let pod = node.add_pod("a", vec![port_80_on(8080)]).await;
        // As it is when the process ends as soon as there is a veth pair.
        let nsenter = format!("--net={}", pod.namespace.display());
        printed("nsenter", &[&nsenter, "ip", "link", "set", "eth0", "down"]).await;
        printed("nsenter", &[&nsenter, "ip", "addr", "flush", "dev", "eth0"]).await;
        let line = printed("ip", &["-o", "link", "show", "type", "veth"]).await;
        let interface = line.split([' ', '@']).nth(1).unwrap().to_owned();
        printed("ip", &["link", "set", &interface, "down", "nomaster"]).await;
        drop(node);
        let node = Node::start(&directory).await;
        let b = node.add_pod("b", vec![]).await;
        let after = node.add_pod("a", vec![port_80_on(8080)]).await;
        assert_eq!(after.addresses, pod.addresses);
        after.serve_once(80, at("10.42.0.1".parse().unwrap(), 8080), Some(&b));
        after.serve_once(80, at(after.addresses[1], 80), Some(&b));
        let details = printed("bridge", &["-d", "link", "show", "dev", &interface]).await;
        assert!(details.contains("hairpin on"), "{details}");
    });
}

#[test]
fn an_attachment_is_finished_also_when_nobody_waits() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        node.add_pod("b", vec![]).await;
        assert!(node.add_pod("a", vec![]).now_or_never().is_none(), "it takes a while");
        // Whoever comes next waits for its turn.
        node.network.detach("another").await.unwrap();
        let nsenter = format!("--net={}", directory.join("a").display());
        let addresses = printed("nsenter", &[&nsenter, "ip", "-o", "addr"]).await;
        assert!(addresses.contains("10.42.0.3/32"), "{addresses}");
    });
}

#[test]
fn what_has_no_sandbox_any_more_is_freed() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        node.add_pod("gone", vec![port_80_on(8080)]).await;
        let kept = node.add_pod("kept", vec![]).await;
        node.network.retain(vec!["kept0123456789abcdef".to_owned()]).await.unwrap();
        assert_eq!(printed("ip", &["-o", "link", "show", "type", "veth"]).await.lines().count(), 1);
        assert!(!printed("nft", &["list", "ruleset"]).await.contains("8080"));
        let again = node.add_pod("kept", vec![]).await;
        assert_eq!(again.addresses, kept.addresses);
    });
}

#[test]
fn nothing_is_left_behind() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        node.add_pod("a", vec![port_80_on(8080)]).await;
        node.remove_pod("a").await;
        assert_eq!(std::fs::read_dir(directory.join("network")).unwrap().count(), 0);
        node.network.remove().await.unwrap();
        assert_eq!(printed("ip", &["-o", "link", "show"]).await.lines().count(), 1);
        assert_eq!(printed("nft", &["list", "ruleset"]).await, "");
    });
}

#[test]
fn a_pod_sends_and_receives_no_faster_than_it_may() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let namespace = directory.join("slow");
        namespace::make_pinned(&[(Kind::Network, namespace.clone())], || Ok(())).unwrap();
        let bandwidth = Bandwidth { ingress: Some(20_000_000), egress: Some(80_000_000_000) };
        let slow = Attachment {
            sandbox: "slow0123456789".to_owned(),
            pod: ObjectKey::namespaced("default", "slow"),
            namespace: namespace.clone(),
            host_ports: vec![],
            traits: PodTraits::default(),
            bandwidth,
        };
        let addresses = node.network.attach(slow.clone()).await.unwrap();
        // Again, as another process does it.
        node.network.attach(slow).await.unwrap();
        let outside = printed("tc", &["qdisc", "show", "dev", "vethslow0123456"]).await;
        assert!(outside.contains("tbf 1: root") && outside.contains("rate 20Mbit"), "{outside}");
        let nsenter = format!("--net={}", namespace.display());
        let inside = printed("nsenter", &[&nsenter, "tc", "qdisc", "show", "dev", "eth0"]).await;
        assert!(inside.contains("tbf 1: root") && inside.contains("rate 80Gbit"), "{inside}");
        let other = node.add_pod("other", vec![]).await;
        let slow = Pod { namespace, addresses };
        slow.serve_once(80, at(slow.addresses[0], 80), Some(&other));
    });
}

#[test]
fn pods_do_not_reach_what_listens_for_the_node_alone() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let pod = node.add_pod("a", vec![]).await;
        let listener = TcpListener::bind(("127.0.0.1", 7777)).unwrap();
        let nsenter = format!("--net={}", pod.namespace.display());
        let route = ["ip", "route", "replace", "127.0.0.1/32", "via", "10.42.0.1", "dev", "eth0"];
        let away = ["ip", "route", "del", "table", "local", "127.0.0.0/8", "dev", "lo"];
        let one = ["ip", "route", "del", "table", "local", "127.0.0.1", "dev", "lo"];
        let allow = ["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"];
        for command in [&away[..], &one[..], &route[..], &allow[..]] {
            printed("nsenter", &[&[nsenter.as_str()], command].concat()).await;
        }
        let connect = || {
            let to = at("127.0.0.1".parse().unwrap(), 7777);
            TcpStream::connect_timeout(&to, Duration::from_millis(300))
        };
        namespace::run_in_network(&pod.namespace, connect).unwrap().unwrap_err();
        drop(listener);
    });
}

#[test]
fn out_of_the_cluster_pods_have_the_nodes_address() {
    on_a_node(async |directory| {
        let world = directory.join("world");
        namespace::make_pinned(&[(Kind::Network, world.clone())], || Ok(())).unwrap();
        join_world(&world).await;
        let node = Node::start(&directory).await;
        let pod = node.add_pod("a", vec![]).await;
        let world = Pod { namespace: world, addresses: vec!["192.0.2.2".parse().unwrap()] };
        let seen = world.serve_once(80, at(world.addresses[0], 80), Some(&pod));
        assert_eq!(seen.to_string(), "192.0.2.1");
        namespace::unpin(&world.namespace).unwrap();
    });
}

/// A veth pair between the node (192.0.2.1) and a namespace that stands for the world (192.0.2.2).
async fn join_world(world: &Path) {
    let nsenter = format!("--net={}", world.display());
    printed("nsenter", &[&nsenter, "ip", "link", "add", "up0", "type", "veth", "peer", "w0"]).await;
    printed("nsenter", &[&nsenter, "ip", "addr", "add", "192.0.2.2/24", "dev", "w0"]).await;
    printed("nsenter", &[&nsenter, "ip", "link", "set", "w0", "up"]).await;
    // The node's own namespace, by the thread that runs this test.
    let here = format!("/proc/{}/ns/net", nix::unistd::gettid());
    let host = std::fs::File::open(here).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&host);
    let path = format!("/proc/{}/fd/{fd}", std::process::id());
    printed("nsenter", &[&nsenter, "ip", "link", "set", "up0", "netns", &path]).await;
    printed("ip", &["addr", "add", "192.0.2.1/24", "dev", "up0"]).await;
    printed("ip", &["link", "set", "up0", "up"]).await;
}
