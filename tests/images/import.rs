//! Archives: good ones of every kind, and broken ones, which change nothing.

use crate::rig::{Recorder, Rig, open};
use crate::support::{
    Blob, BuiltImage, Compression, ImageBuilder, LayerBuilder, busybox, busybox_image, compress,
    index, oci_archive,
};
use kinglet::runtime::ImageId;
use kinglet::runtime::images::{ImportSource, Phase, Progress};
use serde_json::json;
use std::fs;
use std::time::Duration;

fn two_layers() -> BuiltImage {
    ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", 0o644, b"lower"), Compression::Gzip)
        .layer(LayerBuilder::new().file("b", 0o644, b"upper"), Compression::Zstd)
        .config("User", json!("1000:1000"))
        .config("Entrypoint", json!(["/a"]))
        .build()
}

#[tokio::test]
async fn archives_of_every_kind_become_the_same_image() {
    let image = two_layers();
    let oci = image.oci_archive(&["x.io/a:1", "b:latest"]);
    let docker = image.docker_archive(&["x.io/a:1", "b:latest"]);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        for (archive, blobs) in [(&oci, 2), (&docker, 1)] {
            let rig = Rig::new().await;
            let images = rig.import(&compress(archive, compression)).await.unwrap();
            let ids: Vec<_> = images.iter().map(|image| image.id.0.clone()).collect();
            assert!(ids.iter().all(|id| *id == image.id()), "{ids:?}");
            assert_eq!((rig.layers(), rig.blobs()), (2, blobs));
            rig.assert_tidy().await;
            let rig = rig.reopened().await;
            let [status] = &rig.images.list()[..] else { panic!("one image") };
            assert_eq!(status.tags, ["docker.io/library/b:latest", "x.io/a:1"]);
            assert_eq!((status.user.as_str(), status.pinned), ("1000:1000", false));
            assert!(status.size_bytes > 10);
            let mounted = rig.mounted(&image.id(), "c").await;
            assert_eq!((mounted.read("a"), mounted.read("b")), ("lower".into(), "upper".into()));
            let config = rig.images.config(&status.id).await.unwrap();
            assert_eq!(config.entrypoint, ["/a"]);
        }
    }
}

#[tokio::test]
async fn an_image_goes_with_its_last_name_and_shared_layers_stay() {
    let rig = Rig::new().await;
    let base = || LayerBuilder::new().file("base", 0o644, b"base");
    let first = ImageBuilder::new().layer(base(), Compression::Gzip).build();
    let second = ImageBuilder::new()
        .layer(base(), Compression::Zstd)
        .layer(LayerBuilder::new().file("x", 0o644, b"x"), Compression::None)
        .build();
    rig.import(&first.oci_archive(&["a:1", "a:2"])).await.unwrap();
    rig.import(&second.oci_archive(&["b:1"])).await.unwrap();
    assert_eq!((rig.layers(), rig.blobs()), (2, 4));
    rig.images.remove("a:1").await.unwrap();
    assert!(rig.images.resolve("a:1").is_none() && rig.images.resolve("a:2").is_some());
    rig.images.remove("docker.io/library/a:2").await.unwrap();
    assert!(rig.images.resolve(&first.id()).is_none());
    assert_eq!((rig.layers(), rig.blobs()), (2, 2), "the base is in the other image as well");
    assert_eq!(rig.mounted(&second.id(), "c").await.read("base"), "base");
    rig.images.remove(&second.id()).await.unwrap();
    assert_eq!(rig.layers(), 2, "a container has them");
    rig.images.remove("nothing:here").await.unwrap();
    let container = kinglet::runtime::ContainerId("c".to_owned());
    rig.images.release_rootfs(&container).await.unwrap();
    rig.images.release_rootfs(&container).await.unwrap();
    rig.assert_empty().await;
    let rig = rig.reopened().await;
    rig.assert_empty().await;
}

#[tokio::test]
async fn a_tag_moves_to_the_image_imported_last() {
    let rig = Rig::new().await;
    let old = two_layers();
    let new = busybox();
    rig.import(&old.oci_archive(&["app:1"])).await.unwrap();
    rig.import(&new.oci_archive(&["app:1"])).await.unwrap();
    assert_eq!(rig.images.resolve("app:1").unwrap().id.0, new.id());
    let old = rig.images.resolve(&old.id()).unwrap();
    assert!(old.tags.is_empty() && !old.digests.is_empty());
}

