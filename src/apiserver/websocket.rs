//! What browsers need, which open WebSockets but cannot add headers to them: logs and watches as
//! messages, and the token among the protocols.

use super::verbs::Call;
use crate::stdx::http::{Response, wanted_protocol};
use crate::streaming::body::{self, Unit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, SEC_WEBSOCKET_PROTOCOL};

/// Before a token that stands among the protocols.
const TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

fn is_wanted(headers: &HeaderMap) -> bool {
    wanted_protocol(headers).is_some_and(|name| name.eq_ignore_ascii_case("websocket"))
}

/// Sends the body of an answer that goes on for long as messages, where that is how it is wanted.
pub(super) fn carry(call: &Call<'_>, response: Response, unit: Unit) -> Response {
    if !is_wanted(call.headers) || response.status() != StatusCode::OK {
        return response;
    }
    let answer = body::answer(call.headers, response.into_body(), unit);
    answer.unwrap_or_else(|refused| refused.answer())
}

/// Puts a token that stands among the protocols where tokens stand, so that nobody further on sees
/// it elsewhere (upstream apiserver pkg/authentication/request/websocket, v1.35). One that cannot be
/// read, or stands there alone, is believed as little as one that is wrong.
pub(super) fn move_token(headers: &mut HeaderMap) {
    if !is_wanted(headers) || headers.contains_key(AUTHORIZATION) {
        return;
    }
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let (tokens, others): (Vec<_>, Vec<_>) =
        names.map(str::trim).partition(|name| name.starts_with(TOKEN_PREFIX));
    if tokens.is_empty() {
        return;
    }
    let credential = match &tokens[..] {
        [token] if !others.is_empty() => credential(&token[TOKEN_PREFIX.len()..]),
        _ => None,
    };
    let others = HeaderValue::from_str(&others.join(",")).expect("parts of a header's text");
    headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    let unreadable = || HeaderValue::from_static("Bearer");
    headers.insert(AUTHORIZATION, credential.unwrap_or_else(unreadable));
}

fn credential(encoded: &str) -> Option<HeaderValue> {
    let token = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONNECTION, UPGRADE};

    #[track_caller]
    fn check(protocols: &str, credential: Option<&str>, left: &str) {
        let mut headers = HeaderMap::from_iter([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocols).unwrap()),
        ]);
        move_token(&mut headers);
        let found = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        assert_eq!((found, headers[SEC_WEBSOCKET_PROTOCOL].to_str().unwrap()), (credential, left));
    }

    #[test]
    fn a_token_among_the_protocols_is_moved() {
        check("v4.channel.k8s.io", None, "v4.channel.k8s.io");
        let token = format!("{TOKEN_PREFIX}YWJj");
        check(&format!("{token}, binary.k8s.io"), Some("Bearer abc"), "binary.k8s.io");
        check(&format!("a,{token},b"), Some("Bearer abc"), "a,b");
        check(&token, Some("Bearer"), "");
        check(&format!("a,{token},{token}"), Some("Bearer"), "a");
        check(&format!("a,{TOKEN_PREFIX}*"), Some("Bearer"), "a");
    }

    #[test]
    fn who_asks_for_no_websocket_has_no_token_there() {
        let token = HeaderValue::from_str(&format!("{TOKEN_PREFIX}YWJj,a")).unwrap();
        let mut headers = HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, token.clone())]);
        move_token(&mut headers);
        assert_eq!(headers.get(AUTHORIZATION), None);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], token);
    }
}
