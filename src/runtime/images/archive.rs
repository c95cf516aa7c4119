//! Archives of images: OCI layouts and what `docker save` writes, also both in one file.
//!
//! Start at [`Archive::open`] and [`Archive::images`]. The archive is a plain tar file that can be
//! read at any place: nothing of it is copied before it is unpacked. Everything that can be wrong
//! with it, but for the layers' own contents, is found before anything is unpacked.

use super::super::error::PullError;
use super::digest::{Algorithm, Digest, HashingReader};
use super::layer;
use super::manifest::{self, Descriptor, Document, Manifest};
use super::pull::{Documents, Names};
use super::reference::Reference;
use super::store::check_blob;
use super::tarball::{Kind, TarError, TarReader};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A larger document (index, manifest, configuration) is refused.
const DOCUMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// An archive with more entries is refused: a layer was mistaken for an image.
const ENTRIES_MAX: usize = 100_000;
/// Links that lead to links further than this lead nowhere.
const LINKS_MAX: usize = 8;

const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// An archive of images.
#[derive(Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    files: HashMap<String, Span>,
    links: HashMap<String, String>,
    /// Where layers are that are not named by their digest.
    layers: Mutex<HashMap<Digest, Span>>,
}

/// Where a file is in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    offset: u64,
    length: u64,
}

/// Chooses one of several manifests.
pub(super) type Choose<'a> = &'a dyn Fn(&[Descriptor], &str) -> Result<Descriptor, PullError>;

/// An image in an archive.
#[derive(Clone, Debug)]
pub(super) struct ArchivedImage {
    pub(super) documents: Documents,
    pub(super) names: Names,
    /// For errors.
    pub(super) shown: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn malformed(what: impl Into<String>, why: impl Into<String>) -> PullError {
    PullError::Malformed { what: what.into(), why: why.into() }
}

fn unreadable(source: io::Error) -> PullError {
    PullError::Store { what: "what was read of the archive".to_owned(), source: Arc::new(source) }
}

/// The plain bytes of an archive as a file: itself where it is one, otherwise a copy at `spool`,
/// which has no name any more when this returns.
pub(super) fn plain_file(mut file: File, spool: &Path) -> Result<File, PullError> {
    let mut start = [0; 512];
    let length = file.read(&mut start).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    if layer::is_compressed(&start[..length]) { spool_plain(file, spool) } else { Ok(file) }
}

/// Writes the plain bytes of `source` into a file that has no name.
pub(super) fn spool_plain(source: impl Read, spool: &Path) -> Result<File, PullError> {
    let stored = |source: io::Error| PullError::Store {
        what: "the archive".to_owned(),
        source: Arc::new(source),
    };
    let file = File::options().read(true).write(true).create_new(true).open(spool);
    let mut file = file.map_err(stored)?;
    std::fs::remove_file(spool).map_err(stored)?;
    let copied = layer::decompress(source).and_then(|mut plain| io::copy(&mut plain, &mut file));
    match copied {
        Ok(_) => file.rewind().map_err(stored).map(|()| file),
        Err(error) if layer::is_about_the_data(&error) => {
            Err(malformed("the archive", error.to_string()))
        }
        Err(error) => Err(stored(error)),
    }
}

impl Archive {
    /// Finds out what is where in a plain tar file.
    pub(super) fn open(file: File) -> Result<Self, PullError> {
        let length = file.metadata().map_err(unreadable)?.len();
        let mut reader = TarReader::new(BufReader::new(&file));
        let mut files = HashMap::new();
        let mut links = HashMap::new();
        while let Some(entry) = reader.next_entry().map_err(no_archive)? {
            let path = normalised(&String::from_utf8_lossy(&entry.path), "");
            match entry.kind {
                Kind::File => {
                    let span = Span { offset: reader.position(), length: entry.stored };
                    files.insert(path, span);
                }
                Kind::HardLink(target) => {
                    let target = normalised(&String::from_utf8_lossy(&target), "");
                    links.insert(path, target);
                }
                Kind::Symlink(target) => {
                    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                    let target = normalised(&String::from_utf8_lossy(&target), directory);
                    links.insert(path, target);
                }
                _ => {}
            }
            if files.len() + links.len() > ENTRIES_MAX {
                let why = format!("it has more than {ENTRIES_MAX} files; is it one of images?");
                return Err(malformed("the archive", why));
            }
            reader.seek_past_data(length).map_err(no_archive)?;
        }
        drop(reader);
        Ok(Self { file: Arc::new(file), files, links, layers: Mutex::default() })
    }

