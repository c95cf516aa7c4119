//! What a request is for: its host and its path, in the one form that rules are compared with.
//!
//! Requests that could be read in two ways are refused here, so that nobody behind the proxy reads
//! them the other way. Pure.

use http::header::HOST;
use http::{HeaderValue, Request, Version};
use std::borrow::Cow;

/// Longer names than DNS has are nobody's. With brackets and a port.
const HOST_BYTES_MAX: usize = 255 + 8;

/// Why a request is refused. Each is an answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadTarget {
    #[error("a request needs a Host header")]
    NoHost,
    #[error("a request has one Host header")]
    ManyHosts,
    #[error("the Host header is not the host of the request")]
    TwoHosts,
    #[error("the host is not the name of one")]
    Host,
    #[error("the path is not one")]
    Path,
    #[error("the path leads out of the root")]
    AboveRoot,
}

/// The host that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// As it was sent, with its port where it has one.
    pub(super) text: &'a str,
    /// In lower case, without a port and without a final dot.
    pub(super) name: Cow<'a, str>,
}

/// The host of a request. It may be empty where the client has none (RFC 9112, 3.2).
///
/// # Errors
/// Where there is none or more than one.
pub(super) fn host<B>(request: &Request<B>) -> Result<Host<'_>, BadTarget> {
    let (version, mut headers) = (request.version(), request.headers().get_all(HOST).iter());
    let header = headers.next().map(text).transpose()?;
    if headers.next().is_some() {
        return Err(BadTarget::ManyHosts);
    }
    let text = match (request.uri().authority(), header) {
        // A proxy in between must not have changed one and left the other (RFC 9113, 8.3.1).
        (Some(authority), Some(header))
            if version >= Version::HTTP_2 && !authority.as_str().eq_ignore_ascii_case(header) =>
        {
            return Err(BadTarget::TwoHosts);
        }
        // Of the two, this one counts (RFC 9112, 3.2.2).
        (Some(authority), _) => authority.as_str(),
        (None, Some(header)) => header,
        (None, None) if version < Version::HTTP_11 => "",
        (None, None) => return Err(BadTarget::NoHost),
    };
    Ok(Host { text, name: name(text)? })
}

fn text(header: &HeaderValue) -> Result<&str, BadTarget> {
    header.to_str().map_err(|_| BadTarget::Host)
}

fn name(text: &str) -> Result<Cow<'_, str>, BadTarget> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if text.len() > HOST_BYTES_MAX || !text.bytes().all(is_allowed) {
        return Err(BadTarget::Host);
    }
    let name = without_port(text).ok_or(BadTarget::Host)?;
    let name = name.strip_suffix('.').unwrap_or(name);
    Ok(match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

fn without_port(text: &str) -> Option<&str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')? + 2;
            (&text[..end], text[end..].strip_prefix(':').or(text[end..].is_empty().then_some(""))?)
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let is_plain = text.starts_with('[') || !name.contains(['[', ']']);
    (is_plain && port.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// The path as rules are compared with it: escapes decoded, empty elements and those of dots
/// resolved. A request is sent on as it came; that it is also *judged* by another form of its path is
/// what keeps `/%61dmin` and `/x/../admin` under the rule for `/admin`, as with nginx.
///
/// # Errors
/// Where it is no path, or leads out of the root.
pub(super) fn normal_path(path: &[u8]) -> Result<Cow<'_, [u8]>, BadTarget> {
    if path.first() != Some(&b'/') {
        return Err(BadTarget::Path);
    }
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    let mut normal = Vec::with_capacity(decoded.len());
    let mut elements = decoded[1..].split(|byte| *byte == b'/').peekable();
    while let Some(element) = elements.next() {
        let is_last = elements.peek().is_none();
        match element {
            b"" | b"." if !is_last => {}
            b"" | b"." => normal.push(b'/'),
            b".." => {
                let cut = normal.iter().rposition(|byte| *byte == b'/');
                normal.truncate(cut.ok_or(BadTarget::AboveRoot)?);
                if is_last {
                    normal.push(b'/');
                }
            }
            element => {
                normal.push(b'/');
                normal.extend_from_slice(element);
            }
        }
    }
    Ok(Cow::Owned(normal))
}

/// Whether nothing in it could be written otherwise.
fn is_normal(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|byte| {
        let odd = *byte == b'%' || *byte == 0 || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = *byte;
        !odd
    })
}

