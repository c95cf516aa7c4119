//! Packets that belong to no connection, and connections of which one side has said all it has to say.

use crate::rig::{Endpoint, From, Pod, on_a_node};
use kinglet::sys::namespace;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const SERVICE: &str = "10.43.0.20:80";
const ACK: u8 = 0x10;
const IP_HEADER_BYTES: usize = 20;

#[test]
fn a_packet_out_of_its_window_ends_no_connection() {
    on_a_node(async |node| {
        let (server, client) = (node.add_pod("a").await, node.add_pod("client").await);
        node.put_service("web", json!({})).await;
        node.put_endpoints("web", &[&Endpoint::of(&server)]).await;
        let said = format!("a {}", client.addresses[0]);
        node.expect(From::Pod(&client), SERVICE, &said).await;
        let wire = wire(&server);
        let service: SocketAddr = SERVICE.parse().unwrap();
        let connect = move || TcpStream::connect(service).unwrap();
        let mut stream = namespace::run_in_network(&client.namespace, connect).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut greeting = vec![0; said.len() + 1];
        stream.read_exact(&mut greeting).unwrap();
        // The kernel would pass it on as it is: to the client, from a pod that it does not know.
        let heard = acknowledgement(&wire, stream.local_addr().unwrap().port());
        let stray = heard.answer_beyond_the_window(ipv4(&server), ipv4(&client));
        let to: SocketAddr = (ipv4(&client), 0).into();
        assert_eq!(wire.send_to(&stray, &to.into()).unwrap(), stray.len());
        for word in [b"1", b"2"] {
            stream.write_all(word).unwrap();
            let mut echo = [0];
            stream.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, word);
        }
    });
}

#[test]
fn who_has_said_all_may_wait_an_hour_for_the_answer() {
    on_a_node(async |node| {
        let setting = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
        crate::support::eventually("half closed connections are remembered", async || {
            (std::fs::read_to_string(setting).ok()?.trim() == "3600").then_some(())
        })
        .await;
        drop(node);
    });
}

fn ipv4(pod: &Pod) -> Ipv4Addr {
    match pod.addresses[0] {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is none of IPv4"),
    }
}

/// What a pod's kernel hears of TCP, and a way past it.
fn wire(pod: &Pod) -> Socket {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
    let socket = namespace::run_in_network(&pod.namespace, open).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Of a segment from a client.
#[derive(Clone, Copy, Debug)]
struct Heard {
    port: u16,
    sequence: u32,
    acknowledged: u32,
}

/// The first acknowledgement that came from this port.
fn acknowledgement(mut wire: &Socket, port: u16) -> Heard {
    loop {
        let mut packet = [0; 128];
        let count = wire.read(&mut packet).unwrap();
        let segment = &packet[IP_HEADER_BYTES..count];
        let number = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().unwrap());
        if segment[..2] == port.to_be_bytes() && segment[13] & ACK != 0 {
            return Heard { port, sequence: number(4), acknowledged: number(8) };
        }
    }
}

impl Heard {
    /// A segment that nobody waits for. Who does not know the connection says so to whoever sent it,
    /// in words that the connection believes: upstream `regression-issue-74839` (test/images, v1.35).
    fn answer_beyond_the_window(self, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
        let sequence = self.acknowledged.wrapping_add(1 << 30);
        let mut segment = Vec::new();
        segment.extend(80_u16.to_be_bytes());
        segment.extend(self.port.to_be_bytes());
        segment.extend(sequence.to_be_bytes());
        segment.extend(self.sequence.to_be_bytes());
        // Five words of header; a window; no sum yet; nothing urgent.
        segment.extend([0x50, ACK, 0x20, 0, 0, 0, 0, 0]);
        let length = u16::try_from(segment.len()).unwrap().to_be_bytes();
        let pseudo = [&from.octets()[..], &to.octets(), &[0, 6], &length].concat();
        let words = [pseudo, segment.clone()].concat();
        let sum: u32 =
            words.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
        segment[16..18].copy_from_slice(&(!folded).to_be_bytes());
        segment
    }
}
