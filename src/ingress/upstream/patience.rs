//! How long an endpoint is waited for.

use super::super::limits::{ANSWER_TIMEOUT, STREAM_SILENCE_MAX};
use super::super::model::{Protocol, Timeouts};
use super::asking::Progress;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::timeout;

/// How long an endpoint, and a client that owes the rest of a request, may say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingress) struct Patience {
    /// Until the answer begins, when the request is whole.
    pub(in crate::ingress) read: Duration,
    /// Between two parts of the request.
    pub(in crate::ingress) send: Duration,
    /// Between two parts of the answer.
    pub(in crate::ingress) stream: Duration,
}

impl Patience {
    pub(in crate::ingress) fn new(timeouts: Timeouts, protocol: Protocol) -> Self {
        let usual = if protocol.is_http2() { STREAM_SILENCE_MAX } else { ANSWER_TIMEOUT };
        Self {
            read: timeouts.read.unwrap_or(usual),
            send: timeouts.send.unwrap_or(usual),
            stream: timeouts.read.unwrap_or(STREAM_SILENCE_MAX),
        }
    }
}

/// Waits for an answer to begin; `None` where that takes too long. As long as the request goes on,
/// there is none to be had.
pub(super) async fn until_answered<F: Future>(
    mut answered: Pin<&mut F>,
    progress: Option<&Progress>,
    patience: Patience,
) -> Option<F::Output> {
    let sent = || progress.map_or((0, true), |it| (it.pieces(), it.is_whole()));
    loop {
        let before = sent();
        let wait = if before.1 { patience.read } else { patience.send };
        match timeout(wait, answered.as_mut()).await {
            Ok(output) => {
                progress.inspect(|progress| progress.answered());
                return Some(output);
            }
            Err(_elapsed) if sent() != before => {}
            Err(_elapsed) => return None,
        }
    }
}
