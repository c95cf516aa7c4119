//! Which EndpointSlices each Service has.

use super::model::service_of;
use crate::api::ObjectKey;
use crate::client::{Cache, Change};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The names of slices by Service. Kept by the task that fills the slices' cache.
#[derive(Debug, Default)]
pub(super) struct SliceIndex(Mutex<BTreeMap<ObjectKey, BTreeSet<ObjectKey>>>);

impl SliceIndex {
    /// Takes note of a change and returns the Services that it concerns.
    pub(super) fn take(&self, change: &Change<EndpointSlice>) -> Vec<ObjectKey> {
        let old = change.old.as_deref().and_then(service_key);
        let new = change.new.as_deref().and_then(service_key);
        let mut by_service = self.0.lock().expect("no panics under this lock");
        if old != new {
            if let Some(old) = &old
                && let Some(slices) = by_service.get_mut(old)
            {
                slices.remove(&change.key);
                if slices.is_empty() {
                    by_service.remove(old);
                }
            }
            if let Some(new) = &new {
                by_service.entry(new.clone()).or_default().insert(change.key.clone());
            }
        }
        let is_moved = old != new;
        old.into_iter().filter(|_| is_moved).chain(new).collect()
    }

    pub(super) fn of(
        &self,
        service: &ObjectKey,
        slices: &Cache<EndpointSlice>,
    ) -> Vec<Arc<EndpointSlice>> {
        let keys = {
            let by_service = self.0.lock().expect("no panics under this lock");
            by_service.get(service).cloned().unwrap_or_default()
        };
        keys.iter().filter_map(|key| slices.get(key)).collect()
    }
}

fn service_key(slice: &EndpointSlice) -> Option<ObjectKey> {
    let namespace = slice.metadata.namespace.as_deref()?;
    Some(ObjectKey::namespaced(namespace, service_of(slice)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(service: Option<&str>) -> Option<Arc<EndpointSlice>> {
        let service = service?;
        let slice = json!({
            "metadata": {
                "name": "s", "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4", "endpoints": [],
        });
        Some(Arc::new(serde_json::from_value(slice).unwrap()))
    }

    #[test]
    fn a_change_concerns_the_service_it_was_of_and_the_one_it_is_of() {
        let index = SliceIndex::default();
        for (old, new, expected) in [
            (None, Some("a"), vec!["a"]),
            (Some("a"), Some("a"), vec!["a"]),
            (Some("a"), Some("b"), vec!["a", "b"]),
            (Some("b"), Some(""), vec!["b"]),
            (Some(""), None, vec![]),
        ] {
            let key = ObjectKey::namespaced("default", "s");
            let change = Change { key, old: slice(old), new: slice(new) };
            let concerned = index.take(&change);
            let names: Vec<_> = concerned.iter().map(|key| key.name.as_str()).collect();
            assert_eq!(names, expected, "{old:?} -> {new:?}");
        }
        assert!(index.0.lock().unwrap().is_empty());
    }
}
