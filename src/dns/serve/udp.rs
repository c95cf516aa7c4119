//! Questions by datagram.

use super::QUESTION_BYTES_MAX;
use crate::dns::message::Transport;
use crate::dns::resolver::{Resolver, Response};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tracing::debug;

/// So many questions are answered before others in this process have their turn.
const TURN_QUESTIONS: usize = 64;

/// Answers what comes in.
pub(in crate::dns) async fn serve(socket: Arc<UdpSocket>, resolver: &Arc<Resolver>) {
    let mut buffer = vec![0; QUESTION_BYTES_MAX];
    loop {
        if let Err(error) = socket.readable().await {
            debug!(%error, "a socket cannot be waited for");
        }
        for _ in 0..TURN_QUESTIONS {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, client)) => answer(&socket, resolver, &buffer[..length], client),
                // Nothing more, or what an earlier answer has met on its way.
                Err(_) => break,
            }
        }
        tokio::task::yield_now().await;
    }
}

fn answer(socket: &Arc<UdpSocket>, resolver: &Arc<Resolver>, question: &[u8], client: SocketAddr) {
    match resolver.respond(question, Transport::Udp, client.ip()) {
        Some(Response::Now(answer)) => send(socket, &answer, client),
        Some(Response::Later(answer)) => {
            let socket = Arc::clone(socket);
            resolver.spawn(async move { send(&socket, &answer.await, client) });
        }
        None => {}
    }
}

/// An answer that cannot be sent at once is lost, as any datagram may be; who asked asks again.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, client) {
        debug!(%error, %client, "an answer is lost");
    }
}
