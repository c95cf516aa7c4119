//! Finds what there is on this host. Nothing is changed, and nothing is loaded.
//!
//! Start at [`gather`].

use super::super::server::BackendArg;
use super::Args;
use super::features::{FEATURES, Presence, Sources, presence};
use super::judge::{CONFLICTS, Facts, Needed, PROGRAMS, Port};
use crate::daemon::Layout;
use crate::stdx::Clock;
use crate::sys::cgroup::Cgroups;
use crate::sys::load::disk;
use crate::sys::wireguard::Control;
use crate::sys::{mount, process};
use flate2::read::GzDecoder;
use jiff::Timestamp;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A kernel's configuration and lists of modules have some 300 KB; what is larger is none.
const TEXT_BYTES_MAX: u64 = 16 << 20;

pub(super) fn gather(args: &Args) -> Facts {
    let cgroups = Cgroups::detect().ok();
    let is_there = |needed: &&Needed| process::find(needed.program).is_some();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let sources = sources(&kernel);
    let has_tunnels = args.flannel_backend == BackendArg::Vxlan;
    let data_dir = std::path::absolute(&args.data.data_dir);
    let data_dir = data_dir.as_deref().unwrap_or(&args.data.data_dir);
    Facts {
        is_root: nix::unistd::geteuid().is_root(),
        kernel,
        programs: PROGRAMS.iter().filter(is_there).map(|needed| needed.program).collect(),
        features: FEATURES
            .iter()
            .map(|feature| match feature.module == "vxlan" && !has_tunnels {
                true => Presence::Unknown,
                false => presence(feature, &sources),
            })
            .collect(),
        wireguard: (args.flannel_backend == BackendArg::WireguardNative)
            .then(|| Control::open().map(drop).map_err(|error| error.to_string())),
        cgroups_hybrid: cgroups.map(|cgroups| cgroups.is_hybrid()),
        controllers: controllers(),
        sysctls_are_writable: is_writable(Path::new("/proc/sys/net/ipv4/ip_forward")),
        free_bytes: free_bytes(data_dir),
        file_system: file_system(data_dir),
        now: Clock::system().now(),
        installed: installed(),
        is_running: UnixStream::connect(Layout::of(data_dir).run().join("kinglet.sock")).is_ok(),
        ports: ports(args),
        conflicts: conflicts(),
    }
}

/// Empty where it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn sources(release: &str) -> Sources {
    let modules = ["modules.builtin", "modules.dep"]
        .iter()
        .map(|name| read(&format!("/lib/modules/{release}/{name}")))
        .filter(|text| !text.is_empty());
    let configured = fs::read_to_string(format!("/boot/config-{release}")).ok();
    Sources {
        file_systems: read("/proc/filesystems"),
        loaded: names("/sys/module"),
        modules: modules.collect(),
        configuration: running_configuration().or(configured),
    }
}

/// Of kernels that have `CONFIG_IKCONFIG_PROC`.
fn running_configuration() -> Option<String> {
    let file = fs::File::open("/proc/config.gz").ok()?;
    let mut text = String::new();
    GzDecoder::new(file).take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Those of both versions: what one has the other has not.
fn controllers() -> Vec<String> {
    let unified = read("/sys/fs/cgroup/cgroup.controllers");
    let legacy = read("/proc/cgroups");
    let unified = unified.split_whitespace().map(str::to_owned);
    unified.chain(legacy.lines().filter_map(enabled_controller)).collect()
}

/// A line of `/proc/cgroups`: name, hierarchy, number of cgroups, enabled.
fn enabled_controller(line: &str) -> Option<String> {
    let mut columns = line.split_whitespace();
    let name = columns.next().filter(|name| !name.starts_with('#'))?;
    (columns.next_back() == Some("1")).then(|| name.to_owned())
}

/// Whether root could; others are told that they are not root.
fn is_writable(path: &Path) -> bool {
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::ACCESS,
    }
}

/// The data directory, or where it will be.
fn existing(data_dir: &Path) -> Option<&Path> {
    data_dir.ancestors().find(|path| path.exists())
}

fn free_bytes(data_dir: &Path) -> Option<u64> {
    Some(disk(existing(data_dir)?).ok()?.available_bytes)
}

/// What is mounted last at the longest beginning of the path.
fn file_system(data_dir: &Path) -> Option<String> {
    let path = fs::canonicalize(existing(data_dir)?).ok()?;
    let mounted = mount::mounted().ok()?;
    let below = mounted.into_iter().filter(|it| path.starts_with(&it.target));
    below.max_by_key(|it| it.target.as_os_str().len()).map(|it| it.file_system)
}

fn installed() -> Option<Timestamp> {
    let modified = fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

fn ports(args: &Args) -> Vec<Port> {
    let tcp = |number, what_for, flag| Port {
        number,
        protocol: "tcp",
        what_for,
        flag,
        is_free: is_free(|address| TcpListener::bind((address, number)).map(drop)),
    };
    let udp = |number, what_for, flag| Port {
        number,
        protocol: "udp",
        what_for,
        flag,
        is_free: is_free(|address| UdpSocket::bind((address, number)).map(drop)),
    };
    let mut ports = vec![
        tcp(args.https_listen_port, "the API server", "--https-listen-port"),
        tcp(args.kubelet_port, "the kubelet", "--kubelet-port"),
    ];
    let ingress = [
        (args.ingress_http_port, "--ingress-http-port"),
        (args.ingress_https_port, "--ingress-https-port"),
    ];
    let ingress = ingress.into_iter().filter(|(number, _)| *number > 0);
    ports.extend(ingress.map(|(number, flag)| tcp(number, "Ingresses", flag)));
    match args.flannel_backend {
        BackendArg::Vxlan => ports.push(udp(8472, "packets of pods", "--flannel-backend")),
        BackendArg::WireguardNative => {
            ports.push(udp(51_820, "packets of pods", "--flannel-backend"));
        }
        BackendArg::HostGw | BackendArg::None => {}
    }
    ports
}

/// Whether nobody has it, by IPv4 or by IPv6. Who may not have it at all does not know.
fn is_free(bind: impl Fn(IpAddr) -> std::io::Result<()>) -> bool {
    let addresses: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let is_taken =
        |address| bind(address).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
    !addresses.into_iter().any(is_taken)
}

/// Who of [`CONFLICTS`] is here.
fn conflicts() -> Vec<&'static str> {
    let processes = names("/proc");
    let processes = processes.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let running: Vec<_> = processes.map(|id| read(&format!("/proc/{id}/comm"))).collect();
    let is_here = |name: &str| match name {
        "ufw" => read("/etc/ufw/ufw.conf").lines().any(|line| line.trim() == "ENABLED=yes"),
        "containerd's CRI" => {
            !names("/run/containerd/io.containerd.grpc.v1.cri/sandboxes").is_empty()
        }
        name => running.iter().any(|comm| comm.trim_end() == name),
    };
    CONFLICTS.iter().map(|(name, _)| *name).filter(|name| is_here(name)).collect()
}
