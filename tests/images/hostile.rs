//! Registries that mean harm, or are so broken that it comes to the same: they fall silent, their
//! layers lead out of the image or grow beyond all bounds, their sizes are lies, they send us round in
//! circles. Each pull ends, says what is the matter and with which registry, and leaves nothing behind
//! but bytes that can be gone on from.

use crate::rig::Rig;
use crate::server::{Reply, Seen, Server, registry_of};
use crate::support::{Blob, BuiltImage, Compression, ImageBuilder, LayerBuilder, compress};
use kinglet::stdx::chain;
use serde_json::{Value, json};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The clock goes so much at each tick, which takes a millisecond and what there is to do.
const TICK: Duration = Duration::from_millis(250);

/// Lets hours pass in seconds, while bytes go on as fast as they do.
async fn quickly<T>(work: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let clock = async {
        loop {
            std::thread::sleep(Duration::from_millis(1));
            tokio::time::advance(TICK).await;
        }
    };
    let result = tokio::select! {
        biased;
        result = work => result,
        () = clock => unreachable!("the clock never stops"),
    };
    tokio::time::resume();
    result
}

fn image() -> BuiltImage {
    let text: String = (0..40_000).map(|number| format!("{number} ")).collect();
    let layer = LayerBuilder::new().file("numbers", 0o644, text.as_bytes());
    ImageBuilder::new().layer(layer, Compression::Gzip).build()
}

async fn failure(rig: &Rig, address: SocketAddr) -> String {
    let reference = format!("{address}/app:1");
    chain(&quickly(rig.pull(&reference)).await.unwrap_err())
}

/// An image of one layer, with its configuration and manifest as `change` has them.
fn changed(mut image: BuiltImage, change: impl Fn(&mut Value)) -> BuiltImage {
    let mut manifest: Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
    change(&mut manifest);
    image.manifest = Blob::new(image.manifest.media_type.clone(), manifest.to_string());
    image
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_given_up() {
    let image = image();
    let layer = format!("/blobs/{}", image.layers[0].digest);
    let config = format!("/blobs/{}", image.config.digest);
    let silent = || Reply { is_silent: true, ..Reply::default() };
    let is_of = |path: &'static str| move |seen: &Seen| seen.path.contains(path);
    let of_layer = move |seen: &Seen| seen.path.contains(&layer);
    let of_config = move |seen: &Seen| seen.path.contains(&config);
    type Case = (Box<dyn Fn(&Seen) -> bool + Send + Sync>, Reply, &'static str);
    let cases: [Case; 5] = [
        (Box::new(is_of("/manifests/")), silent(), "no answer in 60 s"),
        (
            Box::new(is_of("/manifests/")),
            Reply { hang_after: Some(10), ..Reply::ok(image.manifest.bytes.clone()) },
            "nothing came for 60 s",
        ),
        (Box::new(of_config), silent(), "no answer in 60 s"),
        (Box::new(of_layer.clone()), silent(), "no answer in 60 s"),
        (
            Box::new(of_layer),
            Reply { hang_after: Some(70_000), ..Reply::ok(image.layers[0].bytes.clone()) },
            "nothing came for 60 s",
        ),
    ];
    for (is_meant, reply, expected) in cases {
        let answer = registry_of(&[("app:1", &[&image])]);
        let server = Server::start(move |seen| match is_meant(seen) {
            true => reply.clone(),
            false => answer(seen),
        })
        .await;
        let rig = Rig::new().await;
        let error = failure(&rig, server.address).await;
        assert_eq!(error, format!("registry {} cannot be reached: {expected}", server.address));
        assert!(rig.images.list().is_empty());
        crate::rig::eventually("no half of it", || rig.names("agent/snapshots/new").is_empty())
            .await;
    }
}

#[tokio::test]
async fn a_token_server_that_falls_silent_is_given_up() {
    for reply in [
        Reply { is_silent: true, ..Reply::default() },
        Reply { hang_after: Some(3), ..Reply::ok(r#"{"token":"t"}"#) },
    ] {
        let tokens = Server::start(move |_| reply.clone()).await;
        let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
        let server =
            Server::start(move |_| Reply::status(401).with("WWW-Authenticate", challenge.clone()))
                .await;
        let rig = Rig::new().await;
        let error = failure(&rig, server.address).await;
        let start = format!("registry {} cannot be reached: ", server.address);
        assert!(error.starts_with(&start) && error.ends_with(" 60 s"), "{error}");
        rig.assert_empty().await;
    }
}

#[tokio::test]
async fn a_host_that_does_not_take_connections_is_given_up() {
    // Nobody accepts, and there is no room for more in the queue.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _waiting: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // Most of these are still under way when the pull begins, and that is the point.
            socket.connect(&address.into()).ok();
            socket
        })
        .collect();
    let rig = Rig::new().await;
    let error = failure(&rig, address).await;
    let start = format!("registry {address} cannot be reached: ");
    assert!(error.starts_with(&start), "{error}");
    rig.assert_empty().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_to_tls_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    };
    let yaml = format!("mirrors: {{'{address}': {{endpoint: ['https://{address}']}}}}");
    let rig = Rig::with(&yaml).await;
    let error = tokio::select! {
        error = failure(&rig, address) => error,
        () = accepting => panic!("it accepts for ever"),
    };
    assert_eq!(error, format!("registry {address} cannot be reached: no answer in 60 s"));
    rig.assert_empty().await;
}

#[tokio::test]
async fn layers_that_lead_out_of_the_image_are_refused() {
    let link = |target: &'static str| {
        move |header: &mut tar::Header| header.set_link_name_literal(target).unwrap()
    };
    let layers: Vec<(LayerBuilder, &str)> = vec![
        (LayerBuilder::new().file("../../evil", 0o644, b"x"), "`../../evil` leads out of it"),
        (LayerBuilder::new().file("/../evil", 0o644, b"x"), "`/../evil` leads out of it"),
        (LayerBuilder::new().file("a/../../.wh.evil", 0o644, b""), "leads out of it"),
        (LayerBuilder::new().file("d/.wh...", 0o644, b""), "`d/.wh...` hides nothing"),
        (
            LayerBuilder::new().entry(
                "passwd",
                tar::EntryType::Link,
                link("../../../../etc/passwd"),
                b"",
            ),
            "`../../../../etc/passwd` leads out of it",
        ),
        (
            LayerBuilder::new().entry("passwd", tar::EntryType::Link, link("etc/passwd"), b""),
            "`passwd` is a hard link to `etc/passwd`, which is in no layer",
        ),
        (
            LayerBuilder::new().symlink("a", "b").symlink("b", "a").file("a/evil", 0o644, b"x"),
            "`a/evil`: Too many levels of symbolic links",
        ),
    ];
    let rig = Rig::new().await;
    for (layer, expected) in layers {
        let image = ImageBuilder::new().layer(layer, Compression::Gzip).build();
        let server = Server::start(registry_of(&[("app:1", &[&image])])).await;
        let error = failure(&rig, server.address).await;
        let layer = &image.layers[0].digest;
        assert!(error.starts_with(&format!("layer {layer} cannot be understood: ")), "{error}");
        assert!(error.contains(expected), "{error}");
        rig.assert_empty().await;
    }
}