fn decode(path: &[u8]) -> Result<Vec<u8>, BadTarget> {
    let digit = |byte: Option<&u8>| {
        let digit = byte.and_then(|byte| char::from(*byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(BadTarget::Path)
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            byte => *byte,
        };
        if byte == 0 {
            return Err(BadTarget::Path);
        }
        decoded.push(byte);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[track_caller]
    fn check_host(version: Version, uri: &str, hosts: &[&str], expected: Result<&str, BadTarget>) {
        let request = request(version, uri, hosts);
        let found = host(&request).map(|host| host.name.into_owned());
        assert_eq!(found.as_deref().map_err(|error| *error), expected, "{uri} {hosts:?}");
    }

    #[test]
    fn a_request_is_for_one_host() {
        let one = Version::HTTP_11;
        check_host(one, "/", &["a.example"], Ok("a.example"));
        check_host(one, "/", &["A.Example.:8080"], Ok("a.example"));
        check_host(one, "/", &["[::1]:80"], Ok("[::1]"));
        check_host(one, "/", &["[::1]"], Ok("[::1]"));
        check_host(one, "/", &["192.0.2.1:80"], Ok("192.0.2.1"));
        check_host(one, "/", &[""], Ok(""));
        check_host(one, "/", &[], Err(BadTarget::NoHost));
        check_host(Version::HTTP_10, "/", &[], Ok(""));
        check_host(one, "/", &["a", "a"], Err(BadTarget::ManyHosts));
        check_host(one, "http://b/", &["a"], Ok("b"));
        check_host(Version::HTTP_2, "https://b/", &["a"], Err(BadTarget::TwoHosts));
        check_host(Version::HTTP_2, "https://b:1/", &["B:1"], Ok("b"));
        check_host(Version::HTTP_2, "https://b/", &[], Ok("b"));
        for host in ["a/b", "a b", "u@a", "a:b", "a:1:2", "[::1", "[::1]x", "a]", "a,b", "ä"] {
            let header = HeaderValue::from_bytes(host.as_bytes()).unwrap();
            let mut request = request(one, "/", &[]);
            request.headers_mut().insert(HOST, header);
            assert_eq!(super::host(&request), Err(BadTarget::Host), "{host}");
        }
        check_host(one, "/", &[&"a".repeat(264)], Err(BadTarget::Host));
    }

    #[track_caller]
    fn check_path(path: &str, expected: Result<&str, BadTarget>) {
        let normal = normal_path(path.as_bytes());
        let text = normal.as_deref().map(|path| str::from_utf8(path).unwrap());
        assert_eq!(text.map_err(|error| *error), expected, "{path}");
    }

    #[test]
    fn paths_have_one_form() {
        for path in ["/", "/a/b", "/a/b/", "/a.b", "/a/b..c", "/~x"] {
            check_path(path, Ok(path));
            assert!(matches!(normal_path(path.as_bytes()), Ok(Cow::Borrowed(_))), "{path}");
        }
        check_path("//", Ok("/"));
        check_path("//a///b//", Ok("/a/b/"));
        check_path("/./a/./b/.", Ok("/a/b/"));
        check_path("/a/../b", Ok("/b"));
        check_path("/a/b/..", Ok("/a/"));
        check_path("/a/..", Ok("/"));
        check_path("/%61dmin", Ok("/admin"));
        check_path("/a%2Fb%2f%2e%2E/c", Ok("/a/c"));
        check_path("/.hidden/...", Ok("/.hidden/..."));
        check_path("/caf%C3%A9", Ok("/café"));
        check_path("/..", Err(BadTarget::AboveRoot));
        check_path("/a/../../b", Err(BadTarget::AboveRoot));
        check_path("/%2e%2e/etc", Err(BadTarget::AboveRoot));
        for path in ["", "*", "a", "/%", "/%2", "/%zz", "/%00", "/%+1"] {
            check_path(path, Err(BadTarget::Path));
        }
    }
}
