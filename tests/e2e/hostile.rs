//! Pods whose registry means them harm: each is told what is the matter, in words that name the image,
//! the registry and the cause, and the node has nothing of it afterwards, on disk or in memory.
//!
//! What registries can do is tried in tests/images; this is about what users see of it.

use super::machine::Machine;
use kinglet::runtime::images::Digest;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

const REGISTRY: &str = "127.0.0.1:5001";

/// Memory that images may not take the server to, whatever is in them.
const MEMORY_KIB_MAX: u64 = 700 * 1024;

/// A bomb: so many bytes of zeros, out of a thousandth of that.
const BOMB_BYTES: u64 = 64 << 20;

/// What is answered, by path.
type Answers = BTreeMap<String, Vec<u8>>;

/// Adds an image of one layer. The layer is `bytes`, and is said to have the digest of `said`.
fn add(answers: &mut Answers, name: &str, plain: &[u8], (bytes, said): (Vec<u8>, &[u8])) {
    let config = json!({
        "architecture": kinglet::runtime::images::Platform::host().architecture,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(plain).to_string()]},
    })
    .to_string();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(config.as_bytes()).to_string(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(said).to_string(),
            "size": said.len(),
        }],
    });
    let path = |rest: String| format!("/v2/{name}/{rest}");
    answers.insert(path("manifests/1".to_owned()), manifest.to_string().into_bytes());
    answers.insert(path(format!("blobs/{}", Digest::of(config.as_bytes()))), config.into_bytes());
    answers.insert(path(format!("blobs/{}", Digest::of(said))), bytes);
}

/// A file of zeros in an archive, compressed piece by piece.
fn bomb() -> Vec<u8> {
    const PIECE: usize = 1 << 20;
    let mut header = archive("zeros", std::io::empty(), BOMB_BYTES);
    header.truncate(512);
    let pieces = gzip(&vec![0; PIECE]).repeat(usize::try_from(BOMB_BYTES).unwrap() / PIECE);
    [gzip(&header), pieces].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of one file, whatever its name.
fn archive(name: &str, contents: impl std::io::Read, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, contents).unwrap();
    builder.into_inner().unwrap()
}

/// A registry in the machine's network; it ends with the test.
fn serve(machine: &Machine, answers: Answers) {
    let listener = machine.inside(|| TcpListener::bind(REGISTRY).unwrap());
    let answers = Arc::new(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answers = Arc::clone(&answers);
            // Whoever asks hangs up when he has had enough.
            std::thread::spawn(move || answer(&stream, &answers).ok());
        }
    });
}

fn answer(mut stream: &TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    while !lines.next().unwrap_or(Ok(String::new()))?.is_empty() {}
    let path = path.split('?').next().unwrap_or_default();
    let name = path.split('/').nth(2).unwrap_or_default();
    let close = "Connection: close\r\n";
    match (name, answers.get(path)) {
        ("circle", _) => {
            write!(stream, "HTTP/1.1 307 x\r\nLocation: {path}\r\nContent-Length: 0\r\n{close}\r\n")
        }
        ("busy", _) => {
            let body = r#"{"errors":[{"message":"come back tomorrow"}]}"#;
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 429 x\r\nRetry-After: 86400\r\nContent-Length: {length}\r\n{close}\r\n{body}"
            )
        }
        ("closed", _) => {
            let ask = "WWW-Authenticate: Basic realm=\"x\"\r\n";
            write!(stream, "HTTP/1.1 401 x\r\n{ask}Content-Length: 0\r\n{close}\r\n")
        }
        (_, Some(bytes)) => {
            write!(stream, "HTTP/1.1 200 x\r\nContent-Length: {}\r\n{close}\r\n", bytes.len())?;
            stream.write_all(bytes)
        }
        (_, None) => write!(stream, "HTTP/1.1 404 x\r\nContent-Length: 0\r\n{close}\r\n"),
    }
}

