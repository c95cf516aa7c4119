//! Other limits for a container that runs.

use super::super::spec;
use super::super::{ContainerId, LinuxResources, RuntimeError};
use super::records::{self, ContainerRecord};
use super::{Engine, failed};
use crate::stdx::blocking;

impl Engine {
    /// The record is written after the kernel has taken the limits: who is interrupted in between
    /// gives them again.
    pub(super) async fn update_container(
        &self,
        id: &ContainerId,
        resources: LinuxResources,
    ) -> Result<(), RuntimeError> {
        const OPERATION: &str = "limiting a container";
        let container = self.container(id)?;
        let shim = container.sandbox.shim().filter(|_| container.is_running());
        let Some(shim) = shim else {
            let message = "it is not running".to_owned();
            return Err(RuntimeError::Refused { operation: OPERATION, message });
        };
        let given = spec::render_update(&resources, &self.host);
        let given = serde_json::to_vec(&given).map_err(|error| failed(OPERATION, error))?;
        shim.update(&id.0, given).await.map_err(|error| error.of(OPERATION))?;
        let known = container.resources();
        let resources = LinuxResources {
            pids_limit: known.pids_limit,
            oom_score_adj: known.oom_score_adj,
            hugepage_limits: known.hugepage_limits,
            ..resources
        };
        let mut record: ContainerRecord = container.record.clone();
        record.config.resources = resources.clone();
        let path = container.files.record();
        let written = blocking(move || records::write(&path, &record)).await;
        written.map_err(|error| failed("recording a container", error))?;
        container.set_resources(resources);
        Ok(())
    }
}
