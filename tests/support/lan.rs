//! Several machines on one wire: a bridge in a network namespace of its own stands for the switch,
//! each machine is a namespace with an interface on it, and no way leads out.
//!
//! Start at [`Lan::new`] and [`Lan::plug`]. What happens to frames on the wire, [`Fault`] says: the
//! machines' interfaces stay up, as they do when a switch or a cable somewhere is at fault. A wire that
//! is long ([`Lan::lengthen`]) is carried frame by frame by threads, as few kernels have netem.

use kinglet::stdx::monotonic;
use kinglet::sys::namespace::{self, Kind};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SetSockOpt as _, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::{setsockopt_impl, sockopt_impl};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

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
    /// The namespaces of the machines, by name.
    machines: Mutex<BTreeMap<String, PathBuf>>,
    long: Mutex<BTreeMap<String, LongWire>>,
}

impl Lan {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: run `make test` as root");
        let directory = tempfile::Builder::new().prefix("kinglet-lan.").tempdir().unwrap();
        let lan = Self {
            directory,
            faults: Mutex::default(),
            machines: Mutex::default(),
            long: Mutex::default(),
        };
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
        self.machines.lock().unwrap().insert(name.to_owned(), machine.to_owned());
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
        self.limit(&port(name), rate);
    }

    fn limit(&self, interface: &str, rate: &str) {
        let words = ["qdisc", "replace", "dev", interface, "root", "tbf", "rate", rate];
        self.run("tc", &[&words[..], &["burst", "16kb", "latency", "200ms"]].concat());
    }

    /// From now on each frame of a machine, either way, takes so long, and so much (`1mbit`) passes at
    /// the most.
    pub fn lengthen(&self, name: &str, delay: Duration, rate: &str) {
        let [port, near, far] = ends(name);
        self.run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far]);
        self.run("ip", &["link", "set", &port, "nomaster"]);
        self.run("ip", &["link", "set", &far, "master", SWITCH]);
        for end in [&port, &near, &far] {
            // What is larger than a frame cannot be carried where it is in a tunnel.
            self.run("ip", &["link", "set", end, "gso_max_segs", "1", "up"]);
        }
        self.of_machine(name, &["gso_max_segs", "1"]);
        for end in [&port, &near] {
            self.limit(end, rate);
        }
        let wire =
            namespace::run_in_network(&self.namespace(), || LongWire::between(&port, &near, delay));
        self.long.lock().unwrap().insert(name.to_owned(), wire.unwrap());
    }

    /// The wire of a machine is short and fast again.
    pub fn shorten(&self, name: &str) {
        let Some(wire) = self.long.lock().unwrap().remove(name) else { return };
        drop(wire);
        let [port, near, _far] = ends(name);
        self.run("ip", &["link", "del", &near]);
        self.run("tc", &["qdisc", "del", "dev", &port, "root"]);
        self.run("ip", &["link", "set", &port, "master", SWITCH]);
    }

    fn of_machine(&self, name: &str, words: &[&str]) {
        let machine = self.machines.lock().unwrap()[name].clone();
        let inside = format!("--net={}", machine.display());
        run("nsenter", &[&[&*inside, "ip", "link", "set", "up0"], words].concat(), b"");
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let inside = format!("--net={}", self.namespace().display());
        run("nsenter", &[&[&*inside, program], arguments].concat(), b"");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.long.lock().unwrap().clear();
        // The interfaces go with the last namespace that has an end of them.
        namespace::unpin(&self.namespace()).ok();
    }
}

/// A wire whose frames are carried by hand.
#[derive(Debug)]
struct LongWire {
    is_cut: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

/// The largest frame of these machines, with what the kernel says about its checksum.
const FRAME_BYTES_MAX: usize = 70_000;

/// As in linux/if_packet.h.
const PACKET_VNET_HDR: i32 = 15;

sockopt_impl!(
    /// Checksums that the sender has left to the network card are left to it here, too.
    VnetHeader,
    SetOnly,
    libc::SOL_PACKET,
    PACKET_VNET_HDR,
    bool
);

sockopt_impl!(
    /// What goes out of an interface has not come from the wire.
    IgnoreOutgoing,
    SetOnly,
    libc::SOL_PACKET,
    libc::PACKET_IGNORE_OUTGOING,
    bool
);

impl LongWire {
    fn between(one: &str, other: &str, delay: Duration) -> Self {
        let is_cut = Arc::new(AtomicBool::new(false));
        let (one, other) = (Arc::new(listen_on(one)), Arc::new(listen_on(other)));
        let mut carriers = Vec::new();
        for (from, to) in [(&one, &other), (&other, &one)] {
            let (sender, receiver) = mpsc::channel();
            let (from, to, is_cut) = (Arc::clone(from), Arc::clone(to), Arc::clone(&is_cut));
            carriers.push(std::thread::spawn(move || {
                let mut frame = vec![0; FRAME_BYTES_MAX];
                while !is_cut.load(Ordering::Relaxed) {
                    if let Ok(length) = recv(from.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                        sender.send((monotonic() + delay, frame[..length].to_vec())).unwrap();
                    }
                }
            }));
            carriers.push(std::thread::spawn(move || {
                for (due, frame) in receiver {
                    std::thread::sleep(due.saturating_duration_since(monotonic()));
                    // Where the queue is full, the frame is lost, as on a wire.
                    send(to.as_raw_fd(), &frame, MsgFlags::empty()).ok();
                }
            }));
        }
        Self { is_cut, carriers }
    }
}

impl Drop for LongWire {
    fn drop(&mut self) {
        self.is_cut.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            carrier.join().ok();
        }
    }
}

/// A socket that has what comes in at an interface of this namespace.
fn listen_on(interface: &str) -> OwnedFd {
    let made =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = made.unwrap();
    VnetHeader.set(&socket, &true).unwrap();
    IgnoreOutgoing.set(&socket, &true).unwrap();
    ReceiveTimeout.set(&socket, &TimeVal::milliseconds(100)).unwrap();
    let addresses = getifaddrs().unwrap().filter(|it| it.interface_name == interface);
    let link = addresses.filter_map(|it| it.address?.as_link_addr().copied()).next();
    bind(socket.as_raw_fd(), &link.unwrap()).unwrap();
    socket
}

/// The switch's end of a machine's wire, and where that is long, the two of what is between.
fn ends(name: &str) -> [String; 3] {
    [port(name), format!("near-{name}"), format!("far-{name}")]
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
