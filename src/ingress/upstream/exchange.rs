//! One HTTP/1 connection to an endpoint, driven by whoever uses it.
//!
//! There is no task behind a connection: the future that waits for an answer, and then the answer's
//! body, do the reading and writing. So a request costs no switch between tasks, and who drops it has
//! ended it, at the endpoint too. A connection that nobody uses lies still; whether the endpoint has
//! closed it is seen when somebody takes it up again.

use super::super::limits::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::asking::{Asking, Progress};
use super::patience::{Patience, until_answered};
use super::stream::Stream;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// See the module.
pub(in crate::ingress) struct Exchange {
    sender: SendRequest<Asking>,
    /// `None` when it is over.
    connection: Option<Connection<TokioIo<Stream>, Asking>>,
    has_ended: bool,
    is_used: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::ingress) enum NoAnswer {
    /// The connection was closed before anything of the request was sent.
    #[error("the endpoint closed the connection")]
    NotSent(Box<Request<Asking>>),
    #[error("the connection broke before there was an answer")]
    Broken(#[source] hyper::Error),
    #[error("the endpoint did not answer in time")]
    Late,
    #[error("the client did not send its request in time")]
    ClientSilent,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Exchange").field("is_used", &self.is_used).finish_non_exhaustive()
    }
}

impl Exchange {
    pub(super) async fn new(stream: Stream) -> Result<Self, hyper::Error> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX * 4).max_headers(HEADERS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Some(connection), has_ended: false, is_used: false })
    }

    /// Whether something was asked on it before.
    pub(in crate::ingress) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Sends a request and waits until its answer begins.
    pub(in crate::ingress) async fn send(
        &mut self,
        request: Request<Asking>,
        patience: Patience,
    ) -> Result<Response<Incoming>, NoAnswer> {
        self.is_used = true;
        let progress = request.body().progress();
        let progress = progress.as_deref();
        let mut response = pin!(self.sender.try_send_request(request));
        let mut answered = pin!(poll_fn(|context| self.poll_answer(context, response.as_mut())));
        let answered = until_answered(answered.as_mut(), progress, patience).await;
        answered.ok_or(NoAnswer::Late)?.map_err(|error| NoAnswer::of(error, progress))
    }

    fn poll_answer<F>(
        &mut self,
        context: &mut Context<'_>,
        mut response: Pin<&mut F>,
    ) -> Poll<F::Output>
    where
        F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Asking>>>>,
    {
        self.drive(context);
        let answer = response.as_mut().poll(context);
        if answer.is_pending() && self.has_ended {
            // With it goes the request that waits in it, back to whoever sent it.
            self.connection = None;
            return response.poll(context);
        }
        answer
    }

    /// Reads and writes what can be read and written now.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.has_ended) {
            // An error is told to who waits for the answer, or reads it.
            self.has_ended = connection.poll_without_shutdown(context).is_ready();
        }
    }

    /// Whether another request can be sent, now that an answer is whole. Nobody is woken by the
    /// connection after this.
    pub(super) fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.has_ended && self.sender.is_ready()
    }

    /// What is left when the endpoint has agreed to something else than HTTP: the connection, and
    /// what was read of it already. `None` where it has broken.
    pub(in crate::ingress) fn into_stream(self) -> Option<(Stream, Bytes)> {
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

impl NoAnswer {
    pub(super) fn of(
        mut error: TrySendError<Request<Asking>>,
        progress: Option<&Progress>,
    ) -> Self {
        match error.take_message() {
            Some(request) => Self::NotSent(Box::new(request)),
            None if progress.is_some_and(Progress::is_silent) => Self::ClientSilent,
            None => Self::Broken(error.into_error()),
        }
    }
}
