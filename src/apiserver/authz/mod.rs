//! Who may do what.
//!
//! Start at [`authorize`], then [`Authorizer::decide`]. The order is upstream's: the group
//! `system:masters` may do everything, anybody may ask for health, then the Node
//! authorizer ([`node`]) and RBAC; what the proxies of nodes may read is decided in [`ingress`].
//! Architecture
//! invariant: decisions are made from what the server knows, without reading the store; before it
//! says no, it waits until it knows what the store does.

mod ingress;
mod node;
mod words;

use self::ingress::IngressAuthorizer;
use self::node::NodeAuthorizer;
pub(super) use self::node::References;
use self::words::forbidden;
use super::follow::Follower;
use super::identity::{Identity, MASTERS, NODES};
use super::query::Query;
use super::rbac::{Action, Asker, Grant, LivePolicy, Policy, Verdict};
use super::request::{RequestInfo, Verb};
use super::server::{Asked, Server};
use crate::api::Revision;
use crate::api::fields::FieldSelector;
use crate::api::status::Status;
use std::sync::RwLockReadGuard;

/// Paths that anybody may ask for, whatever roles there are (upstream
/// `--authorization-always-allow-paths`).
const HEALTH_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

/// Paths that anybody may read, with everything below them, as far as roles say so.
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/cacerts"];

/// Somebody wants to do something.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub(super) user: &'a str,
    pub(super) groups: &'a [String],
    pub(super) action: Action<'a>,
    /// The node whose objects alone are asked for: `spec.nodeName` in the field selector.
    pub(super) selected_node: Option<String>,
}

/// What becomes of it.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// By this grant, where it was one.
    Allow(Option<Grant>),
    /// With what is known about the reason; it may be empty.
    Deny(String),
}

/// Knows all roles and bindings, and what belongs to which node.
#[derive(Debug)]
pub(super) struct Authorizer {
    policy: LivePolicy,
    nodes: NodeAuthorizer,
    ingress: IngressAuthorizer,
}

/// Lets the request through or says why not.
///
/// # Errors
/// Forbidden, in upstream's words.
pub(super) async fn authorize(
    server: &Server,
    identity: &Identity,
    asked: &Asked,
) -> Result<(), Status> {
    require(server, &Ask::of_request(identity, &asked.info, &asked.query)).await
}

/// As [`authorize`], for what a request comes to besides what its path says.
///
/// # Errors
/// Forbidden, in upstream's words.
pub(super) async fn require(server: &Server, ask: &Ask<'_>) -> Result<(), Status> {
    match server.authorizer.judge(ask, || server.store.revision()).await {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) => Err(forbidden(ask, &reason)),
    }
}

/// Whether the request is for what anybody may know.
pub(super) fn is_public(request: &RequestInfo) -> bool {
    let below = |public: &str| {
        request
            .path
            .strip_prefix(public)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches!(request.method.as_str(), "get" | "head") && PUBLIC_PATHS.iter().any(|path| below(path))
}

impl<'a> Ask<'a> {
    pub(super) fn of(identity: &'a Identity, action: Action<'a>) -> Self {
        Self { user: identity.user(), groups: identity.groups(), action, selected_node: None }
    }

    fn of_request(identity: &'a Identity, request: &'a RequestInfo, query: &Query) -> Self {
        let action = match &request.resource {
            None => Action::Path { verb: &request.method, path: &request.path },
            Some(path) => Action::Resource {
                verb: request.verb.as_str(),
                group: &path.group,
                resource: &path.resource,
                subresource: path.subresource.as_deref().unwrap_or_default(),
                name: path.name.as_deref().unwrap_or_default(),
                namespace: path.namespace.as_deref(),
            },
        };
        let mut ask = Self::of(identity, action);
        if matches!(request.verb, Verb::List | Verb::Watch) && node_of(ask.asker()).is_some() {
            let selector = query.text("fieldSelector").unwrap_or_default();
            let selector = selector.parse::<FieldSelector>().unwrap_or_default();
            ask.selected_node = selector.required("spec.nodeName").map(str::to_owned);
        }
        ask
    }

    pub(super) fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    pub(super) fn asker(&self) -> Asker<'a> {
        Asker { user: self.user, groups: self.groups }
    }
}

impl Authorizer {
    /// With what keeps it knowing.
    pub(super) fn new() -> (Self, Vec<Follower>) {
        let (policy, follower) = LivePolicy::new();
        let (nodes, mut followers) = NodeAuthorizer::new();
        let (ingress, further) = IngressAuthorizer::new();
        followers.push(follower);
        followers.extend(further);
        (Self { policy, nodes, ingress }, followers)
    }

    /// Decides from what is known now.
    pub(super) fn decide(&self, ask: &Ask<'_>) -> Decision {
        if ask.is_in(MASTERS) || is_health(&ask.action) {
            return Decision::Allow(None);
        }
        let mut reasons = Vec::new();
        if let Some(node) = node_of(ask.asker()) {
            match self.nodes.decide(node, ask) {
                Ok(()) => return Decision::Allow(None),
                Err(why) => reasons.push(why),
            }
        }
        if IngressAuthorizer::concerns(ask) && self.ingress.allows(ask) {
            return Decision::Allow(None);
        }
        match self.policy.read().decide(ask.asker(), &ask.action) {
            Verdict::Allowed(grant) => return Decision::Allow(Some(grant)),
            Verdict::Unknown { missing } => reasons.push(match missing.as_slice() {
                [] => String::new(),
                [one] => format!("RBAC: {one}"),
                many => format!("RBAC: [{}]", many.join(", ")),
            }),
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::Deny(reasons.join("\n"))
    }

    /// As [`Authorizer::decide`], but whoever would be refused is judged by what the store knows:
    /// what somebody was given a moment ago counts. `newest` is the revision of the store.
    pub(super) async fn judge(&self, ask: &Ask<'_>, newest: impl FnOnce() -> Revision) -> Decision {
        match self.decide(ask) {
            Decision::Allow(grant) => Decision::Allow(grant),
            Decision::Deny(_) => {
                let newest = newest();
                if node_of(ask.asker()).is_some() {
                    self.nodes.know(newest).await;
                }
                if IngressAuthorizer::concerns(ask) {
                    self.ingress.know(newest).await;
                }
                // Where that takes too long, what is known decides.
                self.know(newest).await;
                self.decide(ask)
            }
        }
    }

    /// All roles and bindings.
    pub(super) fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read()
    }

    /// Waits until it knows what the store knew at this revision, but not for long.
    pub(super) async fn know(&self, revision: Revision) {
        self.policy.seen().wait(revision).await;
    }
}

/// The node that somebody is the agent of (upstream `NodeIdentity`, pkg/auth/nodeidentifier, v1.35).
pub(super) fn node_of(asker: Asker<'_>) -> Option<&str> {
    let node = asker.user.strip_prefix("system:node:")?;
    asker.groups.iter().any(|group| group == NODES).then_some(node)
}

fn is_health(action: &Action<'_>) -> bool {
    matches!(action, Action::Path { path, .. } if HEALTH_PATHS.contains(path))
}
