//! The cluster's DNS on one core: how many questions a second, what each costs, and how long answers
//! take when they come at the pace that is to be reached. Prints figures; checks nothing.
//!
//! `cargo bench --bench dns` (root): the DNS of a node with a thousand Services, in this process and
//! a network namespace of its own, with an API server on a store in memory. The client has the other
//! core; on a machine with one, both suffer.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed run")]
#![expect(clippy::print_stdout, reason = "figures go to stdout")]
#![expect(unreachable_pub, reason = "the questions are shared with other suites")]

#[path = "../tests/support/questions.rs"]
#[expect(dead_code, reason = "other benchmarks have several clients")]
mod questions;
#[path = "../tests/support/mod.rs"]
mod support;

use futures_util::StreamExt as _;
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use kinglet::apiserver::Identity;
use kinglet::client::{Cache, Client, EventRecorder, Reporter, Selection};
use kinglet::dns::{self, Config, Sources};
use kinglet::stdx::{Clock, Entropy, Tasks, monotonic};
use kinglet::sys::mount;
use kinglet::sys::namespace::{self, Kind};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use questions::{Pace, question};
use serde_json::json;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use support::Api;

/// The product's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SERVICES: usize = 1_000;
const ENDPOINTS: usize = 20;
const CREATES_AT_ONCE: usize = 32;

const DNS: &str = "10.43.0.10";
/// Stands for a server of the house.
const OTHER: &str = "127.0.0.53:53";

/// How many questions are under way when it is asked as fast as it answers.
const UNDER_WAY: usize = 64;
const EACH_SECOND: u32 = 50_000;
const LENGTH: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(500);

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node");
    namespace::make_pinned(&[(Kind::Network, node.clone())], namespace::loopback_up).unwrap();
    let path = directory.path().to_owned();
    namespace::run_in_network(&node, move || measure(&path)).unwrap();
    mount::unmount_all(directory.path()).unwrap();
}

fn measure(directory: &Path) {
    let other = UdpSocket::bind(OTHER).unwrap();
    let resolv_conf = directory.join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.53\n").unwrap();
    let (ready, is_ready) = mpsc::channel();
    // Threads keep the network of the one that starts them; these end with the process.
    let scope = |work: Box<dyn FnOnce() + Send>| std::thread::spawn(work);
    scope(Box::new(move || answer_as_other(&other)));
    scope(Box::new(move || serve(resolv_conf, &ready)));
    let server = is_ready.recv().unwrap();
    pin(CLIENT_CORE);
    println!(
        "one core: each row as fast as it answers ({UNDER_WAY} under way), then at {EACH_SECOND}/s"
    );
    for (what, code, questions) in rows() {
        row(what, &questions, code, server);
    }
}

/// What is asked, with the code of the answers.
fn rows() -> Vec<(&'static str, u8, Vec<Vec<u8>>)> {
    let services = |kind| {
        let name = move |n| format!("web-{n}.shop.svc.cluster.local");
        (0..SERVICES).map(move |n| question(&name(n), kind)).collect::<Vec<_>>()
    };
    let one = |name: &str, kind| vec![question(name, kind)];
    let missing = |n| {
        question(&format!("web-{n}.shop.svc.cluster.local.shop.svc.cluster.local"), RecordType::A)
    };
    let outside = |n| question(&format!("host-{n}.example.org"), RecordType::A);
    vec![
        ("cluster name, A", 0, services(RecordType::A)),
        ("cluster name, AAAA: no data", 0, services(RecordType::AAAA)),
        ("name that is not there", 3, (0..SERVICES).map(missing).collect()),
        ("headless, 20 endpoints", 0, one("peers.shop.svc.cluster.local", RecordType::A)),
        ("headless, SRV of 20", 0, one("_http._tcp.peers.shop.svc.cluster.local", RecordType::SRV)),
        ("name of an address, PTR", 0, one("1.0.43.10.in-addr.arpa", RecordType::PTR)),
        ("outside, cached", 0, (0..SERVICES).map(outside).collect()),
    ]
}

fn row(what: &str, questions: &[Vec<u8>], code: u8, server: Server) {
    let at = SocketAddr::new(DNS.parse().unwrap(), 53);
    let ask = |pace, length| questions::ask(at, questions, (pace, code), monotonic() + length);
    ask(Pace::UnderWay(UNDER_WAY), WARM_UP);
    let before = server.cpu_seconds();
    let mut fast = ask(Pace::UnderWay(UNDER_WAY), LENGTH);
    let cpu = server.cpu_seconds() - before;
    let (answered, (p50, p99)) = (fast.milliseconds.len() as f64, fast.percentiles());
    let (rate, each) = (answered / LENGTH.as_secs_f64(), cpu * 1e6 / answered);
    println!(
        "{what:<28} {rate:>8.0}/s {each:>6.2} us  p50 {p50:.3} ms p99 {p99:.3} ms, {} lost",
        fast.lost
    );
    let mut paced = ask(Pace::EachSecond(EACH_SECOND), LENGTH);
    let (p50, p99) = paced.percentiles();
    let rate = paced.milliseconds.len() as f64 / LENGTH.as_secs_f64();
    println!(
        "{:<28} {rate:>8.0}/s            p50 {p50:.3} ms p99 {p99:.3} ms, {} lost",
        "", paced.lost
    );
}

