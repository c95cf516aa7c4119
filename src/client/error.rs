//! Why a request had no good answer.

use crate::api::node::NAME_TAKEN;
use crate::api::{Reason, Status};
use std::io;

/// Why a request had no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no.
    #[error("{0}")]
    Status(Box<Status>),
    /// No answer could be had, or it broke off. Whether the request took effect is not known.
    #[error("the API server could not be reached")]
    Transport(#[source] io::Error),
    #[error("the API server's answer could not be read")]
    Malformed(#[source] serde_json::Error),
}

impl ClientError {
    fn reason(&self) -> Option<Reason> {
        match self {
            Self::Status(status) => Some(status.reason),
            Self::Transport(_) | Self::Malformed(_) => None,
        }
    }

    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(Reason::NotFound)
    }

    /// Somebody else changed the object first, or a precondition does not hold.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(Reason::Conflict)
    }

    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Some(Reason::AlreadyExists)
    }

    /// The revision asked for is not kept any more.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), Some(Reason::Expired | Reason::Gone))
    }

    /// The object's namespace is being deleted, so that nothing can be created in it: upstream's
    /// `HasStatusCause(err, NamespaceTerminatingCause)`.
    #[must_use]
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }

    /// Whoever asks is a machine whose name another has joined under since.
    #[must_use]
    pub fn is_node_name_taken(&self) -> bool {
        self.has_cause(NAME_TAKEN)
    }

    fn has_cause(&self, reason: &str) -> bool {
        match self {
            Self::Status(status) => {
                status.details.causes.iter().any(|cause| cause.reason == reason)
            }
            Self::Transport(_) | Self::Malformed(_) => false,
        }
    }

    /// The same request may well succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        let Some(reason) = self.reason() else {
            return matches!(self, Self::Transport(_));
        };
        match reason {
            Reason::ServerTimeout
            | Reason::Timeout
            | Reason::TooManyRequests
            | Reason::InternalError
            | Reason::ServiceUnavailable
            | Reason::Unknown => true,
            Reason::Unauthorized
            | Reason::Forbidden
            | Reason::NotFound
            | Reason::AlreadyExists
            | Reason::Conflict
            | Reason::Gone
            | Reason::Invalid
            | Reason::BadRequest
            | Reason::MethodNotAllowed
            | Reason::NotAcceptable
            | Reason::RequestEntityTooLarge
            | Reason::UnsupportedMediaType
            | Reason::Expired => false,
        }
    }
}
