//! What a pod's volumes are, and what is in those that are made of objects. Pure.
//!
//! Upstream pkg/volume/{configmap,secret,downwardapi,projected} (v1.35).

use super::VolumeError;
use super::persistent::{self, Persistent};
use crate::api::Quantity;
use crate::kubelet::claims::Found;
use crate::kubelet::container::fields::{Surroundings, field, resource};
use crate::kubelet::container::references::{Lookup, References};
use crate::kubelet::pod::BoundPod;
use crate::kubelet::tokens::{KnownToken, TokenAsk};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Secret, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The mode of files where none is given.
const FILE_MODE: u32 = 0o644;

/// The mode of tokens that belong to somebody.
const TOKEN_MODE: u32 = 0o600;

/// What one volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of the pod's own, which goes with it.
    EmptyDir,
    /// The same in memory. `size_bytes`: more does not fit in.
    Memory { size_bytes: Option<u64> },
    /// A file or directory of the node.
    HostPath { path: PathBuf, kind: HostPathKind },
    /// A directory of the node that outlives the pod.
    Local { path: PathBuf },
    /// A block device of the node.
    Device { path: PathBuf },
    /// A directory of another machine.
    Nfs(NfsShare),
    /// Files made from objects. They are on disk, or in memory where any comes from a Secret.
    Files { files: Files, in_memory: bool },
}

/// What is mounted from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NfsShare {
    pub server: String,
    pub path: String,
    /// As its PersistentVolume says, such as `nfsvers=4.1`.
    pub options: Vec<String>,
}

/// What a hostPath has to be, or becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPathKind {
    Any,
    Directory,
    DirectoryOrCreate,
    File,
    FileOrCreate,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Contents and modes by relative path.
pub type Files = BTreeMap<PathBuf, FileContent>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileContent {
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// `None`: root.
    pub owner: Option<u32>,
}

/// One volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlan {
    pub name: String,
    pub source: Source,
    /// Containers cannot write to it, whatever they say.
    pub read_only: bool,
    /// Whose it is besides root: the pod's `fsGroup`.
    pub group: Option<u32>,
    /// When what is in a volume that outlives the pod is given to the group.
    pub group_policy: GroupPolicy,
    /// The PersistentVolume that it is.
    pub persistent: Option<Persistent>,
}

impl VolumePlan {
    /// A volume of nobody in particular.
    #[must_use]
    pub fn of(name: &str, source: Source) -> Self {
        Self {
            name: name.to_owned(),
            source,
            read_only: false,
            group: None,
            group_policy: GroupPolicy::Always,
            persistent: None,
        }
    }
}

/// The pod's `fsGroupChangePolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupPolicy {
    #[default]
    Always,
    /// Only where the root of the volume is not the group's already.
    OnRootMismatch,
}

/// All volumes of a pod, in its order.
///
/// # Errors
/// For the first volume that cannot be made.
pub fn plan(
    pod: &BoundPod,
    references: &References,
    around: &Surroundings<'_>,
) -> Result<Vec<VolumePlan>, VolumeError> {
    let maker = Maker { pod, references, around };
    // Images are the runtime's to mount.
    let volumes = pod.spec().volumes.iter().flatten().filter(|volume| volume.image.is_none());
    let context = pod.spec().security_context.as_ref();
    let group = context.and_then(|context| context.fs_group);
    let group = group.and_then(|group| u32::try_from(group).ok());
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    let group_policy = match policy {
        Some("OnRootMismatch") => GroupPolicy::OnRootMismatch,
        _ => GroupPolicy::Always,
    };
    volumes
        .map(|volume| {
            let Made { source, read_only, persistent } =
                maker.make(volume).map_err(|why| why.of(&volume.name))?;
            let group = group.filter(|_| can_be_given(&source, read_only));
            let name = volume.name.clone();
            Ok(VolumePlan { name, source, read_only, group, group_policy, persistent })
        })
        .collect()
}

/// What is on the node or elsewhere belongs to whom it belongs, but for volumes that the cluster
/// knows.
fn can_be_given(source: &Source, read_only: bool) -> bool {
    match source {
        Source::HostPath { .. } | Source::Device { .. } | Source::Nfs(_) => false,
        Source::Local { .. } => !read_only,
        Source::EmptyDir | Source::Memory { .. } | Source::Files { .. } => true,
    }
}

/// A volume before its name and its group are known.
struct Made {
    source: Source,
    read_only: bool,
    persistent: Option<Persistent>,
}

/// An error without the volume's name.
pub(super) struct Why {
    text: String,
    pending: bool,
}

impl Why {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), pending: false }
    }

    fn of(self, volume: &str) -> VolumeError {
        let volume = volume.to_owned();
        match self.pending {
            true => VolumeError::Pending { volume, what: self.text },
            false => VolumeError::Source { volume, why: self.text },
        }
    }
}

struct Maker<'a> {
    pod: &'a BoundPod,
    references: &'a References,
    around: &'a Surroundings<'a>,
}

/// Which keys of an object become which files.
struct Selection<'a> {
    items: &'a [KeyToPath],
    mode: u32,
    optional: bool,
}