#[tokio::test]
async fn names_that_would_lead_out_stay_within_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let up = format!("../../../../../../..{target}");
    let inside = format!("{}/sent", &target[1..]);
    let layer = LayerBuilder::new()
        .file("/absolute", 0o644, b"x")
        .symlink("away", target)
        .file("away/sent", 0o644, b"caught")
        .symlink("up", &up)
        .file("up/sent", 0o644, b"caught again")
        .entry(
            "null",
            tar::EntryType::Char,
            |header| {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            },
            b"",
        );
    let image = ImageBuilder::new().layer(layer, Compression::Zstd).build();
    let server = Server::start(registry_of(&[("app:1", &[&image])])).await;
    let rig = Rig::new().await;
    rig.pull(&format!("{}/app:1", server.address)).await.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let mounted = rig.mounted(&image.id(), "c").await;
    assert_eq!(
        (mounted.read("absolute"), mounted.read(&inside)),
        ("x".into(), "caught again".into())
    );
    // What a container may do with a device is for its cgroup to say.
    let null = std::fs::metadata(mounted.target.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
}

#[tokio::test]
async fn sizes_that_are_lies_are_noticed() {
    let rig = Rig::new().await;
    let (honest, mib) = (image(), 1 << 20);
    let size = honest.layers[0].bytes.len();
    let digest = honest.layers[0].digest.to_string();
    let set = |size: u64| move |manifest: &mut Value| manifest["layers"][0]["size"] = json!(size);
    for (image, expected) in [
        (
            changed(honest.clone(), set(size as u64 + 1)),
            format!("cannot be reached: layer {digest} ended at byte {size} of {}", size + 1),
        ),
        (
            changed(honest.clone(), set(size as u64 - 1)),
            format!("layer {digest} cannot be understood: it is longer than the"),
        ),
        (changed(honest.clone(), set(mib << 30)), "cannot be understood: it says".to_owned()),
        (
            changed(honest.clone(), |manifest| manifest["config"]["size"] = json!(3)),
            "the configuration".to_owned(),
        ),
        (
            changed(honest.clone(), |manifest| {
                let layer = manifest["layers"][0].clone();
                manifest["layers"] = json!(vec![layer; 1000]);
            }),
            "it has 1000 layers, more than 500".to_owned(),
        ),
    ] {
        let server = Server::start(registry_of(&[("app:1", &[&image])])).await;
        let error = failure(&rig, server.address).await;
        assert!(error.contains(&expected), "{error}");
        assert!(rig.images.list().is_empty());
        crate::rig::eventually("no half of it", || rig.names("agent/snapshots/new").is_empty())
            .await;
    }
}

