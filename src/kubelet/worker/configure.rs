//! What a container is to be, and the files that it needs in their places.

use super::end::pod_logs_dir;
use super::pod::PodWorker;
use crate::kubelet::container::ConfigError;
use crate::kubelet::container::config::{Facts, Places, PlannedContainer, container};
use crate::kubelet::container::fields::Surroundings;
use crate::kubelet::container::mounts::PodFiles;
use crate::kubelet::container::references::References;
use crate::kubelet::container::sandbox::hostname;
use crate::kubelet::container::services::variables;
use crate::kubelet::files::hosts::hosts;
use crate::kubelet::files::resolv_conf::resolv_conf;
use crate::kubelet::pod::plan::Start;
use crate::kubelet::static_pods::is_static;
use crate::runtime::{ContainerConfig, ImageId, ImageStatus};
use crate::stdx::{blocking, chain};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tracing::debug;

/// Why a container cannot be made now.
pub(super) enum Problem {
    /// It will be known by itself in a moment.
    Pending,
    /// Its user has to be told. Whatever is missing rings when it comes.
    Missing(String),
    /// Its user has to be told, and nobody rings when it is over.
    Failed(String),
}

/// The images of a container, all of them on this node.
pub(super) struct Ready {
    pub(super) image: ImageStatus,
    /// Those that are volumes, by their names.
    pub(super) volumes: BTreeMap<String, ImageId>,
}

/// What stands in the node's own files.
struct NodeTexts {
    hosts: String,
    resolv_conf: String,
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        if error.is_pending() { Self::Pending } else { Self::Missing(error.to_string()) }
    }
}

impl PodWorker {
    /// What the container is to be, with all its files in their places.
    pub(super) async fn configure(
        &mut self,
        start: &Start,
        images: &Ready,
        references: &References,
    ) -> Result<ContainerConfig, Problem> {
        let spec = start.slot.of(&self.pod).clone();
        let node = self.shared.node();
        if !self.shared.services.is_synced() && !is_static(self.pod.object()) {
            return Err(Problem::Missing(
                "services have not yet been read at least once, cannot construct envvars"
                    .to_owned(),
            ));
        }
        let links = self.pod.spec().enable_service_links != Some(false);
        let services = self.shared.services.list();
        let services = variables(&services, self.pod.namespace(), links);
        let addresses = self.addresses();
        let places = self.places(&spec.name, start.attempt);
        let volumes = self.volumes.as_ref().map(|(_, ready)| ready.clone()).unwrap_or_default();
        let planned = container(
            &Facts {
                pod: &self.pod,
                container: &spec,
                attempt: start.attempt,
                image: &images.image,
                image_volumes: &images.volumes,
                around: &Surroundings {
                    pod_addresses: &addresses,
                    node_addresses: &node.addresses,
                    allocatable: &node.allocatable,
                },
                references,
                services: &services,
                volumes: &volumes,
                target: start.target.as_ref(),
                node_memory_bytes: node.memory_bytes,
                confinement: &self.shared.confinement,
            },
            places.clone(),
        );
        let planned = planned.map_err(Problem::from)?;
        let node_files = self.prepare(&places).await?;
        let files = self.files_of_pod(&places.pod_files, &addresses, &node_files);
        self.place(planned, files).await
    }

    /// Makes the places of the container's files, and reads what the pod's are made of.
    async fn prepare(&self, places: &Places) -> Result<NodeTexts, Problem> {
        let (places, paths) = (places.clone(), self.shared.config.node_files.clone());
        let prepared = blocking(move || {
            prepare_places(&places)?;
            // A node without them has nothing to say in them.
            let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
            Ok(NodeTexts { hosts: read(&paths.hosts), resolv_conf: read(&paths.resolv_conf) })
        });
        prepared.await.map_err(|error: io::Error| {
            Problem::Failed(format!("cannot prepare the container's files: {error}"))
        })
    }

    fn places(&self, container: &str, attempt: u32) -> Places {
        let pod_dir = self.shared.config.volumes.pod_dir(self.pod.uid());
        let logs = pod_logs_dir(&self.shared.config.logs_dir, self.pod.identity());
        let own_network = !self.pod.uses_node_network();
        Places {
            pod_files: PodFiles {
                hosts: Some(pod_dir.join("etc-hosts")),
                hostname: own_network.then(|| pod_dir.join("etc-hostname")),
                resolv_conf: Some(pod_dir.join("resolv.conf")),
            },
            termination_message: self.termination_message_path(container, attempt),
            log: logs.join(container).join(format!("{attempt}.log")),
        }
    }

    /// The pod's files with what stands in them.
    fn files_of_pod(
        &mut self,
        files: &PodFiles,
        addresses: &[IpAddr],
        of_node: &NodeTexts,
    ) -> Vec<(PathBuf, String)> {
        let config = &self.shared.config;
        let node_hosts = if self.pod.uses_node_network() { &of_node.hosts } else { "" };
        let hosts = hosts(&self.pod, addresses, &config.cluster_dns.domain, node_hosts);
        let resolv = resolv_conf(&self.pod, &config.cluster_dns, &of_node.resolv_conf);
        for (reason, message) in resolv.warnings {
            self.warn_once(reason, message, "");
        }
        let name = format!("{}\n", hostname(&self.pod));
        let files =
            [(&files.hosts, hosts), (&files.hostname, name), (&files.resolv_conf, resolv.text)];
        files.into_iter().filter_map(|(path, text)| Some((path.clone()?, text))).collect()
    }

    /// Writes the pod's files and finds the paths inside volumes.
    async fn place(
        &self,
        planned: PlannedContainer,
        files: Vec<(PathBuf, String)>,
    ) -> Result<ContainerConfig, Problem> {
        let (volumes, uid) = (self.shared.config.volumes.clone(), self.pod.uid().to_owned());
        let PlannedContainer { mut config, volume_mounts } = planned;
        let placed = blocking(move || {
            for (path, text) in files {
                write_if_changed(&path, &text)
                    .map_err(|error| Problem::Failed(format!("{}: {error}", path.display())))?;
            }
            let mounts = volumes.find_sub_paths(&uid, &config.name, volume_mounts);
            let mut mounts = mounts.map_err(|error| {
                debug!(pod_uid = uid, error = chain(&error), "a sub path cannot be used");
                Problem::Failed(error.to_string())
            })?;
            mounts.append(&mut config.mounts);
            config.mounts = mounts;
            Ok(config)
        });
        placed.await
    }
}

/// Makes the places that the container's own files will be in.
fn prepare_places(places: &Places) -> io::Result<()> {
    let directory = |path: &Path, mode| match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(mode).create(parent),
        None => Ok(()),
    };
    directory(&places.termination_message, 0o750)?;
    directory(&places.log, 0o755)?;
    // Whoever the container runs as has to be able to write there.
    OpenOptions::new().append(true).create(true).open(&places.termination_message)?;
    fs::set_permissions(&places.termination_message, fs::Permissions::from_mode(0o666))
}

/// Containers that run have the file mounted: it is changed in place, and only where it has to be. It is
/// cut to its length last, so that a full disk takes no more of it than it must.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).truncate(false).mode(0o644);
    let mut file = file.open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}
