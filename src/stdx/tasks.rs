//! Tasks with an owner: named, told to stop together, awaited with a deadline.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A set of tasks that live and die with their owner.
///
/// Every task watches [`Tasks::shutdown`] and ends soon after it is cancelled. Dropping the set
/// cancels the token and aborts what is left.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    running: Arc<Mutex<BTreeSet<&'static str>>>,
    shutdown: CancellationToken,
}

/// Why a set of tasks did not end as it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TasksError {
    #[error("task {0} ended although nobody asked it to")]
    EndedEarly(&'static str),
    #[error("a task panicked: {0}")]
    Panicked(String),
    #[error("tasks still running at the deadline: {0}")]
    StillRunning(String),
}

impl Tasks {
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { set: JoinSet::new(), running: Arc::default(), shutdown }
    }

    /// Cancelled when these tasks are to end.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Starts a task. `name` is what logs and errors call it.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_boxed(name, Box::pin(task));
    }

    /// What a runtime keeps of a task is code for each type of future: here, for one.
    fn spawn_boxed(
        &mut self,
        name: &'static str,
        task: Pin<Box<dyn Future<Output = ()> + Send + 'static>>,
    ) {
        let running = Arc::clone(&self.running);
        running.lock().expect("no panics under this lock").insert(name);
        self.set.spawn(async move {
            task.await;
            running.lock().expect("no panics under this lock").remove(name);
            name
        });
    }

    /// Waits until a task ends although nobody asked it to. Never returns in good times.
    pub async fn first_failure(&mut self) -> TasksError {
        loop {
            match self.set.join_next().await {
                Some(Ok(_)) if self.shutdown.is_cancelled() => {}
                Some(Ok(name)) => return TasksError::EndedEarly(name),
                Some(Err(error)) => return TasksError::Panicked(error.to_string()),
                None => std::future::pending().await,
            }
        }
    }

    /// Tells every task to stop and waits for them, `deadline` at most.
    ///
    /// # Errors
    /// When a task panicked or did not stop in time; those left are aborted.
    pub async fn stop(mut self, deadline: Duration) -> Result<(), TasksError> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(deadline, async {
            while let Some(result) = self.set.join_next().await {
                if let Err(error) = result {
                    return Err(TasksError::Panicked(error.to_string()));
                }
            }
            Ok(())
        });
        match ended.await {
            Ok(result) => result,
            Err(_elapsed) => {
                let running = self.running.lock().expect("no panics under this lock");
                let names: Vec<_> = running.iter().copied().collect();
                Err(TasksError::StillRunning(names.join(", ")))
            }
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_early_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("steady", std::future::pending());
        tasks.spawn("brief", async {});
        assert_eq!(tasks.first_failure().await, TasksError::EndedEarly("brief"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_stop_is_named() {
        let mut tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks.spawn("polite", async move { shutdown.cancelled().await });
        tasks.spawn("deaf", std::future::pending());
        let error = tasks.stop(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error, TasksError::StillRunning("deaf".to_owned()));
    }
}