impl Maker<'_> {
    fn make(&self, volume: &Volume) -> Result<Made, Why> {
        let claim = volume.persistent_volume_claim.as_ref();
        if claim.is_none() && volume.ephemeral.is_none() {
            let source = self.source(volume)?;
            let is_shared = volume.nfs.as_ref().is_some_and(|nfs| nfs.read_only == Some(true));
            let read_only = matches!(source, Source::Files { .. }) || is_shared;
            return Ok(Made { source, read_only, persistent: None });
        }
        let found = match self.references.claims.get(&volume.name) {
            Some(Found::Volume(found)) => found,
            Some(Found::Refused(why)) => return Err(Why::new(why)),
            Some(Found::Unknown) | None => {
                return Err(Why { text: "its claim".to_owned(), pending: true });
            }
        };
        let (source, read_only) = persistent::source(found)?;
        let read_only = read_only || claim.is_some_and(|claim| claim.read_only == Some(true));
        Ok(Made { source, read_only, persistent: Some(persistent::identity(found)) })
    }

    fn source(&self, volume: &Volume) -> Result<Source, Why> {
        if let Some(empty) = &volume.empty_dir {
            let limit = empty.size_limit.as_ref().map(Quantity::of);
            let size_bytes = limit.and_then(|limit| u64::try_from(limit.units()).ok());
            let size_bytes = size_bytes.filter(|bytes| *bytes > 0);
            return match empty.medium.as_deref().unwrap_or_default() {
                "" => Ok(Source::EmptyDir),
                "Memory" => Ok(Source::Memory { size_bytes }),
                other => {
                    Err(Why::new(format!("medium {other:?} is not supported by this kubelet")))
                }
            };
        }
        if let Some(host) = &volume.host_path {
            let kind = host_path_kind(host.type_.as_deref().unwrap_or_default())?;
            return Ok(Source::HostPath { path: host.path.clone().into(), kind });
        }
        if let Some(nfs) = &volume.nfs {
            return Ok(Source::Nfs(persistent::share(nfs, Vec::new())));
        }
        let mut files = Files::new();
        let mut in_memory = false;
        if let Some(source) = &volume.config_map {
            let selection = Selection {
                items: source.items.as_deref().unwrap_or_default(),
                mode: mode(source.default_mode, FILE_MODE),
                optional: source.optional == Some(true),
            };
            self.config_map(&source.name, &selection, &mut files)?;
        } else if let Some(source) = &volume.secret {
            let selection = Selection {
                items: source.items.as_deref().unwrap_or_default(),
                mode: mode(source.default_mode, FILE_MODE),
                optional: source.optional == Some(true),
            };
            let name = source.secret_name.as_deref().unwrap_or_default();
            self.secret(name, &selection, &mut files)?;
            in_memory = true;
        } else if let Some(source) = &volume.downward_api {
            let mode = mode(source.default_mode, FILE_MODE);
            self.downward(source.items.as_deref().unwrap_or_default(), mode, &mut files)?;
        } else if let Some(source) = &volume.projected {
            let mode = mode(source.default_mode, FILE_MODE);
            for part in source.sources.iter().flatten() {
                self.projection(part, mode, &mut files)?;
                in_memory |= part.secret.is_some() || part.service_account_token.is_some();
            }
        } else {
            return Err(persistent::unsupported(volume));
        }
        Ok(Source::Files { files, in_memory })
    }

    fn projection(&self, part: &VolumeProjection, mode: u32, files: &mut Files) -> Result<(), Why> {
        if let Some(source) = &part.config_map {
            let items = source.items.as_deref().unwrap_or_default();
            let selection = Selection { items, mode, optional: source.optional == Some(true) };
            self.config_map(&source.name, &selection, files)
        } else if let Some(source) = &part.secret {
            let items = source.items.as_deref().unwrap_or_default();
            let selection = Selection { items, mode, optional: source.optional == Some(true) };
            self.secret(&source.name, &selection, files)
        } else if let Some(source) = &part.downward_api {
            self.downward(source.items.as_deref().unwrap_or_default(), mode, files)
        } else if let Some(source) = &part.service_account_token {
            self.token(source, mode, files)
        } else {
            let kind = match part {
                part if part.cluster_trust_bundle.is_some() => "clusterTrustBundle",
                part if part.pod_certificate.is_some() => "podCertificate",
                _ => "this source",
            };
            Err(Why::new(format!("{kind} is not supported by this kubelet")))
        }
    }

    /// Where everybody in the pod is one user, or a group has it, nobody else may read it (upstream
    /// `collectData`, pkg/volume/projected/projected.go).
    fn token(
        &self,
        source: &ServiceAccountTokenProjection,
        mode: u32,
        files: &mut Files,
    ) -> Result<(), Why> {
        let text = match self.references.token(&TokenAsk::from(source)) {
            KnownToken::Given(token) => token.text.clone(),
            KnownToken::Refused(why) => {
                return Err(Why::new(format!("failed to fetch token: {why}")));
            }
            KnownToken::Unknown => {
                return Err(Why { text: "a token of its account".to_owned(), pending: true });
            }
        };
        let owner = the_user(self.pod);
        let has_group =
            self.pod.spec().security_context.as_ref().is_some_and(|it| it.fs_group.is_some());
        let mode = if owner.is_some() || has_group { TOKEN_MODE } else { mode };
        put(files, &source.path, FileContent { bytes: text.into_bytes(), mode, owner })
    }

    fn config_map(
        &self,
        name: &str,
        selection: &Selection<'_>,
        files: &mut Files,
    ) -> Result<(), Why> {
        let lookup = self.references.config_map(name);
        let Some(object) = found(lookup, "configmap", name, selection)? else {
            return Ok(());
        };
        let missing = "configmap references non-existent config key";
        select(&config_map_data(&object), selection, missing, files)
    }

    fn secret(&self, name: &str, selection: &Selection<'_>, files: &mut Files) -> Result<(), Why> {
        let lookup = self.references.secret(name);
        let Some(object) = found(lookup, "secret", name, selection)? else {
            return Ok(());
        };
        select(&secret_data(&object), selection, "references non-existent secret key", files)
    }

    fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        default_mode: u32,
        files: &mut Files,
    ) -> Result<(), Why> {
        for item in items {
            let text = if let Some(selector) = &item.field_ref {
                field(self.pod, self.around, &selector.field_path)
            } else if let Some(selector) = &item.resource_field_ref {
                // The API server demands the container's name here.
                resource(self.pod, &Container::default(), self.around, selector)
            } else {
                continue;
            };
            let text = text.map_err(|error| Why::new(error.to_string()))?;
            let mode = mode(item.mode, default_mode);
            put(files, &item.path, FileContent { bytes: text.into_bytes(), mode, owner: None })?;
        }
        Ok(())
    }
}

