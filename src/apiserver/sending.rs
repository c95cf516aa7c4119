//! The body of an answer that is on its way out.

use super::activity::Underway;
use crate::stdx::http::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// A body with what is held until its last byte is out: a watch is under way all its life.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    _underway: Underway,
    _place: Option<OwnedSemaphorePermit>,
}

impl Sending {
    pub(super) fn new(body: Body, underway: Underway, place: Option<OwnedSemaphorePermit>) -> Self {
        Self { body, _underway: underway, _place: place }
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// A body whose length is known is sent with it, and not in chunks.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
