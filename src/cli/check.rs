//! `kinglet check`: what this host lacks, and how to get it.
//!
//! [`judge()`] decides from plain [`Facts`]; the rest gathers and prints them.

use super::server::BackendArg;
use crate::sys::wireguard::Control;
use crate::sys::{cgroup::Cgroups, process};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The oldest kernel with all that kinglet uses (cgroup.kill, openat2, mount_setattr).
const KERNEL_MIN: (u32, u32) = (5, 14);

/// A check that can be done without.
const FREE_BYTES_MIN: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: super::node::DataDir,
    /// Port to look at
    #[arg(long, env = "KINGLET_HTTPS_LISTEN_PORT", default_value_t = 6443)]
    https_listen_port: u16,
    /// How packets are to get to pods of other nodes
    #[arg(long, env = "KINGLET_FLANNEL_BACKEND", default_value = "vxlan")]
    flannel_backend: BackendArg,
}

/// What was found on the host.
#[derive(Clone, Debug)]
struct Facts {
    is_root: bool,
    kernel: String,
    /// Names of [`PROGRAMS`] that are there.
    programs: Vec<&'static str>,
    filesystems: String,
    /// What there is of WireGuard, where it is asked for.
    wireguard: Option<Result<(), String>>,
    /// `None` where no cgroups are mounted.
    cgroups_hybrid: Option<bool>,
    controllers: Vec<String>,
    free_bytes: Option<u64>,
    port: u16,
    port_is_free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Missing,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
struct Finding {
    what: String,
    verdict: Verdict,
    remedy: String,
}

/// A program that kinglet runs, and the packages that bring it.
struct Needed {
    program: &'static str,
    what_for: &'static str,
    packages: &'static str,
}

const PROGRAMS: [Needed; 4] = [
    Needed {
        program: "containerd-shim-runc-v2",
        what_for: "keeps containers",
        packages: "containerd (Debian, Alpine), containerd.io or containerd (Fedora)",
    },
    Needed { program: "runc", what_for: "makes containers", packages: "runc" },
    Needed { program: "crun", what_for: "makes containers", packages: "crun" },
    Needed { program: "nft", what_for: "applies network rules", packages: "nftables" },
];

/// Prints a line for each check; fails where something is missing.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = judge(&gather(args));
    let text = if args.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        findings.iter().map(|finding| format!("{finding}\n")).collect()
    };
    super::print(&text)?;
    let missing = findings.iter().any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Missing => "missing",
        };
        write!(formatter, "{verdict}  {}", self.what)?;
        if !self.remedy.is_empty() {
            write!(formatter, ": {}", self.remedy)?;
        }
        Ok(())
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        finding("root", Verdict::Missing, facts.is_root, "run kinglet as root"),
        kernel(&facts.kernel),
    ];
    findings.extend(PROGRAMS.iter().filter_map(|needed| program(needed, facts)));
    let overlay = facts.filesystems.lines().any(|line| line.trim_end().ends_with("\toverlay"));
    let remedy = "`modprobe overlay`, or a kernel with CONFIG_OVERLAY_FS";
    findings.push(finding("overlayfs", Verdict::Missing, overlay, remedy));
    findings.extend(facts.wireguard.as_ref().map(|there| {
        let why = there.as_ref().err();
        let remedy = why.map(|why| format!("{why}; or another --flannel-backend: vxlan, host-gw"));
        finding("wireguard", Verdict::Missing, why.is_none(), &remedy.unwrap_or_default())
    }));
    findings.extend(cgroups(facts));
    let enough = facts.free_bytes.is_none_or(|free| free >= FREE_BYTES_MIN);
    let remedy = "less than 1 GiB is free in the data directory; images need room";
    findings.push(finding("disk space", Verdict::Warning, enough, remedy));
    let port = format!("port {}", facts.port);
    let remedy = "another program listens there; stop it or choose --https-listen-port";
    findings.push(finding(&port, Verdict::Warning, facts.port_is_free, remedy));
    findings
}

fn finding(what: &str, otherwise: Verdict, is_ok: bool, remedy: &str) -> Finding {
    let verdict = if is_ok { Verdict::Ok } else { otherwise };
    let remedy = if is_ok { String::new() } else { remedy.to_owned() };
    Finding { what: what.to_owned(), verdict, remedy }
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    let (major, minor) = KERNEL_MIN;
    let remedy = format!("kinglet needs Linux {major}.{minor} or newer");
    finding(&format!("kernel {release}"), Verdict::Missing, version >= KERNEL_MIN, &remedy)
}

/// Of runc and crun one is enough; crun refuses hosts with both cgroup versions.
fn program(needed: &Needed, facts: &Facts) -> Option<Finding> {
    let is_there = |name| facts.programs.contains(&name);
    let hybrid = facts.cgroups_hybrid == Some(true);
    let other_is_there = match needed.program {
        "runc" => is_there("crun") && !hybrid,
        "crun" => return is_there("crun").then(|| finding("crun", Verdict::Ok, true, "")),
        _ => false,
    };
    if other_is_there && !is_there(needed.program) {
        return None;
    }
    let remedy = format!("{}; install the package {}", needed.what_for, needed.packages);
    Some(finding(needed.program, Verdict::Missing, is_there(needed.program), &remedy))
}

