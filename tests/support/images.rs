//! Images for tests, built from this machine's static busybox: as archives, and as blobs to push.
//!
//! Start at [`busybox_image`] where any image will do, and at [`ImageBuilder`] where it has to be
//! a certain one.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, reason = "each suite uses a part of this")]

use kinglet::runtime::images::Digest;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Writes an OCI archive of an image called `name` into `directory`: busybox with all its applets,
/// `sh` as its command.
pub(crate) fn busybox_image(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(format!("{}.tar", name.replace(['/', ':', '@'], "_")));
    std::fs::write(&path, busybox().oci_archive(&[name])).unwrap();
    path
}

/// An image with busybox in it.
pub(crate) fn busybox() -> BuiltImage {
    ImageBuilder::new().layer(busybox_layer(), Compression::Gzip).command(&["/bin/sh"]).build()
}

/// A layer with busybox, a link for each of its applets, and the directories that a container
/// needs.
pub(crate) fn busybox_layer() -> LayerBuilder {
    let binary = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find_map(|path| std::fs::read(path).ok())
        .expect("Debian's busybox-static is installed");
    let mut layer = LayerBuilder::new();
    for directory in ["bin/", "etc/", "proc/", "sys/", "dev/", "root/", "home/", "var/"] {
        layer = layer.directory(directory, 0o755);
    }
    layer = layer.directory("tmp/", 0o1777).file("bin/busybox", 0o755, &binary);
    for applet in APPLETS {
        layer = layer.link(&format!("bin/{applet}"), "bin/busybox");
    }
    layer
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")
}

/// What tests run in containers.
const APPLETS: &[&str] = &[
    "ash",
    "awk",
    "basename",
    "cat",
    "chmod",
    "chown",
    "cp",
    "cut",
    "date",
    "dd",
    "df",
    "dirname",
    "dmesg",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "free",
    "grep",
    "head",
    "hostname",
    "httpd",
    "id",
    "ifconfig",
    "ip",
    "kill",
    "killall",
    "ln",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mount",
    "mv",
    "nc",
    "netstat",
    "nproc",
    "nslookup",
    "ping",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "route",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "time",
    "timeout",
    "top",
    "touch",
    "tr",
    "true",
    "umount",
    "uname",
    "uniq",
    "vi",
    "wc",
    "wget",
    "which",
    "whoami",
    "xargs",
    "yes",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A layer's archive in the making.
pub(crate) struct LayerBuilder(tar::Builder<Vec<u8>>);

impl LayerBuilder {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn file(self, path: &str, mode: u32, contents: &[u8]) -> Self {
        self.entry(path, tar::EntryType::Regular, |header| header.set_mode(mode), contents)
    }

    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, tar::EntryType::Directory, |header| header.set_mode(mode), b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        let set = |header: &mut tar::Header| header.set_link_name_literal(target).unwrap();
        self.entry(path, tar::EntryType::Symlink, set, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let set = |header: &mut tar::Header| header.set_link_name_literal(target).unwrap();
        self.entry(path, tar::EntryType::Link, set, b"")
    }

    /// Hides a file of the layers below.
    pub(crate) fn whiteout(self, path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if directory.is_empty() { "" } else { "/" };
        self.file(&format!("{directory}{slash}.wh.{name}"), 0o644, b"")
    }

    /// Hides all that the layers below have in a directory.
    pub(crate) fn opaque(self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), 0o644, b"")
    }

    /// An entry of any kind; the path is written as it is.
    pub(crate) fn entry(
        mut self,
        path: &str,
        kind: tar::EntryType,
        change: impl FnOnce(&mut tar::Header),
        contents: &[u8],
    ) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(contents.len() as u64);
        // The builder would refuse what strangers do write.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, contents).unwrap();
        self
    }

    /// Extended records for the next entry.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    pub(crate) fn archive(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

impl Default for LayerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn compress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::None => bytes.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}

/// An image in the making.
#[derive(Clone, Debug)]
pub(crate) struct ImageBuilder {
    config: Value,
    architecture: String,
    /// Uncompressed, and how to compress.
    layers: Vec<(Vec<u8>, Compression)>,
    is_docker: bool,
}

