//! What registries and archives say about an image: manifests, indexes and configurations, parsed.
//!
//! Start at [`parse`]. Architecture invariant: nothing here reads a file or a socket; every document
//! comes from outside and is checked here before anything else believes it.

use super::digest::Digest;
use super::platform::Platform;
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// An image with more layers is refused: overlayfs itself takes 500 (`OVL_MAX_STACK`, Linux 6.12).
const LAYERS_MAX: usize = 500;

/// Points to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

/// One image: its configuration, and its layers from the lowest to the topmost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest's bytes hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Image(Manifest),
    Index(Vec<Descriptor>),
}

/// Everything that either kind may have, to tell them apart by what is there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Understands a manifest or an index. `content_type` is what the registry called it; empty where
/// nobody did.
///
/// # Errors
/// With the reason, for [`PullError::Malformed`](super::super::PullError::Malformed).
pub(super) fn parse(bytes: &[u8], content_type: &str) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
        return Err(
            "it is in Docker's schema 1, obsolete since 2017; push the image again with a \
                    current tool"
                .to_owned(),
        );
    }
    let named = |kind: &str| content_type.contains(kind) || raw.media_type.contains(kind);
    match (raw.config, raw.layers, raw.manifests) {
        // A document that could be read both ways may be shown to a scanner as one and to a node as
        // the other (CVE-2021-41190).
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            Err("it claims to be a manifest and an index at once".to_owned())
        }
        (None, None, Some(manifests)) if named("manifest.v1+json") || named("manifest.v2+json") => {
            let count = manifests.len();
            Err(format!("its type says manifest, but it is an index of {count}"))
        }
        (None, None, Some(manifests)) => Ok(Document::Index(manifests)),
        (Some(_), Some(_), None) if named("image.index") || named("manifest.list") => {
            Err("its type says index, but it is a manifest".to_owned())
        }
        (Some(config), Some(layers), None) => {
            layers.iter().try_for_each(check_layer)?;
            if layers.len() > LAYERS_MAX {
                return Err(format!("it has {} layers, more than {LAYERS_MAX}", layers.len()));
            }
            Ok(Document::Image(Manifest { config, layers }))
        }
        (config, ..) => {
            let missing = if config.is_some() { "layers" } else { "config" };
            Err(format!("it has no {missing}; is it an image?"))
        }
    }
}

/// Compression is read off the bytes themselves, as containerd does; the type only has to be one
/// that stands for a tar archive.
fn check_layer(layer: &Descriptor) -> Result<(), String> {
    let media_type = layer.media_type.as_str();
    if media_type.ends_with("+encrypted") {
        return Err(format!("layer {} is encrypted; no key for it is here", layer.digest));
    }
    let is_tar = media_type.is_empty()
        || media_type.starts_with("application/vnd.oci.image.layer.")
        || media_type.starts_with("application/vnd.docker.image.rootfs.");
    if is_tar {
        Ok(())
    } else {
        Err(format!("layer {} is of the unknown type `{media_type}`", layer.digest))
    }
}

/// What an image says about how to run it. Fields that are absent are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: String,
    #[serde(deserialize_with = "names")]
    pub volumes: Vec<String>,
    #[serde(deserialize_with = "names")]
    pub exposed_ports: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Go writes empty lists as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `{"name": {}}`: the way in which image configurations write sets.
fn names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let set: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}

/// The whole configuration document of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigDocument {
    pub(super) platform: Platform,
    pub(super) config: ImageConfig,
    /// The digests of the uncompressed layers, lowest first.
    pub(super) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: ImageConfig,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

/// Understands an image's configuration, which has to agree with its manifest on the number of
/// layers.
///
/// # Errors
/// With the reason.
pub(super) fn parse_config(bytes: &[u8], layers: usize) -> Result<ConfigDocument, String> {
    let document = read_config(bytes)?;
    let diffs = document.diff_ids.len();
    if diffs != layers {
        return Err(format!("it lists {diffs} layers where the manifest has {layers}"));
    }
    Ok(document)
}

