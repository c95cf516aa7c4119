//! The body of an answer on its way from an endpoint.

use super::endpoint::Endpoint;
use super::exchange::Exchange;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// See the module. What it comes on is kept when it is whole.
#[derive(Debug)]
pub(in crate::ingress) struct Answering {
    body: Incoming,
    /// `None`: somebody else drives the connection, or it has been kept or dropped.
    line: Option<Line>,
    /// How long the endpoint may say nothing.
    read: Duration,
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Line {
    exchange: Box<Exchange>,
    endpoint: Arc<Endpoint>,
    kept_for: Option<Duration>,
}

impl Answering {
    pub(in crate::ingress) fn new(body: Incoming, read: Duration) -> Self {
        Self { body, line: None, read, patience: None }
    }

    /// Drives the connection on which it comes.
    #[must_use]
    pub(in crate::ingress) fn on(
        mut self,
        exchange: Box<Exchange>,
        endpoint: Arc<Endpoint>,
        kept_for: Option<Duration>,
    ) -> Self {
        self.line = Some(Line { exchange, endpoint, kept_for });
        if self.body.is_end_stream() {
            self.hang_up();
        }
        self
    }

    /// Keeps the connection, where another request can be sent on it.
    fn hang_up(&mut self) {
        if let Some(Line { mut exchange, endpoint, kept_for }) = self.line.take()
            && exchange.is_free()
        {
            endpoint.keep(exchange, kept_for);
        }
    }

    fn poll_body(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &mut self.line {
            // Whoever waits for the body has asked for more of it now.
            Some(line) if polled.is_pending() => {
                line.exchange.drive(context);
                Pin::new(&mut self.body).poll_frame(context)
            }
            _ => polled,
        }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.poll_body(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.patience = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.line = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            Poll::Ready(None) => {
                self.hang_up();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let read = self.read;
                let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(read)));
                if patience.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.line = None;
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    /// Who knows the length does not ask whether there is more.
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.hang_up();
        }
    }
}