impl ImageBuilder {
    pub(crate) fn new() -> Self {
        let architecture = kinglet::runtime::images::Platform::host().architecture;
        Self {
            config: json!({"Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]}),
            architecture,
            layers: Vec::new(),
            is_docker: false,
        }
    }

    pub(crate) fn layer(self, layer: LayerBuilder, compression: Compression) -> Self {
        self.raw_layer(layer.archive(), compression)
    }

    pub(crate) fn raw_layer(mut self, archive: Vec<u8>, compression: Compression) -> Self {
        self.layers.push((archive, compression));
        self
    }

    pub(crate) fn command(self, command: &[&str]) -> Self {
        self.config("Cmd", json!(command))
    }

    /// Sets a field of the configuration: `User`, `Env`, `Entrypoint`, ...
    pub(crate) fn config(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    pub(crate) fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// With Docker's media types instead of OCI's.
    pub(crate) fn docker_types(mut self) -> Self {
        self.is_docker = true;
        self
    }

    pub(crate) fn build(self) -> BuiltImage {
        let diff_ids: Vec<_> =
            self.layers.iter().map(|(archive, _)| Digest::of(archive).to_string()).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [],
        });
        let config = Blob::new(self.media_type("config", Compression::None), config.to_string());
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|(archive, compression)| {
                Blob::new(self.media_type("layer", *compression), compress(archive, *compression))
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": self.media_type("manifest", Compression::None),
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        });
        let manifest =
            Blob::new(self.media_type("manifest", Compression::None), manifest.to_string());
        let archives = self.layers.into_iter().map(|(archive, _)| archive).collect();
        BuiltImage { manifest, config, layers, archives, architecture: self.architecture }
    }

    fn media_type(&self, what: &str, compression: Compression) -> String {
        let text = match (what, self.is_docker, compression) {
            ("config", false, _) => "application/vnd.oci.image.config.v1+json",
            ("config", true, _) => "application/vnd.docker.container.image.v1+json",
            ("manifest", false, _) => OCI_MANIFEST,
            ("manifest", true, _) => "application/vnd.docker.distribution.manifest.v2+json",
            (_, false, Compression::None) => "application/vnd.oci.image.layer.v1.tar",
            (_, false, Compression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (_, false, Compression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (_, true, Compression::None) => "application/vnd.docker.image.rootfs.diff.tar",
            (_, true, _) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        };
        text.to_owned()
    }
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Bytes with their digest.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    pub(crate) fn new(media_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: Digest::of(&bytes), bytes }
    }

    pub(crate) fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// An image, all its parts.
#[derive(Clone, Debug)]
pub(crate) struct BuiltImage {
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    pub(crate) layers: Vec<Blob>,
    /// The layers, uncompressed.
    pub(crate) archives: Vec<Vec<u8>>,
    pub(crate) architecture: String,
}

impl BuiltImage {
    /// What kinglet calls it.
    pub(crate) fn id(&self) -> String {
        self.config.digest.to_string()
    }

    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }

    /// An OCI layout that has it under these names.
    pub(crate) fn oci_archive(&self, names: &[&str]) -> Vec<u8> {
        let entries = names.iter().map(|name| {
            let mut entry = self.manifest.descriptor();
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            entry
        });
        let blobs: Vec<_> = self.blobs().chain([&self.manifest]).collect();
        oci_archive(entries.collect(), &blobs)
    }

    /// What `docker save` wrote before version 25.
    pub(crate) fn docker_archive(&self, names: &[&str]) -> Vec<u8> {
        let mut archive = LayerBuilder::new();
        let mut paths = Vec::new();
        for (index, layer) in self.archives.iter().enumerate() {
            let path = format!("layer{index}/layer.tar");
            archive = archive.file(&path, 0o644, layer);
            paths.push(path);
        }
        let config = format!("{}.json", self.config.digest.hex());
        let manifest = json!([{"Config": config, "RepoTags": names, "Layers": paths}]);
        archive
            .file(&config, 0o644, &self.config.bytes)
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .archive()
    }
}

/// An OCI layout with these entries and blobs.
pub(crate) fn oci_archive(entries: Vec<Value>, blobs: &[&Blob]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    let mut archive = LayerBuilder::new()
        .file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
        .file("index.json", 0o644, index.to_string().as_bytes());
    let mut written = std::collections::BTreeSet::new();
    for blob in blobs {
        if written.insert(&blob.digest) {
            let path = format!("blobs/sha256/{}", blob.digest.hex());
            archive = archive.file(&path, 0o644, &blob.bytes);
        }
    }
    archive.archive()
}

/// An index of images for several platforms.
pub(crate) fn index(images: &[&BuiltImage]) -> Blob {
    let entries = images.iter().map(|image| {
        let mut entry = image.manifest.descriptor();
        entry["platform"] = json!({"os": "linux", "architecture": image.architecture});
        entry
    });
    let entries: Vec<_> = entries.collect();
    let body = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    Blob::new(OCI_INDEX, body.to_string())
}
