//! Whole specifications against golden files: `tests/golden/oci_spec/<name>.json`.
//! `UPDATE_GOLDEN=1` rewrites them.

use super::super::config::*;
use super::*;
use crate::stdx::check_golden;
use oci_spec::runtime::LinuxDeviceType;
use serde_json::Value;

struct Scenario {
    sandbox: SandboxConfig,
    container: ContainerConfig,
    image: ImageConfig,
    user: ProcessUser,
    paths: SandboxPaths,
    host: HostTraits,
}

fn plain() -> Scenario {
    let pinned = |name: &str| Some(PathBuf::from(format!("/run/sandbox/ns/{name}")));
    let container = ContainerConfig {
        process_namespace_of: None,
        name: "web".to_owned(),
        attempt: 0,
        image: super::super::ImageId("sha256:00".to_owned()),
        image_reference: "docker.io/library/nginx:1.27".to_owned(),
        command: vec![],
        args: vec![],
        environment: vec![("NAME".to_owned(), "a=b".to_owned())],
        working_directory: String::new(),
        mounts: vec![],
        image_mounts: vec![],
        devices: vec![],
        security: SecurityConfig::default(),
        resources: LinuxResources::default(),
        log_path: PathBuf::from("/var/log/pods/x/web/0.log"),
        tty: false,
        stdin: false,
        stdin_once: false,
        stop_signal: None,
        labels: Default::default(),
    };
    Scenario {
        sandbox: SandboxConfig {
            pod: PodIdentity {
                namespace: "default".to_owned(),
                name: "web-1".to_owned(),
                uid: "1234".to_owned(),
            },
            hostname: "web-1".to_owned(),
            cgroup: "/kubepods/besteffort/pod1234".to_owned(),
            namespaces: SandboxNamespaces {
                network: NamespaceMode::Pod,
                pid: NamespaceMode::Container,
                ipc: NamespaceMode::Pod,
            },
            ..SandboxConfig::default()
        },
        container,
        image: ImageConfig {
            entrypoint: vec!["/entry".to_owned()],
            cmd: vec!["serve".to_owned()],
            env: vec!["PATH=/bin".to_owned(), "NAME=image".to_owned()],
            working_dir: "/srv".to_owned(),
            ..ImageConfig::default()
        },
        user: ProcessUser {
            uid: 33,
            gid: 33,
            additional_gids: vec![33, 50],
            home: "/srv/www".to_owned(),
        },
        paths: SandboxPaths {
            network: pinned("net"),
            ipc: pinned("ipc"),
            uts: pinned("uts"),
            pid: None,
            shared_memory: PathBuf::from("/run/sandbox/shm"),
            hostname_file: PathBuf::from("/run/sandbox/hostname"),
        },
        host: HostTraits {
            hostname: "node".to_owned(),
            capabilities: capabilities_held(1),
            ..HostTraits::default()
        },
    }
}

fn rendered(scenario: &Scenario) -> Result<Spec, RuntimeError> {
    render(Inputs {
        sandbox_id: &SandboxId("5a".to_owned()),
        sandbox: &scenario.sandbox,
        container_id: &ContainerId("c0".to_owned()),
        container: &scenario.container,
        image: &scenario.image,
        user: &scenario.user,
        paths: &scenario.paths,
        image_mounts: &[],
        seccomp: None,
        host: &scenario.host,
    })
}

/// Capabilities are sets: their order says nothing.
fn sort_capabilities(spec: &mut Value) {
    let Some(sets) = spec.pointer_mut("/process/capabilities").and_then(Value::as_object_mut)
    else {
        return;
    };
    for set in sets.values_mut().filter_map(Value::as_array_mut) {
        set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
    }
}

fn check(name: &str, scenario: &Scenario) {
    let mut value = serde_json::to_value(rendered(scenario).unwrap()).unwrap();
    sort_capabilities(&mut value);
    let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
    check_golden(&format!("oci_spec/{name}.json"), &text);
}

#[test]
fn plain_container() {
    check("plain", &plain());
}

