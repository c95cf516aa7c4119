//! Why the runtime could not do as asked.

use std::sync::Arc;

/// A cause, shared so that two waiters for one pull can both have it.
pub(super) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why a sandbox or container could not be made, changed or looked at.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("no {what} with id {id}")]
    NotFound { what: &'static str, id: String },
    /// The configuration cannot work on this node: the user has to change something.
    #[error("{0}")]
    Invalid(String),
    /// The shim or the OCI runtime said no. `message` is theirs.
    #[error("{operation} failed: {message}")]
    Refused { operation: &'static str, message: String },
    #[error("{operation} did not finish in {seconds} s")]
    Timeout { operation: &'static str, seconds: u64 },
    #[error("{operation} failed")]
    Failed {
        operation: &'static str,
        #[source]
        source: Cause,
    },
}

/// Why an image could not be made ready on this node.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    #[error("`{reference}` is not an image reference: {why}")]
    BadReference { reference: String, why: String },
    #[error("{reference} was not found in its registry")]
    NotFound { reference: String },
    #[error("registry {registry} refused the credentials for {repository}")]
    Refused { registry: String, repository: String },
    /// Nobody was named, and nobody in particular is not enough. Registries say this also of what
    /// they do not have.
    #[error(
        "registry {registry} gives {repository} to nobody without credentials, or does not have it"
    )]
    Denied { registry: String, repository: String },
    #[error("{reference} has no image for {platform}")]
    NoPlatform { reference: String, platform: String },
    #[error("registry {registry} cannot be reached")]
    Unreachable {
        registry: String,
        #[source]
        source: Cause,
    },
    #[error("registry {registry} answered {code} for {what}")]
    Answered { registry: String, code: u16, what: String },
    #[error("{what} has digest {actual} and not {expected}")]
    WrongDigest { what: String, expected: String, actual: String },
    #[error("{what} cannot be understood: {why}")]
    Malformed { what: String, why: String },
    #[error("{what} could not be stored")]
    Store {
        what: String,
        #[source]
        source: Cause,
    },
}

impl PullError {
    /// Whether trying again later can help without anyone changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::WrongDigest { .. } | Self::Store { .. } => true,
            Self::Answered { code, .. } => *code == 429 || *code >= 500,
            Self::BadReference { .. }
            | Self::NotFound { .. }
            | Self::Refused { .. }
            | Self::Denied { .. }
            | Self::NoPlatform { .. }
            | Self::Malformed { .. } => false,
        }
    }
}
