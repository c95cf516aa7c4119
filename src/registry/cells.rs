//! How values look in the cells of a table.

use super::checks::to_value;
use crate::api::labels::Selector;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a cell says where there is nothing.
pub(super) const NONE: &str = "<none>";
pub(super) const UNKNOWN: &str = "<unknown>";

pub(super) fn name(metadata: &ObjectMeta) -> Value {
    Value::from(metadata.name.clone().unwrap_or_default())
}

/// The time since the object was created.
pub(super) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    Value::from(since(metadata.creation_timestamp.as_ref(), now))
}

/// The time of creation itself (upstream `defaultTableConvertor`, apiserver pkg/registry/rest,
/// v1.35).
pub(super) fn created_at(metadata: &ObjectMeta) -> Value {
    metadata.creation_timestamp.as_ref().map_or(Value::Null, to_value)
}

/// The time since `then`, as people say it.
pub(super) fn since(then: Option<&Time>, now: Timestamp) -> String {
    then.map_or_else(|| UNKNOWN.to_owned(), |then| human_duration(now.duration_since(then.0)))
}

/// `1=a,2=b`, or `<none>`.
pub(super) fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<_> =
        labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// Upstream `FormatLabelSelector` (apimachinery pkg/apis/meta/v1, v1.35).
pub(super) fn selector(selector: Option<&LabelSelector>) -> Value {
    let text = Selector::of_object(selector).map(|selector| selector.to_string());
    text.map_or_else(|_| Value::from("<error>"), |text| or_none(Some(&text)))
}

/// The text, or `<none>` for an empty one.
pub(super) fn or_none(text: Option<&str>) -> Value {
    Value::from(text.filter(|text| !text.is_empty()).unwrap_or(NONE))
}

/// Two or three digits that matter (upstream `HumanDuration`, apimachinery pkg/util/duration,
/// v1.35). Clocks that are a little apart show as nothing; further, as `<invalid>`.
pub(super) fn human_duration(duration: jiff::SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let seconds = duration.as_secs();
    let pair = |large: i64, large_unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{large}{large_unit}"),
        small => format!("{large}{large_unit}{small}{small_unit}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(seconds / MINUTE, "m", seconds % MINUTE, "s"),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => pair(seconds / HOUR, "h", seconds % HOUR / MINUTE, "m"),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => pair(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => pair(seconds / YEAR, "y", seconds % YEAR / DAY, "d"),
        _ => format!("{}y", seconds / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn durations_read_as_upstreams() {
        const MINUTE: i64 = 60;
        const HOUR: i64 = 3_600;
        const DAY: i64 = 24 * HOUR;
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (9 * MINUTE + 59, "9m59s"),
            (10 * MINUTE + 1, "10m"),
            (179 * MINUTE, "179m"),
            (3 * HOUR, "3h"),
            (7 * HOUR + 59 * MINUTE, "7h59m"),
            (8 * HOUR + 30 * MINUTE, "8h"),
            (47 * HOUR, "47h"),
            (48 * HOUR, "2d"),
            (49 * HOUR, "2d1h"),
            (8 * DAY + HOUR, "8d"),
            (729 * DAY, "729d"),
            (730 * DAY, "2y"),
            (731 * DAY, "2y1d"),
            (8 * 365 * DAY + DAY, "8y"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
    }
}
