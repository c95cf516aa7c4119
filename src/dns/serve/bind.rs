//! Sockets of one address.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, UdpSocket};

/// So much may wait while this process is busy elsewhere: some thousand questions. The kernel gives
/// less where it is set up so (`net.core.rmem_max`).
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// See [`bind`].
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Both sockets, whether the address is on an interface by now or will be.
pub(super) fn bind(address: SocketAddr) -> io::Result<Sockets> {
    let udp = socket(address, Type::DGRAM, Protocol::UDP)?;
    udp.set_recv_buffer_size(BUFFER_BYTES)?;
    udp.bind(&address.into())?;
    let tcp = socket(address, Type::STREAM, Protocol::TCP)?;
    tcp.set_reuse_address(true)?;
    // The same port for both, also where the kernel has chosen it.
    let chosen = udp.local_addr()?.as_socket().unwrap_or(address);
    tcp.bind(&chosen.into())?;
    tcp.listen(BACKLOG)?;
    let udp = UdpSocket::from_std(udp.into())?;
    Ok(Sockets { udp, tcp: TcpListener::from_std(tcp.into())? })
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    Ok(socket)
}
