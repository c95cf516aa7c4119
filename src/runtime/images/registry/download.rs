//! Layers: long streams that may break, and go on where they broke.

use super::super::manifest::Descriptor;
use super::Failure;
use super::session::{Patience, Remote, Session, ask_for_blob};
use crate::runtime::error::PullError;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use std::io;
use std::time::Duration;
use tokio::sync::mpsc;

/// A connection over which nothing comes for so long is given up.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is said of a connection that is given up.
pub(super) fn silence() -> io::Error {
    let seconds = SILENCE_MAX.as_secs();
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {seconds} s"))
}

/// How one stream ended well.
enum Streamed {
    Complete,
    /// Nobody takes the bytes any more.
    Unwanted,
}

impl Session {
    /// Sends the bytes of a blob from `from` on, in order and each once, to `sink`. Returns early
    /// when nobody takes them any more.
    pub(in super::super) async fn download(
        &self,
        blob: &Descriptor,
        from: u64,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<(), PullError> {
        let mut offset = from;
        let mut last = None;
        if offset >= blob.size {
            return Ok(());
        }
        for (index, remote) in self.in_order() {
            let mut patience = Patience::default();
            loop {
                let before = offset;
                let failure = match self.stream(remote, blob, &mut offset, sink).await {
                    Ok(Streamed::Complete | Streamed::Unwanted) => return Ok(()),
                    Err(failure) => failure,
                };
                if offset > before {
                    patience.renew();
                }
                match patience.wait(&failure, self.is_last(index)) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => {
                        last = Some(failure.error);
                        break;
                    }
                }
            }
        }
        Err(last.expect("a plan has at least one endpoint"))
    }

    /// One request for what is still missing.
    async fn stream(
        &self,
        remote: &Remote,
        blob: &Descriptor,
        offset: &mut u64,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<Streamed, Failure> {
        let mut ask = ask_for_blob(blob, "layer");
        ask.from = *offset;
        let response = self.ask(remote, &ask).await?;
        // A registry that does not know ranges sends everything: what is here already is skipped.
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                check_range(response.headers().get(header::CONTENT_RANGE), *offset)
                    .map_err(|why| PullError::Malformed { what: ask.what.clone(), why })?;
                0
            }
            _ => *offset,
        };
        let mut body = response.into_body();
        loop {
            let broken = |error: io::Error| Failure::from(remote.unreachable(error));
            let frame = match tokio::time::timeout(SILENCE_MAX, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(broken(io::Error::other(error))),
                Ok(None) if *offset == blob.size => return Ok(Streamed::Complete),
                Ok(None) => {
                    let (offset, size) = (*offset, blob.size);
                    let why = format!("{} ended at byte {offset} of {size}", ask.what);
                    return Err(broken(io::Error::other(why)));
                }
                Err(_elapsed) => return Err(broken(silence())),
            };
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            let skipped = skip.min(bytes.len() as u64);
            skip -= skipped;
            let bytes = bytes.split_off(usize::try_from(skipped).expect("at most its length"));
            if bytes.is_empty() {
                continue;
            }
            *offset += bytes.len() as u64;
            if *offset > blob.size {
                let why = format!("it is longer than the {} bytes it should have", blob.size);
                return Err(PullError::Malformed { what: ask.what, why }.into());
            }
            if sink.send(bytes).await.is_err() {
                return Ok(Streamed::Unwanted);
            }
        }
    }
}

/// `bytes 100-199/200`: the range has to begin where it was asked to.
fn check_range(value: Option<&http::HeaderValue>, offset: u64) -> Result<(), String> {
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = text.strip_prefix("bytes ").and_then(|range| range.split('-').next());
    if first.and_then(|first| first.parse().ok()) == Some(offset) {
        return Ok(());
    }
    Err(format!("asked for what follows byte {offset}, the registry sent `{text}`"))
}
