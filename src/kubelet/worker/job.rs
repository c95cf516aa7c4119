//! What a worker has done beside its looks, because it takes its time.

use crate::client::ClientError;
use crate::kubelet::images::plan::Unavailable;
use crate::kubelet::prober::Probing;
use crate::kubelet::tokens::{Token, TokenAsk};
use crate::runtime::{ContainerId, ImageStatus, RuntimeError};
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::PersistentVolume;
use std::sync::Arc;

/// Something under way.
pub(super) type Job = BoxFuture<'static, Done>;

/// What it came to.
#[derive(Debug)]
pub(super) enum Done {
    /// An image was fetched for a container, or not.
    Fetched {
        container: String,
        reference: String,
        failures: u32,
        result: Result<ImageStatus, Unavailable>,
    },
    Stopped {
        container: ContainerId,
        result: Result<(), RuntimeError>,
    },
    /// What a probe says has changed.
    Probed(Box<Probing>),
    /// The hook after a container's start has done its work, or failed.
    Hooked {
        container: ContainerId,
        name: String,
        failure: Option<String>,
    },
    /// A status was written, or not. `hash` says which.
    Reported {
        hash: u64,
        result: Result<(), ClientError>,
    },
    /// A token was given, or not.
    Token {
        ask: TokenAsk,
        result: Result<Token, ClientError>,
    },
    /// The PersistentVolume behind a volume was found, or why it was not.
    Claim {
        volume: String,
        result: Result<Arc<PersistentVolume>, String>,
    },
    /// The pod's object was deleted, or not.
    Deleted(Result<(), ClientError>),
}
