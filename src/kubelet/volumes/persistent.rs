//! What a PersistentVolume is on this node. Pure.
//!
//! Upstream pkg/volume/{local,hostpath,nfs} (v1.35). Other types are for drivers that this kubelet
//! does not have.

use super::plan::{NfsShare, Source, Why, host_path_kind};
use crate::stdx::json;
use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume};
use serde::Serialize;

/// The access mode of a volume that one pod has to itself.
const ONE_POD: &str = "ReadWriteOncePod";

/// Fields of a volume that do not say where it comes from.
const OTHER_FIELDS: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "name",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// A PersistentVolume that a pod uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistent {
    pub name: String,
    /// No other pod may use it at the same time.
    pub is_exclusive: bool,
}

/// What the volume is made of, and whether it can only be read.
pub(super) fn source(volume: &PersistentVolume) -> Result<(Source, bool), Why> {
    let spec = volume.spec.clone().unwrap_or_default();
    let is_block = spec.volume_mode.as_deref() == Some("Block");
    if let Some(local) = &spec.local {
        let path = local.path.clone().into();
        return Ok((
            if is_block { Source::Device { path } } else { Source::Local { path } },
            false,
        ));
    }
    if is_block {
        let kind = kind(&spec);
        return Err(Why::new(format!("{kind} cannot be a block device on this node")));
    }
    if let Some(host) = &spec.host_path {
        let kind = host_path_kind(host.type_.as_deref().unwrap_or_default())?;
        return Ok((Source::HostPath { path: host.path.clone().into(), kind }, false));
    }
    if let Some(nfs) = &spec.nfs {
        let options = spec.mount_options.clone().unwrap_or_default();
        return Ok((Source::Nfs(share(nfs, options)), nfs.read_only == Some(true)));
    }
    Err(unsupported(&spec))
}

/// Which volume it is.
pub(super) fn identity(volume: &PersistentVolume) -> Persistent {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref());
    Persistent {
        name: volume.metadata.name.clone().unwrap_or_default(),
        is_exclusive: modes.unwrap_or_default().iter().any(|mode| mode == ONE_POD),
    }
}

pub(super) fn share(nfs: &NFSVolumeSource, options: Vec<String>) -> NfsShare {
    NfsShare { server: nfs.server.clone(), path: nfs.path.clone(), options }
}

/// A volume of a type that needs a driver.
pub(super) fn unsupported(spec: &impl Serialize) -> Why {
    let kind = kind(spec);
    Why::new(format!("volumes of type {kind} are not supported by this kubelet"))
}

/// The name of the field that says where the volume comes from.
fn kind(spec: &impl Serialize) -> String {
    let fields = json::to_value(spec);
    let mut names = fields.as_object().into_iter().flatten().map(|(name, _)| name);
    names.find(|name| !OTHER_FIELDS.contains(&name.as_str())).cloned().unwrap_or_default()
}
