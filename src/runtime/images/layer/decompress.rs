//! Finds out by its first bytes how a stream is compressed, and undoes it.

use std::io::{self, BufReader, Cursor, Read};

const BUFFER_BYTES: usize = 64 * 1024;
/// The longest of the marks below.
const MARK_BYTES: usize = 6;
/// A zstd stream that needs more memory than 2^27 bytes is refused; so does zstd(1) by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Compressions that images never use, but people do.
const UNSUPPORTED: [(&[u8], &str); 4] = [
    (b"BZh", "bzip2"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"PK\x03\x04", "zip"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Unsupported(&'static str),
}

fn detect(mark: &[u8]) -> Compression {
    // A zstd stream may start with a frame of metadata, 0x184D2A50 to 0x184D2A5F in little endian.
    let skippable = mark.len() >= 4 && mark[0] & 0xf0 == 0x50 && mark[1..4] == [0x2a, 0x4d, 0x18];
    if mark.starts_with(GZIP) {
        return Compression::Gzip;
    }
    if mark.starts_with(ZSTD) || skippable {
        return Compression::Zstd;
    }
    let unsupported = UNSUPPORTED.iter().find(|(start, _)| mark.starts_with(start));
    unsupported.map_or(Compression::None, |(_, name)| Compression::Unsupported(name))
}

/// Whether a stream that starts so is compressed.
pub(in super::super) fn is_compressed(start: &[u8]) -> bool {
    detect(start) != Compression::None
}

/// The plain bytes of `source`.
pub(in super::super) fn decompress<'a>(
    mut source: impl Read + 'a,
) -> io::Result<Box<dyn Read + 'a>> {
    let mut mark = Vec::with_capacity(MARK_BYTES);
    source.by_ref().take(MARK_BYTES as u64).read_to_end(&mut mark)?;
    let compression = detect(&mark);
    let whole = Cursor::new(mark).chain(source);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => {
            let buffered = BufReader::with_capacity(BUFFER_BYTES, whole);
            Box::new(Decoder(flate2::bufread::MultiGzDecoder::new(buffered)))
        }
        Compression::Zstd => {
            let buffered = BufReader::with_capacity(BUFFER_BYTES, whole);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(Decoder(decoder))
        }
        Compression::Unsupported(name) => {
            let why = format!("it is compressed with {name}; gzip and zstd are understood");
            return Err(io::Error::new(io::ErrorKind::InvalidData, BadData(why)));
        }
    })
}

/// Marks the complaints of a decompressor about the data, so that they are not taken for failures
/// of the source.
struct Decoder<R>(R);

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let is_own = error.raw_os_error().is_none()
                && !error.get_ref().is_some_and(|inner| inner.is::<BrokenSource>());
            let about_data = matches!(
                error.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::Other
            );
            if is_own && about_data {
                io::Error::new(io::ErrorKind::InvalidData, BadData(error.to_string()))
            } else {
                error
            }
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadData(String);

/// What a source of compressed bytes says when it breaks, so that nobody blames the bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in super::super) struct BrokenSource(pub(in super::super) String);

/// Whether an error of [`decompress`] is about the data and not about where it comes from.
pub(in super::super) fn is_about_the_data(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<BadData>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn check(bytes: &[u8], expected: &str) {
        let mut text = Vec::new();
        let read = decompress(bytes).and_then(|mut plain| plain.read_to_end(&mut text));
        match read {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&text), expected),
            Err(error) => {
                assert!(is_about_the_data(&error), "{error:?}");
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }

    #[test]
    fn the_first_bytes_say_how() {
        check(b"", "");
        check(b"abc", "abc");
        check(&gzip(b"one"), "one");
        check(&[gzip(b"one"), gzip(b"two")].concat(), "onetwo");
        let frame = zstd::encode_all(&b"three"[..], 3).unwrap();
        check(&frame, "three");
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9][..], &frame, &frame].concat();
        check(&skipped, "threethree");
        check(b"BZh9xxxx", "it is compressed with bzip2; gzip and zstd are understood");
        check(&gzip(b"broken off")[..15], "");
        let mut damaged = gzip(b"damaged");
        damaged[12] ^= 0xff;
        check(&damaged, "corrupt");
    }

    #[test]
    fn a_broken_source_is_not_the_datas_fault() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other(BrokenSource("cable".to_owned())))
            }
        }
        let bytes = gzip(&[7; 100_000]);
        let source = Cursor::new(bytes[..50].to_vec()).chain(Broken);
        let mut plain = decompress(source).unwrap();
        let error = plain.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(!is_about_the_data(&error));
        assert_eq!(error.to_string(), "cable");
    }
}
