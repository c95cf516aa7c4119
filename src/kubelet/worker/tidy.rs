//! Removes what a plan says that nobody will ask for again.

use super::pod::PodWorker;
use crate::kubelet::pod::PodFacts;
use crate::kubelet::pod::plan::PodPlan;
use crate::stdx::chain;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use tracing::warn;

impl PodWorker {
    pub(super) async fn tidy(&mut self, facts: &PodFacts, plan: &PodPlan) {
        for id in &plan.remove {
            if let Err(error) = self.shared.runtime.remove_container(id).await {
                // The next look says so again.
                warn!(pod = %self.pod, container = %id, error = chain(&error), "cannot remove a container");
                continue;
            }
            let found = facts.containers().iter().find(|container| container.status.id == *id);
            if let Some(log) = found.map(|container| container.status.log_path.clone()) {
                let removed = tokio::task::spawn_blocking(move || remove_log(&log)).await;
                if let Ok(Err(error)) = removed {
                    warn!(pod = %self.pod, container = %id, error = chain(&error), "cannot remove a log");
                }
            }
        }
        for id in &plan.remove_sandboxes {
            if let Err(error) = self.shared.runtime.remove_sandbox(id).await {
                warn!(pod = %self.pod, sandbox = %id, error = chain(&error), "cannot remove a sandbox");
            }
        }
    }
}

/// A log and what was rotated away from it.
fn remove_log(log: &Path) -> io::Result<()> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let found = entry.file_name();
        let rest = found.to_string_lossy().strip_prefix(&*name).map(str::to_owned);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
