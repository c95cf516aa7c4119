//! How fast Services are: connections set up through one, whatever their number, how soon a change is
//! in the kernel, and what rules cost those whom they do not concern. Prints figures.
//!
//! `cargo bench --bench services [SERVICES]`. Needs root, `ip` and `nft`. Nodes are network namespaces
//! with no way out, with the pod network, the proxy and an API server on a store in memory, as in the
//! tests. What is compared is the same packets on the same way without rules.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed run")]
#![expect(clippy::print_stdout, reason = "figures go to stdout")]

#[path = "../tests/proxy/rig.rs"]
#[expect(dead_code, reason = "tests use the rest of it")]
mod rig;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "services/throughput.rs"]
mod throughput;

use futures_util::StreamExt as _;
use kinglet::stdx::monotonic;
use kinglet::sys::namespace;
use rig::{Node, Pod, on_a_node, run};
use serde_json::json;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERVICES: usize = 10_000;

/// Of which each Service has so many, one of them real.
const ENDPOINTS: usize = 3;

/// Creates under way at once.
const SIDE_BY_SIDE: usize = 32;

/// Connections of one round, one after another: few, because the longer a round is the more of what
/// else happens on this machine is in it. With rounds of 2,000 the rate seemed to fall by a third with
/// 10,000 Services, which it does not where others' work is left out.
const CONNECTIONS: u32 = 200;

/// The best of so many rounds.
const ROUNDS: usize = 50;

/// Changes of a slice that are timed.
const CHANGES: usize = 50;

/// Where the pods of this program answer.
const PORT: u16 = 9_000;

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// On one machine the kernel answers at once, or there is nobody yet.
const PATIENCE: Duration = Duration::from_millis(5);

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let services: usize = asked.unwrap_or(SERVICES);
    on_a_node(async move |mut node| {
        let (a, b) = (node.add_pod("a").await, node.add_pod("b").await);
        let client = node.add_pod("client").await;
        serve(&a);
        serve(&b);
        let mut there = 0;
        for count in [1, services / 10, services] {
            make(&node, there..count, &a).await;
            there = count;
            until_said(address(count - 1), None).await;
            rest(&node).await;
            let to_pod = SocketAddr::new(a.addresses[0], PORT);
            let ways = [to_pod, address(0), address(count - 1)];
            let [direct, first, last] = rates(&client, ways).await;
            println!(
                "connections through one of {count} Services: {first:.0}/s (the first), {last:.0}/s \
                 (the last), {direct:.0}/s without one; ratio {:.2}",
                first.min(last) / direct
            );
        }
        change(&node, [&a, &b]).await;
        load(&mut node, services).await;
    });
    throughput::on_one_node();
    throughput::between_nodes();
}

/// The cluster address of the Service of that number: from 10.43.1.1 on.
fn address(number: usize) -> SocketAddr {
    let number = u32::try_from(number).unwrap();
    let address = u32::from(Ipv4Addr::new(10, 43, 1, 1)) + number;
    (Ipv4Addr::from(address), 80).into()
}

async fn make(node: &Node, numbers: std::ops::Range<usize>, pod: &Pod) {
    let count = numbers.len();
    let began = monotonic();
    let made = futures_util::stream::iter(numbers).for_each_concurrent(SIDE_BY_SIDE, |number| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s-{number}"), "namespace": "default"},
            "spec": {
                "clusterIP": address(number).ip().to_string(),
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            },
        });
        async move {
            node.api.post("/api/v1/namespaces/default/services", &service).await.ok();
            put_slice(node, number, pod, true).await;
        }
    });
    made.await;
    println!("  ({count} Services made in {:.1} s)", began.elapsed().as_secs_f64());
}

