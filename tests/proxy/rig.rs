//! A node with its pod network and proxy, an API server on a store in memory, pods that say who they
//! are, and a client outside.

use crate::support::{Api, config, eventually, store};
use kinglet::api::ObjectKey;
use kinglet::apiserver::Identity;
use kinglet::client::{Cache, Client, EventRecorder, Reporter, Selection};
use kinglet::network::{Attachment, Bandwidth, BridgeConfig, BridgeNetwork, PodNetwork, PodTraits};
use kinglet::proxy::{self, Proxy};
use kinglet::stdx::{Clock, Tasks};
use kinglet::sys::mount;
use kinglet::sys::namespace::{self, Kind};
use kinglet::sys::process::Program;
use serde_json::{Value, json};
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A connection on one machine takes no time. A packet that is dropped is sent again after a second.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// The node as its neighbours see it, and one of them.
pub(crate) const NODE: &str = "192.0.2.1";
pub(crate) const OUTSIDE: &str = "192.0.2.2";

/// Runs `test` in a network namespace of its own, which stands for the node.
pub(crate) fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "needs root: run `make test` as root");
    let directory = tempfile::tempdir().unwrap();
    let node = directory.path().join("node");
    namespace::make_pinned(&[(Kind::Network, node.clone())], namespace::loopback_up).unwrap();
    let run = directory.path().to_owned();
    let result = namespace::run_in_network(&node, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let test = async { test(Node::start(&run).await).await };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(test)))
    });
    // The node, and the pods that the test has not removed.
    mount::unmount_all(directory.path()).unwrap();
    if let Err(panic) = result.unwrap() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) struct Node {
    pub(crate) api: Api,
    directory: PathBuf,
    network: BridgeNetwork,
    network_tasks: Option<Tasks>,
    proxy: Option<(Proxy, Tasks)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: PathBuf,
    pub(crate) addresses: Vec<IpAddr>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    Pod(&'a Pod),
    Node,
}

impl Node {
    async fn start(directory: &Path) -> Self {
        let mut tasks = Tasks::default();
        let settings = BridgeConfig {
            bridge: "kinglet0".to_owned(),
            overhead: 0,
            cluster_cidrs: cluster_cidrs(),
            state_directory: directory.join("network"),
        };
        let network = BridgeNetwork::open(settings, &mut tasks).unwrap();
        let ranges = vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()];
        network.configure(ranges).await.unwrap();
        let mut settings = config();
        settings.service_cidrs = service_cidrs();
        let api = Api::on(store(), settings).await;
        let mut node = Self {
            api,
            directory: directory.to_owned(),
            network,
            network_tasks: Some(tasks),
            proxy: None,
        };
        node.start_proxy();
        node
    }

    pub(crate) fn start_proxy(&mut self) {
        let mut tasks = Tasks::default();
        let client =
            Client::new(self.api.server.local(Identity::new(proxy::IDENTITY, &[])), "test");
        let reporter = Reporter { component: proxy::COMPONENT.to_owned(), host: "here".to_owned() };
        let recorder = EventRecorder::start(client.clone(), reporter, Clock::system(), &mut tasks);
        let everything = Selection::default;
        let parts = proxy::Parts {
            services: Cache::start_unawaited(client.clone(), everything(), &mut tasks),
            endpoint_slices: Cache::start_unawaited(client.clone(), everything(), &mut tasks),
            nodes: Cache::start_unawaited(client.clone(), everything(), &mut tasks),
            service_cidrs: Cache::start_unawaited(client, everything(), &mut tasks),
            recorder,
            clock: Clock::system(),
        };
        let settings = proxy::Config {
            node_name: "here".to_owned(),
            node_ips: vec![NODE.parse().unwrap()],
            cluster_cidrs: cluster_cidrs(),
            service_cidrs: service_cidrs(),
            interface: "kinglet-svc".to_owned(),
        };
        let proxy = proxy::start(settings, parts, &mut tasks);
        self.proxy = Some((proxy, tasks));
    }

    pub(crate) async fn stop_proxy(&mut self) {
        let (_, tasks) = self.proxy.take().unwrap();
        tasks.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// Nobody writes rules again that are taken away.
    pub(crate) async fn stop_all(&mut self) {
        self.stop_proxy().await;
        self.network_tasks.take().unwrap().stop(Duration::from_secs(5)).await.unwrap();
    }

    /// What the proxy has counted.
    pub(crate) fn metrics(&self) -> String {
        self.proxy.as_ref().unwrap().0.metrics()
    }

    /// A pod that says its name and who asks, on ports 80 and 81 of TCP and 53 of UDP.
    pub(crate) async fn add_pod(&self, name: &str) -> Pod {
        let namespace = self.directory.join(name);
        namespace::make_pinned(&[(Kind::Network, namespace.clone())], || Ok(())).unwrap();
        let attachment = Attachment {
            sandbox: format!("{name}0123456789abcdef"),
            pod: ObjectKey::namespaced("default", name),
            namespace: namespace.clone(),
            host_ports: Vec::new(),
            traits: PodTraits::default(),
            bandwidth: Bandwidth::default(),
        };
        let addresses = self.network.attach(attachment).await.unwrap();
        let pod = Pod { name: name.to_owned(), namespace, addresses };
        pod.serve();
        pod
    }

    /// A namespace beside the node, on the same network: 192.0.2.2. It sends everything to the node.
    pub(crate) async fn add_outsider(&self) -> Pod {
        let namespace = self.directory.join("outside");
        namespace::make_pinned(&[(Kind::Network, namespace.clone())], namespace::loopback_up)
            .unwrap();
        let outside = format!("--net={}", namespace.display());
        let inside = |arguments: &str| {
            let all = format!("{outside} ip {arguments}");
            async move { run("nsenter", &all).await }
        };
        inside("link add up0 type veth peer w0").await;
        inside("addr add 192.0.2.2/24 dev w0").await;
        inside("link set w0 up").await;
        // The node's own namespace, by the thread that runs this test.
        let here = format!("/proc/{}/ns/net", nix::unistd::gettid());
        let host = std::fs::File::open(here).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&host);
        inside(&format!("link set up0 netns /proc/{}/fd/{fd}", std::process::id())).await;
        run("ip", "addr add 192.0.2.1/24 dev up0").await;
        run("ip", "link set up0 up").await;
        inside("route add default via 192.0.2.1").await;
        Pod { name: "outside".to_owned(), namespace, addresses: vec![OUTSIDE.parse().unwrap()] }
    }

    /// Makes or replaces a Service with the address 10.43.0.20 and the port 80.
    pub(crate) async fn put_service(&self, name: &str, spec: Value) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "type": "ClusterIP", "clusterIP": "10.43.0.20",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            },
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        let path = format!("/api/v1/namespaces/default/services/{name}");
        // As if by `kubectl replace --force`: what cannot be changed is as it was.
        self.api.delete(&path).await;
        self.api.post("/api/v1/namespaces/default/services", &object).await.ok();
    }

    pub(crate) async fn balance(&self, name: &str, address: &str) {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        let path = format!("/api/v1/namespaces/default/services/{name}/status");
        self.api.patch(&path, "merge", &status).await.ok();
    }

    /// Makes these all endpoints of a Service: `["a"]` is a pod on this node, port 80.
    pub(crate) async fn put_endpoints(&self, service: &str, endpoints: &[&Endpoint]) {
        let families = [("IPv4", true), ("IPv6", false)];
        for (family, is_ipv4) in families {
            let of_family =
                endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == is_ipv4);
            let of_family: Vec<_> = of_family.map(|endpoint| endpoint.object()).collect();
            let name = format!("{service}-{}", family.to_lowercase());
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": name, "labels": {"kubernetes.io/service-name": service},
                },
                "addressType": family,
                "ports": [
                    {"name": "http", "port": 80, "protocol": "TCP"},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                ],
                "endpoints": of_family,
            });
            let all = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
            let path = format!("{all}/{name}");
            let answer = self.api.put(&path, &slice).await;
            if answer.code == 404 {
                self.api.post(all, &slice).await.ok();
            } else {
                answer.ok();
            }
        }
    }

    /// Waits until who asks is answered so: `a 10.42.0.3` is the pod `a`, which saw that address;
    /// `refused` and `silence` are no answers.
    pub(crate) async fn expect(&self, from: From<'_>, to: &str, expected: &str) {
        let mut last = String::new();
        let what = format!("{from:?} -> {to}: {expected}");
        eventually(&what, async || {
            last = ask(from, to).await;
            (last == expected).then_some(())
        })
        .await;
    }
}

