//! Who may do what.
//!
//! Start at [`authorize`], then [`Authorizer::decide`]. The order is upstream's: the group
//! `system:masters` may do everything, anybody may ask for health, then RBAC. Architecture
//! invariant: decisions are made from what the server knows, without reading the store; before it
//! says no, it waits until it knows what the store does.

mod words;

pub(super) use self::words::forbidden;
use super::follow::Follower;
use super::identity::{Identity, MASTERS, NODES};
use super::rbac::{Action, Asker, LivePolicy, Policy, Verdict};
use super::request::RequestInfo;
use super::server::Server;
use crate::api::Revision;
use crate::api::status::Status;
use std::sync::RwLockReadGuard;

/// Paths that anybody may ask for, whatever roles there are (upstream
/// `--authorization-always-allow-paths`).
const HEALTH_PATHS: &[&str] = &["/healthz", "/livez", "/readyz"];

/// Paths that anybody may read, with everything below them, as far as roles say so.
const PUBLIC_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

/// Somebody wants to do something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) user: &'a str,
    pub(super) groups: &'a [String],
    pub(super) action: Action<'a>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    /// With what is known about the reason; it may be empty.
    Deny(String),
}

/// Knows all roles and bindings.
#[derive(Debug)]
pub(super) struct Authorizer {
    policy: LivePolicy,
}

/// Lets the request through or says why not.
///
/// # Errors
/// Forbidden, in upstream's words.
pub(super) async fn authorize(
    server: &Server,
    identity: &Identity,
    request: &RequestInfo,
) -> Result<(), Status> {
    let ask = Ask::of_request(identity, request);
    match server.authorizer.judge(&ask, || server.store.revision()).await {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) => Err(forbidden(&ask, &reason)),
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
        Self { user: identity.user(), groups: identity.groups(), action }
    }

    fn of_request(identity: &'a Identity, request: &'a RequestInfo) -> Self {
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
        Self::of(identity, action)
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
        (Self { policy }, vec![follower])
    }

    /// Decides from what is known now.
    pub(super) fn decide(&self, ask: &Ask<'_>) -> Decision {
        if ask.is_in(MASTERS) || is_health(&ask.action) {
            return Decision::Allow;
        }
        // Until the Node authorizer looks closer.
        if ask.user.starts_with("system:node:") && ask.is_in(NODES) {
            return Decision::Allow;
        }
        match self.policy.read().decide(ask.asker(), &ask.action) {
            Verdict::Allowed(_) => Decision::Allow,
            Verdict::Unknown { missing } => Decision::Deny(match missing.as_slice() {
                [] => String::new(),
                [one] => format!("RBAC: {one}"),
                many => format!("RBAC: [{}]", many.join(", ")),
            }),
        }
    }

    /// As [`Authorizer::decide`], but whoever would be refused is judged by what the store knows:
    /// what somebody was given a moment ago counts. `newest` is the revision of the store.
    pub(super) async fn judge(&self, ask: &Ask<'_>, newest: impl FnOnce() -> Revision) -> Decision {
        match self.decide(ask) {
            Decision::Allow => Decision::Allow,
            Decision::Deny(_) => {
                // Where that takes too long, what is known decides.
                self.policy.seen().wait(newest()).await;
                self.decide(ask)
            }
        }
    }

    /// All roles and bindings.
    pub(super) fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read()
    }

    /// Waits until it knows what the store knew at the beginning.
    pub(super) async fn begun(&self) -> bool {
        self.policy.seen().begun().await
    }
}

fn is_health(action: &Action<'_>) -> bool {
    matches!(action, Action::Path { path, .. } if HEALTH_PATHS.contains(path))
}
