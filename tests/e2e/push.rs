//! Puts an image into a registry: the write half of the protocol, which only tests need.

use super::machine::Machine;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

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

    pub fn push(&self, machine: &Machine, registry: &str, repository: &str, tag: &str) {
        let blob = |bytes: &[u8], kind: &str| {
            let digest = push_blob(machine, registry, repository, bytes);
            json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(&self.config, CONFIG),
            "layers": [blob(&self.layer, LAYER)],
        });
        let path = format!("/v2/{repository}/manifests/{tag}");
        let headers = [("Content-Type", MANIFEST)];
        let body = manifest.to_string();
        let answer = machine.http(registry, "PUT", &path, &headers, body.as_bytes()).unwrap();
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
}

fn push_blob(machine: &Machine, registry: &str, repository: &str, bytes: &[u8]) -> String {
    let start = format!("/v2/{repository}/blobs/uploads/");
    let answer = machine.http(registry, "POST", &start, &[], b"").unwrap();
    assert_eq!(answer.code, 202, "{}", answer.text());
    let location = answer.header("Location").unwrap();
    let path = location.split_once(registry).map_or(location, |(_, path)| path);
    let digest = digest(bytes);
    let path = format!("{path}&digest={}", digest.replace(':', "%3A"));
    let headers = [("Content-Type", "application/octet-stream")];
    let answer = machine.http(registry, "PUT", &path, &headers, bytes).unwrap();
    assert_eq!(answer.code, 201, "{}", answer.text());
    digest
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
