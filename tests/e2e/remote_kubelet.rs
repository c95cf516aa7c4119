//! A kubelet at another address, over HTTPS: what the API server asks of it, whether it is whom the
//! API server means, and what it lets whom do.
//!
//! The kubelet of this machine is known to the API server as that of a further node.

use super::machine::Machine;
use super::talk::Talk;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use kinglet::client::remote::Remote;
use kinglet::client::{Credentials, Kubeconfig};
use kinglet::stdx::http::{HttpService as _, read_whole};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const KUBELET: &str = "https://192.0.2.10:10250";

/// Where `kubectl proxy` listens.
const PROXY: &str = "127.0.0.1:18001";

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: '127.0.0.1:5000/hello:1'}
  - name: ticks
    image: 127.0.0.1:5000/hello:1
    command: [sh, -c, 'trap exit TERM; while :; do echo tick; sleep 0.2; done']
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec:
  nodeName: three
  tolerations: [{operator: Exists}]
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: '127.0.0.1:5000/hello:1'}]
";

#[test]
fn a_kubelet_elsewhere_is_asked_and_asks_who_it_is() {
    let mut machine = Machine::new();
    machine.run("ip", &["addr", "add", "192.0.2.11/24", "dev", "up0"]);
    machine.start_registry(&["1"]);
    machine.start();
    register(&machine, "two", "192.0.2.10");
    // An address that the kubelet's certificate does not name.
    register(&machine, "three", "192.0.2.11");
    machine.apply(PODS);
    machine.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=90s"]);
    what_it_says_is_read(&machine);
    {
        let proxy = Talk::start(&machine, "kubectl", &["proxy", "--port=18001"]);
        proxy.expect("Starting to serve on");
        machine.inside(|| on_runtime(commands_are_run()));
        machine.inside(|| on_runtime(ports_are_forwarded()));
    }
    another_is_not_believed(&machine);
    nobody_is_anonymous(&machine);
    permissions_are_for_parts(&machine);
    machine.kubectl(&["delete", "node", "two", "three"]);
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    machine.stop(Signal::SIGTERM);
    machine.killall();
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.unwrap() })
}

fn register(machine: &Machine, name: &str, address: &str) {
    machine.apply(
        &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}).to_string(),
    );
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }});
    let patch = status.to_string();
    let words = ["patch", "node", name, "--subresource=status", "--type=merge", "-p", &*patch];
    machine.kubectl(&words);
}

fn what_it_says_is_read(machine: &Machine) {
    let raw =
        |path: &str| machine.kubectl(&["get", "--raw", &format!("/api/v1/nodes/two/proxy/{path}")]);
    assert_eq!(raw("healthz"), "ok");
    assert!(
        raw("metrics/resource").contains("container_cpu_usage_seconds_total{container=\"web\"")
    );
    assert!(raw("pods").contains("\"name\":\"web\""));
    assert!(raw("stats/summary").contains("\"nodeName\":\"one\""));
    let top = machine.kubectl(&["top", "node", "two"]);
    assert!(top.contains("two ") && top.contains("Mi"), "{top}");
    assert!(raw("containerLogs/default/web/ticks?tailLines=1").contains("tick\n"));
    let path = "/api/v1/nodes/two/proxy/containerLogs/default/web/ticks?follow=true&tailLines=1";
    let follows = Talk::start(machine, "kubectl", &["get", "--raw", path]);
    machine.eventually("the log goes on", || follows.text().matches("tick").count() > 4);
}

/// A conversation with the kubelet, through the API server, in a subprotocol.
async fn converse(path: &str, protocol: &'static str) -> WebSocketStream<TcpStream> {
    let mut request =
        format!("ws://{PROXY}/api/v1/nodes/two/proxy/{path}").into_client_request().unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", http::HeaderValue::from_static(protocol));
    let stream = TcpStream::connect(PROXY).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    socket
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    Message::Binary([&[channel], bytes].concat().into())
}

/// What comes on each of the first channels, to the end.
async fn told(socket: &mut WebSocketStream<TcpStream>) -> [Vec<u8>; 4] {
    let mut all = [const { Vec::new() }; 4];
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message
            && let Some((channel, bytes)) = bytes.split_first()
        {
            all[usize::from(*channel)].extend_from_slice(bytes);
        }
    }
    all
}

