//! Who waits for a container's end, such as a reader of its log, is told of it here.

use crate::runtime::{ContainerId, ContainerState, Runtime};
use std::sync::Arc;
use tokio::sync::watch;

/// Told when containers end.
#[derive(Debug)]
pub(super) struct Exits {
    /// Grows with each container that ends.
    count: watch::Sender<u64>,
    runtime: Arc<dyn Runtime>,
}

impl Exits {
    pub(super) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { count: watch::Sender::new(0), runtime }
    }

    /// Something may have ended.
    pub(super) fn ring(&self) {
        self.count.send_modify(|count| *count += 1);
    }

    /// Resolves when the container has ended.
    pub(super) fn of(&self, container: ContainerId) -> impl Future<Output = ()> + Send + 'static {
        let (mut count, runtime) = (self.count.subscribe(), Arc::clone(&self.runtime));
        async move {
            loop {
                let containers = runtime.containers().await.unwrap_or_default();
                let found = containers.iter().find(|it| it.id == container);
                let runs =
                    found.is_some_and(|it| matches!(it.state, ContainerState::Running { .. }));
                if !runs || count.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
