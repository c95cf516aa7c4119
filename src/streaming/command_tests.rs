//! Talking to commands in every protocol that there is.

use super::super::spdy::tests::Client;
use super::*;
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use tokio::io::DuplexStream;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

fn request(upgrade: &'static str, protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static(upgrade));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    headers.insert("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    for name in ["sec-websocket-protocol", "x-stream-protocol-version"] {
        headers.insert(name, HeaderValue::from_static(protocol));
    }
    headers
}

/// A command that repeats its input on its output, says "!" on the other one, and fails with 3.
async fn echo(streams: Streams) -> Outcome {
    let Streams { stdin, stdout, stderr, .. } = streams;
    let (mut stdin, mut stdout, mut stderr) = (stdin.unwrap(), stdout.unwrap(), stderr.unwrap());
    stderr.send(Bytes::from_static(b"!")).await.unwrap();
    stderr.finish().await;
    while let Some(piece) = stdin.next().await {
        let is_end = piece.ends_with(b".");
        stdout.send(piece).await.unwrap();
        if is_end {
            break;
        }
    }
    stdout.finish().await;
    Outcome::Exited(3)
}

/// Starts `work`, and gives the client's end of the connection.
fn connect<W, F>(
    headers: &HeaderMap,
    wanted: Wanted,
    work: W,
) -> (DuplexStream, impl Future<Output = ()> + use<W, F>)
where
    W: FnOnce(Streams) -> F + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut response = answer(headers, wanted, work).unwrap();
    assert_eq!(response.status(), 101);
    let (near, far) = tokio::io::duplex(1_024);
    (near, Upgrade::take(&mut response).unwrap().run(Box::new(far)))
}

#[tokio::test]
async fn spdy_carries_a_command() {
    for (protocol, outcome) in [
        ("v4.channel.k8s.io", "\"message\":\"3\""),
        ("v3.channel.k8s.io", "command terminated with non-zero exit code: exit code 3"),
    ] {
        let (near, serving) = connect(&request("SPDY/3.1", protocol), ALL, echo);
        let talk = async {
            let mut client = Client::new(near);
            for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
                client.open(id, &[("streamtype", kind)]).await;
            }
            client.data(3, b"hello ", false).await;
            client.data(3, b"there", false).await;
            client.data(3, b"", true).await;
            let all = client.read_all().await;
            let said = |id: &str| -> String {
                let texts = all.iter().filter_map(|line| line.strip_prefix(id)?.split('"').nth(1));
                texts.collect()
            };
            assert_eq!((said("5 ").as_str(), said("7 ").as_str()), ("hello there", "!"), "{all:?}");
            let told = all.iter().find(|line| line.starts_with("1 ")).unwrap().replace('\\', "");
            assert!(told.contains(outcome), "{told}");
            for end in ["1 \"\" end", "5 \"\" end", "7 \"\" end", "go away"] {
                assert!(all.iter().any(|line| line == end), "{end}: {all:?}");
            }
        };
        tokio::join!(serving, talk);
    }
}

