//! The decision about Events: which have had their time, and when to look again.

use crate::api::Revision;
use crate::storage::{Entry, Key};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::borrow::Cow;
use std::time::Duration;

/// Between two looks there is at least this much: Events that go within it go together. Upstream
/// groups what expires in the same way (`DefaultLeaseReuseDurationSeconds`, apiserver
/// pkg/storage/etcd3/lease_manager.go, v1.35).
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(60);

/// What is to be done with some Events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// These have had their time.
    pub(super) due: Vec<(Key, Revision)>,
    /// When the first of the others will have had it.
    pub(super) next: Option<Timestamp>,
}

/// Decides. An Event lives for `ttl` from when it was last reported; one that says it was reported
/// in the future, from now.
pub(super) fn plan(events: &[Entry], now: Timestamp, ttl: Duration) -> Plan {
    let mut plan = Plan::default();
    for entry in events {
        let deadline = last_reported(&entry.value, now).saturating_add(ttl_of(ttl));
        let deadline = deadline.unwrap_or(Timestamp::MAX);
        if deadline <= now {
            plan.due.push((entry.key.clone(), entry.revision));
        } else {
            plan.next = earlier(plan.next, Some(deadline));
        }
    }
    plan
}

pub(super) fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn ttl_of(ttl: Duration) -> SignedDuration {
    SignedDuration::try_from(ttl).unwrap_or(SignedDuration::MAX)
}

/// As much of an Event as says when it was reported.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reported<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    last_timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    series: Option<Series<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    creation_timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series<'a> {
    #[serde(borrow)]
    last_observed_time: Option<Cow<'a, str>>,
}

/// The newest of its times. What says nothing at all about that is as old as can be.
fn last_reported(stored: &[u8], now: Timestamp) -> Timestamp {
    let Ok(event) = serde_json::from_slice::<Reported<'_>>(stored) else {
        return Timestamp::MIN;
    };
    let series = event.series.and_then(|series| series.last_observed_time);
    let times = [event.metadata.creation_timestamp, event.last_timestamp, event.event_time, series];
    let times = times.into_iter().flatten().filter_map(|time| time.parse::<Timestamp>().ok());
    times.max().map_or(Timestamp::MIN, |newest| newest.min(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const NOW: &str = "2026-11-21T12:00:00Z";

    fn check(event: &str, expected: &str) {
        let now: Timestamp = NOW.parse().unwrap();
        let value = Bytes::copy_from_slice(event.as_bytes());
        let entry = Entry { key: Key::from("/core/events/a/b"), value, revision: Revision(7) };
        let plan = plan(&[entry], now, Duration::from_secs(3600));
        let shown = match (&plan.due[..], plan.next) {
            ([(key, Revision(7))], None) => format!("due {}", key.as_str()),
            ([], Some(next)) => next.to_string(),
            _ => panic!("{plan:?}"),
        };
        assert_eq!(shown, expected, "{event}");
    }

    #[test]
    fn an_event_lives_from_when_it_was_last_reported() {
        let due = "due /core/events/a/b";
        check(r#"{"metadata":{"creationTimestamp":"2026-11-21T11:00:00Z"}}"#, due);
        check(
            r#"{"metadata":{"creationTimestamp":"2026-11-21T11:00:01Z"}}"#,
            "2026-11-21T12:00:01Z",
        );
        check(
            r#"{"metadata":{"creationTimestamp":"2026-11-21T10:00:00Z"},
                "lastTimestamp":"2026-11-21T11:30:00Z","eventTime":null}"#,
            "2026-11-21T12:30:00Z",
        );
        check(
            r#"{"metadata":{"creationTimestamp":"2026-11-21T10:00:00Z"},
                "eventTime":"2026-11-21T10:00:00.5Z",
                "series":{"count":2,"lastObservedTime":"2026-11-21T11:20:00.250000Z"}}"#,
            "2026-11-21T12:20:00.25Z",
        );
    }

    #[test]
    fn no_event_lives_longer_than_its_time_from_now() {
        check(
            r#"{"metadata":{"creationTimestamp":"2026-11-21T10:00:00Z"},
                "lastTimestamp":"2036-01-01T00:00:00Z"}"#,
            "2026-11-21T13:00:00Z",
        );
        check(r#"{"metadata":{},"lastTimestamp":"soon"}"#, "due /core/events/a/b");
        check("", "due /core/events/a/b");
    }
}
