//! Registries that break off, lie, refuse, lead astray and lack things.

use crate::rig::{Recorder, Rig};
use crate::server::{Reply, Seen, Server, registry_of};
use crate::support::{Blob, BuiltImage, Compression, ImageBuilder, LayerBuilder};
use kinglet::runtime::images::{Digest, Phase, Progress};
use kinglet::stdx::chain;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that do not compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn large_image() -> BuiltImage {
    let layer = |seed: u64| LayerBuilder::new().file("noise", 0o644, &noise(600_000, seed));
    ImageBuilder::new()
        .layer(layer(1), Compression::Gzip)
        .layer(layer(2), Compression::Zstd)
        .build()
}

async fn pull(rig: &Rig, server: &Server) -> Result<String, String> {
    let result = rig.pull(&format!("{}/app:1", server.address)).await;
    result.map(|status| status.id.0).map_err(|error| chain(&error))
}

/// Answers as a registry would, with the n-th answer for a layer changed.
async fn faulty(
    image: &BuiltImage,
    change: impl Fn(&Seen, usize, Reply) -> Reply + Send + Sync + 'static,
) -> Server {
    let answer = registry_of(&[("app:1", &[image])]);
    let layer = format!("/blobs/{}", image.layers[0].digest);
    let count = AtomicUsize::new(0);
    Server::start(move |seen| {
        let reply = answer(seen);
        if seen.path.contains(&layer) {
            let n = count.fetch_add(1, Ordering::SeqCst);
            return change(seen, n, reply);
        }
        reply
    })
    .await
}

