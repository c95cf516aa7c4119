//! One line of a watch, decoded in one pass.

use crate::api::{Revision, Status};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// One line of a watch.
#[derive(Debug)]
pub(super) enum WatchEvent<T> {
    /// There is an object, or it has changed.
    Applied(T),
    /// An object is gone; this is its last state.
    Deleted(T),
    /// Nothing else happened through this revision.
    Bookmark(Revision),
    Error(Status),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum EventKind {
    #[serde(alias = "MODIFIED")]
    Added,
    Deleted,
    Bookmark,
    Error,
}

/// All that is read of a bookmark's object, which otherwise is an empty one of the kind.
#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMetadata {
    resource_version: String,
}

impl EventKind {
    fn read<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        self,
        object: D,
    ) -> Result<WatchEvent<T>, D::Error> {
        Ok(match self {
            Self::Added => WatchEvent::Applied(T::deserialize(object)?),
            Self::Deleted => WatchEvent::Deleted(T::deserialize(object)?),
            Self::Error => WatchEvent::Error(Status::deserialize(object)?),
            Self::Bookmark => {
                let revision = BookmarkObject::deserialize(object)?.metadata.resource_version;
                WatchEvent::Bookmark(revision.parse().map_err(D::Error::custom)?)
            }
        })
    }
}

/// So that the object is read as what the event's type says it is.
struct ObjectOf<T>(EventKind, PhantomData<T>);

impl<'de, T: DeserializeOwned> serde::de::DeserializeSeed<'de> for ObjectOf<T> {
    type Value = WatchEvent<T>;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<WatchEvent<T>, D::Error> {
        self.0.read(object)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for WatchEvent<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor(PhantomData))
    }
}

struct EventVisitor<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for EventVisitor<T> {
    type Value = WatchEvent<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WatchEvent<T>, A::Error> {
        let mut kind = None;
        let mut event = None;
        // Only where a server writes the object before the type.
        let mut early: Option<Box<RawValue>> = None;
        while let Some(name) = map.next_key::<String>()? {
            match (name.as_str(), kind) {
                ("type", _) => kind = Some(map.next_value::<EventKind>()?),
                ("object", Some(kind)) => {
                    event = Some(map.next_value_seed(ObjectOf(kind, PhantomData))?);
                }
                ("object", None) => early = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (event, kind, early) {
            (Some(event), ..) => Ok(event),
            (None, Some(kind), Some(object)) => {
                let mut object = serde_json::Deserializer::from_slice(object.get().as_bytes());
                kind.read(&mut object).map_err(A::Error::custom)
            }
            (None, None, _) => Err(A::Error::missing_field("type")),
            (None, Some(_), None) => Err(A::Error::missing_field("object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let event = serde_json::from_str::<WatchEvent<ConfigMap>>(line);
        let shown = match event {
            Ok(WatchEvent::Applied(map)) => format!("applied {}", map.metadata.name.unwrap()),
            Ok(WatchEvent::Deleted(map)) => format!("deleted {}", map.metadata.name.unwrap()),
            Ok(WatchEvent::Bookmark(revision)) => format!("bookmark {revision}"),
            Ok(WatchEvent::Error(status)) => format!("error {:?}", status.reason),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn every_type_of_event_is_understood() {
        check(r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#, "applied a");
        check(r#"{"type":"MODIFIED","object":{"metadata":{"name":"a"}}}"#, "applied a");
        check(
            r#"{"type":"DELETED","object":{"kind":"ConfigMap","metadata":{"name":"a"}}}"#,
            "deleted a",
        );
        check(r#"{"object":{"metadata":{"name":"a"}},"type":"DELETED"}"#, "deleted a");
        // A bookmark's object need not be a valid object of its kind.
        check(
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","spec":{"containers":null},"metadata":{"resourceVersion":"12","creationTimestamp":null}}}"#,
            "bookmark 12",
        );
        check(
            r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired","message":"too old"}}"#,
            "error Expired",
        );
        check(r#"{"type":"ADDED"}"#, "missing field `object` at line 1 column 16");
        check(r#"{"object":{}}"#, "missing field `type` at line 1 column 13");
    }
}