fn cgroups(facts: &Facts) -> Vec<Finding> {
    let remedy = "mount cgroup2 at /sys/fs/cgroup";
    let mut findings =
        vec![finding("cgroups", Verdict::Missing, facts.cgroups_hybrid.is_some(), remedy)];
    if facts.cgroups_hybrid.is_some() {
        for (name, otherwise) in
            [("cpu", Verdict::Missing), ("memory", Verdict::Missing), ("pids", Verdict::Warning)]
        {
            let is_there = facts.controllers.iter().any(|controller| controller == name);
            let remedy = match name {
                "memory" => "boot with `cgroup_enable=memory cgroup_memory=1` (Raspberry Pi)",
                _ => "enable the controller in the kernel's configuration",
            };
            findings.push(finding(&format!("cgroup {name}"), otherwise, is_there, remedy));
        }
    }
    findings
}

fn gather(args: &Args) -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cgroups = Cgroups::detect().ok();
    let controllers = read("/proc/cgroups").lines().filter_map(enabled_controller).collect();
    let is_there = |needed: &&Needed| process::find(needed.program).is_some();
    Facts {
        is_root: nix::unistd::geteuid().is_root(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        programs: PROGRAMS.iter().filter(is_there).map(|needed| needed.program).collect(),
        filesystems: read("/proc/filesystems"),
        wireguard: (args.flannel_backend == BackendArg::WireguardNative)
            .then(|| Control::open().map(drop).map_err(|error| error.to_string())),
        cgroups_hybrid: cgroups.map(|cgroups| cgroups.is_hybrid()),
        controllers,
        free_bytes: free_bytes(&args.data.data_dir),
        port: args.https_listen_port,
        port_is_free: std::net::TcpListener::bind(("0.0.0.0", args.https_listen_port)).is_ok(),
    }
}

/// A line of `/proc/cgroups`: name, hierarchy, number of cgroups, enabled.
fn enabled_controller(line: &str) -> Option<String> {
    let mut columns = line.split_whitespace();
    let name = columns.next().filter(|name| !name.starts_with('#'))?;
    (columns.next_back() == Some("1")).then(|| name.to_owned())
}

/// Free space where the data directory is or will be.
fn free_bytes(data_dir: &Path) -> Option<u64> {
    let existing = data_dir.ancestors().find(|path| path.exists())?;
    let facts = rustix::fs::statvfs(existing).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            is_root: true,
            kernel: "6.1.0-18-amd64".to_owned(),
            programs: vec!["containerd-shim-runc-v2", "runc", "nft"],
            filesystems: "nodev\toverlay\n".to_owned(),
            wireguard: None,
            cgroups_hybrid: Some(false),
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
            free_bytes: Some(10 << 30),
            port: 6443,
            port_is_free: true,
        }
    }

    /// Everything that is not ok.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
        let mut facts = facts();
        change(&mut facts);
        let findings = judge(&facts);
        let complaints = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
        let complaints: Vec<_> = complaints.map(|finding| finding.what.as_str()).collect();
        assert_eq!(complaints, expected);
        assert!(findings.iter().all(|it| (it.verdict == Verdict::Ok) == it.remedy.is_empty()));
    }

    #[test]
    fn what_is_missing_is_said() {
        check(|_| {}, &[]);
        check(|facts| facts.is_root = false, &["root"]);
        check(|facts| facts.kernel = "5.4.0".to_owned(), &["kernel 5.4.0"]);
        check(|facts| facts.kernel = "unknown".to_owned(), &["kernel unknown"]);
        check(|facts| facts.programs.retain(|name| *name != "nft"), &["nft"]);
        check(|facts| facts.filesystems.clear(), &["overlayfs"]);
        check(|facts| facts.wireguard = Some(Ok(())), &[]);
        check(|facts| facts.wireguard = Some(Err("none".to_owned())), &["wireguard"]);
        check(|facts| facts.cgroups_hybrid = None, &["cgroups"]);
        check(|facts| facts.controllers.retain(|name| name != "memory"), &["cgroup memory"]);
        check(|facts| facts.free_bytes = Some(0), &["disk space"]);
        check(|facts| facts.port_is_free = false, &["port 6443"]);
    }

    #[test]
    fn one_oci_runtime_is_enough() {
        let crun_only = vec!["containerd-shim-runc-v2", "crun", "nft"];
        check(|facts| facts.programs.clone_from(&crun_only), &[]);
        let hybrid = |facts: &mut Facts| {
            facts.programs.clone_from(&crun_only);
            facts.cgroups_hybrid = Some(true);
        };
        check(hybrid, &["runc"]);
        check(|facts| facts.programs = vec!["containerd-shim-runc-v2", "nft"], &["runc"]);
    }
}
