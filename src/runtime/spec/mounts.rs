//! What is mounted in a container.

use super::super::{Mount as ConfigMount, MountPropagation};
use super::Inputs;
use oci_spec::runtime::Mount;
use std::path::{Path, PathBuf};

/// The defaults, then what the runtime shares among the containers of a pod, then what the pod asks
/// for; what comes later replaces what it is mounted over. In the order of their depth, so that
/// nothing is hidden by a later mount above it.
pub(super) fn render(inputs: Inputs<'_>) -> Vec<Mount> {
    let mut mounts = defaults(inputs);
    mounts.extend(shared(inputs));
    for wanted in &inputs.container.mounts {
        mounts.retain(|mount| mount.destination() != Path::new(&wanted.container_path));
        mounts.push(from_config(wanted));
    }
    for wanted in inputs.image_mounts {
        mounts.retain(|mount| mount.destination() != Path::new(&wanted.container_path));
        let options = ["rbind", "rprivate", "ro", "noexec", "nosuid", "nodev"];
        mounts.push(bind(&wanted.container_path, &wanted.host_path, &options));
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    mounts
}

fn defaults(inputs: Inputs<'_>) -> Vec<Mount> {
    let access = if inputs.container.security.privileged { "rw" } else { "ro" };
    let safe = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &safe),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
    ]
}

fn shared(inputs: Inputs<'_>) -> Vec<Mount> {
    let paths = inputs.paths;
    let access = if inputs.container.security.read_only_root { "ro" } else { "rw" };
    let hostname = bind("/etc/hostname", &paths.hostname_file, &["rbind", "rprivate", access]);
    let shared_memory = bind(
        "/dev/shm",
        &paths.shared_memory,
        &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
    );
    vec![hostname, shared_memory]
}

fn from_config(wanted: &ConfigMount) -> Mount {
    let propagation = match wanted.propagation {
        MountPropagation::Private => "rprivate",
        MountPropagation::HostToContainer => "rslave",
        MountPropagation::Bidirectional => "rshared",
    };
    let access = if wanted.read_only { "ro" } else { "rw" };
    bind(&wanted.container_path, &wanted.host_path, &["rbind", propagation, access])
}

/// How the root of the container's mounts takes part in propagation: as much as its most open mount.
pub(super) fn root_propagation(mounts: &[ConfigMount]) -> &'static str {
    let has = |wanted| mounts.iter().any(|mount| mount.propagation == wanted);
    if has(MountPropagation::Bidirectional) {
        "rshared"
    } else if has(MountPropagation::HostToContainer) {
        "rslave"
    } else {
        "rprivate"
    }
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Mount {
    mount(destination, "bind", source, options)
}

fn mount(destination: &str, kind: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(PathBuf::from(destination));
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}
