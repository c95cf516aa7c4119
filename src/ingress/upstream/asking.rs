//! The body of a request on its way to an endpoint.

use super::super::limits::STREAM_SILENCE_MAX;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// Nothing, for most; or what the client sends, as it comes.
#[derive(Debug)]
pub(in crate::ingress) struct Asking(Option<Sent>);

#[derive(Debug)]
struct Sent {
    body: Incoming,
    progress: Arc<Progress>,
    /// How long the client may say nothing.
    silence_max: Duration,
    /// Runs while nothing comes.
    patience: Option<Pin<Box<Sleep>>>,
}

/// How far the endpoint has taken the request.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pieces: AtomicU32,
    is_whole: AtomicBool,
    /// The client has said nothing for too long: that nothing goes on is not the endpoint's fault.
    is_silent: AtomicBool,
    is_answered: AtomicBool,
}

impl Progress {
    pub(super) fn pieces(&self) -> u32 {
        self.pieces.load(Ordering::Relaxed)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::Relaxed)
    }

    /// The answer has begun: from now on client and endpoint may talk as slowly as they like.
    pub(super) fn answered(&self) {
        self.is_answered.store(true, Ordering::Relaxed);
    }
}

impl Asking {
    pub(in crate::ingress) fn nothing() -> Self {
        Self(None)
    }

    /// A client that says nothing for `silence_max` is given up.
    pub(in crate::ingress) fn new(body: Incoming, silence_max: Duration) -> Self {
        let has_some = !body.is_end_stream();
        let progress = Arc::default;
        Self(has_some.then(|| Sent { body, progress: progress(), silence_max, patience: None }))
    }

    pub(in crate::ingress) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `None` where there is nothing to send but the head.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|sent| Arc::clone(&sent.progress))
    }
}

impl Body for Asking {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.0 {
            Some(sent) => sent.poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|sent| sent.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |sent| sent.body.size_hint())
    }
}

impl Sent {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience = None;
                self.progress.pieces.fetch_add(1, Ordering::Relaxed);
                let is_whole = self.body.is_end_stream() || frame.is_trailers();
                self.progress.is_whole.fetch_or(is_whole, Ordering::Relaxed);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => {
                self.progress.is_whole.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let silence_max = self.silence_max;
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(silence_max)));
                if patience.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                if self.progress.is_answered.load(Ordering::Relaxed)
                    && self.silence_max < STREAM_SILENCE_MAX
                {
                    self.silence_max = STREAM_SILENCE_MAX;
                    self.patience = None;
                    return self.poll_frame(context);
                }
                self.progress.is_silent.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }
}
