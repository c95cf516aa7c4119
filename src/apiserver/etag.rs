//! Documents that clients keep, and ask by `ETag` whether they are still the same.

use crate::stdx::http::{Body, Response, full};
use aws_lc_rs::digest;
use http::header::{CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use std::fmt::Write as _;

/// What stands for a document as it is: the SHA-256 of its text, in upper case as upstream has it
/// (`computeETag`, kube-openapi pkg/handler3 and apiserver pkg/endpoints/discovery/aggregated).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hash(String);

impl Hash {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut hexadecimal = String::new();
        for byte in digest::digest(&digest::SHA256, text).as_ref() {
            write!(hexadecimal, "{byte:02X}").expect("writing to a String succeeds");
        }
        Self(hexadecimal)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn tag(&self) -> HeaderValue {
        HeaderValue::from_str(&format!("\"{}\"", self.0)).expect("hexadecimal digits")
    }
}

/// Whether the client has the document already.
pub(super) fn is_known(hash: &Hash, asked: &HeaderMap) -> bool {
    asked.get(IF_NONE_MATCH) == Some(&hash.tag())
}

/// The document, made by `body`, or that it has not changed where the client has it.
pub(super) fn respond(
    hash: &Hash,
    media_type: HeaderValue,
    asked: &HeaderMap,
    body: impl FnOnce() -> Vec<u8>,
) -> Response {
    let is_known = is_known(hash, asked);
    let body: Body = full(if is_known { Vec::new() } else { body() });
    let mut response = Response::new(body);
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response.headers_mut().insert(ETAG, hash.tag());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_sent_once() {
        let hash = Hash::of(b"{}");
        assert!(hash.as_str().starts_with("44136FA355B3678A"), "{hash:?}");
        let json = || HeaderValue::from_static("application/json");
        let first = respond(&hash, json(), &HeaderMap::new(), || b"{}".to_vec());
        assert_eq!(first.status(), 200);
        let mut asked = HeaderMap::new();
        asked.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        let second = respond(&hash, json(), &asked, || unreachable!("the client has it"));
        assert_eq!(second.status(), 304);
    }
}
