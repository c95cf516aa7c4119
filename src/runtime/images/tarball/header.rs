//! One 512-byte header of a tar archive, as POSIX ustar, GNU and V7 write it.

use std::ops::Range;

pub(super) const BLOCK_BYTES: usize = 512;
pub(super) type Block = [u8; BLOCK_BYTES];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;

/// What a header says, before extended headers correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) modified_seconds: i64,
    pub(super) major: u32,
    pub(super) minor: u32,
}

/// Understands a header.
///
/// # Errors
/// Names the field that makes no sense.
pub(super) fn parse(block: &Block) -> Result<Header, String> {
    check_sum(block)?;
    let field = |range: &Range<usize>, name: &str| {
        number(&block[range.clone()]).ok_or_else(|| format!("bad {name} in a header"))
    };
    let small = |range: &Range<usize>, name: &str| {
        let value = field(range, name)?;
        u32::try_from(value).map_err(|_| format!("bad {name} in a header"))
    };
    let kind = block[KIND];
    let is_posix = &block[MAGIC] == b"ustar\0";
    let has_devices = is_posix || &block[MAGIC] == b"ustar ";
    let is_device = has_devices && matches!(kind, b'3' | b'4');
    Ok(Header {
        kind,
        path: path(block, is_posix),
        link: text(&block[LINK]).to_vec(),
        // Only the permission bits count; some writers put the file type above them.
        mode: u32::try_from(field(&MODE, "mode")? & 0o7777).expect("twelve bits"),
        uid: field(&UID, "uid")?,
        gid: field(&GID, "gid")?,
        size: field(&SIZE, "size")?,
        modified_seconds: field(&MTIME, "time")?,
        major: if is_device { small(&MAJOR, "device number")? } else { 0 },
        minor: if is_device { small(&MINOR, "device number")? } else { 0 },
    })
}

fn path(block: &Block, is_posix: bool) -> Vec<u8> {
    let prefix = match (is_posix, &block[STAR_TRAILER] == b"tar\0") {
        (true, true) => text(&block[STAR_PREFIX]),
        (true, false) => text(&block[PREFIX]),
        (false, _) => &[],
    };
    let mut path = prefix.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(text(&block[NAME]));
    path
}

/// The sum of all bytes, with the sum's own field as spaces. Old writers added signed bytes.
fn check_sum(block: &Block) -> Result<(), String> {
    let expected = number(&block[CHECKSUM]).ok_or("bad checksum in a header")?;
    let counted = |index: usize, byte: u8| if CHECKSUM.contains(&index) { b' ' } else { byte };
    let bytes = || block.iter().enumerate().map(|(index, byte)| counted(index, *byte));
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    if expected == unsigned || expected == signed {
        Ok(())
    } else {
        Err("a header with a wrong checksum".to_owned())
    }
}

/// Bytes up to the first zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number: octal digits among blanks and zeroes, or, with the top bit set, two's complement.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // Bit 6 is the sign, and is extended into bit 7, which only marks the format.
        let top = if first & 0x40 != 0 {
            i128::from(first.cast_signed())
        } else {
            i128::from(first & 0x3f)
        };
        let value = rest.iter().try_fold(top, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte))
        });
        return i64::try_from(value?).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    field[start..end].iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", None),
            (b"0000648\0", None),
            (b"64 4\0", None),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"777777777777", Some(0o777_777_777_777)),
        ] {
            assert_eq!(number(field), expected, "{field:?}");
        }
    }

    #[test]
    fn headers_of_another_writer_are_understood() {
        let mut header = ::tar::Header::new_ustar();
        header.set_path("a".repeat(90) + "/" + &"b".repeat(90)).unwrap();
        header.set_mode(0o100_4755);
        header.set_uid(1000);
        header.set_size(7);
        header.set_mtime(1_700_000_000);
        header.set_entry_type(::tar::EntryType::Char);
        header.set_device_major(5).unwrap();
        header.set_device_minor(1).unwrap();
        header.set_cksum();
        let parsed = parse(header.as_bytes()).unwrap();
        assert_eq!(parsed.path.len(), 181);
        assert_eq!((parsed.mode, parsed.uid, parsed.size), (0o4755, 1000, 7));
        assert_eq!((parsed.major, parsed.minor), (5, 1));
        let mut damaged = *header.as_bytes();
        damaged[3] ^= 1;
        assert_eq!(parse(&damaged).unwrap_err(), "a header with a wrong checksum");
    }
}
