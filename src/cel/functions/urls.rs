//! URLs (apiserver pkg/cel/library/urls.go, v1.35), read as Go's `net/url` reads them.

use crate::cel::foreign::Foreign;
use crate::cel::value::{Entries, Fault, Key, Map, Outcome, Value};
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The parts of a URL that expressions look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    pub(in crate::cel) text: String,
    scheme: String,
    host: String,
    /// As it is written, escaped.
    path: String,
    query: String,
}

pub(super) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (function, args) {
        ("url", [Value::Text(text)]) => {
            read(text).map(|url| Value::Foreign(Foreign::Url(Arc::new(url)))).map_err(|problem| {
                let message = "URL parse error during conversion from string";
                Fault::new(format!("{message}: {problem}"))
            })
        }
        ("isURL", [Value::Text(text)]) => Ok(Value::Bool(request_uri(text).is_ok())),
        (_, [Value::Foreign(Foreign::Url(url))]) => Ok(match function {
            "getScheme" => Value::text(url.scheme.as_str()),
            "getHost" => Value::text(url.host.as_str()),
            "getHostname" => Value::text(host_and_port(&url.host).0),
            "getPort" => Value::text(host_and_port(&url.host).1),
            "getEscapedPath" => Value::text(escaped(&url.path)),
            "getQuery" => query(&url.query),
            _ => return Err(Fault::NO_OVERLOAD),
        }),
        _ => Err(Fault::NO_OVERLOAD),
    }
}

/// What is wrong with it as Go's `ParseRequestURI` sees it.
pub(super) fn request_uri(text: &str) -> Result<Url, String> {
    parse(text, true).map_err(|problem| format!("parse {text:?}: {problem}"))
}

/// An absolute URL, with the fragment taken off.
fn read(text: &str) -> Result<Url, String> {
    request_uri(text)?;
    let unfragmented = text.split_once('#').map_or(text, |(before, _)| before);
    let url = parse(unfragmented, false).map_err(|problem| format!("parse {text:?}: {problem}"))?;
    Ok(Url { text: text.to_owned(), ..url })
}

fn parse(text: &str, is_request: bool) -> Result<Url, String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() {
        return if is_request { Err("empty url".to_owned()) } else { Ok(Url::default()) };
    }
    let (scheme, rest) = scheme(text)?;
    let scheme = scheme.to_ascii_lowercase();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme, query: query.to_owned(), ..Url::default() };
    if !rest.starts_with('/') {
        if !url.scheme.is_empty() {
            // Opaque: there is no path.
            return Ok(url);
        }
        if is_request {
            return Err("invalid URI for request".to_owned());
        }
        let first = rest.split('/').next().unwrap_or_default();
        if first.contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let mut path = rest;
    let may_have_host = !url.scheme.is_empty() || (!is_request && !rest.starts_with("///"));
    if let Some(after) = rest.strip_prefix("//").filter(|_| may_have_host) {
        let end = after.find('/').unwrap_or(after.len());
        url.host = host(&after[..end])?;
        path = &after[end..];
    }
    check_escapes(path)?;
    url.path = path.to_owned();
    Ok(url)
}

fn scheme(text: &str) -> Result<(&str, &str), String> {
    for (at, c) in text.char_indices() {
        match c {
            c if c.is_ascii_alphabetic() => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
        if !(is_hex(text.as_bytes().get(at + 1)) && is_hex(text.as_bytes().get(at + 2))) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {shown:?}"));
        }
    }
    Ok(())
}

fn host(authority: &str) -> Result<String, String> {
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.chars().any(|c| !(c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c))) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    check_escapes(user)?;
    let port = match host.strip_prefix('[') {
        Some(inner) => {
            let (_, port) = inner.rsplit_once(']').ok_or("missing ']' in host")?;
            port
        }
        None => host.find(':').map_or("", |at| &host[host.rfind(':').unwrap_or(at)..]),
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {port:?} after host"));
    }
    let bad = host.chars().find(|c| c.is_ascii() && " \"<>\\^`{|}".contains(*c));
    if let Some(bad) = bad {
        return Err(format!("invalid character {:?} in host name", bad.to_string()));
    }
    check_escapes(host)?;
    Ok(percent_decode_str(host).decode_utf8_lossy().into_owned())
}

/// Without brackets, and the port after the last colon.
fn host_and_port(host: &str) -> (&str, &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    (inner.unwrap_or(name), port)
}

/// A path as it is written, if that is a way to write it; escaped anew otherwise.
fn escaped(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:@/[]%".contains(c);
    if path.chars().all(is_plain) {
        return path.to_owned();
    }
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    percent_decode_str(path)
        .map(|b| if kept(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// What cannot be read of a query is left out, as Go does.
fn query<'a>(query: &str) -> Value<'a> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
            found.entry(key).or_default().push(value);
        }
    }
    let entries: Entries<'a> = found
        .into_iter()
        .map(|(key, values)| {
            let name = Value::text(key.as_str());
            (Key::Text(key.into()), (name, Value::texts(values)))
        })
        .collect();
    Value::Map(Map::made(entries))
}

fn unescaped(text: &str) -> Option<String> {
    check_escapes(text).ok()?;
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}
