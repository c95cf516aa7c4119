//! Answers that the proxy gives itself: what a request is refused with, or where it is sent instead.

use super::target::BadTarget;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{Response, StatusCode};
use std::borrow::Cow;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    text: Cow<'static, str>,
    location: Option<HeaderValue>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, text: text.into(), location: None }
    }

    /// The same request, to be made there.
    pub(super) fn elsewhere(location: HeaderValue) -> Self {
        let location = Some(location);
        Self { status: StatusCode::PERMANENT_REDIRECT, text: "".into(), location }
    }

    /// The answer, as far as its body does not matter.
    pub(super) fn answer(self) -> Response<Bytes> {
        let mut text = self.text.into_owned();
        if !text.is_empty() {
            text.push('\n');
        }
        let mut answer = Response::new(Bytes::from(text));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(location) = self.location {
            headers.insert(LOCATION, location);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

impl From<BadTarget> for Refusal {
    fn from(error: BadTarget) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}
