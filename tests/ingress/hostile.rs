//! Requests that could be read in two ways.

use crate::endpoint::{Endpoint, Raw};
use crate::rig::{Rig, ingress, service};
use serde_json::Value;

/// Requests that are refused, and after which the connection is closed or of no use.
const REFUSED: &[(&str, &str)] = &[
    ("no host", "GET / HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET / HTTP/1.1\r\nHost: a.x\r\nHost: b.x\r\n\r\n"),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: a.x/b\r\n\r\n"),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: u@a.x\r\n\r\n"),
    (
        "lengths that differ",
        "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    ),
    ("a list of lengths", "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 1, 2\r\n\r\nab"),
    ("a length with a sign", "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: +1\r\n\r\na"),
    ("a negative length", "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: -1\r\n\r\na"),
    ("a length in hex", "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 0x1\r\n\r\na"),
    (
        "a length beyond numbers",
        "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 99999999999999999999\r\n\r\na",
    ),
    (
        "a coding that is not chunked",
        "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: gzip\r\n\r\na",
    ),
    (
        "chunked not last",
        "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "almost chunked",
        "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: a.x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost: a.x\r\nContent-Length : 5\r\n\r\nhello"),
    ("a folded line", "GET / HTTP/1.1\r\nHost: a.x\r\nX: a\r\n b\r\n\r\n"),
    ("a line without a colon", "GET / HTTP/1.1\r\nHost: a.x\r\nnonsense\r\n\r\n"),
    ("a nul in a value", "GET / HTTP/1.1\r\nHost: a.x\r\nX: a\0b\r\n\r\n"),
    ("a bare return in a value", "GET / HTTP/1.1\r\nHost: a.x\r\nX: a\rb: c\r\n\r\n"),
    ("a nul in the path", "GET /\0 HTTP/1.1\r\nHost: a.x\r\n\r\n"),
    ("an escaped nul in the path", "GET /%00 HTTP/1.1\r\nHost: a.x\r\n\r\n"),
    ("a path out of the root", "GET /../etc HTTP/1.1\r\nHost: a.x\r\n\r\n"),
    ("an escape that is none", "GET /%zz HTTP/1.1\r\nHost: a.x\r\n\r\n"),
    ("no path", "GET * HTTP/1.1\r\nHost: a.x\r\n\r\n"),
    ("no version", "GET /\r\nHost: a.x\r\n\r\n"),
    ("another version", "GET / HTTP/3.7\r\nHost: a.x\r\n\r\n"),
    ("a tunnel", "CONNECT a.x:443 HTTP/1.1\r\nHost: a.x:443\r\n\r\n"),
    ("a trace", "TRACE / HTTP/1.1\r\nHost: a.x\r\n\r\n"),
];

async fn rig() -> (Rig, Endpoint) {
    let a = Endpoint::named("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await;
    (rig, a)
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_reaches_no_endpoint() {
    let (rig, a) = rig().await;
    for (what, request) in REFUSED {
        let mut client = Raw::connect(rig.http).await;
        client.send(request).await;
        let answer = client.answer().await.unwrap_or_default();
        let status = answer.get(9..12).unwrap_or_default();
        let is_refused = answer.is_empty() || ["400", "405", "505"].contains(&status);
        assert!(is_refused, "{what}: {answer}");
        assert_eq!(a.requests(), Vec::<String>::new(), "{what}");
    }
    assert_eq!(rig.get("a.x", "/").await.0, 200);
    rig.stop().await;
}

/// A request that hides another in its body stays one request.
#[tokio::test]
async fn a_request_is_sent_on_as_it_was_read() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.x\r\n\r\n";
    let (rig, a) = rig().await;
    for (what, request) in [
        (
            "both lengths",
            format!(
                "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}",
                hidden.len() + 5
            ),
        ),
        (
            "both lengths, the other way round",
            format!(
                "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{hidden}"
            ),
        ),
        (
            "a length that is sent away with the connection",
            format!(
                "POST / HTTP/1.1\r\nHost: a.x\r\nConnection: close, content-length\r\nContent-Length: {}\r\n\r\n{hidden}",
                hidden.len()
            ),
        ),
        (
            "a body to a GET",
            format!(
                "GET / HTTP/1.1\r\nHost: a.x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{hidden}",
                hidden.len()
            ),
        ),
        (
            "chunks with extensions and trailers",
            "POST / HTTP/1.1\r\nHost: a.x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;x=\"y\"\r\nhello\r\n0\r\nX-Trailer: GET /hidden\r\n\r\n"
                .to_owned(),
        ),
    ] {
        let before = a.requests().len();
        let mut client = Raw::connect(rig.http).await;
        client.send(&request).await;
        let answer = client.rest().await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
        let seen = &a.requests()[before..];
        assert!(seen.len() <= 1, "{what}: {seen:?}");
        for request in seen {
            let head = request.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
            let lengths = head.matches("content-length").count() + head.matches("transfer-encoding").count();
            assert_eq!(lengths, 1, "{what}: {request}");
            assert!(!head.contains("/hidden"), "{what}: {request}");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection() {
    let (rig, a) = rig().await;
    let head = "POST / HTTP/1.1\r\nHost: a.x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in ["zz\r\n", "-1\r\n", "5\r\nhelloXX", "FFFFFFFFFFFFFFFFF\r\n", "5\nhello\n0\n\n"] {
        let mut client = Raw::connect(rig.http).await;
        client.send(&format!("{head}{chunks}")).await;
        let answer = client.rest().await;
        assert!(!answer.contains(" 200 "), "{chunks:?}: {answer}");
    }
    assert_eq!(a.requests(), Vec::<String>::new());
    rig.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (rig, _a) = rig().await;
    for request in [
        format!("GET /{} HTTP/1.1\r\nHost: a.x\r\n\r\n", "a".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: a.x\r\nX: {}\r\n\r\n", "a".repeat(100_000)),
        format!("GET / HTTP/1.1\r\nHost: a.x\r\n{}\r\n", "X: a\r\n".repeat(200)),
    ] {
        let mut client = Raw::connect(rig.http).await;
        // The answer may come before all of it is sent.
        tokio::io::AsyncWriteExt::write_all(&mut client.0, request.as_bytes()).await.ok();
        let answer = client.rest().await;
        let status = answer.get(9..12).unwrap_or("431");
        assert!(["400", "414", "431"].contains(&status), "{answer}");
    }
    rig.stop().await;
}
