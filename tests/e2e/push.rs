//! Puts an image into a registry: the write half of the protocol, which only tests need.

use super::machine::{Ask, Machine};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Where the machine's registry listens.
const REGISTRY: &str = "127.0.0.1:5000";

pub struct Image {
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    /// Reads an archive as packaging/example-image.sh makes it.
    pub fn of_docker_archive(path: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let mut take = |name: &str| files.remove(name).unwrap();
        Self { config: take("config.json"), layer: take("layer.tar") }
    }

    /// Puts the image under `127.0.0.1:5000/<repository>:<tag>`.
    pub fn push(&self, machine: &Machine, repository: &str, tag: &str) {
        let blob = |bytes: &[u8], kind: &str| {
            let digest = push_blob(machine, repository, bytes);
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(&self.config, CONFIG),
            "layers": [blob(&self.layer, LAYER)],
        });
        let (path, body) = (format!("/v2/{repository}/manifests/{tag}"), manifest.to_string());
        let body = body.as_bytes();
        created(machine, &Ask { method: "PUT", path: &path, content_type: MANIFEST, body });
    }
}

fn push_blob(machine: &Machine, repository: &str, bytes: &[u8]) -> String {
    let start = format!("/v2/{repository}/blobs/uploads/");
    let ask = Ask { method: "POST", path: &start, content_type: "", body: b"" };
    let answer = machine.ask(REGISTRY, &ask).unwrap();
    assert_eq!(answer.code, 202, "{}", answer.text());
    let location = answer.header("Location").unwrap();
    let path = location.split_once(REGISTRY).map_or(location, |(_, path)| path);
    let digest = digest(bytes);
    let path = format!("{path}&digest={}", digest.replace(':', "%3A"));
    let content_type = "application/octet-stream";
    created(machine, &Ask { method: "PUT", path: &path, content_type, body: bytes });
    digest
}

fn created(machine: &Machine, ask: &Ask<'_>) {
    let answer = machine.ask(REGISTRY, ask).unwrap();
    assert_eq!(answer.code, 201, "{}", answer.text());
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
