//! Blocks of headers, compressed over the life of a connection. Pure.

use super::ProtocolError;
use super::dictionary::dictionary;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use std::collections::BTreeMap;

/// A block that unpacks to more than this breaks the connection.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// What is unpacked at once.
const STEP_BYTES: usize = 4 << 10;

/// The headers of a stream, by their names in lower case.
pub(crate) type Headers = BTreeMap<String, String>;

/// Unpacks the blocks of one direction, in their order.
#[derive(Debug)]
pub(super) struct Unpacker(Decompress);

impl Unpacker {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Every block has to pass through here, also one that nobody asks for: the next one is
    /// understood by it.
    pub(super) fn unpack(&mut self, mut packed: &[u8]) -> Result<Headers, ProtocolError> {
        let mut block = Vec::with_capacity(STEP_BYTES);
        loop {
            if block.len() == block.capacity() {
                block.reserve(STEP_BYTES);
            }
            let before = self.0.total_in();
            match self.0.decompress_vec(packed, &mut block, FlushDecompress::Sync) {
                Ok(_status) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    let known = self.0.set_dictionary(&dictionary());
                    known.map_err(|_error| ProtocolError("its headers take another dictionary"))?;
                }
                Err(_error) => return Err(ProtocolError("its headers cannot be unpacked")),
            }
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            packed = &packed[read.min(packed.len())..];
            if block.len() > BLOCK_BYTES_MAX {
                return Err(ProtocolError("its headers are too large"));
            }
            // With room left, all that the input says has been said.
            if block.len() < block.capacity() && (packed.is_empty() || read == 0) {
                return parse(&block);
            }
        }
    }
}

fn parse(block: &[u8]) -> Result<Headers, ProtocolError> {
    let mut rest = block;
    let count = take_number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut rest)?.to_ascii_lowercase();
        let value = take_text(&mut rest)?;
        // Several values are kept apart by zeros; none of ours has several.
        let first = value.split('\0').next().unwrap_or_default().to_owned();
        headers.insert(name, first);
    }
    Ok(headers)
}

fn take_number(rest: &mut &[u8]) -> Result<usize, ProtocolError> {
    let (number, left) =
        rest.split_first_chunk().ok_or(ProtocolError("its headers are cut short"))?;
    *rest = left;
    usize::try_from(u32::from_be_bytes(*number)).map_err(|_| ProtocolError("a length is absurd"))
}

fn take_text(rest: &mut &[u8]) -> Result<String, ProtocolError> {
    let length = take_number(rest)?;
    let (text, left) =
        rest.split_at_checked(length).ok_or(ProtocolError("its headers are cut short"))?;
    *rest = left;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Packs the blocks of one direction.
#[derive(Debug)]
pub(super) struct Packer(Compress);

impl Packer {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&dictionary()).expect("nothing has been packed yet");
        Self(compress)
    }

    pub(super) fn pack(&mut self, headers: &Headers) -> Vec<u8> {
        let number =
            |count: usize| u32::try_from(count).expect("headers of our own are few").to_be_bytes();
        let mut block = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&number(text.len()));
            block.extend_from_slice(text.as_bytes());
        }
        // Room for all of it, also where it does not shrink.
        let mut packed = Vec::with_capacity(block.len() * 2 + 64);
        let packing = self.0.compress_vec(&block, &mut packed, FlushCompress::Sync);
        packing.expect("there is room for all of it");
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn blocks_pass_one_after_another() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let long = "x".repeat(20_000);
        for block in [
            headers(&[("streamtype", "error")]),
            headers(&[("streamtype", "data"), ("port", "8080"), ("requestid", "7")]),
            headers(&[]),
            headers(&[("a", &long)]),
            headers(&[("streamtype", "resize")]),
        ] {
            assert_eq!(unpacker.unpack(&packer.pack(&block)).unwrap(), block);
        }
    }

    #[test]
    fn a_bomb_is_noticed() {
        let (mut packer, mut unpacker) = (Packer::new(), Unpacker::new());
        let bomb = headers(&[("a", &"x".repeat(200_000))]);
        assert!(unpacker.unpack(&packer.pack(&bomb)).is_err());
    }

    #[test]
    fn rubbish_is_noticed() {
        for rubbish in [&b""[..], b"\x00", b"\x78\x9c", b"hello, hello, hello", &[0xff; 100]] {
            assert!(Unpacker::new().unpack(rubbish).is_err(), "{rubbish:?}");
        }
        let mut cut = Packer::new().pack(&headers(&[("name", "value")]));
        cut.truncate(cut.len() / 2);
        assert!(Unpacker::new().unpack(&cut).is_err());
    }
}
