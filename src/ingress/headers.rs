//! What of a request's and an answer's headers goes on, and what the proxy adds. Pure.
//!
//! Headers that are about one connection end here (RFC 9110, 7.6.1), and nobody but a proxy that is
//! trusted can say where a request comes from: what strangers say of it is dropped, also where it is
//! written with `_`, which many programs take for `-`.

use http::header::{
    CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use std::net::IpAddr;
use std::time::Duration;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What only a trusted proxy may say.
const TRUSTED_ONLY: [HeaderName; 11] = [
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PORT,
    FORWARDED_PROTO,
    REAL_IP,
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-scheme"),
];

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    text: HeaderValue,
    /// A proxy whose word about clients counts.
    pub(super) is_trusted: bool,
}

impl Peer {
    #[must_use]
    pub(super) fn new(address: IpAddr, is_trusted: bool) -> Self {
        let address = address.to_canonical();
        let text = HeaderValue::try_from(address.to_string()).expect("addresses are plain text");
        Self { address, text, is_trusted }
    }
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    #[must_use]
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn usual_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

/// The scheme that the client used, which a trusted proxy in between may know better.
#[must_use]
pub(super) fn scheme_of(headers: &HeaderMap, peer: &Peer, own: Scheme) -> Scheme {
    let told = headers.get(FORWARDED_PROTO).filter(|_| peer.is_trusted);
    match told.map(HeaderValue::as_bytes) {
        Some(b"https") => Scheme::Https,
        Some(b"http") => Scheme::Http,
        _ => own,
    }
}

/// What a request comes with, besides its headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) peer: &'a Peer,
    pub(super) scheme: Scheme,
    /// As the client wrote it, with its port where it has one.
    pub(super) host: &'a HeaderValue,
}

/// Makes the headers of a request those that an endpoint gets. `protocol` is what the client wants
/// the connection to become.
pub(super) fn to_backend(
    headers: &mut HeaderMap,
    arrival: Arrival<'_>,
    protocol: Option<HeaderValue>,
) {
    let takes_trailers = headers.get_all(TE).iter().any(names_trailers);
    end_here(headers);
    // It has been answered by whoever reads the body.
    headers.remove(EXPECT);
    headers.remove(PROXY_AUTHORIZATION);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    join_cookies(headers);
    forwarded(headers, arrival);
    headers.insert(HOST, arrival.host.clone());
}

/// Makes the headers of an answer those that the client gets.
pub(super) fn to_client(headers: &mut HeaderMap) {
    end_here(headers);
    headers.remove(PROXY_AUTHENTICATE);
}

/// How long an endpoint keeps a connection on which nothing is asked, where it says so.
#[must_use]
pub(super) fn kept_for(headers: &HeaderMap) -> Option<Duration> {
    let options = headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = options.split(',').find_map(|option| option.trim().strip_prefix("timeout="))?;
    timeout.parse().ok().map(Duration::from_secs)
}

/// Drops what is about the connection that it came on.
fn end_here(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

fn names_trailers(value: &HeaderValue) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(',').any(|option| option.trim().eq_ignore_ascii_case("trailers"))
}

/// HTTP/2 may have split them; HTTP/1 has one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&all.join(&b"; "[..]));
    headers.insert(COOKIE, joined.expect("made of values and what they may contain"));
}

