//! Who may have a node's name: pure.
//!
//! A machine that joins shows a token that any machine may have; what is its own is its key. The
//! first key under a name has it, for as long as there is a Node of that name: k3s guards names by a
//! password, which has to be kept on both sides and sent (pkg/nodepassword); a request for a
//! certificate is signed with the key anyhow. Whoever wants the name for another machine deletes the
//! Node.

use crate::pki::CertificateRequest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use std::net::IpAddr;

/// A Node says here which key it has.
pub const NODE_KEY: &str = "kinglet.dev/node-key";

/// Before a node's name, that of its kubelet, and that of its other parts.
pub(super) const NODE_PREFIX: &str = "system:node:";
pub(super) const AGENT_PREFIX: &str = "kinglet:agent:";

/// Whoever was first gets so much time to make its Node.
const REGISTERS_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// A request for a node's certificate, by somebody who is no node.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    pub(super) node: &'a str,
    /// Of the key that it is signed with.
    pub(super) key: &'a str,
    pub(super) made: Made<'a>,
}

/// When a request was made: no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Made<'a> {
    at: Timestamp,
    name: &'a str,
}

impl<'a> Made<'a> {
    pub(super) fn of(request: &'a CertificateSigningRequest) -> Self {
        let at = request.metadata.creation_timestamp.as_ref();
        Self {
            at: at.map_or(Timestamp::MIN, |at| at.0),
            name: request.metadata.name.as_deref().unwrap_or_default(),
        }
    }
}

/// Why somebody may not have a name; `None` where they may. `earlier` are the claims of others that
/// were not refused.
pub(super) fn refusal(
    claim: &Claim<'_>,
    node: Option<&Node>,
    earlier: &[Claim<'_>],
) -> Option<String> {
    let name = claim.node;
    if let Some(node) = node {
        let annotations = node.metadata.annotations.as_ref();
        return match annotations.and_then(|all| all.get(NODE_KEY)) {
            Some(key) if key == claim.key => None,
            None if !has_reported(node) => None,
            _ => Some(format!(
                "the name {name} is that of another machine, whose key is not this one's; give this \
                 machine another --node-name, or delete the Node {name} where the other is no more"
            )),
        };
    }
    let is_before = |other: &&Claim<'_>| {
        let since = claim.made.at.duration_since(other.made.at);
        other.node == name
            && other.key != claim.key
            && other.made < claim.made
            && since <= REGISTERS_WITHIN
    };
    earlier.iter().any(|other| is_before(&other)).then(|| {
        format!("another machine is about to join under the name {name}: names are for one machine")
    })
}

/// Whether a kubelet has ever said anything about the node. Somebody may have made its object first.
fn has_reported(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_some_and(|info| !info.kubelet_version.is_empty())
}

/// Whether a node may show that it is whom these names and addresses stand for.
pub(super) fn serves(wanted: &CertificateRequest, name: &str, node: Option<&Node>) -> bool {
    let status = node.and_then(|node| node.status.as_ref());
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let own: Vec<IpAddr> = addresses.filter_map(|it| it.address.parse().ok()).collect();
    wanted.dns_names.iter().all(|dns| dns == name)
        && wanted.ip_addresses.iter().all(|address| own.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(key: &'static str, second: i64) -> Claim<'static> {
        let at = Timestamp::from_second(1_800_000_000 + second).unwrap();
        Claim { node: "two", key, made: Made { at, name: key } }
    }

    #[track_caller]
    fn check(node: Option<Value>, earlier: &[Claim<'_>], expected: &str) {
        let node: Option<Node> = node.map(|node| serde_json::from_value(node).unwrap());
        let refusal = refusal(&claim("mine", 10), node.as_ref(), earlier);
        assert!(refusal.as_deref().unwrap_or("free").starts_with(expected), "{refusal:?}");
    }

    #[test]
    fn a_name_is_for_the_machine_that_has_its_key() {
        let node = |key: Option<&str>, version: &str| {
            let annotations = key.map(|key| json!({NODE_KEY: key}));
            Some(json!({
                "metadata": {"name": "two", "annotations": annotations},
                "status": {"nodeInfo": {
                    "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                    "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": version,
                    "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": "",
                }},
            }))
        };
        check(None, &[], "free");
        check(node(Some("mine"), "v1.35.0"), &[], "free");
        check(node(Some("theirs"), "v1.35.0"), &[], "the name two is that of another machine");
        check(node(None, "v1.35.0"), &[], "the name two is that of another machine");
        check(node(None, ""), &[], "free");
        // The Node says more than what was asked before.
        check(node(Some("mine"), "v1.35.0"), &[claim("theirs", 9)], "free");
    }

    #[test]
    fn of_two_that_join_at_once_the_first_has_the_name() {
        check(None, &[claim("theirs", 9)], "another machine is about to join");
        check(None, &[claim("mine", 9)], "free");
        check(None, &[claim("theirs", 11)], "free");
        check(None, &[claim("theirs", 10)], "free");
        check(None, &[claim("a", 10)], "another machine is about to join");
        check(None, &[claim("theirs", -6)], "free");
        check(None, &[Claim { node: "three", ..claim("theirs", 9) }], "free");
    }

    #[test]
    fn nodes_serve_under_their_own_names() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "two"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.2"}]},
        }))
        .unwrap();
        let check = |dns: &[&str], address: Option<&str>, expected: bool| {
            let wanted = CertificateRequest {
                dns_names: dns.iter().map(|name| (*name).to_owned()).collect(),
                ip_addresses: address.map(|it| it.parse().unwrap()).into_iter().collect(),
                ..CertificateRequest::default()
            };
            assert_eq!(serves(&wanted, "two", Some(&node)), expected, "{dns:?} {address:?}");
        };
        check(&["two"], Some("192.0.2.2"), true);
        check(&["two"], Some("192.0.2.3"), false);
        check(&["kubernetes"], Some("192.0.2.2"), false);
        check(&[], Some("192.0.2.2"), true);
    }
}
