//! Certificates by name, new ones without a restart, and who is sent to HTTPS.

use crate::endpoint::{DEADLINE, Endpoint, Raw, get};
use crate::rig::{Rig, ingress, service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinglet::pki::{names_in, self_signed};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn secret(names: &[&str]) -> Value {
    let leaf = self_signed("test", names).unwrap();
    let data = json!({
        "tls.crt": STANDARD.encode(&leaf.certificate), "tls.key": STANDARD.encode(&leaf.key),
    });
    json!({ "type": "kubernetes.io/tls", "data": data })
}

async fn connect(address: SocketAddr, name: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut config: ClientConfig = (*kinglet::pki::AnyServer::client_config()).clone();
    config.alpn_protocols = protocols.iter().map(|it| it.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The names in the certificate that is shown for a name.
async fn shown(address: SocketAddr, name: &str) -> Vec<String> {
    let stream = connect(address, name, &[]).await;
    let certificates: &[CertificateDer<'_>] = stream.get_ref().1.peer_certificates().unwrap();
    Vec::from_iter(names_in(&certificates[0]))
}

async fn eventually_shown(address: SocketAddr, name: &str, expected: &[&str]) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let found = shown(address, name).await;
        if found == expected {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{name}: {found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn each_name_has_its_certificate_and_a_new_one_is_shown_at_once() {
    let a = Endpoint::named("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        api.put("secrets", "one", secret(&["a.x"]));
        api.put("secrets", "all", secret(&["*.y"]));
        api.put("secrets", "unnamed", secret(&["nobody"]));
        let tls = json!([
            { "hosts": ["a.x"], "secretName": "one" },
            { "secretName": "all" },
            { "hosts": ["late.x"], "secretName": "late" },
        ]);
        ingress(api, "i", &["a.x / a", "b.y / a"], json!({ "tls": tls }));
    })
    .await;
    assert_eq!(shown(rig.https, "a.x").await, ["a.x"]);
    assert_eq!(shown(rig.https, "b.y").await, ["*.y"]);
    let own = shown(rig.https, "late.x").await;
    assert_eq!(shown(rig.https, "other.z").await, own);
    rig.api.put("secrets", "late", secret(&["late.x"]));
    eventually_shown(rig.https, "late.x", &["late.x"]).await;
    rig.api.put("secrets", "one", secret(&["a.x", "www.a.x"]));
    eventually_shown(rig.https, "a.x", &["a.x", "www.a.x"]).await;
    // What cannot be used is not shown.
    rig.api.put("secrets", "one", json!({ "data": {} }));
    eventually_shown(rig.https, "a.x", &[own[0].as_str()]).await;
    ingress(&rig.api, "i", &["a.x / a"], Value::Null);
    eventually_shown(rig.https, "b.y", &[own[0].as_str()]).await;
    let asked = rig.api.asked();
    let secrets: Vec<_> = asked.iter().filter(|path| path.contains("/secrets")).collect();
    assert!(!secrets.is_empty() && secrets.iter().all(|path| path.contains("metadata.name%3D")));
    assert!(!secrets.iter().any(|path| path.contains("unnamed")), "{secrets:?}");
    rig.stop().await;
}

#[tokio::test]
async fn requests_over_tls_are_served_and_others_sent_there() {
    let a = Endpoint::named("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        api.put("secrets", "one", secret(&["a.x"]));
        let tls = json!([{ "hosts": ["a.x"], "secretName": "one" }]);
        ingress(api, "i", &["a.x / a", "b.x / a"], json!({ "tls": tls }));
    })
    .await;
    let mut stream = connect(rig.https, "a.x", &["http/1.1"]).await;
    let request = "GET / HTTP/1.1\r\nHost: a.x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\na"), "{answer}");
    assert!(a.requests()[0].contains("x-forwarded-proto: https"));
    let mut client = Raw::connect(rig.http).await;
    client.send("POST /x?y=1 HTTP/1.1\r\nHost: a.x\r\nContent-Length: 0\r\n\r\n").await;
    let answer = client.answer().await.unwrap();
    // The rig's port is whichever was free; the flag said 0.
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: https://a.x:0/x?y=1\r\n"), "{answer}");
    assert_eq!(get(rig.http, "b.x", "/").await.0, 200);
    rig.stop().await;
}

#[tokio::test]
async fn http2_is_agreed_on_where_clients_want_it() {
    let rig = Rig::start(|_| {}).await;
    for (wanted, expected) in
        [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let stream = connect(rig.https, "a.x", wanted).await;
        let agreed = stream.get_ref().1.alpn_protocol().map(|it| str::from_utf8(it).unwrap());
        assert_eq!(agreed, expected);
    }
    rig.stop().await;
}
