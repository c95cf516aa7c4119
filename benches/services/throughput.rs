//! What rules cost packets of connections that are there: as much as nothing, it should be.

use crate::rig::{Pod, on_a_node, run};
use kinglet::api::ObjectKey;
use kinglet::network::overlay::{self, Means, Member, OverlayConfig};
use kinglet::network::{Attachment, Bandwidth, BridgeConfig, BridgeNetwork, PodNetwork, PodTraits};
use kinglet::stdx::{Tasks, monotonic};
use kinglet::sys::mount;
use kinglet::sys::namespace::{self, Kind};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

/// One measurement takes so long.
const TIME: Duration = Duration::from_secs(2);

/// The two kinds are measured in turns, so many times.
const ROUNDS: usize = 5;

const PORT: u16 = 9_001;

/// Written at once.
const CHUNK_BYTES: usize = 128 << 10;

/// Where two nodes see each other.
const NODES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// Pods of one node, with all rules and without any.
pub(crate) fn on_one_node() {
    on_a_node(async |mut node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        sink(&a);
        let with = best(&b, &a).await;
        node.stop_all().await;
        run("nft", "flush ruleset").await;
        let without = best(&b, &a).await;
        tell("pod to pod on one node", with, without);
    });
}

/// Pods of two nodes, by VXLAN, with all rules and without any.
pub(crate) fn between_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
    for path in [&one, &two] {
        namespace::make_pinned(&[(Kind::Network, path.clone())], namespace::loopback_up).unwrap();
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let plug = || runtime().block_on(join(&two));
    namespace::run_in_network(&one, plug).unwrap();
    let start = |path: &Path, number: usize| {
        let state = directory.path().join(format!("state-{number}"));
        namespace::run_in_network(path, || {
            let runtime = runtime();
            let side = runtime.block_on(Side::start(&state, number));
            (runtime, side)
        })
        .unwrap()
    };
    let ((first, near), (second, far)) = (start(&one, 0), start(&two, 1));
    sink(&far.pod);
    let measure = || {
        // The runtimes rest meanwhile: nothing is left to be done.
        let runtime = runtime();
        runtime.block_on(best(&near.pod, &far.pod))
    };
    let with = measure();
    for path in [&one, &two] {
        let flush = || runtime().block_on(run("nft", "flush ruleset"));
        namespace::run_in_network(path, flush).unwrap();
    }
    let without = measure();
    tell("pod to pod over VXLAN", with, without);
    drop((near, far));
    drop((first, second));
    mount::unmount_all(directory.path()).unwrap();
}

/// One of two nodes.
struct Side {
    pod: Pod,
    _members: watch::Sender<Option<Vec<Member>>>,
    _tasks: Tasks,
}

impl Side {
    async fn start(state: &Path, number: usize) -> Self {
        let mut tasks = Tasks::default();
        let settings = BridgeConfig {
            bridge: "kinglet0".to_owned(),
            overhead: 50,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            state_directory: state.join("network"),
        };
        let network = BridgeNetwork::open(settings, &mut tasks).unwrap();
        network.configure(vec![range(number).parse().unwrap()]).await.unwrap();
        let own = OverlayConfig {
            means: Means::Vxlan,
            node: name(number),
            address: NODES[number].parse().unwrap(),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        };
        let members = watch::Sender::new(Some(vec![member(0), member(1)]));
        overlay::start(own, members.subscribe(), &mut tasks).unwrap();
        let namespace = state.join("pod");
        namespace::make_pinned(&[(Kind::Network, namespace.clone())], || Ok(())).unwrap();
        let attachment = Attachment {
            sandbox: "0123456789abcdef".to_owned(),
            pod: ObjectKey::namespaced("default", "pod"),
            namespace: namespace.clone(),
            host_ports: Vec::new(),
            traits: PodTraits::default(),
            bandwidth: Bandwidth::default(),
        };
        let addresses = network.attach(attachment).await.unwrap();
        let pod = Pod { name: "pod".to_owned(), namespace, addresses };
        let there = format!("10.42.{}.0/24", 1 - number);
        while !run("ip", "route").await.contains(&there) {
            tokio::task::yield_now().await;
        }
        Self { pod, _members: members, _tasks: tasks }
    }
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

fn range(number: usize) -> String {
    format!("10.42.{number}.0/24")
}

fn member(number: usize) -> Member {
    Member {
        name: name(number),
        ranges: vec![range(number).parse().unwrap()],
        addresses: vec![NODES[number].parse().unwrap()],
        key: None,
        since: jiff::Timestamp::UNIX_EPOCH,
    }
}

/// Puts a wire between the namespace that this runs in and another.
async fn join(other: &Path) {
    let other = std::fs::File::open(other).unwrap();
    let there = format!("/proc/{}/fd/{}", std::process::id(), other.as_raw_fd());
    run("ip", "link add up0 type veth peer w0").await;
    run("ip", &format!("link set w0 netns {there}")).await;
    run("ip", &format!("addr add {}/24 dev up0", NODES[0])).await;
    run("ip", "link set up0 up").await;
    let inside = format!("--net={there} ip");
    run("nsenter", &format!("{inside} addr add {}/24 dev w0", NODES[1])).await;
    run("nsenter", &format!("{inside} link set w0 up")).await;
}

/// Takes whatever comes.
fn sink(pod: &Pod) {
    let listen = || TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    let listener = namespace::run_in_network(&pod.namespace, listen).unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            while let Ok(1..) = stream.read(&mut buffer) {}
        }
    });
}

/// Bytes per second, at best.
async fn best(from: &Pod, to: &Pod) -> f64 {
    let (namespace, to) = (from.namespace.clone(), address(to));
    let measured = tokio::task::spawn_blocking(move || {
        let rounds = || (0..ROUNDS).map(|_| throughput(to)).fold(0.0, f64::max);
        namespace::run_in_network(&namespace, rounds).unwrap()
    });
    measured.await.unwrap()
}

fn address(pod: &Pod) -> SocketAddr {
    let address: IpAddr = pod.addresses[0];
    (address, PORT).into()
}

fn throughput(to: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(to).unwrap();
    let chunk = vec![0; CHUNK_BYTES];
    let (began, mut bytes) = (monotonic(), 0.0);
    while began.elapsed() < TIME {
        stream.write_all(&chunk).unwrap();
        bytes += CHUNK_BYTES as f64;
    }
    bytes / began.elapsed().as_secs_f64()
}

fn tell(what: &str, with: f64, without: f64) {
    println!(
        "{what}: {:.2} GB/s with all rules, {:.2} without any; ratio {:.2}",
        with / 1e9,
        without / 1e9,
        with / without
    );
}
