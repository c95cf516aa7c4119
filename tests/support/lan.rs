//! Several machines on one wire: a bridge in a network namespace of its own stands for the switch,
//! each machine is a namespace with an interface on it, and no way leads out.
//!
//! Start at [`Lan::new`] and [`Lan::plug`]. What happens to frames on the wire, [`Fault`] says: the
//! machines' interfaces stay up, as they do when a switch or a cable somewhere is at fault.

use kinglet::sys::namespace::{self, Kind};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The bridge.
const SWITCH: &str = "switch0";

/// What is wrong with the wire of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes.
    Cut,
    /// The machine is heard and hears nothing.
    Deaf,
    /// The machine hears and is not heard.
    Mute,
    /// So many of a hundred frames are lost, either way.
    Loses(u8),
}

/// See the module.
#[derive(Debug)]
pub struct Lan {
    directory: tempfile::TempDir,
    faults: Mutex<BTreeMap<String, Fault>>,
}

impl Lan {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: run `make test` as root");
        let directory = tempfile::Builder::new().prefix("kinglet-lan.").tempdir().unwrap();
        let lan = Self { directory, faults: Mutex::default() };
        namespace::make_pinned(&[(Kind::Network, lan.namespace())], || Ok(())).unwrap();
        lan.run("ip", &["link", "add", SWITCH, "up", "type", "bridge"]);
        lan
    }

    fn namespace(&self) -> PathBuf {
        self.directory.path().join("switch")
    }

    /// Gives the machine behind the namespace `machine` the interface `up0`, with `addresses` such as
    /// `192.0.2.10/24`. `name`, which is the machine's on this wire, has ten bytes at most.
    pub fn plug(&self, name: &str, machine: &Path, addresses: &[&str]) {
        let port = port(name);
        let inside = format!("--net={}", machine.display());
        let file = std::fs::File::open(machine).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let target = format!("/proc/{}/fd/{fd}", std::process::id());
        self.run(
            "ip",
            &["link", "add", &port, "type", "veth", "peer", "name", "up0", "netns", &target],
        );
        self.run("ip", &["link", "set", &port, "master", SWITCH, "up"]);
        for address in addresses {
            // No time is spent on asking whether somebody else has it.
            let words = ["ip", "addr", "add", address, "dev", "up0"];
            let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            run("nsenter", &[&[&*inside], &words[..], nodad].concat(), b"");
        }
        run("nsenter", &[&*inside, "ip", "link", "set", "up0", "up"], b"");
    }

    /// The wire of a machine has this fault from now on, or none.
    pub fn disturb(&self, name: &str, fault: impl Into<Option<Fault>>) {
        let mut faults = self.faults.lock().unwrap();
        match fault.into() {
            Some(fault) => faults.insert(port(name), fault),
            None => faults.remove(&port(name)),
        };
        let rules: String = faults.iter().map(|(port, fault)| rules(port, *fault)).collect();
        let script = format!(
            "table bridge faults {{}}\ndelete table bridge faults\ntable bridge faults {{\n\
             chain wire {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n"
        );
        let inside = format!("--net={}", self.namespace().display());
        run("nsenter", &[&*inside, "nft", "-f", "-"], script.as_bytes());
    }

    /// What the machine hears comes no faster than this from now on (`1mbit`).
    pub fn slow(&self, name: &str, rate: &str) {
        let words = ["qdisc", "replace", "dev", &*port(name), "root", "tbf", "rate", rate];
        self.run("tc", &[&words[..], &["burst", "16kb", "latency", "200ms"]].concat());
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let inside = format!("--net={}", self.namespace().display());
        run("nsenter", &[&[&*inside, program], arguments].concat(), b"");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // The interfaces go with the last namespace that has an end of them.
        namespace::unpin(&self.namespace()).ok();
    }
}

fn port(name: &str) -> String {
    format!("port-{name}")
}

fn rules(port: &str, fault: Fault) -> String {
    let from = format!("iifname \"{port}\"");
    let to = format!("oifname \"{port}\"");
    match fault {
        Fault::Cut => format!("{from} drop\n{to} drop\n"),
        Fault::Deaf => format!("{to} drop\n"),
        Fault::Mute => format!("{from} drop\n"),
        // No lot is drawn where it is known how it falls: nft refuses those.
        Fault::Loses(0) => String::new(),
        Fault::Loses(100..) => format!("{from} drop\n{to} drop\n"),
        Fault::Loses(percent) => {
            let lot = format!("numgen random mod 100 < {percent} drop\n");
            format!("{from} {lot}{to} {lot}")
        }
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str], input: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "tests run programs without a runtime")]
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{program} {arguments:?}: {said}");
}
