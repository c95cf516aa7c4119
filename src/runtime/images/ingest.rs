//! One layer from compressed bytes to a directory, while they arrive.
//!
//! Everything here runs on a thread of its own that may wait for the disk. The bytes come through a
//! channel of few pieces, so that a slow disk slows the network down and nothing piles up. What has
//! arrived is kept beside, so that a pull that breaks off, or a kinglet that is killed, goes on from
//! there.

use super::super::error::PullError;
use super::digest::{Digest, HashingReader};
use super::layer::{self, BrokenSource, Job, LIMITS, UnpackError, Unpacked};
use super::manifest::Descriptor;
use super::progress::{LayerProgress, Phase, Progress};
use super::room::Room;
use super::store::{NewLayer, Store, remove_file_if_there};
use crate::stdx::fault;
use bytes::{Buf as _, Bytes};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A layer to be had.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Of the compressed bytes.
    pub(super) blob: Descriptor,
    /// Of the uncompressed ones.
    pub(super) diff_id: Digest,
}

impl Wanted {
    pub(super) fn report(&self, progress: &Progress, bytes: u64, phase: Phase) {
        let (layer, total_bytes) = (self.blob.digest.clone(), self.blob.size);
        progress.report(&LayerProgress { layer, bytes, total_bytes, phase });
    }

    fn name(&self) -> String {
        format!("layer {}", self.blob.digest)
    }
}

/// Why a layer could not be had.
#[derive(Debug)]
pub(super) enum IngestError {
    /// Whoever brought the bytes stopped, and knows why.
    BrokeOff,
    Failed(PullError),
}

impl From<PullError> for IngestError {
    fn from(error: PullError) -> Self {
        Self::Failed(error)
    }
}

/// An unpacked layer that has no name yet.
pub(super) type Ingested = (NewLayer, Unpacked);

