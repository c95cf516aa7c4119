//! Servers on loopback ports: one that does as a test says, Debian's docker-registry, a token
//! server, a proxy.

use crate::rig::eventually;
use crate::support::{BuiltImage, index};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A request that a [`Server`] got.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    /// By names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first byte that a `Range` header asks for.
    pub(crate) fn from(&self) -> usize {
        let range = self.header("range").strip_prefix("bytes=").unwrap_or("0-");
        range.trim_end_matches('-').parse().unwrap()
    }
}

/// What a [`Server`] answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection breaks after so many bytes of the body.
    pub(crate) cut_after: Option<usize>,
    /// Nothing comes after so many bytes of the body, and the connection stays.
    pub(crate) hang_after: Option<usize>,
    /// Nothing is answered at all.
    pub(crate) is_silent: bool,
    /// Bytes a millisecond.
    pub(crate) pace: Option<usize>,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, body: body.into(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Handler = dyn Fn(&Seen) -> Reply + Send + Sync;

/// Does as a test says, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, handler): (_, Arc<Handler>) = (Arc::default(), Arc::new(handler));
        let mut tasks = JoinSet::new();
        let log = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests had a method and a part of a path.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let seen = self.seen();
        seen.iter().filter(|seen| seen.method == method && seen.path.contains(path)).count()
    }
}

async fn serve(stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Seen>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await {
        log.lock().unwrap().push(seen.clone());
        let reply = handler(&seen);
        if write_reply(&mut stream, &seen, &reply).await.is_none() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: BTreeMap<_, _> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    Some(Seen { method, path, headers })
}

/// `None` where the connection is to be closed.
async fn write_reply(stream: &mut BufReader<TcpStream>, seen: &Seen, reply: &Reply) -> Option<()> {
    if reply.is_silent {
        return std::future::pending().await;
    }
    let mut head =
        format!("HTTP/1.1 {} x\r\nContent-Length: {}\r\n", reply.status, reply.body.len());
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    if seen.method == "HEAD" {
        return Some(());
    }
    let end = reply.cut_after.or(reply.hang_after).unwrap_or(reply.body.len());
    let end = end.min(reply.body.len());
    for piece in reply.body[..end].chunks(reply.pace.unwrap_or(usize::MAX)) {
        stream.write_all(piece).await.ok()?;
        if reply.pace.is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    stream.flush().await.ok()?;
    if reply.hang_after.is_some() {
        return std::future::pending().await;
    }
    reply.cut_after.is_none().then_some(())
}

/// What a registry that has these images answers: `repository:tag`, and with several images for
/// one name an index of them.
pub(crate) fn registry_of(images: &[(&str, &[&BuiltImage])]) -> impl Fn(&Seen) -> Reply + use<> {
    let mut answers: BTreeMap<String, (String, Vec<u8>)> = BTreeMap::new();
    for (name, images) in images {
        let (repository, tag) = name.split_once(':').unwrap();
        let mut add = |path: String, media_type: &str, bytes: &[u8]| {
            let path = format!("/v2/{repository}/{path}");
            answers.insert(path, (media_type.to_owned(), bytes.to_vec()));
        };
        for image in *images {
            for blob in image.blobs() {
                add(format!("blobs/{}", blob.digest), "application/octet-stream", &blob.bytes);
            }
            let manifest = &image.manifest;
            add(format!("manifests/{}", manifest.digest), &manifest.media_type, &manifest.bytes);
        }
        let top = match images {
            [only] => only.manifest.clone(),
            several => index(several),
        };
        add(format!("manifests/{tag}"), &top.media_type, &top.bytes);
        add(format!("manifests/{}", top.digest), &top.media_type, &top.bytes);
    }
    move |seen| {
        let path = seen.path.split('?').next().unwrap();
        let Some((media_type, bytes)) = answers.get(path) else {
            return Reply::status(404);
        };
        let from = seen.from();
        let mut reply = Reply::ok(&bytes[from.min(bytes.len())..]).with("Content-Type", media_type);
        if path.contains("/manifests/") {
            let digest = kinglet::runtime::images::Digest::of(bytes).to_string();
            reply = reply.with("Docker-Content-Digest", digest);
        }
        if from > 0 {
            reply.status = 206;
            let last = bytes.len() - 1;
            reply = reply.with("Content-Range", format!("bytes {from}-{last}/{}", bytes.len()));
        }
        reply
    }
}

/// A proxy that makes tunnels, and counts them.
pub(crate) struct TunnelProxy {
    pub(crate) address: SocketAddr,
    pub(crate) tunnels: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl TunnelProxy {
    /// Leads everything to `target`, whatever is asked for: nothing leaves this machine.
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tunnels: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&tunnels);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let Some(seen) = read_request(&mut stream).await else { return };
                    assert_eq!(seen.method, "CONNECT");
                    log.lock().unwrap().push(seen.path);
                    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let mut there = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                    // Either side may hang up.
                    tokio::io::copy_bidirectional(&mut stream, &mut there).await.ok();
                });
            }
        });
        Self { address, tunnels, _tasks: tasks }
    }
}

/// How a [`Registry`] lets clients in.
pub(crate) enum Access<'a> {
    Everyone,
    /// A file of `htpasswd`.
    Password(&'a Path),
    Token {
        realm: &'a str,
        certificate: &'a Path,
    },
}

