//! The body of an answer on its way to the client, with what is held until its last byte is out.

use super::crowd::Underway;
use super::tally::Record;
use super::upstream::Answering;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    content: Content,
    underway: Underway,
    record: Record,
}

/// What an answer consists of.
#[derive(Debug)]
pub(super) enum Content {
    /// The proxy's own words.
    Own(Option<Bytes>),
    Endpoint(Answering),
}

impl Outgoing {
    pub(super) fn new(content: Content, mut underway: Underway, record: Record) -> Self {
        underway.serves();
        Self { content, underway, record }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let polled = match &mut this.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Endpoint(answering) => Pin::new(answering).poll_frame(context),
        };
        match &polled {
            Poll::Pending => this.underway.awaits(),
            Poll::Ready(frame) => {
                this.underway.serves();
                match frame {
                    Some(Ok(frame)) => {
                        this.record.sends(frame.data_ref().map_or(0, Bytes::len));
                    }
                    Some(Err(_)) => this.record.breaks(),
                    None => {}
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Endpoint(answering) => answering.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Content::Endpoint(answering) => answering.size_hint(),
        }
    }
}
