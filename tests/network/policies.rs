//! NetworkPolicies for real: connections between pods of one node, under policies of an API server in
//! this process.

use crate::losses::{delete_rule, is_made_again_after};
use crate::support::{Api, eventually};
use crate::{CONNECT_DEADLINE, at, listen, on_a_node, port_80_on, printed};
use kinglet::api::ObjectKey;
use kinglet::apiserver::Identity;
use kinglet::client::Client;
use kinglet::netpol::{self, PolicedNetwork};
use kinglet::network::{
    Attachment, Bandwidth, BridgeConfig, BridgeNetwork, HostPort, PodNetwork as _, PodTraits,
};
use kinglet::stdx::Tasks;
use kinglet::sys::namespace::{self, Kind};
use kinglet::sys::process::Program;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What does not arrive by then has been dropped: on one machine nothing takes as long.
const DROPPED_AFTER: Duration = Duration::from_millis(300);

/// A node whose pods are policed, with the API server that has the policies.
struct Node {
    directory: PathBuf,
    api: Arc<Api>,
    network: PolicedNetwork,
    tasks: Tasks,
}

/// A pod that answers on some ports for as long as it is there.
struct Pod {
    namespace: PathBuf,
    addresses: Vec<IpAddr>,
    listeners: Vec<TcpListener>,
}

impl Node {
    async fn start(directory: &Path) -> Self {
        let api = Arc::new(Api::start().await);
        for namespace in ["x", "y"] {
            let metadata = json!({"name": namespace, "labels": {"ns": namespace}});
            api.post("/api/v1/namespaces", &json!({"metadata": metadata})).await.ok();
        }
        Self::on(directory, api).await
    }

    async fn on(directory: &Path, api: Arc<Api>) -> Self {
        let mut tasks = Tasks::default();
        let config = BridgeConfig {
            bridge: "kinglet0".to_owned(),
            overhead: 0,
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()],
            state_directory: directory.join("network"),
        };
        let network = Arc::new(BridgeNetwork::open(config, &mut tasks).unwrap());
        let identity = Identity::service_account("kube-system", netpol::ACCOUNT);
        let client = Client::new(api.server.local(identity), "test");
        let network = netpol::start(network, client, &mut tasks);
        let ranges = vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()];
        network.configure(ranges).await.unwrap();
        Self { directory: directory.to_owned(), api, network, tasks }
    }

    /// What a new process finds.
    async fn restart(self) -> Self {
        self.tasks.stop(CONNECT_DEADLINE).await.unwrap();
        drop(self.network);
        Self::on(&self.directory, self.api).await
    }

    fn attachment(&self, namespace: &str, name: &str, host_ports: Vec<HostPort>) -> Attachment {
        let labels = [("pod".to_owned(), name.to_owned())];
        Attachment {
            sandbox: format!("{name}{namespace}0123456789abcdef"),
            pod: ObjectKey::namespaced(namespace, name),
            namespace: self.directory.join(format!("{namespace}-{name}")),
            host_ports,
            traits: PodTraits { uid: name.to_owned(), labels: labels.into(), ports: vec![] },
            bandwidth: Bandwidth::default(),
        }
    }

    async fn add_pod(&self, namespace: &str, name: &str, host_ports: Vec<HostPort>) -> Pod {
        let attachment = self.attachment(namespace, name, host_ports);
        let place = attachment.namespace.clone();
        if !place.exists() {
            namespace::make_pinned(&[(Kind::Network, place.clone())], || Ok(())).unwrap();
        }
        let addresses = self.network.attach(attachment).await.unwrap();
        let listeners = namespace::run_in_network(&place, || vec![listen(80), listen(81)]).unwrap();
        Pod { namespace: place, addresses, listeners }
    }

    async fn apply(&self, name: &str, spec: &Value) {
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": name}, "spec": spec});
        self.api.post(&path("x"), &policy).await.ok();
    }

    /// Waits until the kernel's rules are so.
    async fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        eventually(what, async || is_so(&printed("nft", &["list", "ruleset"]).await).then_some(()))
            .await;
    }

    async fn withdraw(&self, name: &str) {
        self.api.delete(&format!("{}/{name}", path("x"))).await.ok();
    }
}

