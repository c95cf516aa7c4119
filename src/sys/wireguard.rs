//! WireGuard devices: their key, their port, and their peers (linux/wireguard.h).
//!
//! Start at [`Control`]. Spoken over generic netlink, so that no program is needed. Making a device,
//! its addresses and routes are as with any other. Everything here blocks for as long as the kernel
//! takes.

use super::netlink::{ACKNOWLEDGE, DUMP, NESTED, attribute, connect, find, message, read, values};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use rtnetlink::sys::{Socket, protocols::NETLINK_GENERIC};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

/// In bytes, of either half.
const KEY_BYTES: usize = 32;

/// Who tells the numbers of families (linux/genetlink.h), and what is asked and answered there.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// With a final zero byte, as all names.
const NAME: &[u8] = b"wireguard\0";

/// `enum wg_cmd`
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;

/// `enum wgdevice_attribute`
const DEVICE_INDEX: u16 = 1;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;

/// `enum wgpeer_attribute` and `enum wgpeer_flag`
const PEER_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_RANGES: u16 = 9;
const REMOVE: u32 = 1;
const REPLACE_RANGES: u32 = 2;

/// `enum wgallowedip_attribute`
const RANGE_FAMILY: u16 = 1;
const RANGE_ADDRESS: u16 = 2;
const RANGE_BITS: u16 = 3;

/// By what a peer is known. Everybody may see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; KEY_BYTES]);

/// Nobody may see it but the kernel.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub [u8; KEY_BYTES]);

/// Text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key is {KEY_BYTES} bytes in base64")]
pub struct BadKey;

/// Another end, as it is to be or as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it was last heard of, or was said to be.
    pub endpoint: Option<SocketAddr>,
    /// What is sent to it, and what it may send.
    pub ranges: BTreeSet<IpNet>,
    /// So often it is sent something where there is nothing to send. 0: never.
    pub keepalive_seconds: u16,
}

/// What the kernel says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub key: Option<PublicKey>,
    pub port: u16,
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// Why there can be no WireGuard here.
#[derive(Debug, thiserror::Error)]
pub enum UnusableWireGuard {
    #[error(
        "this kernel has no WireGuard: it takes Linux 5.6 or later with CONFIG_WIREGUARD, and where \
         that is a module that is not loaded by itself, `modprobe wireguard`"
    )]
    Missing,
    #[error("the kernel does not say whether it has WireGuard")]
    Broken(#[source] io::Error),
}

/// Speaks with the kernel about devices, each known by its index.
pub struct Control {
    socket: Socket,
    family: u16,
}

impl Control {
    /// Has the kernel load what it takes, where it is a module.
    ///
    /// # Errors
    /// Where the kernel has no WireGuard.
    pub fn open() -> Result<Self, UnusableWireGuard> {
        let asked = || {
            let socket = connect(NETLINK_GENERIC)?;
            let name = attribute(FAMILY_NAME, NAME);
            socket.send(&message(CONTROLLER, 0, [GET_FAMILY, 1, 0, 0], &name), 0)?;
            let mut family = None;
            read(&socket, |_, _, attributes| {
                let id = find(attributes, FAMILY_ID).and_then(|id| id.first_chunk());
                family = id.map(|id| u16::from_ne_bytes(*id));
            })?;
            let family = family.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
            Ok(Self { socket, family })
        };
        asked().map_err(|error: io::Error| match error.raw_os_error() {
            // The latter from kernels without generic netlink.
            Some(libc::ENOENT | libc::EPROTONOSUPPORT) => UnusableWireGuard::Missing,
            _ => UnusableWireGuard::Broken(error),
        })
    }

    /// What the kernel has.
    ///
    /// # Errors
    /// Where the device is gone or of another kind, or this process may not ask.
    pub fn device(&self, index: u32) -> io::Result<Device> {
        let mut device = Device::default();
        let index = attribute(DEVICE_INDEX, &index.to_ne_bytes());
        let request = message(self.family, DUMP, [GET_DEVICE, VERSION, 0, 0], &index);
        self.socket.send(&request, 0)?;
        while read(&self.socket, |_, _, attributes| device.take(attributes))? {}
        Ok(device)
    }

    /// Gives the device its key and its port, of UDP.
    ///
    /// # Errors
    /// Where the kernel refuses: the port is taken.
    pub fn identify(&self, index: u32, key: &PrivateKey, port: u16) -> io::Result<()> {
        let key = attribute(DEVICE_PRIVATE_KEY, &key.0);
        self.set(index, &[key, attribute(DEVICE_PORT, &port.to_ne_bytes())].concat())
    }

