//! What the client asks of a type before it carries its objects.

use super::ResourceType;
use crate::api::{ObjectKey, Revision};
use crate::stdx::json;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::fmt::Debug;

/// Every built-in kind.
pub trait ApiObject:
    k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Where the objects of this kind are served.
    #[must_use]
    fn resource_type() -> ResourceType {
        ResourceType::of::<Self>()
    }
}

impl<K> ApiObject for K where
    K: k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// What can come out of a watch: every [`ApiObject`], and views of objects that hold less.
pub trait Watched: DeserializeOwned + Debug + Send + Sync + 'static {
    /// The revision at which the object was last written.
    fn revision(&self) -> Option<Revision>;

    /// Drops, right after decoding, what nobody who shares the copy looks at.
    fn trim(&mut self);

    /// Key and contents, for a client that [remembers](super::Client::remembering). `None`: nothing
    /// of this type is remembered.
    fn remembered(&self) -> Option<(String, Value)> {
        None
    }

    /// Whether objects of this type are [remembered](Self::remembered).
    #[must_use]
    fn is_remembered() -> bool {
        false
    }
}

impl<K: ApiObject> Watched for K {
    fn revision(&self) -> Option<Revision> {
        revision_of(self.metadata())
    }

    /// The field managers are half of many objects and of no use to a reader; an update without
    /// them leaves them as they are.
    fn trim(&mut self) {
        self.metadata_mut().managed_fields = None;
    }

    fn remembered(&self) -> Option<(String, Value)> {
        let object = json::to_value(self);
        Some((key_of(self.metadata()).to_string(), object))
    }

    fn is_remembered() -> bool {
        true
    }
}

/// Namespace and name of an object that the server sent.
#[must_use]
pub fn key_of(metadata: &ObjectMeta) -> ObjectKey {
    ObjectKey {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// The revision at which an object that the server sent was last written.
#[must_use]
pub fn revision_of(metadata: &ObjectMeta) -> Option<Revision> {
    metadata.resource_version.as_deref()?.parse().ok()
}

/// The object as an event or a condition refers to it.
#[must_use]
pub fn object_reference<K: ApiObject>(object: &K) -> ObjectReference {
    let metadata = k8s_openapi::Metadata::metadata(object);
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}