#[tokio::test]
async fn a_layer_that_breaks_off_goes_on_where_it_broke() {
    let image = large_image();
    let server = faulty(&image, |_, n, mut reply| {
        reply.cut_after = (n < 6).then_some(70_000);
        reply
    })
    .await;
    let rig = Rig::new().await;
    assert_eq!(pull(&rig, &server).await.unwrap(), image.id());
    let layer = image.layers[0].digest.to_string();
    let asked: Vec<_> =
        server.seen().iter().filter(|seen| seen.path.contains(&layer)).map(Seen::from).collect();
    assert_eq!(asked.len(), 7);
    assert!(asked.is_sorted() && asked[6] >= 6 * 60_000, "{asked:?}");
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_registry_without_ranges_sends_everything_again() {
    let image = large_image();
    let whole = image.layers[0].bytes.clone();
    let server = faulty(&image, move |_, n, _| {
        let mut reply = Reply::ok(whole.clone());
        reply.cut_after = (n < 2).then_some(100_000 * (n + 1));
        reply
    })
    .await;
    let rig = Rig::new().await;
    assert_eq!(pull(&rig, &server).await.unwrap(), image.id());
    rig.assert_tidy().await;
}

#[tokio::test]
async fn the_next_pull_goes_on_where_the_last_one_ended() {
    let image = large_image();
    let is_up = Arc::new(AtomicUsize::new(0));
    let server = {
        let is_up = Arc::clone(&is_up);
        faulty(&image, move |_, _, mut reply| match is_up.fetch_add(1, Ordering::SeqCst) {
            0 => {
                reply.cut_after = Some(200_000);
                reply
            }
            1 => Reply::status(404),
            _ => reply,
        })
        .await
    };
    let rig = Rig::new().await;
    let error = pull(&rig, &server).await.unwrap_err();
    let layer = &image.layers[0];
    assert_eq!(
        error,
        format!("registry {} answered 404 for layer {}", server.address, layer.digest)
    );
    assert!(rig.images.list().is_empty());
    let rig = rig.reopened().await;
    let before = server.seen().len();
    let recorder = Recorder::default();
    let reference = format!("{}/app:1", server.address);
    rig.images.pull(&reference, &[], &recorder.progress()).await.unwrap();
    let seen = server.seen();
    let again = seen[before..].iter().find(|seen| seen.path.contains(layer.digest.hex())).unwrap();
    assert!(again.from() > 100_000, "{}", again.from());
    rig.assert_tidy().await;

    // After a power cut, what is here of a layer may be anything.
    rig.images.remove(&image.id()).await.unwrap();
    let partial = rig.path(&format!("agent/content/partial/sha256-{}", layer.digest.hex()));
    std::fs::write(&partial, noise(300_000, 9)).unwrap();
    assert_eq!(pull(&rig, &server).await.unwrap(), image.id());
    rig.images.remove(&image.id()).await.unwrap();
    std::fs::write(&partial, noise(layer.bytes.len() + 1, 9)).unwrap();
    let blob = rig.path(&format!("agent/content/blobs/sha256/{}", image.layers[1].digest.hex()));
    std::fs::write(&blob, b"damaged").unwrap();
    assert_eq!(pull(&rig, &server).await.unwrap(), image.id());
    rig.assert_tidy().await;
}

#[tokio::test]
async fn bytes_that_are_not_what_they_should_be_are_refused() {
    let image = large_image();
    let (layer, size) = (image.layers[0].digest.to_string(), image.layers[0].bytes.len());
    let wrong = format!("layer {layer} has digest sha256:");
    let long = format!("layer {layer} cannot be understood: it is longer than the {size} bytes");
    for (change, expected) in [(0, wrong.as_str()), (1, &wrong), (2, &long)] {
        let server = faulty(&image, move |_, _, mut reply| {
            match change {
                0 => reply.body[1000] ^= 1,
                1 => reply.body = noise(reply.body.len(), 5),
                _ => reply.body.push(0),
            }
            reply
        })
        .await;
        let rig = Rig::new().await;
        let error = pull(&rig, &server).await.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(rig.images.list().is_empty());
        // A prefix of what is right may stay, also of the layer that did not get its turn.
        let is_right = |name: &String| change == 2 || !name.contains(image.layers[0].digest.hex());
        assert!(rig.names("agent/content/partial").iter().all(is_right));
    }
}

#[tokio::test]
async fn a_diff_id_that_does_not_fit_is_refused() {
    let mut image = large_image();
    let other = ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", 0o644, b"a"), Compression::Gzip)
        .layer(LayerBuilder::new().file("b", 0o644, b"b"), Compression::Gzip)
        .build();
    let manifest = String::from_utf8(image.manifest.bytes.clone()).unwrap();
    let manifest = manifest
        .replace(&image.config.digest.to_string(), &other.config.digest.to_string())
        .replace(
            &format!(":{}}}", image.config.bytes.len()),
            &format!(":{}}}", other.config.bytes.len()),
        );
    image.manifest = Blob::new(image.manifest.media_type.clone(), manifest);
    image.config = other.config;
    let server = Server::start(registry_of(&[("app:1", &[&image])])).await;
    let rig = Rig::new().await;
    let error = pull(&rig, &server).await.unwrap_err();
    assert!(error.contains("cannot be understood: uncompressed, it has digest sha256:"), "{error}");
    assert!(rig.images.list().is_empty());
}

#[tokio::test]
async fn busy_registries_are_asked_again() {
    let image = large_image();
    let answer = registry_of(&[("app:1", &[&image])]);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |seen| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(503),
        1 => Reply::status(429).with("Retry-After", "1"),
        2 => Reply { cut_after: Some(3), ..answer(seen) },
        _ => answer(seen),
    })
    .await;
    let rig = Rig::new().await;
    assert_eq!(pull(&rig, &server).await.unwrap(), image.id());

    let server = Server::start(|_| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"come back tomorrow"}]}"#;
        Reply { status: 429, ..Reply::ok(body) }.with("Retry-After", "86400")
    })
    .await;
    let error = pull(&rig, &server).await.unwrap_err();
    let expected =
        format!("registry {} answered 429 for manifest 1 (come back tomorrow)", server.address);
    assert_eq!(error, expected);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn documents_that_are_none_are_refused() {
    let rig = Rig::new().await;
    let huge = vec![b' '; 5 * 1024 * 1024];
    let empty = Digest::of(b"{}");
    let helm = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{empty}","size":2}},
        "layers":[{{"mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip","digest":"{empty}","size":2}}]}}"#
    );
    let bare = format!(r#"{{"config":{{"digest":"{empty}","size":2}},"layers":[]}}"#);
    for (body, expected) in [
        (b"<html>".to_vec(), " cannot be understood: expected value at line 1 column 1"),
        (huge, "manifest 1 cannot be understood: it is larger than 4194304 bytes"),
        (br#"{"schemaVersion":1,"fsLayers":[]}"#.to_vec(), "it is in Docker's schema 1"),
        (
            helm.into_bytes(),
            " is of the unknown type `application/vnd.cncf.helm.chart.content.v1.tar+gzip`",
        ),
        (bare.into_bytes(), "cannot be understood: it has no rootfs; is it an image?"),
    ] {
        let server = Server::start(move |seen| match seen.path.contains("/blobs/") {
            true => Reply::ok("{}"),
            false => Reply::ok(body.clone()),
        })
        .await;
        let error = pull(&rig, &server).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
        rig.assert_empty().await;
    }
}

#[tokio::test]
async fn redirects_are_followed_and_tell_nobody_who_we_are() {
    let image = large_image();
    let answer = registry_of(&[("app:1", &[&image])]);
    let storage = {
        let answer = registry_of(&[("app:1", &[&image])]);
        Server::start(move |seen| {
            answer(&Seen { path: seen.path.replace("/cdn", "/v2"), ..seen.clone() })
        })
        .await
    };
    let cdn = storage.address;
    let server = Server::start(move |seen| {
        if seen.header("authorization").is_empty() {
            return Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match seen.path.strip_prefix("/v2") {
            Some(path) if path.contains("/blobs/") => {
                Reply::status(307).with("Location", format!("http://{cdn}/cdn{path}"))
            }
            _ => answer(seen),
        }
    })
    .await;
    let rig = Rig::new().await;
    let reference = format!("{}/app:1", server.address);
    let status = rig.pull_as(&reference, &[("user", "secret")]).await.unwrap();
    assert_eq!(status.id.0, image.id());
    assert!(storage.count("GET", "/cdn/app/blobs/") >= 3);
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_empty()));

    let round = Server::start(|seen| Reply::status(302).with("Location", seen.path.clone())).await;
    let error = pull(&rig, &round).await.unwrap_err();
    assert!(error.ends_with("it leads on more than 10 times"), "{error}");
}

