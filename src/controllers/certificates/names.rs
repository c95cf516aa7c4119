//! Who may have a node's name: pure.
//!
//! A machine that joins shows a token that any machine may have; what is its own is its key. The
//! first key under a name has it, for as long as there is a Node of that name: k3s guards names by a
//! password, which has to be kept on both sides and sent (pkg/nodepassword); a request for a
//! certificate is signed with the key anyhow. Whoever wants the name for another machine deletes the
//! Node.

use crate::api::Revision;
use crate::api::node::{key_of_node, name_taken};
use crate::pki::CertificateRequest;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use std::net::IpAddr;

/// Before a node's name, that of its kubelet.
pub(super) const NODE_PREFIX: &str = "system:node:";

/// Whoever was first gets so much time to make its Node; then the name is the next one's.
const REGISTERS_WITHIN: SignedDuration = SignedDuration::from_secs(15);

/// Whether somebody may have a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Free,
    Taken {
        why: String,
    },
    /// Another was first, and is about to make its Node: nobody knows before this.
    Contested {
        until: Timestamp,
    },
}

/// A request for a node's certificate, by somebody who is no node.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    pub(super) node: &'a str,
    /// Of the key that it is signed with.
    pub(super) key: &'a str,
    pub(super) made_at: Timestamp,
    /// Of two that wait for an answer, that of the earlier is lower.
    pub(super) revision: Revision,
    pub(super) is_granted: bool,
}

/// Judges a claim that waits for its answer, by the Node of that name as it is now. `others` are the
/// claims that were not refused; whichever was made before this one has to be among them.
pub(super) fn judge(
    claim: &Claim<'_>,
    node: Option<&Node>,
    others: &[Claim<'_>],
    now: Timestamp,
) -> Verdict {
    let name = claim.node;
    if let Some(node) = node {
        return match key_of_node(node) {
            Some(key) if key == claim.key => Verdict::Free,
            None if !has_reported(node) => Verdict::Free,
            _ => Verdict::Taken { why: name_taken(name) },
        };
    }
    let is_before = |other: &&Claim<'_>| {
        other.node == name
            && other.key != claim.key
            && (other.is_granted || other.revision < claim.revision)
    };
    let ends = others.iter().filter(is_before).map(|other| other.made_at + REGISTERS_WITHIN);
    match ends.max().filter(|until| now < *until) {
        Some(until) => Verdict::Contested { until },
        None => Verdict::Free,
    }
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
    use crate::api::node::NODE_KEY;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A claim that was made at this second.
    fn claim(key: &'static str, second: u64) -> Claim<'static> {
        let made_at = at(i64::try_from(second).unwrap());
        Claim { node: "two", key, made_at, revision: Revision(second), is_granted: false }
    }

    /// What becomes of the claim of second 10 at that second.
    #[track_caller]
    fn check(node: Option<Value>, others: &[Claim<'_>], expected: &str) {
        let node: Option<Node> = node.map(|node| serde_json::from_value(node).unwrap());
        let verdict = match judge(&claim("mine", 10), node.as_ref(), others, at(10)) {
            Verdict::Free => "free".to_owned(),
            Verdict::Taken { why } => why,
            Verdict::Contested { until } => format!("until {}", until.duration_since(at(0))),
        };
        assert!(verdict.starts_with(expected), "{verdict:?}");
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
        check(None, &[claim("theirs", 9)], "until PT24S");
        check(None, &[claim("mine", 9)], "free");
        check(None, &[claim("theirs", 11)], "free");
        // It came later, and has had its answer earlier.
        let granted = Claim { is_granted: true, ..claim("theirs", 11) };
        check(None, &[granted], "until PT26S");
        // It could have made its Node, and has not, or the Node was deleted.
        let long_ago = Claim { made_at: at(-5), is_granted: true, ..claim("theirs", 0) };
        check(None, &[long_ago], "free");
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
