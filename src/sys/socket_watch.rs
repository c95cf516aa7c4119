//! Waking up when a socket of this network namespace is gone: sock_diag(7).
//!
//! The kernel says so of every socket for TCP and UDP, so the watch is opened only while somebody waits
//! for a port.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `SKNLGRP_INET_TCP_DESTROY`, `SKNLGRP_INET_UDP_DESTROY` and the same of `INET6` (linux/sock_diag.h),
/// as bits.
const GROUPS: u32 = 0b1111;

/// Where a message says which port its socket had: after the header of the message, and after family,
/// state, timer and retransmissions (`struct inet_diag_msg`, linux/inet_diag.h).
const PORT_OFFSET: usize = size_of::<libc::nlmsghdr>() + 4;

/// A message of the kernel is no longer.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub struct SocketWatch(AsyncFd<OwnedFd>);

impl SocketWatch {
    /// # Errors
    /// Where the kernel does not tell.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes three numbers and no memory.
        #[expect(unsafe_code, reason = "no crate here has this protocol")]
        let made = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else has it.
        #[expect(unsafe_code, reason = "a number becomes a descriptor that is owned")]
        let socket = unsafe { OwnedFd::from_raw_fd(made) };
        bind(&socket)?;
        // SAFETY: the descriptor was just opened and is owned by the `AsyncFd` from here on, which
        // gives it away to nobody who could close or replace it.
        #[expect(unsafe_code, reason = "the reactor relies on the descriptor staying open")]
        let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Waits until a socket with one of these local ports is gone. When sockets go faster than
    /// they are told, one of them may have been.
    ///
    /// # Errors
    /// Where the kernel does not tell any more.
    pub async fn gone(&self, ports: &[u16]) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(port))) if ports.contains(&port) => return Ok(()),
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(Err(error)) => return Err(error),
            }
        }
    }
}

fn bind(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: the type is plain numbers, of which zero is one.
    #[expect(unsafe_code, reason = "the type has fields that cannot be named")]
    let mut address: libc::sockaddr_nl = unsafe { zeroed() };
    address.nl_family = u16::try_from(libc::AF_NETLINK).expect("a small constant");
    address.nl_groups = GROUPS;
    let length = u32::try_from(size_of::<libc::sockaddr_nl>()).expect("a small size");
    // SAFETY: the pointer is to an address of this length, which outlives the call.
    #[expect(unsafe_code, reason = "no crate here has this kind of address")]
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The local port of the next socket that is gone; `None` where some were not told.
fn receive(socket: &OwnedFd) -> io::Result<Option<u16>> {
    let mut message = [0_u8; MESSAGE_BYTES_MAX];
    match rustix::io::read(socket, &mut message) {
        Ok(length) => {
            let port = message[..length].get(PORT_OFFSET..PORT_OFFSET + 2);
            Ok(port.map(|port| u16::from_be_bytes([port[0], port[1]])))
        }
        Err(rustix::io::Errno::NOBUFS) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_of_a_socket_is_told() {
        let watch = SocketWatch::open().unwrap();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            is_told(&watch, listener, port).await;
            let socket = UdpSocket::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            is_told(&watch, socket, port).await;
        }
    }

    async fn is_told<T>(watch: &SocketWatch, socket: T, port: u16) {
        let ports = [port];
        let gone = watch.gone(&ports);
        tokio::pin!(gone);
        let early = tokio::time::timeout(Duration::from_millis(20), gone.as_mut()).await;
        assert!(early.is_err(), "{port} is not gone yet");
        drop(socket);
        let told = tokio::time::timeout(Duration::from_secs(10), gone).await;
        told.expect("the kernel tells at once").unwrap();
    }
}
