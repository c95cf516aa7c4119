//! The HTTP/2 connection to an endpoint that all requests share.

use super::asking::Asking;
use super::exchange::NoAnswer;
use super::patience::{Patience, until_answered};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use std::pin::pin;

/// See the module. Clones are the same connection.
#[derive(Clone, Debug)]
pub(in crate::ingress) struct Shared(SendRequest<Asking>);

impl Shared {
    pub(super) fn new(sender: SendRequest<Asking>) -> Self {
        Self(sender)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends a request and waits until its answer begins.
    pub(in crate::ingress) async fn send(
        &mut self,
        request: Request<Asking>,
        patience: Patience,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let progress = request.body().progress();
        let progress = progress.as_deref();
        let answered = pin!(self.0.try_send_request(request));
        let answered = until_answered(answered, progress, patience).await;
        answered.ok_or(NoAnswer::Late)?.map_err(|error| NoAnswer::of(error, progress))
    }
}