#[tokio::test]
async fn credentials_are_for_the_registry_and_not_for_its_mirrors() {
    let image = large_image();
    let asks = |seen: &Seen| {
        let basic = Reply::status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
        seen.header("authorization").is_empty().then_some(basic)
    };
    let mirror = Server::start(move |seen| asks(seen).unwrap_or(Reply::status(200))).await;
    let answer = registry_of(&[("app:1", &[&image])]);
    let origin = Server::start(move |seen| asks(seen).unwrap_or_else(|| answer(seen))).await;
    let yaml =
        format!("mirrors: {{'{}': {{endpoint: ['http://{}']}}}}", origin.address, mirror.address);
    let rig = Rig::with(&yaml).await;
    let reference = format!("{}/app:1", origin.address);
    let status = rig.pull_as(&reference, &[("user", "secret")]).await.unwrap();
    assert_eq!(status.id.0, image.id());
    assert!(!mirror.seen().is_empty());
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_empty()));
    let expected = format!("/v2/app/manifests/1?ns={}", origin.address);
    assert_eq!(mirror.seen()[0].path, expected);
}

#[tokio::test]
async fn a_mirror_that_lacks_a_layer_is_helped_out() {
    let image = large_image();
    let mirror = faulty(&image, |_, _, _| Reply::status(404)).await;
    let origin = Server::start(registry_of(&[("app:1", &[&image])])).await;
    let yaml =
        format!("mirrors: {{'{}': {{endpoint: ['http://{}']}}}}", origin.address, mirror.address);
    let rig = Rig::with(&yaml).await;
    assert_eq!(pull(&rig, &origin).await.unwrap(), image.id());
    assert_eq!((origin.count("GET", "/manifests/"), origin.count("GET", "/blobs/")), (0, 1));
}

