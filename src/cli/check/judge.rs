//! Decides what a host lacks. Pure: the same facts give the same findings.
//!
//! Start at [`judge`].

use super::features::{FEATURES, Presence};
use jiff::Timestamp;

/// The oldest kernel with all that kinglet uses (cgroup.kill, openat2, mount_setattr).
const KERNEL_MIN: (u32, u32) = (5, 14);

/// With less there is no room for images.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// On these file systems overlayfs cannot keep what containers write.
const UNFIT_FILE_SYSTEMS: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "ntfs3", "overlay", "9p"];

/// What was found on the host.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) is_root: bool,
    pub(super) kernel: String,
    /// Names of [`PROGRAMS`] that are there.
    pub(super) programs: Vec<&'static str>,
    /// How it is with each of [`FEATURES`].
    pub(super) features: Vec<Presence>,
    /// What there is of WireGuard, where it is asked for.
    pub(super) wireguard: Option<Result<(), String>>,
    /// `None` where no cgroups are mounted.
    pub(super) cgroups_hybrid: Option<bool>,
    pub(super) controllers: Vec<String>,
    /// Whether settings of the kernel can be changed, as in no container.
    pub(super) sysctls_are_writable: bool,
    pub(super) free_bytes: Option<u64>,
    /// Of the data directory.
    pub(super) file_system: Option<String>,
    pub(super) now: Timestamp,
    /// When this executable was put where it is.
    pub(super) installed: Option<Timestamp>,
    /// Whether kinglet runs already, on this data directory.
    pub(super) is_running: bool,
    pub(super) ports: Vec<Port>,
    /// Of those in [`CONFLICTS`], who is here.
    pub(super) conflicts: Vec<&'static str>,
}

/// Something that listens.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) protocol: &'static str,
    pub(super) what_for: &'static str,
    /// What chooses another one.
    pub(super) flag: &'static str,
    pub(super) is_free: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Missing,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) verdict: Verdict,
    pub(super) remedy: String,
    /// What brings it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packages: Option<Packages>,
}

/// A package, as distributions call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Packages {
    pub(super) debian: &'static str,
    pub(super) alpine: &'static str,
    pub(super) fedora: &'static str,
}

impl Packages {
    const fn named(name: &'static str) -> Self {
        Self { debian: name, alpine: name, fedora: name }
    }
}

/// A program that kinglet runs, and the packages that bring it.
pub(super) struct Needed {
    pub(super) program: &'static str,
    what_for: &'static str,
    packages: Packages,
}

pub(super) const PROGRAMS: [Needed; 4] = [
    Needed {
        program: "containerd-shim-runc-v2",
        what_for: "keeps containers",
        packages: Packages::named("containerd"),
    },
    Needed { program: "runc", what_for: "makes containers", packages: Packages::named("runc") },
    Needed { program: "crun", what_for: "makes containers", packages: Packages::named("crun") },
    Needed {
        program: "nft",
        what_for: "applies network rules",
        packages: Packages::named("nftables"),
    },
];

/// What else may be on a host that wants the same ports, interfaces or rules, by the name of its process,
/// and what to do.
pub(super) const CONFLICTS: [(&str, &str); 9] = [
    ("k3s", "it is a node of another cluster: stop it first (k3s-killall.sh)"),
    ("k3s-server", "it is a node of another cluster: stop it first (k3s-killall.sh)"),
    ("k3s-agent", "it is a node of another cluster: stop it first (k3s-killall.sh)"),
    ("k0s", "it is a node of another cluster: stop it first (`k0s stop`)"),
    ("kubelite", "it is a node of another cluster: stop it first (`microk8s stop`)"),
    ("kubelet", "it is a node of another cluster: stop it first (`systemctl stop kubelet`)"),
    ("containerd's CRI", "it has pods, of another kubelet: remove these first (`crictl rmp -fa`)"),
    (
        "firewalld",
        "it drops what pods send unless it knows them: `firewall-cmd --permanent --zone=trusted \
         --add-source=10.42.0.0/16 --add-source=10.43.0.0/16`, the same with --add-port=6443/tcp for the \
         zone of other nodes, and `firewall-cmd --reload`",
    ),
    (
        "ufw",
        "it drops what pods send unless it knows them: `ufw allow 6443/tcp`, `ufw allow from 10.42.0.0/16`, \
         `ufw allow from 10.43.0.0/16` and `ufw route allow from 10.42.0.0/16`",
    ),
];

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        finding("root", Verdict::Missing, facts.is_root, "run kinglet as root"),
        kernel(&facts.kernel),
    ];
    findings.extend(PROGRAMS.iter().filter_map(|needed| program(needed, facts)));
    let features = FEATURES.iter().zip(&facts.features);
    findings.extend(features.filter_map(|(feature, presence)| match presence {
        Presence::Unknown => None,
        Presence::There => Some(finding(feature.name, Verdict::Missing, true, "")),
        Presence::Absent => {
            let remedy = format!(
                "{}; `modprobe {}`, or a kernel with {}",
                feature.what_for, feature.module, feature.option
            );
            let verdict = if feature.is_vital { Verdict::Missing } else { Verdict::Warning };
            Some(finding(feature.name, verdict, false, &remedy))
        }
    }));
    findings.extend(facts.wireguard.as_ref().map(|there| {
        let why = there.as_ref().err();
        let remedy = why.map(|why| format!("{why}; or another --flannel-backend: vxlan, host-gw"));
        finding("wireguard", Verdict::Missing, why.is_none(), &remedy.unwrap_or_default())
    }));
    findings.extend(cgroups(facts));
    let remedy = "/proc/sys cannot be written to: this is a container that is not privileged";
    findings.push(finding("sysctls", Verdict::Missing, facts.sysctls_are_writable, remedy));
    findings.extend(disk(facts));
    findings.push(clock(facts));
    findings.extend(ports(facts));
    findings.extend(CONFLICTS.iter().filter(|(name, _)| facts.conflicts.contains(name)).map(
        |(name, remedy)| finding(&format!("{name} is here"), Verdict::Warning, false, remedy),
    ));
    findings
}

