//! Formats of addresses, as Go's `net`, `net/url` and `net/mail` read them.

use crate::registry::checks;
use regex::Regex;
use std::net::Ipv6Addr;
use std::sync::LazyLock;

const HOSTNAME_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// Letters and symbols beyond ASCII.
static LETTER_OR_SYMBOL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{S}\p{L}]$").expect("a regular expression"));
static LETTER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\p{L}$").expect("a regular expression"));

pub(super) fn is_ipv4(text: &str) -> bool {
    checks::parse_ip(text).is_some() && text.contains('.')
}

pub(super) fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

pub(super) fn is_cidr(text: &str) -> bool {
    checks::parse_cidr(text).is_some()
}

/// Go's `net.ParseMAC`: 6, 8 or 20 bytes in pairs, or in fours with dots.
pub(super) fn is_mac(text: &str) -> bool {
    let (separator, digits) = match text.as_bytes().get(2..5) {
        Some([b':', ..]) => (':', 2),
        Some([b'-', ..]) => ('-', 2),
        Some([_, _, b'.']) => ('.', 4),
        _ => return false,
    };
    let mut bytes = 0;
    for part in text.split(separator) {
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return false;
        }
        bytes += digits / 2;
    }
    matches!(bytes, 6 | 8 | 20)
}

/// `strfmt.HostnamePattern`: labels of letters, digits and symbols, and a last one of letters. A
/// single label may have one dash, behind its first letter.
pub(super) fn is_hostname(text: &str) -> bool {
    let is_short = |part: &str| part.len() <= LABEL_BYTES_MAX;
    if text.len() > HOSTNAME_BYTES_MAX || !text.split('.').all(is_short) {
        return false;
    }
    match text.rsplit_once('.') {
        None => is_single_label(text),
        Some((labels, last)) => {
            let letters = last.chars().count();
            labels.split('.').all(is_label)
                && (2..=63).contains(&letters)
                && last.chars().all(is_letter)
        }
    }
}

fn is_single_label(text: &str) -> bool {
    let mut letters = text.chars();
    if !letters.next().is_some_and(is_hostname_letter) {
        return false;
    }
    let rest = letters.as_str();
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    rest.chars().count() <= 62 && rest.chars().all(is_hostname_letter)
}

fn is_label(label: &str) -> bool {
    let ends = [label.chars().next(), label.chars().next_back()];
    ends.into_iter().all(|letter| letter.is_some_and(is_hostname_letter))
        && label.chars().all(|letter| letter == '-' || is_hostname_letter(letter))
}

fn is_hostname_letter(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_alphanumeric() || "$+<=>^`|~".contains(letter);
    }
    LETTER_OR_SYMBOL.is_match(letter.encode_utf8(&mut [0; 4]))
}

fn is_letter(letter: char) -> bool {
    letter.is_ascii_alphabetic()
        || (!letter.is_ascii() && LETTER.is_match(letter.encode_utf8(&mut [0; 4])))
}

/// Go's `url.ParseRequestURI`: an absolute URI, or an absolute path.
pub(super) fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control()) {
        return false;
    }
    if text == "*" {
        return true;
    }
    let Some((scheme, rest)) = split_scheme(text) else { return false };
    let rest = rest.split('?').next().unwrap_or_default();
    if !rest.starts_with('/') {
        // Behind a scheme anything goes.
        return !scheme.is_empty();
    }
    let path = match rest.strip_prefix("//") {
        Some(rest) if !scheme.is_empty() => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            if !is_authority(authority) {
                return false;
            }
            path
        }
        _ => rest,
    };
    has_good_escapes(path)
}

/// `None`: a colon with nothing before it.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return None,
            b':' => return Some((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

fn is_authority(text: &str) -> bool {
    let host = match text.rsplit_once('@') {
        Some((user, host)) => {
            let is_of_user =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
            if !user.bytes().all(is_of_user) || !has_good_escapes(user) {
                return false;
            }
            host
        }
        None => text,
    };
    if host.starts_with('[') {
        let Some((inside, port)) = host.rsplit_once(']') else { return false };
        return is_port(port) && inside.bytes().all(is_of_host);
    }
    let (name, port) = host.split_at(host.rfind(':').unwrap_or(host.len()));
    // Escapes are for what is no ASCII.
    let is_good = |name: &str| {
        name.split('%').skip(1).all(|rest| rest.as_bytes().first().is_some_and(|it| *it >= b'8'))
    };
    is_port(port) && has_good_escapes(name) && is_good(name) && name.bytes().all(is_of_host)
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&byte)
}

fn is_port(text: &str) -> bool {
    let digits = text.strip_prefix(':').unwrap_or(text);
    (text.is_empty() || text.starts_with(':')) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_good_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        rest.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Go's `mail.ParseAddress`, without comments: `a@b.c`, or `Name <a@b.c>`.
pub(super) fn is_email(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    match text.strip_suffix('>') {
        None => is_address(text),
        Some(text) => {
            let Some((name, address)) = text.rsplit_once('<') else { return false };
            is_phrase(name) && is_address(address)
        }
    }
}

/// Words and quoted texts, or nothing.
fn is_phrase(text: &str) -> bool {
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        rest = match quoted(rest) {
            Some(length) => &rest[length..],
            None => {
                let end = rest.find(|letter: char| !is_of_atom(letter) && letter != '.');
                let end = end.unwrap_or(rest.len());
                if end == 0 {
                    return false;
                }
                &rest[end..]
            }
        }
        .trim_start_matches([' ', '\t']);
    }
    true
}

fn is_address(text: &str) -> bool {
    let length = match quoted(text) {
        Some(length) => length,
        None => match text.find('@') {
            Some(at) if is_dot_atom(&text[..at]) => at,
            _ => return false,
        },
    };
    let Some(domain) = text[length..].strip_prefix('@') else { return false };
    let domain = domain.trim_matches([' ', '\t']);
    match domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            let address = address.strip_prefix("IPv6:").unwrap_or(address);
            address.parse::<std::net::IpAddr>().is_ok()
        }
        None => is_dot_atom(domain),
    }
}

/// The length of the text in quotes that this begins with.
fn quoted(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('"')?;
    let mut is_escaped = false;
    for (at, letter) in inner.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return (at > 0).then_some(at + 2),
            other if other.is_ascii_control() && other != '\t' => return None,
            _ => {}
        }
    }
    None
}

fn is_dot_atom(text: &str) -> bool {
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_of_atom))
}

fn is_of_atom(letter: char) -> bool {
    !letter.is_ascii() || letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter)
}
