//! Names of questions as text that can be looked up: lower case, dots between labels, none at the
//! end. Pure.
//!
//! A label may hold any byte on the wire. Those that no name in Kubernetes has are written as
//! `\DDD`, so that the text stands for one name only and can be taken apart at its dots.

use hickory_proto::rr::Name;
use std::fmt::Write as _;

/// The text of a name: `web.shop.svc.cluster.local`. The root is empty.
#[must_use]
pub(super) fn text_of(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            match byte.to_ascii_lowercase() {
                plain @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'*') => {
                    text.push(char::from(plain));
                }
                odd => write!(text, "\\{odd:03}").expect("writing to a string cannot fail"),
            }
        }
    }
    text
}

/// What stands before `zone` in a name of that zone; empty for the zone itself.
#[must_use]
pub(super) fn within<'a>(text: &'a str, zone: &str) -> Option<&'a str> {
    if zone.is_empty() {
        return Some(text);
    }
    match text.strip_suffix(zone)? {
        "" => Some(""),
        before => before.strip_suffix('.'),
    }
}

/// The name that `text` stands for, where it is one.
#[must_use]
pub(super) fn name_of(text: &str) -> Option<Name> {
    if text.is_empty() {
        return Some(Name::root());
    }
    if !text.contains('\\') {
        return Name::from_labels(text.split('.').map(str::as_bytes)).ok();
    }
    let labels: Option<Vec<_>> = text.split('.').map(bytes_of).collect();
    Name::from_labels(labels?.iter().map(Vec::as_slice)).ok()
}

/// The bytes of a label in a text.
fn bytes_of(label: &str) -> Option<Vec<u8>> {
    let mut parts = label.split('\\');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, plain) = part.split_at_checked(3)?;
        bytes.push(code.parse().ok()?);
        bytes.extend(plain.as_bytes());
    }
    Some(bytes)
}

/// A name as people write it (`Example.ORG.`), where it is one; the root is `.`.
#[must_use]
pub(super) fn parse(written: &str) -> Option<String> {
    let plain = written.strip_suffix('.').unwrap_or(written);
    let is_root = plain.is_empty() && !written.is_empty();
    let is_plain = plain.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_root {
        return Some(String::new());
    }
    let name = name_of(plain).filter(|name| is_plain && !name.is_root())?;
    Some(text_of(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(labels: &[&[u8]], expected: &str) {
        let name = Name::from_labels(labels.iter().copied()).unwrap();
        assert_eq!(text_of(&name), expected);
        assert_eq!(name_of(expected), Some(name.to_lowercase()));
    }

    #[test]
    fn one_text_stands_for_one_name() {
        check(&[b"Web", b"SHOP", b"svc"], "web.shop.svc");
        check(&[b"_https", b"_TCP", b"w-1"], "_https._tcp.w-1");
        check(&[b"a.b", b"c"], "a\\046b.c");
        check(&[b"a\\b", b"\0\xff"], "a\\092b.\\000\\255");
        check(&[], "");
    }

    #[test]
    fn a_zone_has_whole_labels() {
        for (text, zone, expected) in [
            ("web.cluster.local", "cluster.local", Some("web")),
            ("a.b.cluster.local", "cluster.local", Some("a.b")),
            ("cluster.local", "cluster.local", Some("")),
            ("mycluster.local", "cluster.local", None),
            ("example.org", "cluster.local", None),
            ("example.org", "", Some("example.org")),
            ("", "", Some("")),
        ] {
            assert_eq!(within(text, zone), expected, "{text} in {zone}");
        }
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        assert_eq!(parse("Example.ORG.").as_deref(), Some("example.org"));
        assert_eq!(parse("example.org").as_deref(), Some("example.org"));
        assert_eq!(parse(".").as_deref(), Some(""));
        assert_eq!(parse(""), None);
        assert_eq!(parse("a..b"), None);
    }
}
