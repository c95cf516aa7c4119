//! Whose names of nodes are: a certificate of a machine is good for as long as no other machine has
//! joined under its name.
//!
//! Start at [`NodeNames::check`]; what is open already ends by [`NodeNames::lost`]. A Node says which key its machine has ([`NODE_KEY`]). While there is
//! none of the name, or it says nothing, everybody is believed whose certificate is good: as upstream.

use super::follow::Follower;
use super::node_facts::NodeFacts;
use crate::api::node::{AGENT_PREFIX, NAME_TAKEN, NODE_KEY, name_taken};
use crate::api::status::{Cause, Reason, Status};
use crate::pki::CertificateUser;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whom certificates of machines are for: the kubelet, and the rest of a node.
const PREFIXES: &[&str] = &["system:node:", AGENT_PREFIX];

/// A machine, as its certificate tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    node: String,
    key: String,
}

impl Machine {
    /// `None` for all who are no nodes.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let user = CertificateUser::of(certificate).ok()?;
        let node = PREFIXES.iter().find_map(|prefix| user.user.strip_prefix(prefix))?;
        Some(Self { node: node.to_owned(), key: user.key })
    }
}

/// By name, the keys of those nodes that have one.
#[derive(Debug)]
pub(super) struct NodeNames(Arc<NodeFacts<String>>);

impl NodeNames {
    /// With what keeps it knowing.
    pub(super) fn new() -> (Self, Follower) {
        let (facts, follower) = NodeFacts::followed(key_of);
        (Self(facts), follower)
    }

    /// Whether a machine has its name yet.
    ///
    /// # Errors
    /// Unauthorized, where another machine has it.
    pub(super) fn check(&self, machine: &Machine) -> Result<(), Status> {
        if self.0.with(&machine.node, |key| key.is_none_or(|key| *key == machine.key)) {
            return Ok(());
        }
        let mut status = Status::new(Reason::Unauthorized, name_taken(&machine.node));
        let cause = Cause { reason: NAME_TAKEN.to_owned(), ..Cause::default() };
        status.details.causes.push(cause);
        Err(status)
    }

    /// Waits until another machine takes the name that this one has. One that has lost it before is
    /// told so with whatever it asks.
    pub(super) async fn lost(&self, machine: &Machine) {
        let mut changes = self.0.changes();
        let mut had_name = self.check(machine).is_ok();
        while changes.changed().await.is_ok() {
            let has_name = self.check(machine).is_ok();
            if had_name && !has_name {
                return;
            }
            had_name = has_name;
        }
        std::future::pending().await
    }
}

fn key_of(node: &[u8]) -> Result<Option<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Node {
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    Ok(serde_json::from_slice::<Node>(node)?.metadata.annotations.remove(NODE_KEY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Key;
    use serde_json::{Value, json};

    #[test]
    fn a_machine_has_its_name_until_another_joins_under_it() {
        let names = NodeNames(Arc::new(NodeFacts::new(key_of)));
        let key = || Key::from("/core/nodes/two");
        let node = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let check = |expected: bool| {
            let machine = Machine { node: "two".to_owned(), key: "mine".to_owned() };
            let verdict = names.check(&machine);
            assert_eq!(verdict.is_ok(), expected, "{verdict:?}");
            if let Err(status) = verdict {
                assert_eq!(status.details.causes[0].reason, NAME_TAKEN);
            }
        };
        let take = |value: Option<Value>| {
            let bytes = value.map(|value| value.to_string().into_bytes());
            names.0.take(&key(), bytes.as_deref());
        };
        check(true);
        take(Some(node(json!({NODE_KEY: "mine"}))));
        check(true);
        take(None);
        check(true);
        take(Some(node(json!({}))));
        check(true);
        take(Some(node(json!({NODE_KEY: "theirs"}))));
        check(false);
        take(None);
        check(true);
    }

    #[tokio::test]
    async fn who_loses_its_name_hears_of_it() {
        let names = NodeNames(Arc::new(NodeFacts::new(key_of)));
        let take = |key: Option<&str>| {
            let node = key.map(|key| json!({"metadata": {"annotations": {NODE_KEY: key}}}));
            let bytes = node.map(|node| node.to_string().into_bytes());
            names.0.take(&Key::from("/core/nodes/two"), bytes.as_deref());
        };
        let machine = Machine { node: "two".to_owned(), key: "mine".to_owned() };
        let mut lost = std::pin::pin!(names.lost(&machine));
        for (key, is_lost) in [(Some("mine"), false), (None, false), (Some("theirs"), true)] {
            let none_yet = futures_util::poll!(lost.as_mut());
            assert!(none_yet.is_pending());
            take(key);
            if is_lost {
                lost.as_mut().await;
            }
        }
        // It is told what it has asked; the name is lost anew when it has been its own.
        let mut lost = std::pin::pin!(names.lost(&machine));
        for key in [Some("another's"), None, Some("theirs")] {
            assert!(futures_util::poll!(lost.as_mut()).is_pending());
            take(key);
        }
        lost.await;
    }

    #[test]
    fn machines_are_known_by_their_certificates() {
        let check = |user: &str, expected: Option<&str>| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, user);
            let made = parameters.self_signed(&key).unwrap();
            let machine = Machine::of(made.der());
            assert_eq!(machine.map(|machine| machine.node).as_deref(), expected, "{user}");
        };
        check("system:node:two", Some("two"));
        check("kinglet:agent:two", Some("two"));
        check("system:admin", None);
    }
}
