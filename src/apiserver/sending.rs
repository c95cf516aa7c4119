//! The body of an answer that is on its way out.

use super::activity::Underway;
use super::inflight::Place;
use super::tally;
use crate::stdx::http::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A body with what is held until its last byte is out: a watch is under way all its life.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    _underway: Underway,
    _place: Option<Place>,
    /// What is still to be counted of it.
    counted: Option<tally::Underway>,
}

impl Sending {
    pub(super) fn new(
        body: Body,
        underway: Underway,
        place: Option<Place>,
        counted: Option<tally::Underway>,
    ) -> Self {
        Self { body, _underway: underway, _place: place, counted }
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(counted) = &mut self.counted
        {
            counted.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// A body whose length is known is sent with it, and not in chunks.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
