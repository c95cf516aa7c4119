//! The decision whether a namespace is to be given its account.

use crate::control::{Plan, Write};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The account of pods that name none.
pub(super) const DEFAULT_ACCOUNT: &str = "default";

/// Everything the decision may depend on.
#[derive(Clone, Debug)]
pub struct Observed {
    pub namespace: Arc<Namespace>,
    /// Whether the namespace has its account.
    pub is_there: bool,
}

/// A namespace that is on its way out gets nothing any more.
pub fn plan(observed: &Observed) -> Plan {
    let metadata = &observed.namespace.metadata;
    if observed.is_there || metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    Plan::of([Write::create(&ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT_ACCOUNT.to_owned()),
            namespace: metadata.name.clone(),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    })])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(metadata: serde_json::Value, is_there: bool, expected: &str) {
        let namespace = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        let plan = plan(&Observed { namespace: Arc::new(namespace), is_there });
        let writes = plan.writes().map(|write| {
            let body = write.body();
            format!(
                "{:?} {}/{}",
                write.verb(),
                body["metadata"]["namespace"],
                body["metadata"]["name"]
            )
        });
        assert_eq!(writes.collect::<String>(), expected);
    }

    #[test]
    fn living_namespaces_have_an_account() {
        check(json!({"name": "a"}), false, r#"Create "a"/"default""#);
        check(json!({"name": "a"}), true, "");
        check(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}), false, "");
    }
}
