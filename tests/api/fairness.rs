//! Priority and fairness: whose requests are served when not all can be.

use super::limits::{Connection, limit};
use super::support::{Api, DEADLINE, eventually};
use super::tls::serve;
use http::{HeaderMap, Method};
use kinglet::stdx::Tasks;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

/// The uids that an answer tells: of the schema, and of the level.
fn told(headers: &HeaderMap) -> [String; 2] {
    ["x-kubernetes-pf-flowschema-uid", "x-kubernetes-pf-prioritylevel-uid"]
        .map(|name| headers[name].to_str().unwrap().to_owned())
}

async fn uids(api: &Api, schema: &str, level: &str) -> [String; 2] {
    let schema = api.get(&format!("{GROUP}/flowschemas/{schema}")).await.ok();
    let level = api.get(&format!("{GROUP}/prioritylevelconfigurations/{level}")).await.ok();
    [schema, level].map(|object| object["metadata"]["uid"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn answers_tell_how_the_request_was_judged() {
    let served = serve().await;
    let exempt = uids(&served.api, "exempt", "exempt").await;
    let default = uids(&served.api, "global-default", "global-default").await;
    let admin = served.admin();
    let alice = served.colleague("alice").await;
    let mut admin = Connection::open(&served, &admin).await;
    let mut alice = Connection::open(&served, &alice).await;
    let connections = tokio::sync::Mutex::new((&mut admin, &mut alice));
    eventually("the first objects are known", async || {
        let (admin, alice) = &mut *connections.lock().await;
        let of_admin = admin.send(Method::GET, "/api/v1/pods", "").await;
        let of_alice = alice.send(Method::GET, "/api/v1/pods", "").await;
        (told(of_admin.headers()) == exempt && told(of_alice.headers()) == default).then_some(())
    })
    .await;
    let text = served.api.get("/metrics").await.text();
    for line in [
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"} 245",
        "apiserver_flowcontrol_lower_limit_seats{priority_level=\"workload-low\"} 24",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"exempt\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_watch_that_has_begun_leaves_its_seat() {
    let served = serve().await;
    let alice = served.colleague("alice").await;
    let mut connection = Connection::open(&served, &alice).await;
    // One seat, and nobody waits.
    limit(
        &served,
        &mut connection,
        json!({
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }),
    )
    .await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        let answer = connection.send(Method::GET, "/api/v1/pods?watch=true", "").await;
        assert_eq!(answer.status(), 200);
        watches.push(answer);
    }
    assert_eq!(connection.send(Method::GET, "/api/v1/pods", "").await.status(), 200);
}

async fn dangling(api: &Api, expected: &str) {
    eventually(expected, async || {
        let schema = api.get(&format!("{GROUP}/flowschemas/own")).await.ok();
        let conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |field: &str| conditions[0][field].as_str().unwrap_or_default().to_owned();
        let is_told =
            conditions.len() == 1 && ["type", "status", "reason"].map(text).join(" ") == expected;
        is_told.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_schema_is_told_whether_its_level_is_there() {
    let api = Api::start().await;
    let mut tasks = Tasks::new(CancellationToken::new());
    api.server.keep(&mut tasks);
    let schema = json!({"metadata": {"name": "own"}, "spec": {
        "priorityLevelConfiguration": {"name": "own"},
    }});
    api.post(&format!("{GROUP}/flowschemas"), &schema).await.ok();
    dangling(&api, "Dangling True NotFound").await;
    let limited: Value = json!({"limitResponse": {"type": "Reject"}});
    let level =
        json!({"metadata": {"name": "own"}, "spec": {"type": "Limited", "limited": limited}});
    api.post(&format!("{GROUP}/prioritylevelconfigurations"), &level).await.ok();
    dangling(&api, "Dangling False Found").await;
    tasks.stop(DEADLINE).await.unwrap();
}
