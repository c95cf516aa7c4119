//! Many connections, and those that keep theirs for nothing.

use crate::endpoint::{DEADLINE, Endpoint, Raw};
use crate::rig::{Rig, ingress, service};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// What nginx takes for 10,000 idle connections is less; a node of 1 GiB has room for this.
const CONNECTION_BYTES_MAX: usize = 24 * 1024;

/// What the tests beside this one may have open.
const FILES_OF_OTHER_TESTS: usize = 1_000;

#[tokio::test]
async fn who_sends_a_head_byte_by_byte_keeps_nobody_out() {
    let a = Endpoint::named("a").await;
    let rig = Rig::with(
        |api| {
            service(api, "a", &[&a]);
            ingress(api, "i", &["a.x / a"], Value::Null);
        },
        |config| config.connections_max = 20,
    )
    .await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        let mut client = Raw::connect(rig.http).await;
        client.send("GET / HTTP/1.1\r\nHost: a.x\r\nX-").await;
        slow.push(client);
    }
    for _ in 0..10 {
        let answered = timeout(DEADLINE, rig.get("a.x", "/")).await.unwrap();
        assert_eq!(answered.0, 200);
    }
    // Those that came first had to go.
    let mut byte = [0];
    assert!(matches!(timeout(DEADLINE, slow[0].0.read(&mut byte)).await.unwrap(), Ok(0) | Err(_)));
    rig.stop().await;
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// Ten thousand clients that have asked once and stay; fewer where this process, which has both ends
/// of each connection, may not open so many files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_are_served() {
    let files = kinglet::sys::open_files::raise().unwrap();
    let clients_max = (usize::try_from(files).unwrap() - FILES_OF_OTHER_TESTS) / 2;
    let number_of_clients = clients_max.min(10_000);
    let a = Endpoint::named("a").await;
    let rig = Rig::with(
        |api| {
            service(api, "a", &[&a]);
            ingress(api, "i", &["a.x / a"], Value::Null);
        },
        |config| config.connections_max = number_of_clients + 10,
    )
    .await;
    let before = resident_bytes();
    let mut clients = Vec::with_capacity(number_of_clients);
    for number in 0..number_of_clients {
        // One address has fewer ports than that.
        let socket = TcpSocket::new_v4().unwrap();
        let address = format!("127.0.0.{}:0", 1 + number % 200);
        socket.bind(address.parse().unwrap()).unwrap();
        let mut client = Raw(timeout(DEADLINE, socket.connect(rig.http)).await.unwrap().unwrap());
        client.send("GET / HTTP/1.1\r\nHost: a.x\r\n\r\n").await;
        assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 200"));
        clients.push(client);
    }
    let each = resident_bytes().saturating_sub(before) / number_of_clients;
    assert!(each < CONNECTION_BYTES_MAX, "{each} bytes a connection");
    for client in clients.iter_mut().step_by(100) {
        client.send("GET / HTTP/1.1\r\nHost: a.x\r\n\r\n").await;
        assert!(client.answer().await.unwrap().starts_with("HTTP/1.1 200"));
    }
    let served = format!("kinglet_ingress_connections {number_of_clients}\n");
    assert!(rig.ingress.metrics().contains(&served));
    drop(clients);
    rig.stop().await;
}
