//! The few pieces of DER that a certificate is made of (X.690).

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Object identifiers, as they are encoded.
pub(super) mod oid {
    pub(in super::super) const COMMON_NAME: &[u8] = &[0x55, 4, 3];
    pub(in super::super) const ORGANIZATION: &[u8] = &[0x55, 4, 10];
    pub(in super::super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(in super::super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(in super::super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(in super::super) const AUTHORITY_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x23];
    pub(in super::super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(in super::super) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    pub(in super::super) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
}

/// The algorithms of signatures, as `AlgorithmIdentifier`s.
pub(super) mod algorithm {
    pub(in super::super) const ECDSA_SHA256: &[u8] =
        &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub(in super::super) const ECDSA_SHA384: &[u8] =
        &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    pub(in super::super) const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
    pub(in super::super) const RSA_SHA256: &[u8] =
        &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0];
}

/// Years from here on are written with four digits.
const GENERALIZED_YEAR_MIN: i16 = 2050;

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let significant: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut encoded = vec![tag];
    match significant[..] {
        [] => encoded.push(0),
        [short] if short < 0x80 => encoded.push(short),
        _ => {
            encoded.push(0x80 | u8::try_from(significant.len()).expect("at most eight bytes"));
            encoded.extend(significant);
        }
    }
    encoded.extend_from_slice(content);
    encoded
}

pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

/// A set of one.
pub(super) fn set(part: &[u8]) -> Vec<u8> {
    tagged(0x31, part)
}

pub(super) fn utf8_string(text: &str) -> Vec<u8> {
    tagged(0x0c, text.as_bytes())
}

/// `[number] EXPLICIT`.
pub(super) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0xa0 | number, content)
}

/// `[number] IMPLICIT` of something primitive.
pub(super) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0x80 | number, content)
}

/// Not negative, the most significant byte first.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let mut significant: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    // The highest bit would be a sign.
    if significant.first().is_none_or(|first| *first >= 0x80) {
        significant.insert(0, 0);
    }
    tagged(0x02, &significant)
}

pub(super) fn boolean(value: bool) -> Vec<u8> {
    tagged(0x01, &[if value { 0xff } else { 0 }])
}

pub(super) fn octet_string(content: &[u8]) -> Vec<u8> {
    tagged(0x04, content)
}

/// `unused` bits at the end mean nothing.
pub(super) fn bit_string(content: &[u8], unused: u8) -> Vec<u8> {
    tagged(0x03, &[&[unused], content].concat())
}

pub(super) fn object_identifier(encoded: &[u8]) -> Vec<u8> {
    tagged(0x06, encoded)
}

/// A moment, in the form that RFC 5280 wants for its year.
pub(super) fn time(moment: Timestamp) -> Vec<u8> {
    let utc = moment.to_zoned(TimeZone::UTC).datetime();
    let rest = utc.strftime("%m%d%H%M%SZ").to_string();
    match utc.year() {
        year if year < GENERALIZED_YEAR_MIN => {
            tagged(0x17, format!("{:02}{rest}", year.rem_euclid(100)).as_bytes())
        }
        year => tagged(0x18, format!("{year:04}{rest}").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers() {
        assert_eq!(sequence(&[]), [0x30, 0]);
        assert_eq!(octet_string(&[7; 127])[..2], [4, 127]);
        assert_eq!(octet_string(&[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(octet_string(&[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x7f]), [2, 1, 0x7f]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn times() {
        for (moment, expected) in [
            ("2026-11-21T09:30:00Z", "\x17\x0d261121093000Z"),
            ("2049-12-31T23:59:59Z", "\x17\x0d491231235959Z"),
            ("2050-01-01T00:00:00Z", "\x18\x0f20500101000000Z"),
        ] {
            assert_eq!(time(moment.parse().unwrap()), expected.as_bytes());
        }
    }
}