/// The thread that the DNS has.
#[derive(Clone, Copy, Debug)]
struct Server(Pid);

impl Server {
    /// What it has had of a processor.
    fn cpu_seconds(self) -> f64 {
        let path = format!("/proc/self/task/{}/schedstat", self.0);
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    }
}

fn pin(core: usize) {
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut set = CpuSet::new();
    set.set(core % cores).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Answers every question with one address, as a server of the house.
fn answer_as_other(socket: &UdpSocket) {
    let mut buffer = [0; 1_500];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        let mut message = Message::from_vec(&buffer[..length]).unwrap();
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        message.add_answer(Record::from_rdata(name, 3_600, RData::A(A::new(192, 0, 2, 1))));
        socket.send_to(&message.to_vec().unwrap(), client).unwrap();
    }
}

/// The DNS on one core, for as long as this process lives.
fn serve(resolv_conf: PathBuf, ready: &mpsc::Sender<Server>) {
    pin(SERVER_CORE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let api = Api::start().await;
        fill(&api).await;
        let identity = Identity::service_account("kube-system", "coredns");
        let client = Client::new(api.server.local(identity), "bench");
        let mut tasks = Tasks::default();
        let sources = Sources {
            services: Cache::start(client.clone(), Selection::default(), &mut tasks),
            endpoint_slices: Cache::start(client.clone(), Selection::default(), &mut tasks),
            namespaces: Cache::start(client.clone(), Selection::default(), &mut tasks),
            nodes: Cache::start(client.clone(), Selection::default(), &mut tasks),
            custom: Cache::start(
                client.clone(),
                Selection::fields("metadata.name=coredns-custom".to_owned()),
                &mut tasks,
            ),
        };
        let config = Config {
            node: "bench".to_owned(),
            domain: "cluster.local".to_owned(),
            addresses: vec![DNS.parse().unwrap()],
            interface: "kinglet-dns".to_owned(),
            ranges: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
            resolv_conf,
            entropy: Entropy::system(),
        };
        let reporter = Reporter { component: "dns".to_owned(), host: "bench".to_owned() };
        let recorder = EventRecorder::start(client, reporter, Clock::system(), &mut tasks);
        let answers = dns::start(config, sources, recorder, &mut tasks).unwrap();
        wait_until_asked(&answers).await;
        ready.send(Server(gettid())).unwrap();
        std::future::pending::<()>().await;
    });
}

/// Asks until it answers about the last Service.
async fn wait_until_asked(_answers: &dns::Dns) {
    let asked = question(&format!("web-{}.shop.svc.cluster.local", SERVICES - 1), RecordType::A);
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.unwrap();
    support::eventually("the DNS answers", async || {
        socket.send_to(&asked, (DNS, 53)).await.ok()?;
        let mut answer = [0; 512];
        let heard = socket.recv(&mut answer);
        let heard = tokio::time::timeout(Duration::from_millis(100), heard).await;
        (matches!(heard, Ok(Ok(_))) && answer[3] & 0x0f == 0).then_some(())
    })
    .await;
}

async fn fill(api: &Api) {
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.ok();
    let services = "/api/v1/namespaces/shop/services";
    let creates = (0..SERVICES).map(async |n| {
        let ports = json!([{"name": "http", "port": 80}]);
        let service = json!({"metadata": {"name": format!("web-{n}")}, "spec": {"ports": ports}});
        api.post(services, &service).await.ok();
    });
    futures_util::stream::iter(creates).buffer_unordered(CREATES_AT_ONCE).collect::<Vec<_>>().await;
    let ports = json!([{"name": "http", "port": 80}]);
    let peers =
        json!({"metadata": {"name": "peers"}, "spec": {"clusterIP": "None", "ports": ports}});
    api.post(services, &peers).await.ok();
    let endpoints: Vec<_> = (1..=ENDPOINTS)
        .map(|n| json!({"addresses": [format!("10.42.0.{n}")], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "metadata": {"name": "peers", "labels": {"kubernetes.io/service-name": "peers"}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    });
    api.post("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", &slice).await.ok();
}
