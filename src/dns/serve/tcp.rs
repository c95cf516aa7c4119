//! Questions by stream: each, and each answer, with its length before it (RFC 7766).

use super::QUESTION_BYTES_MAX;
use crate::dns::guests::Guests;
use crate::dns::message::Transport;
use crate::dns::resolver::{Resolver, Response};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::debug;

/// Further connections are closed at once.
pub(in crate::dns) const CONNECTIONS_MAX: usize = 256;

/// Nobody has more connections than this.
pub(in crate::dns) const CONNECTIONS_OF_ONE_MAX: usize = 32;

/// A client that says nothing for so long, or does not finish what it says, is done.
const IDLE: Duration = Duration::from_secs(10);

/// When no connection can be accepted, for want of files, one may be after this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes in.
pub(in crate::dns) async fn serve(listener: TcpListener, resolver: &Arc<Resolver>) {
    let guests = Guests::new(CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX);
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = guests.seat(client.ip()) else { continue };
        let own = Arc::clone(resolver);
        resolver.spawn(async move {
            let _seat = seat;
            if let Err(error) = converse(stream, client.ip(), &own).await {
                debug!(%error, %client, "a connection ends");
            }
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    client: IpAddr,
    resolver: &Arc<Resolver>,
) -> io::Result<()> {
    let mut question = Vec::new();
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        if usize::from(length) > QUESTION_BYTES_MAX {
            return Ok(());
        }
        question.resize(length.into(), 0);
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let answer = match resolver.respond(&question, Transport::Tcp, client) {
            Some(Response::Now(answer)) => answer,
            Some(Response::Later(answer)) => answer.await,
            // Whoever says such things is no client.
            None => return Ok(()),
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}
