//! Carries out writes: the only effect that controllers have.

use super::write::{Report, Verb, Write};
use crate::api::Revision;
use crate::client::{Client, ClientError, Content, EventRecorder, revision_of_answer};
use bytes::Bytes;
use http::Method;
use k8s_openapi::api::core::v1::ObjectReference;
use serde::Deserialize;
use std::future::Future;
use std::io;

/// The objects of a collection are deleted this many at once: the answer of the server has them all.
const DELETE_PAGE_OBJECTS: usize = 500;

/// What came of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `None` where the server does not say.
    pub revision: Option<Revision>,
    /// The name of the object, which for a create may be the server's choice.
    pub name: String,
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is not as it was when the plan was made: changed, gone, or there already. The
    /// next look will see it.
    #[error("the object has changed")]
    Conflict,
    /// The object's namespace is being deleted: there is nothing to be done, now or later.
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    #[error(transparent)]
    Failed(ClientError),
    /// What had to be done on the node first was not.
    #[error("the node could not do its part")]
    OnNode(#[source] io::Error),
}

impl From<ClientError> for WriteError {
    fn from(error: ClientError) -> Self {
        if error.is_namespace_terminating() {
            Self::NamespaceTerminating
        } else if error.is_conflict() || error.is_already_exists() || error.is_not_found() {
            Self::Conflict
        } else {
            Self::Failed(error)
        }
    }
}

/// Executes writes. Implemented over the client; by recorders and small worlds in tests.
pub trait Execute: Send + Sync {
    fn execute(&self, write: &Write) -> impl Future<Output = Result<Written, WriteError>> + Send;

    /// Tells users about `regarding`. `message` is the report's with its detail.
    fn report(&self, regarding: &ObjectReference, report: &Report, message: String);
}

/// Executes writes as one component.
#[derive(Clone, Debug)]
pub struct ClientExecutor {
    pub client: Client,
    pub events: EventRecorder,
}

impl Execute for ClientExecutor {
    async fn execute(&self, write: &Write) -> Result<Written, WriteError> {
        let (method, path, content) = write.request();
        let answer = match write {
            Write::DeleteCollection { .. } => self.delete_pages(&path, content).await?,
            _ => self.client.request(method, &path, Some(content)).await?,
        };
        let name = match write.key() {
            Some(key) => key.name.clone(),
            None => metadata_of_answer(&answer).name,
        };
        let mut revision = revision_of_answer(&answer);
        if revision.is_none() && write.verb() == Verb::Delete {
            // Upstream's API server does not say at which revision an object went away. A list,
            // however short, is of a revision no older than that.
            let path = write.resource().collection_path(None) + "?limit=1";
            let list = self.client.request(Method::GET, &path, None).await?;
            revision = revision_of_answer(&list);
        }
        Ok(Written { revision, name })
    }

    fn report(&self, regarding: &ObjectReference, report: &Report, message: String) {
        self.events.record(regarding.clone(), report.kind, report.reason, message);
    }
}

impl ClientExecutor {
    /// Deletes a collection page by page. The answers are the pages as they were before, of which
    /// nothing is handed on.
    async fn delete_pages(&self, path: &str, content: Content) -> Result<Bytes, ClientError> {
        let first = format!("{path}?limit={DELETE_PAGE_OBJECTS}");
        let mut next = first.clone();
        loop {
            let answer = self.client.request(Method::DELETE, &next, Some(content.clone())).await?;
            match metadata_of_answer(&answer).continue_token {
                Some(token) => next = format!("{first}&continue={token}"),
                None => return Ok(Bytes::new()),
            }
        }
    }
}

/// What is read of the metadata of an object or a list.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    /// Tokens are base64 for URLs.
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
}

fn metadata_of_answer(answer: &[u8]) -> Metadata {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        metadata: Metadata,
    }
    serde_json::from_slice::<Answer>(answer).map(|answer| answer.metadata).unwrap_or_default()
}