    /// Every image in it. At least one.
    pub(super) fn images(&self, choose: Choose<'_>) -> Result<Vec<ArchivedImage>, PullError> {
        let images = match (self.find("index.json"), self.find("manifest.json")) {
            (Some(_), saved) => self.layout_images(choose, saved.is_some())?,
            (None, Some(_)) => self.saved_images()?,
            (None, None) => {
                let why = "it has neither an index.json (OCI layout) nor a manifest.json (docker \
                           save)";
                return Err(malformed("the archive", why));
            }
        };
        if images.is_empty() {
            return Err(malformed("the archive", "there is no image in it"));
        }
        for image in &images {
            self.check_layers(image)?;
        }
        Ok(images)
    }

    /// The compressed bytes of a layer.
    pub(super) fn layer(&self, digest: &Digest) -> Result<SpanReader, PullError> {
        let by_digest = self.layers.lock().expect("no panics under this lock").get(digest).copied();
        let span = by_digest.or_else(|| self.find(&blob_path(digest)));
        let span = span.ok_or_else(|| malformed("the archive", format!("it lacks {digest}")))?;
        Ok(self.read(span))
    }

    fn read(&self, span: Span) -> SpanReader {
        SpanReader { file: Arc::clone(&self.file), offset: span.offset, left: span.length }
    }

    fn find(&self, path: &str) -> Option<Span> {
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            if let Some(span) = self.files.get(&path) {
                return Some(*span);
            }
            path.clone_from(self.links.get(&path)?);
        }
        None
    }

    fn document(&self, path: &str) -> Result<Bytes, PullError> {
        let span =
            self.find(path).ok_or_else(|| malformed("the archive", format!("it lacks {path}")))?;
        if span.length > DOCUMENT_BYTES_MAX {
            let why = format!("it is larger than {DOCUMENT_BYTES_MAX} bytes");
            return Err(malformed(path, why));
        }
        let mut bytes = Vec::new();
        self.read(span).read_to_end(&mut bytes).map_err(unreadable)?;
        Ok(bytes.into())
    }

    fn blob(&self, digest: &Digest) -> Result<Bytes, PullError> {
        let path = blob_path(digest);
        let bytes = self.document(&path)?;
        check_blob(digest, &bytes, &path)?;
        Ok(bytes)
    }

    fn layout_images(
        &self,
        choose: Choose<'_>,
        has_saved: bool,
    ) -> Result<Vec<ArchivedImage>, PullError> {
        let index = parse_document("index.json", &self.document("index.json")?)?;
        let Document::Index(entries) = index else {
            return Err(malformed("index.json", "it is a manifest and not an index"));
        };
        let saved_names = if has_saved { self.saved_names()? } else { BTreeMap::new() };
        // Some tools list the platforms of one image side by side, under one name.
        let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
        for entry in entries {
            let name = name_of(&entry)?;
            // What has no name stands for itself.
            let key = name.or_else(|| Some(format!("@{}", entry.digest)));
            by_name.entry(key).or_default().push(entry);
        }
        let mut images = Vec::new();
        for (name, entries) in by_name {
            let name = name.filter(|name| !name.starts_with('@'));
            images.push(self.layout_image(name, &entries, choose, &saved_names)?);
        }
        Ok(images)
    }

    fn layout_image(
        &self,
        name: Option<String>,
        entries: &[Descriptor],
        choose: Choose<'_>,
        saved_names: &BTreeMap<String, Vec<String>>,
    ) -> Result<ArchivedImage, PullError> {
        let shown = name.clone().unwrap_or_else(|| entries[0].digest.to_string());
        let top = match entries {
            [only] => only.clone(),
            several => choose(several, &shown)?,
        };
        let top_digest = top.digest.clone();
        let mut bytes = self.blob(&top.digest)?;
        let mut document = parse_document(&blob_path(&top.digest), &bytes)?;
        if let Document::Index(offers) = &document {
            let chosen = choose(offers, &shown)?;
            bytes = self.blob(&chosen.digest)?;
            document = parse_document(&blob_path(&chosen.digest), &bytes)?;
        }
        let Document::Image(manifest) = document else {
            return Err(malformed(shown, "an index within an index"));
        };
        let config_bytes = self.blob(&manifest.config.digest)?;
        let of_config = saved_names.get(&blob_path(&manifest.config.digest));
        let tags = name.into_iter().chain(of_config.into_iter().flatten().cloned());
        let mut names = Names { tags: tags.collect(), ..Names::default() };
        for tag in names.tags.clone() {
            let reference: Reference = tag.parse()?;
            names.digests.insert(reference.at_digest(&top_digest).to_string());
        }
        let documents = Documents { manifest_bytes: Some(bytes), manifest, config_bytes };
        named(ArchivedImage { documents, names, shown })
    }

    fn saved(&self) -> Result<Vec<SavedImage>, PullError> {
        let bytes = self.document("manifest.json")?;
        serde_json::from_slice(&bytes)
            .map_err(|error| malformed("manifest.json", error.to_string()))
    }