#[tokio::test]
async fn the_platform_is_chosen() {
    let rig = Rig::new().await;
    let ours = two_layers();
    let theirs = ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", 0o644, b"theirs"), Compression::Gzip)
        .architecture("s390x")
        .build();
    let several = index(&[&theirs, &ours]);
    let mut entry = several.descriptor();
    entry["annotations"] = json!({"io.containerd.image.name": "docker.io/library/multi:1"});
    // Only our own platform's parts are in the archive.
    let blobs: Vec<&Blob> = ours.blobs().chain([&ours.manifest, &several]).collect();
    let images = rig.import(&oci_archive(vec![entry.clone()], &blobs)).await.unwrap();
    assert_eq!(images[0].id.0, ours.id());
    assert_eq!(images[0].digests, [format!("docker.io/library/multi@{}", several.digest)]);

    let foreign = index(&[&theirs]);
    let mut entry = foreign.descriptor();
    entry["annotations"] = json!({"io.containerd.image.name": "foreign:1"});
    let blobs: Vec<&Blob> = theirs.blobs().chain([&theirs.manifest, &foreign]).collect();
    let error = rig.import(&oci_archive(vec![entry], &blobs)).await.unwrap_err();
    let expected =
        "test.tar cannot be imported: docker.io/library/foreign:1 has no image for linux/";
    assert!(error.starts_with(expected), "{error}");
}

/// An archive with one blob replaced or left out.
fn damaged(
    image: &BuiltImage,
    digest: &kinglet::runtime::images::Digest,
    bytes: Option<&[u8]>,
) -> Vec<u8> {
    let mut entry = image.manifest.descriptor();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "app:1"});
    let mut blobs: Vec<Blob> = image.blobs().chain([&image.manifest]).cloned().collect();
    let at = blobs.iter().position(|blob| blob.digest == *digest).unwrap();
    match bytes {
        Some(bytes) => blobs[at].bytes = bytes.to_vec(),
        None => drop(blobs.remove(at)),
    }
    oci_archive(vec![entry], &blobs.iter().collect::<Vec<_>>())
}

#[tokio::test]
async fn broken_archives_name_the_problem_and_change_nothing() {
    let rig = Rig::new().await;
    let image = two_layers();
    let good = image.oci_archive(&["app:1"]);
    let layer = &image.layers[1];
    let mut flipped = layer.bytes.clone();
    flipped[20] ^= 1;
    let unnamed = oci_archive(
        vec![image.manifest.descriptor()],
        &[&image.manifest, &image.config, &image.layers[0], layer],
    );
    let evil = ImageBuilder::new()
        .layer(LayerBuilder::new().file("good", 0o644, b"x"), Compression::Gzip)
        .layer(LayerBuilder::new().file("../../etc/evil", 0o644, b"x"), Compression::Gzip)
        .build();
    let not_tar = ImageBuilder::new().raw_layer(vec![b'x'; 2000], Compression::Gzip).build();
    for (archive, expected) in [
        (b"".to_vec(), "the archive cannot be understood: it has neither an index.json"),
        (vec![b'x'; 600], "the archive cannot be understood: it is no tar archive"),
        (good[..1100].to_vec(), "the archive ends too early"),
        (LayerBuilder::new().file("x", 0o644, b"").archive(), "it has neither an index.json"),
        (compress(&good, Compression::Gzip)[..500].to_vec(), "the archive cannot be understood: "),
        (b"BZh91AY&SY".to_vec(), "it is compressed with bzip2; gzip and zstd are understood"),
        (oci_archive(vec![], &[]), "there is no image in it"),
        (unnamed, "it has no name in the archive"),
        (
            damaged(&image, &layer.digest, None),
            "the archive cannot be understood: it lacks sha256:",
        ),
        (damaged(&image, &layer.digest, Some(&flipped)), " has digest sha256:"),
        (damaged(&image, &layer.digest, Some(b"short")), "it has 5 bytes where the manifest says"),
        (damaged(&image, &image.config.digest, Some(b"{}")), " has digest sha256:"),
        (damaged(&image, &image.manifest.digest, Some(b"{}")), " has digest sha256:"),
        (evil.oci_archive(&["evil:1"]), "`../../etc/evil` leads out of it"),
        (not_tar.oci_archive(&["none:1"]), "it is no tar archive: bad checksum in a header"),
        (image.docker_archive(&["BAD NAME"]), "`BAD NAME` is not an image reference: "),
    ] {
        let error = rig.import(&archive).await.unwrap_err();
        assert!(error.starts_with("test.tar cannot be imported: "), "{error}");
        assert!(error.contains(expected), "{error}\nnot: {expected}");
        rig.assert_empty().await;
    }
    rig.import(&good).await.unwrap();
    rig.import(&evil.oci_archive(&["app:1"])).await.unwrap_err();
    assert_eq!(rig.images.resolve("app:1").unwrap().id.0, image.id());
    assert_eq!((rig.layers(), rig.blobs()), (2, 2));
    let missing = ImportSource::Path(rig.path("nowhere.tar"));
    let error = rig.images.import(missing, &Progress::none()).await.unwrap_err();
    let error = kinglet::stdx::chain(&error);
    assert!(error.ends_with("nowhere.tar cannot be imported: the file cannot be understood: No such file or directory (os error 2)"), "{error}");
}