/// Certificate and key files, and the authority that clients have to come from.
#[derive(Clone, Copy)]
pub(crate) struct TlsFiles<'a> {
    pub(crate) certificate: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) clients: Option<&'a Path>,
}

/// Debian's docker-registry, stopped when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
}

impl Registry {
    pub(crate) async fn start(
        storage: &Path,
        access: &Access<'_>,
        tls: Option<TlsFiles<'_>>,
    ) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let auth = match access {
            Access::Everyone => json!(null),
            Access::Password(file) => json!({"htpasswd": {"realm": "test", "path": file}}),
            Access::Token { realm, certificate } => json!({"token": {
                "realm": realm, "service": "test-service", "issuer": "test-issuer",
                "rootcertbundle": certificate,
            }}),
        };
        let mut http = json!({"addr": format!("127.0.0.1:{port}")});
        if let Some(tls) = tls {
            http["tls"] = json!({"certificate": tls.certificate, "key": tls.key});
            if let Some(clients) = tls.clients {
                http["tls"]["clientcas"] = json!([clients]);
            }
        }
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": http,
        });
        if !auth.is_null() {
            config["auth"] = auth;
        }
        let file = storage.join(format!("config-{port}.yml"));
        std::fs::write(&file, config.to_string()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a registry to test with")]
        let child = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's docker-registry is installed");
        let registry = Self { child, port };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("docker-registry listens", || BlockingStream::connect(address).is_ok()).await;
        registry
    }

    /// Uploads an image (or with several an index of them) as `repository:tag`.
    pub(crate) async fn push(&self, name: &str, images: &[&BuiltImage]) {
        let (repository, tag) = name.split_once(':').unwrap();
        let base = format!("http://127.0.0.1:{}/v2/{repository}", self.port);
        for image in images {
            for blob in image.blobs() {
                let (status, location) =
                    send("POST", &format!("{base}/blobs/uploads/"), "", &[]).await;
                assert_eq!(status, 202);
                let uri = format!("{location}&digest={}", blob.digest);
                let (status, _) = send("PUT", &uri, "application/octet-stream", &blob.bytes).await;
                assert_eq!(status, 201);
            }
            let manifest = &image.manifest;
            let uri = format!("{base}/manifests/{}", manifest.digest);
            let (status, _) = send("PUT", &uri, &manifest.media_type, &manifest.bytes).await;
            assert_eq!(status, 201);
        }
        let top = match images {
            [only] => only.manifest.clone(),
            several => index(several),
        };
        let uri = format!("{base}/manifests/{tag}");
        assert_eq!(send("PUT", &uri, &top.media_type, &top.bytes).await.0, 201);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Status and `Location` of the answer.
async fn send(method: &str, uri: &str, media_type: &str, body: &[u8]) -> (u16, String) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let mut request = http::Request::builder().method(method).uri(uri);
    if !media_type.is_empty() {
        request = request.header("Content-Type", media_type);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get("Location").map(|value| value.to_str().unwrap());
    let location = location.unwrap_or_default().to_owned();
    response.into_body().collect().await.unwrap();
    (status, location)
}

/// An authority of our own, and what it has signed.
pub(crate) struct Authority {
    pub(crate) directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, pem: String| {
            std::fs::write(directory.path().join(name), pem).unwrap();
        };
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&ca_key).unwrap().pem());
        let issuer = rcgen::Issuer::new(params, ca_key);
        for (name, names) in
            [("server", vec!["localhost".to_owned(), "127.0.0.1".to_owned()]), ("client", vec![])]
        {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(names).unwrap();
            params.extended_key_usages = vec![
                rcgen::ExtendedKeyUsagePurpose::ServerAuth,
                rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            ];
            write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { directory }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Signs tokens for those who know the password, and for everybody below `public/`.
pub(crate) struct TokenIssuer {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    _directory: tempfile::TempDir,
    pub(crate) certificate_file: PathBuf,
}

impl TokenIssuer {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let certificate_file = directory.path().join("token.pem");
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        Self {
            key: EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der()).unwrap(),
            certificate: certificate.der().to_vec(),
            _directory: directory,
            certificate_file,
        }
    }

    /// Answers a request for a token.
    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        let scope = seen.path.split(['?', '&']).find_map(|part| part.strip_prefix("scope="));
        let scope = scope.unwrap().replace("%3A", ":").replace("%2F", "/");
        let repository = scope.split(':').nth(1).unwrap().to_owned();
        let login = format!("Basic {}", STANDARD.encode("user:secret"));
        match seen.header("authorization") {
            given if given == login => {}
            "" if repository.starts_with("public/") => {}
            "" => return Reply::ok(json!({"token": self.token(&repository, &[])}).to_string()),
            _ => return Reply::status(401),
        }
        let token = self.token(&repository, &["pull"]);
        Reply::ok(json!({"access_token": token, "expires_in": 60}).to_string())
    }

    fn token(&self, repository: &str, actions: &[&str]) -> String {
        let now = jiff::Timestamp::now().as_second();
        let header = json!({
            "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)],
        });
        let claims = json!({
            "iss": "test-issuer", "aud": "test-service", "sub": "user", "jti": "1",
            "iat": now, "nbf": now - 10, "exp": now + 60,
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        });
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
