//! What a container is to be: upstream `generateContainerConfig`
//! (pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.35). Pure.

use super::ConfigError;
use super::environment::{Environment, Sources, environment};
use super::fields::Surroundings;
use super::mounts::{
    PlannedMount, PodFiles, ReadyVolume, file_mounts, image_mounts, volume_devices, volume_mounts,
};
use super::references::References;
use super::resources::container_resources;
use super::security::{Confinement, security, verify_labels};
use crate::kubelet::pod::{BoundPod, IMAGE_ID_LABEL, IMAGE_NAME_LABEL};
use crate::runtime::images::Reference;
use crate::runtime::{ContainerConfig, ContainerId, ImageId, ImageStatus, Mount, MountPropagation};
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that [`container()`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub pod: &'a BoundPod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a ImageStatus,
    pub around: &'a Surroundings<'a>,
    pub references: &'a References,
    /// The variables of Services.
    pub services: &'a [(String, String)],
    pub volumes: &'a BTreeMap<String, ReadyVolume>,
    pub node_memory_bytes: u64,
    /// The container whose processes it is to see.
    pub target: Option<&'a ContainerId>,
    /// How the node confines containers.
    pub confinement: &'a Confinement,
    /// The images that are volumes of this container, by their names.
    pub image_volumes: &'a BTreeMap<String, ImageId>,
}

/// Where the files of one container are on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub pod_files: PodFiles,
    /// What the container leaves here is its last word.
    pub termination_message: PathBuf,
    pub log: PathBuf,
}

/// A container, but for the paths inside its volumes: those are still to be found.
#[derive(Clone, Debug)]
pub struct PlannedContainer {
    /// Without its volumes.
    pub config: ContainerConfig,
    pub volume_mounts: Vec<PlannedMount>,
}

/// # Errors
/// Where the pod asks for something that is not there or cannot be had: the user has to change it.
pub fn container(facts: &Facts<'_>, places: Places) -> Result<PlannedContainer, ConfigError> {
    let spec = facts.container;
    let environment = environment(&Sources {
        pod: facts.pod,
        container: spec,
        around: facts.around,
        references: facts.references,
        services: facts.services,
    })?;
    if facts.confinement.has_selinux {
        verify_labels(facts.pod, spec)?;
    }
    let security = security(facts.pod, spec, &facts.image.user, facts.confinement)?;
    let image_mounts = image_mounts(spec, facts.image_volumes, &environment)?;
    let volume_mounts = volume_mounts(spec, facts.volumes, facts.image_volumes, &environment)?;
    let devices = volume_devices(spec, facts.volumes)?;
    let of_volumes = volume_mounts.iter().map(|planned| planned.mount.container_path.as_str());
    let of_images = image_mounts.iter().map(|mount| mount.container_path.as_str());
    let taken: Vec<&str> = of_volumes.chain(of_images).collect();
    let mut mounts = file_mounts(&places.pod_files, &taken, security.read_only_root);
    mounts.extend(termination_mount(spec, places.termination_message));
    let stop_signal = spec.lifecycle.as_ref().and_then(|it| it.stop_signal.clone());
    let config = ContainerConfig {
        name: spec.name.clone(),
        attempt: facts.attempt,
        image: facts.image.id.clone(),
        image_reference: spec.image.clone().unwrap_or_default(),
        command: expanded(&environment, spec.command.as_deref()),
        args: expanded(&environment, spec.args.as_deref()),
        working_directory: spec.working_dir.clone().unwrap_or_default(),
        mounts,
        image_mounts,
        devices,
        resources: container_resources(facts.pod, spec, facts.node_memory_bytes),
        security,
        log_path: places.log,
        tty: spec.tty == Some(true),
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        stop_signal,
        process_namespace_of: facts.target.cloned(),
        labels: labels(facts),
        environment: environment.into_pairs(),
    };
    Ok(PlannedContainer { config, volume_mounts })
}

fn expanded(environment: &Environment, words: Option<&[String]>) -> Vec<String> {
    words.unwrap_or_default().iter().map(|word| environment.expand(word)).collect()
}

