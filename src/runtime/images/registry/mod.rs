//! Registries: where an image may be, how to be let in, and how to get its parts.
//!
//! Start at [`Session`], one for each pull. Architecture invariant: credentials go to the host they
//! belong to, over the protocol that its endpoint names, and to nobody that a redirect leads to.

mod auth;
mod challenge;
mod download;
mod endpoint;
mod registries;
mod session;
mod transport;

pub use registries::Registries;
pub(super) use session::{Fetched, Found, Session};
pub use transport::Proxy;

use super::super::error::PullError;
use std::io;
use std::time::Duration;

/// A failure of one request, and what the registry says about when to try again.
#[derive(Debug)]
struct Failure {
    error: PullError,
    retry_after: Option<Duration>,
}

impl Failure {
    /// Whether the registry said nothing for as long as it had.
    fn is_silence(&self) -> bool {
        let PullError::Unreachable { source, .. } = &self.error else { return false };
        let first: &(dyn std::error::Error + 'static) = &**source;
        let is_timeout = |error: &io::Error| {
            // One that wraps another passes over it when it is asked for its source.
            let wrapped = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>());
            wrapped.unwrap_or(error).kind() == io::ErrorKind::TimedOut
        };
        std::iter::successors(Some(first), |error| error.source())
            .any(|error| error.downcast_ref().is_some_and(is_timeout))
    }
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        Self { error, retry_after: None }
    }
}
