//! The volumes of pods on this node: made, kept up to date, and taken away again.
//!
//! Start at [`Volumes`]; [`plan`] says what a volume is made of. Architecture invariant: everything
//! of a pod is below two directories that carry its uid, so that taking it away needs no memory of
//! what was made. Nothing is removed while anything is mounted in it.

mod host_path;
pub mod plan;
mod sub_path;
mod writer;

use crate::kubelet::container::mounts::{PlannedMount, ReadyVolume};
use crate::runtime::Mount;
use crate::sys::mount;
use jiff::Timestamp;
use plan::{Source, VolumePlan};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Why a pod's volumes are not there. Its events show it; the words are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    Source { volume: String, why: String },
    /// Nobody has to be told: the answer is on its way.
    #[error("volume {volume:?} waits until {what} is known")]
    Pending { volume: String, what: String },
    #[error("MountVolume.SetUp failed for volume {volume:?}")]
    Failed {
        volume: String,
        #[source]
        source: io::Error,
    },
    /// Upstream says no more, so that nobody learns of the node's files.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        volume: String,
        container: String,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Whether it will be known by itself in a moment.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self, Self::Pending { .. })
    }
}

/// Where the volumes of pods are.
#[derive(Clone, Debug)]
pub struct Volumes {
    /// A directory for each pod: upstream's `/var/lib/kubelet/pods`.
    pub pods_dir: PathBuf,
    /// The same on a file system in memory, for what must not reach a disk.
    pub memory_dir: PathBuf,
}

impl Volumes {
    /// The pod's own directory.
    #[must_use]
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir.join(uid)
    }

    /// Makes the volumes, or brings those that are there up to date.
    ///
    /// # Errors
    /// For the first volume that cannot be made; all are tried again by the next call.
    pub fn set_up(
        &self,
        uid: &str,
        plans: &[VolumePlan],
        memory_bytes_max: u64,
        now: Timestamp,
    ) -> Result<BTreeMap<String, ReadyVolume>, VolumeError> {
        let mut ready = BTreeMap::new();
        for plan in plans {
            let path = self.make(uid, plan, memory_bytes_max, now)?;
            ready.insert(plan.name.clone(), ReadyVolume { path, read_only: plan.read_only });
        }
        Ok(ready)
    }

    fn make(
        &self,
        uid: &str,
        plan: &VolumePlan,
        memory_bytes_max: u64,
        now: Timestamp,
    ) -> Result<PathBuf, VolumeError> {
        let failed = |source| VolumeError::Failed { volume: plan.name.clone(), source };
        let place = |kind: &str| self.pod_dir(uid).join("volumes").join(kind).join(&plan.name);
        match &plan.source {
            Source::EmptyDir => {
                let path = place("kubernetes.io~empty-dir");
                directory_for_all(&path).map_err(failed)?;
                Ok(path)
            }
            Source::Memory { size_bytes } => {
                let path = place("kubernetes.io~empty-dir");
                let size = size_bytes.unwrap_or(memory_bytes_max).min(memory_bytes_max);
                memory_directory(&path, size).map_err(failed)?;
                Ok(path)
            }
            Source::HostPath { path, kind } => {
                host_path::ensure(path, *kind)
                    .map_err(|why| VolumeError::Source { volume: plan.name.clone(), why })?;
                Ok(path.clone())
            }
            Source::Files { files, in_memory } => {
                let path = match in_memory {
                    true => self.in_memory(uid).map_err(failed)?.join(&plan.name),
                    false => place("kubernetes.io~configmap"),
                };
                writer::write(&path, files, now).map_err(failed)?;
                Ok(path)
            }
        }
    }

    /// The pod's directory in memory, where only root can look.
    fn in_memory(&self, uid: &str) -> io::Result<PathBuf> {
        let path = self.memory_dir.join(uid);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.memory_dir)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(path)
    }

    /// The mounts of a container's volumes, sub paths found.
    ///
    /// # Errors
    /// For a sub path that leads out of its volume or cannot be mounted.
    pub fn find_sub_paths(
        &self,
        uid: &str,
        container: &str,
        planned: Vec<PlannedMount>,
    ) -> Result<Vec<Mount>, VolumeError> {
        let mut mounts = Vec::with_capacity(planned.len());
        for (index, PlannedMount { mut mount, volume, sub_path }) in planned.into_iter().enumerate()
        {
            if let Some(sub_path) = sub_path {
                let places = self.pod_dir(uid).join("volume-subpaths");
                let target = places.join(&volume).join(container).join(index.to_string());
                sub_path::bind(&mount.host_path, &sub_path, &target).map_err(|source| {
                    VolumeError::SubPath { volume, container: container.to_owned(), source }
                })?;
                mount.host_path = target;
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// Takes away what a pod has on this node. Succeeds where it has nothing.
    ///
    /// # Errors
    /// As the file system says; another call goes on from there.
    pub fn remove_pod(&self, uid: &str) -> io::Result<()> {
        remove_unmounted(&self.pod_dir(uid))?;
        remove_unmounted(&self.memory_dir.join(uid))
    }

    /// Takes away the volumes of a pod whose containers have ended; the rest stays until the pod
    /// itself goes.
    ///
    /// # Errors
    /// As the file system says; another call goes on from there.
    pub fn tear_down(&self, uid: &str) -> io::Result<()> {
        // Sub paths are mounts of volumes: they go first.
        remove_unmounted(&self.pod_dir(uid).join("volume-subpaths"))?;
        remove_unmounted(&self.pod_dir(uid).join("volumes"))?;
        remove_unmounted(&self.memory_dir.join(uid))
    }

    /// The pods that have something here.
    ///
    /// # Errors
    /// As the file system says.
    pub fn pods(&self) -> io::Result<Vec<String>> {
        let mut uids = Vec::new();
        for directory in [&self.pods_dir, &self.memory_dir] {
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                uids.extend(entry?.file_name().into_string());
            }
        }
        uids.sort();
        uids.dedup();
        Ok(uids)
    }
}

/// Everybody may write to an emptyDir, whoever the containers run as.
fn directory_for_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    let permissions = Permissions::from_mode(0o777);
    if fs::metadata(path)?.permissions().mode() & 0o777 != 0o777 {
        fs::set_permissions(path, permissions)?;
    }
    Ok(())
}