    /// Makes a peer what it is to be. Without an endpoint, that stays what it is.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set_peer(&self, index: u32, key: PublicKey, peer: &Peer) -> io::Result<()> {
        self.set(index, &set_peer(key, peer))
    }

    /// Takes a peer away. Succeeds where there is none.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn remove_peer(&self, index: u32, key: PublicKey) -> io::Result<()> {
        self.set(index, &one_peer(key, REMOVE, &[]))
    }

    fn set(&self, index: u32, attributes: &[u8]) -> io::Result<()> {
        let index = attribute(DEVICE_INDEX, &index.to_ne_bytes());
        let attributes = [&*index, attributes].concat();
        let header = [SET_DEVICE, VERSION, 0, 0];
        self.socket.send(&message(self.family, ACKNOWLEDGE, header, &attributes), 0)?;
        while read(&self.socket, |_, _, _| {})? {}
        Ok(())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Control").field("family", &self.family).finish_non_exhaustive()
    }
}

impl Device {
    /// Adds what one message says: of a device with many peers there are several, and a peer with many
    /// ranges goes on in the next.
    fn take(&mut self, attributes: &[u8]) {
        for (kind, value) in values(attributes) {
            match kind {
                DEVICE_PUBLIC_KEY => self.key = key_of(value),
                DEVICE_PORT => self.port = number(value),
                DEVICE_PEERS => values(value).for_each(|(_, peer)| self.take_peer(peer)),
                _ => {}
            }
        }
    }

    fn take_peer(&mut self, attributes: &[u8]) {
        let Some(key) = find(attributes, PEER_KEY).and_then(key_of) else { return };
        let none = Peer { endpoint: None, ranges: BTreeSet::new(), keepalive_seconds: 0 };
        let peer = self.peers.entry(key).or_insert(none);
        for (kind, value) in values(attributes) {
            match kind {
                PEER_ENDPOINT => peer.endpoint = endpoint_of(value),
                PEER_KEEPALIVE => peer.keepalive_seconds = number(value),
                PEER_RANGES => {
                    peer.ranges.extend(values(value).filter_map(|(_, range)| range_of(range)));
                }
                _ => {}
            }
        }
    }
}

fn set_peer(key: PublicKey, peer: &Peer) -> Vec<u8> {
    let mut facts = attribute(PEER_KEEPALIVE, &peer.keepalive_seconds.to_ne_bytes());
    if let Some(endpoint) = peer.endpoint {
        facts.extend(attribute(PEER_ENDPOINT, &socket_address(endpoint)));
    }
    let ranges: Vec<_> = peer.ranges.iter().flat_map(range).collect();
    facts.extend(attribute(PEER_RANGES | NESTED, &ranges));
    one_peer(key, REPLACE_RANGES, &facts)
}

fn one_peer(key: PublicKey, flags: u32, facts: &[u8]) -> Vec<u8> {
    let known_by = [attribute(PEER_KEY, &key.0), attribute(PEER_FLAGS, &flags.to_ne_bytes())];
    let peer = attribute(NESTED, &[&known_by.concat(), facts].concat());
    attribute(DEVICE_PEERS | NESTED, &peer)
}

fn range(range: &IpNet) -> Vec<u8> {
    let (family, address) = match range.addr() {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let facts = [
        attribute(RANGE_FAMILY, &family_number(family).to_ne_bytes()),
        attribute(RANGE_ADDRESS, &address),
        attribute(RANGE_BITS, &[range.prefix_len()]),
    ];
    attribute(NESTED, &facts.concat())
}

fn range_of(attributes: &[u8]) -> Option<IpNet> {
    let bits = *find(attributes, RANGE_BITS)?.first()?;
    let octets = find(attributes, RANGE_ADDRESS)?;
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()?;
    IpNet::new(address, bits).ok()
}

/// `struct sockaddr_in` or `struct sockaddr_in6`
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(address) => {
            let family = family_number(libc::AF_INET).to_ne_bytes();
            [&family[..], &port, &address.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(address) => {
            let family = family_number(libc::AF_INET6).to_ne_bytes();
            let scope = address.scope_id().to_ne_bytes();
            [&family[..], &port, &[0; 4], &address.ip().octets(), &scope].concat()
        }
    }
}

fn endpoint_of(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(number(bytes)) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
            Some(SocketAddr::new(address.into(), port))
        }
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(address, port, 0, scope).into())
        }
        _ => None,
    }
}

