//! The policy of a running server, kept from the store.

use super::super::follow::{Follower, Seen};
use super::policy::{Place, Policy};
use crate::stdx::chain;
use crate::storage::{Entry, Event, Key};
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use tracing::error;

const PREFIX: &str = "/rbac.authorization.k8s.io/";

/// See the module.
#[derive(Debug)]
pub(in super::super) struct LivePolicy {
    policy: Arc<RwLock<Policy>>,
    seen: Seen,
}

/// As much of a role of either kind as matters here.
#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

/// As much of a binding of either kind as matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

impl LivePolicy {
    /// With what keeps it.
    pub(in super::super) fn new() -> (Self, Follower) {
        let policy: Arc<RwLock<Policy>> = Arc::default();
        let (on_list, on_event) = (Arc::clone(&policy), Arc::clone(&policy));
        let follower = Follower::of_objects(
            PREFIX,
            move |entries: Vec<Entry>| {
                let mut anew = Policy::default();
                for entry in entries {
                    apply(&mut anew, &entry.key, Some(&entry.value));
                }
                *on_list.write().expect("no panics under this lock") = anew;
            },
            move |event: &Event| {
                let mut policy = on_event.write().expect("no panics under this lock");
                apply(&mut policy, &event.key, event.value.as_deref());
            },
        );
        (Self { policy, seen: follower.seen() }, follower)
    }

    pub(in super::super) fn read(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read().expect("no panics under this lock")
    }

    pub(in super::super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

/// Takes over what is at `key` now.
fn apply(policy: &mut Policy, key: &Key, value: Option<&[u8]>) {
    let Some(path) = key.as_str().strip_prefix(PREFIX) else { return };
    let parts: Vec<_> = path.split('/').collect();
    match *parts.as_slice() {
        [plural @ ("clusterroles" | "clusterrolebindings"), name] => {
            set(policy, plural, Place { namespace: None, name }, value);
        }
        [plural @ ("roles" | "rolebindings"), namespace, name] => {
            set(policy, plural, Place { namespace: Some(namespace), name }, value);
        }
        _ => {}
    }
}

fn set(policy: &mut Policy, plural: &str, place: Place<'_>, value: Option<&[u8]>) {
    if plural.ends_with("bindings") {
        let binding = value.and_then(|value| decode::<Binding>(value, place));
        let bound = binding.map(|binding| (binding.role_ref, binding.subjects.unwrap_or_default()));
        policy.set_binding(place, bound);
    } else {
        let role = value.and_then(|value| decode::<Role>(value, place));
        policy.set_role(place, role.map(|role| role.rules.unwrap_or_default()));
    }
}

/// What cannot be read allows nothing.
fn decode<T: DeserializeOwned>(value: &[u8], place: Place<'_>) -> Option<T> {
    let decoded = serde_json::from_slice(value);
    decoded
        .inspect_err(|error| {
            error!(error = chain(error), ?place, "a role or binding is unreadable")
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Asker, Verdict};
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_count_one_by_one() {
        let mut policy = Policy::default();
        let check = |policy: &Policy, expected: bool| {
            let action = Action::Path { verb: "get", path: "/x" };
            let verdict = policy.decide(Asker { user: "alice", groups: &[] }, &action);
            assert_eq!(matches!(verdict, Verdict::Allowed(_)), expected);
        };
        let put = |policy: &mut Policy, key: &str, value: serde_json::Value| {
            apply(policy, &Key::from(key), Some(value.to_string().as_bytes()));
        };
        let role = "/rbac.authorization.k8s.io/clusterroles/r";
        let binding = "/rbac.authorization.k8s.io/clusterrolebindings/b";
        let rules = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]});
        let bound = json!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": "alice"}],
        });
        put(&mut policy, binding, bound.clone());
        check(&policy, false);
        put(&mut policy, role, rules.clone());
        check(&policy, true);
        put(&mut policy, role, json!({}));
        check(&policy, false);
        put(&mut policy, role, rules);
        put(&mut policy, binding, json!({"roleRef": bound["roleRef"]}));
        check(&policy, false);
        put(&mut policy, binding, bound);
        check(&policy, true);
        apply(&mut policy, &Key::from(role), None);
        check(&policy, false);
    }
}
