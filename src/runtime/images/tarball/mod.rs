//! Reads tar archives as a stream: V7, ustar, GNU and pax, sparse files included.
//!
//! Start at [`TarReader`]. Written here because layers come from strangers: memory is bounded
//! whatever a header claims, extended attributes may hold any byte, and every refusal says where
//! and why. Architecture invariant: nothing here opens a file; names are bytes as the archive has them.

mod header;
mod pax;
mod sparse;

pub(super) use sparse::SparseMap;

use header::{BLOCK_BYTES, Block, Header};
use pax::Pax;
use std::io::{self, Read, Seek};

/// A larger extended header or long name is refused. Linux itself takes extended attributes of
/// 64 KiB in all and paths of 4 KiB.
const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;

/// Why an archive could not be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    /// The archive itself is at fault.
    #[error("{why} (at byte {position})")]
    Malformed { position: u64, why: String },
    /// Where its bytes come from is.
    #[error("the archive cannot be read on")]
    Read(#[source] io::Error),
}

/// What an entry of an archive makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    SparseFile(SparseMap),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    CharacterDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Directory,
    Fifo,
}

/// An entry of an archive. Its data is read from the [`TarReader`] before the next entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of data in the archive.
    pub(super) stored: u64,
}

/// Reads an archive entry by entry. As a [`Read`], it is the data of the entry read last.
pub(super) struct TarReader<R> {
    source: R,
    position: u64,
    /// Of the current entry's data.
    left: u64,
    padding: u64,
}

impl<R: Read + Seek> TarReader<R> {
    /// Goes past the current entry's data without reading it. `length` is the archive's.
    pub(super) fn seek_past_data(&mut self, length: u64) -> Result<(), TarError> {
        let data = self.left.saturating_add(self.padding);
        if self.position.saturating_add(self.left) > length {
            return Err(self.malformed("the archive ends too early"));
        }
        let data = data.min(length - self.position);
        let offset = i64::try_from(data).map_err(|_| self.malformed("an impossible size"))?;
        self.source.seek_relative(offset).map_err(TarError::Read)?;
        self.position += data;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// Headers that say more about the entry after them.
#[derive(Default)]
struct Extensions {
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, position: 0, left: 0, padding: 0 }
    }