/// Has a Service lead to the pod. Of the other endpoints nobody answers, and none is ready.
async fn put_slice(node: &Node, number: usize, pod: &Pod, is_new: bool) {
    let others = (1..ENDPOINTS).map(|other| {
        let address = format!("10.42.{}.{}", 100 + other, number % 250 + 1);
        json!({"addresses": [address], "nodeName": "there", "conditions": {"ready": false}})
    });
    let own = json!({
        "addresses": [pod.addresses[0].to_string()], "nodeName": "here",
        "conditions": {"ready": true},
    });
    let all = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("s-{number}"),
            "labels": {"kubernetes.io/service-name": format!("s-{number}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": std::iter::once(own).chain(others).collect::<Vec<_>>(),
    });
    let answer = match is_new {
        true => node.api.post(all, &slice).await,
        false => node.api.put(&format!("{all}/s-{number}"), &slice).await,
    };
    answer.ok();
}

/// Says the first letter of its name to whoever connects, and goes on to the next.
fn serve(pod: &Pod) {
    let listen = || TcpListener::bind(("0.0.0.0", PORT)).unwrap();
    let listener = namespace::run_in_network(&pod.namespace, listen).unwrap();
    let name = pod.name.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(&name.as_bytes()[..1]).ok();
        }
    });
}

/// Until the proxy has nothing left to do.
async fn rest(node: &Node) {
    let is_pending = |line: &str| {
        !line.starts_with('#') && line.contains("changes_pending ") && !line.ends_with(" 0")
    };
    while node.metrics().lines().any(is_pending) {
        tokio::time::sleep(PATIENCE).await;
    }
}

/// Connections per second, from a pod. The ways take turns, so that what else happens on this machine
/// happens to all, and what the kernel remembers of connections that are over.
async fn rates(client: &Pod, ways: [SocketAddr; 3]) -> [f64; 3] {
    let namespace = client.namespace.clone();
    let connect = move || {
        let mut best = [f64::INFINITY; 3];
        for _ in 0..ROUNDS {
            for (way, best) in ways.iter().zip(&mut best) {
                let began = monotonic();
                for _ in 0..CONNECTIONS {
                    asked(*way, DEADLINE).unwrap();
                }
                *best = best.min(began.elapsed().as_secs_f64());
            }
        }
        best.map(|seconds| f64::from(CONNECTIONS) / seconds)
    };
    let rates = tokio::task::spawn_blocking(move || {
        namespace::run_in_network(&namespace, connect).unwrap()
    });
    rates.await.unwrap()
}

/// What is said there. The connection leaves nothing behind.
fn asked(to: SocketAddr, patience: Duration) -> io::Result<u8> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let mut said = [0];
    stream.read_exact(&mut said)?;
    Ok(said[0])
}

/// Asks again and again until somebody answers so.
async fn until_said(to: SocketAddr, expected: Option<u8>) -> Instant {
    let deadline = monotonic() + DEADLINE;
    let asking = tokio::task::spawn_blocking(move || {
        loop {
            let said = asked(to, PATIENCE).ok();
            if said.is_some() && (expected.is_none() || said == expected) {
                return monotonic();
            }
            assert!(monotonic() < deadline, "{to} is not answered");
        }
    });
    asking.await.unwrap()
}

/// From the answer to a changed slice to the first connection that goes where it says.
async fn change(node: &Node, pods: [&Pod; 2]) {
    let mut times = Vec::new();
    for turn in 0..CHANGES {
        let pod = pods[(turn + 1) % 2];
        put_slice(node, 0, pod, false).await;
        let changed = monotonic();
        let expected = pod.name.as_bytes()[0];
        let there = until_said(address(0), Some(expected)).await;
        times.push(there.duration_since(changed).as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "from a changed EndpointSlice to the kernel's rule: p50 {:.1} ms, p99 {:.1} ms",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}

/// A proxy that starts where there are no rules, until all of them are there.
async fn load(node: &mut Node, services: usize) {
    node.stop_proxy().await;
    run("nft", "delete table inet kinglet-services").await;
    let began = monotonic();
    node.start_proxy();
    let there = until_said(address(services - 1), None).await;
    println!(
        "{services} Services from nothing, with their lists: {:.2} s",
        there.duration_since(began).as_secs_f64()
    );
}
