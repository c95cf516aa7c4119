//! Endpoints that answer with what they were sent, and clients that send what they like.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Nothing here takes longer; a machine that is busy with builds does.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An endpoint that says who it is and keeps what it was sent. Its connections end with it.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

/// What is done with a connection.
type Serve = fn(TcpStream, String, Arc<dyn Fn(String) + Send + Sync>) -> Served;
type Served = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Endpoint {
    /// Answers each request with its name.
    pub(crate) async fn named(name: &str) -> Self {
        Self::serving(name, |stream, name, note| Box::pin(answer_all(stream, name, note))).await
    }

    /// Answers one request on each connection, and closes it later, when nobody asks.
    pub(crate) async fn forgetful(name: &str) -> Self {
        Self::serving(name, |mut stream, name, note| {
            Box::pin(async move {
                if let Some(request) = read_message(&mut stream).await {
                    note(request);
                    stream.write_all(ok(&name).as_bytes()).await.unwrap();
                }
            })
        })
        .await
    }

    pub(crate) async fn serving(name: &str, serve: Serve) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (noted, name) = (Arc::clone(&seen), name.to_owned());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                noted.lock().unwrap().connections += 1;
                let noted = Arc::clone(&noted);
                let note = Arc::new(move |request| noted.lock().unwrap().requests.push(request));
                connections.spawn(serve(stream, name.clone(), note));
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn answer_all(mut stream: TcpStream, name: String, note: Arc<dyn Fn(String) + Send + Sync>) {
    while let Some(request) = read_message(&mut stream).await {
        note(request);
        if stream.write_all(ok(&name).as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One message, head and body; `None` where the peer has gone.
pub(crate) async fn read_message(stream: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => text.push(byte[0]),
            _ => return None,
        }
    }
    let head = String::from_utf8(text.clone()).unwrap().to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        while !text.ends_with(b"0\r\n\r\n") {
            stream.read_exact(&mut byte).await.ok()?;
            text.push(byte[0]);
        }
    } else if let Some(rest) = head.split("content-length: ").nth(1)
        && !head.starts_with("http/1.1 304")
    {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        text.extend(body);
    }
    Some(String::from_utf8(text).unwrap())
}

/// A client that sends bytes as they are.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next answer, whole; `None` where the connection is closed.
    pub(crate) async fn answer(&mut self) -> Option<String> {
        tokio::time::timeout(DEADLINE, read_message(&mut self.0)).await.unwrap()
    }

    /// All that comes until the connection is closed.
    pub(crate) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(DEADLINE, self.0.read_to_end(&mut text)).await.unwrap();
        drop(read);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The status and the body of one GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let mut client = Raw::connect(address).await;
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    parse(&client.answer().await.unwrap())
}

/// Status and body.
pub(crate) fn parse(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
