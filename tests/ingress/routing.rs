//! Which endpoint gets a request, and what it gets.

use crate::endpoint::{Endpoint, Raw, parse};
use crate::rig::{Rig, ingress, service, slices};
use serde_json::{Value, json};

#[tokio::test]
async fn requests_go_where_ingresses_say() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        service(api, "b", &[&b]);
        service(api, "idle", &[]);
        let rules = ["a.x / a", "a.x /b b", "*.y / b", "a.x /idle idle", "a.x /gone gone"];
        ingress(api, "i", &rules, Value::Null);
    })
    .await;
    for (host, path, status, body) in [
        ("a.x", "/", 200, "a"),
        ("A.X:80", "/b/c?d", 200, "b"),
        ("a.x", "/bc", 200, "a"),
        ("a.x", "/c/../b", 200, "b"),
        ("z.y", "/", 200, "b"),
        ("y", "/", 404, "nothing is served for this host and path\n"),
        ("a.x", "/idle", 503, "no endpoint is ready\n"),
        ("a.x", "/gone", 503, "there is no Service n/gone\n"),
    ] {
        assert_eq!(rig.get(host, path).await, (status, body.to_owned()), "{host}{path}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn endpoints_get_requests_as_they_came() {
    let a = Endpoint::named("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await;
    let mut client = Raw::connect(rig.http).await;
    client
        .send(
            "POST /%7Ex/../y?q=1&r HTTP/1.1\r\nHost: a.x\r\nX-Forwarded-For: 1.1.1.1\r\n\
             Connection: x-own\r\nX-Own: 1\r\nAccept: z\r\nContent-Length: 3\r\n\r\nabc",
        )
        .await;
    assert_eq!(parse(&client.answer().await.unwrap()), (200, "a".to_owned()));
    let seen = a.requests().remove(0);
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().map(str::to_ascii_lowercase).collect();
    lines[1..].sort();
    assert_eq!(
        lines,
        [
            "post /%7ex/../y?q=1&r http/1.1",
            "accept: z",
            "content-length: 3",
            "host: a.x",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: a.x",
            "x-forwarded-port: 80",
            "x-forwarded-proto: http",
            "x-real-ip: 127.0.0.1",
        ]
    );
    assert_eq!(body, "abc");
    rig.stop().await;
}

#[tokio::test]
async fn connections_are_kept_on_both_sides() {
    let a = Endpoint::named("a").await;
    let rig = Rig::start(|api| {
        service(api, "a", &[&a]);
        ingress(api, "i", &["a.x / a"], Value::Null);
    })
    .await;
    let mut client = Raw::connect(rig.http).await;
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: a.x\r\n\r\n").await;
        assert_eq!(parse(&client.answer().await.unwrap()).0, 200);
    }
    // Two at once on one connection are answered one after the other.
    client.send("GET / HTTP/1.1\r\nHost: a.x\r\n\r\nGET / HTTP/1.1\r\nHost: a.x\r\n\r\n").await;
    for _ in 0..2 {
        assert_eq!(parse(&client.answer().await.unwrap()).0, 200);
    }
    assert_eq!((a.requests().len(), a.connections()), (22, 1));
    rig.stop().await;
}

#[tokio::test]
async fn changes_are_followed() {
    let (a, b) = (Endpoint::named("a").await, Endpoint::named("b").await);
    let rig = Rig::start(|api| {
        service(api, "s", &[&a]);
        ingress(api, "i", &["a.x / s"], Value::Null);
    })
    .await;
    assert_eq!(rig.get("a.x", "/").await.1, "a");
    slices(&rig.api, "s", "http", &[b.address]);
    rig.eventually("a.x", "/", (200, "b")).await;
    rig.api.delete("endpointslices", "s-0");
    rig.eventually("a.x", "/", (503, "no endpoint is ready\n")).await;
    slices(&rig.api, "s", "http", &[a.address]);
    rig.eventually("a.x", "/", (200, "a")).await;
    ingress(&rig.api, "i", &["b.x / s"], Value::Null);
    rig.eventually("b.x", "/", (200, "a")).await;
    assert_eq!(rig.get("a.x", "/").await.0, 404);
    let class = json!({ "spec": { "controller": "somebody.else/ingress" } });
    rig.api.put("ingressclasses", "kinglet", class);
    rig.eventually("b.x", "/", (404, "nothing is served for this host and path\n")).await;
    rig.stop().await;
}

#[tokio::test]
async fn trusted_proxies_are_believed() {
    let a = Endpoint::named("a").await;
    let rig = Rig::with(
        |api| {
            service(api, "a", &[&a]);
            ingress(api, "i", &["a.x / a"], Value::Null);
        },
        |config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()],
    )
    .await;
    let mut client = Raw::connect(rig.http).await;
    client.send("GET / HTTP/1.1\r\nHost: a.x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").await;
    client.answer().await.unwrap();
    let seen = a.requests().remove(0).to_ascii_lowercase();
    assert!(seen.contains("x-forwarded-for: 192.0.2.1, 127.0.0.1\r\n"), "{seen}");
    rig.stop().await;
}

#[tokio::test]
async fn requests_are_counted_and_written_down() {
    let a = Endpoint::named("a").await;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let rig = Rig::with(
        |api| {
            service(api, "a", &[&a]);
            ingress(api, "i", &["a.x / a"], Value::Null);
        },
        |config| config.access_log = Some(log.clone()),
    )
    .await;
    rig.get("a.x", "/some").await;
    rig.get("b.x", "/other").await;
    let deadline = tokio::time::Instant::now() + crate::endpoint::DEADLINE;
    let text = loop {
        let text = std::fs::read_to_string(&log).unwrap();
        if text.lines().count() == 2 {
            break text;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let place = format!(" a.x n/i n/a:http {}", a.address);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("\"GET /some HTTP/1.1\" 200 1 ") && lines[0].ends_with(&place));
    assert!(lines[1].contains("\"GET /other HTTP/1.1\" 404 ") && lines[1].ends_with(" b.x - - -"));
    let metrics = rig.ingress.metrics();
    let labels = "namespace=\"n\",ingress=\"i\",service=\"a\",port=\"http\",code=\"200\"";
    assert!(
        metrics.contains(&format!("kinglet_ingress_requests_total{{{labels}}} 1\n")),
        "{metrics}"
    );
    rig.stop().await;
}