/// How many bytes of a blob an earlier pull has left here. What cannot be a part of it goes.
pub(super) fn already_here(store: &Store, blob: &Descriptor) -> io::Result<u64> {
    let path = store.layout.partial(&blob.digest);
    match std::fs::metadata(&path) {
        Ok(found) if found.len() <= blob.size => Ok(found.len()),
        Ok(_) => remove_file_if_there(&path).map(|()| 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Unpacks a layer out of what is here already and what `arriving` brings, checks it, and keeps
/// the compressed bytes as a blob of the store until the image is complete.
pub(super) fn ingest(
    store: &Store,
    wanted: &Wanted,
    already: u64,
    arriving: mpsc::Receiver<Bytes>,
    watch: &Watch,
) -> Result<Ingested, IngestError> {
    let partial = store.layout.partial(&wanted.blob.digest);
    let stored =
        |source: io::Error| PullError::Store { what: wanted.name(), source: Arc::new(source) };
    let missing = wanted.blob.size - already;
    let source = Arriving::open(&partial, already, missing, arriving).map_err(stored)?;
    let observed = Observed::new(source, wanted, watch);
    let result = unpack_checked(store, wanted, observed);
    match &result {
        Ok(_) => {
            std::fs::rename(&partial, store.layout.blob(&wanted.blob.digest)).map_err(stored)?
        }
        // Bytes that broke off are worth keeping; bytes that are wrong, or that fill the disk, are
        // not.
        Err(IngestError::BrokeOff) => {}
        Err(IngestError::Failed(_)) => remove_file_if_there(&partial).map_err(stored)?,
    }
    result
}

/// Unpacks a layer whose compressed bytes are here as a whole.
pub(super) fn unpack_checked(
    store: &Store,
    wanted: &Wanted,
    source: impl Read,
) -> Result<Ingested, IngestError> {
    let name = wanted.name();
    let stored =
        |source: io::Error| PullError::Store { what: name.clone(), source: Arc::new(source) };
    let new = store.new_layer().map_err(stored)?;
    fault::point("image: layer begun");
    let root = new.root();
    let job = Job { root: &root, marks: store.marks, limits: LIMITS, diff_id: &wanted.diff_id };
    let mut hashing = HashingReader::new(source, wanted.blob.digest.algorithm());
    let unpacked = layer::unpack(&mut hashing, &job);
    let unpacked = match unpacked {
        Err(UnpackError::Read(error)) => return Err(read_failed(&name, error)),
        Err(UnpackError::Write { path, source }) => {
            let path = path.display();
            let what = format!("`{path}` of {name}");
            return Err(PullError::Store { what, source: Arc::new(source) }.into());
        }
        Err(UnpackError::Malformed(why)) => Err(why),
        Ok(unpacked) => Ok(unpacked),
    };
    // Whether the layer is at fault, or what came in its place, is for the digest to say.
    io::copy(&mut hashing, &mut io::sink()).map_err(|error| read_failed(&name, error))?;
    let (digest, bytes) = hashing.finish();
    if digest != wanted.blob.digest || bytes != wanted.blob.size {
        let expected = wanted.blob.digest.to_string();
        let actual = digest.to_string();
        return Err(PullError::WrongDigest { what: name, expected, actual }.into());
    }
    let unpacked = unpacked.map_err(|why| PullError::Malformed { what: name.clone(), why })?;
    fault::point("image: layer unpacked");
    Ok((new, unpacked))
}

/// A source that broke off is a matter of its own, and is told by whoever feeds it.
fn read_failed(name: &str, error: io::Error) -> IngestError {
    let broke_off = error.get_ref().is_some_and(|inner| inner.is::<BrokenSource>());
    if broke_off {
        return IngestError::BrokeOff;
    }
    PullError::Store { what: name.to_owned(), source: Arc::new(error) }.into()
}

/// What a thread that unpacks is told from outside, and tells.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) progress: Progress,
    /// Cancelled when nobody wants the layer any more.
    pub(super) unwanted: CancellationToken,
}

/// Tells how many bytes have gone by, and stops when nobody wants them.
pub(super) struct Observed<'a, R> {
    source: R,
    wanted: &'a Wanted,
    watch: &'a Watch,
    bytes: u64,
}

impl<'a, R> Observed<'a, R> {
    pub(super) fn new(source: R, wanted: &'a Wanted, watch: &'a Watch) -> Self {
        Self { source, wanted, watch, bytes: 0 }
    }
}

impl<R: Read> Read for Observed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.watch.unwanted.is_cancelled() {
            return Err(io::Error::other(BrokenSource("nobody wants it any more".to_owned())));
        }
        let read = self.source.read(buffer)?;
        self.bytes += read as u64;
        self.wanted.report(&self.watch.progress, self.bytes, Phase::Unpacking);
        Ok(read)
    }
}

/// The bytes of a blob: those that are here, then those that arrive, which are added to the former.
struct Arriving {
    file: File,
    /// Of the file, not yet read.
    kept: u64,
    /// Still to arrive.
    missing: u64,
    arriving: mpsc::Receiver<Bytes>,
    piece: Bytes,
    room: Room,
}

impl Arriving {
    fn open(
        path: &std::path::Path,
        already: u64,
        missing: u64,
        arriving: mpsc::Receiver<Bytes>,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.set_len(already)?;
        let room = Room::at(path);
        Ok(Self { file, kept: already, missing, arriving, piece: Bytes::new(), room })
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.kept > 0 {
            let wanted = usize::try_from(self.kept).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.file.read(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(io::Error::other("a file of the image store became shorter"));
            }
            self.kept -= read as u64;
            return Ok(read);
        }
        if self.piece.is_empty() {
            match self.arriving.blocking_recv() {
                None if self.missing == 0 => return Ok(0),
                None => return Err(io::Error::other(BrokenSource("it broke off".to_owned()))),
                Some(piece) => {
                    self.room.take(piece.len() as u64)?;
                    self.file.write_all(&piece)?;
                    self.missing = self.missing.saturating_sub(piece.len() as u64);
                    self.piece = piece;
                }
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl IngestError {
    /// For sources that know nothing about why they stopped.
    pub(super) fn into_pull_error(self) -> PullError {
        match self {
            Self::Failed(error) => error,
            Self::BrokeOff => PullError::Malformed {
                what: "a layer".to_owned(),
                why: "its bytes broke off".to_owned(),
            },
        }
    }
}
