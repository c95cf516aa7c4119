//! What of an object is worth a write: pure.
//!
//! Nodes say every few minutes that they live, and pods of this node come back as this node has
//! described them. Whoever starts without a server does without that.

use crate::stdx::fnv1a_64;
use serde_json::Value;

/// Of a pod's status, what it is to others and what its own node cannot find out again.
const POD_STATUS: &[&str] = &["phase", "podIP", "podIPs", "hostIP", "startTime"];

/// What is kept of an object, and what has to change for it to be kept anew.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) text: String,
    /// Two objects with the same are the same here, also over restarts.
    pub(super) mark: u64,
}

/// Looks at an object of a kind, by its plural.
pub(super) fn kept(plural: &str, mut object: Value) -> Kept {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for name in ["resourceVersion", "managedFields", "generation"] {
            metadata.remove(name);
        }
    }
    if plural == "nodes" {
        if let Some(status) = object["status"].as_object_mut() {
            status.remove("images");
        }
        for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastHeartbeatTime");
            }
        }
    }
    let text = object.to_string();
    let mark = match plural {
        "pods" => {
            let status = object["status"].take();
            let of_others: Vec<&Value> = POD_STATUS.iter().map(|name| &status[*name]).collect();
            fnv1a_64(format!("{object}{of_others:?}").bytes())
        }
        _ => fnv1a_64(text.bytes()),
    };
    Kept { text, mark }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(plural: &str, path: &str, value: Value, is_worth_it: bool) {
        let before = json!({
            "metadata": {"name": "a", "resourceVersion": "1", "labels": {"a": "b"}},
            "spec": {"x": 1},
            "status": {
                "phase": "Running",
                "images": [1],
                "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "1"}],
            },
        });
        let mut after = before.clone();
        *after.pointer_mut(path).unwrap() = value;
        let (before, after) = (kept(plural, before), kept(plural, after));
        assert_eq!(before.mark != after.mark, is_worth_it, "{plural} {path}");
    }

    #[test]
    fn heartbeats_are_not_written() {
        check("nodes", "/metadata/resourceVersion", json!("2"), false);
        check("nodes", "/status/conditions/0/lastHeartbeatTime", json!("2"), false);
        check("nodes", "/status/images/0", json!(2), false);
        check("nodes", "/status/conditions/0/status", json!("False"), true);
        check("nodes", "/metadata/labels/a", json!("c"), true);
        check("pods", "/status/conditions/0/status", json!("False"), false);
        check("pods", "/status/phase", json!("Failed"), true);
        check("pods", "/spec/x", json!(2), true);
        check("services", "/status/phase", json!("2"), true);
        check("services", "/metadata/resourceVersion", json!("2"), false);
    }

    #[test]
    fn what_is_kept_is_an_object_without_its_revision() {
        let object = json!({"metadata": {"name": "a", "resourceVersion": "1"}, "spec": {"x": 1}});
        assert_eq!(kept("services", object).text, r#"{"metadata":{"name":"a"},"spec":{"x":1}}"#);
    }
}
