//! What the kubelet answers over HTTP.

use crate::rig::Rig;
use crate::support::{DEADLINE, eventually};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use kinglet::stdx::http::{Body, Request, Response};
use serde_json::json;

async fn call(rig: &Rig, path: &str) -> Response {
    let request: Request = http::Request::get(path).body(Bytes::new()).unwrap();
    rig.kubelet.service().call(request).await.unwrap()
}

async fn text(rig: &Rig, path: &str) -> (u16, String) {
    let (head, body) = call(rig, path).await.into_parts();
    let bytes = tokio::time::timeout(DEADLINE, body.collect()).await.unwrap().unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap())
}

fn ok(text: &str) -> (u16, String) {
    (200, text.to_owned())
}

async fn next(body: &mut Body) -> Option<String> {
    let frame = tokio::time::timeout(DEADLINE, body.frame()).await.expect("in time")?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn logs_of_this_container_and_the_one_before() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({})).await;
    rig.running("web").await;
    let logs = "/containerLogs/default/web/a";
    assert_eq!(text(&rig, logs).await, ok("a 0 starts\n"));
    let (code, why) = text(&rig, &format!("{logs}?previous=true")).await;
    let expected = "previous terminated container \"a\" in pod \"web\" not found";
    assert_eq!((code, why.as_str()), (400, expected));
    rig.runtime.exit("a", 1);
    rig.listing_until(&["a/0=exit1", "a/1=run"]).await;
    assert_eq!(text(&rig, logs).await, ok("a 1 starts\n"));
    let previous = text(&rig, &format!("{logs}?previous=true")).await;
    assert_eq!(previous, ok("a 0 starts\na 0 exits with 1\n"));
    let tail = text(&rig, &format!("{logs}?previous=true&tailLines=1")).await;
    assert_eq!(tail, ok("a 0 exits with 1\n"));
}

#[tokio::test]
async fn a_followed_log_ends_with_its_container() {
    let rig = Rig::start().await;
    rig.create_pod("web", json!({ "restartPolicy": "Never" })).await;
    rig.running("web").await;
    let mut body = call(&rig, "/containerLogs/default/web/a?follow=true").await.into_body();
    assert_eq!(next(&mut body).await.as_deref(), Some("a 0 starts\n"));
    rig.runtime.exit("a", 0);
    assert_eq!(next(&mut body).await.as_deref(), Some("a 0 exits with 0\n"));
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let rig = Rig::start().await;
    let spec =
        json!({ "containers": [{ "name": "a", "image": "none:1", "imagePullPolicy": "Never" }] });
    rig.create_pod("web", spec).await;
    rig.pod_until("web", |pod| crate::rig::waiting(pod) == "ErrImageNeverPull").await;
    for (path, code, expected) in [
        ("/containerLogs/default/none/a", 404, "pod \"none\" not found\n"),
        ("/containerLogs/default/web/b", 404, "container \"b\" not found in pod \"web\"\n"),
        (
            "/containerLogs/default/web/a",
            400,
            "container \"a\" in pod \"web\" is waiting to start: ErrImageNeverPull",
        ),
        (
            "/containerLogs/default/web/a?tailLines=-1",
            422,
            "tailLines: must be greater than or equal to 0",
        ),
        ("/nothing", 404, "404 page not found"),
    ] {
        // The kubelet hears of the status that it wrote a little later than others do.
        eventually(&format!("{path}: {expected}"), async || {
            (text(&rig, path).await == (code, expected.to_owned())).then_some(())
        })
        .await;
    }
    assert_eq!(text(&rig, "/healthz").await, ok("ok"));
    let (_, pods) = text(&rig, "/pods").await;
    let pods: serde_json::Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
}
