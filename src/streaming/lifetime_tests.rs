//! Clients that take their time, on sockets of the kernel: what it holds for them is not lost.

use super::super::command::{Outcome, Streams, Wanted, answer};
use super::super::spdy::tests::Client;
use crate::stdx::http::Upgrade;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{HeaderMap, HeaderValue};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The kernel takes this at once, and the client has no room for it.
const SAID_BYTES: usize = 96 << 10;
const ROOM_BYTES: u32 = 4 << 10;

/// So often a client says something before it reads on, and so long after the last time.
const PINGS: u32 = 5;
const APART: Duration = Duration::from_secs(10);

const OUTPUT: Wanted = Wanted { stdin: false, stdout: true, stderr: false, tty: false };

async fn talkative(mut streams: Streams) -> Outcome {
    let mut stdout = streams.stdout.take().unwrap();
    stdout.send(Bytes::from_static(&[b'x'; SAID_BYTES])).await.unwrap();
    stdout.finish().await;
    Outcome::Exited(3)
}

/// A client's end of a connection, and the server's, which says [`SAID_BYTES`] and how it ended.
async fn connect(
    upgrade: &'static str,
    protocol: &'static str,
) -> (TcpStream, impl Future<Output = ()>) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", upgrade),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
        ("x-stream-protocol-version", protocol),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut response = answer(&headers, OUTPUT, talkative).unwrap();
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = listener.listen(1).unwrap();
    let near = TcpSocket::new_v4().unwrap();
    near.set_recv_buffer_size(ROOM_BYTES).unwrap();
    let near = near.connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    let serving = Upgrade::take(&mut response).unwrap().run(Box::new(far.unwrap().0));
    (near.unwrap(), serving)
}

#[tokio::test(start_paused = true)]
async fn a_client_of_spdy_that_is_slow_and_says_something_has_everything() {
    let (near, serving) = connect("SPDY/3.1", "v4.channel.k8s.io").await;
    let talk = async {
        let mut client = Client::new(near);
        client.open(1, &[("streamtype", "error")]).await;
        client.open(3, &[("streamtype", "stdout")]).await;
        for number in 0..PINGS {
            tokio::time::sleep(APART).await;
            client.ping(number * 2 + 1).await;
        }
        let said = client.read_streams(2).await;
        assert_eq!(said[&3].len(), SAID_BYTES);
        assert!(said[&1].contains("exit code 3"), "{:?}", said[&1]);
    };
    tokio::join!(serving, talk);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_web_sockets_that_is_slow_and_says_something_has_everything() {
    let (near, serving) = connect("websocket", "v5.channel.k8s.io").await;
    let talk = async {
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        for _ in 0..PINGS {
            tokio::time::sleep(APART).await;
            client.send(Message::Ping(Bytes::new())).await.unwrap();
        }
        let mut said = vec![0; 4];
        while let Some(message) = client.next().await {
            if let Message::Binary(bytes) = message.unwrap() {
                said[usize::from(bytes[0])] += bytes.len() - 1;
            }
        }
        assert_eq!((said[1], said[3] > 0), (SAID_BYTES, true), "{said:?}");
    };
    tokio::join!(serving, talk);
}