fn forwarded(headers: &mut HeaderMap, arrival: Arrival<'_>) {
    let Arrival { peer, scheme, host } = arrival;
    drop_look_alikes(headers);
    if !peer.is_trusted {
        for name in &TRUSTED_ONLY {
            headers.remove(name);
        }
    }
    let before: Vec<&[u8]> =
        headers.get_all(FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let clients = match before.is_empty() {
        true => peer.text.clone(),
        false => {
            let text = [&before[..], &[peer.text.as_bytes()]].concat().join(&b", "[..]);
            HeaderValue::from_bytes(&text).expect("made of values and what they may contain")
        }
    };
    headers.insert(FORWARDED_FOR, clients);
    let mut tell = |name: HeaderName, value: &mut dyn FnMut() -> Option<HeaderValue>| {
        if !headers.contains_key(&name)
            && let Some(value) = value()
        {
            headers.insert(name, value);
        }
    };
    tell(REAL_IP, &mut || Some(peer.text.clone()));
    tell(FORWARDED_PROTO, &mut || Some(HeaderValue::from_static(scheme.as_str())));
    tell(FORWARDED_HOST, &mut || Some(host.clone()));
    tell(FORWARDED_PORT, &mut || match port_of(host.to_str().unwrap_or_default()) {
        "" => Some(HeaderValue::from_static(scheme.usual_port())),
        port => HeaderValue::from_str(port).ok(),
    });
}

/// The port in what the client wrote as the host; empty where there is none.
fn port_of(host: &str) -> &str {
    let after_address = host.rfind(']').map_or(host, |at| &host[at..]);
    after_address.rsplit_once(':').map_or("", |(_, port)| port)
}

fn drop_look_alikes(headers: &mut HeaderMap) {
    let is_look_alike = |name: &&HeaderName| {
        name.as_str().contains('_')
            && TRUSTED_ONLY.iter().any(|own| own.as_str() == name.as_str().replace('_', "-"))
    };
    let found: Vec<HeaderName> = headers.keys().filter(is_look_alike).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<_> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    static HOST_SENT: HeaderValue = HeaderValue::from_static("a.example");

    fn arrival(peer: &Peer) -> Arrival<'_> {
        Arrival { peer, scheme: Scheme::Https, host: &HOST_SENT }
    }

    fn peer(is_trusted: bool) -> Peer {
        Peer::new("::ffff:192.0.2.7".parse().unwrap(), is_trusted)
    }

    /// What an endpoint gets of these, without what every request gets.
    #[track_caller]
    fn check(sent: &[&str], expected: &[&str]) {
        let usual = [
            "host: a.example",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-host: a.example",
            "x-forwarded-port: 443",
            "x-forwarded-proto: https",
            "x-real-ip: 192.0.2.7",
        ];
        let mut headers = map(sent);
        to_backend(&mut headers, arrival(&peer(false)), None);
        let mut found = lines(&headers);
        for line in usual {
            let at = found.iter().position(|found| found == line);
            found.remove(at.unwrap_or_else(|| panic!("no {line} in {found:?}")));
        }
        assert_eq!(found, expected, "{sent:?}");
    }

    #[test]
    fn what_is_about_the_connection_ends_here() {
        check(&["host: b", "accept: x"], &["accept: x"]);
        check(
            &["connection: keep-alive, x-own", "keep-alive: 1", "x-own: 1", "x-other: 2"],
            &["x-other: 2"],
        );
        check(&["connection: close", "connection: a, b", "a: 1", "b: 1"], &[]);
        check(&["upgrade: h2c", "proxy-connection: x", "proxy-authorization: Basic x"], &[]);
        check(&["te: gzip, Trailers"], &["te: trailers"]);
        check(&["te: gzip", "transfer-encoding: chunked", "expect: 100-continue"], &[]);
        check(&["connection: te", "te: trailers"], &["te: trailers"]);
        check(&["trailer: x-sum"], &["trailer: x-sum"]);
        check(&["cookie: a=1", "cookie: b=2"], &["cookie: a=1; b=2"]);
        check(&["cookie: a=1"], &["cookie: a=1"]);
    }

    #[test]
    fn strangers_do_not_say_where_requests_come_from() {
        check(
            &[
                "x-forwarded-for: 1.1.1.1",
                "x-forwarded-proto: http",
                "x-forwarded-host: evil",
                "x-real-ip: 1.1.1.1",
                "forwarded: for=1.1.1.1",
                "x_forwarded_for: 1.1.1.1",
                "x-forwarded_proto: http",
                "x_other: kept",
            ],
            &["x_other: kept"],
        );
        check(&["connection: x-forwarded-for, host", "host: x"], &[]);
    }

    #[test]
    fn trusted_proxies_are_believed_and_added_to() {
        let peer = peer(true);
        let mut headers = map(&[
            "x-forwarded-for: 1.1.1.1",
            "x-forwarded-for: 2.2.2.2, 3.3.3.3",
            "x-forwarded-proto: http",
            "forwarded: for=1.1.1.1",
        ]);
        assert_eq!(scheme_of(&headers, &peer, Scheme::Https), Scheme::Http);
        to_backend(&mut headers, arrival(&peer), None);
        assert_eq!(
            lines(&headers),
            [
                "forwarded: for=1.1.1.1",
                "host: a.example",
                "x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7",
                "x-forwarded-host: a.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: http",
                "x-real-ip: 192.0.2.7",
            ]
        );
    }

    #[test]
    fn the_scheme_is_the_own_unless_a_trusted_proxy_says_otherwise() {
        let headers = map(&["x-forwarded-proto: https"]);
        assert_eq!(scheme_of(&headers, &peer(false), Scheme::Http), Scheme::Http);
        assert_eq!(scheme_of(&headers, &peer(true), Scheme::Http), Scheme::Https);
        assert_eq!(scheme_of(&HeaderMap::new(), &peer(true), Scheme::Http), Scheme::Http);
    }

    #[test]
    fn a_wanted_protocol_is_told_on() {
        let mut headers = map(&["connection: Upgrade", "upgrade: websocket"]);
        let peer = peer(false);
        let host = HeaderValue::from_static("[::1]:8080");
        let arrival = Arrival { host: &host, ..arrival(&peer) };
        to_backend(&mut headers, arrival, Some(HeaderValue::from_static("websocket")));
        assert_eq!(headers[CONNECTION], "upgrade");
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[FORWARDED_PORT], "8080");
    }

    #[test]
    fn answers_lose_what_is_about_the_connection() {
        let mut headers = map(&[
            "connection: close, x-own",
            "x-own: 1",
            "keep-alive: timeout=5, max=100",
            "trailer: grpc-status",
            "transfer-encoding: chunked",
            "server: x",
        ]);
        assert_eq!(kept_for(&headers), Some(Duration::from_secs(5)));
        to_client(&mut headers);
        assert_eq!(lines(&headers), ["server: x", "trailer: grpc-status"]);
        assert_eq!(kept_for(&headers), None);
    }
}