fn memory_directory(path: &Path, size_bytes: u64) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if mount::is_mounted(&fs::canonicalize(path)?)? {
        return Ok(());
    }
    mount::tmpfs_with_programs(path, size_bytes, 0o777)
}

/// Unmounts whatever is mounted below a directory and removes it. A mount that stays keeps the
/// directory: what is behind it may be the node's own.
fn remove_unmounted(directory: &Path) -> io::Result<()> {
    // Mounts are listed by their true paths.
    let directory = match fs::canonicalize(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    mount::unmount_all(&directory)?;
    let stays = |mounted: &mount::Mounted| mounted.target.starts_with(&directory);
    if let Some(mounted) = mount::mounted()?.into_iter().find(stays) {
        let text = format!("{} is still mounted", mounted.target.display());
        return Err(io::Error::new(ErrorKind::ResourceBusy, text));
    }
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::plan::FileContent;
    use super::*;

    #[test]
    fn volumes_are_made_kept_and_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let volumes = Volumes {
            pods_dir: directory.path().join("pods"),
            memory_dir: directory.path().join("memory"),
        };
        let secret = FileContent { bytes: b"hush".to_vec(), mode: 0o400 };
        let files = plan::Files::from([(PathBuf::from("pass"), secret)]);
        let plans = [
            VolumePlan { name: "data".to_owned(), source: Source::EmptyDir, read_only: false },
            VolumePlan {
                name: "secret".to_owned(),
                source: Source::Files { files, in_memory: true },
                read_only: true,
            },
        ];
        let ready = volumes.set_up("u1", &plans, 0, Timestamp::UNIX_EPOCH).unwrap();
        fs::write(ready["data"].path.join("x"), "kept").unwrap();
        assert_eq!(fs::read(ready["secret"].path.join("pass")).unwrap(), b"hush");
        assert!(ready["secret"].path.starts_with(directory.path().join("memory/u1")));
        assert!(ready["secret"].read_only && !ready["data"].read_only);
        let again = volumes.set_up("u1", &plans, 0, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(again, ready);
        assert_eq!(fs::read(ready["data"].path.join("x")).unwrap(), b"kept");
        assert_eq!(volumes.pods().unwrap(), ["u1"]);
        volumes.tear_down("u1").unwrap();
        assert!(!ready["data"].path.exists() && volumes.pod_dir("u1").exists());
        volumes.remove_pod("u1").unwrap();
        volumes.remove_pod("u1").unwrap();
        assert!(volumes.pods().unwrap().is_empty());
    }
}
