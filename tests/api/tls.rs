//! The same server over real TLS on the loopback interface.

use super::support::{Api, DEADLINE};
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use kinglet::pki::{Leaf, Pki, ServerTls, Subject};
use kinglet::stdx::{Clock, Tasks};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A server with certificates of its own.
pub(super) struct Served {
    pub(super) api: Api,
    pub(super) address: SocketAddr,
    pki: Pki,
    tasks: Tasks,
    _directory: tempfile::TempDir,
}

pub(super) async fn serve() -> Served {
    serve_api(Api::start().await).await
}

pub(super) async fn serve_api(api: Api) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let now = Timestamp::now();
    let pki = Pki::open(directory.path(), now).unwrap();
    let leaf = pki.serving(&["127.0.0.1".to_owned()], now).unwrap();
    let tls = ServerTls::new(&leaf, pki.client_ca(), Clock::system()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = Tasks::default();
    api.server.serve(listener, tls.acceptor(), &mut tasks);
    Served { api, address, pki, tasks, _directory: directory }
}

impl Served {
    /// The server when it listens no more.
    pub(super) async fn end(self) -> Api {
        self.tasks.stop(DEADLINE).await.unwrap();
        self.api
    }

    pub(super) fn admin(&self) -> Leaf {
        self.certificate("system:admin", Timestamp::now())
    }

    /// A certificate of an administrator that was made at this moment.
    pub(super) fn certificate(&self, user: &str, made: Timestamp) -> Leaf {
        let subject = Subject { user, groups: &["system:masters"] };
        let file = format!("client-{}-{}", made.as_second(), user.len());
        self.pki.client(&file, subject, made).unwrap()
    }

    /// Somebody who may do everything as the roles say, and has no part in `system:masters`.
    pub(super) async fn colleague(&self, user: &str) -> Leaf {
        let subject =
            json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user});
        let role = json!({
            "kind": "ClusterRole", "apiGroup": "rbac.authorization.k8s.io", "name": "cluster-admin",
        });
        let binding = json!({"metadata": {"name": user}, "subjects": [subject], "roleRef": role});
        let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        self.api.post(bindings, &binding).await.ok();
        let subject = Subject { user, groups: &["colleagues"] };
        self.pki.client(&format!("client-{user}"), subject, Timestamp::now()).unwrap()
    }

    pub(super) async fn connect(
        &self,
        client: Option<&Leaf>,
        protocol: &str,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pki.server_ca().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    pub(super) async fn get(
        &self,
        client: Option<&Leaf>,
        protocol: &str,
        path: &str,
    ) -> (Version, StatusCode, Bytes) {
        let stream = TokioIo::new(self.connect(client, protocol).await);
        let uri = format!("https://{}{path}", self.address);
        let request = Request::get(uri).header("host", "x").body(Full::new(Bytes::new())).unwrap();
        let response = if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            drive(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.unwrap();
            drive(connection);
            sender.send_request(request).await.unwrap()
        };
        let (version, code) = (response.version(), response.status());
        (version, code, response.into_body().collect().await.unwrap().to_bytes())
    }
}

#[expect(clippy::disallowed_methods, reason = "a connection of a test ends with the test")]
pub(super) fn drive<E: std::fmt::Debug>(
    connection: impl Future<Output = Result<(), E>> + Send + 'static,
) {
    tokio::spawn(async move { connection.await.map_err(|error| format!("{error:?}")).ok() });
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let served = serve().await;
    let admin = served.admin();
    for (protocol, expected) in [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11)] {
        let (version, code, body) =
            served.get(Some(&admin), protocol, "/api/v1/namespaces/default").await;
        assert_eq!((version, code), (expected, StatusCode::OK));
        let namespace: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(namespace["metadata"]["name"], "default");
    }
}

#[tokio::test]
async fn certificates_say_who_asks() {
    let served = serve().await;
    let (_, code, _) = served.get(None, "http/1.1", "/version").await;
    assert_eq!(code, StatusCode::OK);
    let (_, code, body) = served.get(None, "http/1.1", "/api/v1/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("system:anonymous"));
    let subject = Subject { user: "alice", groups: &["team"] };
    let alice = served.pki.client("client-alice", subject, Timestamp::now()).unwrap();
    let (_, code, body) = served.get(Some(&alice), "h2", "/api/v1/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(&body).contains("User \\\"alice\\\" cannot list"));
}

#[tokio::test]
async fn clients_say_how_long_they_wait() {
    let served = serve().await;
    let admin = served.admin();
    for (timeout, expected) in [("3m", 200), ("0", 200), ("1m30s", 200), ("-1s", 200), ("x", 400)] {
        let path = format!("/api/v1/namespaces/default?timeout={timeout}");
        let (_, code, body) = served.get(Some(&admin), "http/1.1", &path).await;
        assert_eq!(code, expected, "{timeout}: {}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn watches_end_when_the_server_stops() {
    let served = serve().await;
    let stream = TokioIo::new(served.connect(Some(&served.admin()), "http/1.1").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    drive(connection);
    let path = "/api/v1/namespaces?watch=true";
    let request = Request::get(path).header("host", "x").body(Full::new(Bytes::new())).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"{\"type\":\"ADDED\""));
    served.tasks.stop(DEADLINE).await.unwrap();
    while let Some(frame) = body.frame().await {
        frame.expect("the stream ends cleanly");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let served = serve().await;
    let mut stream = served.connect(Some(&served.admin()), "http/1.1").await;
    let head = "POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b' '; 64 * 1024];
    let mut answer = vec![0; 64];
    for _ in 0..64 {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let count = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_read_does_not_wait_for_a_body() {
    let served = serve().await;
    let mut stream = served.connect(None, "http/1.1").await;
    let head = "GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-length: 2\r\n"), "{answer}");
}

#[tokio::test]
async fn strangers_do_not_take_every_connection() {
    let served = serve().await;
    let mut strangers = Vec::new();
    for _ in 0..super::support::config().connections_max {
        strangers.push(served.connect(None, "h2").await);
    }
    let (_, code, _) = served.get(Some(&served.admin()), "h2", "/api/v1/pods").await;
    assert_eq!(code, StatusCode::OK);
}

#[tokio::test]
async fn a_write_goes_through() {
    let served = serve().await;
    let map = json!({"metadata": {"name": "a"}});
    served.api.post("/api/v1/namespaces/default/configmaps", &map).await.ok();
    let path = "/api/v1/namespaces/default/configmaps/a";
    let (_, code, _) = served.get(Some(&served.admin()), "h2", path).await;
    assert_eq!(code, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_says_what_the_request_is_called() {
    let served = serve().await;
    let stream = TokioIo::new(served.connect(Some(&served.admin()), "h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    drive(connection);
    let mut ask = async |given: Option<&str>| {
        let mut request = Request::get(format!("https://{}/version", served.address));
        if let Some(given) = given {
            request = request.header("audit-id", given);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        answer.headers()["audit-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(ask(Some("mine")).await, "mine");
    let (one, two) = (ask(None).await, ask(Some(&"x".repeat(300))).await);
    assert_eq!((one.len(), two.len()), (36, 36));
    assert_ne!(one, two);
}
