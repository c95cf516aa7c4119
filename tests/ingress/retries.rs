//! What happens when endpoints are not as they should be.

use crate::endpoint::{Endpoint, Raw, parse};
use crate::rig::{Rig, ingress, service, service_speaking, slices};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn another_endpoint_is_tried_where_one_does_not_listen() {
    let a = Endpoint::named("a").await;
    let dead = nobody().await;
    let rig = Rig::start(|api| {
        service(api, "s", &[]);
        slices(api, "s", "http", &[dead, a.address]);
        ingress(api, "i", &["a.x / s"], Value::Null);
    })
    .await;
    for _ in 0..6 {
        let mut client = Raw::connect(rig.http).await;
        client.send("POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(parse(&client.answer().await.unwrap()), (200, "a".to_owned()));
    }
    let metrics = rig.ingress.metrics();
    let line = metrics.lines().find(|line| {
        line.starts_with("kinglet_ingress_endpoint_connect_failures_total{namespace=\"n\"")
    });
    // It is left alone after the first time.
    assert!(line.unwrap().ends_with(" 1"), "{line:?}");
    rig.stop().await;
}

#[tokio::test]
async fn where_no_endpoint_listens_it_is_told() {
    let dead = [nobody().await, nobody().await];
    let rig = Rig::start(|api| {
        service(api, "s", &[]);
        slices(api, "s", "http", &dead);
        ingress(api, "i", &["a.x / s"], Value::Null);
    })
    .await;
    assert_eq!(rig.get("a.x", "/").await.0, 502);
    rig.stop().await;
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_nobody_anything() {
    let a = Endpoint::forgetful("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await;
    let mut client = Raw::connect(rig.http).await;
    for round in 0..20 {
        let request = if round % 2 == 0 { "GET" } else { "HEAD" };
        client.send(&format!("{request} / HTTP/1.1\r\nHost: a.x\r\n\r\n")).await;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut byte).await.unwrap();
            head.push(char::from(byte[0]));
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        if request == "GET" {
            let mut byte = [0];
            tokio::io::AsyncReadExt::read_exact(&mut client.0, &mut byte).await.unwrap();
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_request_that_may_have_had_effect_is_not_sent_again() {
    let a = Endpoint::serving("a", |mut stream, _name, note| {
        Box::pin(async move {
            // One answer, and the next request is taken and not answered.
            for answer in [Some(crate::endpoint::ok("a")), None] {
                let Some(request) = crate::endpoint::read_message(&mut stream).await else {
                    return;
                };
                note(request);
                if let Some(answer) = answer {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
    })
    .await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await;
    let post = "POST / HTTP/1.1\r\nHost: a.x\r\nContent-Length: 0\r\n\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a.x\r\n\r\n";
    let mut client = Raw::connect(rig.http).await;
    for (request, status, seen) in [(post, 200, 1), (post, 502, 2), (get, 200, 3), (get, 200, 5)] {
        client.send(request).await;
        let (found, _) = parse(&client.answer().await.unwrap());
        assert_eq!((found, a.requests().len()), (status, seen), "{request}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_given_up() {
    let a = Endpoint::serving("a", |mut stream, _name, note| {
        Box::pin(async move {
            while let Some(request) = crate::endpoint::read_message(&mut stream).await {
                note(request);
            }
        })
    })
    .await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        let annotations = json!({ "ingress.kinglet.dev/proxy-read-timeout": "1" });
        ingress(api, "i", &["a.x / a"], json!({ "annotations": annotations }));
    })
    .await;
    assert_eq!(rig.get("a.x", "/").await, (504, "the endpoint did not answer in time\n".into()));
    rig.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_http_is_a_bad_gateway() {
    let a = Endpoint::serving("a", |mut stream, _name, _note| {
        Box::pin(async move {
            stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await.unwrap();
            crate::endpoint::read_message(&mut stream).await;
        })
    })
    .await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        service_speaking(api, "h2", "grpc", &[&a]);
        ingress(api, "i", &["a.x / a", "a.x /h2 h2"], Value::Null);
    })
    .await;
    assert_eq!(rig.get("a.x", "/").await.0, 502);
    assert_eq!(rig.get("a.x", "/h2").await.0, 502);
    rig.stop().await;
}
