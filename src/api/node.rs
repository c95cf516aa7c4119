//! Facts about nodes that several components need.

use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// The condition of this type.
#[must_use]
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    let mut conditions = node.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == kind)
}

/// `True`, `False` or `Unknown`; `None` where the node has not said yet.
#[must_use]
pub fn ready_status(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}
