//! Carries out the provisioner's writes, each after what it needs on disk.

use super::directories::Directories;
use super::volume::{Before, before};
use crate::control::{ClientExecutor, Execute, Report, Write, WriteError, Written};
use crate::stdx::blocking;
use k8s_openapi::api::core::v1::ObjectReference;

#[derive(Clone, Debug)]
pub(super) struct DirectoryExecutor {
    pub(super) directories: Directories,
    pub(super) inner: ClientExecutor,
}

impl Execute for DirectoryExecutor {
    async fn execute(&self, write: &Write) -> Result<Written, WriteError> {
        let directories = self.directories.clone();
        let done = match before(write, directories.root()) {
            Before::Nothing => Ok(()),
            Before::Make(name) => blocking(move || directories.make(&name)).await,
            Before::Remove(name) => blocking(move || directories.remove(&name)).await,
        };
        done.map_err(WriteError::OnNode)?;
        self.inner.execute(write).await
    }

    fn report(&self, regarding: &ObjectReference, report: &Report, message: String) {
        self.inner.report(regarding, report, message);
    }
}
