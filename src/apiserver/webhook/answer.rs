//! What is made of an answer that is none (client-go `transformResponse`, and apimachinery
//! `NewGenericServerResponse`, v1.35). Pure.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// So much of a text is told that came in place of an answer.
const TEXT_BYTES_MAX: usize = 2_048;

/// The answer, or why it is none.
pub(super) fn judge(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !(200..=206).contains(&code.as_u16()) {
        return Err(told_status(body).unwrap_or_else(|| unexpected(code, media_type, body)));
    }
    if body.is_empty() {
        let media_type = media_type.unwrap_or("application/json");
        let code = code.as_u16();
        return Err(format!(
            "0-length response with status code: {code} and content type: {media_type}"
        ));
    }
    Ok(())
}

/// The message of a `Status`.
fn told_status(body: &[u8]) -> Option<String> {
    let status: Value = serde_json::from_slice(body).ok()?;
    let is_status = status["kind"] == "Status" && status["status"] != "Success";
    status["message"].as_str().filter(|_| is_status).map(str::to_owned)
}

fn unexpected(code: StatusCode, media_type: Option<&str>, body: &[u8]) -> String {
    let is_text = media_type.is_none_or(|media_type| media_type.starts_with("text/"));
    let body = &body[..body.len().min(TEXT_BYTES_MAX)];
    let text = if is_text { String::from_utf8_lossy(body) } else { "unknown".into() };
    let text = text.trim();
    let number = code.as_u16();
    let told = match number {
        409 => "the server reported a conflict",
        404 => "the server could not find the requested resource",
        400 => "the server rejected our request for an unknown reason",
        401 => "the server has asked for the client to provide credentials",
        403 | 415 => text,
        406 if text.is_empty() || text == "unknown" => {
            "the server was unable to respond with a content type that the client supports"
        }
        406 => text,
        405 => "the server does not allow this method on the requested resource",
        422 => "the server rejected our request due to an error in our request",
        503 => "the server is currently unable to handle the request",
        504 => {
            "the server was unable to return a response in the time allotted, but may still be processing the request"
        }
        429 => "the server has received too many requests and has asked us to try again later",
        500.. => {
            return format!(
                "an error on the server ({text:?}) has prevented the request from succeeding"
            );
        }
        _ => {
            return format!(
                "the server responded with the status code {number} but did not return more information"
            );
        }
    };
    told.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn answers_that_are_none_are_told_as_upstream_tells_them() {
        let check = |code: u16, media_type: &'static str, body: &str, expected: &str| {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static(media_type))];
            let code = StatusCode::from_u16(code).unwrap();
            let judged = judge(code, &HeaderMap::from_iter(headers), body.as_bytes());
            assert_eq!(judged.err().unwrap_or_default(), expected, "{code} {body}");
        };
        check(200, "application/json", "{}", "");
        check(201, "text/plain", "{}", "");
        check(
            200,
            "text/plain",
            "",
            "0-length response with status code: 200 and content type: text/plain",
        );
        check(
            500,
            "text/plain; charset=utf-8",
            " sorry\n",
            "an error on the server (\"sorry\") has prevented the request from succeeding",
        );
        check(
            502,
            "application/json",
            "{}",
            "an error on the server (\"unknown\") has prevented the request from succeeding",
        );
        check(404, "text/plain", "no", "the server could not find the requested resource");
        check(403, "text/html", "go away", "go away");
        let status = r#"{"kind": "Status", "status": "Failure", "message": "not now"}"#;
        check(503, "application/json", status, "not now");
        check(
            302,
            "text/plain",
            "",
            "the server responded with the status code 302 but did not return more information",
        );
    }
}
