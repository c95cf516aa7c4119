//! Probes: what containers are asked, and what comes of their answers.

use crate::rig::{Rig, condition, container};
use crate::support::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Asks for a command every second, and believes the first answer.
fn command(word: &str) -> Value {
    json!({ "exec": { "command": ["check", word] }, "periodSeconds": 1, "failureThreshold": 1 })
}

fn first(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn count(rig: &Rig, entry: &str) -> usize {
    rig.runtime.journal().iter().filter(|it| *it == entry).count()
}

async fn asked(rig: &Rig, entry: &str, times: usize) {
    eventually(entry, async || (count(rig, entry) >= times).then_some(())).await;
}

#[tokio::test]
async fn a_pod_is_ready_while_its_probe_says_so() {
    let rig = Rig::start().await;
    rig.runtime.command_exits("check ready", 1);
    let mut a = container("a");
    a["readinessProbe"] = command("ready");
    rig.create_pod("web", json!({ "containers": [a] })).await;
    rig.event_until("Unhealthy: Readiness probe failed: ").await;
    let pod = rig.phase_until("web", "Running").await;
    assert_eq!(condition(&pod, "Ready"), "False");
    assert_eq!((&first(&pod)["started"], &first(&pod)["ready"]), (&json!(true), &json!(false)));
    rig.runtime.command_exits("check ready", 0);
    rig.running("web").await;
    rig.runtime.command_exits("check ready", 1);
    rig.pod_until("web", |pod| condition(pod, "Ready") == "False").await;
    assert_eq!(rig.runtime.listing(), ["a/0=run"]);
}

#[tokio::test]
async fn what_does_not_live_is_restarted() {
    let rig = Rig::start().await;
    let mut a = container("a");
    a["livenessProbe"] = command("alive");
    a["livenessProbe"]["terminationGracePeriodSeconds"] = json!(7);
    // Time to mend the command before the next container is asked.
    a["livenessProbe"]["initialDelaySeconds"] = json!(3);
    rig.create_pod("web", json!({ "containers": [a] })).await;
    rig.running("web").await;
    asked(&rig, "exec a check alive", 1).await;
    rig.runtime.command_exits("check alive", 1);
    rig.event_until("Unhealthy: Liveness probe failed: ").await;
    rig.runtime.command_exits("check alive", 0);
    rig.event_until("Killing: Container a failed liveness probe, will be restarted").await;
    rig.pod_until("web", |pod| first(pod)["restartCount"] == 1 && first(pod)["ready"] == true)
        .await;
    assert!(rig.runtime.journal().contains(&"stop a/0 7".to_owned()));
}

#[tokio::test]
async fn other_probes_wait_for_the_start() {
    let rig = Rig::start().await;
    rig.runtime.command_exits("check started", 1);
    let mut a = container("a");
    a["startupProbe"] = command("started");
    a["startupProbe"]["failureThreshold"] = json!(100);
    a["livenessProbe"] = command("alive");
    rig.create_pod("web", json!({ "containers": [a] })).await;
    asked(&rig, "exec a check started", 2).await;
    let pod = rig.phase_until("web", "Running").await;
    assert_eq!((&first(&pod)["started"], &first(&pod)["ready"]), (&json!(false), &json!(false)));
    assert_eq!(count(&rig, "exec a check alive"), 0);
    rig.runtime.command_exits("check started", 0);
    rig.running("web").await;
    let asked_for_start = count(&rig, "exec a check started");
    asked(&rig, "exec a check alive", 2).await;
    assert_eq!(count(&rig, "exec a check started"), asked_for_start);
}

#[tokio::test]
async fn what_never_starts_is_restarted() {
    let rig = Rig::start().await;
    rig.runtime.command_exits("check started", 1);
    let mut a = container("a");
    a["startupProbe"] = command("started");
    rig.create_pod("web", json!({ "containers": [a] })).await;
    rig.event_until("Killing: Container a failed startup probe, will be restarted").await;
    rig.pod_until("web", |pod| first(pod)["restartCount"] == 1).await;
}

#[tokio::test]
async fn the_next_container_waits_for_a_sidecar_to_start() {
    let rig = Rig::start().await;
    rig.runtime.command_exits("check started", 1);
    let mut s = container("s");
    s["restartPolicy"] = json!("Always");
    s["startupProbe"] = command("started");
    s["startupProbe"]["failureThreshold"] = json!(100);
    s["livenessProbe"] = command("alive");
    s["livenessProbe"]["initialDelaySeconds"] = json!(3);
    rig.create_pod("web", json!({ "initContainers": [s] })).await;
    asked(&rig, "exec s check started", 2).await;
    assert_eq!(rig.runtime.listing(), ["s/0=run"]);
    rig.runtime.command_exits("check started", 0);
    rig.running("web").await;
    rig.runtime.command_exits("check alive", 1);
    rig.event_until("Killing: Container s failed liveness probe, will be restarted").await;
    rig.runtime.command_exits("check alive", 0);
    rig.listing_until(&["a/0=run", "s/0=exit143", "s/1=run"]).await;
}

#[tokio::test]
async fn a_pod_that_is_ready_stays_so_when_the_kubelet_restarts() {
    let mut rig = Rig::start().await;
    let mut a = container("a");
    a["startupProbe"] = command("started");
    a["readinessProbe"] = command("ready");
    // Long enough not to be asked again here.
    a["readinessProbe"]["periodSeconds"] = json!(3_600);
    rig.create_pod("web", json!({ "containers": [a] })).await;
    let before = rig.running("web").await;
    rig.stop_kubelet().await;
    rig.runtime.command_exits("check ready", 1);
    rig.start_kubelet();
    rig.create_pod("marker", json!({ "containers": [container("m")] })).await;
    rig.running("marker").await;
    let after = rig.pod("web").await.unwrap();
    assert_eq!(after["status"], before["status"]);
    assert_eq!(count(&rig, "exec a check started"), 1);
}

#[tokio::test]
async fn a_pod_that_ends_is_not_asked_whether_it_lives() {
    let rig = Rig::start().await;
    rig.runtime.on_term("a", crate::runtime::OnTerm::Ignores);
    let mut a = container("a");
    a["livenessProbe"] = command("alive");
    a["readinessProbe"] = command("ready");
    rig.create_pod("web", json!({ "containers": [a], "terminationGracePeriodSeconds": 3 })).await;
    rig.running("web").await;
    rig.delete_pod("web").await;
    rig.event_until("Killing: Stopping container a").await;
    let alive = count(&rig, "exec a check alive");
    let ready = count(&rig, "exec a check ready");
    asked(&rig, "exec a check ready", ready + 1).await;
    assert_eq!(count(&rig, "exec a check alive"), alive);
    rig.gone("web").await;
}

/// Answers requests with the status that their path names.
async fn serve() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/500").trim_start_matches('/');
            let answer = format!("HTTP/1.1 {path} Word\r\nContent-Length: 0\r\n\r\n");
            // Whoever only connects does not read.
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    (port, server)
}