async fn web_socket(stream: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

#[tokio::test]
async fn web_sockets_carry_a_command() {
    for (protocol, end, outcome) in [
        ("v5.channel.k8s.io", &[255, 0][..], "\"NonZeroExitCode\""),
        ("v4.channel.k8s.io", b"\x00.", "\"NonZeroExitCode\""),
        ("channel.k8s.io", b"\x00.", "exit code 3"),
    ] {
        let (near, serving) = connect(&request("websocket", protocol), ALL, echo);
        let talk = async {
            let mut client = web_socket(near).await;
            let first = client.next().await.unwrap().unwrap();
            assert_eq!(first.into_data(), &b"\x01"[..], "it says that it is there");
            for text in [&b"\x00hello "[..], b"\x00there", b"\x07?", b"\x04{}", b"\x01?", end] {
                client.send(Message::Binary(text.to_vec().into())).await.unwrap();
            }
            let mut said = vec![String::new(); 5];
            while let Some(Ok(Message::Binary(bytes))) = client.next().await {
                let text = std::str::from_utf8(&bytes[1..]).unwrap();
                said[usize::from(bytes[0])].push_str(text);
            }
            assert_eq!((said[1].trim_end_matches('.'), said[2].as_str()), ("hello there", "!"));
            assert!(said[3].contains(outcome), "{}", said[3]);
        };
        tokio::join!(serving, talk);
    }
}

/// A command that says `pieces` times so many bytes, and then that it is over.
async fn talkative(mut streams: Streams, pieces: usize, over: Arc<Notify>) -> Outcome {
    let mut stdout = streams.stdout.take().unwrap();
    for _ in 0..pieces {
        stdout.send(Bytes::from_static(&[b'x'; PIECE_BYTES])).await.unwrap();
    }
    stdout.finish().await;
    over.notify_one();
    Outcome::Succeeded
}

const PIECE_BYTES: usize = 2_000;

/// However much waits to be sent when the command ends, and with as little room as there may be.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_late_has_everything() {
    const ONE: Wanted = Wanted { stdin: false, stdout: true, stderr: false, tty: false };
    let late = async |over: &Notify| {
        // A command that waits for room ends only when something is read.
        tokio::time::timeout(Duration::from_secs(1), over.notified()).await.ok();
    };
    for pieces in 0..30 {
        let over = Arc::new(Notify::new());
        let work = |over: &Arc<Notify>| {
            let over = Arc::clone(over);
            move |streams| talkative(streams, pieces, over)
        };
        let headers = request("websocket", "v5.channel.k8s.io");
        let (near, serving) = connect(&headers, ONE, work(&over));
        let talk = async {
            let mut client = web_socket(near).await;
            late(&over).await;
            let (mut said, mut outcome) = (0, String::new());
            while let Some(Ok(Message::Binary(bytes))) = client.next().await {
                match bytes[0] {
                    1 => said += bytes.len() - 1,
                    _ => outcome.push_str(std::str::from_utf8(&bytes[1..]).unwrap()),
                }
            }
            assert_eq!(said, pieces * PIECE_BYTES);
            assert!(outcome.contains("Success"), "{pieces} pieces: {outcome}");
        };
        tokio::join!(serving, talk);

        let headers = request("SPDY/3.1", "v4.channel.k8s.io");
        let (near, serving) = connect(&headers, ONE, work(&over));
        let talk = async {
            let mut client = Client::new(near);
            client.open(1, &[("streamtype", "error")]).await;
            client.open(3, &[("streamtype", "stdout")]).await;
            late(&over).await;
            let all = client.read_all().await;
            assert!(all.iter().any(|line| line.contains("Success")), "{pieces} pieces: {all:?}");
            assert_eq!(all.last().unwrap(), "go away");
        };
        tokio::join!(serving, talk);
    }
}

#[tokio::test]
async fn old_browsers_have_base64() {
    let headers = request("websocket", "v4.base64.channel.k8s.io");
    let (near, serving) = connect(&headers, ALL, echo);
    let talk = async {
        let mut client = web_socket(near).await;
        assert_eq!(client.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "1");
        client.send(Message::Text("0aGku".into())).await.unwrap();
        let mut said = Vec::new();
        while let Some(Ok(Message::Text(text))) = client.next().await {
            said.push(text.as_str().to_owned());
        }
        assert!(
            said.contains(&"1aGku".to_owned()) && said.contains(&"2IQ==".to_owned()),
            "{said:?}"
        );
    };
    tokio::join!(serving, talk);
}

#[tokio::test]
async fn sizes_come_in_any_pieces() {
    let (inlet, receiver) = super::super::pieces::incoming();
    let mut sizes = Sizes::new(receiver);
    for piece in ["{\"Width\":80,", "\"Height\":24}\n{\"Width\":1", "00,\"Height\":50}"] {
        inlet.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
    assert_eq!(sizes.next().await, Some(TerminalSize { width: 80, height: 24 }));
    assert_eq!(sizes.next().await, Some(TerminalSize { width: 100, height: 50 }));
    inlet.send(Bytes::from_static(b"rubbish")).await.unwrap();
    assert_eq!(sizes.next().await, None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let check = |headers: &HeaderMap, wanted: Wanted, expected: &str| {
        let refused = answer(headers, wanted, echo).map(drop).unwrap_err();
        assert!(refused.text.contains(expected), "{refused:?}");
    };
    let spdy = request("SPDY/3.1", "v4.channel.k8s.io");
    check(&spdy, Wanted { tty: true, ..Wanted::default() }, "at least 1 of stdin, stdout, stderr");
    check(&spdy, Wanted { tty: true, stderr: true, ..Wanted::default() }, "at least 1");
    check(&HeaderMap::new(), ALL, "missing upgrade headers");
    check(&request("SPDY/3.1", "v9.channel.k8s.io"), ALL, "server accepts [v4.channel.k8s.io");
    check(&request("websocket", "v9.channel.k8s.io"), ALL, "supports [v5.channel.k8s.io");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_no_streams_is_let_go() {
    let (near, serving) = connect(&request("SPDY/3.1", "v4.channel.k8s.io"), ALL, echo);
    let talk = async {
        let mut client = Client::new(near);
        client.open(1, &[("streamtype", "error")]).await;
        assert_eq!(client.read_all().await, ["1 \"\" end", "go away"]);
    };
    tokio::join!(serving, talk);
}