#[tokio::test]
async fn a_layer_does_not_wait_for_one_that_cannot_come() {
    let rig = Rig::new().await;
    let image = ImageBuilder::new()
        .layer(LayerBuilder::new().file("a", 0o644, b"lower"), Compression::Gzip)
        .layer(LayerBuilder::new().link("b", "a"), Compression::Gzip)
        .build();
    let lower = &image.layers[0];
    let mut flipped = lower.bytes.clone();
    flipped[20] ^= 1;
    let archive = damaged(&image, &lower.digest, Some(&flipped));
    let importing = tokio::time::timeout(Duration::from_secs(30), rig.import(&archive));
    let error = importing.await.expect("it is refused at once").unwrap_err();
    assert!(error.contains(" has digest sha256:"), "{error}");
    rig.assert_empty().await;
}

#[tokio::test]
async fn files_are_imported_at_start_once_and_again_when_they_change() {
    let rig = Rig::new().await;
    let directory = rig.path("agent/images");
    fs::create_dir_all(&directory).unwrap();
    busybox_image(&directory, "app:1");
    fs::write(directory.join("broken.tar.gz"), b"x").unwrap();
    fs::write(directory.join("notes.txt"), b"x").unwrap();
    let import = |rig: &Rig| {
        let images = rig.images.clone();
        async move {
            let mut files = Vec::new();
            images.import_directory(&Progress::none(), |file| files.push(file)).await.unwrap();
            let shown = |file: &kinglet::runtime::images::ImportedFile| {
                let name = file.path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, file.result.is_ok())
            };
            files.iter().map(shown).collect::<Vec<_>>()
        }
    };
    let (app, broken) = (("app_1.tar".to_owned(), true), ("broken.tar.gz".to_owned(), false));
    assert_eq!(import(&rig).await, [app.clone(), broken.clone()]);
    assert!(rig.images.resolve("app:1").unwrap().pinned);
    let rig = rig.reopened().await;
    assert_eq!(import(&rig).await, std::slice::from_ref(&broken), "what is here is not read again");
    rig.images.remove("app:1").await.unwrap();
    assert_eq!(import(&rig).await, [app.clone(), broken.clone()], "the file says it is to be here");
    let file = fs::File::options().append(true).open(directory.join("app_1.tar")).unwrap();
    file.set_len(file.metadata().unwrap().len() + 512).unwrap();
    assert_eq!(import(&rig).await, [app, broken]);
    fs::remove_file(directory.join("app_1.tar")).unwrap();
    fs::remove_file(directory.join("broken.tar.gz")).unwrap();
    assert!(import(&rig).await.is_empty());
    assert!(!rig.images.resolve("app:1").unwrap().pinned);
}

#[tokio::test]
async fn progress_is_told_layer_by_layer() {
    let rig = Rig::new().await;
    let image = two_layers();
    let path = rig.path("app.tar");
    fs::write(&path, image.oci_archive(&["app:1"])).unwrap();
    let recorder = Recorder::default();
    let source = || ImportSource::Path(path.clone());
    rig.images.import(source(), &recorder.progress()).await.unwrap();
    for layer in &image.layers {
        let events = recorder.events();
        let phases: Vec<_> = events.iter().filter(|event| event.layer == layer.digest).collect();
        assert_eq!(phases.first().unwrap().phase, Phase::Waiting);
        let last = phases.last().unwrap();
        assert_eq!((last.phase, last.bytes), (Phase::Done, layer.bytes.len() as u64));
        assert!(phases.iter().any(|event| event.phase == Phase::Unpacking));
        assert!(phases.is_sorted_by_key(|event| event.bytes));
    }
    let recorder = Recorder::default();
    rig.images.import(source(), &recorder.progress()).await.unwrap();
    assert_eq!((recorder.count(Phase::Present), recorder.count(Phase::Unpacking)), (2, 0));
}

#[tokio::test]
async fn one_process_has_the_store() {
    let rig = Rig::new().await;
    let error = open(rig.directory.path()).await.unwrap_err().to_string();
    assert!(error.ends_with("are in use by another kinglet"), "{error}");
    fs::write(rig.path("agent/content/images.json"), b"{").unwrap();
    let directory = std::sync::Arc::clone(&rig.directory);
    drop(rig);
    let error = open(directory.path()).await.unwrap_err().to_string();
    assert!(error.contains("agent/content/images.json is damaged; remove it"), "{error}");
    let missing = ImageId("sha256:00".to_owned());
    fs::remove_file(directory.path().join("agent/content/images.json")).unwrap();
    let images = open(directory.path()).await.unwrap();
    let error = images.config(&missing).await.unwrap_err().to_string();
    assert_eq!(error, "no image with id sha256:00");
}