fn path(namespace: &str) -> String {
    format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies")
}

impl Pod {
    fn connect(&self, to: SocketAddr, patience: Duration) -> std::io::Result<TcpStream> {
        namespace::run_in_network(&self.namespace, || TcpStream::connect_timeout(&to, patience))
            .unwrap()
    }

    #[track_caller]
    fn reaches(&self, to: SocketAddr) {
        self.connect(to, CONNECT_DEADLINE).unwrap_or_else(|error| panic!("{to}: {error}"));
    }

    #[track_caller]
    fn does_not_reach(&self, to: SocketAddr) {
        let error = self.connect(to, DROPPED_AFTER).expect_err("a connection that is forbidden");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
    }

    fn tcp(&self, family: usize, port: u16) -> SocketAddr {
        at(self.addresses[family], port)
    }
}

fn pods_named(name: &str) -> Value {
    json!({"matchLabels": {"pod": name}})
}

/// The name that the chain of a policy of namespace `x` ends with.
const DENY_INGRESS: &str = "x/deny-ingress";

#[test]
fn pods_reach_what_policies_allow_and_nothing_else() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let friend = node.add_pod("x", "friend", vec![]).await;
        let stranger = node.add_pod("x", "stranger", vec![]).await;
        let neighbour = node.add_pod("y", "neighbour", vec![]).await;
        friend.reaches(server.tcp(0, 80));
        assert!(!printed("nft", &["list", "tables"]).await.contains("policies"));
        let from_y = json!([{"namespaceSelector": {"matchLabels": {"ns": "y"}}}]);
        let policy = json!({"podSelector": pods_named("server"), "ingress": [
            {"from": [{"podSelector": pods_named("friend")}], "ports": [{"port": 80}]},
            {"from": from_y, "ports": [{"port": 80, "endPort": 90}]},
        ]});
        node.apply("p", &policy).await;
        node.until("the policy is in the kernel", |rules| rules.contains("x/p-ingress")).await;
        for family in 0..2 {
            friend.reaches(server.tcp(family, 80));
            friend.does_not_reach(server.tcp(family, 81));
            stranger.does_not_reach(server.tcp(family, 80));
            neighbour.reaches(server.tcp(family, 80));
            neighbour.reaches(server.tcp(family, 81));
            server.reaches(stranger.tcp(family, 80));
            // The node's own: probes, port-forward.
            TcpStream::connect_timeout(&server.tcp(family, 81), CONNECT_DEADLINE).unwrap();
        }
        node.withdraw("p").await;
        node.until("the rules are gone", |rules| !rules.contains("policies")).await;
        stranger.reaches(server.tcp(0, 81));
    });
}

#[test]
fn datagrams_and_their_answers_are_judged_alike() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let client = node.add_pod("x", "client", vec![]).await;
        let udp = json!([{"ports": [{"protocol": "UDP", "port": 53}]}]);
        let deny = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": udp, "egress": udp});
        node.apply("p", &deny).await;
        node.until("the policy is in the kernel", |rules| rules.contains("x/p-ingress")).await;
        let bind = |pod: &Pod, port: u16| {
            let bind = || UdpSocket::bind(("::", port)).unwrap();
            let socket = namespace::run_in_network(&pod.namespace, bind).unwrap();
            socket.set_read_timeout(Some(DROPPED_AFTER)).unwrap();
            socket
        };
        let (asked, not_asked, asks) = (bind(&server, 53), bind(&server, 54), bind(&client, 0));
        for family in 0..2 {
            let to = |port| match server.addresses[family] {
                IpAddr::V4(address) => at(address.to_ipv6_mapped().into(), port),
                address => at(address, port),
            };
            asks.send_to(b"?", to(54)).unwrap();
            not_asked.recv_from(&mut [0; 8]).unwrap_err();
            asks.send_to(b"?", to(53)).unwrap();
            // A neighbour that is asked for anew may be asked twice.
            asked.set_read_timeout(Some(CONNECT_DEADLINE)).unwrap();
            let (_, peer) = asked.recv_from(&mut [0; 8]).unwrap();
            asked.send_to(b"!", peer).unwrap();
            asks.recv_from(&mut [0; 8]).unwrap();
        }
        client.does_not_reach(server.tcp(0, 80));
    });
}

