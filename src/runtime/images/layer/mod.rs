//! Unpacks layers, each into a directory of its own that overlayfs takes as a lower one.
//!
//! Start at [`unpack`]. A layer is unpacked without those below it, so that all of an image's come
//! in side by side; the few things that do depend on them (directories that the archive leaves
//! out, hard links to files further down) wait for [`settle()`].

mod decompress;
mod extract;
mod settle;
mod tree;

pub(super) use decompress::{BrokenSource, decompress, is_about_the_data, is_compressed};
pub(super) use settle::settle;

use super::digest::{Digest, HashingReader};
use super::rootfs::Marks;
use super::tarball::TarError;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a layer may grow to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    /// Of names that have to be remembered until all of it is unpacked: of its directories, and of
    /// links to files of other layers.
    pub(super) names_bytes: usize,
}

/// A layer beyond these is refused: larger than any image in use, and less than what fills a
/// server's disk or uses up its inodes out of a few megabytes that came over the network.
/// The names are held in memory: there is room for those of half a million directories.
pub(super) const LIMITS: Limits =
    Limits { bytes: 256 << 30, entries: 20_000_000, names_bytes: 64 << 20 };

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// The layer itself is at fault.
    #[error("{0}")]
    Malformed(String),
    /// Where its bytes come from is.
    #[error("the layer's archive cannot be read")]
    Read(#[source] io::Error),
    /// The disk is.
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// A failure to make `path` is the archive's fault when no disk could do it.
    fn write(path: &Path, source: io::Error) -> Self {
        use rustix::io::Errno;
        let impossible = [Errno::NAMETOOLONG, Errno::LOOP, Errno::NOTDIR, Errno::ISDIR];
        let code = source.raw_os_error();
        if impossible.iter().any(|errno| code == Some(errno.raw_os_error())) {
            return Self::Malformed(format!("`{}`: {source}", path.display()));
        }
        Self::Write { path: path.to_path_buf(), source }
    }
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Malformed { .. } => Self::Malformed(error.to_string()),
            // Decompressors and the sources beneath them both speak through this one channel;
            // only what a decompressor says is about the layer.
            TarError::Read(error) if decompress::is_about_the_data(&error) => {
                Self::Malformed(format!("it cannot be decompressed: {error}"))
            }
            TarError::Read(error) => Self::Read(error),
        }
    }
}

/// A layer in its directory, before [`settle()`].
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The digest of the uncompressed archive.
    pub(super) diff_id: Digest,
    /// Contents of its files.
    pub(super) size_bytes: u64,
    pub(super) unsettled: Unsettled,
    pub(super) describes_root: bool,
    pub(super) has_opaque_root: bool,
}

/// What has to be taken from the layers below.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unsettled {
    /// Directories that the archive goes through without describing them. They get the looks of
    /// the same directories below.
    pub(super) directories: Vec<PathBuf>,
    /// Hard links whose target is further down.
    pub(super) links: Vec<ForeignLink>,
}

impl Unsettled {
    pub(super) fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.links.is_empty()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ForeignLink {
    pub(super) path: PathBuf,
    pub(super) target: PathBuf,
}

/// How to unpack a layer.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// An empty directory.
    pub(super) root: &'a Path,
    pub(super) marks: Marks,
    pub(super) limits: Limits,
    /// What the uncompressed archive's digest has to be.
    pub(super) diff_id: &'a Digest,
}

/// Unpacks a layer, compressed with gzip, zstd or not at all. Reads `source` to its end.
pub(super) fn unpack(source: impl Read, job: &Job<'_>) -> Result<Unpacked, UnpackError> {
    let plain = decompress::decompress(source).map_err(TarError::Read)?;
    let mut hashing = HashingReader::new(plain, job.diff_id.algorithm());
    let extracted = extract::extract(&mut hashing, job)?;
    // Padding after the archive's end belongs to the digest as well.
    let mut rest = hashing.by_ref().take(job.limits.bytes);
    io::copy(&mut rest, &mut io::sink()).map_err(TarError::Read)?;
    let (diff_id, _) = hashing.finish();
    if diff_id != *job.diff_id {
        let expected = job.diff_id;
        return Err(UnpackError::Malformed(format!(
            "uncompressed, it has digest {diff_id} and not {expected}"
        )));
    }
    Ok(Unpacked {
        diff_id,
        size_bytes: extracted.size_bytes,
        unsettled: extracted.unsettled,
        describes_root: extracted.describes_root,
        has_opaque_root: extracted.has_opaque_root,
    })
}

#[cfg(test)]
mod tests;
