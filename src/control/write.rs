//! What a controller wants to change, as plain data.

use crate::api::ObjectKey;
use crate::client::{ApiObject, Content, DeleteOptions, EventType, Patch, ResourceType, key_of};
use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// One write. Bodies are JSON text, so that five hundred pods made from one template share one.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create {
        resource: ResourceType,
        namespace: Option<String>,
        body: Bytes,
    },
    /// The body has the `resourceVersion` at which the object must still be.
    Update {
        resource: ResourceType,
        key: ObjectKey,
        subresource: Option<&'static str>,
        body: Bytes,
    },
    Patch {
        resource: ResourceType,
        key: ObjectKey,
        subresource: Option<&'static str>,
        patch: Patch,
    },
    Delete {
        resource: ResourceType,
        key: ObjectKey,
        options: DeleteOptions,
    },
    /// Deletes every object of a kind in a namespace, or of the cluster.
    DeleteCollection {
        resource: ResourceType,
        namespace: Option<String>,
        options: DeleteOptions,
    },
}

/// What a [`Write`] does, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
    Patch,
    Delete,
}

impl Write {
    #[must_use]
    pub fn create<K: ApiObject>(object: &K) -> Self {
        let namespace = object.metadata().namespace.clone();
        let body = Content::json(object).bytes;
        Self::Create { resource: ResourceType::of::<K>(), namespace, body }
    }

    #[must_use]
    pub fn update<K: ApiObject>(object: &K) -> Self {
        Self::replace(object, None)
    }

    #[must_use]
    pub fn update_status<K: ApiObject>(object: &K) -> Self {
        Self::replace(object, Some("status"))
    }

    /// Replaces the object, or what `subresource` shows of it.
    #[must_use]
    pub fn replace<K: ApiObject>(object: &K, subresource: Option<&'static str>) -> Self {
        Self::Update {
            resource: ResourceType::of::<K>(),
            key: key_of(object.metadata()),
            subresource,
            body: Content::json(object).bytes,
        }
    }

    /// Patches the object. A patch that has `metadata.uid` or `metadata.resourceVersion` conflicts
    /// where the object has others.
    #[must_use]
    pub fn patch<K: ApiObject>(object: &K, patch: Patch) -> Self {
        Self::Patch {
            resource: ResourceType::of::<K>(),
            key: key_of(object.metadata()),
            subresource: None,
            patch,
        }
    }

    /// Deletes this very object, and not another of the same name.
    #[must_use]
    pub fn delete<K: ApiObject>(object: &K) -> Self {
        Self::Delete {
            resource: ResourceType::of::<K>(),
            key: key_of(object.metadata()),
            options: DeleteOptions {
                uid: object.metadata().uid.clone(),
                ..DeleteOptions::default()
            },
        }
    }

    #[must_use]
    pub fn resource(&self) -> &ResourceType {
        match self {
            Self::Create { resource, .. }
            | Self::Update { resource, .. }
            | Self::Patch { resource, .. }
            | Self::Delete { resource, .. }
            | Self::DeleteCollection { resource, .. } => resource,
        }
    }

    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Self::Create { .. } => Verb::Create,
            Self::Update { .. } => Verb::Update,
            Self::Patch { .. } => Verb::Patch,
            Self::Delete { .. } | Self::DeleteCollection { .. } => Verb::Delete,
        }
    }

    /// The object that the write is about; `None` for a create and a whole collection.
    #[must_use]
    pub fn key(&self) -> Option<&ObjectKey> {
        match self {
            Self::Update { key, .. } | Self::Patch { key, .. } | Self::Delete { key, .. } => {
                Some(key)
            }
            Self::Create { .. } | Self::DeleteCollection { .. } => None,
        }
    }

    /// The body or patch as a value; null where there is none.
    #[must_use]
    pub fn body(&self) -> Value {
        match self {
            Self::Create { body, .. } | Self::Update { body, .. } => {
                serde_json::from_slice(body).expect("bodies are made from objects")
            }
            Self::Patch {
                patch: Patch::Json(v) | Patch::Merge(v) | Patch::Strategic(v), ..
            } => v.clone(),
            Self::Delete { .. } | Self::DeleteCollection { .. } => Value::Null,
        }
    }

    /// The write as a request: method, path and content.
    pub(super) fn request(&self) -> (Method, String, Content) {
        let json = |bytes: &Bytes| Content { media_type: "application/json", bytes: bytes.clone() };
        match self {
            Self::Create { resource, namespace, body } => {
                (Method::POST, resource.collection_path(namespace.as_deref()), json(body))
            }
            Self::Update { resource, key, subresource, body } => {
                (Method::PUT, resource.object_path(key, *subresource), json(body))
            }
            Self::Patch { resource, key, subresource, patch } => {
                (Method::PATCH, resource.object_path(key, *subresource), patch.content())
            }
            Self::Delete { resource, key, options } => {
                (Method::DELETE, resource.object_path(key, None), options.content())
            }
            Self::DeleteCollection { resource, namespace, options } => {
                (Method::DELETE, resource.collection_path(namespace.as_deref()), options.content())
            }
        }
    }
}

/// A write with what users are told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub write: Write,
    pub succeeded: Option<Report>,
    pub failed: Option<Report>,
}

impl From<Write> for Planned {
    fn from(write: Write) -> Self {
        Self { write, succeeded: None, failed: None }
    }
}

/// An event for users, about the object that the plan is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub kind: EventType,
    pub reason: &'static str,
    pub message: String,
    /// What is put after the message.
    pub detail: Detail,
}

/// What only the answer to a write tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    Nothing,
    /// The name of the object that was written.
    Name,
    /// Why the write failed.
    Error,
}

impl Report {
    #[must_use]
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Normal, reason, message: message.into(), detail: Detail::Nothing }
    }

    #[must_use]
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventType::Warning, ..Self::normal(reason, message) }
    }

    #[must_use]
    pub fn with(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }
}

/// The write that failed in the last look at a key: for conditions that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub resource: ResourceType,
    pub verb: Verb,
    pub message: String,
}
