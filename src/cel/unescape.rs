//! What the characters between quotation marks mean (cel-go parser/unescape.go, v0.26).

const BAD: &str = "unable to unescape string";
const BAD_OCTAL: &str = "unable to unescape octal sequence in string";
const BAD_CODE_POINT: &str = "invalid unicode code point";

/// The bytes of a literal as it is written, with its prefixes and quotation marks.
pub(super) fn unescape(literal: &str, is_bytes: bool) -> Result<Vec<u8>, &'static str> {
    let text = literal.replace("\r\n", "\n").replace('\r', "\n");
    let text = if is_bytes { text.get(1..).unwrap_or_default() } else { &text };
    let unprefixed = text.strip_prefix(['r', 'R']).unwrap_or(text);
    let is_raw = unprefixed.len() < text.len();
    let marks = if unprefixed.len() >= 6
        && (unprefixed.starts_with("'''") || unprefixed.starts_with("\"\"\""))
    {
        3
    } else {
        1
    };
    let inner = unprefixed.get(marks..unprefixed.len() - marks).ok_or(BAD)?;
    if is_raw {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut found = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        found.extend_from_slice(&rest.as_bytes()[..at]);
        rest = sequence(&rest[at + 1..], is_bytes, &mut found)?;
    }
    found.extend_from_slice(rest.as_bytes());
    Ok(found)
}

/// Reads what follows a backslash; returns what follows that.
fn sequence<'t>(
    rest: &'t str,
    is_bytes: bool,
    found: &mut Vec<u8>,
) -> Result<&'t str, &'static str> {
    let first = *rest.as_bytes().first().ok_or(BAD)?;
    let plain = match first {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'\'' | b'"' | b'`' | b'?' => first,
        b'x' | b'X' => return code(rest, 2, 16, is_bytes, found).ok_or(BAD)?,
        b'u' if !is_bytes => return code(rest, 4, 16, is_bytes, found).ok_or(BAD)?,
        b'U' if !is_bytes => return code(rest, 8, 16, is_bytes, found).ok_or(BAD)?,
        b'0'..=b'3' => {
            let digits = rest.get(..3).filter(|d| d.bytes().all(|b| matches!(b, b'0'..=b'7')));
            let value = digits.and_then(|d| u32::from_str_radix(d, 8).ok()).ok_or(BAD_OCTAL)?;
            push(value, is_bytes, found)?;
            return Ok(&rest[3..]);
        }
        _ => return Err(BAD),
    };
    found.push(plain);
    Ok(&rest[1..])
}

fn code<'t>(
    rest: &'t str,
    length: usize,
    radix: u32,
    is_bytes: bool,
    found: &mut Vec<u8>,
) -> Option<Result<&'t str, &'static str>> {
    let digits = rest.get(1..=length).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let value = u32::from_str_radix(digits, radix).ok()?;
    Some(push(value, is_bytes, found).map(|()| &rest[length + 1..]))
}

fn push(value: u32, is_bytes: bool, found: &mut Vec<u8>) -> Result<(), &'static str> {
    if is_bytes {
        found.push(u8::try_from(value).map_err(|_| BAD)?);
        return Ok(());
    }
    let c = char::from_u32(value).ok_or(BAD_CODE_POINT)?;
    found.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(literal: &str, is_bytes: bool, expected: Result<&[u8], &'static str>) {
        assert_eq!(unescape(literal, is_bytes).as_deref().map_err(|e| *e), expected, "{literal}");
    }

    #[test]
    fn escape_sequences_are_characters_in_strings_and_bytes_in_bytes() {
        check(r#""\n\x41\u00e9\101""#, false, Ok("\nAéA".as_bytes()));
        check(r"b'\xff\001é'", true, Ok(&[0xff, 1, 0xc3, 0xa9]));
        check(r"'\xff'", false, Ok("ÿ".as_bytes()));
        check(r"r'\n'", false, Ok(br"\n"));
        check("'''a'\r\nb'''", false, Ok(b"a'\nb"));
        check(r"'\U00110000'", false, Err(BAD_CODE_POINT));
        check(r"b'\u0041'", true, Err(BAD));
    }
}