fn termination_mount(spec: &Container, host_path: PathBuf) -> Option<Mount> {
    let container_path = spec.termination_message_path.clone().filter(|path| !path.is_empty())?;
    let propagation = MountPropagation::Private;
    Some(Mount { container_path, host_path, read_only: false, propagation })
}

/// What its status will need to say and the pod's object may not say any more.
fn labels(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let reference = facts.container.image.as_deref().unwrap_or_default();
    BTreeMap::from([
        (IMAGE_ID_LABEL.to_owned(), shown_image_id(facts.image, reference)),
        (IMAGE_NAME_LABEL.to_owned(), shown_image_name(reference)),
    ])
}

/// The image's name with its digest, of the repository that the pod names where there are several.
fn shown_image_id(image: &ImageStatus, reference: &str) -> String {
    let name = reference.parse::<Reference>().map(|reference| reference.name());
    let digests = &image.digests;
    let own = name.ok().and_then(|name| {
        digests.iter().find(|digest| digest.split('@').next() == Some(name.as_str()))
    });
    own.or(digests.first()).unwrap_or(&image.id.0).clone()
}

/// The name that the pod uses, in full.
fn shown_image_name(reference: &str) -> String {
    let full = reference.parse::<Reference>().map(|reference| reference.to_string());
    full.unwrap_or_else(|_| reference.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::ImageId;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn image() -> ImageStatus {
        ImageStatus {
            id: ImageId("sha256:1".to_owned()),
            tags: vec!["docker.io/library/web:1".to_owned()],
            digests: ["other/web@sha256:2", "docker.io/library/web@sha256:2"]
                .map(str::to_owned)
                .into(),
            size_bytes: 1,
            user: String::new(),
            pinned: false,
        }
    }

    fn made(spec: Value) -> PlannedContainer {
        let object = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u1" },
            "spec": { "containers": [spec] },
        });
        let pod = BoundPod::read(Arc::new(serde_json::from_value(object).unwrap())).unwrap();
        let around =
            Surroundings { pod_addresses: &[], node_addresses: &[], allocatable: &BTreeMap::new() };
        let facts = Facts {
            pod: &pod,
            container: &pod.containers()[0],
            attempt: 2,
            image: &image(),
            around: &around,
            references: &References::default(),
            services: &[],
            volumes: &BTreeMap::new(),
            target: None,
            node_memory_bytes: 1,
            confinement: &Confinement::default(),
            image_volumes: &BTreeMap::new(),
        };
        let places = Places {
            pod_files: PodFiles::default(),
            termination_message: "/pods/u1/containers/a/2".into(),
            log: "/logs/2.log".into(),
        };
        container(&facts, places).unwrap()
    }

    #[test]
    fn commands_are_expanded_with_the_containers_variables() {
        let config = made(json!({
            "name": "a", "image": "web:1", "command": ["/bin/$(X)"], "args": ["$(Y)", "$$(X)"],
            "env": [{ "name": "X", "value": "sh" }], "workingDir": "/w", "tty": true,
        }))
        .config;
        assert_eq!(config.command, ["/bin/sh"]);
        assert_eq!(config.args, ["$(Y)", "$(X)"]);
        assert_eq!((config.attempt, config.working_directory.as_str()), (2, "/w"));
        assert!(config.tty && !config.stdin);
    }

    #[test]
    fn the_image_is_remembered_as_statuses_show_it() {
        let labels = made(json!({ "name": "a", "image": "web:1" })).config.labels;
        assert_eq!(labels[IMAGE_ID_LABEL], "docker.io/library/web@sha256:2");
        assert_eq!(labels[IMAGE_NAME_LABEL], "docker.io/library/web:1");
    }

    #[test]
    fn the_last_word_has_its_place() {
        let path = "/dev/termination-log";
        let mounts = made(json!({ "name": "a", "terminationMessagePath": path })).config.mounts;
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].container_path, path);
        assert!(made(json!({ "name": "a" })).config.mounts.is_empty());
    }
}
