//! What of the node is seen where in a container: upstream `makeMounts`
//! (pkg/kubelet/kubelet_pods.go, v1.35). Pure: sub paths are found later, with care.

use super::ConfigError;
use super::environment::Environment;
use crate::runtime::{DeviceMapping, ImageId, ImageMount, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, VolumeMount};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyVolume {
    pub path: PathBuf,
    pub read_only: bool,
    /// A block device, without a file system that the node knows of.
    pub is_device: bool,
}

/// A mount whose path may have to be looked for inside its volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMount {
    /// With the volume's root as `host_path`.
    pub mount: Mount,
    pub volume: String,
    /// Relative, without steps back.
    pub sub_path: Option<PathBuf>,
    pub recursive_read_only: Recursion,
}

/// Whether what is mounted below a read-only mount is read-only as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    #[default]
    Disabled,
    /// Where the kernel can do that.
    IfPossible,
    /// Or the container is not made.
    Enabled,
}

/// The files that every container of a pod sees, unless it has something of its own there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFiles {
    pub hosts: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub resolv_conf: Option<PathBuf>,
}

/// The container's volumes, in its order.
///
/// # Errors
/// For a volume that the pod does not have and for a sub path that leaves its volume.
pub fn volume_mounts(
    container: &Container,
    volumes: &BTreeMap<String, ReadyVolume>,
    images: &BTreeMap<String, ImageId>,
    environment: &Environment,
) -> Result<Vec<PlannedMount>, ConfigError> {
    let mounts = container.volume_mounts.iter().flatten();
    let mounts = mounts.filter(|mount| !images.contains_key(&mount.name));
    mounts.map(|mount| planned(container, volumes, environment, mount)).collect()
}

/// The container's volumes that are images, in its order. Nothing can be written to them, whatever
/// the container says.
///
/// # Errors
/// For a sub path that leaves its image.
pub fn image_mounts(
    container: &Container,
    images: &BTreeMap<String, ImageId>,
    environment: &Environment,
) -> Result<Vec<ImageMount>, ConfigError> {
    let mounts = container.volume_mounts.iter().flatten();
    let mounts = mounts.filter_map(|mount| {
        let image = images.get(&mount.name)?.clone();
        let planned = sub_path(mount, environment).map(|sub_path| ImageMount {
            container_path: absolute(&mount.mount_path),
            image,
            sub_path: sub_path.unwrap_or_default(),
        });
        Some(planned)
    });
    mounts.collect()
}

fn sub_path(
    mount: &VolumeMount,
    environment: &Environment,
) -> Result<Option<PathBuf>, ConfigError> {
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let sub_path = match named(&mount.sub_path_expr) {
        Some(expression) => Some(environment.expand(&expression)),
        None => named(&mount.sub_path),
    };
    sub_path.map(inside).transpose()
}

fn planned(
    container: &Container,
    volumes: &BTreeMap<String, ReadyVolume>,
    environment: &Environment,
    mount: &VolumeMount,
) -> Result<PlannedMount, ConfigError> {
    let volume = volumes.get(&mount.name).ok_or_else(|| ConfigError::NoVolume {
        volume: mount.name.clone(),
        container: container.name.clone(),
    })?;
    if volume.is_device {
        let what = format!(
            "volume {:?} has volumeMode Block, but is specified in volumeMounts",
            mount.name
        );
        return Err(ConfigError::WrongMode { what });
    }
    Ok(PlannedMount {
        mount: Mount {
            container_path: absolute(&mount.mount_path),
            host_path: volume.path.clone(),
            read_only: volume.read_only || mount.read_only == Some(true),
            propagation: propagation(mount.mount_propagation.as_deref()),
        },
        volume: mount.name.clone(),
        sub_path: sub_path(mount, environment)?,
        recursive_read_only: match mount.recursive_read_only.as_deref() {
            Some("Enabled") => Recursion::Enabled,
            Some("IfPossible") => Recursion::IfPossible,
            _ => Recursion::Disabled,
        },
    })
}

