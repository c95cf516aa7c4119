//! Where a webhook is reached: by URL or by Service.
//!
//! Follows upstream `ValidateWebhookURL` and `ValidateWebhookService` (apiserver pkg/util/webhook,
//! v1.35). Of Go's `url.Parse`, what these tell apart is here.

use crate::api::{FieldError, FieldPath, names};
use crate::registry::checks::present;

/// What every complaint about the form of a URL ends with.
const FORM: &str = "; desired format: https://host[/path]";

/// A Service and the path that it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceAddress<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) path: Option<&'a str>,
    pub(super) port: i32,
}

/// The parts of a URL that a webhook's is judged by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// A URL by which a webhook is asked.
pub(super) fn validate_url(url: &str, path: &FieldPath) -> Vec<FieldError> {
    let parsed = match parse(url) {
        Ok(parsed) => parsed,
        Err(why) => {
            let detail = format!("url must be a valid URL: parse {url:?}: {why}{FORM}");
            return vec![FieldError::required(path, detail)];
        }
    };
    let mut errors = Vec::new();
    if !parsed.scheme.eq_ignore_ascii_case("https") {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(path, parsed.scheme.to_ascii_lowercase(), detail));
    }
    if parsed.host.is_empty() {
        errors.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
    }
    if let Some(user) = parsed.user {
        let detail = "user information is not permitted in the URL";
        errors.push(FieldError::invalid(path, user, detail));
    }
    if !parsed.fragment.is_empty() {
        let detail = "fragments are not permitted in the URL";
        errors.push(FieldError::invalid(path, parsed.fragment, detail));
    }
    if !parsed.query.is_empty() {
        let detail = "query parameters are not permitted in the URL";
        errors.push(FieldError::invalid(path, parsed.query, detail));
    }
    errors
}

/// Splits a URL, or says what Go would say of it.
fn parse(url: &str) -> Result<Url<'_>, String> {
    if url.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = split_scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(rest) = rest.strip_prefix("//") else {
        if scheme.is_empty() && !rest.starts_with('/') {
            let first = rest.split('/').next().unwrap_or_default();
            if first.contains(':') {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        check_escapes(rest)?;
        return Ok(Url { scheme, query, fragment, ..Url::default() });
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, url_path) = rest.split_at(end);
    check_escapes(url_path)?;
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    check_host(host)?;
    Ok(Url { scheme, user, host, query, fragment })
}

/// Go's `getScheme`: without a colon behind letters there is none.
fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    for (at, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&url[..at], &url[at + 1..])),
            _ => break,
        }
    }
    Ok(("", url))
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if escape.len() < 2 || !escape.iter().all(u8::is_ascii_hexdigit) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

/// Go's `parseHost` and `validOptionalPort`.
fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let is_port = |text: &str| {
        text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !port.is_empty() && !is_port(port) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(bad) = host.chars().find(|c| " \"<>\\^`{|}".contains(*c)) {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    check_escapes(host)
}

/// The Service by which a webhook is asked. Upstream's callers give namespace and name in the wrong
/// order, so that the one that is missing is told by the name of the other: clients see that.
pub(super) fn validate_service(service: ServiceAddress<'_>, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(present(&path.child("name"), Some(service.namespace)));
    errors.extend(present(&path.child("namespace"), Some(service.name)));
    let problems = names::port_number(i64::from(service.port));
    if !problems.is_empty() {
        let detail = format!("port is not valid: {}", problems.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), service.port, detail));
    }
    errors.extend(service.path.iter().flat_map(|it| validate_path(it, &path.child("path"))));
    errors
}