#[tokio::test]
async fn compressed_bytes_that_end_early_are_the_layers_fault() {
    let rig = Rig::new().await;
    for compression in [Compression::Gzip, Compression::Zstd] {
        let whole = ImageBuilder::new()
            .layer(LayerBuilder::new().file("zeros", 0o644, &[0; 300_000]), compression)
            .build();
        let mut cut = whole.clone();
        let bytes = compress(&whole.archives[0], compression);
        cut.layers[0] =
            Blob::new(whole.layers[0].media_type.clone(), bytes[..bytes.len() / 2].to_vec());
        let layer = cut.layers[0].descriptor();
        let cut = changed(cut, |manifest| manifest["layers"][0] = layer.clone());
        let server = Server::start(registry_of(&[("app:1", &[&cut])])).await;
        let error = failure(&rig, server.address).await;
        let digest = &cut.layers[0].digest;
        let start = format!("layer {digest} cannot be understood: it cannot be decompressed");
        assert!(error.starts_with(&start), "{error}");
        rig.assert_empty().await;
    }
}

/// Of a manifest, an index and a configuration that are asked for by digest, too.
#[tokio::test]
async fn documents_with_another_digest_are_refused() {
    let image = image();
    for lied_about in [image.manifest.digest.to_string(), image.config.digest.to_string()] {
        let answer = registry_of(&[("app:1", &[&image])]);
        let lie = lied_about.clone();
        let server = Server::start(move |seen| {
            let mut reply = answer(seen);
            if seen.path.contains(&lie) {
                let end = reply.body.len() - 1;
                reply.body[end - 1] ^= 1;
            }
            reply
        })
        .await;
        let rig = Rig::new().await;
        let reference = format!("{}/app@{}", server.address, image.manifest.digest);
        let error = chain(&rig.pull(&reference).await.unwrap_err());
        assert!(error.ends_with(&format!("and not {lied_about}")), "{error}");
        rig.assert_empty().await;
    }
}

#[tokio::test]
async fn indexes_lead_to_images_and_to_nothing_else() {
    let platform = kinglet::runtime::images::Platform::host().architecture;
    let server = Server::start(move |seen| {
        // Each index names another one, for ever.
        let kind = "application/vnd.oci.image.index.v1+json";
        let other = kinglet::runtime::images::Digest::of(seen.path.as_bytes());
        let body = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [{
            "mediaType": kind, "digest": other.to_string(), "size": 100,
            "platform": {"os": "linux", "architecture": platform},
        }]});
        Reply::ok(body.to_string()).with("Content-Type", kind)
    })
    .await;
    let rig = Rig::new().await;
    let error = failure(&rig, server.address).await;
    assert!(error.contains("has digest") || error.contains("an index within an index"), "{error}");
    assert!(server.seen().len() <= 2, "{:?}", server.seen());
    rig.assert_empty().await;
}

#[tokio::test]
async fn no_registry_sends_us_round_for_ever() {
    let count = AtomicUsize::new(0);
    type Answer = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;
    let cases: [(Answer, &str, usize); 5] = [
        (
            Box::new(|_| Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\"")),
            "to nobody without credentials, or does not have it",
            3,
        ),
        (
            // A token for every question, and none is good enough.
            Box::new(|seen| match seen.path.starts_with("/token") {
                true => Reply::ok(r#"{"token":"t"}"#),
                false => {
                    let host = seen.header("host").to_owned();
                    let realm = format!("Bearer realm=\"http://{host}/token\"");
                    Reply::status(401).with("WWW-Authenticate", realm)
                }
            }),
            "to nobody without credentials, or does not have it",
            6,
        ),
        (
            Box::new(move |_| {
                let next = count.fetch_add(1, Ordering::SeqCst);
                Reply::status(307).with("Location", format!("/{next}"))
            }),
            "it leads on more than 10 times",
            11,
        ),
        (
            Box::new(|_| Reply::status(307).with("Location", "file:///etc/passwd")),
            "`file:///etc/passwd` is no address",
            1,
        ),
        (
            Box::new(|_| Reply::status(307).with("Location", "gopher://x/y")),
            "`gopher://x/y` is no address",
            1,
        ),
    ];
    let rig = Rig::new().await;
    for (answer, expected, requests_max) in cases {
        let server = Server::start(answer).await;
        let error = failure(&rig, server.address).await;
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&server.address.to_string()), "{error}");
        assert!(server.seen().len() <= requests_max, "{} requests", server.seen().len());
        rig.assert_empty().await;
    }
}

#[tokio::test]
async fn headers_without_end_are_not_read_to_their_end() {
    let server = Server::start(|_| Reply::ok("{}").with("X-Filler", "x".repeat(8 << 20))).await;
    let rig = Rig::new().await;
    let error = failure(&rig, server.address).await;
    assert!(error.contains("cannot be reached: "), "{error}");
    rig.assert_empty().await;
}
