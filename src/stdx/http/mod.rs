//! The seam between those who ask over HTTP and those who answer, with or without a network between.
//!
//! The API server answers through [`HttpService`], and so does the kubelet; a client holds one and
//! does not see whether TLS or a function call is behind it. An answer may also take the connection
//! over: see [`Upgrade`].

mod upgrade;

pub use upgrade::{ByteStream, Duplex, Upgrade, relay, wanted_protocol};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use std::convert::Infallible;
use std::fmt;
use std::io;

/// A response body: whole, or arriving in pieces for as long as a watch lives.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The request body is always read before the request is made: every API request has a size limit.
pub type Request = http::Request<Bytes>;
pub type Response = http::Response<Body>;

/// Something that answers HTTP requests.
pub trait HttpService: Send + Sync + fmt::Debug {
    /// # Errors
    /// Only where no answer could be had; an answer that says no is a response.
    fn call(&self, request: Request) -> BoxFuture<'static, io::Result<Response>>;
}

/// A body that is there already.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body made of pieces that arrive over time.
pub fn streamed<S>(pieces: S) -> Body
where
    S: futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    use futures_util::StreamExt as _;
    StreamBody::new(pieces.map(|piece| piece.map(http_body::Frame::data))).boxed_unsync()
}

/// Reads a body to its end.
///
/// # Errors
/// Where the body breaks off or is larger than `bytes_max`.
pub async fn read_whole(body: Body, bytes_max: usize) -> io::Result<Bytes> {
    match http_body_util::Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(io::Error::other(error)),
    }
}
