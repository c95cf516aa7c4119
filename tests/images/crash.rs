//! kill -9 in the middle of pulls and imports: whatever is in the catalog afterwards is whole, and
//! the rest is taken up again or goes.

use crate::rig::{Rig, eventually, open};
use crate::server::{Reply, Server, registry_of};
use crate::support::{BuiltImage, Compression, ImageBuilder, LayerBuilder};
use kinglet::runtime::ContainerId;
use kinglet::runtime::images::{ImportSource, Progress};
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Set for the process that is going to be killed: where its store is, and what it is to do.
const DIRECTORY: &str = "KINGLET_TEST_CRASH_DIRECTORY";
const TASK: &str = "KINGLET_TEST_CRASH_TASK";

/// Not a test of its own: what the killed process does.
#[tokio::test]
async fn victim() {
    let (Ok(directory), Ok(task)) = (std::env::var(DIRECTORY), std::env::var(TASK)) else {
        return;
    };
    let images = open(&PathBuf::from(directory)).await.unwrap();
    loop {
        match task.strip_prefix("import ") {
            Some(path) => {
                let source = ImportSource::Path(PathBuf::from(path));
                images.import(source, &Progress::none()).await.unwrap();
            }
            None => drop(images.pull(&task, &[], &Progress::none()).await.unwrap()),
        }
        let id = images.list()[0].id.clone();
        let container = ContainerId("c".to_owned());
        images.prepare_rootfs(&id, &container).await.unwrap();
        // Long enough for being killed while the image is there.
        tokio::time::sleep(Duration::from_millis(60)).await;
        images.remove(&id.0).await.unwrap();
        images.release_rootfs(&container).await.unwrap();
    }
}

fn image() -> BuiltImage {
    let mut image = ImageBuilder::new();
    for layer in 0..6 {
        let mut files = LayerBuilder::new();
        for file in 0..40 {
            let contents = format!("{layer} {file} ").repeat(100);
            files = files.file(&format!("d{layer}/f{file}"), 0o644, contents.as_bytes());
        }
        let compression = if layer % 2 == 0 { Compression::Gzip } else { Compression::Zstd };
        image = image.layer(files, compression);
    }
    image.build()
}

/// Runs the victim until its store shows what `round` wants to see, and a little longer.
async fn kill_in(rig: &Rig, task: &str, round: u64) {
    let catalog = rig.path("agent/content/images.json");
    let has_image = || fs::read_to_string(&catalog).is_ok_and(|text| text.contains("app:1"));
    let layers = rig.layers();
    #[expect(clippy::disallowed_methods, reason = "a process to kill")]
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::victim", "--nocapture"])
        .env(DIRECTORY, rig.directory.path())
        .env(TASK, task)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    match round % 4 {
        0 => {}
        1 => eventually("a layer came or went", || rig.layers() != layers).await,
        2 => eventually("the image is there", has_image).await,
        _ => {
            eventually("the image is there", has_image).await;
            eventually("the image is gone again", || !has_image()).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(round * 2)).await;
    let still_runs = victim.try_wait().unwrap().is_none();
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(still_runs, "the victim failed by itself");
}

/// Every file of the image is there, and says what it should.
async fn assert_whole(rig: &Rig, image: &BuiltImage, container: &str) {
    let mounted = rig.mounted(&image.id(), container).await;
    for layer in 0..6 {
        for file in 0..40 {
            let expected = format!("{layer} {file} ").repeat(100);
            assert_eq!(mounted.read(&format!("d{layer}/f{file}")), expected);
        }
    }
    drop(mounted);
    rig.images.release_rootfs(&ContainerId(container.to_owned())).await.unwrap();
}

async fn survives(task: &str, image: &BuiltImage) {
    let mut rig = Rig::new().await;
    let mut was_there = 0;
    for round in 0..24_u64 {
        let directory = std::sync::Arc::clone(&rig.directory);
        drop(rig.images);
        let closed = Rig { directory, images: open_elsewhere().await };
        kill_in(&closed, task, round).await;
        rig = closed.reopened().await;
        if rig.images.resolve(&image.id()).is_some() {
            was_there += 1;
            assert_whole(&rig, image, "check").await;
        }
    }
    assert!(was_there > 0, "the victim never came so far as to have the image");
    match task.strip_prefix("import ") {
        Some(path) => drop(rig.import(&fs::read(path).unwrap()).await.unwrap()),
        None => drop(rig.pull(task).await.unwrap()),
    }
    assert_whole(&rig, image, "last").await;
    rig.images.sweep().await.unwrap();
    for container in rig.images.rootfs_containers() {
        rig.images.release_rootfs(&container).await.unwrap();
    }
    assert!(rig.names("agent/snapshots/new").is_empty(), "the sweep leaves nothing half done");
    assert!(rig.names("agent/snapshots/containers").is_empty());
    assert_eq!((rig.layers(), rig.images.list().len()), (6, 1));
}

/// A place holder while another process has the store.
async fn open_elsewhere() -> kinglet::runtime::images::Images {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.unwrap()
}

#[tokio::test]
async fn killed_in_the_middle_of_pulls() {
    let image = image();
    let answer = registry_of(&[("app:1", &[&image])]);
    let server = Server::start(move |seen| Reply { pace: Some(500), ..answer(seen) }).await;
    survives(&format!("{}/app:1", server.address), &image).await;
}

#[tokio::test]
async fn killed_in_the_middle_of_imports() {
    let image = image();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.tar");
    fs::write(&path, image.docker_archive(&["app:1"])).unwrap();
    survives(&format!("import {}", path.display()), &image).await;
}

#[tokio::test]
async fn leftovers_of_long_ago_are_swept_away() {
    let rig = Rig::new().await;
    let id = image();
    rig.import(&id.oci_archive(&["app:1"])).await.unwrap();
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    let name = "ab".repeat(32);
    for (path, is_directory) in [
        (format!("agent/content/partial/sha256-{name}"), false),
        (format!("agent/content/blobs/sha256/{name}"), false),
        ("agent/content/blobs/sha256/.x.1-0.tmp".to_owned(), false),
        (format!("agent/snapshots/{name}"), true),
        ("agent/snapshots/new/x".to_owned(), true),
        ("agent/snapshots/containers/half".to_owned(), true),
    ] {
        let path = rig.path(&path);
        if is_directory {
            fs::create_dir(&path).unwrap();
        } else {
            fs::write(&path, b"x").unwrap();
        }
        fs::File::open(&path).unwrap().set_times(old).unwrap();
    }
    let young = rig.path(&format!("agent/content/partial/sha256-{}", "cd".repeat(32)));
    fs::write(&young, b"x").unwrap();
    let rig = rig.reopened().await;
    rig.images.sweep().await.unwrap();
    assert!(young.exists());
    fs::remove_file(young).unwrap();
    rig.assert_tidy().await;
    assert_eq!((rig.layers(), rig.blobs()), (6, 2));
    assert!(rig.names("agent/snapshots/containers").is_empty());
    rig.images.sweep().await.unwrap();
    assert_whole(&rig, &id, "c").await;
}
