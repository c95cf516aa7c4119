//! What becomes of requests, with what every cluster has.

use super::super::query::Query;
use super::*;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(15);

fn request(path: &str) -> RequestInfo {
    RequestInfo::parse(&Method::GET, path, &Query::default())
}

fn user(name: &str) -> Identity {
    Identity::new(name, &["system:authenticated"])
}

async fn enter(fairness: &Arc<Fairness>, identity: &Identity, path: &str) -> Entered {
    let request = &request(path);
    fairness.enter(Comer { identity, request, bytes: 0, patience: PATIENCE }).await
}

fn counted(fairness: &Fairness, line: &str) -> Option<f64> {
    let mut text = crate::stdx::exposition::Exposition::default();
    fairness.seen().render(&mut text);
    let text = text.finish();
    let mut lines = text.lines().filter_map(|shown| shown.strip_prefix(line));
    lines.next()?.trim().parse().ok()
}

const OF_ALICE: &str = "{flow_schema=\"global-default\",priority_level=\"global-default\"";

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_seat_and_has_it() {
    let fairness = Fairness::new(2);
    let alice = user("alice");
    let mut seats = Vec::new();
    while let Some(entered) = enter(&fairness, &alice, "/api/v1/pods").now_or_never() {
        assert_eq!(entered.waited, Duration::ZERO);
        seats.push(entered.seat.expect("it is seated at once"));
    }
    let waiting = format!("apiserver_flowcontrol_current_inqueue_requests{OF_ALICE}}}");
    let mut waits = Box::pin(enter(&fairness, &alice, "/api/v1/pods"));
    assert!(waits.as_mut().now_or_never().is_none());
    assert_eq!(counted(&fairness, &waiting), Some(1.0));
    tokio::time::advance(Duration::from_secs(3)).await;
    seats.pop();
    let entered = waits.await;
    assert_eq!(entered.waited, Duration::from_secs(3));
    assert!(entered.seat.is_some());
    assert_eq!(counted(&fairness, &waiting), Some(0.0));
    seats.extend(entered.seat);
    let executing = format!("apiserver_flowcontrol_current_executing_requests{OF_ALICE}}}");
    assert_eq!(counted(&fairness, &executing), Some(crate::stdx::exposition::count(seats.len())));
    drop(seats);
    assert_eq!(counted(&fairness, &executing), Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_too_long_is_sent_away() {
    let fairness = Fairness::new(1);
    let alice = user("alice");
    let held = enter(&fairness, &alice, "/api/v1/pods").await;
    let entered = enter(&fairness, &alice, "/api/v1/pods").await;
    assert_eq!((entered.seat.is_none(), entered.waited), (true, PATIENCE));
    let late =
        format!("apiserver_flowcontrol_rejected_requests_total{OF_ALICE},reason=\"time-out\"}}");
    assert_eq!(counted(&fairness, &late), Some(1.0));
    assert_eq!(fairness.room().seats.waiting(), 0);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_leaves_the_queue() {
    let fairness = Fairness::new(1);
    let alice = user("alice");
    let held = enter(&fairness, &alice, "/api/v1/pods").await;
    let mut first = Box::pin(enter(&fairness, &alice, "/api/v1/pods"));
    let mut second = Box::pin(enter(&fairness, &alice, "/api/v1/pods"));
    assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
    // The first has its turn, and goes without having heard of it.
    drop(held);
    drop(first);
    assert!(second.await.seat.is_some());
    let gone =
        format!("apiserver_flowcontrol_rejected_requests_total{OF_ALICE},reason=\"cancelled\"}}");
    assert_eq!(counted(&fairness, &gone), Some(1.0));
    assert!(fairness.room().waiting.is_empty());
    assert!(fairness.room().seats.seen().iter().all(|level| level.executing == 0));
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_much_does_not_keep_out_others() {
    let fairness = Fairness::new(2);
    let (much, little) = (user("much"), user("little"));
    let mut held = Vec::new();
    while let Some(entered) = enter(&fairness, &much, "/api/v1/pods").now_or_never() {
        held.extend(entered.seat);
    }
    let mut flood: FuturesUnordered<_> =
        (0..100).map(|_| enter(&fairness, &much, "/api/v1/pods")).collect();
    assert!(flood.next().now_or_never().is_none());
    let mut one = Box::pin(enter(&fairness, &little, "/api/v1/pods"));
    assert!(one.as_mut().now_or_never().is_none());
    let mut turns = 0;
    while one.as_mut().now_or_never().is_none() {
        turns += 1;
        assert!(turns < 20, "the flood is served first");
        held.pop();
        held.extend(flood.next().now_or_never().flatten().and_then(|entered| entered.seat));
    }
    let admin = Identity::new("admin", &["system:masters"]);
    assert!(enter(&fairness, &admin, "/api/v1/pods").now_or_never().unwrap().seat.is_some());
}

fn objects(level: Value) -> impl FnOnce(&mut Objects) {
    move |objects| {
        let schema = json!({"metadata": {"uid": "of-schema"}, "spec": {
            "priorityLevelConfiguration": {"name": "own"}, "matchingPrecedence": 10,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "alice"}}],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
                    "clusterScope": true,
                }],
            }],
        }});
        let level = json!({"metadata": {"uid": "of-level"}, "spec": level});
        objects.schemas =
            Schemas::from([("own".to_owned(), serde_json::from_value(schema).unwrap())]);
        objects.levels = Levels::from([("own".to_owned(), serde_json::from_value(level).unwrap())]);
        (objects.has_schemas, objects.has_levels) = (true, true);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_holds_at_once_and_drops_nothing() {
    let fairness = Fairness::new(6);
    let alice = user("alice");
    let limited = |response: Value| {
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0, "limitResponse": response,
        }})
    };
    let queuing = json!({"queues": 4, "handSize": 1, "queueLengthLimit": 9});
    let queue = json!({"type": "Queue", "queuing": queuing});
    fairness.change(objects(limited(queue)));
    let first = enter(&fairness, &alice, "/api/v1/pods").await;
    let mut headers = HeaderMap::new();
    first.tell(&mut headers);
    assert_eq!(headers["x-kubernetes-pf-flowschema-uid"], "of-schema");
    assert_eq!(headers["x-kubernetes-pf-prioritylevel-uid"], "of-level");
    let mut second = Box::pin(enter(&fairness, &alice, "/api/v1/pods"));
    assert!(second.as_mut().now_or_never().is_none());
    // Whoever waits goes on waiting, and others are refused.
    fairness.change(objects(limited(json!({"type": "Reject"}))));
    assert!(second.as_mut().now_or_never().is_none());
    assert!(enter(&fairness, &alice, "/api/v1/pods").await.seat.is_none());
    // The level goes, and is finished with first.
    fairness.change(|objects| {
        objects.levels.clear();
    });
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    assert!(second.await.seat.is_some());
    let told = enter(&fairness, &alice, "/api/v1/pods").await;
    assert!(told.seat.is_some(), "as one of all others");
}
