//! The volumes of pods on this node: made, kept up to date, and taken away again.
//!
//! Start at [`Volumes`]; [`plan`] says what a volume is made of. Architecture invariant: everything
//! of a pod is below two directories that carry its uid, so that taking it away needs no memory of
//! what was made. Nothing is removed while anything is mounted in it.

mod book;
mod host_path;
mod nfs;
mod ownership;
mod persistent;
pub mod plan;
mod sub_path;
mod usage;
mod writer;

pub(super) use book::{MadeVolume, VolumeBook, made, plugin};
pub use persistent::Persistent;
pub use usage::{Usage, measure};

use crate::kubelet::container::mounts::{PlannedMount, ReadyVolume, Recursion};
use crate::runtime::Mount;
use crate::stdx::{chain, fault};
use crate::sys::host::has_swap;
use crate::sys::mount::{self, Tmpfs};
use jiff::Timestamp;
use ownership::{Access, Kind};
use plan::{HostPathKind, Source, VolumePlan};
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
    /// Something on the node is not as it must be; that may change without a word.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    OnNode { volume: String, why: String },
    #[error("volume {volume:?} cannot be made read-only with all that is mounted in it")]
    ReadOnly {
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

/// What all pods of a node may have in files made of secrets; beyond it, volumes cannot be made.
const SECRETS_BYTES_MAX: u64 = 256 << 20;

/// Where in a pod's directory its PersistentVolumes are noted, by name.
const RESERVATIONS: &str = "volumes/kinglet~persistent";

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

    /// Has [`memory_dir`](Self::memory_dir) in memory that is never written to a disk. Where it is
    /// not, it becomes a file system of its own, which goes with what else is mounted there; one that
    /// an earlier process made is found again, with what is in it.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn keep_off_disk(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.memory_dir)?;
        let path = fs::canonicalize(&self.memory_dir)?;
        if !mount::is_mounted(&path)? {
            // Running containers have what is in it already: that stays where it is.
            let is_used = || fs::read_dir(&path).map(|mut entries| entries.next().is_some());
            if mount::is_in_memory(&path)? && (!has_swap()? || is_used()?) {
                return Ok(());
            }
            let tmpfs = Tmpfs { size_bytes: SECRETS_BYTES_MAX, mode: 0o700, group: None };
            mount::volume_tmpfs(&path, tmpfs)?;
        }
        mount::make_private(&path)
    }

    /// Where of a pod is what must not reach a disk: a directory for each volume.
    #[must_use]
    pub fn pod_memory_dir(&self, uid: &str) -> PathBuf {
        self.memory_dir.join(uid)
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
            self.reserve(uid, plan)?;
            fault::point("volumes: one reserved");
            let path = self.make(uid, plan, memory_bytes_max, now)?;
            fault::point("volumes: one made");
            let is_device = matches!(plan.source, Source::Device { .. });
            let volume = ReadyVolume { path, read_only: plan.read_only, is_device };
            ready.insert(plan.name.clone(), volume);
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
                directory_for_all(&path, plan.group).map_err(failed)?;
                Ok(path)
            }
            Source::Memory { size_bytes } => {
                let path = place("kubernetes.io~empty-dir");
                let size = size_bytes.unwrap_or(memory_bytes_max).min(memory_bytes_max);
                memory_directory(&path, size, plan.group).map_err(failed)?;
                Ok(path)
            }
            Source::HostPath { path, kind } => {
                host_path::ensure(path, *kind).map_err(|why| on_node(plan, why))?;
                Ok(path.clone())
            }
            Source::Local { path } => {
                self.prepare_local(uid, plan, path)?;
                Ok(path.clone())
            }
            Source::Device { path } => {
                host_path::ensure(path, HostPathKind::BlockDevice)
                    .map_err(|why| on_node(plan, why))?;
                Ok(path.clone())
            }
            Source::Nfs(share) => {
                // No container makes links on the way there.
                let path = self.place_of_persistent(uid, plan, "kubernetes.io~nfs");
                nfs::mount_share(share, &path, plan.read_only)
                    .map_err(|error| on_node(plan, chain(&error)))?;
                Ok(path)
            }
            Source::Files { files, in_memory } => {
                let path = match in_memory {
                    true => self.in_memory(uid).map_err(failed)?.join(&plan.name),
                    false => place("kubernetes.io~configmap"),
                };
                writer::write(&path, files, plan.group, now).map_err(failed)?;
                Ok(path)
            }
        }
    }

    fn place_of_persistent(&self, uid: &str, plan: &VolumePlan, kind: &str) -> PathBuf {
        let name = plan.persistent.as_ref().map_or(&plan.name, |persistent| &persistent.name);
        self.pod_dir(uid).join("volumes").join(kind).join(name)
    }

    /// Notes that the pod has a PersistentVolume, on disk, so that it is known after a crash; one
    /// that only one pod may have is refused to a second (upstream `IsVolumeMountedElsewhere`). Of
    /// two that come at once both may be refused, and try again.
    fn reserve(&self, uid: &str, plan: &VolumePlan) -> Result<(), VolumeError> {
        let Some(persistent) = &plan.persistent else { return Ok(()) };
        let failed = |source| VolumeError::Failed { volume: plan.name.clone(), source };
        let place = |uid: &str| self.pod_dir(uid).join(RESERVATIONS).join(&persistent.name);
        let own = place(uid);
        if own.try_exists().map_err(failed)? {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o750).create(&own).map_err(failed)?;
        if !persistent.is_exclusive {
            return Ok(());
        }
        let others = self.pods().map_err(failed)?;
        if others.iter().any(|other| other != uid && place(other).exists()) {
            fs::remove_dir(&own).map_err(failed)?;
            let why =
                "volume uses the ReadWriteOncePod access mode and is already in use by another pod";
            return Err(on_node(plan, why));
        }
        Ok(())
    }

    /// A directory that outlives the pod becomes its group's when the pod first has it.
    fn prepare_local(&self, uid: &str, plan: &VolumePlan, path: &Path) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::Failed { volume: plan.name.clone(), source };
        if !path.is_dir() {
            let why = match path.try_exists().map_err(failed)? {
                true => format!("path {:?} is not a directory: mount its file system", path),
                false => format!("path {path:?} does not exist"),
            };
            return Err(on_node(plan, why));
        }
        let (Some(group), Some(persistent)) = (plan.group, &plan.persistent) else {
            return Ok(());
        };
        let note = self.pod_dir(uid).join(RESERVATIONS).join(&persistent.name).join("given");
        if note.try_exists().map_err(failed)? {
            return Ok(());
        }
        ownership::give_all(path, group, plan.group_policy).map_err(failed)?;
        fs::write(&note, "").map_err(failed)
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
        for (index, planned) in planned.into_iter().enumerate() {
            let PlannedMount { mut mount, volume, sub_path, recursive_read_only } = planned;
            let place = |directory: &str| {
                let places = self.pod_dir(uid).join(directory);
                places.join(&volume).join(container).join(index.to_string())
            };
            if let Some(sub_path) = sub_path {
                let target = place("volume-subpaths");
                sub_path::bind(&mount.host_path, &sub_path, &target).map_err(|source| {
                    let volume = volume.clone();
                    VolumeError::SubPath { volume, container: container.to_owned(), source }
                })?;
                mount.host_path = target;
                fault::point("volumes: sub path mounted");
            }
            if mount.read_only && recursive_read_only != Recursion::Disabled {
                let target = place("volume-subpaths/kinglet~read-only");
                match sub_path::bind_read_only_tree(&mount.host_path, &target) {
                    Ok(()) => mount.host_path = target,
                    Err(error)
                        if error.kind() == ErrorKind::Unsupported
                            && recursive_read_only == Recursion::IfPossible => {}
                    Err(source) => return Err(VolumeError::ReadOnly { volume, source }),
                }
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
        fault::point("volumes: pod directory removed");
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
        fault::point("volumes: sub paths removed");
        remove_unmounted(&self.pod_dir(uid).join("volumes"))?;
        fault::point("volumes: removed from disk");
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

fn on_node(plan: &VolumePlan, why: impl Into<String>) -> VolumeError {
    VolumeError::OnNode { volume: plan.name.clone(), why: why.into() }
}

/// Makes an emptyDir: everybody may write to it, whoever the containers run as. One that is there
/// is left as its containers have it.
fn directory_for_all(path: &Path, group: Option<u32>) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    if path.try_exists()? {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    // It appears when it is finished. No volume has such a name.
    let unfinished = parent.join(format!("..{}", name.display()));
    DirBuilder::new().recursive(true).create(&unfinished)?;
    // Not through `mode` above: that is cut by the umask.
    fs::set_permissions(&unfinished, Permissions::from_mode(0o777))?;
    ownership::give(&unfinished, group, Access::Writable)?;
    fs::rename(&unfinished, path)
}

fn memory_directory(path: &Path, size_bytes: u64, group: Option<u32>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    if mount::is_mounted(&fs::canonicalize(path)?)? {
        return Ok(());
    }
    let mode = ownership::mode(0o777, group, Kind::Directory, Access::Writable);
    mount::volume_tmpfs(path, Tmpfs { size_bytes, mode, group })
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
        let secret = FileContent { bytes: b"hush".to_vec(), mode: 0o400, owner: None };
        let files = plan::Files::from([(PathBuf::from("pass"), secret)]);
        let plans = [
            VolumePlan::of("data", Source::EmptyDir),
            VolumePlan {
                read_only: true,
                ..VolumePlan::of("secret", Source::Files { files, in_memory: true })
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

    #[test]
    fn a_volume_of_one_pod_is_refused_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let volumes = Volumes {
            pods_dir: directory.path().join("pods"),
            memory_dir: directory.path().join("memory"),
        };
        let path = directory.path().join("data");
        fs::create_dir(&path).unwrap();
        let persistent = Persistent { name: "v".to_owned(), is_exclusive: true };
        let plans = [VolumePlan {
            persistent: Some(persistent),
            ..VolumePlan::of("data", Source::Local { path })
        }];
        let set_up = |uid: &str| volumes.set_up(uid, &plans, 0, Timestamp::UNIX_EPOCH);
        set_up("u1").unwrap();
        set_up("u1").unwrap();
        let error = set_up("u2").unwrap_err().to_string();
        assert!(error.contains("already in use by another pod"), "{error}");
        volumes.tear_down("u1").unwrap();
        set_up("u2").unwrap();
        assert!(set_up("u1").is_err());
    }

    #[test]
    fn an_empty_directory_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("volumes/data");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        // Left by a crash.
        fs::create_dir_all(directory.path().join("volumes/..data")).unwrap();
        directory_for_all(&path, Some(rustix::process::getgid().as_raw())).unwrap();
        assert_eq!(mode(), 0o2777);
        // A container that locks others out is not undone by the next look.
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        directory_for_all(&path, None).unwrap();
        assert_eq!(mode(), 0o700);
        assert_eq!(fs::read_dir(directory.path().join("volumes")).unwrap().count(), 1);
    }
}
