//! Keeps claims that pods use, volumes that claims have, and classes of attributes that either
//! names, from going before they are let go: by finalizers.
//!
//! Start at [`plan()`]. Upstream pkg/controller/volume/pvcprotection, pvprotection and vacprotection
//! (v1.35).

mod attributes_classes;
mod claims;
mod plan;
mod volumes;

pub use attributes_classes::AttributesClassProtection;
pub use claims::ClaimProtection;
pub use plan::{Protected, Use, plan};
pub use volumes::VolumeProtection;

use crate::api::ObjectKey;
use crate::client::{ApiObject, Cache};
use crate::control::Queue;

/// A queue of those objects that have a finalizer to get or to lose.
fn queue_of<K: ApiObject>(cache: &Cache<K>, finalizer: &'static str) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let changed = queue.clone();
    cache.on_change(move |change| {
        if change.new.as_ref().is_some_and(|object| concerns(&**object, finalizer)) {
            changed.add(&change.key);
        }
    });
    queue
}

/// Whether the object has a finalizer to get, or perhaps to lose.
fn concerns<K: ApiObject>(object: &K, finalizer: &str) -> bool {
    let metadata = object.metadata();
    let has = metadata.finalizers.iter().flatten().any(|known| known == finalizer);
    has == metadata.deletion_timestamp.is_some()
}