#[tokio::test]
async fn an_image_that_is_here_costs_one_question() {
    let image = large_image();
    let server = Server::start(registry_of(&[("app:1", &[&image])])).await;
    let rig = Rig::new().await;
    let first = rig.pull(&format!("{}/app:1", server.address)).await.unwrap();
    let before = server.seen().len();
    assert_eq!(rig.pull(&format!("{}/app:1", server.address)).await.unwrap(), first);
    let asked = server.seen().split_off(before);
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("HEAD", "/v2/app/manifests/1"));

    // Another registry at the same address has another image, and does not know HEAD.
    let other = ImageBuilder::new()
        .layer(LayerBuilder::new().file("new", 0o644, b"new"), Compression::Gzip)
        .build();
    let (old, new) = (registry_of(&[("app:1", &[&image])]), registry_of(&[("app:1", &[&other])]));
    let moved = Arc::new(AtomicUsize::new(0));
    let server = {
        let moved = Arc::clone(&moved);
        Server::start(move |seen| match (moved.load(Ordering::SeqCst), seen.method.as_str()) {
            (0, _) => old(seen),
            (_, "HEAD") => Reply::status(405),
            _ => new(seen),
        })
        .await
    };
    pull(&rig, &server).await.unwrap();
    moved.store(1, Ordering::SeqCst);
    assert_eq!(pull(&rig, &server).await.unwrap(), other.id());
    let reference = format!("{}/app:1", server.address);
    assert_eq!(rig.images.resolve(&reference).unwrap().id.0, other.id());
}

#[tokio::test]
async fn pulls_at_once_share_the_work() {
    let base = || LayerBuilder::new().file("base", 0o644, &noise(400_000, 3));
    let first = ImageBuilder::new().layer(base(), Compression::Gzip).build();
    let empty = || LayerBuilder::new();
    let mut second = ImageBuilder::new().layer(base(), Compression::Gzip);
    for number in 0..20 {
        // Builders write one and the same empty layer for every step that changes no file.
        let layer = LayerBuilder::new().file("n", 0o644, &[number]);
        second = second.layer(empty(), Compression::Gzip).layer(layer, Compression::Zstd);
    }
    let second = second.build();
    let slow = registry_of(&[("first:1", &[&first]), ("second:1", &[&second])]);
    let server = Server::start(move |seen| Reply { pace: Some(40_000), ..slow(seen) }).await;
    let rig = Rig::new().await;
    let name = |name: &str| format!("{}/{name}:1", server.address);
    let recorders = [Recorder::default(), Recorder::default(), Recorder::default()];
    let pull = |index: usize, reference: String| {
        let (images, progress) = (rig.images.clone(), recorders[index].progress());
        async move { images.pull(&reference, &[], &progress).await.unwrap() }
    };
    let (a, b, c) =
        tokio::join!(pull(0, name("first")), pull(1, name("second")), pull(2, name("second")));
    assert_eq!((a.id.0, b.id.0.clone()), (first.id(), second.id()));
    assert_eq!(b, c);
    assert_eq!(server.count("GET", first.layers[0].digest.hex()), 1);
    assert_eq!(server.count("GET", second.layers[1].digest.hex()), 1);
    assert_eq!(server.count("GET", "/second/manifests/"), 1);
    for recorder in &recorders {
        let base = first.layers[0].digest.clone();
        assert!(recorder.events().iter().any(|e| e.layer == base && e.phase == Phase::Done));
    }
    assert_eq!((rig.layers(), rig.blobs()), (41, 4));
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_stops_and_is_taken_up_again() {
    let image = large_image();
    let answer = registry_of(&[("app:1", &[&image])]);
    let server = Server::start(move |seen| Reply { pace: Some(4_000), ..answer(seen) }).await;
    let rig = Rig::new().await;
    let reference = format!("{}/app:1", server.address);
    let recorder = Recorder::default();
    let progress = recorder.progress();
    let pulling = rig.images.pull(&reference, &[], &progress);
    let enough = crate::rig::eventually("some bytes came", || {
        recorder.events().iter().any(|event| event.bytes > 50_000)
    });
    tokio::select! {
        _ = pulling => panic!("it is slow"),
        () = enough => {}
    }
    crate::rig::eventually("threads stop", || rig.names("agent/snapshots/new").is_empty()).await;
    assert!(!rig.names("agent/content/partial").is_empty());
    rig.images.pull(&reference, &[], &Progress::none()).await.unwrap();
    let resumed = server.seen().iter().any(|seen| seen.from() > 20_000);
    assert!(resumed, "what had come was not asked for again");
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_bad_reference_is_refused_before_anybody_is_asked() {
    let rig = Rig::new().await;
    let error = rig.pull("Not a reference").await.unwrap_err().to_string();
    assert_eq!(error, "`Not a reference` is not an image reference: it contains ' '");
}
