//! Changes of the files in `server/tls`, whoever makes them.

use crate::stdx::chain;
use crate::sys::directory_watch::DirectoryWatch;
use std::ffi::OsStr;
use std::path::Path;
use tracing::warn;

/// See the module.
#[derive(Debug)]
pub(super) struct TlsDirectory(Option<DirectoryWatch>);

impl TlsDirectory {
    /// Where the kernel has no watch left, changes count after the next start.
    pub(super) fn watch(directory: &Path) -> Self {
        let watch = DirectoryWatch::open(directory);
        Self(watch.inspect_err(|error| warn_of(directory, error)).ok())
    }

    /// Waits until a file changes whose name `matters`.
    pub(super) async fn changed(&mut self, matters: impl Fn(&OsStr) -> bool) {
        while let Some(watch) = &self.0 {
            match watch.changed().await {
                Ok(changes) if changes.iter().any(|change| matters(&change.name)) => return,
                Ok(_others) => {}
                Err(error) => {
                    warn_of(Path::new("server/tls"), &error);
                    self.0 = None;
                }
            }
        }
        std::future::pending().await
    }
}

fn warn_of(directory: &Path, error: &std::io::Error) {
    let directory = directory.display();
    warn!(%directory, error = chain(error), "changes of certificates and keys are not noticed");
}
