//! Maps of sparse files: which parts of a file an archive holds.

use super::header::{BLOCK_BYTES, Block, number};
use super::pax::decimal;

/// A file in more pieces is refused: its map alone would take megabytes.
pub(super) const SEGMENTS_MAX: usize = 65_536;

/// GNU's old format has four segments in the header and 21 in each block that follows.
const OLD_IN_HEADER: std::ops::Range<usize> = 386..482;
const OLD_HEADER_CONTINUES: usize = 482;
const OLD_REAL_SIZE: std::ops::Range<usize> = 483..495;
const OLD_IN_BLOCK: std::ops::Range<usize> = 0..504;
const OLD_BLOCK_CONTINUES: usize = 504;
const OLD_SEGMENT_BYTES: usize = 24;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Segment {
    pub(in super::super) offset: u64,
    pub(in super::super) length: u64,
}

/// Where the bytes of a sparse file belong, in the order in which the archive has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct SparseMap {
    pub(in super::super) segments: Vec<Segment>,
    /// The size of the file, holes included.
    pub(in super::super) size: u64,
}

impl SparseMap {
    /// Checks a map against the bytes that the archive holds.
    pub(super) fn new(mut segments: Vec<Segment>, size: u64, stored: u64) -> Result<Self, String> {
        segments.retain(|segment| segment.length > 0);
        let mut end = 0_u64;
        let mut total = 0_u64;
        for segment in &segments {
            let segment_end = segment.offset.checked_add(segment.length);
            match segment_end {
                Some(next) if segment.offset >= end && next <= size => end = next,
                _ => return Err("a sparse file with parts out of order or too large".to_owned()),
            }
            total += segment.length;
        }
        if total != stored {
            return Err("a sparse file whose parts are not as long as its data".to_owned());
        }
        Ok(Self { segments, size })
    }
}

/// What GNU's old format says in a header: the file's size, its first segments, and whether more
/// blocks of segments follow.
pub(super) fn old_header(block: &Block) -> Result<(u64, Vec<Segment>, bool), String> {
    let size = number(&block[OLD_REAL_SIZE]).and_then(|size| size.try_into().ok());
    let size = size.ok_or("bad size of a sparse file in a header")?;
    Ok((size, old_segments(&block[OLD_IN_HEADER])?, block[OLD_HEADER_CONTINUES] != 0))
}

/// More segments of GNU's old format, and whether yet more follow.
pub(super) fn old_block(block: &Block) -> Result<(Vec<Segment>, bool), String> {
    Ok((old_segments(&block[OLD_IN_BLOCK])?, block[OLD_BLOCK_CONTINUES] != 0))
}

fn old_segments(bytes: &[u8]) -> Result<Vec<Segment>, String> {
    let used = |entry: &&[u8]| entry[0] != 0;
    let segment = |entry: &[u8]| {
        let offset = number(&entry[..12])?.try_into().ok()?;
        let length = number(&entry[12..])?.try_into().ok()?;
        Some(Segment { offset, length })
    };
    let entries = bytes.chunks_exact(OLD_SEGMENT_BYTES).take_while(used);
    let parsed: Option<Vec<_>> = entries.map(segment).collect();
    parsed.ok_or_else(|| "bad map of a sparse file".to_owned())
}

/// Reads the map in front of the data of format 1.0: decimal lines, the first of which says how
/// many pairs follow, padded to whole blocks. Fed block by block.
#[derive(Debug, Default)]
pub(super) struct MapInData {
    line: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl MapInData {
    /// Takes a block; gives the map when it is complete.
    pub(super) fn feed(&mut self, block: &Block) -> Result<Option<Vec<Segment>>, String> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > BLOCK_BYTES {
                    return Err("bad map of a sparse file".to_owned());
                }
                continue;
            }
            let number = decimal(&self.line).and_then(|number| u64::try_from(number).ok());
            let number = number.ok_or("bad map of a sparse file")?;
            self.line.clear();
            match self.count {
                None => self.count = Some(segments_within_limit(number)?),
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() == 2 * count) {
                return Ok(Some(self.segments()));
            }
        }
        Ok(None)
    }

    fn segments(&self) -> Vec<Segment> {
        let pairs = self.numbers.chunks_exact(2);
        pairs.map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()
    }
}

fn segments_within_limit(count: u64) -> Result<usize, String> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= SEGMENTS_MAX)
        .ok_or_else(|| format!("a sparse file in more than {SEGMENTS_MAX} parts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn maps_have_to_fit_the_file_and_its_data() {
        let order = "a sparse file with parts out of order or too large";
        let data = "a sparse file whose parts are not as long as its data";
        for (segments, size, stored, expected) in [
            (vec![segment(0, 2), segment(8, 2), segment(10, 0)], 10, 4, Ok(2)),
            (vec![], 1 << 40, 0, Ok(0)),
            (vec![segment(8, 2), segment(0, 2)], 10, 4, Err(order)),
            (vec![segment(9, 2)], 10, 2, Err(order)),
            (vec![segment(u64::MAX, 2)], u64::MAX, 2, Err(order)),
            (vec![segment(0, 2)], 10, 3, Err(data)),
        ] {
            let found = SparseMap::new(segments, size, stored).map(|map| map.segments.len());
            assert_eq!(found, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_map_in_front_of_the_data_may_take_several_blocks() {
        let lines: String = (0..100).map(|n| format!("{}\n{}\n", n * 10, 5)).collect();
        let mut bytes = format!("100\n{lines}").into_bytes();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut map = MapInData::default();
        let mut found = None;
        for block in bytes.chunks_exact(BLOCK_BYTES) {
            assert_eq!(found, None);
            found = map.feed(block.try_into().unwrap()).unwrap();
        }
        assert_eq!(found.unwrap()[99], segment(990, 5));
        let mut huge = [0; BLOCK_BYTES];
        huge[..7].copy_from_slice(b"999999\n");
        let why = MapInData::default().feed(&huge).unwrap_err();
        assert_eq!(why, "a sparse file in more than 65536 parts");
    }
}