/// The container's block devices, in its order (upstream `makeBlockVolumes`,
/// pkg/kubelet/kubelet_pods.go).
///
/// # Errors
/// For a volume that the pod does not have, or that has a file system.
pub fn volume_devices(
    container: &Container,
    volumes: &BTreeMap<String, ReadyVolume>,
) -> Result<Vec<DeviceMapping>, ConfigError> {
    let devices = container.volume_devices.iter().flatten();
    let mapped = devices.map(|device| match volumes.get(&device.name) {
        None => Err(ConfigError::NoVolume {
            volume: device.name.clone(),
            container: container.name.clone(),
        }),
        Some(volume) if !volume.is_device => Err(ConfigError::WrongMode {
            what: format!(
                "volume {:?} has volumeMode Filesystem, but is specified in volumeDevices",
                device.name
            ),
        }),
        Some(volume) => Ok(DeviceMapping {
            container_path: absolute(&device.device_path),
            host_path: volume.path.clone(),
            read_only: volume.read_only,
        }),
    });
    mapped.collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn inside(text: String) -> Result<PathBuf, ConfigError> {
    let stays =
        |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
    match Path::new(&text).components().all(stays) {
        true => Ok(PathBuf::from(text)),
        false => Err(ConfigError::BadSubPath { path: text }),
    }
}

fn propagation(mode: Option<&str>) -> MountPropagation {
    match mode {
        Some("HostToContainer") => MountPropagation::HostToContainer,
        Some("Bidirectional") => MountPropagation::Bidirectional,
        _ => MountPropagation::Private,
    }
}

/// The pod's files, where `taken` has nothing at their places.
#[must_use]
pub fn file_mounts(files: &PodFiles, taken: &[&str], read_only_root: bool) -> Vec<Mount> {
    let places = [
        ("/etc/hosts", &files.hosts, false),
        ("/etc/hostname", &files.hostname, read_only_root),
        ("/etc/resolv.conf", &files.resolv_conf, read_only_root),
    ];
    let free = |place: &str| !taken.contains(&place);
    let mounts = places.into_iter().filter(|(place, _, _)| free(place));
    mounts
        .filter_map(|(place, path, read_only)| {
            Some(Mount {
                container_path: place.to_owned(),
                host_path: path.clone()?,
                read_only,
                propagation: MountPropagation::Private,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn render(mount: &Mount) -> String {
        let mode = if mount.read_only { "ro" } else { "rw" };
        format!("{}:{}:{mode}", mount.host_path.display(), mount.container_path)
    }

    #[track_caller]
    fn check(mount: Value, expected: &str) {
        let container = json!({ "name": "a", "volumeMounts": [mount] });
        let container = serde_json::from_value(container).unwrap();
        let ready =
            |path: &str, read_only| ReadyVolume { path: path.into(), read_only, is_device: false };
        let volumes = BTreeMap::from([
            ("data".to_owned(), ready("/v/data", false)),
            ("config".to_owned(), ready("/v/config", true)),
        ]);
        let text =
            match volume_mounts(&container, &volumes, &BTreeMap::new(), &Environment::default()) {
                Ok(mounts) => {
                    let sub =
                        mounts[0].sub_path.as_ref().map(|path| format!(" {}", path.display()));
                    format!("{}{}", render(&mounts[0].mount), sub.unwrap_or_default())
                }
                Err(error) => error.to_string(),
            };
        assert_eq!(text, expected);
    }

    #[test]
    fn volumes_are_seen_where_the_container_says() {
        check(json!({ "name": "data", "mountPath": "/d" }), "/v/data:/d:rw");
        check(json!({ "name": "data", "mountPath": "d" }), "/v/data:/d:rw");
        check(json!({ "name": "data", "mountPath": "/d", "readOnly": true }), "/v/data:/d:ro");
        check(json!({ "name": "config", "mountPath": "/c" }), "/v/config:/c:ro");
        check(
            json!({ "name": "x", "mountPath": "/x" }),
            "cannot find volume \"x\" to mount into container \"a\"",
        );
    }

    #[test]
    fn sub_paths_stay_inside() {
        let sub = |path: &str| json!({ "name": "data", "mountPath": "/d", "subPath": path });
        check(sub("a/b"), "/v/data:/d:rw a/b");
        check(sub(""), "/v/data:/d:rw");
        check(sub("../x"), "subPath \"../x\" must stay inside its volume");
        check(sub("a/../../x"), "subPath \"a/../../x\" must stay inside its volume");
        check(sub("/etc"), "subPath \"/etc\" must stay inside its volume");
        let expression = json!({ "name": "data", "mountPath": "/d", "subPathExpr": "$(A)/x" });
        check(expression, "/v/data:/d:rw $(A)/x");
    }

    #[test]
    fn devices_and_file_systems_are_not_mixed_up() {
        let ready = |is_device| ReadyVolume { path: "/dev/x".into(), read_only: false, is_device };
        let volumes =
            BTreeMap::from([("disk".to_owned(), ready(true)), ("data".to_owned(), ready(false))]);
        let devices = |name: &str| {
            let device = json!({ "name": name, "devicePath": "/dev/own" });
            let container = json!({ "name": "a", "volumeDevices": [device] });
            volume_devices(&serde_json::from_value(container).unwrap(), &volumes)
        };
        let mapped = devices("disk").unwrap();
        assert_eq!((&*mapped[0].container_path, mapped.len()), ("/dev/own", 1));
        assert_eq!(
            devices("data").unwrap_err().to_string(),
            "volume \"data\" has volumeMode Filesystem, but is specified in volumeDevices"
        );
        let mount = json!({ "name": "disk", "mountPath": "/d" });
        let container = json!({ "name": "a", "volumeMounts": [mount] });
        let container = serde_json::from_value(container).unwrap();
        let none = BTreeMap::new();
        let error =
            volume_mounts(&container, &volumes, &none, &Environment::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "volume \"disk\" has volumeMode Block, but is specified in volumeMounts"
        );
    }

    #[test]
    fn images_are_mounted_by_their_ids() {
        let images = BTreeMap::from([("tools".to_owned(), ImageId("sha256:1".to_owned()))]);
        let check = |mount: Value, expected: Result<&[(&str, &str)], &str>| {
            let container = json!({ "name": "a", "volumeMounts": [mount] });
            let container = serde_json::from_value(container).unwrap();
            let found = image_mounts(&container, &images, &Environment::default());
            let found = found.map_err(|error| error.to_string()).map(|mounts| {
                let pair = |it: ImageMount| (it.container_path, it.sub_path.display().to_string());
                mounts.into_iter().map(pair).collect::<Vec<_>>()
            });
            let owned = |(path, sub): &(&str, &str)| ((*path).to_owned(), (*sub).to_owned());
            let expected = expected.map(|all| all.iter().map(owned).collect::<Vec<_>>());
            assert_eq!(found, expected.map_err(str::to_owned));
            let none = BTreeMap::new();
            assert!(
                volume_mounts(&container, &none, &images, &Environment::default()).is_ok()
                    || found.as_ref().is_ok_and(Vec::is_empty)
            );
        };
        let mount =
            |name: &str, sub: &str| json!({ "name": name, "mountPath": "t", "subPath": sub });
        check(mount("tools", ""), Ok(&[("/t", "")]));
        check(mount("tools", "bin/x"), Ok(&[("/t", "bin/x")]));
        check(mount("tools", "../x"), Err("subPath \"../x\" must stay inside its volume"));
        check(mount("other", ""), Ok(&[]));
    }

    #[test]
    fn the_pods_files_give_way_to_the_containers_own() {
        let files = PodFiles {
            hosts: Some("/p/etc-hosts".into()),
            hostname: Some("/p/hostname".into()),
            resolv_conf: None,
        };
        let mounts = |taken: &[&str]| {
            file_mounts(&files, taken, true).iter().map(render).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(mounts(&[]), "/p/etc-hosts:/etc/hosts:rw /p/hostname:/etc/hostname:ro");
        assert_eq!(mounts(&["/etc/hosts"]), "/p/hostname:/etc/hostname:ro");
    }
}