fn finding(what: &str, otherwise: Verdict, is_ok: bool, remedy: &str) -> Finding {
    let verdict = if is_ok { Verdict::Ok } else { otherwise };
    let remedy = if is_ok { String::new() } else { remedy.to_owned() };
    Finding { what: what.to_owned(), verdict, remedy, packages: None }
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
    let found =
        finding(needed.program, Verdict::Missing, is_there(needed.program), needed.what_for);
    Some(Finding { packages: Some(needed.packages), ..found })
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

fn disk(facts: &Facts) -> [Finding; 2] {
    let enough = facts.free_bytes.is_none_or(|free| free >= FREE_BYTES_MIN);
    let remedy = "less than 1 GiB is free in the data directory; images need room";
    let kind = facts.file_system.as_deref();
    let unfit = kind.filter(|kind| UNFIT_FILE_SYSTEMS.contains(kind));
    let why = format!(
        "it is on {}, on which containers may not be able to write; --data-dir chooses another place",
        unfit.unwrap_or_default()
    );
    [
        finding("disk space", Verdict::Warning, enough, remedy),
        finding("data directory", Verdict::Warning, unfit.is_none(), &why),
    ]
}

/// A machine without a battery begins in 1970, and certificates of then are of no use now.
fn clock(facts: &Facts) -> Finding {
    let is_plausible = facts.installed.is_none_or(|installed| installed <= facts.now);
    let remedy = format!(
        "it says {}, which is before kinglet was installed; set it, or have it set (chrony, \
         systemd-timesyncd)",
        facts.now.strftime("%Y-%m-%d %H:%M")
    );
    finding("clock", Verdict::Warning, is_plausible, &remedy)
}

fn ports(facts: &Facts) -> Vec<Finding> {
    if facts.is_running {
        return vec![finding("ports, which kinglet has: it runs", Verdict::Ok, true, "")];
    }
    let finding = |port: &Port| {
        let Port { number, protocol, what_for, flag, is_free } = port;
        let remedy = format!(
            "another program listens there (`ss -lnp sport = :{number}`), and it is for {what_for}; stop \
             that, or choose another by {flag}"
        );
        finding(&format!("port {number}/{protocol}"), Verdict::Warning, *is_free, &remedy)
    };
    facts.ports.iter().map(finding).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of a host that has everything.
    pub(in super::super) fn facts() -> Facts {
        let port = |number, protocol| Port {
            number,
            protocol,
            what_for: "something",
            flag: "--some-port",
            is_free: true,
        };
        Facts {
            is_root: true,
            kernel: "6.1.0-18-amd64".to_owned(),
            programs: vec!["containerd-shim-runc-v2", "runc", "nft"],
            features: vec![Presence::There; FEATURES.len()],
            wireguard: None,
            cgroups_hybrid: Some(false),
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
            sysctls_are_writable: true,
            free_bytes: Some(10 << 30),
            file_system: Some("ext4".to_owned()),
            now: "2026-11-22T18:00:00Z".parse().unwrap(),
            installed: Some("2026-11-01T00:00:00Z".parse().unwrap()),
            is_running: false,
            ports: vec![port(6443, "tcp"), port(8472, "udp")],
            conflicts: Vec::new(),
        }
    }

    /// Of one without any program.
    pub(in super::super) fn bare() -> Facts {
        Facts { programs: Vec::new(), ..facts() }
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
        check(|facts| facts.features[0] = Presence::Absent, &["overlayfs"]);
        check(|facts| facts.features[0] = Presence::Unknown, &[]);
        check(|facts| facts.wireguard = Some(Ok(())), &[]);
        check(|facts| facts.wireguard = Some(Err("none".to_owned())), &["wireguard"]);
        check(|facts| facts.cgroups_hybrid = None, &["cgroups"]);
        check(|facts| facts.controllers.retain(|name| name != "memory"), &["cgroup memory"]);
        check(|facts| facts.sysctls_are_writable = false, &["sysctls"]);
        check(|facts| facts.free_bytes = Some(0), &["disk space"]);
        check(|facts| facts.file_system = Some("nfs4".to_owned()), &["data directory"]);
        check(|facts| facts.now = Timestamp::UNIX_EPOCH, &["clock"]);
        check(|facts| facts.installed = None, &[]);
    }

    #[test]
    fn ports_are_taken_by_others_and_not_by_kinglet() {
        check(|facts| facts.ports[1].is_free = false, &["port 8472/udp"]);
        let own = |facts: &mut Facts| {
            facts.ports[0].is_free = false;
            facts.is_running = true;
        };
        check(own, &[]);
    }

    #[test]
    fn others_who_want_the_same_are_named() {
        check(|facts| facts.conflicts = vec!["ufw", "k3s"], &["k3s is here", "ufw is here"]);
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