#[tokio::test]
async fn containers_are_asked_over_the_network() {
    let rig = Rig::start().await;
    let (port, _server) = serve().await;
    let probe = |action: Value| {
        let mut probe = action;
        probe["periodSeconds"] = json!(1);
        probe
    };
    let http =
        |path: &str| json!({ "httpGet": { "host": "127.0.0.1", "port": port, "path": path } });
    let tcp = |port: u16| json!({ "tcpSocket": { "host": "127.0.0.1", "port": port } });
    let containers = [
        ("good", http("/204")),
        ("bad", http("/503")),
        ("open", tcp(port)),
        ("closed", tcp(9)),
        ("unnamed", json!({ "tcpSocket": { "port": "nothing" } })),
    ];
    let containers = containers.map(|(name, action)| {
        let mut container = container(name);
        container["readinessProbe"] = probe(action);
        container
    });
    rig.create_pod("web", json!({ "containers": containers })).await;
    for event in [
        "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Unhealthy: Readiness probe failed: dial tcp 127.0.0.1:9: connect: connection refused",
        "Unhealthy: Readiness probe errored and resulted in unknown state: couldn't find port",
    ] {
        rig.event_until(event).await;
    }
    rig.pod_until("web", |pod| {
        let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
        let ready = statuses.iter().filter(|it| it["ready"] == true).map(|it| &it["name"]);
        ready.eq(&["good", "open"])
    })
    .await;
}

#[tokio::test]
async fn gates_hold_readiness_back() {
    let rig = Rig::start().await;
    let gates = json!([{ "conditionType": "example.com/gate" }]);
    rig.create_pod("web", json!({ "readinessGates": gates })).await;
    rig.pod_until("web", |pod| {
        condition(pod, "ContainersReady") == "True" && condition(pod, "Ready") == "False"
    })
    .await;
    let open = json!({ "status": { "conditions": [
        { "type": "example.com/gate", "status": "True" },
    ] } });
    let path = "/api/v1/namespaces/default/pods/web/status";
    rig.api.patch(path, "strategic-merge", &open).await.ok();
    rig.running("web").await;
}