/// One endpoint of a slice.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    address: IpAddr,
    node: &'static str,
    conditions: Value,
}

impl Endpoint {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self { address: pod.addresses[0], node: "here", conditions: json!({"ready": true}) }
    }

    pub(crate) fn ipv6_of(pod: &Pod) -> Self {
        Self { address: pod.addresses[1], ..Self::of(pod) }
    }

    pub(crate) fn elsewhere(self) -> Self {
        Self { node: "elsewhere", ..self }
    }

    pub(crate) fn with(self, conditions: Value) -> Self {
        Self { conditions, ..self }
    }

    fn object(&self) -> Value {
        json!({
            "addresses": [self.address.to_string()], "nodeName": self.node,
            "conditions": self.conditions,
        })
    }
}

impl Pod {
    /// Answers from threads of its own for as long as the process lives.
    fn serve(&self) {
        for port in [80, 81] {
            let listen = || TcpListener::bind(("::", port)).unwrap();
            let listener = namespace::run_in_network(&self.namespace, listen).unwrap();
            let name = self.name.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { return };
                    let name = name.clone();
                    std::thread::spawn(move || serve_stream(stream, &name));
                }
            });
        }
        let bind = || UdpSocket::bind(("::", 53)).unwrap();
        let socket = namespace::run_in_network(&self.namespace, bind).unwrap();
        let name = self.name.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let said = format!("{name} {}", peer.ip().to_canonical());
                socket.send_to(said.as_bytes(), peer).ok();
            }
        });
    }
}