#[test]
fn nothing_is_passed_in_a_pods_first_moments() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let open = node.add_pod("y", "open", vec![]).await;
        let from_friend = json!([{"from": [{"podSelector": pods_named("friend")}]}]);
        let policy = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": from_friend, "egress": [{"to": [{"podSelector": pods_named("server")}]}]});
        // Nobody waits for the policy: those who come after it are judged by it all the same.
        node.apply("p", &policy).await;
        let server = node.add_pod("x", "server", vec![]).await;
        server.does_not_reach(open.tcp(0, 80));
        open.does_not_reach(server.tcp(0, 80));
        let friend = node.add_pod("x", "friend", vec![]).await;
        // Not even the first packet is lost: the next would come after a second.
        friend.connect(server.tcp(0, 80), Duration::from_millis(900)).unwrap();
        // Of IPv6, the bridge may have to ask for the neighbour twice.
        friend.reaches(server.tcp(1, 80));
        friend.does_not_reach(open.tcp(0, 80));
    });
}

#[test]
fn policies_hold_for_connections_that_are_older() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let client = node.add_pod("x", "client", vec![]).await;
        let mut sent = client.connect(server.tcp(0, 80), CONNECT_DEADLINE).unwrap();
        let (mut received, _) = server.listeners[0].accept().unwrap();
        received.set_read_timeout(Some(DROPPED_AFTER)).unwrap();
        sent.set_read_timeout(Some(DROPPED_AFTER)).unwrap();
        let mut letter = [0; 1];
        sent.write_all(b"a").unwrap();
        received.read_exact(&mut letter).unwrap();
        node.apply("deny-ingress", &json!({"podSelector": {}})).await;
        node.until("the policy is in the kernel", |rules| rules.contains(DENY_INGRESS)).await;
        sent.write_all(b"b").unwrap();
        received.read_exact(&mut letter).unwrap_err();
        received.write_all(b"c").unwrap();
        sent.read_exact(&mut letter).unwrap_err();
        node.withdraw("deny-ingress").await;
        node.until("the rules are gone", |rules| !rules.contains("policies")).await;
        received.set_read_timeout(Some(CONNECT_DEADLINE)).unwrap();
        received.read_exact(&mut letter).unwrap();
        assert_eq!(&letter, b"b");
    });
}

#[test]
fn host_ports_are_judged_by_the_pod_behind_them() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![port_80_on(8080)]).await;
        let friend = node.add_pod("x", "friend", vec![]).await;
        let stranger = node.add_pod("x", "stranger", vec![]).await;
        let from_friend = json!([{"from": [{"podSelector": pods_named("friend")}]}]);
        let policy = json!({"podSelector": pods_named("server"), "policyTypes": ["Ingress", "Egress"],
            "ingress": from_friend});
        node.apply("p", &policy).await;
        node.until("the policy is in the kernel", |rules| rules.contains("x/p-ingress")).await;
        let port = at("10.42.0.1".parse().unwrap(), 8080);
        friend.reaches(port);
        stranger.does_not_reach(port);
        // Nobody is kept from itself.
        server.reaches(port);
        server.does_not_reach(friend.tcp(0, 80));
    });
}

#[test]
fn the_rules_stand_while_nobody_keeps_them() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let client = node.add_pod("x", "client", vec![]).await;
        node.apply("deny-ingress", &json!({"podSelector": {}})).await;
        node.until("the policy is in the kernel", |rules| rules.contains(DENY_INGRESS)).await;
        let node = node.restart().await;
        client.does_not_reach(server.tcp(0, 80));
        // The new process knows who is attached, and takes over.
        node.withdraw("deny-ingress").await;
        node.until("the rules are gone", |rules| !rules.contains("policies")).await;
        client.reaches(server.tcp(0, 80));
        node.apply("deny-ingress", &json!({"podSelector": {}})).await;
        node.until("the policy is in the kernel", |rules| rules.contains(DENY_INGRESS)).await;
        client.does_not_reach(server.tcp(0, 80));
        // Who keeps them would write them again.
        node.tasks.stop(CONNECT_DEADLINE).await.unwrap();
        netpol::remove().await.unwrap();
        assert!(!printed("nft", &["list", "ruleset"]).await.contains("policies"));
    });
}

