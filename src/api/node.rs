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

/// A Node says here which key the machine has whose name it is: that of its certificates, as the
/// SHA-256 of the public key in hexadecimal digits.
pub const NODE_KEY: &str = "kinglet.dev/node-key";

/// A Node says here by what WireGuard knows it, where nodes reach each other by that: its public key, as
/// `wg` shows it.
pub const WIREGUARD_KEY: &str = "kinglet.dev/wireguard-key";

/// The group of those who work on nodes beside the kubelet, and what comes before the node's name in
/// theirs.
pub const AGENTS: &str = "kinglet:agents";
pub const AGENT_PREFIX: &str = "kinglet:agent:";

/// The cause in a [`Status`](super::Status) that tells a machine that its name is another's now.
pub const NAME_TAKEN: &str = "NodeNameTaken";

/// The key of the machine whose name it is, where there is one.
#[must_use]
pub fn key_of_node(node: &Node) -> Option<&str> {
    node.metadata.annotations.as_ref()?.get(NODE_KEY).map(String::as_str)
}

/// By what WireGuard knows the node, where it says so.
#[must_use]
pub fn wireguard_key_of_node(node: &Node) -> Option<&str> {
    node.metadata.annotations.as_ref()?.get(WIREGUARD_KEY).map(String::as_str)
}

/// What a machine is told that has not the key that goes with the name.
#[must_use]
pub fn name_taken(name: &str) -> String {
    format!(
        "the name {name} is that of another machine, whose key is not this one's; give this machine \
         another --node-name, or delete the Node {name} where the other is no more"
    )
}
