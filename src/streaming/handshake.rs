//! What a client asks to speak, and the answer that agrees on it. Pure.

use crate::stdx::http::{Response, full, wanted_protocol};
use http::StatusCode;
use http::header::{
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What a client of SPDY offers, and what is chosen of it.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// What would have been accepted.
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Why a connection stays HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    pub code: StatusCode,
    pub text: String,
    /// What is spoken here, where what was offered is not.
    accepted: Vec<&'static str>,
}

impl Refused {
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self { code: StatusCode::BAD_REQUEST, text: text.into(), accepted: Vec::new() }
    }

    /// As an answer in plain text, as the kubelet's are.
    #[must_use]
    pub fn answer(&self) -> Response {
        let mut response = Response::new(full(self.text.clone()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        for name in &self.accepted {
            headers.append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
        }
        response
    }
}

/// How a client wants to carry its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    Spdy,
    WebSocket,
}

/// How the request wants to carry its streams.
pub(super) fn carrier(headers: &HeaderMap) -> Result<Carrier, Refused> {
    match wanted_protocol(headers) {
        Some(name) if name.eq_ignore_ascii_case("websocket") => Ok(Carrier::WebSocket),
        Some(name) if name.eq_ignore_ascii_case("SPDY/3.1") => Ok(Carrier::Spdy),
        Some(_) => {
            Err(Refused::bad("unable to upgrade: neither SPDY/3.1 nor websocket is asked for"))
        }
        None => Err(Refused::bad("unable to upgrade: missing upgrade headers in request")),
    }
}

/// The protocol of SPDY's streams: the client's first that is among `known`; `None` where it names
/// none, as the first clients did (upstream `Handshake`, apimachinery
/// pkg/util/httpstream/httpstream.go, v1.35).
pub(super) fn stream_protocol(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<Option<&'static str>, Refused> {
    let offered = listed(headers, &STREAM_PROTOCOL);
    if offered.is_empty() {
        return Ok(None);
    }
    if let Some(chosen) = choose(&offered, known) {
        return Ok(Some(chosen));
    }
    let text = format!(
        "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
        offered.join(" "),
        known.join(" ")
    );
    Err(Refused { code: StatusCode::FORBIDDEN, text, accepted: known.to_vec() })
}

/// The headers that agree to SPDY.
pub(super) fn agree_to_spdy(response: &mut Response, protocol: Option<&'static str>) {
    if let Some(protocol) = protocol {
        response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    }
}

/// A WebSocket that is agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebSocketOffer {
    /// `None` where the client names none.
    pub(super) protocol: Option<&'static str>,
    accept: String,
}

/// The protocol of a WebSocket's messages: the client's first that is among `known`.
pub(super) fn web_socket(
    headers: &HeaderMap,
    known: &[&'static str],
) -> Result<WebSocketOffer, Refused> {
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::bad("unable to upgrade: a websocket takes version 13"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Refused::bad("unable to upgrade: a websocket takes a key"))?;
    let offered = listed(headers, &SEC_WEBSOCKET_PROTOCOL);
    let protocol = choose(&offered, known);
    if protocol.is_none() && !offered.is_empty() {
        let text = format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]",
            offered.join(" "),
            known.join(" ")
        );
        return Err(Refused::bad(text));
    }
    Ok(WebSocketOffer { protocol, accept: derive_accept_key(key.as_bytes()) })
}

impl WebSocketOffer {
    /// Adds the headers that agree to it.
    pub(super) fn agree(&self, response: &mut Response) {
        let accept = HeaderValue::from_str(&self.accept).expect("base64 is good in a header");
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = self.protocol {
            let protocol = HeaderValue::from_static(protocol);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
    }
}

fn choose(offered: &[&str], known: &[&'static str]) -> Option<&'static str> {
    offered.iter().find_map(|name| known.iter().find(|known| *known == name).copied())
}

/// What a header lists, in one line or several.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|it| !it.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io"];

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn the_carrier_is_what_the_connection_becomes() {
        let check = |upgrade, expected: &str| {
            let headers = headers(&[("connection", "upgrade"), ("upgrade", upgrade)]);
            let shown = carrier(&headers).map_or_else(|no| no.text, |it| format!("{it:?}"));
            assert!(shown.contains(expected), "{upgrade}: {shown}");
        };
        check("WebSocket", "WebSocket");
        check("spdy/3.1", "Spdy");
        check("h2c", "neither");
        assert!(carrier(&HeaderMap::new()).unwrap_err().text.contains("missing upgrade headers"));
    }

    #[test]
    fn the_first_known_protocol_is_spoken() {
        let check = |offered: &[&'static str], expected: Result<Option<&str>, u16>| {
            let lines: Vec<_> =
                offered.iter().map(|name| ("x-stream-protocol-version", *name)).collect();
            let chosen = stream_protocol(&headers(&[]), KNOWN);
            assert_eq!(chosen, Ok(None));
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, HeaderValue::from_static(value));
            }
            let chosen = stream_protocol(&headers, KNOWN).map_err(|no| no.code.as_u16());
            assert_eq!(chosen, expected, "{offered:?}");
        };
        check(&["v4.channel.k8s.io", "v3.channel.k8s.io"], Ok(Some("v4.channel.k8s.io")));
        check(&["v9.channel.k8s.io, v3.channel.k8s.io"], Ok(Some("v3.channel.k8s.io")));
        check(&["v9.channel.k8s.io"], Err(403));
    }

    #[test]
    fn a_web_socket_is_agreed_to() {
        let offer = headers(&[
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v3.channel.k8s.io"),
        ]);
        let agreed = web_socket(&offer, KNOWN).unwrap();
        let mut response = Response::new(full(""));
        agreed.agree(&mut response);
        // RFC 6455, section 1.3.
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "v3.channel.k8s.io");
        assert!(web_socket(&offer, &["other"]).unwrap_err().text.contains("supports [other]"));
        assert!(web_socket(&HeaderMap::new(), KNOWN).is_err());
    }
}
