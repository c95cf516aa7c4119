//! Ports forwarded in every protocol that there is, to a server of the test's own.

use super::super::spdy::tests::Client;
use super::*;
use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

fn request(upgrade: &'static str, protocol: &'static str) -> HeaderMap {
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
    headers
}

/// Answers one connection: what comes until its end, backwards. Nobody is at port 81.
async fn dial() -> (Dial, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dial: Dial = Arc::new(move |port| {
        Box::pin(async move {
            match port {
                80 => TcpStream::connect(address).await.map_err(|error| error.to_string()),
                _ => Err("nobody is there".to_owned()),
            }
        })
    });
    let server = async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            socket.read_to_end(&mut asked).await.unwrap();
            asked.reverse();
            socket.write_all(&asked).await.unwrap();
        }
    };
    (dial, server)
}

async fn check<F>(headers: HeaderMap, ports: &[u16], talk: impl FnOnce(DuplexStream) -> F)
where
    F: Future<Output = ()>,
{
    check_with(1_024, headers, ports, talk).await;
}

/// Over a connection that holds so many bytes.
async fn check_with<F>(
    bytes: usize,
    headers: HeaderMap,
    ports: &[u16],
    talk: impl FnOnce(DuplexStream) -> F,
) where
    F: Future<Output = ()>,
{
    let (dial, server) = dial().await;
    let mut response = answer(&headers, Ok(ports.to_vec()), dial).unwrap();
    assert_eq!(response.status(), 101);
    let (near, far) = tokio::io::duplex(bytes);
    let serving = Upgrade::take(&mut response).unwrap().run(Box::new(far));
    let both = async { tokio::join!(serving, talk(near)) };
    let both = tokio::time::timeout(Duration::from_secs(20), both);
    tokio::select! {
        done = both => drop(done.expect("it takes no time")),
        () = server => {}
    }
}

/// Two connections at once, one of which ends by halves, one to a port where nobody is, and one
/// that the client gives up.
async fn talk_spdy(stream: DuplexStream) {
    let mut client = Client::new(stream);
    for (first, request) in [(1, "0"), (5, "1"), (9, "2")] {
        let port = if request == "1" { "81" } else { "80" };
        let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
        client.open(first, &headers("error")).await;
        client.data(first, b"", true).await;
        client.open(first + 2, &headers("data")).await;
    }
    client.reset(11).await;
    client.data(3, b"ab", false).await;
    client.data(3, b"cd", true).await;
    let mut said = vec![];
    for id in [3, 5] {
        said.push(client.read(id).await);
        if id == 3 {
            let headers = [("streamtype", "error"), ("port", "81"), ("requestid", "3")];
            client.open(13, &headers).await;
            client.open(15, &[("streamtype", "data"), ("port", "81"), ("requestid", "3")]).await;
            said.push(client.read(13).await);
            break;
        }
    }
    assert_eq!(said, ["dcba", "error forwarding port 81: nobody is there"]);
}

#[tokio::test]
async fn spdy_forwards_ports() {
    check(request("SPDY/3.1", "portforward.k8s.io"), &[], talk_spdy).await;
}

#[tokio::test]
async fn a_hundred_connections_go_on_at_once() {
    const CONNECTIONS: u32 = 100;
    let headers = request("SPDY/3.1", "portforward.k8s.io");
    let talk = async |stream| {
        let mut client = Client::new(stream);
        for (number, first) in (1..).step_by(4).enumerate().take(CONNECTIONS as usize) {
            let request = number.to_string();
            let headers = |kind| [("streamtype", kind), ("port", "80"), ("requestid", &*request)];
            client.open(first, &headers("error")).await;
            client.open(first + 2, &headers("data")).await;
            client.data(first + 2, b"olleh", true).await;
        }
        let said = client.read_streams(CONNECTIONS as usize * 2).await;
        assert_eq!(said.values().filter(|text| *text == "hello").count(), CONNECTIONS as usize);
    };
    check_with(1 << 20, headers, &[], talk).await;
}

#[tokio::test]
async fn spdy_in_a_web_socket_forwards_ports() {
    let headers = request("websocket", "SPDY/3.1+portforward.k8s.io");
    check(headers, &[], |stream| async {
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let (inner, outer) = tokio::io::duplex(1_024);
        let (mut from, mut to) = tokio::io::split(outer);
        let (mut sink, mut source) = socket.split();
        let pumps = async {
            let up = async {
                let mut buffer = vec![0; 100];
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    sink.send(Message::Binary(buffer[..count].to_vec().into())).await.unwrap();
                }
            };
            let down = async {
                while let Some(Ok(Message::Binary(bytes))) = source.next().await {
                    to.write_all(&bytes).await.unwrap();
                }
            };
            tokio::join!(up, down);
        };
        tokio::select! {
            () = talk_spdy(inner) => {}
            () = pumps => panic!("the connection ended"),
        }
    })
    .await;
}

#[tokio::test]
async fn channels_forward_ports() {
    check(request("websocket", "v4.channel.k8s.io"), &[80, 81], |stream| async {
        let mut client = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
        let mut said = vec![Vec::new(); 4];
        while said.iter().any(|it| it.len() < 2) || said[3].len() < 20 {
            let Some(Ok(Message::Binary(bytes))) = client.next().await else { panic!("{said:?}") };
            said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
        assert_eq!(
            (&said[0][..], &said[1][..], &said[2][..]),
            (&[80, 0][..], &[80, 0][..], &[81, 0][..])
        );
        assert_eq!(&said[3][2..], b"error forwarding port 81: nobody is there");
        client.send(Message::Binary((&b"\x00hello"[..]).into())).await.unwrap();
    })
    .await;
}

#[test]
fn ports_are_read_and_checked() {
    let check = |values: &[&str], expected: Result<&[u16], &str>| {
        let ports = parse_ports(values.iter().copied());
        match (&ports, expected) {
            (Ok(ports), Ok(expected)) => assert_eq!(ports, expected),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            _ => panic!("{values:?}: {ports:?}"),
        }
    };
    check(&["80"], Ok(&[80]));
    check(&["80,443", "8080"], Ok(&[80, 443, 8_080]));
    check(&[], Err("is required"));
    check(&[""], Err("cannot be empty"));
    check(&["80,"], Err("unable to parse"));
    check(&["0"], Err("must be > 0"));
    check(&["65536"], Err("unable to parse"));
}
