//! Work that waits for the disk or the kernel, done where nothing else waits for it.

/// Runs `work` on a thread for such work and returns what it returns.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process is ending, and nobody will look at the result.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