fn validate_path(url_path: &str, path: &FieldPath) -> Vec<FieldError> {
    let wrong = |detail: String| FieldError::invalid(path, url_path, detail);
    match url_path {
        "" | "/" => return Vec::new(),
        "//" => return vec![wrong("segment[0] may not be empty".to_owned())],
        _ => {}
    }
    let mut errors = Vec::new();
    if !url_path.starts_with('/') {
        errors.push(wrong("must start with a '/'".to_owned()));
    }
    // The first byte goes, whatever it is. Where that is part of a character, so does the rest of it.
    let rest: &str = url_path.char_indices().nth(1).map_or("", |(at, _)| &url_path[at..]);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    for (index, segment) in rest.split('/').enumerate() {
        if segment.is_empty() {
            errors.push(wrong(format!("segment[{index}] may not be empty")));
            continue;
        }
        for problem in names::dns1123_subdomain(segment) {
            errors.push(wrong(format!("segment[{index}]: {problem}")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::kinds::testing::compare;
    use proptest::prelude::*;

    #[track_caller]
    fn check_url(url: &str, expected: &[&str]) {
        compare(validate_url(url, &FieldPath::new("url")), expected);
    }

    #[test]
    fn a_webhook_is_asked_over_https_and_by_path_alone() {
        for url in
            ["https://a.example", "HTTPS://a:8443/x/y", "https://[::1]:443/", "https://a/%20"]
        {
            check_url(url, &[]);
        }
        check_url(
            "",
            &[
                "url: Invalid value: \"\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "url: Invalid value: \"\": host must be specified; desired format: https://host[/path]",
            ],
        );
        check_url("Http://a", &["url: Invalid value: \"http\": 'https' is the only allowed"]);
        check_url(
            "https://me:secret@a/b?c=d#e",
            &[
                "url: Invalid value: \"me:secret\": user information is not permitted in the URL",
                "url: Invalid value: \"e\": fragments are not permitted in the URL",
                "url: Invalid value: \"c=d\": query parameters are not permitted in the URL",
            ],
        );
    }

    #[test]
    fn what_is_no_url_is_told_as_go_tells_it() {
        for (url, why) in [
            (":x", "missing protocol scheme"),
            ("https://a b", "invalid character \" \" in host name"),
            ("https://a:b/", "invalid port \":b\" after host"),
            ("https://[::1/", "missing ']' in host"),
            ("https://a/%zz", "invalid URL escape \"%zz\""),
            ("https://a/%1", "invalid URL escape \"%1\""),
            ("1:2", "first path segment in URL cannot contain colon"),
        ] {
            let expected = format!(
                "url: Required value: url must be a valid URL: parse {url:?}: {why}; desired"
            );
            check_url(url, &[&expected]);
        }
        check_url(
            "https://a\n",
            &[
                "url: Required value: url must be a valid URL: parse \"https://a\\n\": net/url: invalid control character in URL",
            ],
        );
    }

    #[test]
    fn services_have_names_a_port_and_a_path() {
        let good =
            ServiceAddress { namespace: "ns", name: "web", path: Some("/a/b.c/"), port: 443 };
        let at = FieldPath::new("s");
        compare(validate_service(good, &at), &[]);
        compare(validate_service(ServiceAddress { path: Some("/"), ..good }, &at), &[]);
        let none = ServiceAddress { namespace: "", name: "", path: None, port: 0 };
        compare(
            validate_service(none, &at),
            &[
                "s.name: Required value",
                "s.namespace: Required value",
                "s.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ],
        );
        for (path, expected) in [
            ("//", vec!["s.path: Invalid value: \"//\": segment[0] may not be empty"]),
            ("/a//b", vec!["s.path: Invalid value: \"/a//b\": segment[1] may not be empty"]),
            ("ab", vec!["s.path: Invalid value: \"ab\": must start with a '/'"]),
            (
                "/A",
                vec!["s.path: Invalid value: \"/A\": segment[0]: a lowercase RFC 1123 subdomain"],
            ),
        ] {
            let service = ServiceAddress { path: Some(path), ..good };
            compare(validate_service(service, &at), &expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged(url in "\\PC{0,40}", path in "\\PC{0,20}") {
            validate_url(&url, &FieldPath::new("u"));
            validate_path(&path, &FieldPath::new("p"));
        }
    }
}