async fn commands_are_run() {
    let command = "command=sh&command=-c&command=cat%3B+echo+err+%3E%262%3B+exit+7";
    let path = format!("exec/default/web/web?{command}&input=1&output=1&error=1");
    let socket = converse(&path, "v5.channel.k8s.io").await;
    let sent: Vec<u8> = (0..2_000_000_usize).map(|at| (at / 3).to_le_bytes()[0]).collect();
    let (mut to, from) = socket.split();
    let sending = async {
        for piece in sent.chunks(60_000) {
            to.send(message(0, piece)).await.unwrap();
        }
        to.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
        to
    };
    let receiving = async {
        let mut all = [const { Vec::new() }; 4];
        let mut from = from;
        while let Some(Ok(Message::Binary(bytes))) = from.next().await {
            if let Some((channel, bytes)) = bytes.split_first() {
                all[usize::from(*channel)].extend_from_slice(bytes);
            }
        }
        all
    };
    let (_to, [_, stdout, stderr, outcome]) = tokio::join!(sending, receiving);
    assert!(stdout == sent, "{} bytes", stdout.len());
    assert_eq!(stderr, b"err\n");
    let outcome = String::from_utf8(outcome).unwrap();
    assert!(outcome.contains("\"message\":\"7\""), "{outcome}");
}

async fn ports_are_forwarded() {
    let mut socket = converse("portForward/default/web?port=8080", "v4.channel.k8s.io").await;
    socket.send(message(0, b"GET /index.html HTTP/1.0\r\n\r\n")).await.unwrap();
    let [data, errors, ..] = told(&mut socket).await;
    let port = 8080_u16.to_le_bytes();
    assert_eq!(errors, port, "{}", String::from_utf8_lossy(&errors));
    let page = data.strip_prefix(&port[..]).unwrap();
    assert!(String::from_utf8_lossy(page).contains("Hello from kinglet"));
}

fn another_is_not_believed(machine: &Machine) {
    let why = "certificate not valid for name \"192.0.2.11\"";
    let said = machine.kubectl_refused(&["get", "--raw", "/api/v1/nodes/three/proxy/healthz"]);
    assert!(said.contains("error trying to reach \"three\"") && said.contains(why), "{said}");
    for words in [&["exec", "elsewhere", "--", "true"][..], &["logs", "elsewhere"]] {
        let said = machine.kubectl_refused(words);
        assert!(said.contains("cannot reach the kubelet of node \"three\""), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// Code and text of the kubelet's own answer.
fn ask(machine: &Machine, credentials: Credentials, path: &str) -> (u16, String) {
    let admin = Kubeconfig::read(&machine.path("kinglet.yaml")).unwrap();
    let config = Kubeconfig { server: KUBELET.to_owned(), credentials, ..admin };
    machine.inside(|| {
        on_runtime(async {
            let remote = Remote::new(&config).unwrap();
            let request = http::Request::get(path).body(Bytes::new()).unwrap();
            let response = remote.call(request).await.unwrap();
            let code = response.status().as_u16();
            let body = read_whole(response.into_body(), 16 << 20).await.unwrap();
            (code, String::from_utf8_lossy(&body).into_owned())
        })
    })
}

fn nobody_is_anonymous(machine: &Machine) {
    for credentials in [Credentials::Anonymous, Credentials::Token("made.up.token".to_owned())] {
        for path in ["/healthz", "/pods", "/metrics", "/exec/default/web/web?command=true"] {
            let answer = ask(machine, credentials.clone(), path);
            assert_eq!(answer, (401, "Unauthorized".to_owned()), "{path}");
        }
    }
}

/// Who may see a part of the node, and which paths that is.
const PARTS: &[(&str, &[&str])] = &[
    ("metrics", &["/metrics", "/metrics/cadvisor", "/metrics/resource", "/metrics/probes"]),
    ("stats", &["/stats/summary"]),
    ("log", &["/logs/"]),
    ("pods", &["/pods", "/runningpods/"]),
    ("healthz", &["/healthz", "/healthz/ping"]),
    ("configz", &["/configz"]),
    // What has no part of its own, and what had none before there were parts.
    (
        "proxy",
        &[
            "/pods",
            "/runningpods/",
            "/healthz",
            "/healthz/ping",
            "/configz",
            "/containerLogs/default/web/web",
        ],
    ),
];

fn permissions_are_for_parts(machine: &Machine) {
    let all: std::collections::BTreeSet<&str> =
        PARTS.iter().flat_map(|(_, paths)| paths.iter().copied()).collect();
    for (part, paths) in PARTS {
        let role = format!("node-{part}");
        machine.kubectl(&["create", "serviceaccount", &role]);
        let resource = format!("--resource=nodes/{part}");
        machine.kubectl(&["create", "clusterrole", &role, "--verb=get", &resource]);
        let (to, whom) =
            (format!("--clusterrole={role}"), format!("--serviceaccount=default:{role}"));
        machine.kubectl(&["create", "clusterrolebinding", &role, &to, &whom]);
        let token = machine.kubectl(&["create", "token", &role]).trim().to_owned();
        for path in &all {
            let (code, text) = ask(machine, Credentials::Token(token.clone()), path);
            let expected = if paths.contains(path) { 200 } else { 403 };
            assert_eq!(code, expected, "{part} {path}: {text}");
            if code == 403 {
                let user =
                    format!("Forbidden (user=system:serviceaccount:default:{role}, verb=get, ");
                assert!(text.starts_with(&user) && text.contains("resource=nodes"), "{text}");
            }
        }
    }
}
