//! The wire between machines that other tests stand on: it carries frames, and loses them when told.

use super::lan::{Fault, Lan};
use kinglet::sys::namespace::{self, Kind};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// On one machine a datagram takes no time. Long enough for a neighbour to be asked for, too.
const HEARD_WITHIN: Duration = Duration::from_millis(500);

fn machine(lan: &Lan, directory: &Path, name: &str, addresses: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let pins = [(Kind::Network, path.clone())];
    namespace::make_pinned(&pins, namespace::loopback_up).unwrap();
    lan.plug(name, &path, addresses);
    path
}

/// Whether a datagram from one machine to an address of another arrives.
pub fn is_heard(from: &Path, to: &Path, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let listener = namespace::run_in_network(to, || UdpSocket::bind(address).unwrap()).unwrap();
    listener.set_read_timeout(Some(HEARD_WITHIN)).unwrap();
    let sender = namespace::run_in_network(from, || UdpSocket::bind(unspecified).unwrap()).unwrap();
    sender.send_to(b"hello", address).unwrap();
    listener.recv(&mut [0; 16]).is_ok()
}

#[test]
fn machines_hear_each_other_as_the_wire_lets_them() {
    let directory = tempfile::tempdir().unwrap();
    let lan = Lan::new();
    let one = machine(&lan, directory.path(), "one", &["192.0.2.10/24", "fd00:2::10/64"]);
    let two = machine(&lan, directory.path(), "two", &["192.0.2.11/24", "fd00:2::11/64"]);
    let both =
        || (is_heard(&one, &two, "192.0.2.11:5000"), is_heard(&two, &one, "192.0.2.10:5000"));
    assert_eq!(both(), (true, true));
    assert!(is_heard(&one, &two, "[fd00:2::11]:5000"));
    for (fault, expected) in [
        (Fault::Cut, (false, false)),
        (Fault::Deaf, (false, true)),
        (Fault::Mute, (true, false)),
        (Fault::Loses(100), (false, false)),
        (Fault::Loses(0), (true, true)),
    ] {
        lan.disturb("two", fault);
        assert_eq!(both(), expected, "{fault:?}");
    }
    lan.disturb("two", None);
    assert_eq!(both(), (true, true));
    lan.slow("two", "1mbit");
    assert_eq!(both(), (true, true));
    for machine in [one, two] {
        namespace::unpin(&machine).unwrap();
    }
}