    /// Where the next byte to be read is in the archive.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Goes on to the next entry, past what is left of the current one. `None` at the end.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_data()?;
            let Some(block) = self.read_header_block()? else {
                return Ok(None);
            };
            let header = header::parse(&block).map_err(|why| self.bad_header(&why))?;
            match header.kind {
                b'x' => {
                    let bytes = self.read_extension(&header)?;
                    extensions.pax = pax::parse(&bytes).map_err(|why| self.malformed(why))?;
                }
                // Records for all entries that follow: nothing of use to us is ever in them.
                b'g' => drop(self.read_extension(&header)?),
                b'L' => extensions.long_path = Some(self.read_long_name(&header)?),
                b'K' => extensions.long_link = Some(self.read_long_name(&header)?),
                _ => return self.entry(&block, header, extensions).map(Some),
            }
        }
    }

    fn malformed(&self, why: impl Into<String>) -> TarError {
        TarError::Malformed { position: self.position, why: why.into() }
    }

    fn bad_header(&self, why: &str) -> TarError {
        if self.position == BLOCK_BYTES as u64 {
            return self.malformed(format!("it is no tar archive: {why}"));
        }
        self.malformed(why)
    }

    fn entry(
        &mut self,
        block: &Block,
        header: Header,
        extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let Extensions { pax, long_path, long_link } = extensions;
        let path = pax.path.or(long_path).unwrap_or(header.path);
        let link = pax.link.or(long_link).unwrap_or(header.link);
        let size = pax.size.unwrap_or(header.size);
        let size = u64::try_from(size).map_err(|_| self.malformed("a negative size"))?;
        let id = |id: i64| u32::try_from(id).map_err(|_| self.malformed(format!("bad owner {id}")));
        let (uid, gid) = (id(pax.uid.unwrap_or(header.uid))?, id(pax.gid.unwrap_or(header.gid))?);
        let mut entry = Entry {
            path,
            kind: Kind::File,
            mode: header.mode,
            uid,
            gid,
            modified: pax.modified.unwrap_or((header.modified_seconds, 0)),
            xattrs: pax.xattrs,
            stored: 0,
        };
        entry.kind = match header.kind {
            b'0' | b'7' | 0 if pax.sparse.is_some() => {
                self.begin_data(size)?;
                let sparse = pax.sparse.unwrap_or_default();
                if let Some(name) = &sparse.name {
                    entry.path.clone_from(name);
                }
                self.pax_sparse(sparse)?
            }
            b'S' => {
                self.begin_data(size)?;
                self.old_sparse(block)?
            }
            0 if entry.path.ends_with(b"/") => Kind::Directory,
            b'0' | b'7' | 0 => {
                self.begin_data(size)?;
                Kind::File
            }
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::CharacterDevice { major: header.major, minor: header.minor },
            b'4' => Kind::BlockDevice { major: header.major, minor: header.minor },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let name = String::from_utf8_lossy(&entry.path).into_owned();
                let kind = char::from(other).escape_default();
                return Err(self.malformed(format!("`{name}` is of the unknown type `{kind}`")));
            }
        };
        entry.stored = self.left;
        Ok(entry)
    }

    /// Entries without data (links, devices, directories) keep a size only by mistake, and have
    /// none: Go's archive/tar reads them so.
    fn begin_data(&mut self, size: u64) -> Result<(), TarError> {
        let rounded = size.checked_next_multiple_of(BLOCK_BYTES as u64);
        let rounded = rounded.ok_or_else(|| self.malformed("an impossible size"))?;
        self.left = size;
        self.padding = rounded - size;
        Ok(())
    }

    fn old_sparse(&mut self, block: &Block) -> Result<Kind, TarError> {
        let (size, mut segments, mut continues) =
            sparse::old_header(block).map_err(|why| self.malformed(why))?;
        while continues {
            if segments.len() > sparse::SEGMENTS_MAX {
                let max = sparse::SEGMENTS_MAX;
                return Err(self.malformed(format!("a sparse file in more than {max} parts")));
            }
            let block = self.read_block()?;
            let (more, goes_on) = sparse::old_block(&block).map_err(|why| self.malformed(why))?;
            segments.extend(more);
            continues = goes_on;
        }
        let map = SparseMap::new(segments, size, self.left).map_err(|why| self.malformed(why))?;
        Ok(Kind::SparseFile(map))
    }

    fn pax_sparse(&mut self, sparse: pax::PaxSparse) -> Result<Kind, TarError> {
        let mut segments = sparse.map;
        if sparse.map_is_in_data {
            let mut map = sparse::MapInData::default();
            segments = loop {
                if self.left < BLOCK_BYTES as u64 {
                    return Err(self.malformed("bad map of a sparse file"));
                }
                let block = self.read_block()?;
                self.left -= BLOCK_BYTES as u64;
                if let Some(found) = map.feed(&block).map_err(|why| self.malformed(why))? {
                    break found;
                }
            };
        }
        let size = sparse.real_size.and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| self.malformed("a sparse file without its size"))?;
        let map = SparseMap::new(segments, size, self.left).map_err(|why| self.malformed(why))?;
        Ok(Kind::SparseFile(map))
    }

    fn read_long_name(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let bytes = self.read_extension(header)?;
        Ok(header::text(&bytes).to_vec())
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = u64::try_from(header.size).map_err(|_| self.malformed("a negative size"))?;
        if size > EXTENSION_BYTES_MAX {
            return Err(self.malformed(format!("an extended header of {size} bytes")));
        }
        self.begin_data(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(|error| self.read_failed(error))?;
        Ok(bytes)
    }

    /// `None` where the archive ends: at two blocks of zeroes, or where there is no more.
    fn read_header_block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        if self.fill(&mut block)? == 0 {
            return Ok(None);
        }
        if block != [0; BLOCK_BYTES] {
            return Ok(Some(block));
        }
        if self.fill(&mut block)? == 0 || block == [0; BLOCK_BYTES] {
            return Ok(None);
        }
        Err(self.malformed("a block of zeroes in the middle"))
    }

    fn read_block(&mut self) -> Result<Block, TarError> {
        let mut block = [0; BLOCK_BYTES];
        match self.fill(&mut block)? {
            0 => Err(self.malformed("the archive ends too early")),
            _ => Ok(block),
        }
    }

    /// Reads a whole block, or nothing at the very end.
    fn fill(&mut self, block: &mut Block) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(0),
                Ok(0) => return Err(self.malformed("the archive ends too early")),
                Ok(read) => {
                    filled += read;
                    self.position += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(filled)
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        io::copy(self, &mut io::sink()).map_err(|error| self.read_failed(error))?;
        let padding = std::mem::take(&mut self.padding);
        let mut source = (&mut self.source).take(padding);
        let skipped = io::copy(&mut source, &mut io::sink()).map_err(TarError::Read)?;
        self.position += skipped;
        if skipped < padding {
            return Err(self.malformed("the archive ends too early"));
        }
        Ok(())
    }

    /// Tells an archive that ends too early from a source that broke.
    pub(super) fn read_failed(&self, error: io::Error) -> TarError {
        match error.get_ref() {
            Some(inner) if inner.is::<EndedEarly>() => self.malformed("the archive ends too early"),
            _ => TarError::Read(error),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the archive ends too early")]
struct EndedEarly;

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, EndedEarly));
        }
        self.left -= read as u64;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
