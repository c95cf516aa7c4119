//! One call of a shim's task service, whichever version it has.

use super::ShimAddress;
use super::message;
use crate::runtime::RuntimeError;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim_async::Client;
use containerd_shim_protos::ttrpc::error::Error as TtrpcError;
use containerd_shim_protos::ttrpc::{Code, Request};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The version of a task service. They differ in nothing but the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum TaskApi {
    /// containerd 1.x.
    V2,
    /// containerd 2.x.
    V3,
}

impl TaskApi {
    fn service(self) -> &'static str {
        match self {
            Self::V2 => "containerd.task.v2.Task",
            Self::V3 => "containerd.task.v3.Task",
        }
    }
}

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Deadline {
    /// Asks the shim only.
    Short,
    /// Has the shim run an OCI runtime, which takes seconds on a slow and busy machine.
    Long,
    /// Waits for something to happen.
    None,
}

impl Deadline {
    fn duration(self) -> Option<Duration> {
        match self {
            Self::Short => Some(Duration::from_secs(10)),
            // The kubelet's `runtimeRequestTimeout`.
            Self::Long => Some(Duration::from_secs(120)),
            Self::None => None,
        }
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(in super::super) enum CallError {
    #[error("the shim does not know it")]
    NotFound,
    /// In the words of the shim or the OCI runtime, cleaned up.
    #[error("{0}")]
    Refused(String),
    #[error("no answer in {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("the connection to the shim is lost")]
    Lost(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl CallError {
    pub(in super::super) fn lost(error: io::Error) -> Self {
        Self::Lost(Arc::new(error))
    }

    /// The error of `operation`, for who asked for it.
    pub(in super::super) fn of(self, operation: &'static str) -> RuntimeError {
        match self {
            Self::NotFound => {
                RuntimeError::Refused { operation, message: "the shim does not know it".to_owned() }
            }
            Self::Refused(message) => RuntimeError::Refused { operation, message },
            Self::Timeout(duration) => {
                RuntimeError::Timeout { operation, seconds: duration.as_secs() }
            }
            Self::Lost(_) => RuntimeError::Failed { operation, source: Arc::new(self) },
        }
    }
}

/// A connection to a task service. Calls go side by side.
pub(super) struct Connection {
    client: Client,
    task_api: TaskApi,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Connection").field(&self.task_api).finish()
    }
}

impl Connection {
    pub(super) async fn open(address: &ShimAddress) -> Result<Self, CallError> {
        let duration = Duration::from_secs(5);
        let client = tokio::time::timeout(duration, Client::connect(&address.socket))
            .await
            .map_err(|_elapsed| CallError::Timeout(duration))?
            .map_err(|error| CallError::Lost(Arc::new(error)))?;
        Ok(Self { client, task_api: address.task_api })
    }

    /// Not the generated client, whose version is fixed.
    pub(super) async fn call<Answer: Message>(
        &self,
        method: &str,
        message: &impl Message,
        deadline: Deadline,
    ) -> Result<Answer, CallError> {
        let mut request = Request::new();
        request.service = self.task_api.service().to_owned();
        request.method = method.to_owned();
        request.payload =
            message.write_to_bytes().map_err(|error| CallError::Lost(Arc::new(error)))?;
        let nanoseconds = deadline.duration().map_or(0, |duration| duration.as_nanos());
        request.timeout_nano = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        let answering = self.client.request(request);
        let answered = match deadline.duration() {
            None => answering.await,
            Some(duration) => tokio::time::timeout(duration, answering)
                .await
                .map_err(|_elapsed| CallError::Timeout(duration))?,
        };
        let answer = answered.map_err(|error| classify(error, deadline))?;
        Answer::parse_from_bytes(&answer.payload).map_err(|error| CallError::Lost(Arc::new(error)))
    }
}

fn classify(error: TtrpcError, deadline: Deadline) -> CallError {
    let TtrpcError::RpcStatus(status) = &error else {
        return CallError::Lost(Arc::new(error));
    };
    match status.code.enum_value_or_default() {
        Code::NOT_FOUND => CallError::NotFound,
        Code::DEADLINE_EXCEEDED => CallError::Timeout(deadline.duration().unwrap_or_default()),
        Code::UNKNOWN if message::is_not_found(&status.message) => CallError::NotFound,
        _ => CallError::Refused(message::clean(&status.message)),
    }
}
