//! Hooks: what a pod wants done after a container's start and before its end.

use crate::rig::{Rig, container, waiting};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

fn with_hooks(hooks: Value) -> Value {
    let mut spec = json!({ "containers": [container("a")], "restartPolicy": "Never" });
    spec["containers"][0]["lifecycle"] = hooks;
    spec
}

#[tokio::test]
async fn hooks_run_after_the_start_and_before_the_end() {
    let rig = Rig::start().await;
    let hook = |word: &str| json!({ "exec": { "command": ["do", word] } });
    let mut spec = json!({ "containers": [container("a")] });
    spec["containers"][0]["lifecycle"] =
        json!({ "postStart": hook("begin"), "preStop": hook("finish") });
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    rig.delete_pod("web").await;
    rig.gone("web").await;
    let journal = rig.runtime.journal().join(", ");
    assert!(
        journal.contains("start a/0, exec a do begin, exec a do finish, stop a/0 "),
        "{journal}"
    );
}

#[tokio::test]
async fn a_hook_may_sleep() {
    let rig = Rig::start().await;
    let hooks = json!({ "preStop": { "sleep": { "seconds": 1 } } });
    let mut spec = with_hooks(hooks);
    spec["terminationGracePeriodSeconds"] = json!(20);
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    rig.delete_pod("web").await;
    rig.gone("web").await;
    // What it has slept is gone from the grace.
    let journal = rig.runtime.journal();
    let stop = journal.iter().find_map(|it| it.strip_prefix("stop a/0 ")).unwrap();
    assert!(matches!(stop.parse(), Ok(10..=19)), "{journal:?}");
}

#[tokio::test]
async fn a_failed_hook_ends_its_container() {
    let rig = Rig::start().await;
    let mut spec = json!({ "containers": [container("a")], "restartPolicy": "Never" });
    spec["containers"][0]["lifecycle"] =
        json!({ "postStart": { "exec": { "command": ["false"] } } });
    rig.create_pod("web", spec).await;
    rig.phase_until("web", "Failed").await;
    rig.event_until("FailedPostStartHook: PostStartHook failed").await;
}

/// What a container would serve. Shows the paths that it is asked for.
async fn serve() -> (u16, mpsc::UnboundedReceiver<String>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, hears) = mpsc::unbounded_channel();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            if let Some(path) = request.strip_prefix("GET ") {
                asked.send(path.split(' ').next().unwrap().to_owned()).unwrap();
            }
        }
    });
    (port, hears, server)
}

#[tokio::test]
async fn hooks_can_be_asked_over_http() {
    let rig = Rig::start().await;
    let (port, mut asked, _server) = serve().await;
    let hook = |path: &str, scheme: &str| json!({ "httpGet": { "host": "127.0.0.1", "port": port, "path": path, "scheme": scheme } });
    let hooks = json!({ "postStart": hook("/begin", "HTTP"), "preStop": hook("/end", "HTTPS") });
    rig.create_pod("web", with_hooks(hooks)).await;
    // Any answer is one.
    rig.running("web").await;
    assert_eq!(asked.recv().await.unwrap(), "/begin");
    rig.delete_pod("web").await;
    rig.gone("web").await;
    assert_eq!(asked.recv().await.unwrap(), "/end");
    rig.event_until(&format!(
        "LifecycleHTTPFallback: request to HTTPS lifecycle hook 127.0.0.1:{port} got HTTP \
         response, retry with HTTP succeeded"
    ))
    .await;
}

#[tokio::test]
async fn hooks_that_cannot_run_fail() {
    let rig = Rig::start().await;
    let unreachable = json!({ "httpGet": { "host": "127.0.0.1", "port": "none" } });
    // The API takes it, and no kubelet ever ran it.
    let hooks = json!({ "postStart": { "tcpSocket": { "port": 80 } }, "preStop": unreachable });
    rig.create_pod("web", with_hooks(hooks)).await;
    rig.phase_until("web", "Failed").await;
    rig.event_until("FailedPostStartHook: PostStartHook failed").await;
    rig.event_until("FailedPreStopHook: PreStopHook failed").await;
}

#[tokio::test]
async fn the_next_container_starts_after_the_hook() {
    let rig = Rig::start().await;
    let mut spec = json!({ "containers": [container("a"), container("b")] });
    spec["containers"][0]["lifecycle"] =
        json!({ "postStart": { "exec": { "command": ["do", "begin"] } } });
    rig.create_pod("web", spec).await;
    rig.running("web").await;
    let journal = rig.runtime.journal().join(", ");
    assert!(journal.contains("start a/0, exec a do begin, create b/0, start b/0"), "{journal}");
}

#[tokio::test]
async fn a_failed_hook_is_why_its_container_waits() {
    let rig = Rig::start().await;
    let mut spec = json!({ "containers": [container("a")] });
    spec["containers"][0]["lifecycle"] =
        json!({ "postStart": { "exec": { "command": ["false"] } } });
    rig.create_pod("web", spec).await;
    rig.pod_until("web", |pod| waiting(pod) == "PostStartHookError").await;
    rig.event_until("Killing: FailedPostStartHook").await;
}

#[tokio::test]
async fn a_stop_that_fails_is_tried_again_without_its_hook() {
    let rig = Rig::start().await;
    let hook = json!({ "preStop": { "exec": { "command": ["do", "finish"] } } });
    rig.create_pod("web", with_hooks(hook)).await;
    rig.running("web").await;
    rig.runtime.fail("stop_container", 1);
    rig.delete_pod("web").await;
    rig.gone("web").await;
    let runs = rig.runtime.journal().iter().filter(|it| *it == "exec a do finish").count();
    assert_eq!(runs, 1);
    let events = rig.events().await;
    assert_eq!(events.iter().filter(|it| it.starts_with("Killing")).count(), 1, "{events:?}");
}