#[test]
fn policies_that_somebody_flushes_are_written_again() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let client = node.add_pod("x", "client", vec![]).await;
        node.apply("deny-ingress", &json!({"podSelector": {}})).await;
        node.until("the policy is in the kernel", |rules| rules.contains(DENY_INGRESS)).await;
        for _ in 0..3 {
            printed("nft", &["flush", "ruleset"]).await;
            node.until("it is there again", |rules| rules.contains(DENY_INGRESS)).await;
            client.does_not_reach(server.tcp(0, 80));
        }
    });
}

#[test]
fn an_address_that_changes_hands_takes_no_rights_along() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let from_friend = json!([{"from": [{"podSelector": pods_named("friend")}]}]);
        node.apply("p", &json!({"podSelector": pods_named("server"), "ingress": from_friend}))
            .await;
        let friend = node.add_pod("x", "friend", vec![]).await;
        friend.reaches(server.tcp(0, 80));
        let address = friend.addresses[0];
        node.network.detach(&node.attachment("x", "friend", vec![]).sandbox).await.unwrap();
        node.until("the peer is gone", |rules| !rules.contains("x/p-ingress-0-pods")).await;
        // Addresses are given out in turn: another process begins at the first again.
        let node = node.restart().await;
        let stranger = node.add_pod("x", "stranger", vec![]).await;
        assert_eq!(stranger.addresses[0], address);
        stranger.does_not_reach(server.tcp(0, 80));
    });
}

#[test]
fn the_kernel_takes_all_that_can_be_said() {
    on_a_node(async |_| {
        for file in ["whole", "pod_comes", "pod_goes", "policy_comes", "policy_goes", "policy_gone"]
        {
            let lines = std::fs::read_to_string(format!("tests/golden/netpol/{file}.txt")).unwrap();
            let commands: Vec<Value> =
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let nft = Program::new("nft").args(["-j", "-f", "-"]);
            let commands = json!({"nftables": commands}).to_string();
            nft.input(commands)
                .run_checked()
                .await
                .unwrap_or_else(|error| panic!("{file}: {error}"));
        }
        // As administrators save and load it.
        let saved = printed("nft", &["list", "ruleset"]).await;
        printed("nft", &["flush", "ruleset"]).await;
        Program::new("nft").args(["-f", "-"]).input(saved).run_checked().await.unwrap();
    });
}

#[test]
fn rules_that_somebody_changes_are_written_again() {
    on_a_node(async |directory| {
        let node = Node::start(&directory).await;
        let server = node.add_pod("x", "server", vec![]).await;
        let client = node.add_pod("y", "client", vec![]).await;
        let ports = json!([{"port": 80}]);
        let spec = json!({"podSelector": {}, "ingress": [{"ports": ports}]});
        node.apply("only-80", &spec).await;
        node.until("the policy", |rules| rules.contains("only-80")).await;
        let deletion = delete_rule("kinglet-policies", "ingress").await;
        let isolated = format!(
            "delete element inet kinglet-policies isolated-ip {{ {} }}",
            server.addresses[0]
        );
        is_made_again_after(
            "kinglet-policies",
            &[
                &deletion,
                &isolated,
                "flush map inet kinglet-policies ingress-ip",
                "delete chain inet kinglet-policies egress",
                "flush table inet kinglet-policies",
                "insert rule inet kinglet-policies ingress accept",
                "delete table inet kinglet-policies",
                "flush ruleset",
            ],
        )
        .await;
        client.connect(at(server.addresses[0], 80), CONNECT_DEADLINE).unwrap();
        client.connect(at(server.addresses[0], 81), DROPPED_AFTER).unwrap_err();
    });
}