/// Images, and what has to be said of them.
fn images() -> (Answers, Vec<(&'static str, String)>) {
    let mut answers = Answers::new();
    let plain = archive("a", &b"text"[..], 4);
    let good = gzip(&plain);
    let mut lie = good.clone();
    lie[good.len() / 2] ^= 1;
    add(&mut answers, "liar", &plain, (lie, &good));
    add(&mut answers, "cut", &plain, (good[..good.len() / 2].to_vec(), &good[..good.len() / 2]));
    let up = archive("../../../../evil", &b"x"[..], 1);
    add(&mut answers, "traversal", &up, (gzip(&up), &gzip(&up)));
    let bomb = bomb();
    assert!((bomb.len() as u64) < BOMB_BYTES / 500);
    // Nobody gets to the end of it, where it would be held against this digest.
    add(&mut answers, "bomb", b"", (bomb.clone(), &bomb));
    answers.insert("/v2/nonsense/manifests/1".to_owned(), b"<html>".to_vec());
    let layer = format!("layer {}", Digest::of(&good));
    let expected = vec![
        ("liar", format!("{layer} has digest sha256:")),
        ("cut", "it cannot be decompressed".to_owned()),
        ("traversal", "`../../../../evil` leads out of it".to_owned()),
        ("bomb", "no room on the disk: ".to_owned()),
        ("nonsense", "cannot be understood: expected value".to_owned()),
        ("circle", "it leads on more than 10 times".to_owned()),
        ("busy", format!("registry {REGISTRY} answered 429")),
        ("closed", format!("registry {REGISTRY} gives closed to nobody without credentials")),
        ("missing", "was not found in its registry".to_owned()),
    ];
    (answers, expected)
}

fn waiting(machine: &Machine, name: &str) -> (String, String) {
    let body = machine.asked(&format!("/api/v1/namespaces/default/pods/{name}"));
    let pod: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let text = |field: &str| waiting[field].as_str().unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

#[test]
fn bad_registries_are_told_of_and_leave_nothing_behind() {
    let mut machine = Machine::apart();
    // Less than the bomb is.
    let images_dir = machine.path("data/agent");
    fs::create_dir_all(&images_dir).unwrap();
    let words = ["-t", "tmpfs", "-o", "size=16m", "tmpfs", images_dir.to_str().unwrap()];
    machine.run("mount", &words);
    let (answers, expected) = images();
    serve(&machine, answers);
    machine.start();
    let pod = |(name, _): &(&str, String)| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{tolerations: [{{operator: Exists}}], \
             containers: [{{name: main, image: '{REGISTRY}/{name}:1'}}]}}\n"
        )
    };
    machine.apply(&expected.iter().map(pod).collect::<String>());
    for (name, expected) in &expected {
        let image = format!("{REGISTRY}/{name}:1");
        machine.eventually(&format!("{name}: {expected}"), || {
            let (reason, message) = waiting(&machine, name);
            let is_pull = reason == "ErrImagePull" || reason == "ImagePullBackOff";
            is_pull && message.contains(&image) && message.contains(expected)
        });
        let field = format!("involvedObject.name={name},reason=Failed");
        let events = machine.kubectl(&["get", "events", "--field-selector", &field]);
        assert!(events.contains(expected) && events.contains(&image), "{events}");
    }
    machine.kubectl(&["delete", "pods", "--all", "--timeout=60s"]);
    let count = |name: &str| {
        let entries = fs::read_dir(machine.seen("data/agent").join(name));
        entries.into_iter().flatten().count()
    };
    machine.eventually("nothing of the images is left", || {
        ["snapshots/new", "content/partial", "content/blobs/sha256"].iter().all(|it| count(it) == 0)
    });
    let status = fs::read_to_string(format!("/proc/{}/status", machine.server_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_KIB_MAX, "the server took {peak} KiB");
    machine.stop(Signal::SIGTERM);
    machine.killall();
}
