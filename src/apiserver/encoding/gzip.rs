//! Large answers, compressed for clients that say they understand it (upstream
//! `deferredResponseWriter`, apiserver pkg/endpoints/handlers/responsewriters/writers.go, v1.35).
//!
//! Piece by piece while they are sent: there is never a second copy of the whole. Watches and logs
//! are not for this: what they say must go out at once.

use crate::stdx::http::{Body, Response, streamed};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::io::{self, Write as _};

/// Smaller answers go out as they are: to compress them would cost more than it saves.
const THRESHOLD_BYTES: u64 = 128 * 1024;

/// So much is compressed before others have their turn; about a millisecond.
const TURN_BYTES: usize = 128 * 1024;

/// Compressed pieces are sent when they are about this large.
const PIECE_BYTES: usize = 32 * 1024;

/// The response, compressed if it is large and the client takes that.
pub(crate) fn compress(response: Response, asked: &HeaderMap) -> Response {
    if !is_large(response.body()) || !takes_gzip(asked) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    head.headers.remove(CONTENT_LENGTH);
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let compressor = Compressor { body, turn: Bytes::new(), encoder };
    let pieces = stream::unfold(compressor, |mut compressor| async move {
        compressor.next_piece().await.map(|piece| (piece, compressor))
    });
    Response::from_parts(head, streamed(pieces))
}

/// Only lists of more than one piece do not know their size.
fn is_large(body: &Body) -> bool {
    body.size_hint().exact().is_none_or(|bytes| bytes > THRESHOLD_BYTES)
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let values = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next() == Some("gzip");
        is_gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

struct Compressor {
    body: Body,
    /// What has arrived and is still to be compressed.
    turn: Bytes,
    /// `None` after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Compressor {
    async fn next_piece(&mut self) -> Option<io::Result<Bytes>> {
        while let Some(encoder) = &mut self.encoder {
            if self.turn.is_empty() {
                match self.body.frame().await {
                    // Answers have no trailers.
                    Some(Ok(frame)) => self.turn = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        self.encoder = None;
                        return Some(Err(error));
                    }
                    None => return Some(self.encoder.take()?.finish().map(Bytes::from)),
                }
                continue;
            }
            let turn = self.turn.split_to(self.turn.len().min(TURN_BYTES));
            if let Err(error) = encoder.write_all(&turn) {
                self.encoder = None;
                return Some(Err(error));
            }
            if encoder.get_ref().len() >= PIECE_BYTES {
                return Some(Ok(Bytes::from(std::mem::take(encoder.get_mut()))));
            }
            tokio::task::yield_now().await;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::http::{full, read_whole};
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    fn asking(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap())])
    }

    #[test]
    fn only_gzip_is_spoken() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5, br", true),
            ("gzip;q=0", false),
            ("br", false),
            ("x-gzip", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&asking(accept)), expected, "{accept}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn a_large_body_comes_out_as_it_went_in() {
        let text: Vec<u8> =
            (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        let pieces = text.chunks(150_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let pieces: Vec<_> = pieces.collect();
        for body in [full(text.clone()), streamed(stream::iter(pieces))] {
            let response = compress(Response::new(body), &asking("gzip"));
            assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
            assert_eq!(response.headers()[VARY], "Accept-Encoding");
            let compressed = read_whole(response.into_body(), 1 << 20).await.unwrap();
            let mut plain = Vec::new();
            GzDecoder::new(&compressed[..]).read_to_end(&mut plain).unwrap();
            assert!(plain == text);
        }
    }

    #[tokio::test]
    async fn what_is_small_or_breaks_off_stays_what_it_is() {
        let response = compress(Response::new(full("small")), &asking("gzip"));
        assert!(response.headers().get(CONTENT_ENCODING).is_none());
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(io::Error::other("broken"))]);
        let response = compress(Response::new(streamed(broken)), &asking("gzip"));
        assert!(read_whole(response.into_body(), 1 << 20).await.is_err());
    }
}
