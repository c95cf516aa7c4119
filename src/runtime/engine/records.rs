//! What the runtime writes down of sandboxes and containers.
//!
//! Records are replaced as a whole and not synced: a power cut ends every container anyway, and a
//! record that it damages is a leftover.

use super::super::{ContainerConfig, ContainerUser, SandboxConfig};
use crate::stdx::replace_file;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

const RECORD_MODE: u32 = 0o600;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SandboxRecord {
    pub(super) config: SandboxConfig,
    pub(super) created_at: Timestamp,
    /// During which running time of the machine it was made: with another one it is over.
    pub(super) boot_id: String,
    /// Whether it was stopped on purpose.
    pub(super) is_stopped: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) config: ContainerConfig,
    pub(super) created_at: Timestamp,
    /// The number of the signal that asks it to end.
    pub(super) stop_signal: u32,
    #[serde(default)]
    pub(super) user: Option<ContainerUser>,
}

/// That a container has been started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedRecord {
    pub(super) started_at: Timestamp,
}

/// The process that holds a shared process namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PauseRecord {
    pub(super) pid: u32,
}

pub(super) fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    replace_file(path, &serde_json::to_vec(record)?, RECORD_MODE)
}

/// `None` where there is no such file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        contents => Ok(Some(serde_json::from_slice(&contents?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ContainerState;
    use std::path::PathBuf;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runtime_records").join(name)
    }

    #[test]
    fn what_the_first_version_wrote_is_understood() {
        let sandbox: SandboxRecord = read(&golden("sandbox-1.json")).unwrap().unwrap();
        assert_eq!(sandbox.config.pod.name, "web-1");
        assert_eq!(sandbox.config.cgroup, "/kubepods/burstable/pod1234");
        let container: ContainerRecord = read(&golden("container-1.json")).unwrap().unwrap();
        assert_eq!((container.config.name.as_str(), container.stop_signal), ("web", 3));
        let exit: ContainerState = read(&golden("exit-1.json")).unwrap().unwrap();
        let is_oom =
            matches!(exit, ContainerState::Exited { exit_code: 137, oom_killed: true, .. });
        assert!(is_oom, "{exit:?}");
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        assert_eq!(read::<PauseRecord>(&path).unwrap(), None);
        write(&path, &PauseRecord { pid: 7 }).unwrap();
        assert_eq!(read(&path).unwrap(), Some(PauseRecord { pid: 7 }));
        fs::write(&path, "").unwrap();
        assert!(read::<PauseRecord>(&path).is_err(), "a record that a power cut damaged");
    }
}
