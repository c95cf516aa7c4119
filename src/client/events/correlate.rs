//! Decides whether an occurrence becomes a new Event, counts an old one up, or is left out.
//!
//! The idea is upstream's `EventCorrelator` (client-go tools/record/events_cache.go, v1.35): equal
//! occurrences are counted, many similar ones are combined, and one object cannot flood the store.

use crate::api::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Occurrences further apart than this are events of their own.
const SIMILAR_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// This many events that differ only in their message are kept apart; later ones are combined.
const SIMILAR_EVENTS_MAX: usize = 10;

/// One object may have this many events at once, and then one more for every [`REFILL_SECONDS`].
const BURST_EVENTS_MAX: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// This many objects, and groups of similar events, are remembered. At the limit, those of the last
/// ten minutes stay; if that is all of them, all are forgotten, and counting begins anew.
const REMEMBERED_MAX: usize = 1_024;

/// Who reports: the component's name, and the node where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    pub component: String,
    /// Empty for components that belong to no node.
    pub host: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(super) struct Occurrence {
    pub(super) regarding: ObjectReference,
    pub(super) kind: EventType,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) at: Timestamp,
}

/// What to write about an occurrence.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    /// This object has had its share of events.
    LeaveOut,
    Create(Box<Event>),
    /// Counts an event up. `event` is it, whole, in case that it is gone by now.
    CountUp {
        key: ObjectKey,
        patch: Value,
        event: Box<Event>,
    },
}

/// What is remembered of the events of the last minutes.
#[derive(Debug)]
pub(super) struct Correlator {
    reporter: Reporter,
    groups: BTreeMap<GroupKey, Group>,
    budgets: BTreeMap<ObjectIdentity, Budget>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ObjectIdentity {
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    field_path: String,
}

/// Occurrences are similar when they differ in nothing but their message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    object: ObjectIdentity,
    kind: EventType,
    reason: String,
}

#[derive(Debug)]
struct Group {
    last: Timestamp,
    events: Vec<Written>,
    /// The event that stands for all beyond [`SIMILAR_EVENTS_MAX`].
    combined: Option<Written>,
}

#[derive(Clone, Debug)]
struct Written {
    message: String,
    name: String,
    count: i32,
    first: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    tokens: f64,
    at: Timestamp,
}

impl Correlator {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { reporter, groups: BTreeMap::new(), budgets: BTreeMap::new() }
    }

    pub(super) fn decide(&mut self, occurrence: &Occurrence) -> Decision {
        let object = identity(&occurrence.regarding);
        self.make_room(occurrence.at);
        let group_key =
            GroupKey { object, kind: occurrence.kind, reason: occurrence.reason.clone() };
        if !self.spend(&group_key.object, occurrence.at) {
            return Decision::LeaveOut;
        }
        let group = self.groups.entry(group_key).or_insert_with(|| Group::new(occurrence.at));
        if occurrence.at.duration_since(group.last) > SIMILAR_WITHIN {
            *group = Group::new(occurrence.at);
        }
        group.last = occurrence.at;
        let written = group.count(occurrence);
        let event = Box::new(render(&self.reporter, occurrence, &written));
        if written.count == 1 {
            return Decision::Create(event);
        }
        let key = ObjectKey::namespaced(namespace(&occurrence.regarding), written.name);
        let patch = json!({
            "count": event.count, "message": event.message, "lastTimestamp": event.last_timestamp,
        });
        Decision::CountUp { key, patch, event }
    }

    /// Takes one token of the object's budget; says whether there was one.
    fn spend(&mut self, object: &ObjectIdentity, now: Timestamp) -> bool {
        let full = Budget { tokens: BURST_EVENTS_MAX, at: now };
        let budget = self.budgets.entry(object.clone()).or_insert(full);
        let seconds = now.duration_since(budget.at).as_secs_f64().max(0.0);
        budget.tokens = (budget.tokens + seconds / REFILL_SECONDS).min(BURST_EVENTS_MAX);
        budget.at = now;
        let has_token = budget.tokens >= 1.0;
        if has_token {
            budget.tokens -= 1.0;
        }
        has_token
    }

    fn make_room(&mut self, now: Timestamp) {
        let is_recent = |at: Timestamp| now.duration_since(at) <= SIMILAR_WITHIN;
        if self.groups.len() >= REMEMBERED_MAX {
            self.groups.retain(|_, group| is_recent(group.last));
            if self.groups.len() >= REMEMBERED_MAX {
                self.groups.clear();
            }
        }
        if self.budgets.len() >= REMEMBERED_MAX {
            self.budgets.retain(|_, budget| is_recent(budget.at));
            if self.budgets.len() >= REMEMBERED_MAX {
                self.budgets.clear();
            }
        }
    }
}

impl Group {
    fn new(now: Timestamp) -> Self {
        Self { last: now, events: Vec::new(), combined: None }
    }

    /// Finds or makes the event that this occurrence belongs to, and counts it.
    fn count(&mut self, occurrence: &Occurrence) -> Written {
        let message = &occurrence.message;
        let known = self.events.iter().position(|event| event.message == *message);
        let written = match known {
            Some(index) => &mut self.events[index],
            None if self.events.len() < SIMILAR_EVENTS_MAX => {
                self.events.push(Written::new(occurrence, message.clone()));
                self.events.last_mut().expect("just pushed")
            }
            None => {
                let combined = format!("(combined from similar events): {message}");
                let written =
                    self.combined.get_or_insert_with(|| Written::new(occurrence, String::new()));
                written.message = combined;
                written
            }
        };
        written.count = written.count.saturating_add(1);
        written.clone()
    }
}

