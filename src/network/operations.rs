//! Operations that go on to their end, also where nobody waits for them any more.

use super::{NetworkError, failed};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Operations(TaskTracker);

impl Operations {
    /// Begins; whoever drops what is returned does not learn the result.
    pub(super) fn to_its_end<T: Send + 'static>(
        &self,
        operation: impl Future<Output = Result<T, NetworkError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, NetworkError>> {
        let running = self.0.spawn(operation);
        async move { running.await.map_err(failed("an operation of the pod network"))? }.boxed()
    }
}
