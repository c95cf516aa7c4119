//! Connections of clients: how they come, and what is done before anything is said on them.

use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// So much of what a client says in plain HTTP is read, and thrown away, so that it gets its answer:
/// a connection that is closed with something unread takes what is on its way to the other end along.
const PLAIN_BYTES_MAX: usize = 64 * 1024;

/// As Go's servers have it (net/http `conn.serve`, Go 1.25), and so upstream's.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

/// Listens at `address`, of which any address is one of both families, where the machine has both.
/// `backlog` connections may wait to be accepted; the kernel may allow fewer.
///
/// # Errors
/// Where somebody else has the port, or the machine not the address.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    if address.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        let of_both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        match listen_at(of_both, backlog) {
            // A kernel without IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
            listened => return listened,
        }
    }
    listen_at(address, backlog)
}

fn listen_at(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() && address.ip().is_unspecified() {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Sends what is written at once, and has a peer noticed that has vanished, also while nothing is
/// sent: after `silence_max` without a sign of it.
///
/// # Errors
/// Where the kernel does not know one of the options.
pub fn prepare(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(silence_max / 2)
        .with_interval(silence_max / 6)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(silence_max))
}

/// Waits for the client's first byte. One that speaks HTTP where TLS is wanted is told so.
///
/// # Errors
/// Where it does, or has gone.
pub async fn refuse_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    let mut first = [0];
    // A record of TLS begins with a number below 32, a request with the name of a method.
    if stream.peek(&mut first).await? == 0 || !first[0].is_ascii_uppercase() {
        return Ok(());
    }
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await?;
    let (mut buffer, mut thrown_away) = ([0; 1024], 0);
    while thrown_away < PLAIN_BYTES_MAX {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => thrown_away += count,
        }
    }
    Err(io::Error::other("the client speaks HTTP without TLS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client is answered that says `said`; nothing: it is let through.
    async fn check(said: &[u8], expected: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        client.write_all(said).await.unwrap();
        let serving = async {
            let refused = refuse_plain_http(&mut stream).await.map_err(|error| error.to_string());
            match expected {
                "" => assert_eq!(refused, Ok(())),
                _ => assert_eq!(refused.unwrap_err(), "the client speaks HTTP without TLS"),
            }
            drop(stream);
        };
        let mut answer = String::new();
        let reading = async {
            client.read_to_string(&mut answer).await.ok();
            drop(client);
        };
        tokio::join!(serving, reading);
        assert!(answer.starts_with(expected), "{answer}");
        assert_eq!(answer.is_empty(), expected.is_empty(), "{answer}");
    }

    #[tokio::test]
    async fn who_speaks_http_is_told_to_speak_tls() {
        check(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.0 400 Bad Request\r\n").await;
        check(&[b"PUT / HTTP/1.1\r\n\r\n", &[b'a'; 5_000][..]].concat(), "HTTP/1.0 400").await;
        check(&[22, 3, 1, 0, 5], "").await;
    }
}