/// Understands the configuration of an image that is here.
///
/// # Errors
/// With the reason.
pub(super) fn read_config(bytes: &[u8]) -> Result<ConfigDocument, String> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let rootfs = raw.rootfs.ok_or("it has no rootfs; is it an image?")?;
    Ok(ConfigDocument { platform: raw.platform, config: raw.config, diff_ids: rootfs.diff_ids })
}

/// Names the file system that layers `0..=n` make together (OCI image spec 1.1, "ChainID").
pub(super) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => diff_id.clone(),
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(b"x");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
    }

    fn check(body: &str, content_type: &str, expected: &str) {
        let found = match parse(body.as_bytes(), content_type) {
            Ok(Document::Image(image)) => format!("image of {}", image.layers.len()),
            Ok(Document::Index(manifests)) => format!("index of {}", manifests.len()),
            Err(why) => why,
        };
        assert!(found.starts_with(expected), "{body}: {found}");
    }

    #[test]
    fn documents_are_told_apart_by_what_they_hold() {
        let blob = descriptor("");
        let image = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{blob},{blob}]}}"#);
        let both = format!(r#"{{"config":{blob},"layers":[],"manifests":[]}}"#);
        check(&image, "", "image of 1");
        check(&image, "application/vnd.oci.image.manifest.v1+json; charset=utf-8", "image of 1");
        check(&image, "application/vnd.oci.image.index.v1+json", "its type says index");
        check(&index, "application/vnd.oci.image.index.v1+json", "index of 2");
        check(&index, "application/vnd.oci.image.manifest.v1+json", "its type says manifest");
        check(&both, "", "it claims to be a manifest and an index at once");
        check(r#"{"schemaVersion":1,"fsLayers":[]}"#, "", "it is in Docker's schema 1");
        check("{}", "", "it has no config");
        check(&format!(r#"{{"config":{blob}}}"#), "", "it has no layers");
        check("[", "", "EOF while parsing");
        check(r#"{"config":{"digest":"x","size":1},"layers":[]}"#, "", "`x` has no algorithm");
    }

    #[test]
    fn layers_have_to_be_archives() {
        let config = descriptor("");
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", "image of 1"),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", "image of 1"),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "image of 1"),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "layer sha256:2d711642b"),
            ("text/plain", "layer sha256:2d711642b"),
        ] {
            let layer = descriptor(media_type);
            check(&format!(r#"{{"config":{config},"layers":[{layer}]}}"#), "", expected);
        }
        let layers = vec![descriptor(""); LAYERS_MAX + 1].join(",");
        let body = format!(r#"{{"config":{config},"layers":[{layers}]}}"#);
        check(&body, "", "it has 501 layers, more than 500");
    }

    #[test]
    fn configurations_may_leave_things_out_or_null() {
        let diff = Digest::of(b"layer");
        let full = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"x","history":[],
                "config":{{"Entrypoint":["/a"],"Cmd":null,"Env":["A=b"],"User":"1:2","WorkingDir":"/w",
                "StopSignal":"SIGINT","Volumes":{{"/data":{{}}}},"ExposedPorts":{{"80/tcp":{{}}}}}},
                "rootfs":{{"type":"layers","diff_ids":["{diff}"]}}}}"#
        );
        let document = parse_config(full.as_bytes(), 1).unwrap();
        assert_eq!(document.diff_ids, [diff]);
        assert_eq!(document.platform.architecture, "amd64");
        let config = document.config;
        assert_eq!((config.entrypoint, config.cmd), (vec!["/a".to_owned()], vec![]));
        assert_eq!((config.user.as_str(), config.stop_signal.as_str()), ("1:2", "SIGINT"));
        assert_eq!(config.volumes, ["/data"]);
        let empty = parse_config(br#"{"config":null,"rootfs":{"diff_ids":null}}"#, 0).unwrap();
        assert_eq!(empty.config, ImageConfig::default());
        for (body, layers, expected) in [
            (r#"{"rootfs":{}}"#, 2, "it lists 0 layers where the manifest has 2"),
            ("{}", 0, "it has no rootfs; is it an image?"),
        ] {
            assert_eq!(parse_config(body.as_bytes(), layers).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_chain_id_covers_all_layers_below() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], Digest::of(format!("{a} {b}").as_bytes()));
        assert!(chain_ids(&[]).is_empty());
    }
}