impl Written {
    fn new(occurrence: &Occurrence, message: String) -> Self {
        let object = occurrence.regarding.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", occurrence.at.as_nanosecond());
        Self { message, name, count: 0, first: occurrence.at }
    }
}

fn identity(regarding: &ObjectReference) -> ObjectIdentity {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectIdentity {
        kind: text(&regarding.kind),
        namespace: text(&regarding.namespace),
        name: text(&regarding.name),
        uid: text(&regarding.uid),
        field_path: text(&regarding.field_path),
    }
}

/// Events of cluster-scoped objects live in `default`: upstream `makeEvent`.
fn namespace(regarding: &ObjectReference) -> &str {
    regarding.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

fn render(reporter: &Reporter, occurrence: &Occurrence, written: &Written) -> Event {
    let host = (!reporter.host.is_empty()).then(|| reporter.host.clone());
    Event {
        metadata: ObjectMeta {
            namespace: Some(namespace(&occurrence.regarding).to_owned()),
            name: Some(written.name.clone()),
            ..ObjectMeta::default()
        },
        involved_object: occurrence.regarding.clone(),
        type_: Some(occurrence.kind.as_str().to_owned()),
        reason: Some(occurrence.reason.clone()),
        message: Some(written.message.clone()),
        count: Some(written.count),
        first_timestamp: Some(Time(written.first)),
        last_timestamp: Some(Time(occurrence.at)),
        source: Some(EventSource {
            component: Some(reporter.component.clone()),
            host: host.clone(),
        }),
        reporting_component: Some(reporter.component.clone()),
        reporting_instance: host,
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(object: &str, message: &str, seconds: i64) -> Occurrence {
        Occurrence {
            regarding: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: Some("default".to_owned()),
                name: Some(object.to_owned()),
                ..ObjectReference::default()
            },
            kind: EventType::Normal,
            reason: "Tested".to_owned(),
            message: message.to_owned(),
            at: Timestamp::from_second(1_700_000_000 + seconds).unwrap(),
        }
    }

    fn correlator() -> Correlator {
        Correlator::new(Reporter { component: "tester".to_owned(), host: String::new() })
    }

    fn brief(decision: &Decision) -> String {
        match decision {
            Decision::LeaveOut => "-".to_owned(),
            Decision::Create(event) => format!("new:{}", event.message.as_deref().unwrap()),
            Decision::CountUp { patch, .. } => {
                format!("{}x:{}", patch["count"], patch["message"].as_str().unwrap())
            }
        }
    }

    /// Messages of one pod with the second they come at.
    #[track_caller]
    fn check(occurrences: &[(&str, i64)], expected: &[&str]) {
        let mut correlator = correlator();
        let decisions = occurrences.iter().map(|(message, seconds)| {
            brief(&correlator.decide(&occurrence("web", message, *seconds)))
        });
        assert_eq!(decisions.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn equal_occurrences_within_ten_minutes_are_counted() {
        check(&[("a", 0), ("a", 5), ("b", 6), ("a", 599)], &["new:a", "2x:a", "new:b", "3x:a"]);
        check(&[("a", 0), ("a", 600), ("a", 1201)], &["new:a", "2x:a", "new:a"]);
    }

    #[test]
    fn many_similar_occurrences_are_combined() {
        let messages: Vec<_> = (0..13).map(|number| number.to_string()).collect();
        let occurrences: Vec<_> = messages.iter().map(|message| (message.as_str(), 0)).collect();
        check(
            &occurrences,
            &[
                "new:0",
                "new:1",
                "new:2",
                "new:3",
                "new:4",
                "new:5",
                "new:6",
                "new:7",
                "new:8",
                "new:9",
                "new:(combined from similar events): 10",
                "2x:(combined from similar events): 11",
                "3x:(combined from similar events): 12",
            ],
        );
    }

    #[test]
    fn one_object_cannot_flood_the_store() {
        let mut correlator = correlator();
        let mut decide =
            |object, seconds| brief(&correlator.decide(&occurrence(object, "a", seconds)));
        for _ in 0..25 {
            assert_ne!(decide("web", 0), "-");
        }
        assert_eq!(decide("web", 0), "-");
        assert_eq!(decide("other", 0), "new:a");
        assert_eq!(decide("web", 299), "-");
        assert_eq!(decide("web", 301), "26x:a");
        assert_eq!(decide("web", 301), "-");
    }

    #[test]
    fn what_is_remembered_has_a_limit() {
        let mut correlator = correlator();
        for number in 0..10_000 {
            correlator.decide(&occurrence(&format!("pod-{number}"), "a", number / 10));
            assert!(correlator.groups.len() <= REMEMBERED_MAX);
            assert!(correlator.budgets.len() <= REMEMBERED_MAX);
        }
    }

    #[test]
    fn events_look_like_upstreams() {
        let decision = correlator().decide(&occurrence("web", "a", 0));
        let Decision::Create(event) = decision else { panic!("the first is created") };
        let expected = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "web.1797955e3f4e0000", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"},
            "type": "Normal", "reason": "Tested", "message": "a", "count": 1,
            "firstTimestamp": "2023-11-14T22:13:20Z", "lastTimestamp": "2023-11-14T22:13:20Z",
            "source": {"component": "tester"}, "reportingComponent": "tester",
        });
        let mut actual = serde_json::to_value(&event).unwrap();
        let name = actual["metadata"]["name"].take();
        actual["metadata"]["name"] = expected["metadata"]["name"].clone();
        assert_eq!(actual, expected);
        assert_eq!(name, format!("web.{:x}", 1_700_000_000_000_000_000_u64));
    }
}