/// Says who it is, and then the same as it hears.
fn serve_stream(mut stream: TcpStream, name: &str) {
    let Ok(peer) = stream.peer_addr() else { return };
    let said = format!("{name} {}\n", peer.ip().to_canonical());
    stream.write_all(said.as_bytes()).ok();
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// `to`: `10.43.0.20:80`, or `udp 10.43.0.20:53`.
pub(crate) async fn ask(from: From<'_>, to: &str) -> String {
    let (is_udp, address) = match to.strip_prefix("udp ") {
        Some(address) => (true, address),
        None => (false, to),
    };
    let to: SocketAddr = address.parse().unwrap();
    let namespace = match from {
        From::Pod(pod) => Some(pod.namespace.clone()),
        From::Node => None,
    };
    let asked = tokio::task::spawn_blocking(move || {
        let ask = move || if is_udp { ask_udp(to) } else { ask_tcp(to) };
        match namespace {
            Some(namespace) => namespace::run_in_network(&namespace, ask).unwrap(),
            None => ask(),
        }
    });
    match asked.await.unwrap() {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) =>
        {
            "silence".to_owned()
        }
        Err(error) => error.to_string(),
    }
}

fn ask_tcp(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT_DEADLINE)?;
    stream.set_read_timeout(Some(CONNECT_DEADLINE))?;
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        said.extend(byte);
    }
    Ok(String::from_utf8(said).unwrap().trim_end().to_owned())
}

fn ask_udp(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    ask_on(&socket, to)
}

/// Asks from a socket that may have asked before.
pub(crate) fn ask_on(socket: &UdpSocket, to: SocketAddr) -> io::Result<String> {
    socket.connect(to)?;
    socket.set_read_timeout(Some(CONNECT_DEADLINE))?;
    socket.send(b"who?")?;
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer)?;
    Ok(String::from_utf8(buffer[..count].to_vec()).unwrap())
}

/// What a program prints.
pub(crate) async fn run(program: &str, arguments: &str) -> String {
    let arguments = arguments.split_whitespace();
    let finished = Program::new(program).args(arguments).run_checked().await.unwrap();
    String::from_utf8(finished.stdout).unwrap()
}

fn cluster_cidrs() -> Vec<ipnet::IpNet> {
    vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()]
}

fn service_cidrs() -> Vec<ipnet::IpNet> {
    vec!["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()]
}