#[test]
fn container_with_everything_limited() {
    let mut scenario = plain();
    scenario.container.command = vec!["/bin/sh".to_owned()];
    scenario.container.args = vec!["-c".to_owned(), "true".to_owned()];
    scenario.container.working_directory = "/work".to_owned();
    scenario.container.tty = true;
    scenario.container.security = SecurityConfig {
        read_only_root: true,
        no_new_privileges: true,
        capabilities_drop: vec!["ALL".to_owned()],
        capabilities_add: vec!["NET_BIND_SERVICE".to_owned()],
        seccomp_runtime_default: true,
        ..SecurityConfig::default()
    };
    scenario.container.resources = LinuxResources {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory_limit_bytes: Some(67_108_864),
        pids_limit: Some(100),
        oom_score_adj: Some(-997),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), bytes: 0 }],
    };
    let mount = |path: &str, read_only, propagation| Mount {
        container_path: path.to_owned(),
        host_path: PathBuf::from(format!("/volumes{path}")),
        read_only,
        propagation,
    };
    scenario.container.mounts = vec![
        mount("/data/deeper", true, MountPropagation::HostToContainer),
        mount("/data", false, MountPropagation::Private),
        mount("/dev/shm", false, MountPropagation::Private),
    ];
    scenario.host = HostTraits {
        cgroups_unified: true,
        swap_limits: true,
        oom_score_floor: Some(0),
        open_files: Some(OpenFiles { soft: 1_024, hard: 524_288 }),
        masked_paths: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()],
        ..scenario.host
    };
    check("limited", &scenario);
}

#[test]
fn privileged_container_in_the_namespaces_of_the_node() {
    let mut scenario = plain();
    scenario.sandbox.namespaces = SandboxNamespaces {
        network: NamespaceMode::Node,
        pid: NamespaceMode::Node,
        ipc: NamespaceMode::Node,
    };
    scenario.container.security.privileged = true;
    scenario.host.cgroups_unified = true;
    let mut device = LinuxDevice::default();
    device.set_path(PathBuf::from("/dev/fuse"));
    device.set_typ(LinuxDeviceType::C);
    device.set_major(10);
    device.set_minor(229);
    scenario.host.devices = vec![device];
    scenario.paths = SandboxPaths {
        shared_memory: PathBuf::from("/dev/shm"),
        hostname_file: PathBuf::from("/run/sandbox/hostname"),
        ..SandboxPaths::default()
    };
    check("privileged", &scenario);
}

#[test]
fn shared_process_namespace() {
    let mut scenario = plain();
    scenario.sandbox.namespaces.pid = NamespaceMode::Pod;
    scenario.paths.pid = Some(PathBuf::from("/run/sandbox/ns/pid"));
    let spec = rendered(&scenario).unwrap();
    let namespaces = spec.linux().clone().unwrap().namespaces().clone().unwrap();
    assert!(namespaces.iter().any(|each| *each.path() == scenario.paths.pid));
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |change: fn(&mut Scenario), expected: &str| {
        let mut scenario = plain();
        change(&mut scenario);
        assert_eq!(rendered(&scenario).unwrap_err().to_string(), expected);
    };
    check(
        |scenario| scenario.image = ImageConfig::default(),
        "neither the pod nor the image names a command to run",
    );
    check(
        |scenario| scenario.container.working_directory = "tmp".to_owned(),
        "the working directory `tmp` is not an absolute path",
    );
    check(
        |scenario| scenario.container.security.capabilities_add = vec!["FLY".to_owned()],
        "there is no capability `FLY`",
    );
}

#[test]
fn the_pod_names_the_stop_signal_before_the_image() {
    let Scenario { mut container, mut image, .. } = plain();
    assert_eq!(stop_signal(&container, &image).unwrap(), 15);
    image.stop_signal = "SIGQUIT".to_owned();
    assert_eq!(stop_signal(&container, &image).unwrap(), 3);
    container.stop_signal = Some("SIGUSR1".to_owned());
    assert_eq!(stop_signal(&container, &image).unwrap(), 10);
}