/// The user that all containers of a pod run as, where the pod says so: upstream `FsUserFrom`
/// (pkg/volume/util/util.go).
fn the_user(pod: &BoundPod) -> Option<u32> {
    let of_pod = pod.spec().security_context.as_ref().and_then(|context| context.run_as_user);
    let user = |container: &Container| {
        let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
        own.or(of_pod)
    };
    let mut users = pod.init_containers().iter().chain(pod.containers()).map(user);
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}

/// `None` where it is optional and not there.
fn found<K>(
    lookup: Lookup<K>,
    kind: &str,
    name: &str,
    selection: &Selection<'_>,
) -> Result<Option<Arc<K>>, Why> {
    match lookup {
        Lookup::Found(object) => Ok(Some(object)),
        Lookup::Missing if selection.optional => Ok(None),
        Lookup::Missing => Err(Why::new(format!("{kind} {name:?} not found"))),
        Lookup::Unknown => Err(Why { text: format!("{kind} {name:?}"), pending: true }),
    }
}

fn config_map_data(object: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let texts = object.data.iter().flatten();
    let binaries = object.binary_data.iter().flatten();
    let texts = texts.map(|(key, text)| (key.as_str(), text.as_bytes()));
    texts.chain(binaries.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()))).collect()
}

fn secret_data(object: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = object.data.iter().flatten();
    data.map(|(key, bytes)| (key.as_str(), bytes.0.as_slice())).collect()
}

fn select(
    data: &BTreeMap<&str, &[u8]>,
    selection: &Selection<'_>,
    missing: &str,
    files: &mut Files,
) -> Result<(), Why> {
    if selection.items.is_empty() {
        for (key, bytes) in data {
            put(
                files,
                key,
                FileContent { bytes: bytes.to_vec(), mode: selection.mode, owner: None },
            )?;
        }
        return Ok(());
    }
    for item in selection.items {
        let Some(bytes) = data.get(item.key.as_str()) else {
            if selection.optional {
                continue;
            }
            return Err(Why::new(format!("{missing}: {}", item.key)));
        };
        let mode = mode(item.mode, selection.mode);
        put(files, &item.path, FileContent { bytes: bytes.to_vec(), mode, owner: None })?;
    }
    Ok(())
}

/// Upstream `validatePath` (pkg/volume/util/atomic_writer.go): relative, without steps back, and no
/// first part that the writer needs for itself.
fn put(files: &mut Files, path: &str, content: FileContent) -> Result<(), Why> {
    let relative = Path::new(path);
    let normal = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !normal || path.starts_with("..") {
        return Err(Why::new(format!("invalid path: {path:?}")));
    }
    files.insert(relative.to_owned(), content);
    Ok(())
}

fn mode(given: Option<i32>, default: u32) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default) & 0o777
}

pub(super) fn host_path_kind(word: &str) -> Result<HostPathKind, Why> {
    Ok(match word {
        "" => HostPathKind::Any,
        "Directory" => HostPathKind::Directory,
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "File" => HostPathKind::File,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        "Socket" => HostPathKind::Socket,
        "CharDevice" => HostPathKind::CharDevice,
        "BlockDevice" => HostPathKind::BlockDevice,
        other => return Err(Why::new(format!("hostPath type {other:?} is not known"))),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