    /// Tags by the path of the configuration.
    fn saved_names(&self) -> Result<BTreeMap<String, Vec<String>>, PullError> {
        let mut names = BTreeMap::new();
        for image in self.saved()? {
            let tags = normal_tags(image.repo_tags)?;
            names.insert(normalised(&image.config, ""), tags);
        }
        Ok(names)
    }

    fn saved_images(&self) -> Result<Vec<ArchivedImage>, PullError> {
        self.saved()?.into_iter().map(|image| self.saved_image(image)).collect()
    }

    fn saved_image(&self, image: SavedImage) -> Result<ArchivedImage, PullError> {
        let config_bytes = self.document(&normalised(&image.config, ""))?;
        let descriptor = |digest: Digest, size: u64| Descriptor {
            media_type: String::new(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let layers = image.layers.iter().map(|path| {
            let path = normalised(path, "");
            let lacks = || malformed("the archive", format!("it lacks {path}"));
            let span = self.find(&path).ok_or_else(lacks)?;
            // These archives do not say what a layer's digest is. It is read twice, then.
            let mut hashing = HashingReader::new(self.read(span), Algorithm::Sha256);
            io::copy(&mut hashing, &mut io::sink()).map_err(unreadable)?;
            let (digest, bytes) = hashing.finish();
            self.layers.lock().expect("no panics under this lock").insert(digest.clone(), span);
            Ok(descriptor(digest, bytes))
        });
        let layers = layers.collect::<Result<_, PullError>>()?;
        let config = descriptor(Digest::of(&config_bytes), config_bytes.len() as u64);
        let tags = normal_tags(image.repo_tags)?;
        let shown = tags.first().cloned().unwrap_or_else(|| config.digest.to_string());
        named(ArchivedImage {
            documents: Documents {
                manifest_bytes: None,
                manifest: Manifest { config, layers },
                config_bytes,
            },
            names: Names { tags: tags.into_iter().collect(), ..Names::default() },
            shown,
        })
    }

    /// Finds out now, and not in the middle, that a layer is missing.
    fn check_layers(&self, image: &ArchivedImage) -> Result<(), PullError> {
        for layer in &image.documents.manifest.layers {
            let length = self.layer(&layer.digest)?.left;
            if length != layer.size {
                let expected = layer.size;
                let why = format!("it has {length} bytes where the manifest says {expected}");
                return Err(malformed(blob_path(&layer.digest), why));
            }
        }
        Ok(())
    }
}

/// Nobody could ever ask for an image without a name.
fn named(image: ArchivedImage) -> Result<ArchivedImage, PullError> {
    if image.names.tags.is_empty() {
        let why = "it has no name in the archive; give it one when the archive is made";
        return Err(malformed(format!("image {}", image.shown), why));
    }
    Ok(image)
}

fn no_archive(error: TarError) -> PullError {
    match error {
        TarError::Read(source) => unreadable(source),
        TarError::Malformed { .. } => malformed("the archive", error.to_string()),
    }
}

fn parse_document(what: &str, bytes: &[u8]) -> Result<Document, PullError> {
    manifest::parse(bytes, "").map_err(|why| malformed(what, why))
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn normal_tags(tags: Option<Vec<String>>) -> Result<Vec<String>, PullError> {
    let normal = |tag: String| Ok(tag.parse::<Reference>()?.to_string());
    tags.unwrap_or_default().into_iter().map(normal).collect()
}

/// What an entry of an index is called. A bare tag, as some tools write it, is no name.
fn name_of(entry: &Descriptor) -> Result<Option<String>, PullError> {
    let whole = entry.annotations.get(CONTAINERD_NAME);
    let other = || entry.annotations.get(OCI_NAME).filter(|name| name.contains([':', '/']));
    match whole.or_else(other) {
        Some(name) => Ok(Some(name.parse::<Reference>()?.to_string())),
        None => Ok(None),
    }
}

/// A path in the archive, seen from a directory in it, without `.` and `..`.
fn normalised(path: &str, directory: &str) -> String {
    let mut parts: Vec<&str> =
        if path.starts_with('/') { Vec::new() } else { directory.split('/').collect() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

/// Reads a part of a file, whatever else is read of it meanwhile.
#[derive(Debug)]
pub(super) struct SpanReader {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for SpanReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::other("the archive became shorter while it was read"));
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_within_an_archive() {
        for (path, directory, expected) in [
            ("./a/b", "", "a/b"),
            ("../x/layer.tar", "y", "x/layer.tar"),
            ("/a", "y", "a"),
            ("../../../a", "y", "a"),
            ("a//./b", "c/d", "c/d/a/b"),
        ] {
            assert_eq!(normalised(path, directory), expected);
        }
    }
}
