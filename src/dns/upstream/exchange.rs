//! One question to one server.

use crate::dns::message::{self, AskFlags, Response};
use crate::dns::routes::AskBy;
use hickory_proto::op::{Message, Query};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// A longer datagram is none that was asked for.
const DATAGRAM_BUFFER_BYTES: usize = 4_096;

/// Asks by datagram, and by TCP where the answer does not fit in one.
pub(super) async fn exchange(
    server: SocketAddr,
    question: (u16, &Query, AskFlags),
    by: AskBy,
) -> io::Result<Box<Message>> {
    let (id, query, flags) = question;
    let request = message::ask(id, query, flags).ok_or(io::ErrorKind::InvalidInput)?;
    if by == AskBy::Udp
        && let Response::Whole(message) = by_datagram(server, &request, (id, query)).await?
    {
        return Ok(message);
    }
    by_stream(server, &request, (id, query)).await
}

/// What is no answer to the question is not listened to: whoever guesses must guess port and id.
async fn by_datagram(
    server: SocketAddr,
    request: &[u8],
    (id, query): (u16, &Query),
) -> io::Result<Response> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(request).await?;
    let mut buffer = vec![0; DATAGRAM_BUFFER_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(response) = message::read_response(&buffer[..length], id, query) {
            return Ok(response);
        }
    }
}

async fn by_stream(
    server: SocketAddr,
    request: &[u8],
    (id, query): (u16, &Query),
) -> io::Result<Box<Message>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(request);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut response = vec![0; length.into()];
    stream.read_exact(&mut response).await?;
    match message::read_response(&response, id, query) {
        Some(Response::Whole(message)) => Ok(message),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
