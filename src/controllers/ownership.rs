//! How an object comes to belong to a controller, and to belong to it no longer.

use crate::client::{ApiObject, Patch};
use crate::control::Write;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

/// Makes `owner` the controller of an object that has none. Conflicts where the object has changed
/// since: somebody else may have adopted it.
pub(super) fn adopt<K: ApiObject>(object: &K, owner: OwnerReference) -> Write {
    patch_owners(object, json!([owner]))
}

/// Takes the owner with this uid off an object.
pub(super) fn release<K: ApiObject>(object: &K, owner_uid: &str) -> Write {
    patch_owners(object, json!([{"$patch": "delete", "uid": owner_uid}]))
}

fn patch_owners<K: ApiObject>(object: &K, owners: Value) -> Write {
    let metadata = object.metadata();
    let patch = json!({"metadata": {
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
        "ownerReferences": owners,
    }});
    Write::patch(object, Patch::Strategic(patch))
}
