//! The `format`s of strings that are checked; others say nothing (upstream
//! `supportedVersionedFormats`, apiextensions pkg/apiserver/validation/formats.go, and kube-openapi
//! pkg/validation/strfmt, v1.35).

mod net;
mod numbers;
mod time;

use crate::api::names;

type Rule = fn(&str) -> bool;

/// The formats without their dashes, each with its rule.
const RULES: [(&str, Rule); 26] = [
    ("bsonobjectid", |text| text.len() == 24 && text.bytes().all(|it| it.is_ascii_hexdigit())),
    ("uri", net::is_request_uri),
    ("email", net::is_email),
    ("hostname", net::is_hostname),
    ("ipv4", net::is_ipv4),
    ("ipv6", net::is_ipv6),
    ("cidr", net::is_cidr),
    ("mac", net::is_mac),
    ("uuid", |text| numbers::is_uuid(text, None)),
    ("uuid3", |text| numbers::is_uuid(text, Some(b'3'))),
    ("uuid4", |text| numbers::is_uuid(text, Some(b'4'))),
    ("uuid5", |text| numbers::is_uuid(text, Some(b'5'))),
    ("isbn", |text| numbers::is_isbn10(text) || numbers::is_isbn13(text)),
    ("isbn10", numbers::is_isbn10),
    ("isbn13", numbers::is_isbn13),
    ("creditcard", numbers::is_credit_card),
    ("ssn", numbers::is_ssn),
    ("hexcolor", numbers::is_hex_color),
    ("rgbcolor", numbers::is_rgb_color),
    ("byte", numbers::is_base64),
    ("password", |_| true),
    ("date", time::is_date),
    ("datetime", time::is_date_time),
    ("duration", time::is_duration),
    ("k8sshortname", |text| names::dns1123_label(text).is_empty()),
    ("k8slongname", |text| names::dns1123_subdomain(text).is_empty()),
];

/// The formats that there are rules for, without their dashes.
pub fn known() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(format, _)| *format)
}

/// Whether there is a rule for the strings of a format. Dashes in names say nothing:
/// `date-time` is `datetime`.
#[must_use]
pub fn is_known(format: &str) -> bool {
    rule(format).is_some()
}

/// Whether `text` is of the format, or nothing is known of it.
#[must_use]
pub fn is_valid(format: &str, text: &str) -> bool {
    rule(format).is_none_or(|rule| rule(text))
}

