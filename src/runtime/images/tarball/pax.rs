//! Extended headers (POSIX pax): what does not fit into a header of 512 bytes.
//!
//! Values are bytes of a stated length: an extended attribute may well contain a line end.

use super::sparse::Segment;

/// Extended attributes go by names with this prefix.
const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

/// What an extended header overrides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<i64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    /// Seconds and nanoseconds.
    pub(super) modified: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<PaxSparse>,
}

/// What GNU tar says about a sparse file in its pax formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<i64>,
    /// Format 1.0: the map comes before the data.
    pub(super) map_is_in_data: bool,
    pub(super) map: Vec<Segment>,
}

/// Understands the contents of an extended header.
///
/// # Errors
/// Names what makes no sense.
pub(super) fn parse(bytes: &[u8]) -> Result<Pax, String> {
    let mut pax = Pax::default();
    let mut rest = bytes;
    // Some writers pad the last block of records with zeroes.
    while rest.iter().any(|byte| *byte != 0) {
        let (key, value, after) = record(rest).ok_or("a malformed extended header")?;
        apply(&mut pax, key, value)
            .ok_or_else(|| format!("bad {} in an extended header", String::from_utf8_lossy(key)))?;
        rest = after;
    }
    Ok(pax)
}

/// `LENGTH KEY=VALUE\n`, where the length counts all of that.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = decimal(&bytes[..blank])?.try_into().ok()?;
    let whole = bytes.get(..length)?;
    let body = whole.get(blank + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn apply(pax: &mut Pax, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"path" => pax.path = name(value)?,
        b"linkpath" => pax.link = name(value)?,
        b"size" => pax.size = Some(decimal(value)?),
        b"uid" => pax.uid = Some(decimal(value)?),
        b"gid" => pax.gid = Some(decimal(value)?),
        b"mtime" => pax.modified = Some(time(value)?),
        _ => {
            if let Some(name) = key.strip_prefix(XATTR) {
                pax.xattrs.push((name.to_vec(), value.to_vec()));
            } else if let Some(key) = key.strip_prefix(SPARSE) {
                apply_sparse(pax.sparse.get_or_insert_default(), key, value)?;
            }
        }
    }
    Some(())
}

fn apply_sparse(sparse: &mut PaxSparse, key: &[u8], value: &[u8]) -> Option<()> {
    match key {
        b"name" => sparse.name = name(value)?,
        b"size" | b"realsize" => sparse.real_size = Some(decimal(value)?),
        b"major" => sparse.map_is_in_data = decimal(value)? >= 1,
        b"map" => {
            let numbers: Option<Vec<u64>> = value
                .split(|byte| *byte == b',')
                .map(|number| decimal(number)?.try_into().ok())
                .collect();
            for pair in numbers?.chunks(2) {
                let [offset, length] = *pair else { return None };
                sparse.map.push(Segment { offset, length });
            }
        }
        b"offset" => {
            let offset = decimal(value)?.try_into().ok()?;
            sparse.map.push(Segment { offset, length: 0 });
        }
        b"numbytes" => sparse.map.last_mut()?.length = decimal(value)?.try_into().ok()?,
        _ => {}
    }
    Some(())
}

/// An empty value means that the header's own holds after all.
#[expect(clippy::option_option, reason = "the outer says whether it could be understood")]
fn name(value: &[u8]) -> Option<Option<Vec<u8>>> {
    if value.contains(&0) {
        return None;
    }
    Some((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction of any length; digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(records: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = [1, 2, 3].into_iter().find(|n| (rest + n).to_string().len() == *n);
            let length = rest + digits.unwrap();
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        bytes
    }

    #[test]
    fn values_are_bytes_of_a_stated_length() {
        let capability = b"\x01\n\n=\x00\x02";
        let pax = parse(&written(&[
            ("path", b"a/\xff\nb"),
            ("SCHILY.xattr.security.capability", capability),
            ("uid", b"4294967294"),
            ("mtime", b"1700000000.5"),
            ("comment", b"ignored"),
            ("linkpath", b""),
        ]))
        .unwrap();
        assert_eq!(pax.path.unwrap(), b"a/\xff\nb");
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!(pax.uid, Some(4_294_967_294));
        assert_eq!(pax.modified, Some((1_700_000_000, 500_000_000)));
        assert_eq!(pax.link, None);
    }

    #[test]
    fn times_are_decimal_fractions() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1.0000000019", Some((1, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("1.x", None),
            ("", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn sparse_maps_come_as_one_record_or_as_many() {
        let map = [Segment { offset: 1, length: 2 }, Segment { offset: 5, length: 6 }];
        let one = written(&[("GNU.sparse.map", b"1,2,5,6"), ("GNU.sparse.size", b"20")]);
        let many = written(&[
            ("GNU.sparse.offset", b"1"),
            ("GNU.sparse.numbytes", b"2"),
            ("GNU.sparse.offset", b"5"),
            ("GNU.sparse.numbytes", b"6"),
        ]);
        for bytes in [one, many] {
            assert_eq!(parse(&bytes).unwrap().sparse.unwrap().map, map);
        }
        let odd = written(&[("GNU.sparse.map", b"1,2,3")]);
        assert_eq!(parse(&odd).unwrap_err(), "bad GNU.sparse.map in an extended header");
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [&b"99 path=a\n"[..], b"x path=a\n", b"9 path=ab", b"7 path\n", b"-1 a=b\n"] {
            assert_eq!(parse(bytes).unwrap_err(), "a malformed extended header", "{bytes:?}");
        }
        let bad = parse(&written(&[("size", b"many")])).unwrap_err();
        assert_eq!(bad, "bad size in an extended header");
        assert_eq!(parse(&[0; 512]).unwrap(), Pax::default());
    }
}