fn family_number(family: i32) -> u16 {
    u16::try_from(family).expect("the families have small numbers")
}

fn number(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |number| u16::from_ne_bytes(*number))
}

fn key_of(bytes: &[u8]) -> Option<PublicKey> {
    bytes.try_into().map(PublicKey).ok()
}

/// As `wg` shows it.
impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        bytes_of(text).map(Self)
    }
}

impl PrivateKey {
    /// As `wg genkey` writes it.
    #[must_use]
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKey")
    }
}

impl FromStr for PrivateKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        bytes_of(text).map(Self)
    }
}

fn bytes_of(text: &str) -> Result<[u8; KEY_BYTES], BadKey> {
    let bytes = STANDARD.decode(text).map_err(|_| BadKey)?;
    bytes.try_into().map_err(|_| BadKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::hex;

    fn peer(endpoint: &str, ranges: &[&str]) -> Peer {
        Peer {
            endpoint: Some(endpoint.parse().unwrap()),
            ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            keepalive_seconds: 25,
        }
    }

    #[test]
    fn what_is_said_of_a_peer_is_what_is_read() {
        let (one, two) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let of_v4 = peer("192.0.2.1:51820", &["10.42.1.0/24", "fd42:0:0:1::/64"]);
        let of_v6 = peer("[2001:db8::1]:51820", &[]);
        let mut device = Device::default();
        device.take(&[attribute(DEVICE_PUBLIC_KEY, &[7; 32]), set_peer(one, &of_v4)].concat());
        device.take(
            &[attribute(DEVICE_PORT, &51_820_u16.to_ne_bytes()), set_peer(two, &of_v6)].concat(),
        );
        assert_eq!((device.key, device.port), (Some(PublicKey([7; 32])), 51_820));
        assert_eq!(device.peers, BTreeMap::from([(one, of_v4.clone()), (two, of_v6)]));
        // A peer with many ranges goes on in the next message, without what was said before.
        let further = range(&"10.42.9.0/24".parse().unwrap());
        device.take(&one_peer(one, 0, &attribute(PEER_RANGES | NESTED, &further)));
        assert_eq!(device.peers[&one].endpoint, of_v4.endpoint);
        assert_eq!(device.peers[&one].ranges.len(), 3);
    }

    #[test]
    fn messages_are_as_the_kernel_takes_them() {
        let peer = peer("192.0.2.1:51820", &["10.42.1.0/24"]);
        let bytes = set_peer(PublicKey([0xaa; 32]), &peer);
        let expected = [
            // All peers, one of them.
            "70000880",
            "6c000080",
            &format!("24000100{}", "aa".repeat(32)),
            "0800030002000000",
            "0600050019000000",
            // 192.0.2.1:51820
            "140004000200ca6cc00002010000000000000000",
            // One range.
            "20000980",
            "1c000080",
            "0600010002000000",
            "080002000a2a0100",
            "0500030018000000",
        ];
        assert_eq!(hex(&bytes), expected.concat());
        let removed = one_peer(PublicKey([0xaa; 32]), REMOVE, &[]);
        let expected =
            ["34000880", "30000080", &format!("24000100{}", "aa".repeat(32)), "0800030001000000"];
        assert_eq!(hex(&removed), expected.concat());
    }

    #[test]
    fn bytes_that_make_no_sense_are_no_peer() {
        let whole = set_peer(PublicKey([1; 32]), &peer("[2001:db8::1]:51820", &["fd42::/64"]));
        for end in 0..whole.len() {
            let mut device = Device::default();
            device.take(&whole[..end]);
            assert_eq!(device.peers, BTreeMap::new());
        }
        assert_eq!(endpoint_of(&[2, 0, 1]), None);
        assert_eq!(range_of(&attribute(RANGE_BITS, &[33])), None);
    }

    #[test]
    fn keys_are_text_as_wg_has_it() {
        let text = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let key: PublicKey = text.parse().unwrap();
        assert_eq!((key, key.to_string()), (PublicKey([1; 32]), text.to_owned()));
        let private: PrivateKey = text.parse().unwrap();
        assert_eq!(private.to_text(), text);
        assert_eq!(format!("{private:?}"), "PrivateKey");
        assert_eq!("AQE=".parse::<PublicKey>(), Err(BadKey));
        assert_eq!("no key".parse::<PublicKey>(), Err(BadKey));
    }
}