fn rule(format: &str) -> Option<Rule> {
    let undashed = || format.bytes().filter(|byte| *byte != b'-');
    RULES.iter().find(|(name, _)| undashed().eq(name.bytes())).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(format: &str, good: &[&str], bad: &[&str]) {
        assert!(is_known(format), "{format}");
        for text in good {
            assert!(is_valid(format, text), "{text:?} is a {format}");
        }
        for text in bad {
            assert!(!is_valid(format, text), "{text:?} is no {format}");
        }
    }

    #[test]
    fn addresses_and_names() {
        check(
            "uri",
            &[
                "http://a.b/c?d#e",
                "/path",
                "mailto:x",
                "http://[::1]:80/",
                "*",
                "s3://b/%20",
                "a:/b c",
            ],
            &[
                "",
                "a",
                "a/b",
                ":x",
                "http://a b/",
                "http://a:x/",
                "/%zz",
                "http://[::1",
                "/a\u{7f}",
            ],
        );
        check(
            "email",
            &["a@b", "a.b+c@d.e", "\"a b\"@c", "A B <a@b.c>", "<a@b>", " a@b ", "a@[1.2.3.4]"],
            &["", "a", "@b", "a@", "a@b@c", "a b@c", ".a@b", "a.@b", "a@b.", "A <a@b", "a@b>"],
        );
        check(
            "hostname",
            &[
                "a",
                "ab",
                "a-b",
                "a.bc",
                "a-b-c.example",
                "xn--a.example",
                "\u{e9}.com",
                "1.example",
            ],
            &["", "a-b-c", "a..b", "-a.b", "a.b-", "a.b1", "a_b", "a.c"],
        );
        check(
            "ipv4",
            &["1.2.3.4", "001.2.3.4", "::ffff:1.2.3.4"],
            &["", "1.2.3", "::1", "1.2.3.256"],
        );
        check(
            "ipv6",
            &["::1", "fe80::1", "::ffff:1.2.3.4"],
            &["", "1.2.3.4", "::g", "fe80::1%eth0"],
        );
        check("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "x/1"]);
        check(
            "mac",
            &[
                "01:23:45:67:89:ab",
                "01-23-45-67-89-AB",
                "0123.4567.89ab",
                "01:23:45:67:89:ab:cd:ef",
            ],
            &["", "01:23:45:67:89", "01:23:45:67:89:ag", "01:23-45:67:89:ab", "0123.4567"],
        );
        check("k8s-short-name", &["a-1"], &["a.b", "A", ""]);
        check("k8s-long-name", &["a-1.b"], &["a..b", "A"]);
    }

    #[test]
    fn numbers_of_things() {
        check(
            "uuid",
            &["00000000-0000-0000-0000-000000000000", "0123456789abcdefABCDEF0123456789"],
            &["", "0000", "g0000000-0000-0000-0000-000000000000"],
        );
        check(
            "uuid3",
            &["00000000-0000-3000-0000-000000000000"],
            &["00000000-0000-4000-8000-000000000000"],
        );
        check(
            "uuid4",
            &["00000000-0000-4000-8000-000000000000"],
            &["00000000-0000-4000-0000-000000000000"],
        );
        check(
            "uuid5",
            &["00000000-0000-5000-b000-000000000000"],
            &["00000000-0000-4000-8000-000000000000"],
        );
        check("bsonobjectid", &["0123456789abcdef01234567"], &["", "0123"]);
        check("isbn", &["0321751043", "978-0321751041"], &["0321751044", "978-0321751042", ""]);
        check("isbn10", &["0-8044-2957-X"], &["978-0321751041"]);
        check("isbn13", &["978 0321751041"], &["0321751043"]);
        check(
            "creditcard",
            &["4111 1111 1111 1111", "5555-5555-5555-4444"],
            &["4111111111111112", "1", ""],
        );
        check("ssn", &["123-45-6789", "123 45 6789"], &["123456789", "12-345-6789", ""]);
        check("hexcolor", &["#fff", "FFFFFF"], &["#ffff", "", "#ggg"]);
        check(
            "rgbcolor",
            &["rgb(0,10,255)", "rgb( 1 , 2 , 3 )"],
            &["rgb(0,0,256)", "rgb(00,0,0)", "rgb(1,2)"],
        );
        check("byte", &["aGk=", "aGVs"], &["", "aGk", "aG-_", "a==="]);
        check("password", &["", "x"], &[]);
    }

    #[test]
    fn times() {
        check(
            "date",
            &["2026-02-28", "2024-02-29"],
            &["2026-02-29", "2026-2-3", "", "2026-13-01", "02026-01-01"],
        );
        check(
            "date-time",
            &["2026-02-28T23:59:59Z", "2026-02-28t00:00:00.5+01:00", "2014-12-15T19:30:20.000Z"],
            &[
                "2026-02-28",
                "2026-02-28T24:00:00Z",
                "2026-02-28 00:00:00Z",
                "2026-02-28T00:00:60Z",
                "T",
            ],
        );
        check(
            "duration",
            &["1h", "1h30m", "-1.5h", "22 ns", "5 minutes", "3 weeks", "1d", "0", "+.5s"],
            &["", "1", "h", "1 x", "99999999999999999999 days"],
        );
    }

    #[test]
    fn formats_without_a_rule_take_everything() {
        for format in ["int32", "int64", "float", "double", "iri", "dateTime", ""] {
            assert!(!is_known(format), "{format}");
            assert!(is_valid(format, "anything"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[0-9a-fT:.+zZ@<>\\[\\]%/ -]{0,40}") {
            for format in known() {
                let _either = is_valid(format, &text);
            }
        }
    }
}
