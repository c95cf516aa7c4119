//! Whether an object gets its finalizer, keeps it, or is let go. Pure.

use crate::client::{ApiObject, object_reference};
use crate::control::{Plan, Write};
use std::sync::Arc;
use std::time::Duration;

/// After it could not be found out whether an object is used.
const UNSURE_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Used,
    Unused,
    /// Nobody could be asked.
    Unknown,
}

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Protected<K> {
    pub object: Arc<K>,
    /// Of an object that is being deleted.
    pub used: Use,
}

/// Adds the finalizer to what has none, and takes it off what is being deleted and not used.
pub fn plan<K: ApiObject>(protected: &Protected<K>, finalizer: &str) -> Plan {
    let mut object = K::clone(&protected.object);
    let is_going = object.metadata().deletion_timestamp.is_some();
    let finalizers = object.metadata_mut().finalizers.get_or_insert_default();
    let has = finalizers.iter().any(|known| known == finalizer);
    match (is_going, has) {
        (false, false) => finalizers.push(finalizer.to_owned()),
        (true, true) if protected.used == Use::Unused => {
            finalizers.retain(|known| known != finalizer);
        }
        (true, true) if protected.used == Use::Unknown => {
            return Plan { recheck_after: Some(UNSURE_RETRY), ..Plan::default() };
        }
        _ => return Plan::default(),
    }
    Plan { regarding: object_reference(&object), ..Plan::of([Write::update(&object)]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::volume::PVC_PROTECTION;
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::json;

    #[track_caller]
    fn check(is_going: bool, finalizers: &[&str], used: Use, expected: &str) {
        let deleted = is_going.then_some("2026-11-21T00:00:00Z");
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({ "metadata": {
            "name": "data", "deletionTimestamp": deleted, "finalizers": finalizers,
        } }))
        .unwrap();
        let plan = plan(&Protected { object: Arc::new(claim), used }, PVC_PROTECTION);
        let written = plan.writes().next().map(|write| {
            let body = write.body();
            let finalizers = body["metadata"]["finalizers"].as_array().cloned();
            let names = finalizers.unwrap_or_default();
            let names: Vec<_> = names.iter().map(|it| it.as_str().unwrap().to_owned()).collect();
            format!("[{}]", names.join(" "))
        });
        let recheck = plan.recheck_after.map(|_| "later".to_owned());
        assert_eq!(written.or(recheck).unwrap_or_default(), expected);
    }

    #[test]
    fn what_is_used_stays() {
        check(false, &[], Use::Used, "[kubernetes.io/pvc-protection]");
        check(false, &["x"], Use::Used, "[x kubernetes.io/pvc-protection]");
        check(false, &[PVC_PROTECTION], Use::Used, "");
        check(true, &[PVC_PROTECTION], Use::Used, "");
        check(true, &["x", PVC_PROTECTION], Use::Unused, "[x]");
        check(true, &[PVC_PROTECTION], Use::Unknown, "later");
        check(true, &["x"], Use::Unused, "");
    }
}
